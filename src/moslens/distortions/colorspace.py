"""sRGB to linear light, to CIE L*a*b* (D65, 2 degrees) and to YCbCr, and back, in float32 planes.

Pixels are converted strip by strip, so that temporary arrays stay in the processor's cache and do not grow with the
picture.
"""

import numpy as np

from moslens.distortions.planes import Array

# IEC 61966-2-1; divided by the D65 white, so that white maps to (1, 1, 1).
_WHITE = np.array([0.95047, 1.0, 1.08883])
_TO_XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
_TO_RELATIVE = (_TO_XYZ / _WHITE[:, None]).astype(np.float32)
_FROM_RELATIVE = np.linalg.inv(_TO_XYZ / _WHITE[:, None]).astype(np.float32)

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)

_STRIP = 1 << 14
_F = np.float32


def to_linear(rgb: Array) -> Array:
    """Planes of sRGB in [0, 1] to linear light in [0, 1]."""
    out = np.empty_like(rgb)
    for source, target in _strips(rgb, out):
        target[:] = _decode(source)
    return out


def from_linear(light: Array) -> Array:
    """Planes of linear light to sRGB; negative light is clipped at zero, light above one stays above one."""
    out = np.empty_like(light)
    for source, target in _strips(light, out):
        target[:] = _encode(np.maximum(source, 0))
    return out


def rgb_to_ycc(rgb: Array) -> Array:
    """3 x H x W planes of RGB to Y, Cb and Cr of ITU-R BT.601, full range: Y in [0, 1], Cb and Cr about zero."""
    luma = _LUMA[0] * rgb[0] + _LUMA[1] * rgb[1] + _LUMA[2] * rgb[2]
    return np.stack([luma, (rgb[2] - luma) / _F(1.772), (rgb[0] - luma) / _F(1.402)])


def ycc_to_rgb(ycc: Array) -> Array:
    """The inverse of :func:`rgb_to_ycc`."""
    luma, blue, red = ycc
    return np.stack([luma + _F(1.402) * red, luma - _F(0.344136) * blue - _F(0.714136) * red, luma + _F(1.772) * blue])


def rgb_to_lab(rgb: Array) -> Array:
    """3 x H x W planes of sRGB in [0, 1] to L in [0, 100], a and b."""
    out = np.empty_like(rgb)
    for source, target in _strips(rgb, out):
        _strip_to_lab(source, target)
    return out


def lab_to_rgb(lab: Array) -> Array:
    """3 x H x W planes of Lab to sRGB; colors outside the gamut are clipped at zero but may exceed one."""
    out = np.empty_like(lab)
    for source, target in _strips(lab, out):
        _strip_to_rgb(source, target)
    return out


def _strips(source: Array, target: Array) -> list[tuple[Array, Array]]:
    flat, out = source.reshape(len(source), -1), target.reshape(len(target), -1)
    return [(flat[:, at : at + _STRIP], out[:, at : at + _STRIP]) for at in range(0, flat.shape[1], _STRIP)]


def _strip_to_lab(rgb: Array, lab: Array) -> None:
    relative = _TO_RELATIVE @ _decode(rgb)
    f = _power(relative, 1 / 3)
    np.copyto(f, _F(7.787) * relative + _F(16 / 116), where=relative <= 0.008856)
    lab[0] = _F(116) * f[1] - _F(16)
    lab[1] = _F(500) * (f[0] - f[1])
    lab[2] = _F(200) * (f[1] - f[2])


def _strip_to_rgb(lab: Array, rgb: Array) -> None:
    f = np.empty(lab.shape, np.float32)
    f[1] = (lab[0] + _F(16)) / _F(116)
    f[0] = f[1] + lab[1] / _F(500)
    f[2] = np.maximum(f[1] - lab[2] / _F(200), 0)
    relative = f * f * f
    np.copyto(relative, (f - _F(16 / 116)) / _F(7.787), where=f <= 0.2068966)
    rgb[:] = _encode(np.maximum(_FROM_RELATIVE @ relative, 0))


def _decode(rgb: Array) -> Array:
    linear = _power((rgb + _F(0.055)) / _F(1.055), 2.4)
    np.copyto(linear, rgb / _F(12.92), where=rgb <= 0.04045)
    return linear


def _encode(linear: Array) -> Array:
    gamma: Array = _F(1.055) * _power(linear, 1 / 2.4) - _F(0.055)
    np.copyto(gamma, _F(12.92) * linear, where=linear <= 0.0031308)
    return gamma


def _power(base: Array, exponent: float) -> Array:
    """``base ** exponent`` of non-negative float32: faster than ``np.power``, relative error about 1e-6."""
    result: Array = np.maximum(base, _F(1e-12))
    np.log(result, out=result)
    result *= _F(exponent)
    return np.exp(result, out=result)
