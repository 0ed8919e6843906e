"""Thumbnails of scored pictures, made from the pixels that were scored, so that no picture is decoded twice."""

import io
import logging
import os
from pathlib import Path
from typing import Any

from PIL import Image

from moslens.bulk.page import thumbnail_name
from moslens.errors import OutputError
from moslens.picture.load import Picture
from moslens.picture.windows import Pixels
from moslens.scoring.scorer import Scorer
from moslens.system.files import write_bytes

logger = logging.getLogger(__name__)

SIDE = 384
"""Pixels of the longer side of a thumbnail, at most."""


def thumbnail(image: Pixels | Image.Image) -> bytes:
    """A JPEG of at most ``SIDE`` px on the longer side, of an RGB image or H x W x 3 uint8 pixels."""
    small = image.copy() if isinstance(image, Image.Image) else Image.fromarray(image)
    small.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return file.getvalue()


class ThumbnailScorer(Scorer):
    """A ``Scorer`` that writes the thumbnail of each file it scores into ``folder``.

    A thumbnail that cannot be written is a line in the log: the picture has its score all the same.
    """

    def __init__(self, model: str | os.PathLike[str] | None, folder: str | os.PathLike[str]) -> None:
        super().__init__(model)
        self._folder = Path(folder)

    def _load(self, source: Any, max_pixels: int, detail: bool) -> Picture:
        picture = super()._load(source, max_pixels, detail)
        if isinstance(source, str | os.PathLike):
            try:
                target = self._folder / thumbnail_name(os.fspath(source))
                write_bytes(target, thumbnail(picture.pixels), durable=False)
            except OutputError as error:
                logger.warning("no thumbnail: %s", error)
        return picture
