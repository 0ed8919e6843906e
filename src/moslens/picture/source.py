"""The types of what is taken as a picture; how each is read is in load.py."""

import os
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, Union

if TYPE_CHECKING:
    from PIL.Image import Image


class BinaryFile(Protocol):
    """A file that is open for reading bytes."""

    def read(self, size: int = ..., /) -> bytes: ...


class ArrayLike(Protocol):
    """An array or tensor: height x width, that x 3 or x 4, or a torch tensor of 3 x height x width."""

    def __array__(self, *arguments: Any, **named: Any) -> Any: ...


Source: TypeAlias = Union[str, "os.PathLike[str]", bytes, bytearray, memoryview, BinaryFile, ArrayLike, "Image"]
"""A picture: a path, the bytes of a file, an open binary file, a ``PIL.Image``, an array or a torch tensor."""
