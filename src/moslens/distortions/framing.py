"""Harmless: mirror image, a little less of the picture, a thin frame, a small mark in a corner.

Pictures are H x W x 3 uint8; crops and frames change the size.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from moslens.distortions.planes import Array
from moslens.distortions.with_opencv import opencv

MOST_CROPPED = 0.1
"""A crop takes at most this share of the width and of the height."""
THICKEST_FRAME = 0.03
"""Width of a frame on each side, as a share of the longer side of the picture."""
LARGEST_MARK = (0.08, 0.3)
"""Height and width of a mark in a corner, as shares of those of the picture."""

_SIGNATURES = ("(c) archive", "J. Doe photo", "2019-07-14", "14 07 '98", "IMG 0412", "my album")


def mirror(picture: Array, rng: np.random.Generator) -> Array:
    """Left and right change places."""
    return np.ascontiguousarray(picture[:, ::-1])


def crop(picture: Array, rng: np.random.Generator) -> Array:
    """Up to a tenth of the height and of the width is cut off, anywhere."""
    places = []
    for side in picture.shape[:2]:
        kept = int(np.ceil(side * (1 - rng.uniform(0, MOST_CROPPED))))
        start = int(rng.integers(side - kept + 1))
        places.append(slice(start, start + kept))
    return np.ascontiguousarray(picture[places[0], places[1]])


def frame(picture: Array, rng: np.random.Generator) -> Array:
    """A thin frame around the picture or over its edge: white, black or one colour, at times with a line inside."""
    thickness = max(1, round(rng.uniform(0.006, THICKEST_FRAME) * max(picture.shape[:2])))
    colours = [np.full(3, 255), np.zeros(3), rng.integers(0, 256, 3)]
    first = int(rng.integers(3))
    around = bool(rng.random() < 0.5)
    framed = np.pad(picture, ((thickness, thickness), (thickness, thickness), (0, 0))) if around else picture.copy()
    _paint_edge(framed, thickness, colours[first])
    if rng.random() < 0.3:
        inner = framed[thickness:-thickness, thickness:-thickness]
        _paint_edge(inner, max(1, thickness // 5), colours[(first + 1) % 2])
    return framed


def pillow_corner_mark(picture: Array, rng: np.random.Generator) -> Array:
    """A name or a date in a corner, in Pillow's font."""
    height, width = _mark_size(picture, rng)
    text = str(rng.choice(_SIGNATURES))
    size = 0.8 * height
    font = ImageFont.load_default(max(size, 6.0))
    length = font.getlength(text)
    if length > width:
        font = ImageFont.load_default(max(size * width / length, 6.0))
    mask = Image.new("L", (width, height))
    ImageDraw.Draw(mask).text((1, height // 2), text, 255, font, anchor="lm")
    return _marked(picture, np.array(mask), rng)


def logo_corner_mark(picture: Array, rng: np.random.Generator) -> Array:
    """A ring or a disc with a bar in a corner."""
    height, _ = _mark_size(picture, rng)
    rows, columns = np.mgrid[:height, : 2 * height] + 0.5
    distance = np.hypot(rows - height / 2, columns - height / 2) / (height / 2)
    hole = rng.choice([0.0, 0.55])
    shape = (distance <= 1) & (distance >= hole)
    shape |= (abs(rows - height / 2) < height / 8) & (columns > 1.15 * height)
    return _marked(picture, np.where(shape, 255, 0)[:, : picture.shape[1]], rng)


def opencv_corner_mark(picture: Array, rng: np.random.Generator) -> Array:
    """A name or a date in a corner, in a stroke font of OpenCV."""
    cv2 = opencv()
    height, width = _mark_size(picture, rng)
    text = str(rng.choice(_SIGNATURES))
    font = cv2.FONT_HERSHEY_SIMPLEX
    (length, above), _ = cv2.getTextSize(text, font, 1.0, 1)
    scale = min(0.7 * height / above, (width - 2) / length)
    mask = np.zeros((height, width), np.uint8)
    cv2.putText(mask, text, (1, round(0.8 * height)), font, scale, 255, 1, cv2.LINE_AA)
    return _marked(picture, mask, rng)


def _paint_edge(picture: Array, thickness: int, colour: Array) -> None:
    for part in (picture[:thickness], picture[-thickness:], picture[:, :thickness], picture[:, -thickness:]):
        part[:] = colour


def _mark_size(picture: Array, rng: np.random.Generator) -> tuple[int, int]:
    """Height and greatest width of a mark in px."""
    height = max(6, int(rng.uniform(0.5, 1) * LARGEST_MARK[0] * picture.shape[0]))
    return height, int(LARGEST_MARK[1] * picture.shape[1])


def _marked(picture: Array, mask: Array, rng: np.random.Generator) -> Array:
    """White or dark letters (``mask``, h x w of 0 to 255) laid over a random corner."""
    shade = 245 if rng.random() < 0.7 else 15
    opacity = (rng.uniform(0.4, 0.9) * mask / 255)[..., None]
    margin = max(1, min(picture.shape[:2]) // 50)
    height, width = mask.shape
    places = []
    for side, length in zip(picture.shape[:2], (height, width), strict=True):
        free = max(0, side - length)
        start = min(margin, free) if rng.random() < 0.5 else max(0, free - margin)
        places.append(slice(start, start + length))
    marked = picture.copy()
    corner = marked[places[0], places[1]]
    corner[:] = np.rint(corner + opacity * (shade - corner.astype(np.float64)))
    return marked
