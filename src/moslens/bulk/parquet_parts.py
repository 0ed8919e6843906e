"""A folder of Parquet parts, local or in an object store: the rows it has, and new parts, each written whole.

A part is named by its place in the listing and by a hash of the model and the paths in it. A worker that scores the
same pictures again, after a crash or because another was taken for dead, writes the same rows under the same name.
"""

import hashlib
import io
import os
import posixpath
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from moslens.bulk.rows import Row, path_in_parquet
from moslens.bulk.stores import open_store
from moslens.bulk.writers import parquet, parquet_table
from moslens.errors import OutputError


class ParquetParts:
    """The parts in ``url``, a folder or fsspec URL. Picklable. Raises OutputError where it cannot be written."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._store, self._root = open_store(url)
        parquet()
        try:
            self._store.makedirs(self._root, exist_ok=True)
            if not self._names() and self._store.exists(self._root) and not self._store.isdir(self._root):
                raise OutputError("is no folder", url)
        except OSError as error:
            raise OutputError(f"cannot be written: {error.strerror or error}", url) from error

    def __bool__(self) -> bool:
        """Whether there is any part."""
        return bool(self._names())

    def done(self, model_id: str) -> tuple[set[str], int]:
        """The paths that have a row by this model, and how many of these rows are errors. Raises OutputError."""
        _, pq = parquet()
        paths: set[str] = set()
        errors = 0
        for name in self._names():
            try:
                with self._store.open(name) as file:
                    part = pq.ParquetFile(file)
                    columns = {"path", "path_base64", "model", "status"} & set(part.schema_arrow.names)
                    rows = part.read(columns=sorted(columns)).to_pylist()
                mine = [row for row in rows if row["model"] == model_id]
                paths.update(map(path_in_parquet, mine))
                errors += sum(row["status"] != "ok" for row in mine)
            except Exception as error:
                raise OutputError(f"not a part of results ({error})", name) from error
        return paths, errors

    def write(self, name: str, rows: Iterable[Row]) -> None:
        """Write the rows as the part ``name``, which appears under its name when it is whole."""
        _, pq = parquet()
        buffer = io.BytesIO()
        pq.write_table(parquet_table(rows), buffer)
        target = posixpath.join(self._root, name)
        if "file" in _protocols(self._store):
            # Readers of the folder skip names that begin with a dot, and two workers may write one part at a time: so
            # not system.files.whole_file, whose scratch file ends in .partial and is the same for both.
            scratch = posixpath.join(self._root, f".{name}.{uuid.uuid4().hex}")
            with open(scratch, "wb") as file:  # noqa: PTH123
                file.write(buffer.getbuffer())
            os.replace(scratch, target)  # noqa: PTH105
        else:
            self._store.pipe_file(target, buffer.getvalue())  # in a store an object is there whole or not at all

    def tidy(self) -> None:
        """Remove the scratch files of workers that were killed."""
        if "file" in _protocols(self._store):
            for entry in os.scandir(self._root):
                if entry.name.startswith(".part-"):
                    os.unlink(entry.path)  # noqa: PTH108

    def _names(self) -> list[str]:
        self._store.invalidate_cache()
        found = self._store.ls(self._root, detail=False) if self._store.isdir(self._root) else []
        names = [name for name in found if posixpath.basename(name).startswith("part-")]
        return sorted(name for name in names if name.endswith(".parquet"))


def part_name(start: int, paths: Sequence[str], model_id: str) -> str:
    """The name of the part whose first path has place ``start`` in the listing."""
    digest = hashlib.sha256(model_id.encode())
    for path in paths:
        digest.update(b"\0" + os.fsencode(path))
    return f"part-{start:010d}-{digest.hexdigest()[:16]}.parquet"


def chunks(paths: Iterable[str], done: set[str], size: int) -> Iterator[tuple[int, list[str]]]:
    """Paths that are not in ``done``, each once, in pieces of ``size`` with the place of their first in the listing.

    The paths of a piece are added to ``done``.
    """
    piece: list[str] = []
    start = 0
    for place, path in enumerate(paths):
        if path in done:
            continue
        done.add(path)
        if not piece:
            start = place
        piece.append(path)
        if len(piece) == size:
            yield start, piece
            piece = []
    if piece:
        yield start, piece


def _protocols(store: Any) -> tuple[str, ...]:
    return (store.protocol,) if isinstance(store.protocol, str) else tuple(store.protocol)
