"""The process that reads one raw file: its bytes on standard input, the answer on standard output.

The answer is a line of JSON, and behind it the bytes of a JPEG (``jpeg`` true, with its ``orientation``) or of RGB
pixels of ``shape`` (height, width). An error is a line alone: ``error``, with the name of the class and the message.
"""

import io
import json
import os
import sys
from typing import Any

from moslens.errors import CorruptImage, ImageError, ImageTooLarge, TruncatedImage, UnsupportedImage
from moslens.system.children import end_with_parent

# The EXIF orientation of each ``flip`` of libraw.
_ORIENTATIONS = {3: 3, 5: 8, 6: 6}


def main() -> None:
    """Answer for one file. Arguments: import path, process id of the parent, most pixels, least side of a preview."""
    end_with_parent(int(sys.argv[2]))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not stand in the answer
    try:
        answer, body = _read(sys.stdin.buffer.read(), most_pixels=int(sys.argv[3]), least_preview=int(sys.argv[4]))
    except ImageError as error:
        answer, body = {"error": [type(error).__name__, error.message]}, b""
    answers.write(json.dumps(answer).encode("ascii") + b"\n" + body)
    answers.close()


def _read(data: bytes, *, most_pixels: int, least_preview: int) -> tuple[dict[str, Any], bytes]:
    """The answer without an error, and its bytes. Raises an ImageError."""
    import rawpy

    try:
        with rawpy.imread(io.BytesIO(data)) as raw:
            width, height = raw.sizes.width, raw.sizes.height
            if width * height > most_pixels:
                size = f"{width} x {height} = {width * height:,} pixels"
                raise ImageTooLarge(f"{size} are more than the cap of {most_pixels:,}")
            preview = _preview(raw, least_preview)
            if preview is not None:
                return {"jpeg": True, "orientation": _ORIENTATIONS.get(raw.sizes.flip, 1)}, preview
            pixels = raw.postprocess(half_size=True, use_camera_wb=True)
            return {"jpeg": False, "shape": pixels.shape[:2]}, pixels.tobytes()
    except ImageError:
        raise
    except (rawpy.LibRawFileUnsupportedError, rawpy.NotSupportedError, rawpy.LibRawNotImplementedError) as error:
        raise UnsupportedImage(f"a camera raw file that libraw does not read ({_words(error)})") from error
    except rawpy.LibRawIOError as error:
        raise TruncatedImage(f"the camera raw file ends before its picture does ({_words(error)})") from error
    except (rawpy.LibRawTooBigError, rawpy.LibRawUnsufficientMemoryError, MemoryError) as error:
        raise ImageTooLarge(f"the camera raw file needs more memory than there is ({_words(error)})") from error
    except Exception as error:  # libraw has more kinds, and rawpy raises others on what libraw leaves behind
        raise CorruptImage(f"the camera raw data is broken ({_words(error)})") from error


def _preview(raw: Any, least: int) -> bytes | None:
    """The JPEG preview, if its longer side has ``least`` px."""
    import rawpy
    from PIL.JpegImagePlugin import JpegImageFile

    try:
        thumbnail = raw.extract_thumb()
        if thumbnail.format == rawpy.ThumbFormat.JPEG:
            with JpegImageFile(io.BytesIO(thumbnail.data)) as image:
                return bytes(thumbnail.data) if max(image.size) >= least else None
    except Exception:  # without a preview that can be read the picture is developed, which tells what is wrong
        return None
    return None


def _words(error: Exception) -> str:
    text = error.args[0] if error.args else type(error).__name__
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
