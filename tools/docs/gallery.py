"""Draw the gallery: every kind at every level on one photo, and the page that shows them.

    python -m tools.docs.gallery PHOTO

writes ``docs/images/gallery/KIND.jpg`` (clean and five levels side by side) and ``docs/gallery.md``. The committed
pictures come from photo 877 of the LIVE In the Wild challenge (`--left 190 --top 70`).
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.common import ROOT
from moslens.blocks import BlockDegradation
from moslens.bulk.contact_sheet import draw_labels
from moslens.distortions import GROUPS, KINDS, LEVELS, Kind, distort, implementations_of

CROP = 224
GAP = 4
LABEL = 22
SEED = 0
FOLDER = ROOT / "docs" / "images" / "gallery"
PAGE = ROOT / "docs" / "gallery.md"

NOTES = {
    "gaussian_blur": "Level 1 is a no-op (sigma 0.1) and never used as a label.",
    "motion_blur": "Level 1 is a no-op (length 1) and never used as a label. The angle is random.",
    "color_diffusion": "Lightness is sharp, color bleeds and grows.",
    "color_shift": "Colored fringes along edges; flat areas keep their color.",
    "color_quantization": "A palette with dithering.",
    "hsv_saturation": "Grey at level 4, complementary hues at level 5.",
    "lab_saturation": "Level 1 is a no-op (gain 1) and never used as a label.",
    "color_noise": "Noise in Y, Cb and Cr: mostly colored.",
    "denoise": "Noise added, then removed: texture is lost.",
    "mean_shift": "Level 1 is a no-op (shift 0); brighter and darker take turns.",
    "jitter": "Every pixel moves a little, at random.",
    "non_eccentricity": "Small patches copied to a wrong place close by.",
    "contrast_change": "Levels 1, 2 and 4 raise the contrast, 3 and 5 lower it.",
    "nonlinear_contrast": "The range shrinks about mid-grey.",
    "under_exposure": "In linear light.",
    "over_exposure": "In linear light; highlights are lost.",
    "haze": "Thicker on one side.",
    "color_cast": "Channel gains in linear light, in a random direction.",
    "banding": "Gradients become steps; fine detail is kept.",
    "sensor_noise": "Noise of photons and electronics on a Bayer mosaic, interpolated.",
    "noise_reduction": "Sensor noise, removed: texture is smeared.",
    "camera_shake": "A random path, in linear light.",
    "defocus": "An aperture of five to eight blades, in linear light.",
    "recompressed_jpeg": "Twice through JPEG, each time at another scale.",
    "block_codec": "Transforms of 8 and 16 px, as in H.26x; or WebP, or AVIF.",
    "thumbnail": "Made small, saved as JPEG, enlarged.",
    "lost_blocks": "From a wrong place, grey, or their top row repeated.",
    "watermark": "Words across the picture, or a pattern of rings.",
    "rolling_lines": "A flickering lamp and a rolling shutter.",
    "sharpening_halos": "A wide unsharp mask.",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photo", type=Path)
    parser.add_argument("--left", type=int, default=0, help="left edge of the 224 px crop")
    parser.add_argument("--top", type=int, default=0, help="top edge of the 224 px crop")
    options = parser.parse_args()
    with Image.open(options.photo) as opened:
        photo = np.asarray(opened.convert("RGB"))
    crop = photo[options.top : options.top + CROP, options.left : options.left + CROP]
    FOLDER.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        # 4:4:4 at high quality: the file format must not add a distortion of its own.
        strip(crop, kind).save(FOLDER / f"{kind.name}.jpg", quality=86, subsampling=0, optimize=True)
    composite = BlockDegradation(grid=3)(photo, np.random.default_rng(SEED))
    draw_labels(composite).save(FOLDER / "blocks.jpg", quality=86, subsampling=0, optimize=True)
    PAGE.write_text(page(), encoding="utf-8")


def strip(crop: np.ndarray, kind: Kind) -> Image.Image:
    """Clean and levels 1 to 5 in a row, the parameter under each."""
    font = ImageFont.load_default(15)
    pictures = [crop] + [distort(crop, kind, level, np.random.default_rng(7)) for level in LEVELS]
    labels = ["clean"] + [f"level {level}: {value:g}" for level, value in zip(LEVELS, kind.levels, strict=True)]
    sheet = Image.new("RGB", (len(pictures) * (CROP + GAP) - GAP, CROP + LABEL), "white")
    draw = ImageDraw.Draw(sheet)
    for column, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        x = column * (CROP + GAP)
        sheet.paste(Image.fromarray(picture), (x, 0))
        draw.text((x + CROP // 2, CROP + LABEL // 2), label, fill="black", font=font, anchor="mm")
    return sheet


def page() -> str:
    lines = [
        "# Gallery of distortions",
        "",
        "Every kind at every level on one 224 x 224 crop, as `moslens.distortions.distort` makes it. The number",
        "under a picture is the parameter of the level, and the implementation shown is the first of those named;",
        "`moslens distortions` prints the whole table, and",
        "[decisions.md](decisions.md) says where the published tables disagree and what was chosen.",
        "Made by `python -m tools.docs.gallery PHOTO`.",
        "",
        "The photo is 877.JPG of the LIVE In the Wild Image Quality Challenge Database, (c) 2015 The University",
        "of Texas at Austin, used and distributed under the notice in [NOTICE](../NOTICE); D. Ghadiyaram and",
        'A. C. Bovik, "Massive Online Crowdsourced Study of Subjective and Objective Picture Quality", IEEE',
        "Transactions on Image Processing, 2016.",
        "",
        "## Block-wise degradation",
        "",
        "`moslens degrade PHOTO --output FOLDER` puts different distortions on different blocks; this is a picture of",
        "its contact sheet.",
        "",
        "![a photo in nine blocks, each with its own distortion and label](images/gallery/blocks.jpg)",
    ]
    for group in GROUPS:
        lines += ["", f"## {group}"]
        for kind in (kind for kind in KINDS if kind.group == group):
            note = f" {NOTES[kind.name]}" if kind.name in NOTES else ""
            lines += [
                "",
                f"### {kind.name}",
                "",
                f"{kind.label[0].upper()}{kind.label[1:]}. Parameter: {kind.parameter}, {kind.unit}.{note}",
                f"Made by: {', '.join(implementations_of(kind))}.",
                "",
                f"![{kind.name}, clean and levels 1 to 5](images/gallery/{kind.name}.jpg)",
            ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
