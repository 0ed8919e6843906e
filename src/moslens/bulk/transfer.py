"""Move or copy photos into a folder, each with its raw file and sidecars: never over another file, whole after a kill.

``moslens-pick.jsonl`` in the folder is the log. All that a run is to do is on the disk there before the first file is
touched; a line ``{"done": true}`` closes it. A run that finds an open plan carries it out first. A file of another file
system is copied beside its target, then given its name, and only then removed where it was.
"""

# ruff: noqa: PTH100, PTH113, PTH114, PTH116, PTH118, PTH119, PTH122, PTH208

import errno
import filecmp
import json
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from moslens.bulk.inputs import folded
from moslens.errors import OutputError
from moslens.picture.names import (
    DEVELOPED_SUFFIXES,
    PICTURE_SUFFIXES,
    RAW_SUFFIXES,
    REFUSED_SUFFIXES,
    duplicate_sidecars,
    is_raw_name,
    suffix_of,
)
from moslens.system.interrupts import Interrupts
from moslens.system.lock import lock
from moslens.system.text import name_fields, name_in

LOG = "moslens-pick.jsonl"

_PICTURES = PICTURE_SUFFIXES | RAW_SUFFIXES | REFUSED_SUFFIXES
_DONE = b'{"done": true}\n'


@dataclass(frozen=True, slots=True)
class Transfer:
    """One file to move (or copy) to ``target``, a name in the folder of the log. ``source`` is an absolute path.

    ``size`` and ``modified`` (nanoseconds) are those of the file when this was planned: another file is left alone.
    """

    source: str
    target: str
    copy: bool
    size: int
    modified: int

    def to_line(self) -> bytes:
        facts = {"size": self.size, "modified": self.modified}
        names = name_fields("source", self.source) | name_fields("target", self.target)
        return json.dumps({"action": "copy" if self.copy else "move"} | names | facts).encode("ascii") + b"\n"

    @classmethod
    def of_row(cls, row: dict[str, Any]) -> "Transfer":
        source, target = name_in(row, "source"), name_in(row, "target")
        return cls(source, target, row["action"] == "copy", row["size"], row["modified"])


class TransferLog:
    """The log of a folder; both are made when there is something to do. Only one run at a time has the log open.

    Raises OutputError where the log or the folder cannot be written, and for another file of the log's name.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problems: list[OutputError] = []
        """What could not be moved or copied; it stays where it is."""
        self._path = folder / LOG
        self._past: list[Transfer] = []
        self._moved: set[str] = set()
        self._open: list[Transfer] = []
        self._file: IO[bytes] | None = None
        if os.path.lexists(self._path):
            self._begin()
        else:
            self._require_place()

    def __enter__(self) -> "TransferLog":
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def _require_place(self) -> None:
        """Say before any work that the folder cannot be made or written."""
        above = next(one for one in (self.folder, *self.folder.absolute().parents) if os.path.lexists(one))
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            reason = os.strerror(errno.EACCES if above.is_dir() else errno.ENOTDIR)
            raise OutputError(f"cannot be written: {reason}", self._path)

    def _begin(self) -> IO[bytes]:
        """Open the log, read what earlier runs wrote, and give its file."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = self._path.open("ab", buffering=0)
        except OSError as error:
            raise OutputError(f"cannot be written: {error.strerror}", self._path) from error
        try:
            lock(file.fileno(), os.fspath(self._path))
            file.truncate(self._read())
        except BaseException:
            file.close()
            raise
        self._file = file
        return file

    def _read(self) -> int:
        """Take what is logged; where its last whole plan ends, in bytes."""
        pending: list[Transfer] = []  # of a plan that is not closed: a kill cut it short, and nothing of it was done
        end = offset = 0
        for line in self._path.read_bytes().splitlines(keepends=True):
            offset += len(line)
            try:
                row = json.loads(line) if line.endswith(b"\n") else {}
                if "planned" in row:
                    self._open += pending
                elif "done" in row:
                    self._close_plan()
                elif row:
                    pending.append(Transfer.of_row(row))
                    continue
                else:
                    break
            except (ValueError, KeyError, TypeError) as error:
                raise OutputError("not a log of moslens pick, so nothing was moved or copied", self._path) from error
            pending.clear()
            end = offset
        return end

    def finish(self, on_file: Callable[[], None] = lambda: None) -> int:
        """Carry out what is planned and open; how many files are now in place. Problems go to ``problems``."""
        count = 0
        with Interrupts() as interrupts:
            for transfer in self._open:
                with interrupts.held():
                    try:
                        _carry_out(transfer, self.folder / transfer.target)
                        count += 1
                    except OSError as error:
                        self.problems.append(OutputError(_words(error, transfer, self.folder), transfer.source))
                on_file()
        if self._open:
            self._append(_DONE)
            self._close_plan()
        return count

    def _close_plan(self) -> None:
        self._past += self._open
        self._moved.update(one.source for one in self._open if not one.copy)
        self._open.clear()

    @property
    def waiting(self) -> int:
        """How many files are planned and not done."""
        return len(self._open)

    def took(self, path: str) -> bool:
        """Whether an earlier run moved the file of this path into the folder."""
        return os.path.abspath(path) in self._moved

    def plan(self, pictures: Sequence[str], *, copy: bool) -> dict[str, Path]:
        """Write down that the photos of these pictures are to be moved or copied; where each picture will be.

        Raw files and sidecars go with their picture. A symbolic link is copied as what it names, and is not moved. A
        picture that an earlier run copied, and that has not changed, is not copied again.
        """
        taken = {folded(name) for name in os.listdir(self.folder)} if self.folder.exists() else set()
        copied = {(one.source, one.size, one.modified): one.target for one in self._past if one.copy}
        photos = _Photos([os.path.abspath(path) for path in pictures], copy=copy)
        placed: dict[str, Path] = {}
        planned: list[Transfer] = []
        going: dict[str, str] = {}
        for path in pictures:
            source = os.path.abspath(path)
            if source in going:  # with another picture of the same photo
                placed[path] = self.folder / going[source]
                continue
            try:
                if not copy and os.path.islink(source):
                    raise OutputError("a symbolic link is not moved", path)
                facts = [(file, ending, os.stat(file)) for file, ending in photos.files(source)]
            except OSError as error:
                self.problems.append(OutputError(error.strerror or str(error), path))
                continue
            except OutputError as error:
                self.problems.append(error)
                continue
            earlier = copied.get((source, facts[0][2].st_size, facts[0][2].st_mtime_ns))
            if copy and earlier is not None and (self.folder / earlier).exists():
                placed[path] = self.folder / earlier
                continue
            targets = _free_names(
                os.path.splitext(os.path.basename(source))[0], [ending for _, ending, _ in facts], taken
            )
            taken.update(map(folded, targets))
            placed[path] = self.folder / targets[0]
            for (file, _, status), target in zip(facts, targets, strict=True):
                planned.append(Transfer(file, target, copy, status.st_size, status.st_mtime_ns))
                going[file] = target
        if planned:
            # One write and a line with the count behind it: a plan that a kill cut short is not carried out.
            closing = json.dumps({"planned": len(planned)}).encode("ascii") + b"\n"
            self._append(b"".join(one.to_line() for one in planned) + closing)
            self._open += planned
        return placed

    def _append(self, data: bytes) -> None:
        file = self._file or self._begin()
        try:
            while data:
                data = data[file.write(data) :]
            os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(f"cannot be written: {error.strerror}", self._path) from error


class _Folder:
    """The names in a folder: pictures by their stem in lower case, XMP files by their name without ``.xmp``."""

    def __init__(self, folder: str) -> None:
        names = os.listdir(folder)
        self.pictures: dict[str, list[str]] = {}
        self.sidecars: dict[str, list[str]] = {}
        self.duplicates = duplicate_sidecars(names)
        for name in sorted(names):
            stem, suffix = os.path.splitext(name)
            if suffix.lower() == ".xmp":
                self.sidecars.setdefault(stem, []).append(name)
            elif suffix.lower() in _PICTURES:
                self.pictures.setdefault(stem.lower(), []).append(name)


class _Photos:
    """Which files go with the pictures that are ``leaving`` (absolute paths). Each folder is listed once."""

    def __init__(self, leaving: Sequence[str], *, copy: bool) -> None:
        self._leaving, self._copy = set(leaving), copy
        self._folders: dict[str, _Folder] = {}
        self._given: set[str] = set()

    def files(self, picture: str) -> list[tuple[str, str]]:
        """A picture, the raw or developed files of the same photo, and the XMP files of all of them.

        Each comes with what its name has behind the stem of the picture. A file that several pictures share is not
        moved while one of them stays, goes with the first of them, and is copied with each, raw files only once.
        """
        folder, name = os.path.split(picture)
        if folder not in self._folders:
            self._folders[folder] = _Folder(folder)
        listed = self._folders[folder]
        alike = listed.pictures.get(os.path.splitext(name)[0].lower(), [])
        photo = [name, *self._companions(folder, name, alike)]
        sidecars: list[str] = []
        for one in photo:
            sidecars += listed.sidecars.get(one, []) + listed.duplicates.get(one, [])
        going = self._leaving.union(os.path.join(folder, one) for one in photo)
        if self._copy or all(os.path.join(folder, other) in going for other in alike):
            for stem in dict.fromkeys(os.path.splitext(one)[0] for one in photo):
                sidecars += listed.sidecars.get(stem, [])
        found = []
        for one in dict.fromkeys([*photo, *sidecars]):
            path = os.path.join(folder, one)
            if one == name or (path not in self._given and os.path.isfile(path)):
                # The stems of a photo differ in case at most.
                found.append((path, one[len(os.path.splitext(name)[0]) :]))
                if not self._copy or one in photo:
                    self._given.add(path)
        return found

    def _companions(self, folder: str, name: str, alike: Sequence[str]) -> list[str]:
        """The raw files of a JPEG or HEIC that goes with all others of its name; all that was made of a raw file."""
        developed = [one for one in alike if suffix_of(one) in DEVELOPED_SUFFIXES]
        if not developed or not any(map(is_raw_name, alike)):
            return []
        if is_raw_name(name):
            others = developed
        elif name in developed and (self._copy or all(os.path.join(folder, one) in self._leaving for one in developed)):
            others = [one for one in alike if is_raw_name(one)]
        else:
            others = []
        return [one for one in others if os.path.join(folder, one) not in self._given]


def _free_names(stem: str, endings: Sequence[str], taken: set[str]) -> list[str]:
    """The names of a picture and its sidecars in the folder: -2, -3 ... behind the stem where one of them is taken."""
    numbered, number = stem, 1
    while taken.intersection(folded(numbered + ending) for ending in endings):
        number += 1
        numbered = f"{stem}-{number}"
    return [numbered + ending for ending in endings]


def _carry_out(transfer: Transfer, target: Path) -> None:
    """Move or copy one file, or finish it. Raises OSError, FileExistsError for another file of that name."""
    source = Path(transfer.source)
    if os.path.lexists(target):
        # A copy that was finished, or a move that was killed before it removed the source.
        if transfer.copy or not os.path.lexists(source):
            return
        same = not target.is_symlink() and (source.samefile(target) or filecmp.cmp(source, target, shallow=False))
        if not same:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        _leave_only(target, source)
        return
    status = source.stat()
    if (status.st_size, status.st_mtime_ns) != (transfer.size, transfer.modified):
        raise OSError(errno.ESTALE, "it has changed since it was chosen")
    if not transfer.copy:
        try:
            _name(source, target)
            return
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
    scratch = target.with_name(f"{target.name}.partial")
    try:
        shutil.copy2(source, scratch)
        with scratch.open("rb+") as file:
            os.fsync(file.fileno())
        _name(scratch, target)
    except BaseException:
        with suppress(OSError):
            scratch.unlink()
        raise
    if not transfer.copy:
        _leave_only(target, source)


def _name(source: Path, target: Path) -> None:
    """Rename a file within its file system. Raises FileExistsError where the name is taken, at whatever moment."""
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.EXDEV):
            raise
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from error
        source.rename(target)  # a file system without hard links
        return
    _leave_only(target, source)


def _leave_only(target: Path, source: Path) -> None:
    """Remove the source of a move; where that is not permitted the target, so that nothing is there twice."""
    try:
        source.unlink()
    except OSError:
        target.unlink()
        raise


def _words(error: OSError, transfer: Transfer, folder: Path) -> str:
    verb = "copied" if transfer.copy else "moved"
    return f"cannot be {verb} to {folder / transfer.target}: {error.strerror or error}"
