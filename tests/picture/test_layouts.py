"""Sample layouts of every format against their plain twin: the same pixels, or a refusal as ``unsupported``."""

import fnmatch
import io
import re
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
import pillow_heif
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from helpers.hostile import ADOBE_RGB, encode, icc_gamma, icc_profile, png_chunk, rgb_profile
from helpers.paths import ROOT
from moslens import Scorer
from moslens.errors import CorruptImage, TruncatedImage, UnsupportedImage
from moslens.picture.load import decode, load

HEIGHT, WIDTH = 80, 96
GREY = 128
Array = NDArray[Any]


class Case(NamedTuple):
    """``make`` gives the file, ``twin`` what it shows, h x w x 3; ``near`` is the mean error in levels allowed."""

    make: Callable[[], bytes]
    twin: Callable[[], Array]
    near: float = 0.6


@cache
def colour() -> Array:
    """Gradients to 0 and 255, edges and texture, different in each channel: h x w x 3 of 8 bits."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] / np.array([HEIGHT, WIDTH]).reshape(2, 1, 1)
    rng = np.random.default_rng(3)
    planes = [280 * x - 10, 270 * (1 - y), 130 + 140 * np.sin(7 * x + 5 * y * y)]
    smooth = np.stack(planes, -1) + 40 * ((x > 0.4) & (y < 0.5))[..., None]
    return (smooth + rng.normal(0, 5, smooth.shape)).clip(0, 255).astype(np.uint8)


@cache
def grey() -> Array:
    return np.ascontiguousarray(colour()[..., 0])


@cache
def alpha() -> Array:
    levels = np.linspace(0, 280, WIDTH).clip(20, 255)
    return np.broadcast_to(levels, (HEIGHT, WIDTH)).astype(np.uint8)


def shown(levels: Array) -> Array:
    return np.repeat(levels[..., None], 3, 2) if levels.ndim == 2 else levels


def over_grey(levels: Array, opacity: Array) -> Array:
    share = opacity[..., None] / 255
    return (shown(levels) * share + GREY * (1 - share)).round()


def deep(levels: Array, bits: int) -> Array:
    """8-bit levels as integers of ``bits`` bits, white at the top."""
    kind = np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32
    return np.round(levels.astype(np.float64) * ((1 << bits) - 1) / 255).astype(kind)


def at_depth(levels: Array, bits: int) -> Array:
    """What is left of 8-bit levels in ``bits`` bits, in 8 bits again."""
    return np.round(deep(levels, bits).astype(np.float64) * 255 / ((1 << bits) - 1))


def packed(samples: Array, bits: int) -> bytes:
    """Rows (h x ...) of samples packed to ``bits`` bits, the highest bit first, each row to a whole byte."""
    rows = samples.reshape(len(samples), -1, 1)
    return np.packbits((rows >> np.arange(bits)[::-1] & 1).astype(np.uint8).reshape(len(samples), -1), axis=1).tobytes()


# TIFF, written by tifffile.


def tiff(samples: Array, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, samples, metadata=None, **options)
    return file.getvalue()


def tiff_by_hand(order: str, tags: dict[int, tuple[str, tuple[int, ...]]], strips: list[bytes]) -> bytes:
    """A TIFF with the given tags, (struct letter, values) each, and uncompressed ``strips`` (a plane each)."""
    kinds = {"H": 3, "I": 4, "B": 1, "f": 11}
    tags = tags | {273: ("I", (0,) * len(strips)), 279: ("I", tuple(map(len, strips)))}
    start = 8 + 2 + 12 * len(tags) + 4
    room = sum(struct.calcsize(f"={len(v)}{k}") for k, v in tags.values())
    first = start + room + 64
    tags[273] = ("I", tuple(int(first + n) for n in np.cumsum([0, *map(len, strips[:-1])])))
    table, data = b"", b""
    for tag, (kind, values) in sorted(tags.items()):
        value = struct.pack(f"{order}{len(values)}{kind}", *values)
        if len(value) > 4:
            place = struct.pack(order + "I", start + len(data))
            data += value
        else:
            place = value.ljust(4, b"\0")
        table += struct.pack(order + "HHI", tag, kinds[kind], len(values)) + place
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(tags))
    return (head + table + bytes(4) + data).ljust(first, b"\0") + b"".join(strips)


def plain_tags(photometric: int, bits: int, samples: int, **more: Any) -> dict[int, tuple[str, tuple[int, ...]]]:
    tags = {
        256: ("H", (WIDTH,)), 257: ("H", (HEIGHT,)), 258: ("H", (bits,) * samples), 259: ("H", (1,)),
        262: ("H", (photometric,)), 277: ("H", (samples,)), 278: ("H", (HEIGHT,)),
    }  # fmt: skip
    return tags | more.get("tags", {})


STORAGE: dict[str, dict[str, Any]] = {
    "none": {},
    "lzw": {"compression": "lzw"},
    "deflate": {"compression": "adobe_deflate"},
    "packbits": {"compression": "packbits"},
    "zstd": {"compression": "zstd"},
    "lzma": {"compression": "lzma"},
    "lzw predictor": {"compression": "lzw", "predictor": 2},
    "deflate predictor": {"compression": "adobe_deflate", "predictor": 2},
    "packbits predictor": {"compression": "packbits", "predictor": 2},
    "tiles": {"tile": (32, 48)},
    "tiles deflate predictor": {"tile": (32, 48), "compression": "adobe_deflate", "predictor": 2},
    "strips": {"rowsperstrip": 7},
    "strips lzw predictor": {"rowsperstrip": 7, "compression": "lzw", "predictor": 2},
    "big": {"bigtiff": True},
}
EXTRA = {"unspecified": 0, "associated": 1, "unassociated": 2}


STORED = [(order, *item) for order, item in product("<>", STORAGE.items()) if (order, item[0]) != (">", "big")]


def tiff_cases() -> Iterator[tuple[str, Case]]:  # noqa: PLR0912 - one branch a family
    yield "bigtiff big-endian", tiff_case(8, ">", "rgb", {"bigtiff": True})
    for bits, (order, storage, options) in product((8, 16), STORED):
        for kind in ("grey", "miniswhite", "rgb", "rgb planar", "cmyk", "cmyk planar"):
            yield f"tiff {bits} bits {kind} {order} {storage}", tiff_case(bits, order, kind, options)
        for planar, extra in product((False, True), EXTRA):
            name = f"tiff {bits} bits rgb + {extra} {'planar ' * planar}{order} {storage}"
            yield name, tiff_alpha(bits, order, extra, planar, options)
        for extra in EXTRA:
            yield f"tiff {bits} bits grey + {extra} {order} {storage}", tiff_grey_alpha(bits, order, extra, options)
    for bits, order, photometric, planar in product((1, 2, 4, 10, 12, 14), "<>", (0, 1, 2), (1, 2)):
        if photometric == 2 or planar == 1:
            name = f"tiff {bits} bits packed photometric {photometric} planar {planar} {order}"
            yield name, tiff_packed(bits, order, photometric, planar)
    for used, stored, order in product((4, 5, 6, 7, 9, 10, 12, 14), (8, 16), "<>"):
        if used < stored:
            for kind in ("grey", "miniswhite", "rgb", "rgb planar"):
                case = tiff_case(stored, order, kind, {"extratags": [(281, 3, 1, (1 << used) - 1, True)]}, used)
                yield f"tiff {used} bits in {stored} {kind} {order}", case
    for statistic in (40_000, 65_000, 200):
        options = {"extratags": [(281, 3, 1, statistic, True)]}
        yield f"tiff 16 bits MaxSampleValue {statistic}", tiff_case(16, "<", "grey", options)
    for bits, order in product((8, 16, 32), "<>"):
        yield f"tiff signed {bits} bits from 0 {order}", tiff_signed(bits, order, 0)
        yield f"tiff signed {bits} bits from below {order}", tiff_signed(bits, order, -(1 << bits - 1))
    for order, storage, options in STORED:
        unsigned = deep(grey(), 32)
        yield (
            f"tiff 32 bits grey {order} {storage}",
            Case(
                lambda u=unsigned, o=order, s=options: tiff(u, byteorder=o, photometric="minisblack", **s),
                lambda: shown(grey()),
            ),
        )
        for size, photometric in product((16, 32, 64), ("minisblack", "miniswhite", "rgb")):
            yield f"tiff float {size} {photometric} {order} {storage}", tiff_float(size, photometric, order, options)
    for bits, order in product((16, 32), "<>"):
        options = {"compression": "adobe_deflate", "predictor": 3}
        yield f"tiff float {bits} predictor 3 {order}", tiff_float(bits, "minisblack", order, options)
    for wide, (order, storage, options) in product((True, False), STORED):
        if "predictor" not in storage:
            yield f"tiff palette {16 if wide else 8}-bit map {order} {storage}", tiff_palette(order, wide, options)
    for name, levels in (("grey", grey()), ("colour", colour())):
        yield (
            f"tiff jpeg {name}",
            Case(lambda v=levels: encode(v, "TIFF", compression="jpeg", quality=95), lambda v=levels: shown(v), 8),
        )
    for order, tagged, step in product("<>", (True, False), (1, 2)):
        if tagged or step == 2:
            yield f"tiff ycbcr {step} {'tagged' if tagged else 'untagged'} {order}", tiff_ycbcr(order, tagged, step)
    yield "tiff lab", Case(lambda: encode(Image.new("LAB", (WIDTH, HEIGHT), (99, 9, 9)), "TIFF"), colour)
    yield (
        "tiff inks",
        Case(
            lambda: tiff(np.dstack([colour(), grey()]), photometric="separated", extratags=[(332, 3, 1, 2, True)]),
            colour,
        ),
    )


def tiff_case(bits: int, order: str, kind: str, options: dict[str, Any], used: int = 0) -> Case:
    def make() -> bytes:
        white = (1 << (used or bits)) - 1
        samples = deep(grey() if kind in ("grey", "miniswhite") else colour(), used or bits)
        if kind == "miniswhite":
            samples = (white - samples).astype(samples.dtype)
        if kind.startswith("cmyk"):
            samples = np.concatenate([white - samples, np.zeros_like(samples[..., :1])], -1).astype(samples.dtype)
        samples = samples.astype(np.uint8 if bits == 8 else np.uint16)
        photometric = {"grey": "minisblack", "miniswhite": "miniswhite", "rgb": "rgb", "cmyk": "separated"}
        more: dict[str, Any] = {"photometric": photometric[kind.split(maxsplit=1)[0]], "byteorder": order} | options
        if kind.endswith("planar"):
            samples, more["planarconfig"] = np.moveaxis(samples, -1, 0), "separate"
        return tiff(np.ascontiguousarray(samples), **more)

    single = kind in ("grey", "miniswhite")
    return Case(make, lambda: at_depth(shown(grey()) if single else colour(), used or bits))


def tiff_alpha(bits: int, order: str, extra: str, planar: bool, options: dict[str, Any]) -> Case:
    def make() -> bytes:
        levels = colour() / 255 * (alpha()[..., None] / 255 if extra == "associated" else 1)
        samples = np.dstack([levels, alpha() / 255]) * ((1 << bits) - 1)
        samples = samples.round().astype(np.uint8 if bits == 8 else np.uint16)
        more: dict[str, Any] = {"photometric": "rgb", "byteorder": order, "extrasamples": [EXTRA[extra]]} | options
        if planar:
            samples, more["planarconfig"] = np.ascontiguousarray(np.moveaxis(samples, -1, 0)), "separate"
        return tiff(samples, **more)

    return Case(make, lambda: colour() if extra == "unspecified" else over_grey(colour(), alpha()), 1.0)


def tiff_grey_alpha(bits: int, order: str, extra: str, options: dict[str, Any]) -> Case:
    def make() -> bytes:
        levels = grey() / 255 * (alpha() / 255 if extra == "associated" else 1)
        samples = np.dstack([levels, alpha() / 255]) * ((1 << bits) - 1)
        samples = samples.round().astype(np.uint8 if bits == 8 else np.uint16)
        more = {"photometric": "minisblack", "byteorder": order, "planarconfig": "contig"} | options
        return tiff(samples, extrasamples=[EXTRA[extra]], **more)

    return Case(make, lambda: shown(grey()) if extra == "unspecified" else over_grey(grey(), alpha()), 1.0)


def tiff_packed(bits: int, order: str, photometric: int, planar: int) -> Case:
    def make() -> bytes:
        samples = deep(colour() if photometric == 2 else grey(), bits)
        if photometric == 0:
            samples = ((1 << bits) - 1 - samples).astype(samples.dtype)
        count = 3 if photometric == 2 else 1
        planes = [samples[..., i] for i in range(3)] if planar == 2 else [samples]
        tags = plain_tags(photometric, bits, count, tags={284: ("H", (planar,))})
        return tiff_by_hand(order, tags, [packed(plane, bits) for plane in planes])

    return Case(make, lambda: at_depth(colour() if photometric == 2 else shown(grey()), bits))


def tiff_signed(bits: int, order: str, low: int) -> Case:
    def make() -> bytes:
        levels = grey().astype(np.float64) / 255
        top = (1 << bits - 1) - 1
        samples = np.round(low + levels * (top - low)).astype(f"i{bits // 8}")
        return tiff(samples, byteorder=order, photometric="minisblack")

    return Case(make, lambda: at_depth(shown(grey()), min(bits - 1, 16)) if low == 0 else shown(grey()))


def tiff_float(size: int, photometric: str, order: str, options: dict[str, Any]) -> Case:
    def make() -> bytes:
        levels = (colour() if photometric == "rgb" else grey()) / 255
        if photometric == "miniswhite":
            levels = 1 - levels
        return tiff(levels.astype(f"f{size // 8}"), photometric=photometric, byteorder=order, **float_options(options))

    return Case(make, lambda: colour() if photometric == "rgb" else shown(grey()))


def float_options(options: dict[str, Any]) -> dict[str, Any]:
    """Predictor 2 is for integers; floats have predictor 3."""
    return options | {"predictor": 3} if options.get("predictor") == 2 else options


def tiff_palette(order: str, wide: bool, options: dict[str, Any]) -> Case:
    indices = np.asarray(Image.fromarray(colour()).quantize(200))
    palette = np.array(Image.fromarray(colour()).quantize(200).getpalette(), np.uint16).reshape(-1, 3)
    palette = np.concatenate([palette, np.zeros((256 - len(palette), 3), np.uint16)])

    def make() -> bytes:
        entries = palette.T * (257 if wide else 1)
        return tiff(indices, photometric="palette", colormap=entries.astype(np.uint16), byteorder=order, **options)

    return Case(make, lambda: palette[indices])


def tiff_ycbcr(order: str, tagged: bool, step: int) -> Case:
    values = np.asarray(Image.fromarray(colour()).convert("YCbCr"))
    luma = values[..., 0].reshape(HEIGHT // step, step, WIDTH // step, step).swapaxes(1, 2)
    chroma = values[..., 1:].reshape(HEIGHT // step, step, WIDTH // step, step, 2).mean((1, 3)).round()

    def make() -> bytes:
        units = np.concatenate([luma.reshape(*luma.shape[:2], -1), chroma], -1).astype(np.uint8)
        tags = plain_tags(6, 8, 3) | ({530: ("H", (step, step))} if tagged else {})
        return tiff_by_hand(order, tags, [units.tobytes()])

    def twin() -> Array:
        spread = chroma.repeat(step, 0).repeat(step, 1)
        image = Image.fromarray(np.concatenate([values[..., :1], spread], -1).astype(np.uint8), "YCbCr")
        return np.asarray(image.convert("RGB"))

    return Case(make, twin, 0.1)


# PNG, written here.

ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
LINEAR_D65 = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))


def png(samples: Array, bits: int, kind: int, chunks: bytes = b"", interlaced: bool = False) -> bytes:
    samples = samples.reshape(HEIGHT, WIDTH, CHANNELS[kind])
    passes = [samples[y::down, x::across] for y, x, down, across in ADAM7] if interlaced else [samples]
    rows = b""
    for part in passes:
        size = len(part) and len(packed(part, bits)) // len(part)
        data = packed(part, bits)
        rows += b"".join(b"\0" + data[i * size : (i + 1) * size] for i in range(len(part)))
    head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, kind, 0, 0, interlaced)
    body = png_chunk(b"IHDR", head) + chunks + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def light_of(levels: Array) -> Array:
    share = levels / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def srgb_of(light: Array) -> Array:
    return np.where(light > 0.0031308, 1.055 * light ** (1 / 2.4) - 0.055, 12.92 * light)


def pq(light: Array) -> Array:
    root = (np.maximum(light, 0) * 203 / 10000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * root) / (1 + 18.6875 * root)) ** 78.84375


def hlg(light: Array) -> Array:
    scene = np.maximum(light, 0) * 0.26496256
    return np.where(
        scene <= 1 / 12, np.sqrt(3 * scene), 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    )


# From linear sRGB to linear BT.2020 (ITU-R BT.2087).
BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])


def icc_chunk(profile: bytes) -> bytes:
    return png_chunk(b"iCCP", b"p\0\0" + zlib.compress(profile))


def transfers(kind: int) -> dict[str, tuple[bytes, Callable[[Array], Array]]]:
    """Chunks that say how samples are meant, each with what turns 8-bit sRGB levels into samples of 0 to 1."""
    profile = (
        rgb_profile(LINEAR_D65, 1.0) if kind in (2, 3, 6) else icc_profile(b"GRAY", {b"kTRC": icc_gamma(1.0)})
    )  # fmt: skip
    same: Callable[[Array], Array] = lambda levels: levels / 255  # noqa: E731
    found = {
        "gAMA sRGB": (png_chunk(b"gAMA", struct.pack(">I", 45455)), same),
        "gAMA linear": (png_chunk(b"gAMA", struct.pack(">I", 100_000)), light_of),
        "sRGB and gAMA linear": (png_chunk(b"sRGB", b"\0") + png_chunk(b"gAMA", struct.pack(">I", 100_000)), same),
        "iCCP linear": (icc_chunk(profile), light_of),
        "cICP sRGB": (png_chunk(b"cICP", bytes([1, 13, 0, 1])), same),
        "cICP linear": (png_chunk(b"cICP", bytes([1, 8, 0, 1])), light_of),
        "cICP PQ": (png_chunk(b"cICP", bytes([1, 16, 0, 1])), lambda levels: pq(light_of(levels))),
        "cICP HLG": (png_chunk(b"cICP", bytes([1, 18, 0, 1])), lambda levels: hlg(light_of(levels))),
        "cICP unknown": (png_chunk(b"cICP", bytes([1, 17, 0, 1])), same),
        "cICP narrow": (png_chunk(b"cICP", bytes([1, 13, 0, 0])), same),
    }
    if kind in (2, 6):
        found["cICP BT.2020 PQ"] = (
            png_chunk(b"cICP", bytes([9, 16, 0, 1])), lambda levels: pq(light_of(levels) @ BT2020.T)
        )  # fmt: skip
    return found


def png_cases() -> Iterator[tuple[str, Case]]:
    kinds = [(0, bits) for bits in (1, 2, 4, 8, 16)] + [(3, bits) for bits in (1, 2, 4, 8)]
    kinds += [(kind, bits) for kind in (2, 4, 6) for bits in (8, 16)]
    for (kind, bits), interlaced, keyed in product(kinds, (False, True), (False, True)):
        if kind not in (4, 6) or not keyed:
            yield (
                f"png {bits} bits kind {kind}{' interlaced' * interlaced}{' tRNS' * keyed}",
                png_case(bits, kind, interlaced, keyed),
            )
    for (kind, bits), interlaced in product(
        [(0, 8), (0, 16), (2, 8), (2, 16), (4, 8), (4, 16), (6, 8), (6, 16)], (False, True)
    ):
        for name, (chunk, curve) in transfers(kind).items():
            yield (
                f"png {bits} bits kind {kind} {name}{' interlaced' * interlaced}",
                png_lit(bits, kind, chunk, curve, interlaced),
            )


def png_case(bits: int, kind: int, interlaced: bool, keyed: bool) -> Case:
    picture = Image.fromarray(colour()).quantize(1 << bits) if kind == 3 else None
    levels = grey() if kind in (0, 4) else colour()
    white = (1 << bits) - 1

    def parts() -> tuple[Array, bytes, Array]:
        if picture is not None:
            indices = np.asarray(picture)
            palette = np.array(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)
            opacity = np.full(len(palette), 255)
            opacity[len(palette) // 2] = 77
            chunks = png_chunk(b"PLTE", palette.tobytes())
            chunks += png_chunk(b"tRNS", bytes(opacity.tolist())) if keyed else b""
            twin = over_grey(palette[indices], opacity[indices]) if keyed else palette[indices]
            return indices, chunks, twin
        samples = deep(levels, bits)
        if kind in (4, 6):
            return np.dstack([samples, deep(alpha(), bits)]), b"", over_grey(levels, alpha())
        twin = at_depth(shown(levels), bits)
        if not keyed:
            return samples, b"", twin
        if kind == 2:  # one that differs from a transparent colour in its last bit is opaque
            samples[5:15] = samples[0, 0]
            samples[15:25] = samples[0, 0] ^ 1
            hidden = (samples == samples[0, 0]).all(-1)
            key = samples[0, 0]
        else:
            key = samples[HEIGHT // 2, WIDTH // 2]
            hidden = samples == key
        twin = np.where(hidden[..., None], GREY, shown(samples) * 255.0 / white)
        return samples, png_chunk(b"tRNS", struct.pack(f">{np.size(key)}H", *np.atleast_1d(key).tolist())), twin

    def make() -> bytes:
        samples, chunks, _ = parts()
        return png(samples, bits, kind, chunks, interlaced)

    return Case(make, lambda: parts()[2], 0.7)


def png_lit(bits: int, kind: int, chunk: bytes, curve: Callable[[Array], Array], interlaced: bool) -> Case:
    levels = grey() if kind in (0, 4) else colour()

    def make() -> bytes:
        samples = np.round(curve(levels) * ((1 << bits) - 1)).astype(np.uint16)
        if kind in (4, 6):
            samples = np.dstack([samples, deep(alpha(), bits)])
        return png(samples, bits, kind, chunk, interlaced)

    twin = (lambda: over_grey(levels, alpha())) if kind in (4, 6) else (lambda: shown(levels))
    return Case(make, twin, 0.7 if bits == 16 else 2.5)


# JPEG 2000, written by imagecodecs.


def jpeg2000_cases() -> Iterator[tuple[str, Case]]:
    for bits, kind, container, reversible in product(
        range(1, 17), ("grey", "rgb", "grey alpha", "rgba"), ("jp2", "j2k"), (True, False)
    ):
        if reversible or bits >= 8:
            yield (
                f"{container} {bits} bits {kind}{'' if reversible else ' irreversible'}",
                jpeg2000(bits, kind, container, reversible),
            )
    for bits in (8, 12, 16):
        yield f"jp2 signed {bits} bits", jpeg2000(bits, "grey", "jp2", True, True)


def jpeg2000(bits: int, kind: str, container: str, reversible: bool, signed: bool = False) -> Case:
    levels = grey() if kind.startswith("grey") else colour()
    clear = kind in ("grey alpha", "rgba")

    def make() -> bytes:
        samples = deep(levels, bits)
        if clear:
            samples = np.dstack([samples, deep(alpha(), bits)])
        if signed:
            samples = (samples.astype(np.int32) - (1 << bits - 1)).astype(np.int8 if bits <= 8 else np.int16)
        data: bytes = imagecodecs.jpeg2k_encode(
            samples, level=0 if reversible else 90, reversible=reversible, bitspersample=bits, codecformat=container
        )
        return data

    def twin() -> Array:
        kept = at_depth(levels, bits)
        return over_grey(kept, at_depth(alpha(), bits)) if clear else shown(kept)

    return Case(make, twin, 0.7 if reversible else 1.2)


# BMP, TGA, ICO, PNM, SGI, PCX, DDS, QOI, GIF, WebP, AVIF, HEIC.


def bmp(
    header: int, bits: int, rows: bytes, compression: int = 0, masks: bytes = b"", palette: bytes = b"", up: bool = True
) -> bytes:
    if header == 12:
        head = struct.pack("<IHHHH", 12, WIDTH, HEIGHT, 1, bits)
    else:
        height = HEIGHT if up else -HEIGHT
        head = struct.pack(
            "<IiiHHIIiiII", header, WIDTH, height, 1, bits, compression, len(rows), 0, 0, len(palette) // 4, 0
        )
        head = (head + (masks if header > 40 else b"")).ljust(header, b"\0") + (masks[:12] if header == 40 else b"")
    start = 14 + len(head) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + head + palette + rows


def padded_rows(samples: Array, bits: int, up: bool = True) -> bytes:
    data = np.frombuffer(packed(samples, bits), np.uint8).reshape(HEIGHT, -1)
    data = np.pad(data, ((0, 0), (0, -data.shape[1] % 4)))
    return data[::-1].tobytes() if up else data.tobytes()


def bmp_cases() -> Iterator[tuple[str, Case]]:
    for header, bits in product((12, 40, 52, 56, 64, 108, 124), (1, 4, 8)):
        picture = Image.fromarray(colour()).quantize(1 << bits)
        levels = np.array(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)
        levels = np.concatenate([levels, np.zeros(((1 << bits) - len(levels), 3), np.uint8)])
        entries = levels[:, ::-1].tobytes() if header == 12 else np.insert(levels[:, ::-1], 3, 0, 1).tobytes()
        indices = np.asarray(picture)
        yield (
            f"bmp {bits} bits header {header}",
            Case(
                lambda h=header, b=bits, i=indices, e=entries: bmp(h, b, padded_rows(i, b), palette=e),
                lambda v=levels, i=indices: v[i],
            ),
        )
    bgr = colour()[..., ::-1]
    for header, up in product((12, 40, 52, 56, 108, 124), (True, False)):
        if header == 12 and not up:
            continue
        yield (
            f"bmp 24 bits header {header} up {up}",
            Case(lambda h=header, u=up: bmp(h, 24, padded_rows(bgr, 8, u), up=u), colour),
        )
        if header > 12:
            for fourth in (0, 255, "alpha"):

                def make(h: int = header, u: bool = up, f: Any = fourth) -> bytes:
                    byte = alpha() if f == "alpha" else np.full_like(grey(), f)
                    return bmp(h, 32, padded_rows(np.dstack([bgr, byte]), 8, u), up=u)

                yield f"bmp 32 bits header {header} up {up} fourth byte {fourth}", Case(make, colour)
                masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)

                def fields(h: int = header, u: bool = up, f: Any = fourth, m: bytes = masks) -> bytes:
                    byte = alpha() if f == "alpha" else np.full_like(grey(), f)
                    return bmp(h, 32, padded_rows(np.dstack([bgr, byte]), 8, u), 3, m, up=u)

                clear = fourth == "alpha" and header >= 56
                yield (
                    f"bmp 32 bits fields header {header} up {up} fourth byte {fourth}",
                    Case(fields, (lambda: over_grey(colour(), alpha())) if clear else colour),
                )
    for green, header in product((5, 6), (40, 56, 124)):
        red, mask = (10 if green == 5 else 11), ((1 << green) - 1) << 5
        masks = struct.pack("<4I", 0x1F << red, mask, 0x1F, 0)

        def sixteen(g: int = green, r: int = red, h: int = header, m: bytes = masks) -> bytes:
            parts = [deep(colour()[..., i], b).astype(np.uint16) for i, b in ((0, 5), (1, g), (2, 5))]
            rows = (parts[0] << r | parts[1] << 5 | parts[2]).astype("<u2")
            return bmp(h, 16, rows[::-1].tobytes(), 3, m)

        yield (
            f"bmp 16 bits 5-{green}-5 header {header}",
            Case(
                sixteen,
                lambda g=green: np.stack([at_depth(colour()[..., i], b) for i, b in ((0, 5), (1, g), (2, 5))], -1),
                2,
            ),
        )


def tga(
    kind: int, depth: int, attributes: int, body: bytes, palette: bytes = b"", map_depth: int = 0, footer: bool = True
) -> bytes:
    count = len(palette) * 8 // map_depth if map_depth else 0
    head = struct.pack(
        "<BBBHHBHHHHBB", 0, bool(count), kind, 0, count, map_depth, 0, 0, WIDTH, HEIGHT, depth, attributes
    )
    return head + palette + body + (bytes(8) + b"TRUEVISION-XFILE.\0" if footer else b"")


def run_lengths(rows: Array) -> bytes:
    """Packets of TGA, all of them raw, of at most 96 pixels (a row)."""
    return b"".join(bytes([WIDTH - 1]) + row.tobytes() for row in rows)


def tga_cases() -> Iterator[tuple[str, Case]]:
    bgr = colour()[..., ::-1]
    for packed_up, origin in product((False, True), (0, 0x10, 0x20, 0x30)):

        def stored(samples: Array, o: int = origin, p: bool = packed_up) -> bytes:
            rows = samples if o & 0x20 else samples[::-1]
            rows = rows[:, ::-1] if o & 0x10 else rows
            rows = np.ascontiguousarray(rows)
            return run_lengths(rows) if p else rows.tobytes()

        run, where = 8 * packed_up, f"{'rle ' * packed_up}origin {origin:#x}"
        yield (
            f"tga grey {where}",
            Case(lambda s=stored, r=run, o=origin: tga(3 + r, 8, o, s(grey())), lambda: shown(grey())),
        )
        yield f"tga 24 bits {where}", Case(lambda s=stored, r=run, o=origin: tga(2 + r, 24, o, s(bgr)), colour)
        for bits, fourth in product((0, 8), ("zero", "full", "alpha")):
            if (bits, fourth) == (8, "zero"):
                continue
            byte = {"zero": np.zeros_like(grey()), "full": np.full_like(grey(), 255), "alpha": alpha()}[fourth]
            clear = bits == 8 and fourth == "alpha"
            yield (
                f"tga 32 bits, {bits} of alpha, {fourth} {where}",
                Case(
                    lambda s=stored, r=run, o=origin, b=bits, f=byte: tga(2 + r, 32, o | b, s(np.dstack([bgr, f]))),
                    (lambda: over_grey(colour(), alpha())) if clear else colour,
                ),
            )
            yield (
                f"tga grey and 8 bits, {bits} of alpha, {fourth} {where}",
                Case(
                    lambda s=stored, r=run, o=origin, b=bits, f=byte: tga(3 + r, 16, o | b, s(np.dstack([grey(), f]))),
                    (lambda: over_grey(grey(), alpha())) if clear else (lambda: shown(grey())),
                ),
            )
        for bits, top in product((0, 1), ("zero", "one", "mixed")):

            def fifteen(s: Any = stored, r: int = run, o: int = origin, b: int = bits, t: str = top) -> bytes:
                parts = [deep(colour()[..., i], 5).astype(np.uint16) for i in range(3)]
                bit = {"zero": 0, "one": 0x8000, "mixed": np.where(grey() > 99, 0x8000, 0)}[t]
                return tga(2 + r, 16, o | b, s((parts[0] << 10 | parts[1] << 5 | parts[2] | bit).astype("<u2")))

            yield f"tga 16 bits, {bits} of alpha, {top} {where}", Case(fifteen, lambda: at_depth(colour(), 5), 4.5)
        picture = Image.fromarray(colour()).quantize(256)
        levels, indices = np.array(picture.getpalette("RGB"), np.uint8).reshape(-1, 3), np.asarray(picture)
        for depth in (24, 32):
            entries = levels[:, ::-1] if depth == 24 else np.insert(levels[:, ::-1], 3, 0, 1)
            yield (
                f"tga palette of {depth} bits {where}",
                Case(
                    lambda s=stored, r=run, o=origin, i=indices, e=entries, d=depth: tga(
                        1 + r, 8, o, s(i), e.tobytes(), d
                    ),
                    lambda v=levels, i=indices: v[i],
                ),
            )


def ico(fourth: Array, mask: Array | None) -> bytes:
    rows = np.dstack([colour()[..., ::-1], fourth])[::-1].tobytes()
    head = struct.pack("<IiiHHIIiiII", 40, WIDTH, 2 * HEIGHT, 1, 32, 0, 0, 0, 0, 0, 0)
    body = head + rows + (b"" if mask is None else padded_rows(mask.astype(np.uint8), 1))
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, WIDTH, HEIGHT, 0, 0, 1, 32, len(body), 22) + body


def pnm(magic: str, maxval: int, samples: Array) -> bytes:
    top = b"" if magic in ("P1", "P4") else b"%d\n" % maxval
    head = f"{magic}\n{WIDTH} {HEIGHT}\n".encode() + top
    if magic in ("P1", "P2", "P3"):
        return head + " ".join(map(str, samples.ravel().tolist())).encode() + b"\n"
    if magic == "P4":
        return head + packed(samples, 1)
    return head + samples.astype(">u2" if maxval > 255 else np.uint8).tobytes()


def sgi(samples: Array, size: int) -> bytes:
    planes = samples.reshape(HEIGHT, WIDTH, -1)
    count = planes.shape[2]
    head = struct.pack(">HBBHHHHII", 474, 0, size, 2 if count == 1 else 3, WIDTH, HEIGHT, count, 0, 255).ljust(
        512, b"\0"
    )
    return head + np.moveaxis(planes, -1, 0)[:, ::-1].astype(f">u{size}").tobytes()


def pfm(samples: Array, scale: float) -> bytes:
    kind = b"PF" if samples.ndim == 3 else b"Pf"
    data = samples[::-1].astype("<f4" if scale < 0 else ">f4").tobytes()
    return kind + b"\n%d %d\n%.1f\n" % (WIDTH, HEIGHT, scale) + data


def heic(samples: Array, mode: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image = pillow_heif.from_bytes(mode, (WIDTH, HEIGHT), np.ascontiguousarray(samples).tobytes())
    image.save(file, quality=-1, chroma=444, **options)
    return file.getvalue()


def avif(samples: Array, bits: int, primaries: int = 1, transfer: int = 13, matrix: int = 6) -> bytes:
    kinds = imagecodecs.AVIF.PIXEL_FORMAT
    data: bytes = imagecodecs.avif_encode(
        samples, level=97, speed=9, bitspersample=bits, pixelformat=kinds.YUV400 if samples.ndim == 2 else kinds.YUV444,
        primaries=primaries, transfer=transfer, matrix=matrix,
    )  # fmt: skip
    return data


def with_aperture(data: bytes, left: int, top: int) -> bytes:
    """An AVIF with a clean aperture (property ``clap``) that leaves out ``left`` columns and ``top`` rows."""
    clap = struct.pack(">I4s4I", 40, b"clap", WIDTH - left, 1, HEIGHT - top, 1) + struct.pack(">iIiI", left, 2, top, 2)
    file, count = bytearray(data), 0
    at = data.index(b"ipma") - 4
    (size,) = struct.unpack_from(">I", data, data.index(b"ipco") - 4)
    place, inside = data.index(b"ipco") - 4 + 8, 0
    while inside < size - 8:
        inside += struct.unpack_from(">I", data, place + inside)[0]
        count += 1
    links = at + 8 + 4 + 4 + 2  # box, version, entries, then the number of the first item
    file[links] += 1
    file[links + 1 : links + 1] = bytes([0x80 | count + 1])
    file[at:at] = clap
    for name, more in ((b"ipco", 40), (b"ipma", 1), (b"iprp", 41), (b"meta", 41)):
        box = file.index(name) - 4
        struct.pack_into(">I", file, box, struct.unpack_from(">I", file, box)[0] + more)
    box = file.index(b"iloc") + 4
    version, sizes = file[box], struct.unpack_from(">HH", file, box + 4)
    assert (sizes[0] >> 12, version < 2) == (4, True)
    at = box + 8
    for _ in range(sizes[1]):
        at += 4 + 2 * (version == 1) + (sizes[0] >> 4 & 15)
        extents, at = struct.unpack_from(">H", file, at)[0], at + 2
        for _ in range(extents):
            struct.pack_into(">I", file, at, struct.unpack_from(">I", file, at)[0] + 41)
            at += 4 + (sizes[0] >> 8 & 15)
    return bytes(file)


def white_first() -> bytes:
    """A PCX of one bit whose palette says that 0 is white."""
    data = encode(Image.fromarray(grey() > 127), "PCX")
    return data[:16] + b"\xff\xff\xff\0\0\0" + data[22:]


def other_cases() -> Iterator[tuple[str, Case]]:
    zero, full = np.zeros_like(grey()), np.full_like(grey(), 255)
    seen = alpha() < 128
    yield "ico alpha", Case(lambda: ico(alpha(), seen), lambda: over_grey(colour(), alpha()))
    yield "ico opaque", Case(lambda: ico(full, np.zeros_like(seen)), colour)
    yield "ico alpha unused", Case(lambda: ico(zero, np.zeros_like(seen)), colour)
    yield "ico alpha unused, mask", Case(lambda: ico(zero, seen), lambda: np.where(seen[..., None], GREY, colour()))
    yield "ico alpha unused, no mask", Case(lambda: ico(zero, None), colour)
    yield (
        "ico png",
        Case(
            lambda: encode(np.dstack([colour(), alpha()]), "ICO", sizes=[(WIDTH, HEIGHT)]),
            lambda: over_grey(colour(), alpha()),
        ),
    )
    for magic in ("P1", "P4"):
        yield f"pnm {magic}", Case(lambda m=magic: pnm(m, 1, 1 - deep(grey(), 1)), lambda: at_depth(shown(grey()), 1))
    for magic, maxval in product(("P2", "P3", "P5", "P6"), (1, 15, 100, 255, 1023, 4095, 65535)):
        levels = grey() if magic in ("P2", "P5") else colour()
        yield (
            f"pnm {magic} maxval {maxval}",
            Case(
                lambda m=magic, v=maxval, s=levels: pnm(m, v, np.round(s / 255 * v).astype(np.uint16)),
                lambda v=maxval, s=levels: np.round(np.round(shown(s) / 255 * v) / v * 255),
            ),
        )
    for scale in (-1.0, 1.0, -2.0):
        yield f"pfm grey scale {scale}", Case(lambda s=scale: pfm(grey() / 255, s), lambda: shown(grey()))
    yield "pfm colour", Case(lambda: pfm(colour() / 255, -1.0), colour)
    for size, count in product((1, 2), (1, 3, 4)):
        levels = {1: grey(), 3: colour(), 4: np.dstack([colour(), alpha()])}[count]
        yield (
            f"sgi {size} bytes {count} channels",
            Case(
                lambda s=size, v=levels: sgi(deep(v, 8 * s), s),
                (lambda: over_grey(colour(), alpha())) if count == 4 else (lambda v=levels: shown(v)),
            ),
        )
    rgba = np.dstack([colour(), alpha()])
    for mode, levels in (("L", grey()), ("RGB", colour()), ("1", grey() > 127), ("P", None)):
        picture = Image.fromarray(colour()).quantize(200) if levels is None else Image.fromarray(levels)
        flat = np.asarray(picture.convert("RGB"))
        yield f"pcx {mode}", Case(lambda p=picture: encode(p, "PCX"), lambda f=flat: f)
        if mode != "1":
            yield (
                f"gif {mode}",
                Case(lambda p=picture: encode(p, "GIF"), lambda p=picture: np.asarray(p.convert("RGB")), 12),
            )
    yield (
        "pcx 1 bit, white first",
        Case(
            white_first,
            lambda: shown(255 - at_depth(grey(), 1)),
        ),
    )
    for name, levels in (("L", grey()), ("LA", np.dstack([grey(), alpha()])), ("RGB", colour()), ("RGBA", rgba)):
        twin = (
            (lambda v=levels: over_grey(v[..., :-1] if v.shape[2] == 4 else v[..., 0], alpha()))
            if "A" in name
            else (lambda v=levels: shown(v))
        )
        yield f"dds {name}", Case(lambda v=levels: encode(v, "DDS"), twin)
        if name in ("RGB", "RGBA"):
            yield f"qoi {name}", Case(lambda v=levels: encode(v, "QOI"), twin)
            yield f"webp lossless {name}", Case(lambda v=levels: encode(v, "WEBP", lossless=True, exact=True), twin)
            yield f"webp {name}", Case(lambda v=levels: encode(v, "WEBP", quality=95), twin, 9)
            yield f"avif {name}", Case(lambda v=levels: encode(v, "AVIF", quality=98, subsampling="4:4:4"), twin, 3)
    for kind in ("DXT1", "DXT3", "DXT5", "BC2", "BC3", "BC5"):
        source = colour() if kind == "BC5" else np.dstack([colour(), full])
        yield f"dds {kind}", Case(lambda k=kind, s=source: encode(s, "DDS", pixel_format=k), colour, 16)
    for mode, samples, twin in (
        ("RGB", colour(), colour), ("L", grey(), lambda: shown(grey())),
        ("RGBA", rgba, lambda: over_grey(colour(), alpha())),
        ("RGB;16", deep(colour(), 16), colour), ("RGBA;16", deep(rgba, 16), lambda: over_grey(colour(), alpha())),
        ("L;16", deep(grey(), 16), lambda: shown(grey())),
    ):  # fmt: skip
        yield f"heic {mode}", Case(lambda s=samples, m=mode: heic(s, m), twin, 4)
    for bits, (name, levels) in product((8, 10, 12), (("grey", grey()), ("colour", colour()), ("rgba", rgba))):
        twin = (lambda: over_grey(colour(), alpha())) if name == "rgba" else (lambda v=levels: shown(v))
        yield f"avif {bits} bits {name}", Case(lambda b=bits, v=levels: avif(deep(v, b), b), twin, 1.5)
    for bits, (name, curve) in product((10, 12), (("PQ", pq), ("HLG", hlg))):
        samples = np.round(curve(light_of(colour()) @ BT2020.T) * ((1 << bits) - 1)).astype(np.uint16)
        code = {"PQ": 16, "HLG": 18}[name]
        yield f"avif {bits} bits {name}", Case(lambda v=samples, b=bits, c=code: avif(v, b, 9, c, 9), colour, 6)
    lit = np.round(pq(light_of(colour()) @ BT2020.T) * 65535).astype(np.uint16)
    codes = {"color_primaries": 9, "transfer_characteristics": 16, "matrix_coefficients": 9, "full_range_flag": 1}
    yield "heic PQ", Case(lambda: heic(lit, "RGB;16", save_nclx_profile=True, **codes), colour, 7)
    yield "avif clean aperture", Case(lambda: with_aperture(avif(colour(), 8), 8, 16), lambda: colour()[16:, 8:], 2)
    inks = np.concatenate([255 - colour(), zero[..., None]], -1)

    def without_adobe() -> bytes:
        data = encode(Image.fromarray(255 - inks, "CMYK"), "JPEG", quality=95, subsampling=0)
        at = data.index(b"\xff\xeeVV"[:2] + b"\0\x0eAdobe")
        return data[:at] + data[at + 16 :]

    yield (
        "jpeg cmyk of adobe",
        Case(lambda: encode(Image.fromarray(inks, "CMYK"), "JPEG", quality=95, subsampling=0), colour, 7),
    )
    yield "jpeg cmyk without adobe", Case(without_adobe, colour, 7)
    yield "jpeg grey", Case(lambda: encode(grey(), "JPEG", quality=97), lambda: shown(grey()), 3)
    yield "jpeg colour", Case(lambda: encode(colour(), "JPEG", quality=97, subsampling=0), colour, 3)


LAYOUTS = {
    name: case
    for cases in (tiff_cases, png_cases, jpeg2000_cases, bmp_cases, tga_cases, other_cases)
    for name, case in cases()
}


def outcome(name: str) -> str:
    """ "scores" or "refused"; fails where pixels differ from the twin's."""
    case = LAYOUTS[name]
    data, twin = case.make(), case.twin()
    try:
        pixels = decode(data)
    except UnsupportedImage:
        return "refused"
    assert pixels.shape == twin.shape, name
    off = float(np.abs(pixels - twin.astype(np.float64)).mean())
    assert off <= case.near, f"{name}: {off:.2f} levels from its twin, {case.near} are allowed"
    return "scores"


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str]:
    return {name: outcome(name) for name in LAYOUTS}


def test_every_layout_shows_its_twin_or_is_refused(outcomes: dict[str, str]) -> None:
    assert len(LAYOUTS) == 2066
    assert sum(result == "scores" for result in outcomes.values()) == 1826


def listed(heading: str) -> list[str]:
    """The patterns of names, in backquotes, in the tables below a heading of the page on formats."""
    page = (ROOT / "docs/formats.md").read_text("utf-8")
    part = page.split(f"## {heading}\n")[1].split("\n## ")[0]
    return [pattern for line in part.splitlines() if line.startswith("|") for pattern in re.findall(r"`([^`]+)`", line)]


@pytest.mark.parametrize(("heading", "wanted"), [("What scores", "scores"), ("What is refused", "refused")])
def test_the_page_on_formats_is_true_and_complete(heading: str, wanted: str, outcomes: dict[str, str]) -> None:
    patterns = listed(heading)
    found = {pattern: fnmatch.filter(LAYOUTS, pattern) for pattern in patterns}
    assert [pattern for pattern, names in found.items() if not names] == []
    assert [name for names in found.values() for name in names if outcomes[name] != wanted] == []
    named = {name for names in found.values() for name in names}
    assert sorted(name for name, result in outcomes.items() if result == wanted and name not in named) == []


SCORED = [name for name in LAYOUTS if zlib.crc32(name.encode()) % 60 == 0]


def test_scores_are_those_of_the_twins(outcomes: dict[str, str]) -> None:
    """Half a point, for a sample of the layouts with 8 bits or more and without loss.

    Associated alpha of 8 bits rounds colours by a level, which is a loss: there a point in a picture of 96 px.
    """
    scorer, scores = Scorer(), {}
    assert len(SCORED) > 20
    for name in SCORED:
        case = LAYOUTS[name]
        if outcomes[name] == "scores" and case.near <= 1:
            twin = case.twin().round().astype(np.uint8)
            scores[name] = abs(scorer.score(case.make()).score - scorer.score(twin).score)
    assert len(scores) > 12
    assert {name: gap for name, gap in scores.items() if gap > (1.0 if "+ associated" in name else 0.5)} == {}


def test_hdr_is_noted_in_the_row() -> None:
    scorer = Scorer()
    for name in ("png 16 bits kind 2 cICP PQ", "avif 10 bits HLG", "heic PQ"):
        row = scorer.score(LAYOUTS[name].make()).to_row()
        twin = scorer.score(LAYOUTS[name].twin().astype(np.uint8)).to_row()
        assert row["notes"] == ["hdr", *twin["notes"]]
        assert abs(row["score"] - twin["score"]) <= 6, name


def test_light_above_white_keeps_its_order_and_leaves_the_rest_alone() -> None:
    ramp = np.linspace(0, 4, WIDTH) * np.ones((HEIGHT, 1))
    chunk = transfers(2)["cICP PQ"][0]
    samples = np.round(pq(np.repeat(ramp[..., None], 3, 2)) * 65535).astype(np.uint16)
    found = decode(png(samples, 16, 2, chunk))[0, :, 0].astype(int)
    plain = np.round(255 * srgb_of(ramp[0]))
    assert np.abs(found - plain)[ramp[0] < 0.75].max() <= 1
    assert (np.diff(found[ramp[0] > 0.75]) >= 0).all()
    assert found.max() == 255
    assert len(set(found[ramp[0] > 1].tolist())) > 10


def test_linear_light_of_16_bits_keeps_its_shadows() -> None:
    """A dark picture, 0 to 20 levels of 255: cut to 8 bits before its profile it would have a handful of levels."""
    dark = (colour() // 12).astype(np.uint8)
    samples = np.round(light_of(dark) * 65535).astype(np.uint16)
    for data in (
        png(samples, 16, 2, transfers(2)["iCCP linear"][0]),
        tiff(samples, photometric="rgb", iccprofile=rgb_profile(LINEAR_D65, 1.0)),
        tiff(np.ascontiguousarray(np.moveaxis(samples, -1, 0)), photometric="rgb", planarconfig="separate",
             iccprofile=rgb_profile(LINEAR_D65, 1.0), compression="lzw"),
    ):  # fmt: skip
        assert np.abs(decode(data).astype(int) - dark).max() <= 1


def test_a_matrix_profile_at_16_bits_agrees_with_little_cms_at_8() -> None:
    for profile in (rgb_profile(), rgb_profile(ADOBE_RGB, 1.8)):
        wide = decode(png(deep(colour(), 16), 16, 2, icc_chunk(profile)))
        narrow = decode(encode(colour(), "PNG", icc_profile=profile))
        assert np.abs(wide.astype(int) - narrow).max() <= 2
        assert np.abs(wide.astype(int) - colour()).max() > 10


@pytest.mark.parametrize("kind", ["curve", "function"])
def test_other_tone_curves_of_profiles(kind: str) -> None:
    """sRGB's own curve, as a table and as a function, on linear data of its own primaries: nothing changes."""
    steps = np.linspace(0, 255, 1024)
    table = b"curv\0\0\0\0" + struct.pack(">I", 1024) + np.round(light_of(steps) * 65535).astype(">u2").tobytes()
    numbers = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    function = b"para\0\0\0\0\0\3\0\0" + struct.pack(">5i", *(round(65536 * number) for number in numbers))
    profile = icc_profile(b"GRAY", {b"kTRC": table if kind == "curve" else function})
    assert np.abs(decode(png(deep(grey(), 16), 16, 0, icc_chunk(profile)))[..., 0].astype(int) - grey()).max() <= 1
    half = icc_profile(b"GRAY", {b"kTRC": function.replace(b"\0\3", b"\0\0")})  # the exponent alone: 2.4
    expected = 255 * srgb_of((grey() / 255) ** 2.4)
    assert np.abs(decode(png(deep(grey(), 16), 16, 0, icc_chunk(half)))[..., 0] - expected).max() <= 1.5


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_a_picture_that_nobody_sees_is_refused(format: str) -> None:
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
    clear = encode(np.dstack([colour(), np.zeros_like(grey())]), format, **options)
    with pytest.raises(UnsupportedImage, match="every pixel is transparent"):
        load(clear)
    one = np.zeros_like(grey())
    one[40, 40] = 255
    assert (decode(encode(np.dstack([colour(), one]), format, **options)) != GREY).any(-1).sum() == 1


@pytest.mark.parametrize("top", [1.004, 1.35])
def test_a_few_floats_above_white_do_not_change_the_scale(top: float) -> None:
    samples = (grey() / 255).astype(np.float32)
    samples[3, 5] = top
    for data in (tiff(samples, photometric="minisblack"), pfm(samples, -1.0), encode(Image.fromarray(samples), "TIFF")):
        with pytest.raises(UnsupportedImage, match="no agreed black and white"):
            load(data)


def test_samples_above_the_declared_white_are_refused() -> None:
    samples = deep(grey(), 12)
    samples[0, 0] = 4096
    with pytest.raises(UnsupportedImage, match="above the declared MaxSampleValue 4095"):
        load(tiff(samples, photometric="minisblack", extratags=[(281, 3, 1, 4095, True)]))


def test_signed_samples_with_their_range_declared() -> None:
    samples = (grey().astype(np.int16) - 128).astype(np.int8)
    data = tiff(samples, photometric="minisblack", extratags=[(340, 6, 1, -128, True), (341, 6, 1, 127, True)])
    assert np.array_equal(decode(data)[..., 0], grey())


@pytest.mark.parametrize("kind", ["colour", "grey", "palette"])
def test_a_tga_needs_no_footer(kind: str) -> None:
    bgr = colour()[..., ::-1]
    data, twin = {
        "colour": (tga(2, 24, 0x20, bgr.tobytes(), footer=False), colour()),
        "grey": (tga(11, 8, 0x20, run_lengths(grey()), footer=False), shown(grey())),
        "palette": (
            tga(1, 8, 0x20, grey().tobytes(), bytes(range(256)) * 3, 24, footer=False),
            None,
        ),
    }[kind]
    pixels = decode(data)
    assert twin is None or np.array_equal(pixels, twin)
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(TruncatedImage):
        decode(data[: len(data) // 2])


@pytest.mark.parametrize(("top", "score"), [(4095.0, True), (65535.0, True), (2311.0, False)])
def test_the_white_of_imagej_is_declared(top: float, score: bool) -> None:
    depth = int(top).bit_length()
    stream = io.BytesIO()
    samples = grey().astype(np.uint16) << depth - 8
    tifffile.imwrite(stream, samples, imagej=True, metadata={"min": 0.0, "max": top})
    if score:
        assert np.array_equal(decode(stream.getvalue())[..., 0], grey())
    else:
        with pytest.raises(UnsupportedImage, match=r"up to 2311 \(its declared maximum\)"):
            decode(stream.getvalue())


@pytest.mark.parametrize("bits", [9, 10, 12, 14, 16])
def test_the_significant_bits_of_ome_are_declared(bits: int) -> None:
    stream = io.BytesIO()
    samples = grey().astype(np.uint16) << bits - 8
    tifffile.imwrite(stream, samples, ome=True, metadata={"SignificantBits": bits})
    assert f'SignificantBits="{bits}"'.encode() in stream.getvalue()
    assert np.array_equal(decode(stream.getvalue())[..., 0], grey())


@pytest.mark.parametrize("bits", [8, 16])
def test_a_predictor_without_compression_means_nothing(bits: int) -> None:
    stream = io.BytesIO()
    samples = colour().astype(f"u{bits // 8}") * (257 if bits == 16 else 1)
    tifffile.imwrite(stream, samples, photometric="rgb", extratags=[(317, "H", 1, 2, True)])
    assert np.array_equal(decode(stream.getvalue()), colour())


def test_a_small_first_page_of_no_camera_is_the_picture() -> None:
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        writer.write(np.ascontiguousarray(colour()[::2, ::2]), photometric="rgb", subfiletype=1)
        writer.write(colour(), photometric="rgb")
    assert np.array_equal(decode(stream.getvalue()), colour()[::2, ::2])


def test_ycbcr_in_strips_of_odd_sides_and_in_studio_range() -> None:
    """Chroma for 2 x 1 pixels, three strips, and black at 16: the unit at the right edge is half outside."""
    wide, high, each = 33, 36, 12
    luma, chroma = (
        np.tile(np.arange(16, 236, 10, np.uint8)[:17, None], (high, 1, 2)),
        np.full((high, 17, 2), 128, np.uint8),
    )
    units = np.concatenate([luma, chroma], -1)
    tags = {256: ("H", (wide,)), 257: ("H", (high,)), 278: ("I", (each,)), 530: ("H", (2, 1))}
    tags |= {532: ("f", (16.0, 235.0, 128.0, 240.0, 128.0, 240.0))}
    strips = [units[top : top + each].tobytes() for top in range(0, high, each)]
    pixels = decode(tiff_by_hand("<", plain_tags(6, 8, 3) | tags, strips))
    expected = ((np.arange(16, 236, 10)[:17].repeat(2)[:wide] - 16.0) * 255 / 219 + 1e-3).astype(np.uint8)
    assert pixels.shape == (high, wide, 3)
    assert (pixels == expected[None, :, None]).all()


@pytest.mark.parametrize(
    "tag",
    [
        {530: ("H", (0, 0))},
        {530: ("H", (3, 1))},
        {532: ("f", (0.0,) * 6)},
        {529: ("f", (float("nan"),) * 3)},
        {529: ("f", (1.0, 0.0, 0.0))},
    ],
)
def test_ycbcr_without_a_meaning_is_corrupt(tag: dict[int, tuple[str, tuple[Any, ...]]]) -> None:
    data = tiff_by_hand("<", plain_tags(6, 8, 3) | tag, [bytes(HEIGHT * WIDTH * 3)])
    with pytest.raises(CorruptImage):
        decode(data)


@pytest.mark.parametrize("order", "<>")
def test_the_mosaic_of_a_sensor_in_a_child_directory_tells_a_camera_raw_file(
    order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rawpy", None)

    def raw(photometric: int) -> bytes:
        file = io.BytesIO()
        with tifffile.TiffWriter(file, byteorder=order) as writer:
            writer.write(colour(), photometric="rgb", subifds=1, metadata=None)
            samples = deep(colour() if photometric == 34892 else grey(), 14)
            writer.write(samples, photometric=photometric, subfiletype=0, metadata=None)
        return file.getvalue()

    assert np.array_equal(decode(raw(1)), colour())
    for photometric in (32803, 34892):
        with pytest.raises(UnsupportedImage, match="camera raw"):
            load(raw(photometric))


def test_orientation_in_xmp_alone_does_not_turn() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    exif = Image.Exif()
    exif[0x0112] = 3
    for format, options in (("JPEG", {"quality": 95}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})):
        more: dict[str, Any] = {"tiffinfo": {700: xmp}} if format == "TIFF" else {"xmp": xmp}
        if format == "PNG":
            data = encode(colour(), format)
            data = data[:33] + png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp) + data[33:]
        else:
            data = encode(colour(), format, **options, **more)
        plain = decode(encode(colour(), format, **options))
        assert np.array_equal(decode(data), plain), format
        if format != "TIFF":  # Pillow turns that one itself
            assert np.array_equal(decode(Image.open(io.BytesIO(data))), plain), format
        if format in ("JPEG", "WEBP"):
            turned = encode(colour(), format, exif=exif, **options, **more)
            assert np.array_equal(decode(turned), plain[::-1, ::-1]), format


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"II*\0\x10\0\0\0CR\x02\0" + bytes(100), "camera raw"),
        (b"P7\nWIDTH 40\nHEIGHT 40\nDEPTH 3\nMAXVAL 255\nENDHDR\n", "PAM"),
        (b"PF\n40 40\n-1.0\n" + bytes(4 * 4800), "colour PFM"),
        (b"\xff\xd8\xff\xf7\0\x0b\x08" + bytes(100), "JPEG-LS"),
    ],
)
def test_formats_that_are_known_and_not_opened(data: bytes, words: str) -> None:
    with pytest.raises(UnsupportedImage, match=words):
        load(data)


def test_a_strip_of_a_sampled_tiff_that_is_missing_is_truncated_and_junk_is_corrupt() -> None:
    for options in ({}, {"compression": "lzw"}, {"compression": "adobe_deflate", "predictor": 2}):
        data = tiff(deep(colour(), 16), photometric="rgb", rowsperstrip=16, **options)
        with pytest.raises(TruncatedImage):
            load(data[:-500])
    broken = bytearray(tiff(deep(colour(), 16), photometric="rgb", compression="lzma"))
    broken[-4000:-2000] = b"\xff" * 2000
    with pytest.raises(CorruptImage):
        load(bytes(broken))


@pytest.mark.parametrize("transparent", [False, True])
def test_around_a_small_first_frame_of_a_gif_nothing_is_drawn(transparent: bool) -> None:
    drawn = Image.new("P", (WIDTH, HEIGHT), 1)
    drawn.putpalette([255, 0, 0, 0, 0, 255, 0, 255, 0])
    drawn.putpixel((5, 5), 2)
    data = bytearray(encode(drawn, "GIF", **({"transparency": 2} if transparent else {})))
    struct.pack_into("<2H", data, 6, WIDTH + 40, HEIGHT + 30)
    at = data.index(b"," + struct.pack("<4H", 0, 0, WIDTH, HEIGHT))
    struct.pack_into("<2H", data, at + 1, 24, 10)
    twin = np.full((HEIGHT + 30, WIDTH + 40, 3), GREY, np.uint8)
    twin[10 : 10 + HEIGHT, 24 : 24 + WIDTH] = (0, 0, 255)
    twin[10 + 5, 24 + 5] = (GREY,) * 3 if transparent else (0, 255, 0)
    assert np.array_equal(decode(bytes(data)), twin)


def test_a_gif_whose_frame_covers_it_is_as_it_was() -> None:
    data = encode(Image.fromarray(colour()), "GIF")
    with Image.open(io.BytesIO(data)) as plain:
        assert np.array_equal(decode(data), np.asarray(plain.convert("RGB")))


@pytest.mark.parametrize("exponent", [1.0, 1 / 1.8])
def test_the_gamma_of_a_png_of_8_bits_is_applied(exponent: float) -> None:
    data = encode(Image.fromarray(colour()), "PNG")
    marked = data[:33] + png_chunk(b"gAMA", struct.pack(">I", round(100_000 * exponent))) + data[33:]
    light = (colour() / 255) ** (1 / exponent)
    expected = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert np.abs(decode(marked) - expected).max() <= 1


@pytest.mark.parametrize("pages", [1, 2])
def test_pages_of_a_tiff_that_lead_in_a_circle(pages: int) -> None:
    file = io.BytesIO()
    picture = Image.fromarray(colour())
    picture.save(file, "TIFF", save_all=True, append_images=[picture] * (pages - 1))
    data = bytearray(file.getvalue())
    (first,) = struct.unpack_from("<I", data, 4)
    link = 4
    while at := struct.unpack_from("<I", data, link)[0]:
        link = at + 2 + 12 * struct.unpack_from("<H", data, at)[0]
    struct.pack_into("<I", data, link, first)
    assert np.array_equal(decode(bytes(data)), colour())


@pytest.mark.parametrize(
    ("number", "name"), [(34712, "JPEG 2000"), (34887, "LERC"), (50002, "JPEG XL"), (61234, "61234")]
)
def test_a_compression_of_tiff_that_is_not_decoded_is_unsupported(number: int, name: str) -> None:
    tags = plain_tags(1, 8, 1) | {259: ("H", (number,))}
    with pytest.raises(UnsupportedImage, match=f"compression {name} "):
        decode(tiff_by_hand("<", tags, [grey().tobytes()]))


@pytest.mark.parametrize(
    ("top", "scores"), [(1.0, True), (200.0, True), (90.0, True), (60_000.0, True), (10_000.0, False)]
)
def test_floats_score_where_their_range_tells_their_scale(top: float, scores: bool) -> None:
    samples = (grey() / 255 * top).astype(np.float32)
    if scores:
        assert decode(tiff(samples)).shape == (HEIGHT, WIDTH, 3)
    else:
        with pytest.raises(UnsupportedImage, match="no agreed black and white"):
            decode(tiff(samples))
