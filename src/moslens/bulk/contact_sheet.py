"""Contact sheets of degraded pictures: grid lines, and kind and level printed on every block."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from moslens.blocks import Block, Composite
from moslens.distortions import KINDS
from moslens.system.files import whole_file

COLUMNS = 3
PER_SHEET = 12

_WIDTH = 560
_HEIGHT = 840
_TITLE = 26
_GAP = 12
_FONT = 16
_SMALLEST_FONT = 8
_PADDING = 3


def draw_labels(result: Composite) -> Image.Image:
    """The degraded picture fitted into 560 x 840 px, with its grid and labels."""
    height, width = result.image.shape[:2]
    scale = min(_WIDTH / width, _HEIGHT / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    # Smoothing would hide the distortions of a small picture that is enlarged.
    way = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    thumbnail = Image.fromarray(result.image).resize(size, way)
    draw = ImageDraw.Draw(thumbnail, "RGBA")
    for block in result.blocks:
        x, y = round(block.x * scale), round(block.y * scale)
        if block.column:
            draw.line((x, y, x, y + block.height * scale), fill="white", width=2)
        if block.row:
            draw.line((x, y, x + block.width * scale, y), fill="white", width=2)
    for block, kind, level in zip(result.blocks, result.kinds.tolist(), result.levels.tolist(), strict=True):
        lines = [KINDS[kind].name, f"level {level}"] if level else ["clean"]
        _draw_label(draw, "\n".join(lines), block, scale)
    return thumbnail


def contact_sheet(thumbnails: Sequence[Image.Image], titles: Sequence[str]) -> Image.Image:
    """Thumbnails in rows of three, with a title above each."""
    rows = [range(at, min(at + COLUMNS, len(thumbnails))) for at in range(0, len(thumbnails), COLUMNS)]
    heights = [_TITLE + max(thumbnails[index].height for index in row) + _GAP for row in rows]
    columns = min(COLUMNS, len(thumbnails))
    sheet = Image.new("RGB", (columns * (_WIDTH + _GAP) + _GAP, sum(heights) + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(_FONT)
    y = _GAP
    for row, height in zip(rows, heights, strict=True):
        for column, index in enumerate(row):
            x = _GAP + column * (_WIDTH + _GAP)
            draw.text((x, y), _shortened(titles[index], font), fill="black", font=font)
            sheet.paste(thumbnails[index], (x, y + _TITLE))
        y += height
    return sheet


def sheet_name(number: int) -> str:
    """The file name of a sheet; the first is number 1."""
    return f"contact-sheet-{number}.png"


class Sheets:
    """Writes ``contact-sheet-1.png`` and so on into a folder, each as soon as it has twelve thumbnails."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written = 0
        self._waiting: list[tuple[Image.Image, str]] = []

    def add(self, thumbnail: Image.Image, title: str) -> None:
        self._waiting.append((thumbnail, title))
        if len(self._waiting) == PER_SHEET:
            self.close()

    def close(self) -> None:
        """Write a sheet of the thumbnails that wait, if there are any. Raises OutputError."""
        if self._waiting:
            self.written += 1
            thumbnails, titles = zip(*self._waiting, strict=True)
            with whole_file(self.folder / sheet_name(self.written), durable=False) as scratch:
                contact_sheet(thumbnails, titles).save(scratch, format="PNG")
            self._waiting.clear()


def _draw_label(draw: ImageDraw.ImageDraw, text: str, block: Block, scale: float) -> None:
    room = block.width * scale - 4 * _PADDING
    for size in range(_FONT, _SMALLEST_FONT - 1, -1):
        font = ImageFont.load_default(size)
        box = draw.multiline_textbbox((0, 0), text, font=font)
        if box[2] <= room:
            break
    at = block.x * scale + 2 * _PADDING, block.y * scale + 2 * _PADDING
    left, top, right, bottom = draw.multiline_textbbox(at, text, font=font)
    ground = (left - _PADDING, top - _PADDING, right + _PADDING, bottom + _PADDING)
    draw.rectangle(ground, fill=(0, 0, 0, 170))
    draw.multiline_text(at, text, fill="white", font=font)


def _shortened(title: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The title, its middle left out where it is too wide; a question mark for each letter that cannot be printed."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in title)
    kept = len(shown)
    text = shown
    while kept > 8 and font.getlength(text) > _WIDTH:
        kept -= 2
        text = f"{shown[: kept // 2]}...{shown[-(kept // 2) :]}"
    return text
