"""A folder of Parquet parts, local or in an object store: what it holds already, and new parts, whole or not at all.

A part is named by its place in the listing and by a hash of the model and the paths in it. Whoever scores the same
pictures again, be it after a crash or because a worker was thought dead, writes the same rows under the same name.
"""

import hashlib
import io
import os
import posixpath
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from moslens.bulk.rows import Row, path_of_csv_name
from moslens.bulk.stores import open_store
from moslens.bulk.writers import parquet, parquet_table
from moslens.errors import OutputError


class Parts:
    """The parts in ``url``, a folder or fsspec URL. Picklable. Raises OutputError where it cannot be used."""

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
        """Whether there is a part already."""
        return bool(self._names())

    def done(self, model_id: str) -> tuple[set[str], int]:
        """Paths that have their row by this model, and how many of those rows are errors."""
        _, pq = parquet()
        paths: set[str] = set()
        errors = 0
        for name in self._names():
            try:
                with self._store.open(name) as file:
                    rows = pq.read_table(file, columns=["path", "model", "status"]).to_pylist()
            except Exception as error:
                raise OutputError(f"not a part of results ({error})", name) from error
            mine = [row for row in rows if row["model"] == model_id]
            paths.update(path_of_csv_name(row["path"]) for row in mine)
            errors += sum(row["status"] != "ok" for row in mine)
        return paths, errors

    def write(self, name: str, rows: Iterable[Row]) -> None:
        """Write the rows as one part; it appears under its name when it is whole."""
        _, pq = parquet()
        buffer = io.BytesIO()
        pq.write_table(parquet_table(rows), buffer)
        target = posixpath.join(self._root, name)
        if "file" in _protocols(self._store):
            # A reader of the folder passes over names that begin with a dot.
            scratch = posixpath.join(self._root, f".{name}.{uuid.uuid4().hex}")
            with open(scratch, "wb") as file:  # noqa: PTH123
                file.write(buffer.getbuffer())
            os.replace(scratch, target)  # noqa: PTH105
        else:
            self._store.pipe_file(target, buffer.getvalue())  # in a store an object is there whole or not at all

    def tidy(self) -> None:
        """Remove what writers that were killed left behind."""
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
    """The name of the part that begins at place ``start`` of the listing."""
    digest = hashlib.sha256(model_id.encode())
    for path in paths:
        digest.update(b"\0" + os.fsencode(path))
    return f"part-{start:010d}-{digest.hexdigest()[:16]}.parquet"


def chunks(paths: Iterable[str], done: set[str], size: int) -> Iterator[tuple[int, list[str]]]:
    """Paths that have no row yet, each once, in pieces of ``size`` with the place of their first in the listing.

    ``done`` grows by what was given out.
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
