"""NIQE, BRISQUE and PIQE of pictures that come through a pipe. The Python of classical.py starts this file by itself.

It runs in an environment of its own and imports nothing of moslens. The first line on standard output is the versions.
Then each picture is a line of JSON with its shape and its RGB bytes on standard input, and a line of JSON on standard
output: for each metric its score and seconds, or why there is no score. Lower scores are better.
"""

import json
import math
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Metric = Callable[[Pixels], float]

PACKAGES = ("brisque", "libsvm-official", "numpy", "opencv-python-headless", "pillow", "pypiqe", "scikit-image",
            "scikit-video", "scipy")  # fmt: skip


def main() -> None:
    output, sys.stdout = sys.stdout, sys.stderr  # what a package prints is no answer
    metrics = {"NIQE": load_niqe(), "BRISQUE": load_brisque(), "PIQE": load_piqe()}
    versions = {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
    print(json.dumps(versions), file=output, flush=True)
    for line in iter(sys.stdin.buffer.readline, b""):
        pixels = read_pixels(line, sys.stdin.buffer)
        print(json.dumps({name: measured(metric, pixels) for name, metric in metrics.items()}), file=output, flush=True)


def read_pixels(line: bytes, stream: BinaryIO) -> Pixels:
    """The picture whose shape is in ``line`` and whose bytes are next in the stream."""
    shape = json.loads(line)
    return np.frombuffer(stream.read(math.prod(shape)), np.uint8).reshape(shape)


def measured(metric: Metric, pixels: Pixels) -> dict[str, Any]:
    """The score of a picture (H x W x 3) and the seconds; where the metric fails the score is None and ``why`` says."""
    started = time.perf_counter()
    try:
        score = metric(pixels)
    except Exception as error:  # whatever a package raises is what is told of it
        return {"score": None, "why": f"{type(error).__name__}: {error}", "seconds": time.perf_counter() - started}
    seconds = time.perf_counter() - started
    if not math.isfinite(score):
        return {"score": None, "why": f"the score is {score}", "seconds": seconds}
    return {"score": score, "seconds": seconds}


def load_niqe() -> Metric:
    """NIQE of scikit-video on the grey picture, with the parameters inside that package.

    The package calls two functions that numpy and scipy no longer have. They are given back; ``imresize`` is what scipy
    had: Pillow's bicubic filter on floats.
    """
    import scipy.misc
    from PIL import Image

    def imresize(values: Any, size: float, interp: str, mode: str) -> Any:
        image = Image.fromarray(np.asarray(values, np.float32))
        half = int(image.width * size), int(image.height * size)
        return np.asarray(image.resize(half, Image.Resampling.BICUBIC))

    vars(np)["int"] = int
    vars(scipy.misc)["imresize"] = imresize
    from skvideo.measure import niqe

    return lambda pixels: float(niqe(np.asarray(Image.fromarray(pixels).convert("L")))[0])


def load_brisque() -> Metric:
    """BRISQUE of the package of that name, with the support vectors inside it."""
    from brisque import BRISQUE

    brisque = BRISQUE(url=False)
    return lambda pixels: float(brisque.score(pixels))


def load_piqe() -> Metric:
    """PIQE of pypiqe, which needs no weights and takes BGR."""
    import cv2
    from pypiqe import piqe

    cv2.setNumThreads(1)
    return lambda pixels: float(piqe(np.ascontiguousarray(pixels[..., ::-1]))[0])


if __name__ == "__main__":
    main()
