"""Drawing a quality map: colours for quality, hatching and names for distortions, and a legend.

The colours are cividis, which people with and without colour vision deficiency see alike: dark blue is bad, yellow is
good, and lightness alone separates them. The picture below is grey, so that every colour belongs to the map.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from moslens.scoring.labels import NO_FAULT, detail_words, note_words

if TYPE_CHECKING:
    from moslens.scoring.quality_map import QualityMap

CIVIDIS = "00224e 123570 3b496c 575d6d 707173 8a8678 a59c74 c3b369 e1cc55 fee838"
_COLOURS = np.array([[int(code[at : at + 2], 16) for at in (0, 2, 4)] for code in CIVIDIS.split()])

LEAST_WIDTH = 560
_STRENGTH = 0.5
_MARGIN = 12
_LINE = 20
_FONT = 14
_SMALLEST_FONT = 8
_HATCH = 12

Box = tuple[float, float, float, float]


def colour(score: float) -> tuple[int, int, int]:
    """The colour of a score from 0 to 100."""
    place = np.clip(score, 0, 100) / 100 * (len(_COLOURS) - 1)
    red, green, blue = (round(float(np.interp(place, range(len(_COLOURS)), plane))) for plane in _COLOURS.T)
    return red, green, blue


def draw(quality_map: "QualityMap", size: int = 1024, *, legend: bool = True) -> Image.Image:
    """The map over its picture, the longer side ``size`` px, with the legend below; see ``QualityMap.overlay``."""
    height, width = quality_map.pixels.shape[:2]
    scale = size / max(height, width)
    shown = max(1, round(width * scale)), max(1, round(height * scale))
    picture = Image.fromarray(quality_map.pixels).convert("L").resize(shown, Image.Resampling.BICUBIC).convert("RGB")
    across, down = shown[0] / quality_map.width, shown[1] / quality_map.height
    boxes = [(b.x * across, b.y * down, (b.x + b.width) * across, (b.y + b.height) * down) for b in quality_map.blocks]
    tint = Image.new("RGB", shown)
    brush = ImageDraw.Draw(tint)
    for block, box in zip(quality_map.blocks, boxes, strict=True):
        brush.rectangle(box, fill=colour(block.score))
    picture = Image.blend(picture, tint, _STRENGTH)
    pen = ImageDraw.Draw(picture, "RGBA")
    for block, box in zip(quality_map.blocks, boxes, strict=True):
        if block.kind is not None:
            _hatch(picture, box)
    _outline_kinds(pen, quality_map, boxes)
    for region in _regions(quality_map):
        _label_region(pen, quality_map, boxes, region)
    lowest = min(range(len(boxes)), key=lambda number: quality_map.blocks[number].score)
    _frame(pen, boxes[lowest])
    return _with_legend(picture, quality_map) if legend else picture


def _hatch(picture: Image.Image, box: Box) -> None:
    """Diagonal lines, black beside white, so that they show on any background."""
    left, top, right, bottom = (round(edge) for edge in box)
    if right - left < 2 or bottom - top < 2:
        return
    part = picture.crop((left, top, right, bottom))
    pen = ImageDraw.Draw(part, "RGBA")
    for start in range(-part.height, part.width, _HATCH):
        for shift, ink in ((0, (0, 0, 0, 130)), (1, (255, 255, 255, 130))):
            pen.line((start + shift, part.height, start + shift + part.height, 0), fill=ink)
    picture.paste(part, (left, top))


def _outline_kinds(pen: ImageDraw.ImageDraw, quality_map: "QualityMap", boxes: Sequence[Box]) -> None:
    """A line inside each named block wherever the next block has another name or none."""
    kinds = [block.kind for block in quality_map.blocks]
    for number, box in enumerate(boxes):
        if kinds[number] is None:
            continue
        left, top, right, bottom = box
        lines = {
            "left": (left + 1, top, left + 1, bottom),
            "right": (right - 2, top, right - 2, bottom),
            "top": (left, top + 1, right, top + 1),
            "bottom": (left, bottom - 2, right, bottom - 2),
        }
        for side, beside in _neighbours(number, quality_map.columns, len(boxes)).items():
            if kinds[beside] != kinds[number]:
                pen.line(lines[side], fill="white", width=3)


def _neighbours(number: int, columns: int, count: int) -> dict[str, int]:
    """The places of the blocks beside a block, by side; none beyond the edge of the picture."""
    column = number % columns
    sides = {
        "left": (number - 1, column > 0),
        "right": (number + 1, column < columns - 1),
        "top": (number - columns, number >= columns),
        "bottom": (number + columns, number + columns < count),
    }
    return {side: place for side, (place, there) in sides.items() if there}


def _regions(quality_map: "QualityMap") -> Iterator[list[int]]:
    """The places of blocks that touch and have the same name, region by region."""
    blocks = quality_map.blocks
    left = {number for number, block in enumerate(blocks) if block.kind is not None}
    while left:
        region, open_ = [], [left.pop()]
        while open_:
            number = open_.pop()
            region.append(number)
            beside = _neighbours(number, quality_map.columns, len(blocks)).values()
            same = [n for n in beside if n in left and blocks[n].kind == blocks[number].kind]
            left.difference_update(same)
            open_ += same
        yield sorted(region)


def _label_region(
    pen: ImageDraw.ImageDraw, quality_map: "QualityMap", boxes: Sequence[Box], region: Sequence[int]
) -> None:
    """The name of a region and its mean severity, on its block nearest to the middle."""
    blocks = [quality_map.blocks[number] for number in region]
    areas = [block.width * block.height for block in blocks]
    severity = np.average([block.severity for block in blocks], weights=areas)
    centres = np.array([((x0 + x1) / 2, (y0 + y1) / 2) for x0, y0, x1, y1 in (boxes[number] for number in region)])
    middle = np.average(centres, axis=0, weights=areas)
    nearest = region[int(np.hypot(*(centres - middle).T).argmin())]
    _label(pen, f"{blocks[0].label} {severity:.1f}", boxes[nearest])


def _frame(pen: ImageDraw.ImageDraw, box: Box) -> None:
    """The mark of the worst block: white, black, white."""
    for inset, ink in ((0, "white"), (3, "black"), (6, "white")):
        left, top, right, bottom = box
        if right - left > 2 * inset + 3 and bottom - top > 2 * inset + 3:
            pen.rectangle((left + inset, top + inset, right - inset, bottom - inset), outline=ink, width=3)


def _label(pen: ImageDraw.ImageDraw, text: str, box: Box) -> None:
    """Text in the middle of a block, one word per line, as large as fits; nothing where it does not fit."""
    left, top, right, bottom = box
    lines = "\n".join(text.split())
    for size in range(_FONT, _SMALLEST_FONT - 1, -1):
        font = ImageFont.load_default(size)
        x0, y0, x1, y1 = pen.multiline_textbbox((0, 0), lines, font=font, align="center", spacing=2)
        if x1 - x0 <= right - left - 4 and y1 - y0 <= bottom - top - 4:
            at = (left + right - x1 - x0) / 2, (top + bottom - y1 - y0) / 2
            pen.rectangle((at[0] + x0 - 2, at[1] + y0 - 2, at[0] + x1 + 2, at[1] + y1 + 2), fill=(0, 0, 0, 170))
            pen.multiline_text(at, lines, fill="white", font=font, align="center", spacing=2)
            return


def _with_legend(picture: Image.Image, quality_map: "QualityMap") -> Image.Image:
    width = max(LEAST_WIDTH, picture.width)
    lines = _legend_lines(quality_map, width - 2 * _MARGIN)
    height = picture.height + 3 * _MARGIN + 2 * _LINE + 8 + _LINE * len(lines)
    canvas = Image.new("RGB", (width, height), "white")
    canvas.paste(picture, ((width - picture.width) // 2, 0))
    pen = ImageDraw.Draw(canvas, "RGBA")
    font = ImageFont.load_default(_FONT)
    top = picture.height + _MARGIN
    bar = min(300, width - 2 * _MARGIN)
    for place in range(bar):
        x = _MARGIN + place
        pen.line((x, top, x, top + 14), fill=colour(100 * place / (bar - 1)))
    pen.text((_MARGIN, top + 17), "0 bad", fill="black", font=font)
    pen.text((_MARGIN + bar, top + 17), "100 good", fill="black", font=font, anchor="ra")
    mark = _MARGIN + quality_map.score / 100 * (bar - 1)
    pen.polygon((mark - 6, top - 9, mark + 6, top - 9, mark, top + 3), fill="black")
    sample = _MARGIN + bar + 24
    # LEAST_WIDTH leaves room for these beside the bar.
    _hatch(canvas, (sample, top - 3, sample + 24, top + 14))
    pen.rectangle((sample, top - 3, sample + 24, top + 14), outline="black")
    pen.text((sample + 30, top - 2), "something is wrong", fill="black", font=font)
    _frame(pen, (sample, top + 18, sample + 24, top + 36))
    pen.text((sample + 30, top + 19), "worst block", fill="black", font=font)
    for number, line in enumerate(lines):
        pen.text((_MARGIN, top + 2 * _LINE + 8 + _LINE * number), line, fill="black", font=font)
    return canvas


def _legend_lines(quality_map: "QualityMap", width: int) -> list[str]:
    """The text of the legend: score, interval and named kinds, in lines of at most ``width`` px."""
    font = ImageFont.load_default(_FONT)
    parts = [f"score {quality_map.score:.1f} ({quality_map.low:.1f} to {quality_map.high:.1f} in 9 of 10)"]
    for row in quality_map.distortions:
        parts.append(f"{row['label']}: severity {row['severity']:.1f} of 5 on {row['share']:.0%}")
    if len(parts) == 1:
        parts.append(NO_FAULT)
    if quality_map.detail is not None:
        parts.append(detail_words(quality_map.detail.score, quality_map.detail.distortions))
    parts += note_words(quality_map.notes)
    lines = [parts[0]]
    for part in parts[1:]:
        longer = f"{lines[-1]};  {part}"
        if font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines
