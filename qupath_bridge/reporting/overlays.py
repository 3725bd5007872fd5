"""The picture of a slide and the layers over it: tissue, regions, patches, dropped boxes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw

from qupath_bridge.errors import BridgeError, OutputError
from qupath_bridge.model import BoxArray, MaskArray, PixelArray, Reason
from qupath_bridge.outputs.base import Output
from qupath_bridge.outputs.row_batches import AnyRows, batches_of
from qupath_bridge.pipeline.composites import read_picture
from qupath_bridge.pipeline.plan import Plan
from qupath_bridge.pipeline.preview import seen_part
from qupath_bridge.pipeline.preview_layers import (
    Scale,
    draw_marks,
    draw_patch,
    region_layer,
    tissue_layer,
)
from qupath_bridge.pipeline.preview_legend import RGB, UNCLASSIFIED, at_edge
from qupath_bridge.pipeline.tissue import decode_mask
from qupath_bridge.qupath.files.classes import class_colors, label_color

from .reopen import OpenSlide
from .summary import NO_LABEL, groups_of

__all__ = [
    "Canvas",
    "Layer",
    "box_columns",
    "color_of",
    "colors_of",
    "dropped_boxes",
    "dropped_rows",
    "layers_of",
    "open_canvas",
    "patch_layers",
]

MOST_LABELS = 12
"""Labels that have a layer of their own; the others share one."""
OTHERS = "other labels"
_BLANK = (238, 238, 238)


@dataclass(frozen=True, slots=True)
class Canvas:
    """The picture of a slide, below all layers.

    Attributes
    ----------
    picture : array, shape (h, w, 3), uint8
    scale : (float, float)
        Its pixels per pixel of QuPath's image, along each axis.
    real : bool
        False where the slide is not there, and the picture is blank.
    """

    picture: PixelArray
    scale: Scale
    real: bool

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.picture.shape[1], self.picture.shape[0]


@dataclass(frozen=True, slots=True)
class Layer:
    """A transparent picture over a slide: its kind, its name, and the number of what it shows."""

    kind: str
    name: str
    picture: Image.Image
    count: int
    color: RGB | None = None


def open_canvas(opened: OpenSlide, size: tuple[int, int], side: int) -> Canvas:
    """Return the picture of a slide of this size in QuPath pixels; a blank one where it is gone."""
    reader, coordinates, view = opened.reader, opened.coordinates, opened.view
    if reader is not None and coordinates is not None and view is not None:
        try:
            picture, scale = read_picture(
                reader, coordinates, view, opened.display, side, opened.plane
            )
            return Canvas(picture, scale, True)
        except BridgeError:
            pass  # its smallest level is damaged: the layers can still be drawn
    factor = min(1.0, side / max(size))
    width, height = (max(1, round(length * factor)) for length in size)
    blank = np.full((height, width, 3), _BLANK, np.uint8)
    return Canvas(blank, (width / size[0], height / size[1]), False)


def layers_of(
    output: Output,
    facts: Mapping[str, Any],
    rows: AnyRows,
    labels: Mapping[str, int],
    plan: Plan | None,
    canvas: Canvas,
    colors: Mapping[str, RGB],
    dropped: Mapping[str, BoxArray],
) -> Iterator[Layer]:
    """Yield the layers of a slide, from below to above.

    Parameters
    ----------
    labels : mapping of str to int
        Number of patches by label, most first.
    colors : mapping of str to RGB
        Of the classes.
    dropped : mapping of str to array, shape (N, 4), QuPath pixels
        Boxes that were not written, by reason.
    """
    if (mask := _tissue_mask(output, facts)) is not None:
        yield Layer("tissue", "Tissue mask", tissue_layer(mask, canvas.size), 0)
    yield from patch_layers(rows, labels, canvas, colors)
    if plan is not None and plan.annotations:
        planes = plan.config.grid_spec().planes
        picture = region_layer(plan.annotations, planes, canvas.size, canvas.scale, colors)
        yield Layer("regions", "Annotations", picture, len(plan.annotations))
    for reason, boxes in dropped.items():
        picture = Image.new("RGBA", canvas.size)
        marked = seen_part(boxes, tuple(facts["coordinates"]["size"]))
        draw_marks(ImageDraw.Draw(picture), Reason(reason), marked * (*canvas.scale, *canvas.scale))
        yield Layer("dropped", reason, picture, len(boxes))


def colors_of(facts: Mapping[str, Any], plan: Plan | None) -> dict[str, RGB]:
    """Return the colours of classes: the project's where it is open, else those of the run."""
    found: dict[str, RGB] = {
        name: (color[0], color[1], color[2]) for name, color in facts["class_colors"].items()
    }
    if plan is not None:
        found |= class_colors(plan.slide.project.classes, plan.annotations)
    return found


def color_of(label: str, colors: Mapping[str, RGB]) -> RGB:
    """Return the colour of a label, also of none."""
    return UNCLASSIFIED if label == NO_LABEL else label_color(label, colors)


def patch_layers(
    rows: AnyRows, labels: Mapping[str, int], canvas: Canvas, colors: Mapping[str, RGB]
) -> Iterator[Layer]:
    """Yield a layer for each label, most patches first, and one for all that are rare."""
    own = list(labels)[: MOST_LABELS if len(labels) > MOST_LABELS + 1 else None]
    pictures = {name: Image.new("RGBA", canvas.size) for name in own}
    others = Image.new("RGBA", canvas.size)
    pens = {name: ImageDraw.Draw(picture) for name, picture in pictures.items()}
    rest = ImageDraw.Draw(others)
    for batch in batches_of(rows, [*_BOX, "label"]):
        places = box_columns(batch) * (*canvas.scale, *canvas.scale)
        for (_, name), found in groups_of(batch).items():
            color = color_of(name, colors)
            for place in places[found].tolist():
                draw_patch(pens.get(name, rest), place, color)
    for name, picture in pictures.items():
        yield Layer("patches", name, picture, labels[name], color_of(name, colors))
    if number := sum(n for label, n in labels.items() if label not in pictures):
        yield Layer("others", OTHERS, others, number)


_BOX = ("x_qupath", "y_qupath", "w_qupath", "h_qupath")


def box_columns(batch: pa.RecordBatch | pa.Table) -> BoxArray:
    """Return the boxes of rows, QuPath pixels, shape (N, 4)."""
    columns = [np.asarray(batch.column(name).to_numpy(), np.int64) for name in _BOX]
    return np.column_stack(columns).reshape(-1, 4)


def dropped_boxes(table: pa.Table | None, plan: Plan | None) -> dict[str, BoxArray]:
    """Return the boxes that were not written, by reason: those of the plan, and of reading."""
    found: dict[str, BoxArray] = {}
    if plan is not None:
        codes, boxes = np.frombuffer(plan.reasons[0], np.uint8), plan.candidates()
        for number, reason in enumerate(Reason):
            if (here := codes == number).any():
                found[str(reason)] = boxes[here]
        if plan.grid.edge == "drop" and len(cut := at_edge(plan)):
            found[str(Reason.EDGE)] = np.vstack([cut, found.get(str(Reason.EDGE), cut[:0])])
    if table is not None and table.num_rows:
        reasons = np.asarray(table.column("reason").to_pylist(), object)
        for name in sorted(set(reasons)):
            found[name] = box_columns(table.filter(pa.array(reasons == name)))
    return found


def dropped_rows(output: Output, facts: Mapping[str, Any]) -> pa.Table | None:
    """Return the rows of the patches that reading dropped; None if there are none, or damaged."""
    try:
        return output.dropped(facts["slide_id"])
    except OutputError:
        return None


def _tissue_mask(output: Output, facts: Mapping[str, Any]) -> MaskArray | None:
    """Return the mask that the run kept of a slide; None if there is none, or it is damaged."""
    if facts["tissue"] is None:
        return None
    try:
        return decode_mask(output.get(facts["tissue"]["file"]))
    except (OutputError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
