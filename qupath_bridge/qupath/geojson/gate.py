"""Checks of features before GeoJSON is written: QuPath must not refuse, change or lose any.

One invalid feature makes QuPath refuse a whole file, and some faults lose an object without a
message. The rules are those of QuPath 0.4 to 0.7 together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from qupath_bridge.errors import OutputError
from qupath_bridge.geometry.canonical import round_coordinates
from qupath_bridge.qupath.files.classes import class_path, class_problem
from qupath_bridge.qupath.rois import is_uuid

__all__ = [
    "MAX_MEASUREMENT",
    "check_feature",
    "color_problem",
    "feature_problems",
    "plane_problem",
]

MAX_MEASUREMENT = 3.4028234663852886e38
"""QuPath keeps measurements of detections and tiles as 32-bit floats."""

MAX_INT = 2**31 - 1
"""Java's largest int, which QuPath stores indices of planes in; it cuts larger ones off."""

_GRID = 0.01  # QuPath's precision of coordinates, px (GeometryTools.DEFAULT_FACTORY)
_SNAP = 0.0075  # px between a vertex and an edge at which they snap together: half a diagonal
_MAX_CHANGE = 0.005  # share of an area or a length that a step of the import may change

_TYPES = {"annotation", "detection", "cell", "tile"}
_FEATURE = {"type", "id", "geometry", "nucleusGeometry", "properties"}
_PROPERTIES = {
    "objectType", "name", "color", "classification", "isLocked", "measurements", "metadata",
}  # fmt: skip
_GEOMETRY = {"type", "coordinates", "plane", "isEllipse"}


def check_feature(feature: Mapping[str, Any]) -> None:
    """Refuse a feature that has problems.

    Raises
    ------
    OutputError
        If QuPath would refuse, change or lose a part; all problems are listed.
    """
    problems = feature_problems(feature)
    if problems:
        raise OutputError(
            f"The object {feature.get('id')} cannot be written as GeoJSON for QuPath: "
            f"{'; '.join(problems)}."
        )


def feature_problems(feature: Mapping[str, Any]) -> list[str]:
    """Return the problems of a feature that QuPath would refuse, change or lose; may be empty.

    >>> feature_problems({"type": "Feature", "id": None})[0]
    'id is null'
    """
    nulls = [f"{place} is null" for place in _nulls(feature)]
    if nulls:
        return nulls
    return [*_feature(feature)]


def _nulls(value: Any, place: str = "") -> Iterator[str]:
    if value is None:
        yield place
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _nulls(each, f"{place}.{key}".lstrip("."))


def _feature(feature: Mapping[str, Any]) -> Iterator[str]:
    yield from _unknown(feature, _FEATURE, "the feature")
    if feature.get("type") != "Feature":
        yield f"its type is {feature.get('type')!r}, not 'Feature'"
    if not is_uuid(feature.get("id")):
        yield f"its id {feature.get('id')!r} is not a UUID in lower case"
    properties = feature.get("properties")
    if isinstance(properties, Mapping):
        yield from _unknown(properties, _PROPERTIES, "properties")
        for key, check in _CHECKS.items():
            if key in properties:
                yield from check(properties[key])
        if "objectType" not in properties:
            yield "it has no objectType"
    else:
        yield "it has no properties"
    geometry = feature.get("geometry")
    yield from _geometry(geometry) if isinstance(geometry, Mapping) else ["it has no geometry"]
    if "nucleusGeometry" in feature:
        yield from _geometry(feature["nucleusGeometry"])


def _unknown(value: Mapping[str, Any], known: set[str], what: str) -> Iterator[str]:
    for key in value:
        if key not in known:
            yield f"{what} has a key {key!r}, which QuPath drops"


def _object_type(value: Any) -> Iterator[str]:
    if value not in _TYPES:
        yield f"objectType {value!r} cannot be imported"


def _name(value: Any) -> Iterator[str]:
    if not isinstance(value, str) or not value:
        yield f"name {value!r} is not text"
    elif not _is_unicode(value):
        yield f"name {value!r} cannot be written as UTF-8"


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= sign <= "\udfff" for sign in text)


def color_problem(color: Any) -> str | None:
    """Return the problem of a colour; None if it is three whole numbers from 0 to 255."""
    if (
        isinstance(color, Sequence)
        and len(color) == 3
        and all(type(part) is int and 0 <= part <= 255 for part in color)
    ):
        return None
    return f"colour {color!r} is not red, green and blue from 0 to 255"


def _color(value: Any) -> Iterator[str]:
    problem = color_problem(value)
    if problem:
        yield problem


def _classification(value: Any) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"classification {value!r} is not an object"
        return
    yield from _unknown(value, {"name", "names", "color"}, "classification")
    names = value.get("names", [value["name"]] if "name" in value else [])
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        yield "classification has no name"
    elif any(":" in name for name in names):
        yield f"class name {names!r} contains a ':', at which QuPath splits it"
    else:
        problem = class_problem(class_path(names))
        if problem:
            yield problem
    if "color" not in value:
        yield "classification has no color"
    else:
        yield from _color(value["color"])


def _locked(value: Any) -> Iterator[str]:
    if not isinstance(value, bool):
        yield f"isLocked {value!r} is neither true nor false"


def _measurements(value: Any) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield "measurements are not an object"
        return
    for name, number in value.items():
        if not name:
            yield "a measurement has no name"
        if isinstance(number, bool) or not isinstance(number, int | float):
            yield f"measurement {name!r} is {number!r}, not a number"
        elif not math.isfinite(number) or abs(number) > MAX_MEASUREMENT:
            yield f"measurement {name!r} is {number}, not finite in QuPath"


def _metadata(value: Any) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield "metadata is not an object"
        return
    for key, text in value.items():
        if not isinstance(text, str) or not _is_unicode(text):
            yield f"metadata {key!r} is {text!r}, not text"


_CHECKS: Mapping[str, Callable[[Any], Iterator[str]]] = {
    "objectType": _object_type,
    "name": _name,
    "color": _color,
    "classification": _classification,
    "isLocked": _locked,
    "measurements": _measurements,
    "metadata": _metadata,
}


def _geometry(geometry: Mapping[str, Any]) -> Iterator[str]:
    yield from _unknown(geometry, _GEOMETRY, "geometry")
    yield from _plane(geometry.get("plane", {}))
    if "isEllipse" in geometry and not isinstance(geometry["isEllipse"], bool):
        yield f"isEllipse {geometry['isEllipse']!r} is neither true nor false"
    kind, coordinates = str(geometry.get("type")), geometry.get("coordinates")
    if kind not in _SHAPES:
        yield f"QuPath cannot import or export a {kind}"
        return
    depth, check = _SHAPES[kind]
    if not _is_nested(coordinates, depth):
        yield f"coordinates of a {kind} are not nested correctly, or not finite"
    elif not _is_on_grid(coordinates, depth):
        yield "coordinates are finer than 0.01 px, to which QuPath rounds"
    else:
        yield from check(coordinates)


def _plane(plane: Any) -> Iterator[str]:
    if not isinstance(plane, Mapping) or not all(type(v) is int for v in plane.values()):
        yield f"plane {plane!r} is not made of whole numbers"
        return
    yield from _unknown(plane, {"c", "z", "t"}, "plane")
    problem = plane_problem(plane.get("z", 0), plane.get("t", 0), plane.get("c", -1))
    if problem:
        yield problem


def plane_problem(z: int, t: int, channel: int = -1) -> str | None:
    """Return why QuPath would put an object on another plane; None if it would not."""
    if channel < -1 or z < 0 or t < 0:
        return f"plane c {channel}, z {z}, t {t} has a negative index"
    if max(channel, z, t) > MAX_INT:
        return f"plane c {channel}, z {z}, t {t} has an index of more than 32 bits"
    return None


def _is_nested(value: Any, depth: int) -> bool:
    """Return whether a value is pairs of finite numbers, ``depth`` lists deep, none empty."""
    if not isinstance(value, list | tuple) or not value:
        return False
    if depth:
        return all(_is_nested(each, depth - 1) for each in value)
    return len(value) == 2 and all(
        isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in value
    )


def _is_on_grid(value: Any, depth: int) -> bool:
    if depth > 1:
        return all(_is_on_grid(each, depth - 1) for each in value)
    return bool((round_coordinates(value) == np.asarray(value)).all())


def _points(coordinates: Any) -> Iterator[str]:
    return iter(())


def _line(coordinates: Any) -> Iterator[str]:
    if len(set(map(tuple, coordinates))) < 2:
        yield "a line has no length"
        return
    line = shapely.LineString(coordinates)
    if abs(_single_precision(line).length / line.length - 1) > _MAX_CHANGE:
        yield "QuPath stores coordinates with 32 bits, which changes its length by more than 0.5 %"


def _polygon(rings: Any) -> Iterator[str]:
    yield from _multi_polygon([rings])


def _multi_polygon(parts: Any) -> Iterator[str]:
    rings = [ring for part in parts for ring in part]
    if any(len(ring) < 4 for ring in rings):
        yield "a ring has fewer than four points"
        return
    if any(tuple(ring[0]) != tuple(ring[-1]) for ring in rings):
        yield "a ring is not closed"
        return
    polygons = [shapely.Polygon(part[0], part[1:]) for part in parts]
    shape = polygons[0] if len(polygons) == 1 else shapely.MultiPolygon(polygons)
    # A ring without area is not valid either.
    if not shape.is_valid:
        yield f"it is not valid: {shapely.is_valid_reason(shape)}"
        return
    if shapely.minimum_clearance(shape) < _SNAP and _is_narrow(shape):
        yield "it is so narrow that QuPath empties it, takes it apart or closes a hole"
        return
    stored = _single_precision(shape)
    if not stored.is_valid or _changed_share(shape, stored) > _MAX_CHANGE:
        yield "QuPath stores coordinates with 32 bits, which changes it by more than 0.5 %"


def _is_narrow(shape: BaseGeometry) -> bool:
    """Return whether snapping to QuPath's grid loses a part of a shape that counts.

    What is narrower than a cell may snap together, and so may gaps (``GeometryPrecisionReducer``).
    """
    reduced = shapely.set_precision(shape, _GRID)
    opened = shape.buffer(-_SNAP, join_style="mitre").buffer(_SNAP, join_style="mitre")
    closed = shape.buffer(_SNAP, join_style="mitre").buffer(-_SNAP, join_style="mitre")
    return _rings(reduced) != _rings(shape) or any(
        _changed_share(shape, other) > _MAX_CHANGE for other in (reduced, opened, closed)
    )


def _single_precision(shape: BaseGeometry) -> BaseGeometry:
    return shapely.transform(shape, lambda points: points.astype(np.float32).astype(float))


def _changed_share(shape: BaseGeometry, other: BaseGeometry) -> float:
    """Return the share of a shape's area that another one has more or less."""
    return float(shape.symmetric_difference(other).area / shape.area)


def _rings(shape: BaseGeometry) -> tuple[int, int]:
    """Return the number of parts and of holes of a polygonal shape."""
    holes = shapely.get_num_interior_rings(shapely.get_parts(shape))
    return int(shapely.get_num_geometries(shape)), int(holes.sum())


_SHAPES: Mapping[str, tuple[int, Callable[[Any], Iterator[str]]]] = {
    "Point": (0, _points),
    "MultiPoint": (1, _points),
    "LineString": (1, _line),
    "Polygon": (2, _polygon),
    "MultiPolygon": (3, _multi_polygon),
}
"""Shapes that QuPath imports and exports unchanged: nesting of coordinates, further rules."""
