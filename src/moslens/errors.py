"""The errors that moslens raises, one small tree.

```text
MoslensError
+-- ImageError            a picture could not be used; .path and .code
|   +-- UnreadableImage   unreadable    missing, no permission, a folder
|   +-- EmptyImage        empty         no bytes
|   +-- NotAnImage        not_an_image  no decoder knows it
|   +-- TruncatedImage    truncated     the file ends too early
|   +-- CorruptImage      corrupt       the decoder found broken data
|   +-- UnsupportedImage  unsupported   a known format that cannot be decoded here
|   +-- ImageTooSmall     too_small     a side below the minimum
|   +-- ImageTooLarge     too_large     more pixels than the cap
|   +-- InternalError     internal      a fault of moslens itself
+-- ConfigError           a configuration file or option is wrong
+-- DatasetError          a data set is incomplete or malformed
+-- CheckpointError       a run folder cannot be resumed or read
+-- ModelError            a model folder is missing, broken or altered
|   +-- NoMapsError       the model has no quality maps
+-- OutputError           results cannot be written as asked
+-- SidecarError          an XMP sidecar cannot be read or changed
+-- MissingExtra          an optional dependency is not installed
```
"""

import os
import re
from contextlib import suppress


class MoslensError(Exception):
    """Base of every error raised on purpose. ``path`` names the file concerned, ``code`` the kind of fault."""

    code = "error"

    def __init__(self, message: str, path: str | os.PathLike[str] | None = None) -> None:
        self.path = None if path is None else os.fspath(path)
        self.message = message if self.path is None else f"{self.path}: {message}"
        super().__init__(self.message)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.path)


def _rebuild(kind: type[MoslensError], message: str, path: str | None) -> MoslensError:
    error = kind(message)
    error.path = path
    return error


class ImageError(MoslensError):
    """A picture that cannot be used."""

    code = "internal"


class UnreadableImage(ImageError):
    """Missing, not permitted, or not a regular file."""

    code = "unreadable"


class EmptyImage(ImageError):
    """The file has no bytes."""

    code = "empty"


class NotAnImage(ImageError):
    """No decoder recognises the bytes."""

    code = "not_an_image"


class TruncatedImage(ImageError):
    """The file ends before the picture does."""

    code = "truncated"


class CorruptImage(ImageError):
    """The format is known, its data is broken."""

    code = "corrupt"


class UnsupportedImage(ImageError):
    """A known format or pixel type that cannot be decoded here."""

    code = "unsupported"


class ImageTooSmall(ImageError):
    """A side is below the smallest size that is scored."""

    code = "too_small"


class ImageTooLarge(ImageError):
    """More pixels than the cap allows."""

    code = "too_large"


class InternalError(ImageError):
    """A fault inside moslens while it worked on a picture."""

    code = "internal"

    @classmethod
    def of(cls, error: Exception, path: str | os.PathLike[str] | None = None) -> "InternalError":
        """The fault that an exception of another type is, with its type and words."""
        return cls(f"{type(error).__name__}: {error}", path)


class ConfigError(MoslensError):
    """A configuration file or option is wrong."""

    code = "config"


class DatasetError(MoslensError):
    """A data set is incomplete or malformed."""

    code = "dataset"


class CheckpointError(MoslensError):
    """A run folder cannot be read or resumed."""

    code = "checkpoint"


class ModelError(MoslensError):
    """A model folder is missing, broken or altered."""

    code = "model"


class NoMapsError(ModelError):
    """The model gives scores only; it has no quality maps."""

    code = "no_maps"


class OutputError(MoslensError):
    """Results cannot be written as asked."""

    code = "output"


class SidecarError(MoslensError):
    """An XMP sidecar, or the XMP inside a photo, cannot be read or changed."""

    code = "sidecar"


class MissingExtra(MoslensError):
    """An optional dependency is not installed; the message names the extra and its packages that are missing.

    It names the package ``alone`` where this needs nothing else of the extra.
    """

    code = "missing_extra"

    def __init__(self, extra: str, package: str, *, alone: bool = False) -> None:
        super().__init__(f"this needs {package}: {install_hint(extra, package, alone=alone)}")

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_missing, (self.message,)


def install_hint(extra: str, package: str, *, alone: bool = False) -> str:
    """The command that installs what ``extra`` lacks here, or the package ``alone``.

    It names packages and not the extra of moslens: the package of that name on an index may be another's.
    """
    from importlib.metadata import PackageNotFoundError, distribution, requires

    needed: list[str] = []
    with suppress(PackageNotFoundError):
        for requirement in () if alone else requires("moslens") or ():
            name, _, condition = requirement.partition(";")
            if re.search(rf"extra == ['\"]{extra}['\"]", condition):
                needed.append(re.split(r"[<>=!~ ]", name, maxsplit=1)[0])
    missing = []
    for name in needed:
        try:
            distribution(name.partition("[")[0])
        except PackageNotFoundError:
            missing.append(f"'{name}'" if "[" in name else name)
    return f"pip install {' '.join(missing) or package.replace('_', '-')} (the extra {extra})"


def _rebuild_missing(message: str) -> MissingExtra:
    error = MissingExtra.__new__(MissingExtra)
    MoslensError.__init__(error, message)
    return error
