"""Raw files of cameras, by rawpy (libraw), in the ``raw`` extra: the preview that the camera made, or a development.

libraw is C++ that parses files of some hundred makers, so each file is read in a process of its own
(:mod:`moslens.picture.raw_child`): one that crashes or hangs there costs its own picture.
"""

import importlib.util
import json
import os
import subprocess
import sys
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from moslens import errors
from moslens.errors import CorruptImage, ImageError, UnsupportedImage, install_hint
from moslens.system.children import import_path

PREVIEW = "preview"
"""The note of a picture that is the preview in a raw file."""

LEAST_PREVIEW = 1600
"""Pixels of the longer side from which a preview stands for the picture."""

SECONDS = 120.0

_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from moslens.picture.raw_child import main; main()"


class Developed(NamedTuple):
    """A preview, as the bytes of its JPEG, or upright RGB pixels; the EXIF orientation is that of the preview."""

    jpeg: bytes | None
    image: Image.Image | None
    orientation: int


def develop(data: bytes, max_pixels: int) -> Developed:
    """The picture in a raw file: its preview of 1,600 px or more on the longer side, or a development at half size.

    Raises an ImageError: UnsupportedImage without rawpy and for files that libraw does not know, ImageTooLarge above
    ``max_pixels`` pixels of the sensor, TruncatedImage or CorruptImage for damaged ones.
    """
    if importlib.util.find_spec("rawpy") is None:
        hint = install_hint("raw", "rawpy")
        raise UnsupportedImage(f"a camera raw file needs rawpy: {hint}; or score the JPEG that the camera made")
    words = [sys.executable, "-P", "-c", _START, json.dumps(import_path()), str(os.getpid())]
    try:
        done = subprocess.run(
            [*words, str(max_pixels), str(LEAST_PREVIEW)],
            input=data,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # libraw prints of damage; the answer says it too
            timeout=SECONDS,
            check=False,
            start_new_session=True,  # Ctrl-C does not reach it: the caller ends it
        )
    except subprocess.TimeoutExpired:
        raise CorruptImage(f"reading the camera raw file took more than {SECONDS:g} s") from None
    head, _, body = done.stdout.partition(b"\n")
    if done.returncode != 0 or not head:
        raise CorruptImage(f"reading the camera raw file ended its process (exit code {done.returncode})")
    answer: dict[str, Any] = json.loads(head)
    if "error" in answer:
        kind, message = answer["error"]
        refusal: ImageError = getattr(errors, kind)(message)
        raise refusal
    if answer["jpeg"]:
        return Developed(body, None, answer["orientation"])
    height, width = answer["shape"]
    return Developed(None, Image.fromarray(np.frombuffer(body, np.uint8).reshape(height, width, 3)), 1)
