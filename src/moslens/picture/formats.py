"""Which files are opened as pictures, and which error a failure becomes.

Pillow's plugins are called directly instead of through ``Image.open``, for three reasons. Only the formats below are
tried, none of which runs an interpreter or reads a document. Pillow's global pixel limit and its warnings do not
interfere with our own cap. A known format with a broken header gets another error than a file that is no picture.
"""

import io
import re
import struct
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import IO, Any, cast

from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from moslens.errors import (
    CorruptImage,
    ImageError,
    ImageTooLarge,
    NotAnImage,
    TruncatedImage,
    UnreadableImage,
    UnsupportedImage,
    install_hint,
)
from moslens.picture.damage import refuse_missing_rows
from moslens.picture.jpeg_scan import load_jpeg
from moslens.picture.layout import open_tiff
from moslens.picture.spliced import jpeg_pixels, png_pixels
from moslens.picture.tiff_directory import holds_camera_raw, refuse_endless_entries
from moslens.picture.truncation import is_short, where_it_ends

# An MPO file is read as JPEG: the first picture in it is the photo.
_PLUGINS = {
    "JPEG": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "PNG": ("PIL.PngImagePlugin", "PngImageFile"),
    "WebP": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "TIFF": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "BMP": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "GIF": ("PIL.GifImagePlugin", "GifImageFile"),
    "JPEG 2000": ("PIL.Jpeg2KImagePlugin", "Jpeg2KImageFile"),
    "AVIF": ("PIL.AvifImagePlugin", "AvifImageFile"),
    "HEIC": ("pillow_heif", "HeifImageFile"),
    "PPM": ("PIL.PpmImagePlugin", "PpmImageFile"),
    "ICO": ("PIL.IcoImagePlugin", "IcoImageFile"),
    "PCX": ("PIL.PcxImagePlugin", "PcxImageFile"),
    "SGI": ("PIL.SgiImagePlugin", "SgiImageFile"),
    "QOI": ("PIL.QoiImagePlugin", "QoiImageFile"),
    "DDS": ("PIL.DdsImagePlugin", "DdsImageFile"),
    "TGA": ("PIL.TgaImagePlugin", "TgaImageFile"),
}

CAMERA_RAW = "camera raw"
"""The format that is no plugin's: :mod:`moslens.picture.raw` reads it."""

# How each format begins. Formats without a plugin are listed so that the error can name them.
_BEGINNINGS = tuple(
    (re.compile(pattern, re.DOTALL), name)
    for pattern, name in (
        (rb"\xff\xd8\xff", "JPEG"),
        (rb"\x89PNG\r\n\x1a\n", "PNG"),
        (rb"RIFF....WEBP", "WebP"),
        (rb"II\*\0.{4}CR\x02", CAMERA_RAW),
        (rb"II[*+]\0|MM\0[*+]", "TIFF"),
        (rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0", "BMP"),
        (rb"GIF8[79]a", "GIF"),
        (rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (rb"PF\s+[#\d]", "colour PFM"),
        (rb"P[1-6f]\s+[#\d]", "PPM"),
        (rb"P7\s", "PAM"),
        (rb"\0\0\x01\0(?!\0\0).{5}\0", "ICO"),
        (rb"\n[\0\x02-\x05]\x01[\x01\x02\x04\x08]", "PCX"),
        (rb"\x01\xda[\0\x01][\x01\x02]", "SGI"),
        (rb"qoif", "QOI"),
        (rb"DDS \x7c\0\0\0", "DDS"),
        (rb"8BPS", "Photoshop"),
        (rb"%!PS|\xc5\xd0\xd3\xc6", "PostScript"),
        (rb"SIMPLE  =", "FITS"),
        (rb"\x89HDF\r\n\x1a\n", "HDF5"),
        (rb"GRIB|BUFR", "weather data"),
        (rb"\xd7\xcd\xc6\x9a", "Windows metafile"),
        (rb"icns", "Apple icon"),
        (rb"\0\0\x02\0[^\0]", "Windows cursor"),
        (rb"gimp xcf", "GIMP"),
        (rb"v/1\x01", "OpenEXR"),
        (rb"#\?RADIANCE", "Radiance HDR"),
        (rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (rb"II\xbc\x01", "JPEG XR"),
        (rb"FUJIFILMCCD-RAW|IIRO|IIU\0|....ftypcrx ", CAMERA_RAW),
    )
)
# TGA begins with no mark, and only its second version ends with one. Its header: a map of colours or none, the kind of
# pixels, place and depth of the map, the origin, width and height above 0, bits a pixel.
_TGA_HEADER = re.compile(
    rb".(?:\0[\x02\x03\x0a\x0b]\0{5}|\x01[\x01\x02\x09\x0a].{4}[\x0f\x10\x18\x20])"
    rb".{4}(?!\0\0)..(?!\0\0)..[\x08\x0f\x10\x18\x20].",
    re.DOTALL,
)
_TGA_END = b"TRUEVISION-XFILE.\0"
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}

_SEGMENTS = bytes([*range(0xE0, 0xF0), 0xFE])
MOST_EXTRA_BYTES = 1 << 29
_MOST_WORDS = 300

_RAN_OUT = re.compile(
    r"truncated|\bEOF\b|end of (file|data)|not enough|too short|not large enough|incomplete|"
    r"requires a buffer|index out of range",
    re.IGNORECASE,
)
# Some programs store more than the 256 x 256 that the format has room for; the height of a bitmap counts its mask too.
_LARGEST_ICON = 2 * 1024 * 1024
_CANNOT = re.compile(
    r"unsupported|not (yet )?supported|not available|not installed|cannot handle|unimplemented|"
    r"un(known|recognized) (pixel mode|raw mode|PCX mode|data organi[sz]ation|compression)",
    re.IGNORECASE,
)


def identify(stream: IO[bytes]) -> str:
    """The name of the format of ``stream``, by its first bytes (TGA: header or last bytes; raw files in TIFF: tags).

    Raises NotAnImage, or UnsupportedImage for a picture format that is not opened here.
    """
    stream.seek(0)
    head = stream.read(512)
    name = next((name for pattern, name in _BEGINNINGS if pattern.match(head)), None)
    if name is None and head[4:8] == b"ftyp":
        name = _by_brand(head)
    if name == "JPEG" and _is_jpeg_ls(head):
        name = "JPEG-LS"
    if name is None:
        stream.seek(max(0, stream.seek(0, 2) - len(_TGA_END)))
        if not _TGA_HEADER.match(head) and stream.read() != _TGA_END:
            raise NotAnImage("not a picture in any format that moslens knows")
        name = "TGA"
    if name not in _PLUGINS and name != CAMERA_RAW:
        raise UnsupportedImage(f"moslens does not open {name} files")
    if name == "TIFF" and holds_camera_raw(stream):
        return CAMERA_RAW
    return name


def _is_jpeg_ls(head: bytes) -> bool:
    """Whether the first frame, behind application segments and comments, is one of JPEG-LS."""
    at = 2
    while head[at : at + 1] == b"\xff" and head[at + 1 : at + 2] in _SEGMENTS:
        at += 2 + int.from_bytes(head[at + 2 : at + 4], "big")
    return head[at : at + 2] == b"\xff\xf7"


def _by_brand(head: bytes) -> str | None:
    """AVIF, HEIC or neither, by the brands in the first box of an ISO base media file."""
    end = min(struct.unpack_from(">I", head)[0], len(head))
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))}
    if brands & {b"avif", b"avis"}:
        return "AVIF"
    return "HEIC" if brands & _HEIF_BRANDS else None


def read_header(stream: IO[bytes], name: str) -> ImageFile.ImageFile:
    """Open ``stream`` as format ``name``: size, mode and metadata are known, pixels are not decoded yet.

    Raises UnsupportedImage where the codec is missing, and whatever Pillow raises on a broken header.
    """
    module, plugin = _PLUGINS[name]
    try:
        opener: Callable[[IO[bytes]], ImageFile.ImageFile] = getattr(import_module(module), plugin)
    except ImportError as error:
        extra = f"needs pillow-heif: {install_hint('formats', 'pillow-heif')}"
        raise UnsupportedImage(f"{name} {extra if name == 'HEIC' else 'is not in this Pillow'}") from error
    if name == "TIFF":
        refuse_endless_entries(stream)
    elif name == "ICO":
        _refuse_large_icons(stream)
    profile = None
    if name == "PNG":
        stream, profile = png_pixels(stream)
    image = _opened(opener, stream, name)
    if profile is not None:
        image.info["icc_profile"] = profile
    return image


def _opened(opener: Callable[[IO[bytes]], ImageFile.ImageFile], stream: IO[bytes], name: str) -> ImageFile.ImageFile:
    stream.seek(0)
    if name == "TIFF":
        return open_tiff(stream, opener)
    try:
        return opener(stream)
    except Exception:
        mended = jpeg_pixels(stream) if name == "JPEG" else None
        if mended is None:
            raise
        return opener(mended)


def keeps_everything(image: Image.Image, stream: IO[bytes]) -> bool:
    """Whether decoding a JPEG, just opened by ``read_header``, holds all its coefficients even for a reduced size.

    This is so if its components come in several scans. ``stream`` stands behind the header of the first scan, which
    then does not name all components.
    """
    stream = getattr(image, "fp", None) or stream
    at, components = stream.tell(), len(image.getbands())
    length = 6 + 2 * components
    stream.seek(max(0, at - length - 2))
    header = stream.read(5)
    stream.seek(at)
    return "progressive" in image.info or header != b"\xff\xda" + struct.pack(">HB", length, components)


def _refuse_large_icons(stream: IO[bytes]) -> None:
    """Check the headers inside an icon, because Pillow decodes its pictures while it reads the file header."""
    stream.seek(4)
    (count,) = struct.unpack("<H", stream.read(2))
    entries = stream.read(16 * count)
    for at in range(12, len(entries) - 3, 16):
        stream.seek(struct.unpack_from("<I", entries, at)[0])
        head = stream.read(24)
        if len(head) == 24:
            png = head.startswith(b"\x89PNG")
            width, height = struct.unpack_from(">II", head, 16) if png else struct.unpack_from("<ii", head, 4)
            if abs(width) * abs(height) > _LARGEST_ICON:
                raise UnsupportedImage(f"the icon holds {abs(width)} x {abs(height)} pixels, more than 256 x 256")


def read_pixels(image: Image.Image) -> None:
    """Decode an opened picture in place. The caller has checked its size."""
    limit = Image.MAX_IMAGE_PIXELS
    if image.format == "TIFF" and limit is not None and image.width * image.height > 2 * limit:
        # This plugin applies Pillow's limit once more when it allocates, unless there is memory already.
        tiff = cast(Any, image)
        tiff.im = Image.new(tiff.mode, getattr(tiff, "_tile_size", tiff.size), None).im
    if isinstance(image, JpegImageFile) and load_jpeg(image):
        return
    if isinstance(image, PngImageFile) and image.fp is not None and not image.filename:
        _read_png(image, image.fp)
    image.load()


def _read_png(image: PngImageFile, stream: IO[bytes]) -> None:
    try:
        image.load()
    except Exception:
        if image.tile:
            raise
        # The pixels were read, and a chunk behind them is at fault: once more without that.
        again = PngImageFile(png_pixels(stream, to_end=True)[0])
        again.load()
        image.im = again.im
        image.info = again.info | image.info
    refuse_missing_rows(image, stream)


def explain_failure(error: Exception, stream: IO[bytes], name: str | None) -> ImageError:
    """Turn what a decoder raised into the error the user sees.

    ``stream`` is the file, still open, and ``name`` its format; for None only the decoder's message is used.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return UnreadableImage(error.strerror or str(error))
    words = str(error)[:_MOST_WORDS] or type(error).__name__  # some messages quote the data
    if isinstance(error, Image.DecompressionBombError):
        return ImageTooLarge("larger than PIL.Image.MAX_IMAGE_PIXELS lets Pillow decode in this format")
    if isinstance(error, MemoryError):
        return CorruptImage("decoding it takes more memory than there is")
    short = None if name is None else is_short(stream, name)
    if short is None:
        short = isinstance(error, EOFError) or _RAN_OUT.search(words) is not None
    if short:
        return TruncatedImage(where_it_ends(stream, name) if name else "the data ends before the picture does")
    odd_sgi = name == "SGI" and "overrun" in words  # Pillow cannot read the run lengths of some programs
    if isinstance(error, NotImplementedError) or odd_sgi or _CANNOT.search(words):
        return UnsupportedImage(f"this kind of {name or 'picture'} cannot be decoded here ({words})")
    return CorruptImage(f"the {name or 'picture'} data is broken ({words})")


class Metered(io.BufferedReader):
    """A file with a limit on the bytes read, so that data other than pixels cannot fill the memory.

    ``left`` starts with room for metadata, profiles and previews, and for whole files of the formats that are
    read at once; the caller adds what the pixels may need. Before the pixels, every call counts as at least
    ``least`` bytes, so that a file is not read byte by byte for hours. Raises ImageTooLarge when ``left`` is used up.
    """

    left = MOST_EXTRA_BYTES
    least = 1024

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= self.left:
            at = self.tell()
            there = self.seek(0, io.SEEK_END) - at
            self.seek(at)
            size = there if size is None or size < 0 else min(size, there)
            if size > self.left:
                raise ImageTooLarge(f"needs more than {MOST_EXTRA_BYTES:,} bytes besides its pixels")
        data = super().read(size)
        self.left -= max(len(data), self.least)
        return data


class _InThisThread(threading.local):
    """Stands in for the module pattern of a warning filter; matches in threads that are decoding."""

    decoding = False

    def match(self, module: str) -> bool:
        return self.decoding


_HERE = _InThisThread()
_MUTED = ("ignore", None, Warning, _HERE, 0)


@contextmanager
def muted_decoders() -> Iterator[None]:
    """Drop Python warnings raised in this thread by the block.

    ``warnings.catch_warnings`` swaps the filters of the whole process and is not safe with threads. A filter that
    matches only in a decoding thread can stay; it is moved to the front if others were added before it.
    """
    filters = cast(list[Any], warnings.filters)
    if not filters or filters[0] is not _MUTED:
        filters[:] = [_MUTED, *(entry for entry in filters if entry is not _MUTED)]
    before, _HERE.decoding = _HERE.decoding, True
    try:
        yield
    finally:
        _HERE.decoding = before
