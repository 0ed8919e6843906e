"""Photos made in code, and frames of them as a hand-held camera would take them."""

import io

import numpy as np
from PIL import Image

from moslens.picture.capture import Capture
from moslens.picture.fingerprint import Fingerprint, fingerprint


def scene(seed: int, width: int = 480, height: int = 360) -> Image.Image:
    """A colour picture with shapes of several sizes; two seeds have nothing in common."""
    rng = np.random.default_rng(seed)
    layers = []
    for cells, strength in ((6, 0.5), (16, 0.3), (40, 0.2)):
        coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        layers.append(strength * np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)))
    return Image.fromarray(sum(layers).clip(0, 255).astype(np.uint8))


def frame(photo: Image.Image, across: float = 0, down: float = 0, turn: float = 0, stops: float = 0) -> Image.Image:
    """Nine tenths of a photo, shifted by shares of its sides, turned by degrees, exposed by stops in linear light."""
    width, height = photo.size
    left, top = (0.05 + across) * width, (0.05 + down) * height
    box = (round(left), round(top), round(left + 0.9 * width), round(top + 0.9 * height))
    pixels = np.asarray(photo.rotate(turn, Image.Resampling.BICUBIC).crop(box)) / 255.0
    return Image.fromarray((255 * (pixels**2.2 * 2**stops).clip(0, 1) ** (1 / 2.2)).astype(np.uint8))


def jpeg(picture: Image.Image, quality: int = 90, **how: object) -> bytes:
    """The bytes of a JPEG."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality, **how)
    return file.getvalue()


def printed(picture: Image.Image, quality: int = 90, capture: Capture | None = None) -> Fingerprint:
    """The fingerprint of a picture, encoded as JPEG, with a capture of its own."""
    found = fingerprint(jpeg(picture, quality))
    return Fingerprint(found.hashes, found.thumbnail, found.width, found.height, capture or found.capture)


def exif(taken: str, subseconds: str = "", offset: str = "", camera: str = "Model X") -> Image.Exif:
    """EXIF data with a capture, to save a picture with."""
    data = Image.Exif()
    data[0x010F], data[0x0110] = "Maker", camera
    inside = data.get_ifd(0x8769)
    inside[0x9003] = taken
    if subseconds:
        inside[0x9291] = subseconds
    if offset:
        inside[0x9011] = offset
    return data
