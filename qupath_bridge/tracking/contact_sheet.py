"""One picture with some patches of each label."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from qupath_bridge.datasets.patch_reading import PATCH_COLUMNS, read_patch
from qupath_bridge.errors import OutputError
from qupath_bridge.outputs.base import Output
from qupath_bridge.outputs.index import rows_of
from qupath_bridge.reporting.summary import evenly

__all__ = ["contact_sheet"]

SIDE, GAP, LINE = 96, 4, 16
"""Pixels of a patch, between patches, and of a line of text."""
PER_LABEL, MAX_LABELS = 8, 16


def contact_sheet(output: Output, *, raw: bool) -> bytes | None:
    """Return a PNG file with a row of patches per label, most patches first.

    The same patches each time, from as many slides as there are. None if a patch is not a picture
    in colour or grey of 8 bit, or cannot be read.

    Parameters
    ----------
    output : Output
    raw : bool
        As of :func:`~qupath_bridge.datasets.patch_reading.read_patch`.
    """
    chosen = _choose(output)
    width = PER_LABEL * (SIDE + GAP) + GAP
    sheet = Image.new("RGB", (width, max(len(chosen), 1) * (SIDE + LINE + GAP)), "white")
    draw, top = ImageDraw.Draw(sheet), 0
    for label, rows in chosen.items():
        draw.text((GAP, top + 2), label, fill="black")
        for number, row in enumerate(rows):
            try:
                picture = _thumbnail(read_patch(output, row, raw=raw))
            except OutputError:
                return None
            if picture is None:
                return None
            sheet.paste(picture, (GAP + number * (SIDE + GAP), top + LINE))
        top += SIDE + LINE + GAP
    if not chosen:
        return None
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()


def _choose(output: Output) -> dict[str, Sequence[Mapping[str, Any]]]:
    """Return some rows of each label, evenly over slides, and over the rows of each slide."""
    slides = output.slides()
    of_slide = -(-PER_LABEL // max(len(slides), 1))
    counts: dict[str, int] = {}
    found: dict[str, list[Mapping[str, Any]]] = {}
    for _, rows in rows_of(output):
        table = rows.table([*PATCH_COLUMNS, "label"])
        places: dict[str, list[int]] = {}
        for number, label in enumerate(table.column("label").to_pylist()):
            for name in label if isinstance(label, list) else [label]:
                places.setdefault(name or "no label", []).append(number)
        for name, numbers in places.items():
            counts[name] = counts.get(name, 0) + len(numbers)
            some = [numbers[k] for k in evenly(len(numbers), of_slide)]
            found.setdefault(name, []).extend(table.take(some).to_pylist())
    names = sorted(found, key=lambda name: (-counts[name], name))[:MAX_LABELS]
    return {name: [found[name][k] for k in evenly(len(found[name]), PER_LABEL)] for name in names}


def _thumbnail(pixels: Any) -> Image.Image | None:
    if pixels.dtype != np.uint8 or pixels.shape[-1] not in (1, 3):
        return None
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("RGB")
    picture.thumbnail((SIDE, SIDE))
    return picture
