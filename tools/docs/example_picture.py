"""The picture on the first page: a photo with its score, interval and named faults, beside its map.

python -m tools.docs.example_picture [--model NAME|DIR]
"""

import argparse

from PIL import Image, ImageDraw, ImageFont, ImageOps

from benchmarks.common import ROOT
from moslens import Scorer

PHOTO = ROOT / "examples" / "photos" / "livec_724.jpg"
FILE = ROOT / "docs" / "images" / "example.jpg"
SIDE = 540
GAP = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None)
    scorer = Scorer(parser.parse_args().model)
    beside(SIDE, scorer).save(FILE, quality=82, optimize=True)
    print(f"{FILE.relative_to(ROOT)}: by {scorer.model_id}")


def beside(side: int, scorer: Scorer) -> Image.Image:
    """The photo with its figures below, beside its map with the legend; the longer side of the photo is ``side`` px."""
    found = scorer.explain(PHOTO)
    overlay = found.overlay(side)
    with Image.open(PHOTO) as file:
        photo = ImageOps.contain(file.convert("RGB"), (side, side))
    picture = Image.new("RGB", (photo.width + GAP + overlay.width, overlay.height), "white")
    picture.paste(photo, (0, 0))
    picture.paste(overlay, (photo.width + GAP, 0))
    pen = ImageDraw.Draw(picture)
    faults = ", ".join(fault["label"] for fault in found.distortions) or "no named fault"
    lines = (f"score {found.score:.0f} ({found.low:.0f} to {found.high:.0f})", faults)
    for line, text in enumerate(lines):
        pen.text((GAP, photo.height + GAP + 42 * line), text, fill="black", font=ImageFont.load_default(32))
    return picture


if __name__ == "__main__":
    main()
