"""Files that are written whole or not at all, JSON, and hashes."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from moslens.errors import CheckpointError, MoslensError, OutputError

CACHE_TAG = "CACHEDIR.TAG"
_CACHE_SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55"


@contextmanager
def whole_file(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a scratch path beside ``path``; the file that the block writes there replaces ``path`` when the block ends.

    A missing folder is created. After an exception ``path`` is as before and the scratch file is removed. ``durable``
    waits until the data are on the disk, so that after a power cut ``path`` is the old file or the new one. Raises
    OutputError for an OSError, in the block or here.
    """
    scratch = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield scratch
        if durable:
            with scratch.open("rb+") as file:
                os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException as error:
        with suppress(OSError):
            scratch.unlink()
        if isinstance(error, OSError):
            raise OutputError(f"cannot be written: {error.strerror or error}", path) from error
        raise


def write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file by :func:`whole_file`. Raises OutputError."""
    with whole_file(path, durable=durable) as scratch:
        scratch.write_bytes(data)


def mark_as_made(folder: Path) -> None:
    """Say by a ``CACHEDIR.TAG`` (bford.info/cachedir) that what lies in the folder is made from other files."""
    write_bytes(folder / CACHE_TAG, _CACHE_SIGNATURE + b"\n# Made by moslens from other pictures.\n", durable=False)


def is_marked_as_made(folder: str | os.PathLike[str]) -> bool:
    """Whether the folder has a ``CACHEDIR.TAG``, of whatever program."""
    try:
        with (Path(folder) / CACHE_TAG).open("rb") as file:
            return file.read(len(_CACHE_SIGNATURE)) == _CACHE_SIGNATURE
    except OSError:
        return False


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text by :func:`whole_file`; undecodable bytes of file names stay as they are."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_json(path: Path, value: Any, *, indent: int = 2) -> None:
    """Write JSON with a final newline by :func:`whole_file`. Raises OutputError; ValueError for NaN or infinity."""
    write_text(path, json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, error: type[MoslensError] = CheckpointError) -> Any:
    """The value in a JSON file. Raises ``error`` where it is missing or broken."""
    try:
        return json.loads(path.read_text("utf-8"))
    except OSError as cause:
        raise error(f"cannot be read: {cause.strerror or cause}", path) from cause
    except ValueError as cause:
        raise error(f"not valid JSON ({cause})", path) from cause


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
