"""Pictures that are no files: arrays, tensors and open files, made into what the decoding policy reads.

Nothing is guessed: an array that could mean two pictures is refused, with the line of Python that says which.
"""

import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from moslens.errors import UnreadableImage, UnsupportedImage

LEAST, MOST = -0.1, 1.1
"""How far floats may lie outside [0, 1], as resizing leaves them; they are clipped."""


def in_memory(source: Any, named: Callable[[str, Callable[[], bytes]], Any]) -> Any:
    """An array, tensor, buffer or open file as an H x W x 3 uint8 array, a PIL image or bytes; all else as it is.

    ``named`` makes a source of the name of an open file and the function that reads it. Raises UnsupportedImage for
    what would have to be guessed, UnreadableImage for a file that cannot be read.
    """
    if isinstance(source, str | bytes | os.PathLike | Image.Image):
        return source
    if isinstance(source, bytearray | memoryview):
        return bytes(source)
    torch = sys.modules.get("torch")  # whoever has a tensor has imported it
    if torch is not None and isinstance(source, torch.Tensor):
        return _from_tensor(source)
    if hasattr(source, "__array__"):
        return _from_array(np.asarray(source))
    if hasattr(source, "read") and not hasattr(source, "getbuffer"):
        name = getattr(source, "name", None)
        return named(name, partial(_read, source)) if isinstance(name, str) else _read(source)
    return source


def is_one_picture(source: Any) -> bool:
    """Whether this is a picture or a folder by itself, rather than many of them."""
    if isinstance(source, str | bytes | bytearray | memoryview | os.PathLike | Image.Image) or hasattr(source, "read"):
        return True
    return hasattr(source, "__array__") and getattr(source, "ndim", 0) in (2, 3)


def is_dense(tensor: Any) -> bool:
    """Whether a torch tensor holds its values one by one: no sparse, quantised or meta tensor does."""
    return not (tensor.is_meta or tensor.is_quantized) and str(tensor.layout) == "torch.strided"


def outside_unit(low: float, high: float) -> str | None:
    """What is wrong with floats from ``low`` to ``high`` (NaN where there is one), and the line that helps."""
    if low >= LEAST and high <= MOST:
        return None
    return (
        f"must be in [0, 1], these are from {low:g} to {high:g};"
        " for [-1, 1] pass (x + 1) / 2, for 0 to 255 pass x / 255, and undo a normalisation by mean and deviation"
    )


def _from_tensor(tensor: Any) -> NDArray[np.uint8] | Image.Image:
    shape = tuple(tensor.shape)
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] not in (1, 3, 4)):
        message = f"a tensor must be 3 x height x width (RGB), this one is {_shown(shape)}"
        if len(shape) == 4:
            message += ": score_many(x) scores each picture of a batch"
        elif len(shape) == 3 and shape[2] in (1, 3, 4):
            message += ": pass x.permute(2, 0, 1)"
        raise UnsupportedImage(message)
    if not is_dense(tensor):
        raise UnsupportedImage("a tensor must be dense, with values: pass x.to_dense() or x.dequantize()")
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        tensor = tensor.float()  # numpy has no bfloat16
    return _from_array((tensor if tensor.ndim == 2 else tensor.permute(1, 2, 0)).numpy())


def _from_array(array: NDArray[Any]) -> NDArray[np.uint8] | Image.Image:
    shape = array.shape
    if array.ndim not in (2, 3) or (array.ndim == 3 and shape[2] not in (1, 3, 4)):
        message = f"an array must be height x width, or that x 3 (RGB) or x 4 (RGBA), this one is {_shown(shape)}"
        if array.ndim == 4:
            message += ": score_many(x) scores each picture of a batch"
        elif array.ndim == 3 and shape[0] in (1, 3, 4):
            message += ": pass np.moveaxis(x, 0, -1)"
        raise UnsupportedImage(message)
    pixels = _eight_bits(array)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if (pixels.ndim == 3 and pixels.shape[2] == 3) or pixels.size == 0:
        return pixels
    return Image.fromarray(np.ascontiguousarray(pixels))


def _eight_bits(array: NDArray[Any]) -> NDArray[np.uint8]:
    """uint8 as it is, uint16 by its full scale, floats of [0, 1] by 255; in any byte order."""
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        if array.size and 0 < array.max() <= np.iinfo(np.uint8).max:
            raise UnsupportedImage(
                f"a uint16 array of which 65535 is white would be black, its largest value is {array.max()}:"
                " for 0 to 255 pass x.astype(np.uint8)"
            )
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if array.dtype.kind == "f":
        if array.size and (fault := outside_unit(float(array.min()), float(array.max()))):
            raise UnsupportedImage(f"the floats of an array {fault}")
        return np.rint(255 * array.clip(0, 1).astype(np.float32)).astype(np.uint8)
    message = f"an array must be uint8, uint16 or floats in [0, 1], this one is {array.dtype}"
    if array.dtype.kind == "b":
        message += ": pass 255 * x.astype(np.uint8)"
    elif array.dtype.kind in "iu":
        message += ": for 0 to 255 pass x.astype(np.uint8)"
    raise UnsupportedImage(message)


def _shown(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _read(file: Any) -> bytes:
    try:
        data = file.read()
    except (OSError, ValueError) as error:  # ValueError: it is closed
        raise UnreadableImage(str(error)) from error
    if isinstance(data, str):
        raise UnsupportedImage('the file is open as text: open it with open(path, "rb")')
    if not isinstance(data, bytes):
        raise UnsupportedImage(f"read() of {type(file).__name__} gives {type(data).__name__}, not bytes")
    return data
