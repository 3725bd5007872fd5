"""Hypothesis strategies for the content of QuPath's data files.

Needs ``hypothesis``, which is not a dependency of the library.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import shapely
from hypothesis import strategies as st
from shapely.geometry.base import BaseGeometry

from qupath_bridge.model import ImageData, ObjectType, PathObject, Plane, Roi, RoiKind, TmaGrid
from qupath_bridge.qupath.rois import make_roi

__all__ = ["images", "rois", "text_values"]

_CLASSES = (
    None,
    "Tumor",
    "Stroma",
    "Tumor: Positive",
    "Tumor: Positive: 高い",
    "Région é",
    "Ignore*",
)
_NUMBERS = (0.0, -0.0, 1.5, 0.1, 1e300, -1e-300, math.nan, math.inf, -math.inf)
_SHAPES = ("box", "ellipse", "line", "path", "star", "points", "ring", "parts")
_DESCRIPTION = "ANNOTATION_DESCRIPTION"  # where QuPath keeps it, among the metadata
_KINDS = (
    ObjectType.ANNOTATION,
    ObjectType.DETECTION,
    ObjectType.CELL,
    ObjectType.TILE,
)


def text_values(**options: Any) -> st.SearchStrategy[str]:
    """Return texts in all scripts, without line breaks and surrogates."""
    return st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), **options)


@st.composite
def rois(draw: st.DrawFn) -> Roi:
    """Draw a ROI of any kind on any plane, with coordinates that QuPath stores exactly."""
    x, y = draw(st.integers(0, 4000)) / 4, draw(st.integers(0, 4000)) / 4
    size = draw(st.integers(4, 400)) / 2
    plane = Plane(draw(st.integers(0, 3)), draw(st.integers(0, 3)))
    kind = draw(
        st.sampled_from(["box", "ellipse", "line", "path", "star", "points", "ring", "parts"])
    )
    return make_roi(_shape(kind, x, y, size), plane, ellipse=kind == "ellipse")


def _shape(kind: str, x: float, y: float, size: float) -> BaseGeometry:
    box = shapely.box(x, y, x + size, y + 2 * size)
    corners = [(x, y), (x + size, y + 0.25), (x + size - 0.5, y + size), (x + 0.25, y + size / 2)]
    if kind == "line":
        return shapely.LineString(corners[:2])
    if kind == "path":
        return shapely.LineString(corners)
    if kind == "star":
        return shapely.Polygon(corners)
    if kind == "points":
        return shapely.MultiPoint(corners)
    if kind == "ring":
        hole = shapely.box(x + 0.5, y + 0.5, x + size - 0.5, y + size - 0.5)
        return shapely.Polygon(box.exterior.coords, [hole.exterior.coords])
    if kind == "parts":
        return shapely.MultiPolygon(
            [box, shapely.Polygon([(x + 500, y), (x + 510, y), (x + 500, y + 9)])]
        )
    return box


@st.composite
def images(draw: st.DrawFn, most: int = 12) -> ImageData:
    """Draw the content of a data file: up to ``most`` objects, nested in any way."""
    count = draw(st.integers(0, most))
    deep = draw(st.booleans())  # one below the other, as deep as they are many
    objects: list[PathObject] = []
    for i in range(count):
        parent = i - 1 if deep else draw(st.integers(-1, i - 1))
        objects.append(draw(_objects(i, objects[parent].id if parent >= 0 else None)))
    cores = draw(st.integers(0, 4)) if draw(st.booleans()) else 0
    ordered = _depth_first(objects)
    grid = TmaGrid(cores, 1, tuple(range(count, count + cores))) if cores else None
    all_objects = tuple(ordered) + tuple(draw(_core(count + i)) for i in range(cores))
    return ImageData(
        objects=all_objects,
        image_type=draw(st.sampled_from(["BRIGHTFIELD_H_E", "FLUORESCENCE", "OTHER", "UNSET"])),
        tma_grid=grid,
    )


def _identity(i: int) -> str:
    return f"{i + 1:08x}-0000-4000-8000-00000000abcd"


@st.composite
def _objects(draw: st.DrawFn, i: int, parent_id: str | None) -> PathObject:
    kind = draw(st.sampled_from(_KINDS))
    texts = st.dictionaries(
        text_values(min_size=1, max_size=6), text_values(max_size=6), max_size=2
    )
    metadata = draw(texts)
    if kind is ObjectType.ANNOTATION and draw(st.booleans()):
        metadata[_DESCRIPTION] = draw(text_values(min_size=1, max_size=9))
    return PathObject(
        id=_identity(i),
        object_type=kind,
        class_path=draw(st.sampled_from(_CLASSES)),
        name=draw(st.none() | text_values(min_size=1, max_size=9)),
        roi=draw(rois()),
        parent_id=parent_id,
        locked=draw(st.booleans()),
        color=draw(st.none() | st.integers(-(1 << 31), (1 << 31) - 1)),
        measurements=draw(
            st.dictionaries(
                text_values(min_size=1, max_size=6), st.sampled_from(_NUMBERS), max_size=3
            )
        ),
        metadata=metadata,
        description=metadata.get(_DESCRIPTION),
        nucleus=draw(rois()) if kind is ObjectType.CELL else None,
        probability=draw(st.none() | st.sampled_from([0.0, 0.25, 1.0])),
    )


@st.composite
def _core(draw: st.DrawFn, i: int) -> PathObject:
    shape = shapely.box(100 * i, 0, 100 * i + 90, 90)
    return PathObject(
        id=_identity(i),
        object_type=ObjectType.TMA_CORE,
        name=draw(st.none() | text_values(min_size=1, max_size=5)),
        roi=Roi(RoiKind.ELLIPSE, make_roi(shape, ellipse=True).geometry),
        missing=draw(st.booleans()),
    )


def _depth_first(objects: list[PathObject]) -> list[PathObject]:
    """Return the objects with each one's children directly after it, as QuPath lists them."""
    order: list[PathObject] = []

    def below(parent_id: str | None, parent: int) -> None:
        for each in objects:
            if each.parent_id == parent_id:
                order.append(replace(each, parent=parent))
                below(each.id, len(order) - 1)

    below(None, -1)
    return order
