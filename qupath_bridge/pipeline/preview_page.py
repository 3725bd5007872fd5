"""One page with the pictures of several plans."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from qupath_bridge.errors import SlideError

from .preview import check_picture, render_preview, save_picture
from .preview_legend import put_text

if TYPE_CHECKING:
    from .plan import Plan

__all__ = ["draw_page", "page_of"]

CELL, COLUMNS, GAP = 480, 6, 12
"""Pixels of the longer side of a picture, pictures in a row, pixels between them."""


def draw_page(plans: Sequence[Plan], path: Path | str) -> tuple[str, ...]:
    """Write one page with the pictures of several plans as a PNG or JPEG file.

    Returns
    -------
    tuple of str
        A note for each slide that cannot be read; its place says so too.

    Raises
    ------
    OutputError
        As :func:`draw_preview`.
    """
    path = Path(path)
    for folder in {plan.slide.project.folder for plan in plans}:
        check_picture(path, folder)
    cells, notes = [], []
    for plan in plans:
        try:
            cells.append(render_preview(plan, CELL))
        except SlideError as error:
            notes.append(f"{plan.slide.name}: no preview: {error}")
            cells.append(_blank(plan.slide.name))
    save_picture(page_of(cells), path)
    return tuple(notes)


def page_of(cells: Sequence[Image.Image]) -> Image.Image:
    """Return pictures side by side, in rows that are about as long as the page is high."""
    columns = min(max(1, math.isqrt(len(cells) - 1) + 1), COLUMNS)
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    width = max(sum(cell.width + GAP for cell in row) for row in rows) + GAP
    heights = [max(cell.height for cell in row) + GAP for row in rows]
    page = Image.new("RGB", (width, sum(heights) + GAP), "white")
    top = GAP
    for row, height in zip(rows, heights, strict=True):
        left = GAP
        for cell in row:
            page.paste(cell, (left, top))
            left += cell.width + GAP
        top += height
    return page


def _blank(name: str) -> Image.Image:
    cell = Image.new("RGB", (CELL, CELL // 2), (235, 235, 235))
    pen = ImageDraw.Draw(cell)
    font = ImageFont.load_default(size=16)
    put_text(pen, (12, 12), name, font)
    put_text(pen, (12, 36), "cannot be read", font)
    return cell
