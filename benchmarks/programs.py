"""Pictures through ImageMagick and ffmpeg: pixels go in and come out by pipes, so that nothing is written to disk."""

import io
import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

SECONDS = 600.0
"""The longest that a program may take for one picture."""


class ProgramError(RuntimeError):
    """A program is not installed, failed or took too long. ``program`` is its name."""

    def __init__(self, program: str, message: str) -> None:
        super().__init__(f"{program}: {message}")
        self.program = program


def magick() -> str | None:
    """The ImageMagick program; None where there is none."""
    return _magick(os.environ.get("PATH"))


@cache
def _magick(path: str | None) -> str | None:
    for program in ("magick", "convert"):
        found = shutil.which(program, path=path)
        if found is not None and "ImageMagick" in _version(found):
            return found
    return None


def program_path(program: str) -> str | None:
    """The path of ``imagemagick`` or ``ffmpeg``; None where it is not installed."""
    return magick() if program == "imagemagick" else shutil.which(program)


def program_version(program: str) -> str | None:
    """The first line of what the program says of its version; None where it is not installed."""
    path = program_path(program)
    return None if path is None else _version(path).partition("\n")[0]


def _version(path: str) -> str:
    done = subprocess.run([path, "-version"], capture_output=True, text=True, check=False, timeout=SECONDS)
    return done.stdout


def run_program(program: str, arguments: Sequence[str], data: bytes, *, seconds: float = SECONDS) -> bytes:
    """What ``imagemagick`` or ``ffmpeg`` writes to standard output for ``data`` on standard input, on one thread.

    Raises ProgramError where it is not installed, fails, writes nothing or takes longer than ``seconds``.
    """
    path = program_path(program)
    if path is None:
        raise ProgramError(program, "not installed")
    environment = os.environ | {"MAGICK_THREAD_LIMIT": "1"}
    try:
        done = subprocess.run(
            [path, *arguments], input=data, capture_output=True, check=False, timeout=seconds, env=environment
        )
    except subprocess.TimeoutExpired as error:
        raise ProgramError(program, f"took longer than {seconds:g} s") from error
    if done.returncode or not done.stdout:
        said = " ".join(done.stderr.decode("utf-8", "replace").split())
        raise ProgramError(program, f"ended with code {done.returncode}: {said[-300:] or 'no output'}")
    return done.stdout


def imagemagick(pixels: Pixels, *arguments: str, format: str = "ppm") -> bytes:
    """A file of ``format`` that ImageMagick makes of an RGB picture (H x W x 3). Raises ProgramError."""
    height, width = pixels.shape[:2]
    read = ["-size", f"{width}x{height}", "-depth", "8", "rgb:-"]
    return run_program("imagemagick", [*read, *arguments, "-depth", "8", f"{format}:-"], pixels.tobytes())


def ffmpeg(pixels: Pixels, *arguments: str) -> bytes:
    """What ffmpeg writes for an RGB picture (H x W x 3), in the format that the arguments name. Raises ProgramError."""
    height, width = pixels.shape[:2]
    read = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-i", "pipe:0"]
    return run_program("ffmpeg", [*_QUIET, *read, *arguments, "pipe:1"], pixels.tobytes())


def filtered(pixels: Pixels, filters: str) -> Pixels:
    """A picture after a chain of ffmpeg's filters. Raises ProgramError."""
    return decoded(ffmpeg(pixels, "-vf", filters, *_TO_PPM))


def first_frame(stream: bytes, format: str) -> Pixels:
    """The first frame of a video stream, as ffmpeg decodes it; damage is concealed. Raises ProgramError."""
    read = ["-f", format, "-i", "pipe:0", "-frames:v", "1"]
    return decoded(run_program("ffmpeg", [*_QUIET, *read, *_TO_PPM, "pipe:1"], stream))


def decoded(data: bytes) -> Pixels:
    """The pixels of an encoded picture, H x W x 3."""
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image.convert("RGB"))


_QUIET = ("-v", "error", "-nostdin", "-threads", "1")
_TO_PPM = ("-pix_fmt", "rgb24", "-c:v", "ppm", "-f", "image2pipe")
