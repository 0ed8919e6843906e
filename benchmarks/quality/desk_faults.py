"""Faults, harmless changes and dead frames by ImageMagick, ffmpeg and scikit-image, for benchmarks/quality/desk.py.

Training makes its distortions with numpy, Pillow and OpenCV, never with these programs. desk.toml says what each is
and gives its levels. A function takes a picture (H x W x 3, sides multiples of 16), the parameter at a level and a
seed, and returns pixels or the bytes of an encoded picture; ProgramError where its program is missing or fails.
"""

import math
import random
from collections.abc import Callable

import numpy as np

from benchmarks.programs import Pixels, decoded, ffmpeg, filtered, first_frame, imagemagick

Made = Pixels | bytes
Make = Callable[[Pixels, float, int], Made]


def _magick(*arguments: str, format: str = "ppm") -> Make:
    """ImageMagick with ``{}`` in the arguments replaced by the parameter."""
    return lambda pixels, value, seed: imagemagick(pixels, *(one.format(value) for one in arguments), format=format)


def _filters(chain: str) -> Make:
    """ffmpeg's filters with ``{value}`` and ``{seed}`` in them."""
    return lambda pixels, value, seed: filtered(pixels, chain.format(value=value, seed=seed))


def _video(encoder: str, format: str, *arguments: str, read_as: str | None = None) -> Make:
    """A frame of a video: encoded and decoded by ffmpeg, ``{}`` in the arguments replaced by the parameter.

    ``read_as`` is ffmpeg's name of the format for reading where that differs.
    """

    def make(pixels: Pixels, value: float, seed: int) -> Pixels:
        given = (one.format(value) for one in arguments)
        return first_frame(
            ffmpeg(pixels, "-c:v", encoder, *given, "-pix_fmt", "yuv420p", "-f", format), read_as or format
        )

    return make


def _exposure(pixels: Pixels, stops: float, seed: int) -> bytes:
    return imagemagick(pixels, "-colorspace", "RGB", "-evaluate", "multiply", f"{2**stops}", "-colorspace", "sRGB")


def _warm_cast(pixels: Pixels, stops: float, seed: int) -> bytes:
    red = ("-channel", "R", "-evaluate", "multiply", f"{2 ** (stops / 2)}")
    blue = ("-channel", "B", "-evaluate", "multiply", f"{2 ** (-stops / 2)}")
    return imagemagick(pixels, "-colorspace", "RGB", *red, *blue, "+channel", "-colorspace", "sRGB")


def _haze(pixels: Pixels, veil: float, seed: int) -> bytes:
    mix = ("-evaluate", "multiply", f"{1 - veil}", "-evaluate", "add", f"{80 * veil}%")
    return imagemagick(pixels, "-colorspace", "RGB", *mix, "-colorspace", "sRGB")


def _negative(pixels: Pixels, share: float, seed: int) -> Pixels:
    from skimage.util import invert

    return np.asarray(invert(pixels), np.uint8)


def _sensor_noise(pixels: Pixels, gain: float, seed: int) -> Pixels:
    """Noise in linear light whose variance is ``gain`` times the light, and a little where there is none."""
    from skimage.exposure import adjust_gamma
    from skimage.util import img_as_float, img_as_ubyte, random_noise

    light = adjust_gamma(img_as_float(pixels), 2.2)
    noisy = random_noise(light, mode="localvar", rng=seed, local_vars=gain * (light + 0.01))
    return np.asarray(img_as_ubyte(adjust_gamma(noisy, 1 / 2.2)), np.uint8)


def _chroma_noise(pixels: Pixels, strength: float, seed: int) -> Pixels:
    planes = f"c1s={strength}:c1_seed={seed}:c2s={strength}:c2_seed={seed + 1}"
    return filtered(pixels, f"format=yuv420p,noise={planes}")


def _gaussian_blur(pixels: Pixels, sigma: float, seed: int) -> Pixels:
    from skimage.filters import gaussian
    from skimage.util import img_as_ubyte

    return np.asarray(img_as_ubyte(np.clip(gaussian(pixels, sigma=sigma, channel_axis=-1), 0, 1)), np.uint8)


def _convolved(pixels: Pixels, kernel: str) -> bytes:
    """ImageMagick's convolution with a kernel that is brought to a sum of 1."""
    return imagemagick(
        pixels, "-virtual-pixel", "mirror", "-define", "convolve:scale=!", "-morphology", "Convolve", kernel
    )


def _defocus(pixels: Pixels, radius: float, seed: int) -> bytes:
    return _convolved(pixels, f"Disk:{radius}")


def _camera_shake(pixels: Pixels, length: float, seed: int) -> bytes:
    return _convolved(pixels, shake_kernel(length, seed))


def shake_kernel(length: float, seed: int) -> str:
    """ImageMagick's text of a kernel: how long a camera on a winding path of ``length`` px stays at each place."""
    rng = random.Random(seed)
    step, x, y, heading = 0.25, 0.0, 0.0, rng.uniform(0, 2 * math.pi)
    stays: dict[tuple[int, int], int] = {}
    for _ in range(round(length / step)):
        stays[round(x), round(y)] = stays.get((round(x), round(y)), 0) + 1
        heading += rng.gauss(0, 0.12)
        x, y = x + step * math.cos(heading), y + step * math.sin(heading)
    (left, right), (top, bottom) = ((min(side), max(side)) for side in zip(*stays, strict=True))
    rows = (
        ",".join(str(stays.get((column, row), "-")) for column in range(left, right + 1))
        for row in range(top, bottom + 1)
    )
    return f"{right - left + 1}x{bottom - top + 1}: {' '.join(rows)}"


def _motion_blur(pixels: Pixels, radius: float, seed: int) -> Pixels:
    return filtered(pixels, f"dblur=angle={seed % 180}:radius={radius}")


def _enlargement(pixels: Pixels, reduction: float, seed: int) -> bytes:
    height, width = pixels.shape[:2]
    return imagemagick(pixels, "-resize", f"{100 / reduction}%", "-filter", "Catrom", "-resize", f"{width}x{height}!")


def _pixelated(pixels: Pixels, reduction: float, seed: int) -> Pixels:
    height, width = pixels.shape[:2]
    small = f"scale={round(width / reduction)}:{round(height / reduction)}:flags=area"
    return filtered(pixels, f"{small},scale={width}:{height}:flags=neighbor")


def _moire(pixels: Pixels, amplitude: float, seed: int) -> Pixels:
    """A circular grating, finer and finer from its centre: the grid of the pixels turns it into coloured rings."""
    height, width = pixels.shape[:2]
    rng = random.Random(seed)
    x, y = rng.randrange(width), rng.randrange(height)
    phase = f"(pow(X-{x},2)+pow(Y-{y},2))/{rng.uniform(40, 70):.2f}"
    channels = ":".join(f"{c}='clip({c}(X,Y)+{amplitude}*sin({phase}+{2 * n}),0,255)'" for n, c in enumerate("rgb"))
    return filtered(pixels, f"format=gbrp,geq={channels}")


def _lost_blocks(pixels: Pixels, spacing: float, seed: int) -> Pixels:
    """One byte of about ``spacing`` of an MPEG-2 frame is wrong; the decoder conceals the macroblocks that it lost."""
    damage = ("-q:v", "3", "-bsf:v", f"noise=amount={spacing:.0f}")
    return first_frame(ffmpeg(pixels, "-c:v", "mpeg2video", *damage, "-f", "mpeg2video"), "mpegvideo")


def _resaved_jpeg(pixels: Pixels, quantizer: float, seed: int) -> bytes:
    """A JPEG of three quarters of the size by ffmpeg, whose quantizer goes from 2 to 31."""
    how = ("-vf", "scale=iw*3/4:ih*3/4", "-pix_fmt", "yuvj420p", "-c:v", "mjpeg", "-q:v", f"{quantizer}")
    return ffmpeg(pixels, *how, "-f", "image2pipe")


def _watermark(pixels: Pixels, opacity: float, seed: int) -> bytes:
    height, width = pixels.shape[:2]
    ink = ("-fill", f"rgba(255,255,255,{opacity})", "-stroke", f"rgba(0,0,0,{opacity / 2})")
    size = ("-pointsize", f"{min(height, width) / 4:.0f}", "-gravity", "center")
    return imagemagick(pixels, *ink, *size, "-annotate", "330x330+0+0", "PREVIEW\nNO COPY")


def _corner_mark(pixels: Pixels, share: float, seed: int) -> bytes:
    ink = ("-fill", "rgba(255,255,255,0.7)", "-pointsize", f"{share * pixels.shape[0]:.0f}")
    return imagemagick(pixels, *ink, "-gravity", "SouthEast", "-annotate", "+8+8", "A. Photographer")


FAULTS: dict[str, Make] = {
    "under_exposure": _exposure,
    "over_exposure": _exposure,
    "warm_cast": _warm_cast,
    "magenta_cast": _filters("colorchannelmixer=gg={value}"),
    "haze": _haze,
    "flat_contrast": _filters("eq=contrast={value}"),
    "oversaturation": _filters("hue=s={value}"),
    "negative": _negative,
    "sensor_noise": _sensor_noise,
    "luminance_noise": _filters("format=yuv444p,noise=c0s={value}:c0_seed={seed}"),
    "chroma_noise": _chroma_noise,
    "noise_reduction": _filters("format=yuv420p,noise=c0s=16:c0_seed={seed},bilateral=6:{value}:planes=7"),
    "camera_shake": _camera_shake,
    "defocus": _defocus,
    "motion_blur": _motion_blur,
    "gaussian_blur": _gaussian_blur,
    "jpeg": _magick("-quality", "{}", "-sampling-factor", "2x2", format="jpg"),
    "resaved_jpeg": _resaved_jpeg,
    "webp": _magick("-quality", "{}", format="webp"),
    "avif": _magick("-quality", "{}", format="avif"),
    "h264": _video("libx264", "h264", "-preset", "veryfast", "-qp", "{}"),
    "h265": _video("libx265", "hevc", "-preset", "ultrafast", "-x265-params", "qp={}:log-level=none"),
    "mpeg2": _video("mpeg2video", "mpeg2video", "-q:v", "{}", read_as="mpegvideo"),
    "enlargement": _enlargement,
    "pixelated": _pixelated,
    "posterized": _magick("+dither", "-posterize", "{}"),
    "moire": _moire,
    "lost_blocks": _lost_blocks,
    "over_sharpening": _magick("-unsharp", "0x1.5+{}+0"),
    "watermark": _watermark,
}

HARMLESS: dict[str, Make] = {
    "black_and_white": _magick("-colorspace", "Gray"),
    "sepia": _magick("-sepia-tone", "75%"),
    "blue_tone": _magick("-colorspace", "Gray", "+level-colors", "#081022,#faf8f0"),
    "mirror": _filters("hflip"),
    "crop": _magick("-gravity", "NorthWest", "-crop", "{0}%x{0}%+0+0", "+repage"),
    "white_frame": _magick("-bordercolor", "white", "-border", "{0}%x{0}%"),
    "black_frame": _magick("-bordercolor", "black", "-border", "{0}%x{0}%"),
    "fine_jpeg": _magick("-quality", "{}", format="jpg"),
    "fine_webp": _magick("-quality", "{}", format="webp"),
    "scale_down": _magick("-resize", "{}%"),
    "scale_up": _filters("scale=iw*{value}/100:ih*{value}/100:flags=bicubic"),
    "corner_mark": _corner_mark,
}

DETAIL: dict[str, Make] = {
    "noise": _filters("format=rgb24,noise=c0s={value}:c0_seed={seed}"),
    "blur": _filters("gblur=sigma={value}"),
    "shake": _camera_shake,
    "compression": FAULTS["jpeg"],
}

DEAD = {
    "black": ("-fill", "black", "-colorize", "100"),
    "white": ("-fill", "white", "-colorize", "100"),
    "grey": ("-fill", "gray50", "-colorize", "100"),
    "blue": ("-fill", "#0000d0", "-colorize", "100"),
    "noise": ("-fill", "gray50", "-colorize", "100", "-seed", "1", "+noise", "Random"),
}


def dead_frame(name: str) -> Pixels:
    """A frame of 512 x 384 px that shows nothing, by ImageMagick."""
    return decoded(imagemagick(np.zeros((384, 512, 3), np.uint8), *DEAD[name]))
