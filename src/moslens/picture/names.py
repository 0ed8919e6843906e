"""What the name of a file says of it; nothing here opens one, or imports a decoder."""

import os

PICTURE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".pjpeg", ".pjp", ".jpg_large", ".jpeg_large", ".mpo", ".jps"}
    | {".png", ".apng", ".pns", ".png_large", ".webp", ".avif", ".avifs"}
    | {".heic", ".heics", ".heif", ".heifs", ".hif"}
    | {".bmp", ".dib", ".gif", ".tif", ".tiff", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".tga", ".ico"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".pcx", ".sgi", ".qoi", ".dds"}
)
# Of cameras and their makers' programs: Adobe, Arri, Canon, Casio, Epson, Fujifilm, GoPro, Hasselblad, Kodak, Leaf,
# Leica, Mamiya, Minolta, Nikon, Olympus, Panasonic, Pentax, Phase One, Samsung, Sigma, Sony.
RAW_SUFFIXES = frozenset(
    {".dng", ".ari", ".cr2", ".cr3", ".crw", ".bay", ".erf", ".raf", ".gpr", ".3fr", ".fff", ".dcr", ".dcs", ".kdc"}
    | {".k25", ".mos", ".rwl", ".mef", ".mrw", ".nef", ".nrw", ".orf", ".ori", ".raw", ".rw2", ".pef", ".iiq", ".srw"}
    | {".x3f", ".arw", ".sr2", ".srf"}
)
# What cameras write beside a raw file.
DEVELOPED_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".heic", ".heif", ".hif"})


def suffix_of(path: str) -> str:
    """The extension in lower case, with its dot."""
    return os.path.splitext(path)[1].lower()  # noqa: PTH122


def is_raw_name(path: str) -> bool:
    """Whether the extension is one that raw files of cameras have."""
    return suffix_of(path) in RAW_SUFFIXES
