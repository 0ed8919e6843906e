"""From sample values to light and on to 8-bit sRGB, at 16-bit precision: transfer functions, primaries, tone mapping.

Little CMS in Pillow takes 8 bits a sample. For linear light that is too few in the shadows, so matrix profiles of
deeper files are computed here, as are the curves that PNG, AVIF, HEIC and QOI name by a number (ITU-T H.273).
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from moslens.errors import UnsupportedImage

Floats = NDArray[np.float32]

WHITE_NITS = 203.0
"""Reference white of PQ (ITU-R BT.2408)."""

_KNEE = 0.75  # of reference white: what is darker keeps its light
_BAND = 1 << 18  # pixels
_SRGB_D50 = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
_D65 = (0.3127, 0.3290)
_SRGB = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_PRIMARIES = {9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046), 12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060)}
_NEARLY_SRGB = (1, 2, 5, 6, 7)  # unspecified, or primaries of television that differ from sRGB by little
_SRGB_LIKE = (1, 2, 6, 13, 14, 15)  # unspecified, or curves of television: shown as sRGB everywhere
_GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0}
_PQ, _HLG = 16, 18


@dataclass(frozen=True)
class Light:
    """``curves``: for each channel (or one for all) the light of 65,536 levels, 1 is white; ``matrix`` to linear sRGB.

    ``transfer`` is that of H.273; for PQ and HLG light above white is brought below it.
    """

    curves: Floats
    matrix: NDArray[np.float64] | None = None
    transfer: int = 0

    @property
    def hdr(self) -> bool:
        return self.transfer in (_PQ, _HLG)

    def srgb(self, samples: NDArray[np.uint16], peak: float = 1.0) -> NDArray[np.uint8]:
        """``... x 3`` (or grey, ``h x w``) of 16-bit samples to 8-bit sRGB; ``peak`` is the brightest light."""
        if samples.ndim == 2:
            return _srgb_levels()[_sixteen_bits(self.curves[0][samples])]
        light = np.stack([self.curves[min(i, len(self.curves) - 1)][samples[..., i]] for i in range(3)], -1)
        if self.matrix is not None:
            light = light @ self.matrix.T.astype(np.float32)
        if self.hdr and peak > 1:
            brightest = np.maximum(light.max(-1, keepdims=True), 1e-6)
            light *= np.where(brightest > _KNEE, _shoulder(brightest, peak) / brightest, 1)
        return _srgb_levels()[_sixteen_bits(light)]

    def changes(self) -> bool:
        """Whether any colour moves by more than one level of 255."""
        if len(self.curves) == 1 and self.matrix is None:
            levels = np.arange(256, dtype=np.uint16)[None] * 257
        else:
            axis = np.linspace(0, 255, 17).round().astype(np.uint16) * 257
            levels = np.stack(np.meshgrid(axis, axis, axis), -1).reshape(17, -1, 3)
        return bool(np.abs(self.srgb(levels).astype(int) - levels // 257).max() > 1)

    def peak(self, image: Image.Image) -> float:
        """The brightest light of an 8-bit picture, in units of white, but for one sample in a thousand."""
        if not self.hdr:
            return 1.0
        counts = np.array(image.histogram()).reshape(-1, 256)[: 1 if image.mode in ("L", "LA") else 3].sum(0)
        level = int(np.searchsorted(np.cumsum(counts), 0.999 * counts.sum()))
        return float(self.curves[0][min(level, 255) * 257])

    def convert(self, image: Image.Image, low: Image.Image | None = None) -> None:
        """Turn the colours of an L, LA, RGB, RGBA or P image into sRGB in place; alpha stays.

        ``low`` is an image like it with the low bytes of 16-bit samples.
        """
        peak = self.peak(image.convert("RGB") if image.mode == "P" else image)
        if image.mode == "P":
            colours = np.array(image.getpalette("RGB") or [], np.uint16).reshape(1, -1, 3) * 257
            transparency = image.info.get("transparency")
            image.putpalette(self.srgb(colours, peak).tobytes())
            if transparency is not None:
                image.info["transparency"] = transparency
            return
        rows = max(1, _BAND // image.width)
        for top in range(0, image.height, rows):
            box = (0, top, image.width, min(top + rows, image.height))
            band = np.asarray(image.crop(box))
            fine = band if low is None else np.asarray(low.crop(box))
            samples = band.astype(np.uint16) << 8 | fine
            if samples.ndim == 3 and samples.shape[2] == 2:
                shown = np.dstack([self.srgb(samples[..., 0], peak), band[..., 1]])
            elif samples.ndim == 2:
                shown = self.srgb(samples, peak)
            else:
                shown = np.concatenate([self.srgb(samples[..., :3], peak), band[..., 3:]], -1)
            image.paste(Image.fromarray(shown), box)


def of_code(primaries: int, transfer: int) -> Light | None:
    """The light of a picture by its codes of ITU-T H.273; None where it is shown as sRGB.

    Raises UnsupportedImage for codes without an agreed way to a screen.
    """
    if primaries not in _NEARLY_SRGB and primaries not in _PRIMARIES:
        raise UnsupportedImage(f"its colour primaries (code {primaries} of H.273) are not known here")
    matrix = None if primaries in _NEARLY_SRGB else to_linear_srgb(_PRIMARIES[primaries])
    if transfer in _SRGB_LIKE:
        return None if matrix is None else of_primaries(matrix)
    if transfer in _GAMMAS:
        return of_gamma(_GAMMAS[transfer], matrix)
    if transfer not in (_PQ, _HLG):
        raise UnsupportedImage(f"its transfer function (code {transfer} of H.273) is not known here")
    return Light(_levels(_pq_light if transfer == _PQ else _hlg_light), matrix, transfer)


def of_gamma(gamma: float, matrix: NDArray[np.float64] | None = None) -> Light:
    return Light(_levels(lambda level: level**gamma), matrix)


def of_primaries(matrix: NDArray[np.float64]) -> Light:
    """The curve of sRGB with other primaries; ``matrix`` as of :func:`to_linear_srgb`."""
    return Light(_levels(_srgb_light), matrix)


def to_linear_srgb(primaries: tuple[float, ...]) -> NDArray[np.float64]:
    """The matrix from linear light of these primaries (x and y of red, green, blue; white is D65) to that of sRGB."""
    result: NDArray[np.float64] = np.linalg.inv(_to_xyz(_SRGB)) @ _to_xyz(primaries)
    return result


def of_profile(icc: bytes | None) -> Light | None:
    """The light of a matrix or grey ICC profile; None where it is another kind, broken, or shown as sRGB."""
    try:
        tags = {} if icc is None else _tags(icc)
        if icc is None or icc[20:24] != b"XYZ " or b"A2B0" in tags:
            return None
        if icc[16:20] == b"GRAY":
            light = Light(_levels(_curve(tags[b"kTRC"])))
        elif icc[16:20] == b"RGB ":
            curves = np.concatenate([_levels(_curve(tags[name])) for name in (b"rTRC", b"gTRC", b"bTRC")])
            columns = [struct.unpack_from(">3i", tags[name], 8) for name in (b"rXYZ", b"gXYZ", b"bXYZ")]
            light = Light(curves, np.linalg.inv(_SRGB_D50) @ np.array(columns).T / 65536)
        else:
            return None
    except (KeyError, struct.error, IndexError):
        return None
    return light if light.changes() else None


def _tags(icc: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack_from(">I", icc, 128)
    table = [struct.unpack_from(">4sII", icc, 132 + 12 * i) for i in range(min(count, 100))]
    return {name: icc[at : at + size] for name, at, size in table}


def _curve(tag: bytes) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """The tone curve of an ICC profile (ICC.1:2022, 10.6 and 10.18), from 0-1 to 0-1."""
    kind, count = struct.unpack_from(">4s4xI", tag)
    if kind == b"curv":
        points = np.frombuffer(tag, ">u2", count, 12)
        if count == 0:
            return lambda level: level
        if count == 1:
            return lambda level: level ** (points[0] / 256)
        return lambda level: np.interp(level, np.linspace(0, 1, count), points / 65535)
    function = count >> 16
    values = struct.unpack_from(f">{_COUNTS[function]}i", tag, 12)
    g, a, b, c, d, e, f = _PARAMETERS[function](*(value / 65536 for value in values))
    return lambda level: np.where(level >= d, np.maximum(a * level + b, 0) ** g + e, c * level + f)


_COUNTS = (1, 3, 4, 5, 7)
_PARAMETERS: tuple[Callable[..., tuple[float, ...]], ...] = (
    lambda g: (g, 1, 0, 0, 0, 0, 0),
    lambda g, a, b: (g, a, b, 0, -b / a, 0, 0),
    lambda g, a, b, c: (g, a, b, 0, -b / a, c, c),
    lambda g, a, b, c, d: (g, a, b, c, d, 0, 0),
    lambda g, a, b, c, d, e, f: (g, a, b, c, d, e, f),
)


def _to_xyz(primaries: tuple[float, ...]) -> NDArray[np.float64]:
    xy = np.array(primaries).reshape(3, 2)
    columns = np.stack([xy[:, 0] / xy[:, 1], np.ones(3), (1 - xy.sum(1)) / xy[:, 1]])
    white = np.array([_D65[0] / _D65[1], 1, (1 - sum(_D65)) / _D65[1]])
    result: NDArray[np.float64] = columns * np.linalg.solve(columns, white)
    return result


def _levels(curve: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Floats:
    return curve(np.linspace(0, 1, 65536)).astype(np.float32)[None]


def _srgb_light(level: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)


def _pq_light(level: NDArray[np.float64]) -> NDArray[np.float64]:
    """SMPTE ST 2084, in units of reference white."""
    root = level ** (1 / 78.84375)
    nits: NDArray[np.float64] = 10000 * (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (
        1 / 0.1593017578125
    )
    return nits / WHITE_NITS


def _hlg_light(level: NDArray[np.float64]) -> NDArray[np.float64]:
    """The light of the scene by BT.2100 HLG, in units of reference white, which is at 75 % of the signal (BT.2408)."""

    def scene(level: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(level <= 0.5, level**2 / 3, (np.exp((level - 0.55991073) / 0.17883277) + 0.28466892) / 12)

    return scene(level) / scene(np.array(0.75))


def _shoulder(light: Floats, peak: float) -> Floats:
    """Light from the knee to ``peak`` is brought below white: the slope is 1 at the knee, and ``peak`` becomes 1."""
    over = np.minimum(light, peak) - _KNEE
    return (_KNEE + over / (1 + over * (1 / (1 - _KNEE) - 1 / (peak - _KNEE)))).astype(np.float32)


def _sixteen_bits(light: Floats) -> NDArray[np.uint16]:
    return (light.clip(0, 1) * 65535 + 0.5).astype(np.uint16)


@cache
def _srgb_levels() -> NDArray[np.uint8]:
    """The 8-bit sRGB level of 65,536 steps of light."""
    light = np.linspace(0, 1, 65536)
    levels = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return (255 * levels + 0.5).astype(np.uint8)
