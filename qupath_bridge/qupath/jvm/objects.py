"""Converts the child's messages to the objects of an image: pure functions on arrays."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from qupath_bridge.frozen import FrozenDict
from qupath_bridge.geometry.canonical import round_coordinates
from qupath_bridge.geometry.shapes import (
    area_by_winding,
    box_corners,
    ellipse_points,
    ring_polygons,
)
from qupath_bridge.model import FloatArray, ObjectType, PathObject, Plane, Roi, RoiKind
from qupath_bridge.qupath.editing import is_ours
from qupath_bridge.qupath.files.classes import normal_class_path
from qupath_bridge.qupath.identity import DerivedIds
from qupath_bridge.qupath.qpdata.measurements import Measurements, Names
from qupath_bridge.qupath.qpdata.records import DESCRIPTION

from .messages import Message, unpack

__all__ = ["objects_from_messages"]

_Arrays = Mapping[str, NDArray[Any]]

_NONE: Mapping[str, float] = Measurements(Names(()), array("d"))


def objects_from_messages(messages: Iterable[Message], entry_id: str) -> tuple[PathObject, ...]:
    """Make the objects of an image from the messages that hold them, in their order.

    ``entry_id`` is used for the ids of objects that have no id.
    """
    ids = DerivedIds(entry_id)
    names: dict[tuple[str, ...], Names] = {}
    objects: list[PathObject] = []
    for message in messages:
        _append(objects, message.header, unpack(message), ids, names)
    return tuple(objects)


def _append(
    objects: list[PathObject],
    header: Mapping[str, Any],
    arrays: _Arrays,
    ids: DerivedIds,
    shared: dict[tuple[str, ...], Names],
) -> None:
    count = len(header["type"])
    rois, nuclei = _rois(arrays, "roi", count), _rois(arrays, "nucleus", count)
    measurements = _measurements(header, arrays, count, shared)
    metadata: list[Mapping[str, str]] = [FrozenDict()] * count
    for place, texts in zip(arrays["has_metadata"].tolist(), header["metadata"], strict=True):
        metadata[place] = texts
    missing = dict(zip(arrays["is_core"].tolist(), header["missing"], strict=True))
    # QuPath keeps the names of a base class as its file has them, also with spaces around.
    classes = [
        (normal_class_path(each[0]), each[1]) if each else (None, None)
        for each in header["classes"]
    ]
    # A file of QuPath < 0.4 has no ids except those of tiles that were added later.
    stored = [
        identity if header["stored"] or is_ours(identity) else None for identity in header["id"]
    ]
    rows = zip(
        header["type"], header["name"], header["color"], header["locked"],
        arrays["class"].tolist(), arrays["parent"].tolist(), arrays["probability"].tolist(),
        strict=True,
    )  # fmt: skip
    for i, (kind, name, color, locked, of_class, parent, probability) in enumerate(rows):
        path, class_color = classes[of_class]
        object_type = ObjectType(kind)
        objects.append(
            PathObject(
                id=stored[i] or ids.make(object_type, path, rois[i]),
                object_type=object_type,
                class_path=path,
                name=name,
                roi=rois[i],
                parent=parent,
                parent_id=objects[parent].id if parent >= 0 else None,
                locked=locked,
                color=color,
                class_color=class_color,
                measurements=measurements[i],
                metadata=metadata[i],
                description=metadata[i].get(DESCRIPTION),
                nucleus=nuclei[i],
                missing=missing.get(i),
                probability=None if math.isnan(probability) else probability,
                id_origin="qupath" if stored[i] else "derived",
            )
        )


def _measurements(
    header: Mapping[str, Any],
    arrays: _Arrays,
    count: int,
    shared: dict[tuple[str, ...], Names],
) -> list[Mapping[str, float]]:
    measurements: list[Mapping[str, float]] = [_NONE] * count
    names = [shared.setdefault(tuple(n), Names(tuple(n))) for n in header["measurement_names"]]
    values, start = arrays["measurement_values"], 0
    rows = zip(
        arrays["has_measurements"].tolist(),
        arrays["measurement_names"].tolist(),
        arrays["measurement_counts"].tolist(),
        strict=True,
    )
    for place, name_list, size in rows:
        numbers = array("d", values[start : start + size].tobytes())
        measurements[place] = Measurements(names[name_list], numbers)
        start += size
    return measurements


def _rois(arrays: _Arrays, name: str, count: int) -> list[Roi | None]:
    rois: list[Roi | None] = [None] * count
    of = arrays[f"{name}.of"].tolist()
    z, t, c = (arrays[f"{name}.{axis}"].tolist() for axis in "ztc")
    for java_kind, (kind, make) in _SHAPES.items():
        prefix = f"{name}.{java_kind}"
        if f"{prefix}.at" not in arrays:
            continue
        shapes = make(arrays, prefix)
        for at, shape in zip(arrays[f"{prefix}.at"].tolist(), shapes, strict=True):
            rois[of[at]] = Roi(kind, shape, Plane(z[at], t[at]), c[at])
    return rois


def _points(arrays: _Arrays, name: str) -> FloatArray:
    return np.stack([arrays[f"{name}.x"], arrays[f"{name}.y"]], axis=1)


def _boxes(arrays: _Arrays, name: str) -> FloatArray:
    return arrays[f"{name}.box"].reshape(-1, 4)


def _rectangles(arrays: _Arrays, name: str) -> Sequence[BaseGeometry]:
    corners = box_corners(_boxes(arrays, name)).reshape(-1, 2)
    return list(ring_polygons(corners, np.full(len(corners) // 4, 4)))


def _ellipses(arrays: _Arrays, name: str) -> Sequence[BaseGeometry]:
    points = ellipse_points(_boxes(arrays, name))
    return list(ring_polygons(points, np.full(len(points), points.shape[1])))


def _lines(arrays: _Arrays, name: str) -> Sequence[BaseGeometry]:
    ends = round_coordinates(_boxes(arrays, name)).reshape(-1, 2, 2)
    return [shapely.LineString(each) for each in ends]


def _polygons(arrays: _Arrays, name: str) -> Sequence[BaseGeometry]:
    counts = arrays[f"{name}.counts"].astype(np.int64)
    return list(ring_polygons(_points(arrays, name), counts))


def _split_points(arrays: _Arrays, name: str) -> list[FloatArray]:
    points = round_coordinates(_points(arrays, name)).reshape(-1, 2)
    return np.split(points, np.cumsum(arrays[f"{name}.counts"])[:-1])


def _polylines(arrays: _Arrays, name: str) -> Sequence[BaseGeometry]:
    return [
        shapely.LineString(points if len(points) > 1 else None)
        for points in _split_points(arrays, name)
    ]


def _point_sets(arrays: _Arrays, name: str) -> Sequence[BaseGeometry]:
    return [
        shapely.Point(points[0]) if len(points) == 1 else shapely.MultiPoint(points)
        for points in _split_points(arrays, name)
    ]


def _geometries(arrays: _Arrays, name: str) -> Sequence[BaseGeometry]:
    content, start = arrays[f"{name}.wkb"].tobytes(), 0
    shapes = []
    for count in arrays[f"{name}.counts"].tolist():
        geometry = shapely.from_wkb(content[start : start + count])
        shapes.append(shapely.transform(geometry, round_coordinates))
        start += count
    return shapes


def _areas(arrays: _Arrays, name: str) -> Sequence[BaseGeometry]:
    rings = np.split(_points(arrays, name), np.cumsum(arrays[f"{name}.counts"])[:-1])
    shapes, start = [], 0
    for count in arrays[f"{name}.rings"].tolist():
        shapes.append(area_by_winding(rings[start : start + count]))
        start += count
    return shapes


_SHAPES = {
    "Rectangle": (RoiKind.RECTANGLE, _rectangles),
    "Ellipse": (RoiKind.ELLIPSE, _ellipses),
    "Line": (RoiKind.LINE, _lines),
    "Polyline": (RoiKind.POLYLINE, _polylines),
    "Polygon": (RoiKind.POLYGON, _polygons),
    "Points": (RoiKind.POINTS, _point_sets),
    "Geometry": (RoiKind.GEOMETRY, _geometries),
    "Area": (RoiKind.GEOMETRY, _areas),
}
"""By the child's name of a kind of ROI: the kind here, and the function that makes its shapes."""
