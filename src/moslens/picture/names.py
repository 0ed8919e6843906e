"""What the name of a file says of it; nothing here opens one, or imports a decoder."""

import os
import re
from collections.abc import Collection

PICTURE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".pjpeg", ".pjp", ".jpg_large", ".jpeg_large", ".mpo", ".jps"}
    | {".png", ".apng", ".pns", ".png_large", ".webp", ".avif", ".avifs"}
    | {".heic", ".heics", ".heif", ".heifs", ".hif"}
    | {".bmp", ".dib", ".gif", ".tif", ".tiff", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".tga", ".ico"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".pcx", ".sgi", ".qoi", ".dds"}
)
# Pictures that are not opened here: a folder gives them a row that says so.
REFUSED_SUFFIXES = frozenset(
    {".jxl", ".jxr", ".wdp", ".hdp", ".jls", ".htj2k", ".jph", ".hdr", ".exr", ".flif", ".bpg"}
)
# Drawings, documents and the files of editors: a folder counts them in one line.
DRAWING_SUFFIXES = frozenset({".psd", ".psb", ".xcf", ".kra", ".svg", ".eps", ".ai", ".pdf", ".icns", ".cur"})
# Of cameras and their makers' programs: Adobe, Arri, Canon, Casio, Epson, Fujifilm, GoPro, Hasselblad, Kodak, Leaf,
# Leica, Mamiya, Minolta, Nikon, Olympus, Panasonic, Pentax, Phase One, Samsung, Sigma, Sony.
RAW_SUFFIXES = frozenset(
    {".dng", ".ari", ".cr2", ".cr3", ".crw", ".bay", ".erf", ".raf", ".gpr", ".3fr", ".fff", ".dcr", ".dcs", ".kdc"}
    | {".k25", ".mos", ".rwl", ".mef", ".mrw", ".nef", ".nrw", ".orf", ".ori", ".raw", ".rw2", ".pef", ".iiq", ".srw"}
    | {".x3f", ".arw", ".sr2", ".srf"}
)
# What cameras write beside a raw file.
DEVELOPED_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".heic", ".heif", ".hif"})
_DUPLICATE = re.compile(r"(.+)_\d{2,4}(\.[^.]+)\.xmp", re.IGNORECASE | re.DOTALL)


def suffix_of(path: str) -> str:
    """The extension in lower case, with its dot."""
    return os.path.splitext(path)[1].lower()  # noqa: PTH122


def is_raw_name(path: str) -> bool:
    """Whether the extension is one that raw files of cameras have."""
    return suffix_of(path) in RAW_SUFFIXES


def stem_of(path: str) -> str:
    """The path without its extension, the name in lower case: what a raw file and its JPEG have in common."""
    folder, name = os.path.split(path)
    return os.path.join(folder, os.path.splitext(name)[0].lower())  # noqa: PTH118, PTH122


def raw_doubles(paths: Collection[str]) -> set[str]:
    """The raw files whose JPEG or HEIC is among the paths too: that one stands for the photo."""
    developed = {stem_of(path) for path in paths if suffix_of(path) in DEVELOPED_SUFFIXES}
    return {path for path in paths if is_raw_name(path) and stem_of(path) in developed}


def duplicate_sidecars(names: Collection[str]) -> dict[str, list[str]]:
    """The sidecars of darktable's duplicates among the names of a folder, by the name of their picture.

    ``photo_01.jpg.xmp`` belongs to ``photo.jpg``: another development of it with a rating of its own. Where there is a
    picture ``photo_01.jpg`` it is that one's sidecar.
    """
    found: dict[str, list[str]] = {}
    listed = set(names)
    for name in sorted(listed):
        parts = _DUPLICATE.fullmatch(name)
        if parts and name[:-4] not in listed:
            found.setdefault(parts[1] + parts[2], []).append(name)
    return found
