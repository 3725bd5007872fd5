"""Writer of objects as GeoJSON that QuPath 0.4 to 0.7 import, with checks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import geojson
import shapely
from shapely.geometry import mapping

from qupath_bridge.errors import OutputError
from qupath_bridge.model import CLASS_SEPARATOR, FIRST_PLANE, PathObject, Plane, Roi, RoiKind
from qupath_bridge.qupath.files.classes import default_rgb, unpack_rgb

from .gate import check_feature
from .reading import DESCRIPTION

__all__ = ["classification", "dumps", "plane_member", "to_feature"]


def to_feature(item: PathObject) -> geojson.Feature:
    """Return the GeoJSON feature of an object.

    A class without a colour gets one derived from its name, since QuPath refuses a file with a
    colourless class. Measurements that are not finite are left out: QuPath 0.4 refuses them.

    Raises
    ------
    OutputError
        If QuPath would refuse the object, or lose a part of it.
    """
    properties: dict[str, Any] = {"objectType": item.object_type.value}
    if item.name:
        properties["name"] = item.name
    if item.color is not None:
        properties["color"] = list(unpack_rgb(item.color))
    if item.class_path is not None:
        rgb = (
            default_rgb(item.class_path)
            if item.class_color is None
            else unpack_rgb(item.class_color)
        )
        properties["classification"] = classification(item.class_path, rgb)
    if item.locked:
        properties["isLocked"] = True
    measurements = {name: v for name, v in item.measurements.items() if math.isfinite(v)}
    if measurements:
        properties["measurements"] = measurements
    described = {} if item.description is None else {DESCRIPTION: item.description}
    if item.metadata or described:
        properties["metadata"] = {**item.metadata, **described}
    nucleus = {} if item.nucleus is None else {"nucleusGeometry": _geometry(item.nucleus)}
    geometry = None if item.roi is None else _geometry(item.roi)
    feature = geojson.Feature(id=item.id, geometry=geometry, properties=properties, **nucleus)
    check_feature(feature)
    return feature


def dumps(objects: Iterable[PathObject], *, indent: int | None = None) -> str:
    """Return a FeatureCollection of objects; parents and children are listed side by side.

    For a file of many tiles see :func:`~qupath_bridge.qupath.geojson.write_tiles`.

    Raises
    ------
    OutputError
        If QuPath would refuse or lose a part, or if two objects have the same id.
    """
    features = [to_feature(item) for item in objects]
    ids = [feature["id"] for feature in features]
    if len(set(ids)) < len(ids):
        twice = next(each for each in ids if ids.count(each) > 1)
        raise OutputError(f"Two objects have the id {twice}; QuPath would mix them up.")
    return str(
        geojson.dumps(geojson.FeatureCollection(features), ensure_ascii=False, indent=indent)
    )


def classification(path: str, rgb: tuple[int, int, int]) -> dict[str, Any]:
    """Return the GeoJSON member of a class, as QuPath >= 0.4 writes it.

    A derived class is written as its list of names. QuPath also splits a name at ``:``, but only
    the list is unambiguous.

    >>> classification("Tumor", (200, 0, 0))
    {'name': 'Tumor', 'color': [200, 0, 0]}
    >>> classification("Tumor: Positive", (200, 0, 0))
    {'names': ['Tumor', 'Positive'], 'color': [200, 0, 0]}
    """
    names = path.split(CLASS_SEPARATOR)  # not stripped: the gate sees what is there
    key = {"name": names[0]} if len(names) == 1 else {"names": names}
    return {**key, "color": list(rgb)}


def plane_member(plane: Plane, channel: int = -1) -> dict[str, int]:
    """Return the GeoJSON member of a shape's plane."""
    return {"c": channel, "z": plane.z, "t": plane.t}


def _geometry(roi: Roi) -> dict[str, Any]:
    shown = roi.geometry
    if shown.geom_type == "MultiPolygon" and shapely.get_num_geometries(shown) == 1:
        shown = shapely.get_geometry(shown, 0)  # QuPath 0.5 fails at a multipolygon of one
    shape: Mapping[str, Any] = mapping(shown)
    geometry = {"type": shape["type"], "coordinates": shape.get("coordinates")}
    if roi.plane != FIRST_PLANE or roi.channel != -1:
        geometry["plane"] = plane_member(roi.plane, roi.channel)
    if roi.kind is RoiKind.ELLIPSE:
        geometry["isEllipse"] = True
    return geometry
