"""Reader of the GeoJSON that QuPath 0.2 to 0.7 write, and that other programs write for it.

It reads what QuPath reads, as QuPath reads it. Beyond that it accepts what GeoJSON allows and
QuPath does not: null as properties, geometry or id, and colours of any form. What is not GeoJSON
is an error, never a file without objects.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from qupath_bridge.errors import ProjectError
from qupath_bridge.frozen import count
from qupath_bridge.model import ImageData, ObjectType, PathObject
from qupath_bridge.qupath.files.classes import class_from_json
from qupath_bridge.qupath.identity import DerivedIds
from qupath_bridge.qupath.rois import is_uuid
from qupath_bridge.schemas import parse_json

from .files import MAX_BYTES, UNREADABLE, open_entries
from .shapes import SHAPES, read_roi
from .values import (
    read_color,
    read_flag,
    read_measurements,
    read_metadata,
    read_object,
    read_text,
)

__all__ = ["load", "loads", "read_geojson"]

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

SHOWN = 3
"""Bad features that a message names; more are counted."""

_WAY_OUT = "Correct it, or leave such features out with the option skip_bad_features."


def load(
    path: Path | str,
    *,
    entry_id: str = "",
    skip_bad_features: bool = False,
    max_bytes: int = MAX_BYTES,
) -> tuple[PathObject, ...]:
    """Return the objects of a file; see :func:`read_geojson`."""
    return read_geojson(
        path, entry_id=entry_id, skip_bad_features=skip_bad_features, max_bytes=max_bytes
    ).objects


def read_geojson(
    path: Path | str,
    *,
    entry_id: str = "",
    skip_bad_features: bool = False,
    max_bytes: int = MAX_BYTES,
) -> ImageData:
    """Read a ``.geojson`` or ``.json`` file, one in ``.gz``, or all in a ``.zip``.

    Parameters
    ----------
    path : path
    entry_id : str, optional
        Entry ID of the image; part of the ids that are derived for objects without an id.
    skip_bad_features : bool
        Whether features that cannot be read are left out; ``problems`` says which. Their
        children stay.
    max_bytes : int
        Largest text after decompression.

    Returns
    -------
    ImageData
        Objects depth first. ``problems`` names what was left out: bad features, and files in an
        archive that are damaged or not GeoJSON.

    Raises
    ------
    ProjectError
        If the file cannot be read, is not GeoJSON, or has a feature that cannot be read, or only
        such features; the error names the file and the place.
    """
    path = Path(path)
    found: list[_Raw] = []
    bad: list[str] = []
    try:
        with open_entries(path, max_bytes) as entries:
            for entry in entries:
                try:
                    found += _features(_parse(entry.read()), entry.name)
                except UNREADABLE as error:
                    if len(entries) == 1:
                        raise
                    bad.append(f"{entry.name} was not read: {error}")
            if len(bad) == len(entries):
                raise ValueError("; ".join(bad[:SHOWN]))
    except UNREADABLE as error:
        raise ProjectError(f"cannot be read: {error}", path=path) from error
    objects, skipped = _objects(found, path, entry_id, skip_bad_features)
    return ImageData(objects=objects, problems=tuple(f"{path}: {text}" for text in bad + skipped))


def loads(
    text: str | bytes, *, entry_id: str = "", skip_bad_features: bool = False
) -> tuple[PathObject, ...]:
    """Read GeoJSON text: a FeatureCollection, an array of features, a feature or a geometry.

    Raises
    ------
    ProjectError
        If it is not GeoJSON, or has a feature that cannot be read; the error names the place.
    """
    try:
        found = list(_features(_parse(text), ""))
    except ValueError as error:
        raise ProjectError(f"cannot be read: {error}") from error
    return _objects(found, None, entry_id, skip_bad_features)[0]


def _parse(text: str | bytes) -> Any:
    try:
        # If an object has a key twice (QuPath >= 0.6 writes "metadata" so), the last one counts.
        # QuPath < 0.5 writes bare NaN and Infinity.
        return parse_json(text.removeprefix("\ufeff") if isinstance(text, str) else text)
    except json.JSONDecodeError as error:
        lines = "; lines of JSON are not GeoJSON" if error.msg == "Extra data" else ""
        raise ValueError(f"it is not JSON: {error}{lines}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text: {error}; save it as UTF-8") from error
    except ValueError as error:
        raise ValueError(f"it is not JSON: {error}") from error


class _Raw(NamedTuple):
    """A feature that is still to be read, its place in the file, and the index of its parent."""

    value: Any
    place: str
    parent: int = -1


def _features(value: Any, name: str) -> Iterator[_Raw]:
    """Yield the features of a text, geometries as features.

    Raises
    ------
    ValueError
        If the text is not GeoJSON.
    """
    prefix = f"{name}: " if name else ""
    stack = [(value, "")]
    if not _is_geojson(value):
        raise ValueError("it is not GeoJSON: expected a FeatureCollection, features or geometries")
    while stack:
        each, place = stack.pop()
        if isinstance(each, list):
            stack += [(item, f"{place}[{n}]") for n, item in reversed(list(enumerate(each)))]
        elif isinstance(each, dict) and each.get("type") == "FeatureCollection":
            features = each.get("features")
            if not isinstance(features, list):
                raise ValueError("it is not GeoJSON: a FeatureCollection has no list of features")
            dot = "." if place else ""
            yield from (
                _Raw(feature, f"{prefix}{place}{dot}features[{n}]")
                for n, feature in enumerate(features)
            )
        elif isinstance(each, dict) and _has_type(each, SHAPES):
            yield _Raw({"type": "Feature", "geometry": each}, f"{prefix}{place}")
        else:
            good = isinstance(each, dict) and each.get("type") == "Feature"
            yield _Raw(each if good else None, f"{prefix}{place}")


def _is_geojson(value: Any) -> bool:
    """Return whether a value is GeoJSON, or an array that is empty or holds some."""
    stack, empty = [value], True
    while stack:
        each = stack.pop()
        if isinstance(each, list):
            stack += each
        elif isinstance(each, dict) and _has_type(each, {"Feature", "FeatureCollection", *SHAPES}):
            return True
        else:
            empty = False
    return empty


def _has_type(value: Mapping[str, Any], types: set[str]) -> bool:
    kind = value.get("type")
    return isinstance(kind, str) and kind in types


def _objects(
    found: list[_Raw], path: Path | None, entry_id: str, skip_bad_features: bool
) -> tuple[tuple[PathObject, ...], list[str]]:
    """Read features and their children; return the objects, and what was left out."""
    ids = DerivedIds(entry_id)
    objects: list[PathObject] = []
    bad: list[str] = []
    stack = found[::-1]
    while stack:
        raw = stack.pop()
        try:
            each = _object(raw, objects, ids)
        except ValueError as fault:
            text = f"{raw.place}: {fault}" if raw.place else str(fault)
            if not skip_bad_features:
                raise ProjectError(text, path=path, hint=_WAY_OUT) from fault
            bad.append(text)
            parent = raw.parent
        else:
            parent = len(objects)
            objects.append(each)
        stack.extend(
            _Raw(child, f"{raw.place}.properties.childObjects[{n}]".lstrip("."), parent)
            for n, child in reversed(list(enumerate(_children(raw.value))))
        )
    if bad and not objects:
        raise ProjectError(f"no feature can be read: {_listed(bad)}", path=path)
    return tuple(objects), [f"{count(len(bad), 'feature')} skipped: {_listed(bad)}"] if bad else []


def _listed(texts: list[str]) -> str:
    more = f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return "; ".join(texts[:SHOWN]) + more


def _children(raw: Any) -> list[Any]:
    properties = raw.get("properties") if isinstance(raw, dict) else None
    if not isinstance(properties, dict):
        return []
    children = properties.get("childObjects", properties.get("children"))
    return children if isinstance(children, list) else []


def _object(raw: _Raw, objects: list[PathObject], ids: DerivedIds) -> PathObject:
    feature = read_object(raw.value, "a feature")
    if feature.get("type") != "Feature" and "geometry" not in feature:
        raise ValueError("this is not a feature: it has no geometry")
    properties = feature.get("properties")
    properties = {} if properties is None else read_object(properties, "properties")
    object_type = _object_type(feature, properties)
    classification, class_color = _classification(properties.get("classification"))
    roi = read_roi(feature.get("geometry"))
    feature_id = str(feature.get("id")).lower()
    stored_id = feature_id if is_uuid(feature_id) else None
    metadata = read_metadata(properties.get("metadata"))
    return PathObject(
        id=stored_id or ids.make(object_type, classification, roi),
        object_type=object_type,
        class_path=classification,
        name=read_text(properties["name"], "properties.name") if "name" in properties else None,
        roi=roi,
        parent=raw.parent,
        parent_id=None if raw.parent < 0 else objects[raw.parent].id,
        locked=read_flag(properties.get("isLocked")),
        color=read_color(properties.get("color")),
        class_color=class_color,
        measurements=read_measurements(properties.get("measurements")),
        metadata=metadata,
        description=metadata.get(DESCRIPTION),
        nucleus=read_roi(feature.get("nucleusGeometry")),
        missing=(
            read_flag(properties.get("isMissing")) if object_type is ObjectType.TMA_CORE else None
        ),
        id_origin="qupath" if stored_id else "derived",
    )


def _object_type(feature: Mapping[str, Any], properties: Mapping[str, Any]) -> ObjectType:
    for key in ("objectType", "object_type", "type"):
        if key in properties:
            # An unknown type becomes an annotation, as in QuPath.
            return _TYPES.get(str(properties[key]), ObjectType.ANNOTATION)
    return _TYPES.get(str(feature.get("id")), ObjectType.ANNOTATION)


def _classification(raw: Any) -> tuple[str | None, int | None]:
    """Return class path and colour, from the forms of all versions."""
    color = read_color(raw.get("colorRGB", raw.get("color"))) if isinstance(raw, dict) else None
    return class_from_json(raw), color
