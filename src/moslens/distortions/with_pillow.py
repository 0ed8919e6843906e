"""Photographic kinds as Pillow makes them: its resampling, filters, codecs and fonts, on 8-bit pictures.

They say the same as the operations of the other programs at the same level, and differ in the formula: a network that
learns from all of them learns the fault, not the program.
"""

import io
from functools import cache
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

from moslens.distortions import noise
from moslens.distortions.color import cast_gains
from moslens.distortions.fast_normal import normal
from moslens.distortions.planes import Array, from_planes, to_planes
from moslens.distortions.resampling import reduced
from moslens.distortions.spatial import mark

_GAMMA = 2.2
_WORDS = ("SAMPLE", "PREVIEW", "PROOF", "COPY", "DRAFT", "STOCK PHOTO", "DO NOT COPY", "(C) ARCHIVE")

_QUANTIZERS = (30, 34, 38, 43, 48)
_WEBP_QUALITIES = (45, 28, 14, 5, 0)
_AVIF_QUALITIES = (42, 32, 22, 12, 4)


def exposure(stack: Array, stops: float, rng: np.random.Generator) -> Array:
    """Every sample times 2 ** (``stops`` / 2.2): the gamma of a simple display instead of sRGB."""
    return _planes(ImageEnhance.Brightness(_image(stack)).enhance(2 ** (stops / _GAMMA)))


def haze(stack: Array, veil: float, rng: np.random.Generator) -> Array:
    """An even, pale grey veil blended over the samples themselves."""
    image = _image(stack)
    shade = int(rng.integers(200, 236))
    return _planes(Image.blend(image, Image.new("RGB", image.size, (shade, shade, shade + 8)), 1.1 * veil**0.75))


def color_cast(stack: Array, stops: float, rng: np.random.Generator) -> Array:
    """Samples of every channel times a gain, the gamma of a simple display instead of sRGB."""
    table = np.arange(256)[None] * cast_gains(stops, rng)[:, None] ** (1 / _GAMMA)
    return _planes(_image(stack).point([int(value) for value in np.rint(np.minimum(table, 255)).ravel()]))


def negative(stack: Array, share: float, rng: np.random.Generator) -> Array:
    """The inverted picture blended over the picture."""
    image = _image(stack)
    return _planes(Image.blend(image, ImageOps.invert(image), share))


def banding(stack: Array, tones: float, rng: np.random.Generator) -> Array:
    """The picture with a palette of about ``tones`` ** 1.5 colors, not dithered."""
    few = _image(stack).quantize(round(tones**1.5), Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    return _planes(few.convert("RGB"))


def chroma_noise(stack: Array, deviation: float, rng: np.random.Generator) -> Array:
    """Noise of Cb and Cr made small and enlarged, as cameras compute color at half the resolution."""
    height, width = stack.shape[1:]
    small = normal((2, *reduced((height, width), rng.uniform(2, 4))), rng)
    blotches = np.stack(
        [np.asarray(Image.fromarray(p).resize((width, height), Image.Resampling.BICUBIC)) for p in small]
    )
    return noise.with_chroma(stack, blotches * (np.float32(deviation / 255) / np.maximum(blotches.std(), 1e-6)))


def noise_reduction(stack: Array, deviation: float, rng: np.random.Generator) -> Array:
    """Sensor noise, removed by a small median of luma and a wide blur of chroma."""
    noisy = _image(noise.plain_sensor_noise(stack, deviation, rng).clip(0, 1)).convert("YCbCr")
    luma, *chroma = noisy.split()
    luma = luma.filter(ImageFilter.MedianFilter(3)).filter(ImageFilter.BoxBlur(deviation / 60))
    blurred = [plane.filter(ImageFilter.BoxBlur(3)) for plane in chroma]
    return _planes(Image.merge("YCbCr", [luma, *blurred]).convert("RGB"))


def recompressed_jpeg(stack: Array, quality: float, rng: np.random.Generator) -> Array:
    """Brought to another scale, through JPEG, and back: twice, the first time at a better quality."""
    image = _image(stack)
    for worse in (min(95, quality + 35), quality):
        image = _rescaled(image, rng, "JPEG", quality=int(worse), subsampling=str(rng.choice(["4:2:0", "4:4:4"])))
    return _planes(image)


def block_codec(stack: Array, quantizer: float, rng: np.random.Generator) -> Array:
    """Brought to another scale, through WebP (VP8) or AVIF (AV1), and back. ``quantizer``: QP of H.264."""
    image = _image(stack)
    if rng.random() < 0.5:
        quality = round(float(np.interp(quantizer, _QUANTIZERS, _WEBP_QUALITIES)))
        return _planes(_rescaled(image, rng, "WEBP", quality=quality, method=1))
    quality = round(float(np.interp(quantizer, _QUANTIZERS, _AVIF_QUALITIES)))
    return _planes(_rescaled(image, rng, "AVIF", quality=quality, speed=10, max_threads=1))


def low_resolution(stack: Array, times: float, rng: np.random.Generator) -> Array:
    """Made smaller with a Lanczos filter and enlarged with a bicubic one."""
    image = _image(stack)
    return _planes(_small(image, times, Image.Resampling.LANCZOS).resize(image.size, Image.Resampling.BICUBIC))


def thumbnail(stack: Array, times: float, rng: np.random.Generator) -> Array:
    """A thumbnail made with a box filter, sharpened, saved as JPEG, and enlarged."""
    image = _image(stack)
    small = _small(image, times, Image.Resampling.BOX)
    if rng.random() < 0.5:
        small = small.filter(ImageFilter.UnsharpMask(1, 60, 0))
    small = through(small, "JPEG", quality=int(rng.integers(25, 61)))
    how = Image.Resampling.BICUBIC if rng.random() < 0.5 else Image.Resampling.BILINEAR
    return _planes(small.resize(image.size, how))


def watermark(stack: Array, opacity: float, rng: np.random.Generator) -> Array:
    """Words in rows across the picture, slanted, in white with a dark rim."""
    height, width = stack.shape[1:]
    font = _font(int(min(max(min(height, width) / 8, 11), 64)))
    text, turn = f"{rng.choice(_WORDS)}  ", float(rng.uniform(10, 40))
    across, down = round(font.getlength(text)), round(1.35 * font.size)
    side = int(np.hypot(height, width)) + 1
    starts = [int(rng.integers(0, across)) for _ in range(-(-side // down))]
    masks = []
    for rim in (0, 2):
        row = Image.new("L", (across, down))
        ImageDraw.Draw(row).text((1, 0), text, 255, font, stroke_width=rim // 2 + 1)
        wide = np.tile(np.asarray(row), (1, side // across + 2))
        sheet = np.concatenate([wide[:, start : start + side] for start in starts])[:side]
        turned = Image.fromarray(sheet).rotate(turn, Image.Resampling.BILINEAR)
        top, left = (side - height) // 2, (side - width) // 2
        masks.append(np.asarray(turned)[top : top + height, left : left + width].astype(np.float32) / np.float32(255))
    return mark(stack, masks[0], masks[1], opacity)


def large_watermark(stack: Array, opacity: float, rng: np.random.Generator) -> Array:
    """One to three words, stretched over most of the picture, level or slanted, white in a dark rim."""
    height, width = stack.shape[1:]
    lines = int(rng.integers(1, 4))
    text = "\n".join(str(word) for word in rng.choice(_WORDS, lines))
    turn = float(rng.choice([0.0, rng.uniform(-25, 25)]))
    size = round(float(rng.uniform(0.85, 1)) * width), round(float(rng.uniform(0.8, 1)) * height)
    masks = []
    for stroke in (4, 9):
        sheet = Image.new("L", (1000, 140 * lines))
        pen, middle = ImageDraw.Draw(sheet), (500, 70 * lines)
        pen.multiline_text(middle, text, 255, _font(100), "mm", align="center", stroke_width=stroke)
        letters = sheet.crop(sheet.getbbox()).resize(size, Image.Resampling.BILINEAR)
        whole = Image.new("L", (width, height))
        whole.paste(letters, ((width - size[0]) // 2, (height - size[1]) // 2))
        turned = whole.rotate(turn, Image.Resampling.BILINEAR)
        masks.append(np.asarray(turned, np.float32) / np.float32(255))
    return mark(stack, masks[0], masks[1], opacity)


def sharpening_halos(stack: Array, amount: float, rng: np.random.Generator) -> Array:
    """Pillow's unsharp mask of all channels at once, radius 6 px."""
    return _planes(_image(stack).filter(ImageFilter.UnsharpMask(6, round(100 * amount), 0)))


def through(image: Image.Image, codec: str, **settings: Any) -> Image.Image:
    """A picture after it was saved and opened again."""
    file = io.BytesIO()
    image.save(file, codec, **settings)
    with Image.open(file) as decoded:
        return decoded.convert("RGB")


def _rescaled(image: Image.Image, rng: np.random.Generator, codec: str, **settings: Any) -> Image.Image:
    """Through a codec at 0.7 to 1.2 times the size."""
    scale = rng.uniform(0.7, 1.2)
    width, height = (max(8, round(side * scale)) for side in image.size)
    coded = through(image.resize((width, height), Image.Resampling.BICUBIC), codec, **settings)
    return coded.resize(image.size, Image.Resampling.BICUBIC)


def _small(image: Image.Image, times: float, how: Image.Resampling) -> Image.Image:
    height, width = reduced((image.height, image.width), times)
    return image.resize((width, height), how)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # all wheels of Pillow have FreeType
    return font


def _image(stack: Array) -> Image.Image:
    return Image.fromarray(from_planes(stack, np.uint8))


def _planes(image: Image.Image) -> Array:
    return to_planes(np.asarray(image))
