"""A picture of a corpus: some of its images with their texts below."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

COLUMNS = 4
CELL = 224  # pixels: an image's box
MARGIN = 12
LINES = 8
LINE_HEIGHT = 15
FONT_SIZE = 12
CHARACTERS = 40  # a line


def contact_sheet(examples: Sequence[tuple[bytes, str]]) -> bytes:
    """A PNG of (encoded image, text) pairs, four to a row; long texts are cut off."""
    rows = -(-len(examples) // COLUMNS)
    width, height = CELL + MARGIN, CELL + LINES * LINE_HEIGHT + MARGIN
    sheet = Image.new("RGB", (COLUMNS * width + MARGIN, rows * height + MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(FONT_SIZE)
    for index, (data, text) in enumerate(examples):
        x, y = MARGIN + index % COLUMNS * width, MARGIN + index // COLUMNS * height
        picture = Image.open(io.BytesIO(data)).convert("RGB")
        picture.thumbnail((CELL, CELL))
        sheet.paste(picture, (x, y))
        lines = textwrap.wrap(text, CHARACTERS, max_lines=LINES, placeholder=" …")
        draw.multiline_text((x, y + CELL + 2), "\n".join(lines), "black", font, spacing=2)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()
