"""The folders that a server may read, and the pictures in them.

Every path is resolved, links and ``..`` too, before it is looked at; what then lies in no root is refused.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from moslens.errors import ConfigError, UnreadableImage
from moslens.picture.choice import Choice
from moslens.picture.load import Named
from moslens.picture.walk import walk


class Forbidden(Exception):
    """A path is in no root, or more is asked for than the limits allow. The message is for the client."""


@dataclass(frozen=True)
class Listing:
    """The pictures that paths name: each under the name that the client knows, and resolved."""

    names: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


class Roots:
    """The folders that may be read, with their limits: pictures in one request, and bytes of one picture.

    Raises ConfigError for a folder that is missing.
    """

    def __init__(self, folders: Sequence[Path], *, max_pictures: int, max_bytes: int) -> None:
        self.max_pictures, self.max_bytes = max_pictures, max_bytes
        for folder in folders:
            if not folder.is_dir():
                raise ConfigError("no such folder", folder)
        self._roots = [os.path.realpath(folder) for folder in folders]

    def resolve(self, path: str) -> str:
        """The real path of a file or folder in a root; a relative path is one below the first root that has it.

        Raises Forbidden where it is in no root, whether it exists or not.
        """
        if "\0" in path or not path:
            raise Forbidden("a path must not be empty, nor have a null character")
        found = [os.path.realpath(os.path.join(root, path)) for root in self._roots]  # noqa: PTH118
        inside = [real for real in found if self.holds(real)]
        if not inside:
            raise Forbidden(f"{path}: outside the folders that this server may read")
        return next(filter(os.path.exists, inside), inside[0])

    def holds(self, real: str) -> bool:
        """Whether a resolved path is in a root."""
        return any(real == root or real.startswith(os.path.join(root, "")) for root in self._roots)  # noqa: PTH118

    def pictures(self, paths: Sequence[str]) -> Listing:
        """The pictures that ``paths`` name, files and folders with all below them, in order.

        Raises Forbidden for a path outside the roots, for no picture, and for more than ``max_pictures``.
        """
        listing = Listing()
        choice = Choice()
        outside = 0
        for path in paths:
            real = self.resolve(path)
            if not os.path.isdir(real):  # noqa: PTH112
                self._add(listing, path, real)
                continue
            for file in walk(real, choice, may_enter=lambda folder: self.holds(os.path.realpath(folder))):
                resolved = os.path.realpath(file)
                if not self.holds(resolved):
                    outside += 1
                    continue
                self._add(listing, os.path.join(path, os.path.relpath(file, real)), resolved)  # noqa: PTH118
        if not listing.names:
            raise Forbidden("no picture")
        listing.left_out.extend(choice.left_out())
        if outside:
            listing.left_out.append(f"left out {outside:,} links to files outside the folders that may be read")
        return listing

    def sources(self, listing: Listing) -> Iterator[Named]:
        """What a scorer takes for the pictures of a listing; each is read when it is its turn."""
        for name, file in zip(listing.names, listing.files, strict=True):
            yield Named(name, partial(self._read, file))

    def _add(self, listing: Listing, name: str, file: str) -> None:
        if len(listing.names) >= self.max_pictures:
            raise Forbidden(f"more than {self.max_pictures:,} pictures; name fewer, or a smaller folder")
        listing.names.append(name)
        listing.files.append(file)

    def _read(self, file: str) -> bytes:
        """The bytes of a resolved file. A link that was put in its place since then is not followed."""
        try:
            descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
            with open(descriptor, "rb") as opened:  # noqa: PTH123
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise UnreadableImage("not a regular file")
                if status.st_size > self.max_bytes:
                    raise UnreadableImage(f"{status.st_size:,} bytes are more than the limit of {self.max_bytes:,}")
                return opened.read(self.max_bytes)
        except OSError as error:
            raise UnreadableImage(error.strerror or "cannot be read") from error
