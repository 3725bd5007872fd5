"""Conversion of ROIs: from QuPath's proxies in the stream to shapes on the 0.01 px grid.

Reading a proxy only stores the offsets of its numbers (:class:`RawRoi`); shapes are made for many
ROIs at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from shapely.errors import GEOSException
from shapely.geometry.base import BaseGeometry

from qupath_bridge.errors import ProjectError
from qupath_bridge.geometry.canonical import round_coordinates
from qupath_bridge.geometry.shapes import (
    ELLIPSE_POINTS,
    area_by_winding,
    box_corners,
    ellipse_points,
    ring_polygons,
)
from qupath_bridge.model import FloatArray, Plane, Roi, RoiKind
from qupath_bridge.qupath.javaio.stream import JavaArray, JavaObject, JavaStream, Node

from .values import Values
from .wkb import MAX_COORDINATE, check_wkb

__all__ = ["ROI_PACKAGE", "RawRoi", "build_rois", "read_roi"]

CHUNK = 200_000  # vertices that are worked on at once

ROI_PACKAGE = "qupath.lib.roi."
_PROXY = "ROI$SerializationProxy"
_BOXES = {
    f"{ROI_PACKAGE}Rectangle{_PROXY}": RoiKind.RECTANGLE,
    f"{ROI_PACKAGE}Ellipse{_PROXY}": RoiKind.ELLIPSE,
    f"{ROI_PACKAGE}Line{_PROXY}": RoiKind.LINE,
}
_VERTICES = {
    f"{ROI_PACKAGE}Polygon{_PROXY}": RoiKind.POLYGON,
    f"{ROI_PACKAGE}Polyline{_PROXY}": RoiKind.POLYLINE,
    f"{ROI_PACKAGE}Points{_PROXY}": RoiKind.POINTS,
}
_AREA = f"{ROI_PACKAGE}Area{_PROXY}"
_WKB = f"{ROI_PACKAGE}GeometryROI$WKBSerializationProxy"
_MILESTONE = f"{ROI_PACKAGE}Geometry{_PROXY}"

Place = tuple[int, int, int]
"""Place of float32 vertices in the file: offset of x, offset of y, count."""


@dataclass(slots=True)
class RawRoi:
    """A ROI in the file: its kind and plane, and its numbers or their places.

    One of the last three is set: ``box`` (x, y, x2, y2), ``vertices`` (several places for an
    area, otherwise one) or ``wkb`` (offset, bytes).
    """

    kind: RoiKind
    plane: Plane
    channel: int
    offset: int
    box: tuple[float, float, float, float] | None = None
    vertices: tuple[Place, ...] = ()
    wkb: tuple[int, int] | None = None


def read_roi(values: Values, node: Node) -> RawRoi | None:
    """Return the ROI of a proxy; None for null.

    Raises
    ------
    ProjectError
        If it is not a ROI of QuPath 0.1.2 to 0.7.0.
    """
    # QuPath's "Duplicate annotations" makes objects that share a ROI by reference.
    node = values.stream.resolve(node)
    if node is None:
        return None
    if not isinstance(node, JavaObject) or not node.desc.name.startswith(ROI_PACKAGE):
        values.wrong(node, "a ROI")
    proxy, name = node, node.desc.name
    z, t, channel = (values.number(proxy, key) for key in "ztc")
    if z < 0 or t < 0 or channel < -1:
        values.wrong(proxy, f"a plane that can be, not z {z}, t {t}, c {channel}")
    common: dict[str, Any] = {"plane": Plane(z, t), "channel": channel, "offset": proxy.offset}
    if name in _BOXES:
        x, y, x2, y2 = (float(values.number(proxy, key)) for key in ("x", "y", "x2", "y2"))
        if not all(abs(value) <= MAX_COORDINATE for value in (x, y, x2, y2)):
            values.wrong(proxy, "coordinates in pixels")
        return RawRoi(_BOXES[name], box=(x, y, x2, y2), **common)
    if name in _VERTICES:
        place = _read_place(values, proxy.fields.get("x"), proxy.fields.get("y"))
        return RawRoi(_VERTICES[name], vertices=(place,), **common)
    if name == _AREA:
        xs, ys = proxy.fields.get("x"), proxy.fields.get("y")
        if not isinstance(xs, JavaArray) or not isinstance(ys, JavaArray) or xs.count != ys.count:
            values.wrong(proxy, "as many rows of x as of y")
        places = tuple(_read_place(values, x, y) for x, y in zip(xs.items, ys.items, strict=True))
        return RawRoi(RoiKind.GEOMETRY, vertices=places, **common)
    if name == _MILESTONE:
        raise ProjectError(
            "a shape in the form of QuPath's 0.2 milestones",
            path=values.stream.path,
            offset=proxy.offset,
            hint="Open and save the image with QuPath 0.2.3 or 0.3.2, then try again.",
        )
    if name != _WKB:
        values.wrong(proxy, "a ROI of QuPath 0.1.2 to 0.7.0")
    array = values.numbers(proxy.fields.get("wkb"), "[B")
    return RawRoi(RoiKind.GEOMETRY, wkb=(array.start, array.count), **common)


def _read_place(values: Values, x: Node, y: Node) -> Place:
    xs, ys = values.numbers(x, "[F"), values.numbers(y, "[F")
    if xs.count != ys.count:
        values.wrong(ys, f"{xs.count} values, as many as there are of x")
    return xs.start, ys.start, xs.count


def build_rois(stream: JavaStream, raws: Sequence[RawRoi | None]) -> list[Roi | None]:
    """Make the shapes of many ROIs, in their order; None gives None.

    Raises
    ------
    ProjectError
        If coordinates are not in pixels, or WKB is not a geometry.
    """
    result: list[Roi | None] = [None] * len(raws)
    for chunk in _chunks(raws):
        for members in chunk.values():
            raw_rois = [raw for _, raw in members]
            shapes = _build(stream, raw_rois)
            for (i, raw), shape in zip(members, shapes, strict=True):
                result[i] = Roi(raw.kind, shape, raw.plane, raw.channel)
    return result


_Chunk = dict[RoiKind, list[tuple[int, RawRoi]]]


def _chunks(raws: Sequence[RawRoi | None]) -> Iterator[_Chunk]:
    """Yield ROIs by kind, with their places, in parts of bounded size."""
    chunk: _Chunk = defaultdict(list)
    left = CHUNK
    for i, raw in enumerate(raws):
        if raw is None:
            continue
        chunk[raw.kind].append((i, raw))
        if raw.wkb is not None:
            left -= raw.wkb[1] // 16
        elif raw.box is not None:
            left -= ELLIPSE_POINTS
        else:
            left -= sum([place[2] for place in raw.vertices]) + 1
        if left <= 0:
            yield chunk
            chunk, left = defaultdict(list), CHUNK
    yield chunk


def _build(stream: JavaStream, raws: Sequence[RawRoi]) -> Iterable[BaseGeometry]:
    """Make the shapes of ROIs of one kind."""
    kind = raws[0].kind
    if kind is RoiKind.POLYGON:
        places = [raw.vertices[0] for raw in raws]
        counts = np.array([place[2] for place in places])
        return ring_polygons(_read_points(stream, places, raws[0].offset), counts)
    if kind in (RoiKind.RECTANGLE, RoiKind.ELLIPSE):
        boxes = np.array([raw.box for raw in raws], dtype=np.float64)
        corners = box_corners(boxes) if kind is RoiKind.RECTANGLE else ellipse_points(boxes)
        return ring_polygons(corners, np.full(len(raws), corners.shape[1]))
    return [_build_shape(stream, raw) for raw in raws]


def _read_points(stream: JavaStream, places: Sequence[Place], offset: int) -> FloatArray:
    """Return the float32 vertices at the given places, shape (N, 2)."""
    data = stream.data
    columns = [
        b"".join([data[place[axis] : place[axis] + 4 * place[2]] for place in places])
        for axis in (0, 1)
    ]
    points = np.stack([np.frombuffer(column, ">f4") for column in columns], axis=1)
    with np.errstate(invalid="ignore"):  # a signalling NaN is refused below, as any other
        points = points.astype(np.float64)
    if not (np.abs(points) <= MAX_COORDINATE).all():
        raise stream.error("a ROI with invalid pixel coordinates", None, offset)
    return points


def _build_shape(stream: JavaStream, raw: RawRoi) -> BaseGeometry:
    if raw.wkb is not None:
        return _from_wkb(stream, raw, *raw.wkb)
    if raw.box is not None:
        return shapely.LineString(round_coordinates(raw.box).reshape(2, 2))
    rings = [_read_points(stream, [place], raw.offset) for place in raw.vertices]
    if raw.kind is RoiKind.GEOMETRY:
        return area_by_winding(rings)
    points = round_coordinates(rings[0])
    if raw.kind is RoiKind.POLYLINE:
        return shapely.LineString(points if len(points) > 1 else None)
    return shapely.Point(points[0]) if len(points) == 1 else shapely.MultiPoint(points)


def _from_wkb(stream: JavaStream, raw: RawRoi, start: int, count: int) -> BaseGeometry:
    wkb = stream.data[start : start + count]
    problem = check_wkb(wkb)
    if problem is None:
        try:
            geometry = shapely.from_wkb(wkb)
        except GEOSException as error:
            problem = str(error)
        else:
            return shapely.transform(geometry, round_coordinates)
    raise stream.error(f"a shape that cannot be read, {problem}", "WKB", raw.offset)
