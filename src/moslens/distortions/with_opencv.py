"""Photographic kinds as OpenCV makes them. OpenCV is optional: MissingExtra where it is not installed.

Its filters may round differently on another processor, by one grey level at most in our tests.
"""

from types import ModuleType
from typing import Any

import numpy as np

from moslens.distortions import blur, filters
from moslens.distortions.fast_normal import normal
from moslens.distortions.noise import noise_gain, plain_sensor_noise
from moslens.distortions.planes import Array, from_planes, to_planes
from moslens.distortions.resampling import reduced
from moslens.distortions.spatial import mark
from moslens.errors import MissingExtra

_QUANTIZERS = (30, 34, 38, 43, 48)
_WEBP_QUALITIES = (45, 28, 14, 6, 1)
_WORDS = ("sample", "preview", "proof", "copy", "draft", "stock", "not for sale")


def opencv() -> ModuleType:
    """The module ``cv2``. Raises MissingExtra where it is not installed."""
    try:
        import cv2
    except ImportError as error:
        raise MissingExtra("train", "opencv-python-headless") from error
    module: ModuleType = cv2
    return module


def under_exposure(stack: Array, stops: float, rng: np.random.Generator) -> Array:
    """L, a and b of Lab scaled as cube roots of light are; the darkest shadows are lost."""
    cv2 = opencv()
    lab = cv2.cvtColor(_image(stack), cv2.COLOR_RGB2Lab)
    gain = np.float32(2 ** (stops / 3))
    lab *= gain
    lab[..., 0] = np.maximum(lab[..., 0] + 16 * (gain - 1), 0)
    return _planes(cv2.cvtColor(lab, cv2.COLOR_Lab2RGB))


def over_exposure(stack: Array, stops: float, rng: np.random.Generator) -> Array:
    """Light of a simple display times 2 ** ``stops``; highlights keep half of their hue where they clip."""
    cv2 = opencv()
    light = cv2.pow(_image(stack), 2.2) * np.float32(2**stops)
    same_hue = light / np.maximum(light.max(axis=2, keepdims=True), 1)
    return _planes(cv2.pow((np.minimum(light, 1) + same_hue) / 2, 1 / 2.2))


def haze(stack: Array, veil: float, rng: np.random.Generator) -> Array:
    """Veiling glare: half of the stray light comes from bright places near by, half from a pale sky."""
    cv2 = opencv()
    light = _image(stack) ** 2
    near = cv2.blur(cv2.blur(light, (41, 41)), (41, 41))
    sky = rng.uniform(0.75, 0.95)
    share = veil**0.75
    return _planes(np.sqrt((1 - share) * light + share * (0.4 * near + 0.6 * np.float32(sky))))


def color_cast(stack: Array, stops: float, rng: np.random.Generator) -> Array:
    """a and b of Lab shifted: the same tint in shadows and lights."""
    cv2 = opencv()
    lab = cv2.cvtColor(_image(stack), cv2.COLOR_RGB2Lab)
    angle = rng.uniform(0, 2 * np.pi)
    lab[..., 1] += np.float32(17 * stops * np.cos(angle))
    lab[..., 2] += np.float32(17 * stops * np.sin(angle))
    return _planes(cv2.cvtColor(lab, cv2.COLOR_Lab2RGB))


def sensor_noise(stack: Array, deviation: float, rng: np.random.Generator) -> Array:
    """Noise on the Bayer mosaic of the picture, which OpenCV interpolates along edges; the detail suffers too."""
    cv2 = opencv()
    noisy = stack + normal(stack.shape[1:], rng) * (np.float32(1.25 * deviation / 255) * noise_gain(stack))
    mosaic = noisy[1].copy()
    mosaic[::2, ::2], mosaic[1::2, 1::2] = noisy[0, ::2, ::2], noisy[2, 1::2, 1::2]
    raw = np.rint(mosaic.clip(0, 1) * 255).astype(np.uint8)
    # OpenCV copies its outermost rows and columns: give it some to spare, in the phase of the mosaic.
    raw = np.pad(raw, 2, mode="reflect")
    return to_planes(cv2.cvtColor(raw, cv2.COLOR_BayerBG2RGB_EA)[2:-2, 2:-2])


def chroma_noise(stack: Array, deviation: float, rng: np.random.Generator) -> Array:
    """Noise of a and b in Lab, blurred by OpenCV."""
    cv2 = opencv()
    lab = cv2.cvtColor(_image(stack), cv2.COLOR_RGB2Lab)
    blotches = cv2.GaussianBlur(normal((*stack.shape[1:], 2), rng), (0, 0), rng.uniform(1, 2.2))
    lab[..., 1:] += np.float32(0.85 * deviation) * blotches / np.maximum(blotches.std(), np.float32(1e-6))
    return _planes(cv2.cvtColor(lab, cv2.COLOR_Lab2RGB))


def noise_reduction(stack: Array, deviation: float, rng: np.random.Generator) -> Array:
    """Sensor noise, removed by a bilateral filter and a median."""
    cv2 = opencv()
    noisy = from_planes(plain_sensor_noise(stack, 0.8 * deviation, rng).clip(0, 1), np.uint8)
    return to_planes(cv2.medianBlur(cv2.bilateralFilter(noisy, 5, 3 * deviation, 3), 3))


def camera_shake(stack: Array, length: float, rng: np.random.Generator) -> Array:
    """A smooth or a jerky path in the gamma of a simple display."""
    points = blur.smooth_path(length, rng) if rng.random() < 0.5 else blur.jerky_path(length, rng)
    return _of_light(stack, filters.path(points))


def defocus(stack: Array, radius: float, rng: np.random.Generator) -> Array:
    """A disc that OpenCV draws, a little brighter at its rim, in the gamma of a simple display."""
    cv2 = opencv()
    reach = int(np.ceil(radius)) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    centre = (16 * reach, 16 * reach)
    cv2.circle(kernel, centre, round(16 * radius), 1.0, -1, cv2.LINE_AA, 4)
    if radius > 3:
        cv2.circle(kernel, centre, round(16 * (radius - 0.5)), 1 + float(rng.uniform(0, 0.6)), 1, cv2.LINE_AA, 4)
    return _of_light(stack, kernel / kernel.sum())


def recompressed_jpeg(stack: Array, quality: float, rng: np.random.Generator) -> Array:
    """Brought to another scale, through OpenCV's JPEG, and back."""
    cv2 = opencv()
    return _rescaled(stack, rng, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, int(quality)])


def block_codec(stack: Array, quantizer: float, rng: np.random.Generator) -> Array:
    """Brought to another scale, through OpenCV's WebP, and back."""
    cv2 = opencv()
    quality = round(float(np.interp(quantizer, _QUANTIZERS, _WEBP_QUALITIES)))
    return _rescaled(stack, rng, ".webp", [cv2.IMWRITE_WEBP_QUALITY, max(1, quality)])


def low_resolution(stack: Array, times: float, rng: np.random.Generator) -> Array:
    """Made smaller by means of areas, enlarged with OpenCV's bicubic filter, which is sharper than Pillow's."""
    cv2 = opencv()
    height, width = stack.shape[1:]
    rows, columns = reduced((height, width), times)
    small = cv2.resize(_image(stack), (columns, rows), interpolation=cv2.INTER_AREA)
    return _planes(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC))


def thumbnail(stack: Array, times: float, rng: np.random.Generator) -> Array:
    """A thumbnail of single pixels, saved as JPEG, and enlarged."""
    cv2 = opencv()
    height, width = stack.shape[1:]
    rows, columns = reduced((height, width), times)
    smooth = cv2.blur(from_planes(stack, np.uint8), (max(1, int(times / 2)),) * 2)
    small = cv2.resize(smooth, (columns, rows), interpolation=cv2.INTER_NEAREST)
    small = _coded(small, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 61))])
    return to_planes(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC))


def banding(stack: Array, tones: float, rng: np.random.Generator) -> Array:
    """Lightness of Lab, smoothed by a median, in steps by a table; detail is kept."""
    cv2 = opencv()
    lab = cv2.cvtColor(from_planes(stack, np.uint8), cv2.COLOR_RGB2Lab)
    values = np.arange(256)
    change = np.rint(np.rint(values / 255 * (tones - 1)) / (tones - 1) * 255) - values
    steps = cv2.LUT(cv2.medianBlur(np.ascontiguousarray(lab[..., 0]), 3), change.astype(np.int16))
    lab[..., 0] = np.clip(lab[..., 0] + steps, 0, 255)
    return to_planes(cv2.cvtColor(lab, cv2.COLOR_Lab2RGB))


def watermark(stack: Array, opacity: float, rng: np.random.Generator) -> Array:
    """Words in rows across the picture in OpenCV's font of strokes."""
    cv2 = opencv()
    height, width = stack.shape[1:]
    size = min(max(min(height, width) / 8, 11), 64)
    side = int(np.hypot(height, width)) + 1
    light, rim = np.zeros((2, side, side), np.uint8)
    text = f"{rng.choice(_WORDS)}   " * (1 + 2 * side // round(5 * size))
    line = max(1, round(size / 14))
    for row, y in enumerate(range(0, side + round(size), round(1.4 * size))):
        start = (-int(rng.integers(0, round(4 * size))) - round(2 * size) * (row % 2), y)
        for sheet, thick in ((rim, line + 2), (light, line)):
            cv2.putText(sheet, text, start, cv2.FONT_HERSHEY_DUPLEX, size / 24, 255, thick, cv2.LINE_AA)
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), float(rng.uniform(10, 40)), 1)
    top, left = (side - height) // 2, (side - width) // 2
    inside = np.s_[top : top + height, left : left + width]
    masks = [cv2.warpAffine(sheet, turn, (side, side))[inside].astype(np.float32) / 255 for sheet in (light, rim)]
    return mark(stack, masks[0], masks[1], opacity)


def sharpening_halos(stack: Array, amount: float, rng: np.random.Generator) -> Array:
    """The difference to a Gaussian blur added to lightness, and nothing where it is small."""
    cv2 = opencv()
    lab = cv2.cvtColor(_image(stack), cv2.COLOR_RGB2Lab)
    detail = lab[..., 0] - cv2.GaussianBlur(lab[..., 0], (0, 0), 7)
    lab[..., 0] = np.clip(lab[..., 0] + np.float32(amount) * np.where(np.abs(detail) < 1, 0, detail), 0, 100)
    return _planes(cv2.cvtColor(lab, cv2.COLOR_Lab2RGB))


def _of_light(stack: Array, kernel: Array) -> Array:
    cv2 = opencv()
    light = cv2.pow(_image(stack), 2.2)
    flat = cv2.filter2D(light, -1, kernel.astype(np.float32), borderType=cv2.BORDER_REPLICATE)
    return _planes(cv2.pow(np.maximum(flat, 0), 1 / 2.2))


def _rescaled(stack: Array, rng: np.random.Generator, ending: str, settings: list[Any]) -> Array:
    """Through a codec at 0.7 to 1.2 times the size."""
    cv2 = opencv()
    height, width = stack.shape[1:]
    scale = rng.uniform(0.7, 1.2)
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    coded = _coded(cv2.resize(from_planes(stack, np.uint8), size, interpolation=cv2.INTER_AREA), ending, settings)
    return to_planes(cv2.resize(coded, (width, height), interpolation=cv2.INTER_LINEAR))


def _coded(image: Array, ending: str, settings: list[Any]) -> Array:
    cv2 = opencv()
    _, data = cv2.imencode(ending, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), settings)
    decoded: Array = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return decoded


def _image(stack: Array) -> Array:
    """Planes as H x W x 3 float32."""
    return np.ascontiguousarray(stack.transpose(1, 2, 0))


def _planes(image: Array) -> Array:
    """H x W x 3 float32 as contiguous planes; what OpenCV left undefined becomes black."""
    return np.ascontiguousarray(np.nan_to_num(image, copy=False).transpose(2, 0, 1))
