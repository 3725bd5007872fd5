"""Reader of the GeoJSON that QuPath 0.2 to 0.7 write."""

from __future__ import annotations

import gzip
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from qupath_bridge.errors import ProjectError
from qupath_bridge.frozen import FrozenDict
from qupath_bridge.geometry.canonical import round_coordinates
from qupath_bridge.model import FIRST_PLANE, ObjectType, PathObject, Plane, Roi
from qupath_bridge.qupath.files.classes import class_path, normal_class_path, pack_rgb
from qupath_bridge.qupath.identity import DerivedIds
from qupath_bridge.qupath.rois import canonical_roi, is_uuid
from qupath_bridge.regular_files import open_regular

__all__ = ["MAX_BYTES", "load", "loads"]

MAX_BYTES = 1 << 32
"""Largest text that is read, after decompression, bytes."""

_TYPES = {
    "annotation": ObjectType.ANNOTATION,
    "PathAnnotationObject": ObjectType.ANNOTATION,
    "detection": ObjectType.DETECTION,
    "PathDetectionObject": ObjectType.DETECTION,
    "cell": ObjectType.CELL,
    "PathCellObject": ObjectType.CELL,
    "tile": ObjectType.TILE,
    "PathTileObject": ObjectType.TILE,
    "tmaCore": ObjectType.TMA_CORE,
    "tma_core": ObjectType.TMA_CORE,
    "TMACoreObject": ObjectType.TMA_CORE,
    "root": ObjectType.ROOT,
    "PathRootObject": ObjectType.ROOT,
}
"""Names of object types in all versions; those in Java's style are ids of features in 0.2."""

DESCRIPTION = "ANNOTATION_DESCRIPTION"
"""Metadata key of an annotation's description."""

_SHAPES = {"Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon"}


def load(
    path: Path | str, *, entry_id: str = "", max_bytes: int = MAX_BYTES
) -> tuple[PathObject, ...]:
    """Read a ``.geojson`` or ``.json`` file, one in ``.gz``, or all in a ``.zip``.

    Parameters
    ----------
    path : path
    entry_id : str, optional
        Entry ID of the image; part of the ids that are derived for objects without an id.
    max_bytes : int
        Largest text after decompression.

    Returns
    -------
    tuple of PathObject
        Depth first, as in :class:`~qupath_bridge.model.ImageData`.

    Raises
    ------
    ProjectError
        If QuPath does not write such content; the error names the file and the place.
    """
    path = Path(path)
    try:
        texts = list(_texts(path, max_bytes))
    except (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile) as error:
        raise ProjectError(f"cannot be read: {error}", path=path) from error
    return _objects((_parse(text, path) for text in texts), path, entry_id)


def loads(text: str | bytes, *, entry_id: str = "") -> tuple[PathObject, ...]:
    """Read GeoJSON text: a FeatureCollection, an array of features, a feature or a geometry.

    Raises
    ------
    ProjectError
        If QuPath does not write such content; the error names the place.
    """
    return _objects([_parse(text, None)], None, entry_id)


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def _texts(path: Path, max_bytes: int) -> Iterator[bytes]:
    if path.suffix.lower() == ".gz":
        with open_regular(path) as file, gzip.open(file) as stream:
            yield _read(stream, max_bytes)
    elif path.suffix.lower() == ".zip":
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            for name in sorted(archive.namelist()):
                if name.lower().endswith((".json", ".geojson")):
                    with archive.open(name) as stream:
                        yield _read(stream, max_bytes)
    else:
        with open_regular(path) as stream:
            yield _read(stream, max_bytes)


def _read(stream: _Readable, max_bytes: int) -> bytes:
    data = stream.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ValueError(f"it contains more than {max_bytes} bytes of text")
    return data


def _parse(text: str | bytes, path: Path | None) -> Any:
    try:
        # If an object has a key twice (QuPath >= 0.6 writes "metadata" so), the last one counts.
        # QuPath < 0.5 writes bare NaN and Infinity.
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        cause = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise ProjectError(f"cannot be read as JSON: {cause}", path=path) from error


class _Pending(NamedTuple):
    """A feature that is still to be read, and its place in the file."""

    raw: Any
    place: str
    parent: int


def _objects(values: Any, path: Path | None, entry_id: str) -> tuple[PathObject, ...]:
    ids = DerivedIds(entry_id)
    objects: list[PathObject] = []
    for value in values:
        stack = [_Pending(raw, place, -1) for raw, place in _top_level(value)][::-1]
        while stack:
            pending = stack.pop()
            try:
                each, children = _object(pending.raw, pending.parent, objects, ids)
            except ValueError as fault:
                raise ProjectError(f"{pending.place}: {fault}", path=path) from fault
            index = len(objects)
            objects.append(each)
            stack.extend(
                _Pending(child, f"{pending.place}.properties.childObjects[{n}]", index)
                for n, child in reversed(list(enumerate(children)))
            )
    return tuple(objects)


def _top_level(value: Any) -> Iterator[tuple[Any, str]]:
    if isinstance(value, dict) and value.get("type") == "FeatureCollection":
        features = value.get("features")
        for index, each in enumerate(features if isinstance(features, list) else ()):
            yield each, f"features[{index}]"
    elif isinstance(value, list):
        for index, each in enumerate(value):
            for raw, place in _top_level(each):
                yield raw, f"[{index}]{place and '.'}{place}"
    elif isinstance(value, dict) and value.get("type") in _SHAPES:
        yield {"type": "Feature", "geometry": value}, ""
    else:
        yield value, ""


def _object(
    raw: Any, parent: int, objects: list[PathObject], ids: DerivedIds
) -> tuple[PathObject, list[Any]]:
    feature = _dict(raw, "a feature")
    properties = _dict(feature.get("properties") or {}, "properties")
    object_type = _object_type(feature, properties)
    classification, class_color = _classification(properties.get("classification"))
    roi = _roi(feature.get("geometry"))
    feature_id = str(feature.get("id")).lower()
    stored_id = feature_id if is_uuid(feature_id) else None
    metadata = _metadata(properties.get("metadata"))
    children = properties.get("childObjects", properties.get("children"))
    each = PathObject(
        id=stored_id or ids.make(object_type, classification, roi),
        object_type=object_type,
        class_path=classification,
        name=_text(properties.get("name"), "properties.name"),
        roi=roi,
        parent=parent,
        parent_id=None if parent < 0 else objects[parent].id,
        locked=properties.get("isLocked") is True,
        color=_color(properties.get("color")),
        class_color=class_color,
        measurements=_measurements(properties.get("measurements")),
        metadata=metadata,
        description=metadata.get(DESCRIPTION),
        nucleus=_roi(feature.get("nucleusGeometry")),
        missing=(
            properties.get("isMissing") is True if object_type is ObjectType.TMA_CORE else None
        ),
        id_origin="qupath" if stored_id else "derived",
    )
    return each, children if isinstance(children, list) else []


def _object_type(feature: Mapping[str, Any], properties: Mapping[str, Any]) -> ObjectType:
    for key in ("objectType", "object_type", "type"):
        if key in properties:
            # An unknown type becomes an annotation, as in QuPath.
            return _TYPES.get(str(properties[key]), ObjectType.ANNOTATION)
    return _TYPES.get(str(feature.get("id")), ObjectType.ANNOTATION)


def _classification(raw: Any) -> tuple[str | None, int | None]:
    """Return class path and colour, from the forms of all versions."""
    if raw is None or raw == {}:
        return None, None
    if isinstance(raw, str):
        return normal_class_path(raw), None
    raw = _dict(raw, "classification")
    color = _color(raw.get("colorRGB", raw.get("color")))
    if isinstance(raw.get("names"), list) and raw["names"]:
        return class_path(str(name) for name in raw["names"]), color
    names: list[str] = []
    level: Any = raw
    while isinstance(level, dict) and "name" in level:  # 0.2 and 0.3 nest the parents
        names.append(str(level["name"]))
        level = level.get("parentClass")
    if not names:
        raise ValueError('classification: expected "name" or "names"')
    return normal_class_path(class_path(reversed(names))), color


def _color(raw: Any) -> int | None:
    if raw is None:
        return None
    if isinstance(raw, int):
        return (raw + (1 << 31)) % (1 << 32) - (1 << 31)
    if (
        isinstance(raw, list)
        and len(raw) in {3, 4}
        and all(isinstance(part, int) and 0 <= part <= 255 for part in raw)
    ):
        return pack_rgb(*raw[:3])
    raise ValueError(f"colour: expected red, green and blue from 0 to 255, not {raw!r}")


def _measurements(raw: Any) -> Mapping[str, float]:
    if isinstance(raw, list):  # 0.2 and 0.3
        pairs = [(_dict(each, "measurement").get("name"), each.get("value")) for each in raw]
    else:
        pairs = list(_dict(raw or {}, "measurements").items())
    try:
        return FrozenDict({str(name): float(value) for name, value in pairs if value is not None})
    except (TypeError, ValueError) as error:
        raise ValueError(f"measurements: {error}") from error


def _metadata(raw: Any) -> Mapping[str, str]:
    pairs = _dict(raw or {}, "metadata").items()
    return FrozenDict(
        {
            key: value if isinstance(value, str) else json.dumps(value)
            for key, value in pairs
            if isinstance(value, str | int | float)  # others QuPath drops
        }
    )


def _roi(raw: Any) -> Roi | None:
    if not raw:
        return None
    raw = _dict(raw, "geometry")
    kind, coordinates = raw.get("type"), raw.get("coordinates")
    if kind not in _SHAPES:
        raise ValueError(f"geometry: QuPath has no shape {kind!r}")
    try:
        geometry = _geometry(kind, coordinates)
    except (TypeError, ValueError, IndexError, shapely.errors.ShapelyError) as error:
        raise ValueError(f"geometry: {error}") from error
    channel, plane = _plane(raw.get("plane"))
    return canonical_roi(geometry, plane, channel=channel, ellipse=raw.get("isEllipse") is True)


def _geometry(kind: str, coordinates: Any) -> BaseGeometry:
    if kind == "Point":
        return shapely.Point(_positions([coordinates]))
    if kind == "MultiPoint":
        return shapely.MultiPoint(_positions(coordinates))
    if kind == "LineString":
        return shapely.LineString(_positions(coordinates))
    if kind == "MultiLineString":
        return shapely.MultiLineString([_positions(line) for line in coordinates])
    if kind == "Polygon":
        return _polygon(coordinates)
    return shapely.MultiPolygon([_polygon(part) for part in coordinates])


def _polygon(rings: Any) -> shapely.Polygon:
    shell, *holes = [_positions(ring) for ring in rings] or [()]
    return shapely.Polygon(shell, holes)


def _positions(raw: Any) -> Any:
    """Round positions to the canonical grid; a third coordinate is ignored, as in QuPath."""
    positions = round_coordinates(raw)
    if not np.isfinite(positions).all():
        raise ValueError("a coordinate is not finite")
    return positions[:, :2] if positions.size else ()


def _plane(raw: Any) -> tuple[int, Plane]:
    if raw is None:
        return -1, FIRST_PLANE
    raw = _dict(raw, "plane")
    c, z, t = raw.get("c", -1), raw.get("z", 0), raw.get("t", 0)
    if not all(isinstance(part, int) for part in (c, z, t)) or z < 0 or t < 0:
        raise ValueError(f"plane: expected whole numbers from 0, not {raw!r}")
    return c, Plane(z, t)


def _dict(raw: Any, what: str) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise ValueError(f"{what}: expected an object, not {type(raw).__name__}")
    return raw


def _text(raw: Any, what: str) -> str | None:
    if raw is None or isinstance(raw, str):
        return raw
    raise ValueError(f"{what}: expected text, not {type(raw).__name__}")
