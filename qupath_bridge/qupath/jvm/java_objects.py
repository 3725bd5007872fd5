"""Packs the objects of a data file, as QuPath's classes hold them, into messages of arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jpype import JArray, JClass, JDouble  # type: ignore[import-untyped]  # noqa: TID253
from numpy.typing import NDArray

from .java import (
    METADATA,
    NOT_NULL,
    OBJECT_TYPES,
    PATH_OBJECT,
    Function,
    Object,
    as_interface,
    doubles,
    field_getter,
    index_distinct,
    ints,
    java_map,
    json_values,
    method_handle,
    select_items,
    select_where,
    type_names,
)
from .java_data import Stored, has_ids
from .messages import Message, pack

__all__ = ["BATCH", "list_objects", "object_messages"]

BATCH = 20_000  # objects in one message

_DETECTIONS = {"detection", "cell", "tile"}
_ROIS = {
    "RectangleROI": "Rectangle",
    "EllipseROI": "Ellipse",
    "LineROI": "Line",
    "PolylineROI": "Polyline",
    "PolygonROI": "Polygon",
    "PointsROI": "Points",
    "GeometryROI": "Geometry",
    "AreaROI": "Area",  # QuPath < 0.2
}

_MEASUREMENTS = "qupath.lib.measurements.MeasurementList"
_ROI = "qupath.lib.roi.interfaces.ROI"
_BOUNDED = "qupath.lib.roi.AbstractPathBoundedROI"
_LINE = "qupath.lib.roi.LineROI"
_RING = "qupath.lib.roi.Vertices"
_POINT = "qupath.lib.geom.Point2"

_STREAM = method_handle("java.util.Collection", "stream")
_SIZE = method_handle("java.util.List", "size")
_LENGTH = method_handle("java.lang.reflect.Array", "getLength", Object.class_)
_DOUBLES = method_handle("java.util.Arrays", "stream", JArray(JDouble).class_)
_WKBWriter = JClass("org.locationtech.jts.io.WKBWriter")
_WKB = method_handle(
    "org.locationtech.jts.io.WKBWriter",
    "write",
    JClass("org.locationtech.jts.geom.Geometry").class_,
).bindTo(_WKBWriter(2))


def object_messages(stored: Stored, detections: bool) -> Iterator[Message]:
    """Yield the objects of a file, depth first, some thousands in each message."""
    flat = stored.hierarchy.getRootObject().getDescendantObjects(None)
    kinds = type_names(flat, OBJECT_TYPES) if len(flat) else np.zeros(0, np.str_)
    places, parents = list_objects(flat, kinds, detections)
    skipped: dict[str, int] = {}
    if not detections:
        names, counts = np.unique(kinds[np.isin(kinds, list(_DETECTIONS))], return_counts=True)
        skipped = dict(zip(names.tolist(), counts.tolist(), strict=True))
    with_ids = has_ids(stored.qupath_version)
    yield Message({
        "more": bool(len(places)),
        "skipped": skipped,
        "grid": _grid(stored.hierarchy.getTMAGrid(), flat, kinds, places),
    })  # fmt: skip
    for start in range(0, len(places), BATCH):
        part = slice(start, start + BATCH)
        message = _batch(select_items(flat, places[part]), kinds[places[part]], with_ids)
        header = {**message.header, "more": start + BATCH < len(places)}
        yield pack(header, {**message.arrays, "parent": parents[part]})


def list_objects(
    flat: Any, kinds: NDArray[np.str_], detections: bool
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return the places of the selected objects, and each one's nearest selected ancestor."""
    if not len(flat):
        return np.zeros(0, np.int64), np.zeros(0, np.int32)
    counts = ints(flat, method_handle(PATH_OBJECT, "nChildObjects")).tolist()
    wanted = np.ones(len(kinds), bool) if detections else ~np.isin(kinds, list(_DETECTIONS))
    parents: list[int] = []
    above: list[list[int]] = [[-1, len(counts) + 1]]  # the place of an object, children left
    number = 0
    for count, listed in zip(counts, wanted.tolist(), strict=True):
        while not above[-1][1]:
            above.pop()
        above[-1][1] -= 1
        place = above[-1][0]
        if listed:
            parents.append(place)
            place = number
            number += 1
        if count:
            above.append([place, count])
    return np.flatnonzero(wanted), np.array(parents, np.int32)


def _grid(
    grid: Any, flat: Any, kinds: NDArray[np.str_], listed: NDArray[np.int64]
) -> dict[str, Any] | None:
    if grid is None:
        return None
    core_places = np.flatnonzero(kinds == "tmaCore")
    cores = select_items(flat, core_places)
    found = [cores.indexOf(core) for core in grid.getTMACoreList()]
    if -1 in found:
        raise ValueError("a TMA grid with cores that are not in the hierarchy")
    index = np.searchsorted(listed, core_places[found])
    return {
        "width": int(grid.getGridWidth()),
        "height": int(grid.getGridHeight()),
        "cores": index.tolist(),
    }


@dataclass(slots=True)
class _Batch:
    header: dict[str, Any]
    arrays: dict[str, NDArray[Any]]


def _batch(objects: Any, kinds: NDArray[np.str_], with_ids: bool) -> _Batch:
    classes, class_index = index_distinct(
        java_map(objects, method_handle(PATH_OBJECT, "getPathClass"))
    )
    header: dict[str, Any] = {
        "type": kinds.tolist(),
        "id": json_values(java_map(objects, method_handle(PATH_OBJECT, "getID"))),
        "stored": with_ids,
        "name": json_values(java_map(objects, method_handle(PATH_OBJECT, "getName"))),
        "color": json_values(java_map(objects, method_handle(PATH_OBJECT, "getColor"))),
        "locked": json_values(java_map(objects, method_handle(PATH_OBJECT, "isLocked"))),
        "classes": [_path_class(each) for each in classes],
    }
    arrays: dict[str, NDArray[Any]] = {
        "class": class_index,
        "probability": doubles(objects, method_handle(PATH_OBJECT, "getClassProbability")),
    }
    with_metadata, maps = select_where(java_map(objects, METADATA), NOT_NULL)
    header["metadata"] = json_values(maps)
    arrays["has_metadata"] = with_metadata
    cores = np.flatnonzero(kinds == "tmaCore")
    header["missing"] = [bool(core.isMissing()) for core in select_items(objects, cores)]
    arrays["is_core"] = cores
    _add_measurements(objects, header, arrays)
    arrays |= _rois("roi", objects, method_handle(PATH_OBJECT, "getROI"))
    cells = np.flatnonzero(kinds == "cell")
    nucleus = method_handle("qupath.lib.objects.PathCellObject", "getNucleusROI")
    arrays |= _rois("nucleus", select_items(objects, cells), nucleus, cells)
    return _Batch(header, arrays)


def _path_class(found: Any) -> list[Any] | None:
    if found is None or found.getName() is None:
        return None
    color = found.getColor()
    return [str(found.toString()), None if color is None else int(color)]


def _add_measurements(objects: Any, header: dict[str, Any], arrays: dict[str, Any]) -> None:
    places, some = select_where(objects, method_handle(PATH_OBJECT, "hasMeasurements"))
    lists = java_map(some, method_handle(PATH_OBJECT, "getMeasurementList"))
    # Called getNames by QuPath >= 0.6, which has the old name too.
    names, index = index_distinct(
        java_map(lists, method_handle(_MEASUREMENTS, "getMeasurementNames"))
    )
    values = java_map(lists, method_handle(_MEASUREMENTS, "values"))
    header["measurement_names"] = [json_values(each) for each in names]
    arrays["has_measurements"], arrays["measurement_names"] = places, index
    arrays["measurement_counts"] = ints(values, _LENGTH)
    arrays["measurement_values"] = np.array(
        values.stream().flatMapToDouble(as_interface(Function, _DOUBLES)).toArray(), np.float64
    )


def _rois(
    name: str, objects: Any, roi: Any, places: NDArray[np.int64] | None = None
) -> dict[str, NDArray[Any]]:
    """Return ROIs as arrays: owners and planes, and the coordinates by kind of ROI."""
    with_roi, rois = select_where(java_map(objects, roi), NOT_NULL)
    owners = with_roi if places is None else places[with_roi]
    arrays: dict[str, NDArray[Any]] = {f"{name}.of": owners}
    for axis in "ztc":
        arrays[f"{name}.{axis}"] = ints(rois, method_handle(_ROI, f"get{axis.upper()}"))
    kinds = type_names(rois, _ROIS) if len(rois) else np.zeros(0, np.str_)
    for kind in np.unique(kinds).tolist():
        at = np.flatnonzero(kinds == kind)
        some = select_items(rois, at)
        arrays[f"{name}.{kind}.at"] = at
        if kind in ("Rectangle", "Ellipse", "Line"):
            owner = _LINE if kind == "Line" else _BOUNDED
            corners = [doubles(some, field_getter(owner, side)) for side in ("x", "y", "x2", "y2")]
            arrays[f"{name}.{kind}.box"] = np.stack(corners, axis=1).ravel()
        elif kind == "Geometry":
            written = java_map(java_map(some, method_handle(_ROI, "getGeometry")), _WKB)
            arrays[f"{name}.{kind}.counts"] = ints(written, _LENGTH)
            arrays[f"{name}.{kind}.wkb"] = np.concatenate(
                [np.frombuffer(bytes(each), np.uint8) for each in written]
            )
        else:
            if kind == "Area":
                rings = java_map(some, field_getter("qupath.lib.roi.AreaROI", "vertices"))
                arrays[f"{name}.{kind}.rings"] = ints(
                    rings, method_handle("java.util.List", "size")
                )
                some = rings.stream().flatMap(as_interface(Function, _STREAM)).toList()
            owner, points_of = (_ROI, "getAllPoints") if kind != "Area" else (_RING, "getPoints")
            lists = java_map(some, method_handle(owner, points_of))
            points = lists.stream().flatMap(as_interface(Function, _STREAM)).toList()
            arrays[f"{name}.{kind}.counts"] = ints(lists, _SIZE)
            for axis in "xy":
                arrays[f"{name}.{kind}.{axis}"] = doubles(
                    points, method_handle(_POINT, f"get{axis.upper()}")
                )
    return arrays
