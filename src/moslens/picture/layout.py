"""What a file declares about its samples, format by format, and what follows for its pixels.

A decoder's mode is not the whole truth: it drops bits, alpha that means nothing, colour keys, transfer functions and
clean apertures, and it takes some samples for others. ``layout`` reads the header itself. It lets known combinations
pass, with what is to be done once the pixels are decoded, and refuses every other with UnsupportedImage.
"""

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import IO, Any, NamedTuple, cast

import numpy as np
from PIL import Image, ImageFile
from PIL.TiffImagePlugin import COMPRESSION_INFO

from moslens.errors import TruncatedImage, UnsupportedImage
from moslens.picture import boxes, jpeg2000
from moslens.picture.light import Light, of_code, of_gamma, of_primaries, of_profile, to_linear_srgb
from moslens.picture.tiff_samples import SampledTiff, YCbCrTiff, directory, read_samples, read_ycbcr
from moslens.picture.truncation import QOI_END, where_it_ends

HDR = "hdr"

Decoded = Callable[[Image.Image], Image.Image]
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Layout:
    """``finish`` turns decoded pixels into what the file says; ``crop`` is the part of the stored picture that counts.

    ``notes`` go into the row of the picture.
    """

    finish: Decoded | None = None
    crop: Box | None = None
    notes: tuple[str, ...] = ()

    def pixels(self, image: Image.Image) -> Image.Image:
        """The decoded picture, finished and cropped."""
        if self.finish is not None:
            image = self.finish(image)
        return image if self.crop is None else image.crop(self.crop)


PLAIN = Layout()


def layout(stream: IO[bytes], name: str, image: ImageFile.ImageFile) -> Layout:
    """The layout of an opened, not yet decoded ``image`` of format ``name``. Raises UnsupportedImage."""
    check = _CHECKS.get(name)
    if check is None:
        return PLAIN
    at = stream.tell()
    found = check(stream, image)
    stream.seek(at)
    return found


def _lit(light: Light | None, crop: Box | None = None) -> Layout:
    """A picture of 8 bits whose samples are turned into sRGB; a profile in it no longer counts."""
    if light is None:
        return PLAIN if crop is None else Layout(crop=crop)

    def finish(image: Image.Image) -> Image.Image:
        light.convert(image)
        image.info.pop("icc_profile", None)
        return image

    return Layout(finish, crop, (HDR,) if light.hdr else ())


def _drop_alpha(image: Image.Image) -> Image.Image:
    return image.convert("RGB" if image.mode == "RGBA" else "L" if image.mode == "LA" else image.mode)


def _drop_empty_alpha(image: Image.Image) -> Image.Image:
    """A fourth byte that is 0 everywhere means that there is no alpha."""
    return _drop_alpha(image) if image.mode == "RGBA" and _opacity(image) == (0, 0) else image


def _opacity(image: Image.Image) -> tuple[float, float]:
    """The least and the most opaque pixel of an RGBA image."""
    return cast(tuple[float, float], image.getchannel("A").getextrema())


def _jpeg(stream: IO[bytes], image: ImageFile.ImageFile) -> Layout:
    if image.mode == "CMYK" and "adobe" not in image.info:
        # Pillow takes all CMYK for Adobe's, which is inverted.
        image.tile = [tile._replace(args=("CMYK", "")) for tile in cast(list[Any], image.tile)]
    return PLAIN


class _Png(NamedTuple):
    depth: int
    colour: int
    chunks: dict[bytes, bytes]


def _png_header(stream: IO[bytes]) -> _Png:
    """IHDR and the chunks before the pixels that say what samples mean."""
    chunks: dict[bytes, bytes] = {}
    at = 8
    for _ in range(1 << 16):
        stream.seek(at)
        head = stream.read(8)
        if len(head) < 8:
            break
        length, kind = struct.unpack(">I4s", head)
        if kind in (b"IDAT", b"IEND"):
            break
        if kind in (b"IHDR", b"tRNS", b"cICP", b"gAMA", b"cHRM", b"sRGB", b"iCCP"):
            chunks.setdefault(kind, stream.read(min(length, 1024)))
        at += 12 + length
    return _Png(chunks[b"IHDR"][8], chunks[b"IHDR"][9], chunks)


def _png(stream: IO[bytes], image: ImageFile.ImageFile) -> Layout:
    png = _png_header(stream)
    light = _png_light(png.chunks, image)
    key = png.chunks.get(b"tRNS") if png.colour in (0, 2) else None
    if png.colour == 0 and key is not None and len(key) >= 2 and png.depth < 16:
        level = struct.unpack(">H", key[:2])[0] & (1 << png.depth) - 1
        image.info["transparency"] = level * 255 // ((1 << png.depth) - 1)
    if png.depth < 16 or (light is None and key is None):
        return _lit(light)

    def finish(image: Image.Image) -> Image.Image:
        return _sixteen_bits(stream, image, png.colour, key, light)

    return Layout(finish, None, (HDR,) if light is not None and light.hdr else ())


def _png_light(chunks: dict[bytes, bytes], image: Image.Image) -> Light | None:
    """By order of PNG (third edition): cICP, iCCP, sRGB, gAMA with cHRM. A profile counts here for 16 bits only."""
    cicp, gamma = chunks.get(b"cICP", b""), chunks.get(b"gAMA", b"")
    if len(cicp) >= 4:
        if cicp[2] != 0 or cicp[3] != 1:
            raise UnsupportedImage("its cICP chunk says that the samples are not full-range RGB")
        image.info.pop("icc_profile", None)
        return of_code(cicp[0], cicp[1])
    if b"iCCP" in chunks:
        light = of_profile(image.info.get("icc_profile")) if chunks[b"IHDR"][8] == 16 else None
        fits = light is not None and (chunks[b"IHDR"][9] in (2, 6)) == (len(light.curves) == 3)
        return light if fits else None
    if b"sRGB" in chunks or len(gamma) < 4:
        return None
    exponent = struct.unpack(">I", gamma[:4])[0] / 100_000
    if not 0.1 <= exponent <= 5:
        return None
    matrix = None
    if len(chunks.get(b"cHRM", b"")) >= 32 and chunks[b"IHDR"][9] in (2, 3, 6):
        x, y, *primaries = (value / 100_000 for value in struct.unpack(">8I", chunks[b"cHRM"][:32]))
        if abs(x - 0.3127) < 0.01 and abs(y - 0.3290) < 0.01 and all(0 < value < 1 for value in primaries):
            matrix = to_linear_srgb(tuple(primaries))
    if 0.42 <= exponent <= 0.5:  # what programs write for sRGB
        light = None if matrix is None else of_primaries(matrix)
    else:
        light = of_gamma(1 / exponent, matrix)
    return light if light is not None and light.changes() else None


def _sixteen_bits(
    stream: IO[bytes], image: Image.Image, colour: int, key: bytes | None, light: Light | None
) -> Image.Image:
    """A decoded PNG of 16 bits with all of its bits: as 8-bit sRGB, with its colour key as alpha."""
    if colour == 0:
        samples = np.asarray(image)
        image.info.pop("transparency", None)
        grey = Image.fromarray(light.srgb(samples) if light is not None else (samples >> 8).astype(np.uint8))
        grey.info = {name: value for name, value in image.info.items() if light is None or name != "icc_profile"}
        if key is not None and len(key) >= 2:
            grey.putalpha(
                Image.fromarray(np.where(samples == struct.unpack(">H", key[:2])[0], 0, 255).astype(np.uint8))
            )
        return grey
    if colour == 4:
        # Pillow has no second way to read these, but two samples of 16 bits are four bytes.
        both = _again(stream, image, "RGBA").split()
        high, low = Image.merge("LA", both[::2]), Image.merge("LA", both[1::2])
    else:
        high, low = image, _again(stream, image, f"{image.mode};16L")  # the second byte of each sample
    alpha = None
    if key is not None and len(key) >= 6:
        image.info.pop("transparency", None)
        wanted = [list(key[i:6:2]) for i in (0, 1)]
        same = [np.asarray(part) == levels for part, levels in zip((high, low), wanted, strict=True)]
        alpha = Image.fromarray(np.where((same[0] & same[1]).all(-1), 0, 255).astype(np.uint8))
    if light is not None:
        light.convert(high, low)
        high.info.pop("icc_profile", None)
    if alpha is not None:
        high.putalpha(alpha)
    return high


def _again(stream: IO[bytes], image: Image.Image, rawmode: str) -> Image.Image:
    """The PNG decoded once more, its bytes unpacked as ``rawmode``."""
    if hasattr(stream, "left"):
        stream.left += 8 * image.width * image.height
    stream.seek(0)
    twin = type(image)(stream)  # type: ignore[call-arg]
    twin.tile = [tile._replace(args=rawmode) for tile in twin.tile]  # type: ignore[attr-defined]
    twin.load()
    return twin


def _tiff(stream: IO[bytes], image: ImageFile.ImageFile) -> Layout:
    if isinstance(image, SampledTiff):
        return PLAIN
    tags = cast(Any, image).tag_v2
    if image.mode == "P" and max(tags[320]) < 256:  # a map written as 8 bits, as libtiff takes it
        image.palette = None
        image.putpalette(np.array(tags[320], np.uint8).reshape(3, -1).T.tobytes())
    if tags.get(262) == 5 and tags.get(332, 1) != 1:
        raise UnsupportedImage("inks other than cyan, magenta, yellow and black are not decoded here")
    unsaid = tags.get(262) == 2 and tags.get(277) == 4 and 338 not in tags
    return Layout(_drop_empty_alpha) if unsaid else PLAIN


_COMPRESSIONS = {34712: "JPEG 2000", 34887: "LERC", 34933: "PNG", 34934: "JPEG XR", 50002: "JPEG XL"}
_LIBTIFF_MAY_LACK = {34925: "lzma", 50000: "zstd", 50001: "webp"}


@cache
def _libtiff_has(compression: str) -> bool:
    """Whether Pillow's libtiff was built with a compression: a small picture is saved, as nothing else tells."""
    try:
        Image.new("RGB", (16, 16)).save(io.BytesIO(), "TIFF", compression=compression)
    except Exception:
        return False
    return True


def open_tiff(stream: IO[bytes], opener: Callable[[IO[bytes]], ImageFile.ImageFile]) -> ImageFile.ImageFile:
    """A TIFF file, opened by Pillow where it takes the samples for what they are."""
    stream.seek(0)
    head = stream.read(4)
    order = "<" if head[:2] == b"II" else ">"
    if head == b"MM\0+":
        raise UnsupportedImage("BigTIFF in big-endian order is not decoded here")
    try:
        tags = directory(stream)
        compression = tags.get(259, 1)
        missing = _LIBTIFF_MAY_LACK.get(compression)
        samples, ycbcr = read_samples(tags, order), read_ycbcr(tags, order)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, struct.error):
        compression, missing, samples, ycbcr = 1, None, None, None  # Pillow says what is wrong
    if compression not in COMPRESSION_INFO:
        raise UnsupportedImage(
            f"TIFF with compression {_COMPRESSIONS.get(compression, compression)} is not decoded here"
        )
    if missing is not None and not _libtiff_has(missing):
        raise UnsupportedImage(f"the library inside this Pillow was built without the compression {missing}")
    stream.seek(0)
    if ycbcr is not None:
        return YCbCrTiff(stream, tags, ycbcr)
    return opener(stream) if samples is None or samples.plain else SampledTiff(stream, tags, samples)


def _jpeg2000(stream: IO[bytes], image: ImageFile.ImageFile) -> Layout:
    found = jpeg2000.declared(stream)
    if found.profile is not None:
        image.info.setdefault("icc_profile", found.profile)
    if set(found.depths) == {8}:
        return PLAIN
    return Layout(lambda decoded: jpeg2000.at_full_scale(decoded, stream, found))


def _heif(stream: IO[bytes], image: ImageFile.ImageFile) -> Layout:
    found = boxes.declared(stream)
    return _lit(None if found.codes is None else of_code(*found.codes))


def _avif(stream: IO[bytes], image: ImageFile.ImageFile) -> Layout:
    found = boxes.declared(stream)
    return _lit(None if found.codes is None else of_code(*found.codes), found.crop)


def _bmp(stream: IO[bytes], image: ImageFile.ImageFile) -> Layout:
    return Layout(_drop_empty_alpha) if image.mode == "RGBA" else PLAIN


def _ico(stream: IO[bytes], image: ImageFile.ImageFile) -> Layout:
    def finish(image: Image.Image) -> Image.Image:
        if image.mode != "RGBA" or _opacity(image) != (0, 0):
            return image
        entry = cast(Any, image).ico.entry[0]
        stream.seek(entry.offset)
        head = stream.read(16)
        opaque = _drop_alpha(image)
        if head[:4] == b"\x89PNG" or struct.unpack_from("<H", head, 14)[0] != 32:
            return image
        row = -(-image.width // 32) * 4
        stream.seek(entry.offset + struct.unpack_from("<I", head)[0] + 4 * image.width * image.height)
        mask = stream.read(row * image.height)
        if len(mask) == row * image.height:  # a bit that is set is not drawn
            opaque.putalpha(Image.frombytes("1", image.size, mask, "raw", "1;I", row, -1).convert("L"))
        return opaque

    return Layout(finish)


def _tga(stream: IO[bytes], image: ImageFile.ImageFile) -> Layout:
    stream.seek(0)
    head = stream.read(18)
    depth, alpha = head[16], head[17] & 15
    if head[17] & 0xC0:
        raise UnsupportedImage("TGA with interleaved rows is not decoded here")
    if head[2] & 7 == 3 and depth == 16 and alpha == 0:
        raise UnsupportedImage("TGA of 16-bit grey is not decoded here")
    deep = head[7] if head[2] & 7 == 1 else depth
    if alpha == 0:
        return Layout(_without_palette_alpha if image.mode == "P" else _drop_alpha)
    if deep in (15, 16) and head[2] & 7 != 3:

        def one_bit(image: Image.Image) -> Image.Image:
            shown = image.convert("RGBA")
            if len(set(_opacity(shown))) > 1:
                raise UnsupportedImage("TGA with one bit of alpha has no agreed meaning")
            return _drop_alpha(shown)

        return Layout(one_bit)
    return PLAIN


def _without_palette_alpha(image: Image.Image) -> Image.Image:
    return image.convert("RGBA").convert("RGB")


def _pcx(stream: IO[bytes], image: ImageFile.ImageFile) -> Layout:
    stream.seek(0)
    colours = stream.read(22)[16:]
    if image.mode == "1" and len(set(colours)) > 1 and colours != b"\0\0\0\xff\xff\xff":
        raise UnsupportedImage("PCX of two colours other than black and white is not decoded here")
    return PLAIN


def _sgi(stream: IO[bytes], image: ImageFile.ImageFile) -> Layout:
    stream.seek(104)
    if stream.read(4) not in (bytes(4), b""):
        raise UnsupportedImage("SGI pictures with a colour map are not decoded here")
    return PLAIN


def _qoi(stream: IO[bytes], image: ImageFile.ImageFile) -> Layout:
    stream.seek(max(0, stream.seek(0, 2) - 1024))
    if QOI_END not in stream.read():
        raise TruncatedImage(where_it_ends(stream, "QOI"))
    return PLAIN


def _gif(stream: IO[bytes], image: ImageFile.ImageFile) -> Layout:
    """Around a first frame that is smaller than the picture nothing is drawn; Pillow fills in the first colour."""
    box = image.tile[0][1] if image.tile else None
    if box is None or box == (0, 0, *image.size) or "transparency" in image.info:
        return PLAIN

    def framed(image: Image.Image) -> Image.Image:
        drawn = Image.new("L", image.size)
        drawn.paste(255, box)
        image = image.convert("RGB")
        image.putalpha(drawn)
        return image

    return Layout(framed)


def _dds(stream: IO[bytes], image: ImageFile.ImageFile) -> Layout:
    kind = getattr(image, "pixel_format", "")
    if kind.startswith(("BC5", "BC6")):
        raise UnsupportedImage(f"DDS of kind {kind} holds normals or linear light, not a picture in sRGB")
    return PLAIN


def _ppm(stream: IO[bytes], image: ImageFile.ImageFile) -> Layout:
    if image.info.get("scale", 1.0) != 1.0:
        raise UnsupportedImage(f"a PFM file of scale {image.info['scale']:g} has no agreed white")
    return PLAIN


_CHECKS: dict[str, Callable[[IO[bytes], ImageFile.ImageFile], Layout]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "TIFF": _tiff,
    "JPEG 2000": _jpeg2000,
    "AVIF": _avif,
    "HEIC": _heif,
    "BMP": _bmp,
    "ICO": _ico,
    "TGA": _tga,
    "PCX": _pcx,
    "SGI": _sgi,
    "QOI": _qoi,
    "DDS": _dds,
    "GIF": _gif,
    "PPM": _ppm,
}
