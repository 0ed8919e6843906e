"""Conversion of any pixel type that Pillow decodes to 8-bit sRGB, in two steps.

``before`` the resize, band by band: sample depth, palettes, CMYK and alpha, because a resize must not average them.
``after`` the resize: grey to RGB, and the ICC profile of opaque grey and colour pictures, because at full size it
would take longer than decoding (numbers in docs/decisions.md).
"""

import io
import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms

from moslens.errors import UnsupportedImage

logger = logging.getLogger(__name__)

MID_GREY = 128

_SIXTEEN_BITS = {"I;16", "I;16L", "I;16B", "I;16N"}
_INTEGERS = (255.0, 65535.0, 2147483648.0)
_UNSIGNED = (255.0, 65535.0, 4294967296.0)
_FLOATS = (1.0, 255.0, 65535.0)
_ENOUGH = 0.1
_GREY = {"1", "L", "LA", "La", "I", "F"} | _SIXTEEN_BITS
_COLOUR = {"P", "PA", "RGB", "RGBX", "RGBA", "RGBa", "YCbCr", "HSV"}


@dataclass(frozen=True)
class Conversion:
    """``before`` turns a band of the decoded picture into mode L or RGB, ``after`` turns that into sRGB.

    ``direct``: ``before`` changes nothing, so bands are not needed. ``refuse_unseen``, called when all bands are
    through, raises UnsupportedImage where every pixel was transparent.
    """

    before: Callable[[Image.Image], Image.Image]
    after: Callable[[Image.Image], Image.Image]
    direct: bool
    refuse_unseen: Callable[[], None]


def conversion(image: Image.Image, path: str | None = None) -> Conversion:
    """The conversion of a decoded picture to sRGB. Raises UnsupportedImage for a mode without a defined colour.

    A profile that is broken, or is for another kind of pixels, is ignored with a warning in the log.
    """
    mode = image.mode
    if mode != "CMYK" and mode not in _GREY | _COLOUR:
        raise UnsupportedImage(f"pixel mode {mode} is not supported")
    try:
        to_srgb = _to_srgb(image)
    except Exception as error:
        logger.warning("%s: the embedded colour profile is ignored: %s", path or "picture", error)
        to_srgb = None
    full_scale = _full_scale(image) if mode in ("I", "F") else 65535
    clear = image.has_transparency_data
    opacity = 0

    def before(band: Image.Image) -> Image.Image:
        if mode in _SIXTEEN_BITS or mode in ("I", "F"):
            band = _eight_bits(band, full_scale)
        if mode == "La":
            band = band.convert("LA")  # Pillow converts La to no other mode
        if band.has_transparency_data:
            nonlocal opacity
            band = band.convert("RGBA")
            opacity = max(opacity, int(np.asarray(band.getchannel("A")).max()))
            return _over_mid_grey(band, to_srgb)
        if mode == "CMYK":
            return _rgb(band, to_srgb)
        wanted = "L" if mode in _GREY else "RGB"
        return band if band.mode == wanted else band.convert(wanted)

    def after(band: Image.Image) -> Image.Image:
        return _rgb(band, None if mode == "CMYK" or image.has_transparency_data else to_srgb)

    def refuse_unseen() -> None:
        if clear and opacity == 0:
            raise UnsupportedImage("every pixel is transparent")

    return Conversion(before, after, mode in ("L", "RGB") and not clear, refuse_unseen)


def _rgb(image: Image.Image, to_srgb: ImageCms.ImageCmsTransform | None) -> Image.Image:
    if to_srgb is not None:
        return to_srgb.apply(image if image.mode == to_srgb.input_mode else image.convert(to_srgb.input_mode))
    return image if image.mode == "RGB" else image.convert("RGB")


def _over_mid_grey(band: Image.Image, to_srgb: ImageCms.ImageCmsTransform | None) -> Image.Image:
    ground = Image.new("RGB", band.size, (MID_GREY,) * 3)
    ground.paste(_rgb(band.convert("RGB"), to_srgb), mask=band.getchannel("A"))
    return ground


def _to_srgb(image: Image.Image) -> ImageCms.ImageCmsTransform | None:
    """From the embedded profile to sRGB, relative colorimetric with black point compensation; None where it is sRGB."""
    icc = image.info.get("icc_profile")
    if not icc:
        return None
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    mode, space = ("CMYK", "CMYK") if image.mode == "CMYK" else ("L", "GRAY") if image.mode in _GREY else ("RGB",) * 2
    if profile.profile.xcolor_space.strip() != space:
        raise ValueError(f"a {profile.profile.xcolor_space.strip()} profile on {space} pixels")
    transform = ImageCms.buildTransform(
        profile,
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    if not isinstance(transform, ImageCms.ImageCmsTransform):
        raise TypeError("no transform")
    if mode == "CMYK":
        return transform
    # A picture tagged as sRGB must score like the untagged one. The effect decides, because profile names vary.
    levels = np.linspace(0, 255, 256 if mode == "L" else 17).round().astype(np.uint8)
    probe = levels[None] if mode == "L" else np.stack(np.meshgrid(levels, levels, levels), -1).reshape(17, -1, 3)
    plain = Image.fromarray(probe)
    change = np.asarray(transform.apply(plain)).astype(int) - np.asarray(plain.convert("RGB"))
    return None if np.abs(change).max() <= 1 else transform


def _full_scale(image: Image.Image) -> float:
    """White of a picture with 32-bit samples: 65535 where the format says so, else the smallest usual scale.

    Integers are taken as 8, 16 or 31 bits (32 where they are unsigned), floats as 0-1, 0-255 or 0-65535: the first
    that holds them all. Where a smaller scale holds nine of ten samples, a few do not decide: the picture is refused,
    and so are floats that end far above 255 and far below 65535.
    """
    if image.mode == "I" and image.format in ("PNG", "PPM"):
        return 65535.0
    signed = image.info.get("signed", True if image.mode == "I" else None)
    scales = _FLOATS if signed is None else _INTEGERS if signed else _UNSIGNED
    tops = range(0, image.height, 256)
    ranges, above = [], np.zeros(len(scales))
    for top in tops:
        band = np.asarray(image.crop((0, top, image.width, min(top + 256, image.height))))
        ranges.append((band.min(), band.max()))
        above += [np.count_nonzero(band > scale) for scale in scales]
    low, high = np.array(ranges, np.float64).min(), np.array(ranges, np.float64).max()
    at = next((i for i, scale in enumerate(scales) if low >= 0 and high <= scale), None)
    unclear = scales is _FLOATS and at == len(scales) - 1 and high < scales[-1] / 2
    if at is None or unclear or (at > 0 and above[at - 1] < _ENOUGH * image.width * image.height):
        raise UnsupportedImage(f"samples from {low:g} to {high:g} have no agreed black and white")
    return scales[at]


def _eight_bits(band: Image.Image, full_scale: float) -> Image.Image:
    """Integers keep their highest byte, as Pillow does for 16-bit colour; floats are rounded."""
    values = np.asarray(band)
    if values.dtype.kind == "f":
        grey = (values * (255.0 / full_scale) + 0.5).astype(np.uint8)
    else:
        grey = (values >> {255: 0, 65535: 8}.get(int(full_scale), 23)).astype(np.uint8)
    image = Image.fromarray(grey)
    hidden = band.info.get("transparency")
    if isinstance(hidden, int):
        image.putalpha(Image.fromarray(np.where(values == hidden, 0, 255).astype(np.uint8)))
    return image
