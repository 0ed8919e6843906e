"""Which sidecar belongs to which photo.

Paths stay strings, as in :mod:`moslens.bulk.inputs`.
"""

# ruff: noqa: PTH100, PTH109, PTH112, PTH118, PTH120, PTH208

import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from moslens.errors import ConfigError, SidecarError
from moslens.picture.names import (
    DEVELOPED_SUFFIXES,
    PICTURE_SUFFIXES,
    RAW_SUFFIXES,
    REFUSED_SUFFIXES,
    duplicate_sidecars,
    is_raw_name,
    stem_of,
    suffix_of,
)
from moslens.rating.xmp import MOST_BYTES

_ENDINGS = (".xmp", ".XMP")
_PHOTO_SUFFIXES = PICTURE_SUFFIXES | RAW_SUFFIXES | REFUSED_SUFFIXES


class Naming(StrEnum):
    """How sidecars are named: ``photo.jpg.xmp``, ``photo.xmp``, or as the sidecars that are there."""

    darktable = "darktable"
    lightroom = "lightroom"
    auto = "auto"


@dataclass(frozen=True)
class Photo:
    """Files that have one sidecar, such as a raw file and its JPEG: one photo.

    ``files`` begins with the one whose score counts: a JPEG or HEIC, then other pictures, then raw files. ``raws`` are
    raw files of the photo that are not among the paths, as a walk leaves them out beside their JPEGs. ``others`` are
    further sidecars that programs may read for it, those of its raw files and of darktable's duplicates among them.
    """

    sidecar: str
    files: tuple[str, ...]
    others: tuple[str, ...]
    raws: tuple[str, ...] = ()


def find_photos(
    paths: Iterable[str], arguments: Sequence[str], *, naming: Naming = Naming.auto, folder: str | None = None
) -> list[Photo]:
    """The photos that the paths are, in the order of their first files, each with its sidecar.

    Without ``folder`` sidecars lie beside their photos. In ``folder`` they lie as the photos lie in the folder that is
    one of ``arguments``, or, where none of these holds the photo, in the current folder. ``auto`` takes the sidecar
    that is there, ``photo.jpg.xmp`` before ``photo.xmp``, and otherwise the way that most sidecars of the folder are
    named, ``photo.jpg.xmp`` where neither is more common.

    Raises ConfigError for a URL, for a photo outside of these folders, and for photos that would share a sidecar but
    are not one photo.
    """
    places = _Places(naming, folder, [os.path.abspath(one) for one in arguments if os.path.isdir(one)])
    files: dict[str, dict[str, str]] = {}
    named: set[str] = set()
    found: dict[str, tuple[str, dict[str, None]]] = {}
    for path in paths:
        if "://" in path and not os.path.lexists(path):
            raise ConfigError("sidecars are written for local files only", path)
        sidecar, others = places.of(path)
        key, whole = os.path.abspath(sidecar), os.path.abspath(path)
        first = next(iter(files.setdefault(key, {})), whole)
        if stem_of(first) != stem_of(whole):
            raise ConfigError(f"{first} and {whole} would share the sidecar {sidecar}: name a folder that holds both")
        files[key].setdefault(whole, path)
        named.add(whole)
        found.setdefault(key, (sidecar, {}))[1].update(dict.fromkeys(others))
    photos = []
    for key, (sidecar, further) in found.items():
        mine = sorted(files[key].values(), key=_rank)
        raws = tuple(raw for raw in places.raws_of(mine[0]) if os.path.abspath(raw) not in named)
        for raw in raws:
            further.update(dict.fromkeys(one for one in places.sidecars_of(raw) if os.path.abspath(one) != key))
        photos.append(Photo(sidecar, tuple(mine), tuple(further), raws))
    return photos


class _Places:
    """Finds the sidecar of a path."""

    def __init__(self, naming: Naming, folder: str | None, roots: Sequence[str]) -> None:
        self._naming, self._folder, self._roots = naming, folder, roots
        self._habits: dict[str, Naming | None] = {}
        self._raws: dict[str, dict[str, list[str]]] = {}
        self._duplicates: dict[str, dict[str, list[str]]] = {}

    def of(self, path: str) -> tuple[str, list[str]]:
        """The sidecar of a path, and the others that are there."""
        beside = _names(path)
        target = beside if self._folder is None else _names(os.path.join(self._folder, self._below(path)))
        naming = self._naming
        if naming == Naming.auto:
            naming = _there(target) or _there(beside) or self._habit(target) or self._habit(beside) or Naming.darktable
        sidecar = target[naming]
        others = [one for names in (target, beside) for one in names.values()] + self._duplicates_of(path)
        return sidecar, [one for one in dict.fromkeys(others) if one != sidecar and os.path.lexists(one)]

    def sidecars_of(self, raw: str) -> list[str]:
        """The sidecars that are there for a raw file beside a path."""
        sidecar, others = self.of(raw)
        return [sidecar, *others] if os.path.lexists(sidecar) else others

    def raws_of(self, path: str) -> list[str]:
        """The raw files beside a path that have its name but for the extension."""
        folder = os.path.dirname(path)
        if folder not in self._raws:
            raws = self._raws[folder] = {}
            for name in filter(is_raw_name, _listed(folder)):
                raw = os.path.join(folder, name)
                raws.setdefault(stem_of(raw), []).append(raw)
        return sorted(self._raws[folder].get(stem_of(path), []))

    def _duplicates_of(self, path: str) -> list[str]:
        folder, name = os.path.split(path)
        if folder not in self._duplicates:
            self._duplicates[folder] = duplicate_sidecars(_listed(folder))
        return [os.path.join(folder, one) for one in self._duplicates[folder].get(name, [])]

    def _habit(self, names: dict[Naming, str]) -> Naming | None:
        folder = os.path.dirname(names[Naming.darktable])
        if folder not in self._habits:
            self._habits[folder] = _habit(folder)
        return self._habits[folder]

    def _below(self, path: str) -> str:
        whole = os.path.abspath(path)
        for root in [*self._roots, os.getcwd()]:
            if whole.startswith(os.path.join(root, "")):
                return os.path.relpath(whole, root)
        raise ConfigError("lies in no folder that is named, nor in this one: name its folder for --sidecars", path)


def _names(path: str) -> dict[Naming, str]:
    """The sidecar of a path by each naming, with the ending that is there."""
    bases = {Naming.darktable: path, Naming.lightroom: path[: len(path) - len(suffix_of(path))]}
    return {
        naming: next((base + end for end in _ENDINGS if os.path.lexists(base + end)), base + _ENDINGS[0])
        for naming, base in bases.items()
    }


def _there(names: dict[Naming, str]) -> Naming | None:
    """The naming by which a photo has a sidecar."""
    return next((naming for naming, name in names.items() if os.path.lexists(name)), None)


def _habit(folder: str) -> Naming | None:
    """How most sidecars of a folder are named."""
    names = [name[:-4] for name in _listed(folder) if name.lower().endswith(".xmp")]
    whole = sum(suffix_of(name) in _PHOTO_SUFFIXES for name in names)
    if 2 * whole == len(names):
        return None
    return Naming.darktable if 2 * whole > len(names) else Naming.lightroom


def _listed(folder: str) -> list[str]:
    with suppress(OSError):
        return os.listdir(folder or os.curdir)
    return []


def _rank(path: str) -> int:
    return 2 if is_raw_name(path) else int(suffix_of(path) not in DEVELOPED_SUFFIXES)


def read_sidecar(path: str) -> bytes | None:
    """The bytes of a sidecar, None where there is none.

    Raises SidecarError for a link, for what is no regular file or too large, and where it cannot be read.
    """
    try:
        mode = os.lstat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SidecarError(f"cannot be read: {error.strerror}", path) from error
    if stat.S_ISLNK(mode.st_mode):
        raise SidecarError("is a symbolic link: it and what it points to are left alone", path)
    if not stat.S_ISREG(mode.st_mode):
        raise SidecarError("is no regular file", path)
    if mode.st_size > MOST_BYTES:
        raise SidecarError(f"larger than {MOST_BYTES:,} bytes", path)
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise SidecarError(f"cannot be read: {error.strerror}", path) from error
