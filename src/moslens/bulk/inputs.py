"""From the PATHs of a command line to the paths of pictures, one by one and in a fixed order.

Paths stay the strings they came as: rows repeat them as given, and ``pathlib`` would tidy them.
"""

# ruff: noqa: PTH112, PTH118, PTH122, PTH206, PTH207, PTH208

import codecs
import glob
import logging
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import BinaryIO

from moslens.bulk.rows import path_in_parquet
from moslens.errors import ConfigError, MissingExtra
from moslens.picture.choice import Choice
from moslens.picture.walk import first_time, walk

logger = logging.getLogger(__name__)

CHUNK = 1 << 16

# Bytes of a file name without extension. File systems allow 255 in all: the rest is for the longest ending.
_LONGEST_STEM = 255 - len("-map.jpg.partial")


def find_pictures(arguments: Sequence[str], listing: BinaryIO) -> Iterator[str]:
    """The pictures that the arguments name, in the order given; ``listing`` is read for the argument ``-``.

    A file is taken whatever its name. A folder is walked: files with an extension of pictures or of raw files (in any
    case), in the order of their full paths, through symbolic links, each folder once. A glob gives files with such an
    extension, or all that match where it names an extension; ``**`` enters each folder below once. Characters of a glob
    stand for themselves where a file or folder has that name. ``-`` reads a list (:func:`read_listing`). A Parquet file
    is a list as well: its column ``path``. A URL names an object, a folder or a glob in a store that fsspec can open.

    Walks and globs leave out what :class:`~moslens.picture.choice.Choice` says; the log tells how much at the end.
    Arguments are checked at once; folders and lists are read when the iterator gets to them. A name that is not there
    is given as it is, for an error row, where it is one of several. Raises ConfigError for a single argument that names
    nothing, MissingExtra for a URL or Parquet file without the packages for it.
    """
    choice = Choice()
    found = [_expand(argument, listing, choice, alone=len(arguments) == 1) for argument in arguments]

    def pictures() -> Iterator[str]:
        yield from chain.from_iterable(found)
        for line in choice.left_out():
            logger.warning(line)

    return pictures()


def require_pictures(arguments: Sequence[str], listing: BinaryIO) -> Iterator[str]:
    """:func:`find_pictures`, with ConfigError where no picture is found. Waits for the first one."""
    pictures = find_pictures(arguments, listing)
    first = next(pictures, None)
    if first is None:
        raise ConfigError(f"no picture found in {', '.join('the list' if each == '-' else each for each in arguments)}")
    return chain([first], pictures)


def outside(paths: Iterable[str], folder: str) -> Iterator[str]:
    """The paths that do not lie in or below ``folder``: a run must not take what it writes there for its pictures."""
    within = os.path.join(os.path.realpath(folder), "")
    return (path for path in paths if not os.path.realpath(path).startswith(within))


def _expand(argument: str, listing: BinaryIO, choice: Choice, *, alone: bool) -> Iterator[str]:
    if argument == "-":
        return read_listing(listing)
    if os.path.isdir(argument):
        return walk(argument, choice)
    if os.path.lexists(argument):
        return read_parquet(argument) if argument.lower().endswith(".parquet") else iter([argument])
    if "://" in argument:
        from moslens.bulk.stores import walk_url

        table = argument.partition("?")[0].lower().endswith(".parquet")
        return read_parquet(argument) if table else walk_url(argument, choice)
    if glob.has_magic(argument):
        return _match(argument, choice)
    if not alone:  # one of many that is gone by now costs one row, as in a list
        return iter([argument])
    raise ConfigError("no such file or folder", argument)


def _match(pattern: str, choice: Choice) -> Iterator[str]:
    suffix = os.path.splitext(pattern)[1]
    any_suffix = suffix != "" and not glob.has_magic(suffix)
    # Where nothing matches, brackets are part of a name behind a * rather than a set of letters.
    found = set(_glob(_literal_folders(pattern))) or set(_glob(pattern.replace("[", "[[]")))
    files = choice.without_clutter([path for path in sorted(found) if not os.path.isdir(path)], pattern)
    return iter(files if any_suffix else choice.pictures(files))


def _literal_folders(pattern: str) -> str:
    """The pattern with its first folders escaped, as many of them as there are on the disk by that very name."""
    parts = pattern.split(os.sep)
    for count in range(len(parts) - 1, 0, -1):
        folder = os.sep.join(parts[:count])
        if glob.has_magic(folder) and os.path.isdir(folder):
            return os.sep.join([glob.escape(folder), *parts[count:]])
    return pattern


def _glob(pattern: str) -> Iterator[str]:
    """As ``glob.glob``, but ``**`` enters each folder once, also where symbolic links form a loop."""
    parts = pattern.split(os.sep)
    if "**" not in parts:
        yield from glob.glob(pattern)
        return
    above, below = parts[: parts.index("**")], parts[parts.index("**") + 1 :]
    rest = os.sep.join(below) or "*"
    for base in glob.glob(os.sep.join([*above, ""])) if above else [""]:
        for folder in _folders(base):
            yield from _glob(glob.escape(folder) + rest)


def _folders(base: str) -> Iterator[str]:
    """``base`` ("" is the current folder) and the folders below it whose name has no leading dot, each once."""
    seen: set[tuple[int, int]] = set()
    pending = [base]
    while pending:
        path = pending.pop()
        try:
            if not first_time(path or os.curdir, seen):
                continue
            names = [name for name in os.listdir(path or os.curdir) if os.path.isdir(path + name)]
        except OSError:  # a folder that cannot be listed has no matches
            continue
        yield path
        pending.extend(path + name + os.sep for name in sorted(names, reverse=True) if not name.startswith("."))


PICTURE_SIGNATURES = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n|II\*\0|MM\0\*|RIFF.{4}WEBP|GIF8[79]a|\0\0\0.ftyp|BM.{4}\0{4}", re.DOTALL
)
"""How JPEG, PNG, TIFF, WebP, GIF, AVIF, HEIC and BMP files begin."""


def read_listing(stream: BinaryIO) -> Iterator[str]:
    """Names from a stream, as they come. They end in NUL or newline: NUL where the first chunk with either has one.

    A list that begins with the byte order mark of UTF-16 is read as such. In a list by newlines a CR at the end of a
    name, and the byte order mark of UTF-8 before the first, are no part of it, unless a file has that very name. Raises
    ConfigError for a stream that begins with a picture's signature, so no list may begin with such a name.
    """
    rest = separator = b""
    first = True
    for chunk in _as_utf8(stream):
        separator = separator or (b"\0" if b"\0" in chunk else b"\n" if b"\n" in chunk else b"")
        rest += chunk
        if separator:
            *names, rest = rest.split(separator)
            for name in names:
                if path := name if separator == b"\0" else _line(name, first):
                    yield os.fsdecode(path)
                first = False
    if path := rest if separator == b"\0" else _line(rest, first):
        yield os.fsdecode(path)


def _as_utf8(stream: BinaryIO) -> Iterator[bytes]:
    chunk = stream.read(CHUNK)
    if chunk in (codecs.BOM_UTF16_LE[:1], codecs.BOM_UTF16_BE[:1]):
        chunk += stream.read(CHUNK)
    utf16 = chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    decoder = codecs.getincrementaldecoder("utf-16")("surrogatepass")
    if PICTURE_SIGNATURES.match(chunk):
        raise ConfigError("standard input is a picture: - takes a list of names, so give the picture's own name")
    while chunk:
        yield decoder.decode(chunk).encode("utf-8", "surrogatepass") if utf16 else chunk
        chunk = stream.read(CHUNK)


def _line(name: bytes, first: bool) -> bytes:
    plain = name.removeprefix(codecs.BOM_UTF8 if first else b"").removesuffix(b"\r")
    return name if plain != name and os.path.lexists(name) else plain


def distinct_names(sources: Sequence[str], reserved: Iterable[str] = ()) -> list[str]:
    """A file name without extension for each path: its own, with -2, -3 ... where that is taken; long ones are cut.

    ``reserved`` names are taken from the start.
    """
    from moslens.bulk.stores import file_name

    names = []
    taken = set(map(folded, reserved))
    for source in sources:
        stem = _shortened(os.path.splitext(file_name(source))[0], _LONGEST_STEM)
        name, number = stem, 2
        while folded(name) in taken:
            ending = f"-{number}"
            name, number = _shortened(stem, _LONGEST_STEM - len(ending)) + ending, number + 1
        taken.add(folded(name))
        names.append(name)
    return names


def folded(name: str) -> str:
    """The same for names that are one file on some system: without case, accents in one form of Unicode."""
    return unicodedata.normalize("NFC", name.casefold())


def _shortened(stem: str, most_bytes: int) -> str:
    while len(os.fsencode(stem)) > most_bytes:
        stem = stem[:-1]
    return stem


def read_parquet(path: str) -> Iterator[str]:
    """The column ``path`` of a Parquet file, local or by URL. Raises ConfigError where there is none."""
    from moslens.bulk.stores import open_store

    try:
        import pyarrow.parquet as pq  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ModuleNotFoundError:
        raise MissingExtra("bulk", "pyarrow", alone=True) from None
    store, name = open_store(path)
    try:
        file = pq.ParquetFile(store.open(name))
    except Exception as error:  # the store and pyarrow have exceptions of their own
        raise ConfigError(f"cannot be read as a Parquet file ({error})", path) from error
    if "path" not in file.schema_arrow.names:
        raise ConfigError("a Parquet list needs a column path", path)
    columns = [name for name in ("path", "path_base64") if name in file.schema_arrow.names]
    batches = file.iter_batches(columns=columns)
    return (path_in_parquet(row) for batch in batches for row in batch.to_pylist() if row["path"] is not None)
