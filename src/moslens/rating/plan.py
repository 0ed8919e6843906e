"""The plan of a run: each change of a sidecar, written before the change is made, and the way back."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from moslens.errors import ConfigError, MoslensError, OutputError, SidecarError
from moslens.rating.sidecars import read_sidecar
from moslens.rating.xmp import MOST_BYTES
from moslens.system.files import whole_file
from moslens.system.lock import lock
from moslens.system.text import name_fields, name_in

_HEADER = {"moslens": "plan of moslens rate", "version": 1}
_BEGINS = json.dumps(_HEADER)[:30].encode()


@dataclass(frozen=True)
class Change:
    """The bytes of a sidecar before and after, None for no file. ``modified``: its time then, in nanoseconds.

    ``sidecar`` and ``photo``, which it is for, are absolute paths. ``new_folders`` are those that the change makes, the
    innermost first.
    """

    sidecar: str
    photo: str
    before: bytes | None
    modified: int | None
    new_folders: tuple[str, ...]
    after: str  # SHA-256

    @classmethod
    def to(cls, sidecar: str, photo: str, before: bytes | None, data: bytes) -> Change:
        """The change of a sidecar from what it holds now to ``data``. Raises SidecarError if it may not be written."""
        path = Path(sidecar).absolute()
        modified = None
        folders: list[str] = []
        try:
            if before is not None:
                modified = path.stat().st_mtime_ns
                if not os.access(path, os.W_OK):
                    raise SidecarError("is read-only", sidecar)
            else:
                folders = [str(one) for one in path.parents if not os.path.lexists(one)]
        except OSError as error:
            raise SidecarError(f"cannot be read: {error.strerror}", sidecar) from error
        after = hashlib.sha256(data).hexdigest()
        return cls(str(path), str(Path(photo).absolute()), before, modified, tuple(folders), after)

    def to_line(self) -> bytes:
        """The change as a line of JSON."""
        before = None if self.before is None else base64.b64encode(zlib.compress(self.before)).decode("ascii")
        row = {
            **name_fields("sidecar", self.sidecar),
            **name_fields("photo", self.photo),
            "before": before,
            "modified": self.modified,
            "new_folders": [name_fields("path", one) for one in self.new_folders],
            "after": self.after,
        }
        return json.dumps(row).encode("ascii") + b"\n"

    @classmethod
    def of_line(cls, line: bytes) -> Change:
        """The change in a line. Raises ValueError, KeyError, TypeError or zlib.error for another line."""
        row = json.loads(line)
        before, modified = row["before"], row["modified"]
        if before is not None:
            unpacker = zlib.decompressobj()
            before = unpacker.decompress(base64.b64decode(before, validate=True), MOST_BYTES + 1)
            if not unpacker.eof or not isinstance(modified, int):
                raise ValueError("the bytes before are not whole")
        folders = tuple(str(name_in(one)) for one in row["new_folders"])
        sidecar = str(name_in(row, "sidecar"))
        if not sidecar.lower().endswith(".xmp"):
            raise ValueError("not a sidecar")
        return cls(sidecar, str(name_in(row, "photo")), before, modified, folders, str(row["after"]))


class Plan:
    """Appends changes to a file, which is made with the first. A change is on the disk when :meth:`add` returns.

    The file may be the plan of an earlier run; its last line is cut off if it is not whole. Raises OutputError for any
    other file, where another run writes to it, and where it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def add(self, change: Change) -> None:
        try:
            if self._descriptor is None:
                self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
                self._begin(self._descriptor)
            _append(self._descriptor, change.to_line())
        except OSError as error:
            raise OutputError(f"the plan cannot be written: {error.strerror}", self.path) from error

    def _begin(self, descriptor: int) -> None:
        lock(descriptor, os.fspath(self.path))
        size = os.fstat(descriptor).st_size
        with open(descriptor, "rb", closefd=False) as file:
            head = file.read(len(_BEGINS))
            if not _BEGINS.startswith(head):
                raise OutputError("not a plan of moslens rate, so nothing was added", self.path)
            file.seek(0)
            whole = sum(len(line) for line in file if line.endswith(b"\n"))
        if whole < size:
            os.ftruncate(descriptor, whole)
        if whole == 0:
            _append(descriptor, json.dumps(_HEADER).encode() + b"\n")

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _append(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
    os.fsync(descriptor)


def write_sidecar(path: str, data: bytes, modified: int | None = None) -> None:
    """Write a sidecar whole or not at all; one that is there keeps its permissions and owner. Raises OutputError.

    ``modified`` is the time that it gets, in nanoseconds; now where it is None.
    """
    with whole_file(Path(path)) as scratch:
        scratch.write_bytes(data)
        with suppress(FileNotFoundError):
            before = Path(path).stat()
            if hasattr(os, "chown"):
                with suppress(PermissionError):  # only root gives files away
                    os.chown(scratch, before.st_uid, before.st_gid)
            shutil.copymode(path, scratch)
        if modified is not None:
            os.utime(scratch, ns=(modified, modified))


class Undone(StrEnum):
    """What became of a sidecar in :func:`undo`."""

    removed = "removed"
    restored = "restored"
    same = "same"
    """It is already as it was before the change."""
    left = "left"
    """It was changed since, and stays as it is."""
    missing = "missing"
    """Neither the sidecar nor its photo is there: both may have been moved."""


def undo(plan: Path) -> Iterator[tuple[str, Undone | MoslensError]]:
    """Take back the changes of a plan, the last one first: each sidecar, and what became of it or the error.

    A sidecar that was changed since is left. Can be repeated, also after a run that was killed. Raises ConfigError for
    a file that is no plan or cannot be read.
    """
    changes = read_plan(plan)
    states: dict[str, list[bytes | None]] = {}
    for change in changes:
        states.setdefault(change.sidecar, []).append(change.before)
    for change in reversed(changes):
        states[change.sidecar].pop()
        try:
            yield change.sidecar, _take_back(change, states[change.sidecar])
        except (SidecarError, OutputError) as error:
            yield change.sidecar, error


def read_plan(path: Path) -> list[Change]:
    """The changes of a plan. A last line that is not whole is left out: its change was not made. Raises ConfigError."""
    try:
        lines = [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", path) from error
    if not lines or not lines[0].startswith(_BEGINS):
        raise ConfigError("not a plan of moslens rate", path)
    header: Any = None
    changes = []
    for number, line in enumerate(lines, 1):
        try:
            if number == 1:
                header = json.loads(line)
            else:
                changes.append(Change.of_line(line))
        except (ValueError, KeyError, TypeError, zlib.error) as error:
            raise ConfigError(f"line {number} is not of a plan, so nothing was undone", path) from error
    if header != _HEADER:
        raise ConfigError("a plan of another version of moslens", path)
    return changes


def _take_back(change: Change, earlier: Sequence[bytes | None]) -> Undone:
    """Undo one change; ``earlier`` are the states of the sidecar before the changes in front of it."""
    path = Path(change.sidecar)
    now = read_sidecar(change.sidecar)
    if now is None and not os.path.lexists(change.photo):
        return Undone.missing
    if now != change.before and now in earlier:  # an undo before this one went further
        return Undone.same
    if now == change.before:
        outcome = Undone.same
    elif now is None or hashlib.sha256(now).hexdigest() != change.after:
        return Undone.left
    else:
        outcome = Undone.removed if change.before is None else Undone.restored
    try:
        path.with_name(f"{path.name}.partial").unlink(missing_ok=True)  # of a run that was killed
        if change.before is None:
            path.unlink(missing_ok=True)
            with suppress(OSError):  # something else lies in it by now
                for folder in change.new_folders:
                    Path(folder).rmdir()
        elif outcome == Undone.restored:
            write_sidecar(change.sidecar, change.before, change.modified)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", path) from error
    return outcome
