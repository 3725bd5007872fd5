"""Placing of boxes: around objects, from the corners of regions, or as somebody listed them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import shapely

from qupath_bridge.errors import PlanError
from qupath_bridge.frozen import FrozenDict
from qupath_bridge.geometry.edges import GeometryArray, as_array
from qupath_bridge.geometry.validity import repair
from qupath_bridge.model import (
    BoxArray,
    IntArray,
    LabelRule,
    MaskArray,
    PathObject,
    PlacementSpec,
    Plane,
)

from .anchors import Anchor, select_objects
from .grid import Grid
from .placed import PlacedBoxes, Placement, inside_share
from .regions import ActiveRegion
from .table import Ragged

__all__ = ["LARGEST_SIDE", "place_around", "place_listed", "place_region_grids"]

LARGEST_SIDE = 1 << 14
"""Written pixels of a side of a patch."""

CHUNK = 1 << 16
"""Boxes that are compared with regions at once."""


class _Scale(NamedTuple):
    """Full-resolution pixels per written pixel, along x and y, and of what starts are multiples."""

    x: float
    y: float
    snap: int


def place_around(
    objects: Sequence[PathObject],
    grid: Grid,
    spec: PlacementSpec,
    rule: LabelRule,
    planes: Sequence[Plane],
    *,
    snap: int = 1,
) -> Placement:
    """Place a box around each object.

    Boxes that are equal are one, with all their objects. A box of the size of the patches of the
    grid is centred on the object's centroid; one with a margin has the object's bounds, grown to
    whole written pixels. Each point of an object of points is an object of its own.

    Parameters
    ----------
    objects : sequence of PathObject
        All of the slide, in any order.
    grid : Grid
        Its box is the size of a patch; its edge policy holds.
    spec : PlacementSpec
        Of the kind ``objects``.
    rule : LabelRule
        Turns classes of objects into labels.
    planes : sequence of Plane
    snap : int
        Boxes start at multiples of it, so that patches are the own pixels of a level.

    Raises
    ------
    PlanError
        If a patch would be too large, or objects without a class are an error.
    """
    anchors, counts = select_objects(objects, spec, rule, planes, (grid.width, grid.height))
    size = grid.size or grid.box_width
    scale = _Scale(grid.box_width / size, grid.box_height / size, snap)
    shapes = as_array([anchor.geometry for anchor in anchors])
    if spec.margin is None:
        boxes = _centred(shapes, grid, snap)
    else:
        boxes = _bounding(shapes, spec.margin, scale, (grid.width, grid.height))
        _check_sides(boxes, anchors, scale)
    return _placement(
        "objects", grid, anchors, np.arange(len(anchors)), boxes, counts,
        planes=planes, everywhere=rule.all_planes, sized=spec.margin is not None,
    )  # fmt: skip


def place_region_grids(
    regions: Sequence[ActiveRegion],
    grid: Grid,
    planes: Sequence[Plane],
    *,
    everywhere: bool = False,
    snap: int = 1,
) -> Placement:
    """Place a grid from the upper left corner of each region's bounds.

    It has the boxes that the region covers in part.

    Parameters
    ----------
    regions : sequence of ActiveRegion
        Those that label.
    grid : Grid
        Its boxes and steps are those of each grid.
    everywhere : bool
        Whether regions act on every plane.
    snap : int
        Grids start at multiples of it.
    """
    anchors = [
        Anchor(region.id, region.role.label, region.plane, region.polygon) for region in regions
    ]
    owners, parts = [np.zeros(0, np.int64)], [np.zeros((0, 4), np.int64)]
    for number, region in enumerate(regions):
        found = _region_grid(region, grid, snap)
        parts.append(found)
        owners.append(np.full(len(found), number))
    boxes, owner = np.concatenate(parts), np.concatenate(owners)
    keep = _covered(as_array([anchor.geometry for anchor in anchors]), owner, boxes)
    used = Counter({"used": len(np.unique(owner[keep]))})
    return _placement(
        "regions", grid, anchors, owner[keep], boxes[keep], used,
        planes=planes, everywhere=everywhere, sized=False,
    )  # fmt: skip


def place_listed(boxes: BoxArray, grid: Grid, planes: Sequence[Plane]) -> Placement:
    """Place boxes that somebody listed, those that are equal once, on each plane.

    Parameters
    ----------
    boxes : array, shape (N, 4), QuPath pixels
    grid : Grid
        Its box is the size of a patch; its edge policy holds.
    planes : sequence of Plane

    Raises
    ------
    PlanError
        If a box is not on the image at all: the coordinates are those of another one.
    """
    size = (grid.width, grid.height)
    beyond = np.flatnonzero(inside_share(boxes, size) <= 0)
    if len(beyond):
        x, y, width, height = boxes[beyond[0]].tolist()
        raise PlanError(
            f"{len(beyond)} of {len(boxes)} listed boxes are outside the image of {size[0]} x "
            f"{size[1]} px; the first one begins at {x}, {y} and has {width} x {height} px.",
            hint="Are the coordinates those of this slide?",
        )
    nobody = np.array([-1])
    owner = np.zeros(len(boxes), np.int64)
    placed = _distinct(boxes, owner, _Names(nobody, nobody), grid)
    return Placement("coordinates", grid, FrozenDict(dict.fromkeys(planes, placed)))


def _region_grid(region: ActiveRegion, grid: Grid, snap: int) -> BoxArray:
    """Return the boxes of a grid that begins at a region's corner and reaches over its bounds."""
    left, top, right, bottom = shapely.bounds(region.polygon).tolist()
    xs = np.arange(np.floor(left / snap) * snap, right, grid.step_x)
    ys = np.arange(np.floor(top / snap) * snap, bottom, grid.step_y)
    boxes = np.empty((len(ys), len(xs), 4), np.int64)
    boxes[..., 0], boxes[..., 1] = xs, ys[:, None]
    boxes[..., 2:] = grid.box_width, grid.box_height
    return boxes.reshape(-1, 4)


def _covered(polygons: GeometryArray, owner: IntArray, boxes: BoxArray) -> MaskArray:
    """Return which boxes share area with their polygon, shape (N,)."""
    shapely.prepare(polygons)
    found = np.zeros(len(boxes), np.bool_)
    for start in range(0, len(boxes), CHUNK):
        part = slice(start, start + CHUNK)
        x, y, w, h = boxes[part].T
        rectangles, own = shapely.box(x, y, x + w, y + h), polygons[owner[part]]
        found[part] = shapely.intersects(own, rectangles) & ~shapely.touches(own, rectangles)
    return found


def _centred(shapes: GeometryArray, grid: Grid, snap: int) -> BoxArray:
    """Return a box of the grid's size around each centroid."""
    for number in np.flatnonzero(~shapely.is_valid(shapes)).tolist():
        whole = repair(shapes[number])[0]
        shapes[number] = shapely.envelope(shapes[number]) if whole.is_empty else whole
    centres = shapely.get_coordinates(shapely.centroid(shapes)).reshape(-1, 2)
    size = np.array([grid.box_width, grid.box_height])
    starts = np.floor((centres - size / 2) / snap + 0.5).astype(np.int64) * snap
    return np.hstack([starts, np.broadcast_to(size, starts.shape)])


def _bounding(
    shapes: GeometryArray, margin: int, scale: _Scale, image: tuple[int, int]
) -> BoxArray:
    """Return the bounds of each shape inside the image, with a margin, in whole written pixels."""
    bounds = shapely.bounds(shapes).reshape(-1, 4)
    columns = []
    for axis, unit in enumerate((scale.x, scale.y)):
        low = np.clip(bounds[:, axis], 0, image[axis])
        high = np.clip(bounds[:, axis + 2], 0, image[axis])
        start = np.floor((low - margin * unit) / scale.snap) * scale.snap
        end = high + margin * unit
        count = np.maximum(np.ceil((end - start) / unit - 1e-9), 1)
        length = np.floor(count * unit + 0.5)
        count += length < end - start - 1e-9
        # An object at the edge has a box that ends there, a part of a written pixel earlier.
        most = np.floor((image[axis] - start) / unit + 1e-9)
        over = (start + np.floor(count * unit + 0.5) > image[axis]) & (end <= image[axis])
        count = np.where(over, np.maximum(most, 1), count)
        columns.append((start, np.floor(count * unit + 0.5)))
    (x, width), (y, height) = columns
    return np.column_stack([x, y, width, height]).astype(np.int64)


def _check_sides(boxes: BoxArray, anchors: Sequence[Anchor], scale: _Scale) -> None:
    sides = np.maximum(boxes[:, 2] / scale.x, boxes[:, 3] / scale.y)
    if len(sides) and sides.max() > LARGEST_SIDE + 0.5:
        number = int(sides.argmax())
        width, height = boxes[number, 2:] / (scale.x, scale.y)
        raise PlanError(
            f"Object {anchors[number].id} would be a picture of {width:.0f} x {height:.0f} px; the "
            f"largest side is {LARGEST_SIDE} px.",
            hint="Use a coarser mpp, or cut it into patches with per_region = grid.",
        )


def _placement(
    kind: Literal["regions", "objects"],
    grid: Grid,
    anchors: Sequence[Anchor],
    owner: IntArray,
    boxes: BoxArray,
    counts: Counter[str],
    *,
    planes: Sequence[Plane],
    everywhere: bool,
    sized: bool,
) -> Placement:
    """Put boxes in order, those that are equal once, on each plane."""
    object_names = tuple(sorted({anchor.id for anchor in anchors}))
    label_names = tuple(sorted({anchor.label for anchor in anchors if anchor.label}))
    names = _Names(
        np.searchsorted(object_names, [anchor.id for anchor in anchors])
        if anchors
        else np.zeros(0, np.int64),
        np.array([_code(label_names, anchor.label) for anchor in anchors], np.int64),
    )
    on = np.array([anchor.plane for anchor in anchors], np.int64).reshape(-1, 2)[owner]
    placed = {}
    for plane in planes:
        here = np.ones(len(owner), np.bool_) if everywhere else (on == plane).all(axis=1)
        placed[plane] = _distinct(boxes[here], owner[here], names, grid)
    return Placement(
        kind,
        grid,
        FrozenDict(placed),
        label_names,
        object_names,
        FrozenDict({name: number for name, number in sorted(counts.items()) if number}),
        sized,
        tuple(sorted({anchor.class_path for anchor in anchors if anchor.class_path})),
    )


@dataclass(frozen=True, slots=True)
class _Names:
    """Codes of the id and of the label of each anchor; -1 for no label."""

    objects: IntArray
    labels: IntArray


def _code(names: tuple[str, ...], name: str | None) -> int:
    return -1 if name is None else names.index(name)


def _distinct(boxes: BoxArray, owner: IntArray, names: _Names, grid: Grid) -> PlacedBoxes:
    """Return boxes in order, each once with all its objects, by the edge policy."""
    size = (grid.width, grid.height)
    ordered, place = np.unique(boxes[:, [1, 0, 3, 2]], axis=0, return_inverse=True)
    distinct: BoxArray = ordered[:, [1, 0, 3, 2]]
    valid = inside_share(distinct, size) if len(distinct) else np.zeros(0)
    keep = valid >= 1 if grid.edge == "drop" else valid > 0
    rows = np.flatnonzero(keep)
    return PlacedBoxes(
        distinct[rows],
        _lists(place.reshape(-1), names.objects[owner], len(distinct)).take(rows),
        _lists(place.reshape(-1), names.labels[owner], len(distinct)).take(rows),
        grid,
        distinct[~keep],
    )


def _lists(rows: IntArray, codes: IntArray, count: int) -> Ragged:
    """Return the codes of each row, ascending, each once; -1 is none."""
    pairs = np.unique(np.column_stack([rows, codes])[codes >= 0].reshape(-1, 2), axis=0)
    return Ragged.of(pairs[:, 0], pairs[:, 1], count)
