"""Shapes in data files: every kind of ROI, odd ones, and WKB that is none."""

import math
import struct
import uuid

import pytest
import shapely

from qupath_bridge.errors import ProjectError
from qupath_bridge.model import Plane, RoiKind
from qupath_bridge.qupath.qpdata import schema
from qupath_bridge.qupath.qpdata.schema import ClassSpec
from qupath_bridge.testing.parts import (
    QUPATH,
    STRING,
    array,
    box,
    decode_object,
    decode_objects,
    item,
    null,
    numbers,
    plain,
    ref,
    text,
    vertices,
    wkb,
)


def shape(roi):
    return decode_object(item(roi=roi)).roi


def test_roi_boxes():
    found = shape(box(4, 3.004, 0.005, 1, z=3, t=2, c=1))
    assert (found.kind, found.plane, found.channel) == (RoiKind.RECTANGLE, Plane(3, 2), 1)
    assert found.geometry.equals(shapely.box(0.01, 1, 4, 3))
    line = shape(box(4, 3, 0, 1, kind=RoiKind.LINE))
    assert line.geometry.equals_exact(shapely.LineString([(4, 3), (0, 1)]))
    for flat in (box(1, 1, 1, 5), box(1, 1, 1, 1), box(1, 1, 1, 1, kind=RoiKind.ELLIPSE)):
        assert shape(flat).geometry.is_empty


def test_roi_ellipses_are_polygons_of_100_points():
    found = shape(box(10, 20, 15, 25, kind=RoiKind.ELLIPSE))
    ring = shapely.get_coordinates(found.geometry)
    assert len(ring) == 101
    assert ring[:2].tolist() == [[15, 22.5], [15, 22.66]]
    assert found.geometry.bounds == (10, 20, 15, 25)
    assert found.geometry.area == pytest.approx(math.pi * 25 / 4, rel=2e-3)


@pytest.mark.parametrize(
    ("points", "wanted"),
    [
        ([(0, 0), (9, 0), (9, 9)], "POLYGON ((0 0, 9 0, 9 9, 0 0))"),
        ([(0, 0), (9, 0), (9, 9), (0, 0)], "POLYGON ((0 0, 9 0, 9 9, 0 0))"),
        ([(0, 0), (0, 0.004), (9, 0), (9, 9), (9, 9)], "POLYGON ((0 0, 9 0, 9 9, 0 0))"),
        ([(0, 0), (5, 5), (5, 0), (0, 5)], "POLYGON ((0 0, 5 5, 5 0, 0 5, 0 0))"),
        ([(0, 0), (5, 5), (0, 0), (5, 0)], "POLYGON ((0 0, 5 5, 0 0, 5 0, 0 0))"),
        ([(0, 0), (5, 5), (0, 0), (5, 5)], "POLYGON EMPTY"),
        ([(0, 0), (5, 5)], "POLYGON EMPTY"),
        ([(1, 1)] * 5, "POLYGON EMPTY"),
        ([], "POLYGON EMPTY"),
    ],
)
def test_roi_polygons_are_kept_as_drawn(points, wanted):
    found = shape(vertices(points))
    assert found.geometry.wkt == wanted
    assert found.has_area is (wanted != "POLYGON EMPTY")


def test_roi_polygons_do_not_depend_on_batches(monkeypatch):
    rings = [
        [(0, 0), (9, 0), (9, 9)],
        [],
        [(3, 3)],
        [(1, 1), (5, 5), (1, 1), (5, 0)],
        [(1, 1), (5, 5), (1, 1), (5, 5)],
        [(0, 0), (4, 0), (4, 4), (0, 4), (0, 0)],
    ]
    alone = [shape(vertices(ring)).geometry.wkt for ring in rings]
    items = [item(roi=vertices(ring)) for ring in rings]
    assert [o.roi.geometry.wkt for o in decode_objects(*items).objects] == alone
    monkeypatch.setattr("qupath_bridge.qupath.qpdata.rois.CHUNK", 4)
    monkeypatch.setattr("qupath_bridge.qupath.qpdata.records.BATCH", 4)
    assert [o.roi.geometry.wkt for o in decode_objects(*items).objects] == alone


def test_roi_lines_and_points():
    def line(points):
        return shape(vertices(points, RoiKind.POLYLINE)).geometry.wkt

    assert line([(0, 0), (0, 0), (5, 5.125)]) == "LINESTRING (0 0, 0 0, 5 5.13)"
    assert line([(0, 0)]) == line([]) == "LINESTRING EMPTY"

    def dots(points):
        return shape(vertices(points, RoiKind.POINTS)).geometry.wkt

    assert dots([(1, 2)]) == "POINT (1 2)"
    assert dots([(1, 2), (1, 2), (3, 4)]) == "MULTIPOINT ((1 2), (1 2), (3 4))"
    assert dots([]) == "MULTIPOINT EMPTY"


ROWS = ClassSpec("[[F", 8622859563961293174)
AREA = ClassSpec(
    f"{QUPATH}roi.AreaROI$SerializationProxy",
    1,
    2,
    (
        ("c", "I"),
        ("t", "I"),
        ("z", "I"),
        ("name", STRING),
        ("stats", f"L{QUPATH.replace('.', '/')}roi/ClosedShapeStatistics;"),
        ("x", "[[F"),
        ("y", "[[F"),
    ),
)


def area(*rings):
    columns = [
        array(*(numbers(schema.FLOATS, "f", [p[axis] for p in ring]) for ring in rings), spec=ROWS)
        for axis in (0, 1)
    ]
    return plain(AREA, struct.pack(">iii", -1, 0, 0), null, null, *columns)


def square(low, high, *, turned=False):
    ring = [(low, low), (high, low), (high, high), (low, high)]
    return ring[::-1] if turned else ring


def test_roi_areas_of_old_versions_are_filled_by_winding():
    outer, hole, island = square(0, 90), square(10, 80, turned=True), square(20, 70)
    found = shape(area(island, hole, outer))
    assert found.kind is RoiKind.GEOMETRY
    assert found.geometry.area == 90**2 - 70**2 + 50**2
    both = shape(area(hole[::-1], outer))  # the same direction: no hole
    assert both.geometry.area == 90**2
    far = shape(area(outer, square(100, 110)))
    assert (far.geometry.geom_type, far.geometry.area) == ("MultiPolygon", 90**2 + 100)
    crossed = shape(area([(0, 0), (5, 5), (5, 0), (0, 5)]))
    assert crossed.geometry.area == pytest.approx(12.5)
    assert shape(area()).geometry.is_empty
    assert shape(area([(1, 1), (2, 2)])).geometry.is_empty


def test_roi_shapes_as_wkb():
    donut = shapely.box(0, 0, 9, 9).difference(shapely.box(1.004, 1, 2, 2))
    found = shape(wkb(shapely.to_wkb(donut, byte_order=0)))
    assert found.geometry.equals(shapely.box(0, 0, 9, 9).difference(shapely.box(1, 1, 2, 2)))
    deep = shapely.from_wkt("MULTIPOLYGON Z (((0 0 5, 1 0 5, 1 1 5, 0 0 5)))")
    for raw in (shapely.to_wkb(deep), shapely.to_wkb(deep, flavor="iso")):
        assert shape(wkb(raw)).geometry.wkt == "MULTIPOLYGON (((0 0, 1 0, 1 1, 0 0)))"
    with_srid = shapely.to_wkb(shapely.set_srid(donut, 4326), include_srid=True)
    assert shape(wkb(with_srid)).geometry.area == found.geometry.area
    for text_form in (
        "POLYGON EMPTY",
        "POINT EMPTY",
        "MULTILINESTRING ((0 0, 1 1), (5 5, 6 6, 7 5))",
        "GEOMETRYCOLLECTION (POINT (1 2), LINESTRING (0 0, 1 1))",
    ):
        geometry = shapely.from_wkt(text_form)
        assert shape(wkb(shapely.to_wkb(geometry))).geometry.wkt == text_form


def ring_wkb(*points, count=None):
    head = (
        b"\0"
        + struct.pack(">II", 3, 1)
        + struct.pack(">I", len(points) if count is None else count)
    )
    return head + b"".join(struct.pack(">dd", *point) for point in points)


LINE = b"\0" + struct.pack(">I", 2)
BAD_WKB = {
    "ends too early": shapely.to_wkb(shapely.box(0, 0, 1, 1))[:-1],
    "it ends too early": b"",
    "1 bytes too many": shapely.to_wkb(shapely.Point(1, 2)) + b"\0",
    "byte order 7": b"\x07" + bytes(20),
    "geometry type 99": b"\0" + struct.pack(">I", 99) + bytes(20),
    "geometry type 5001": b"\0" + struct.pack(">I", 5001) + bytes(20),
    "rings in": b"\0" + struct.pack(">II", 3, 0x7FFFFFFF),
    "parts in": b"\0" + struct.pack(">II", 6, 0xFFFFFFFF),
    "early": ring_wkb((0, 0), (1, 0), count=0xFFFFFFFF),
    "not closed": ring_wkb((0, 0), (1, 0), (1, 1), (0, 1)),
    "a ring that is not closed": ring_wkb((0, 0), (1, 0), (0, 0)),
    "invalid pixel coordinates": ring_wkb((0, 0), (math.nan, 0), (1, 1), (0, 0)),
    ", invalid pixel coordinates": LINE + struct.pack(">Idddd", 2, 0, 0, math.inf, 0),
    "a line of one point": LINE + struct.pack(">Idd", 1, 0, 0),
    "too deep": (b"\0" + struct.pack(">II", 7, 1)) * 5000 + b"\0" + struct.pack(">I", 7) + bytes(4),
    "cannot be read, ": b"\0" + struct.pack(">II", 6, 1) + shapely.to_wkb(shapely.Point(1, 2)),
}


@pytest.mark.parametrize("problem", BAD_WKB)
def test_roi_invalid_wkb_is_refused(problem):
    """Never left to the native library, which would recurse on it or trust its counts."""
    with pytest.raises(ProjectError, match=problem):
        decode_objects(item(roi=wkb(BAD_WKB[problem])))


def roi_spec(name, *fields):
    plane = (("c", "I"), ("t", "I"), ("z", "I"))
    return ClassSpec(f"{QUPATH}roi.{name}", 1, 2, (*plane, *fields))


def test_roi_proxies_that_are_malformed_are_refused():
    three = [(0, 0), (1, 0), (1, 1)]
    short_y = plain(
        schema.ROI_CLASSES[RoiKind.POLYGON],
        bytes(12),
        null,
        null,
        numbers(schema.FLOATS, "f", [1, 2]),
        numbers(schema.FLOATS, "f", [1]),
    )
    milestone = plain(roi_spec("GeometryROI$SerializationProxy"), bytes(12))
    bad = {
        "z -1, t 0": box(z=-1),
        "t -1": box(t=-1),
        "c -2": box(c=-2),
        "coordinates in pixels": box(math.nan),
        "a number named 'x'": plain(roi_spec("RectangleROI$SerializationProxy"), bytes(12)),
        "invalid pixel": vertices([*three[:2], (math.inf, 1)]),
        "invalid pixel coordinates": vertices([*three[:2], (1, 1e30)], RoiKind.POINTS),
        "an array of numbers": plain(
            schema.ROI_CLASSES[RoiKind.POLYGON], bytes(12), null, null, null, null
        ),
        "2 values, as many as there are of x": short_y,
        r"expected a ROI\)": text("x"),
        "a ROI of QuPath": plain(roi_spec("NewROI$SerializationProxy"), bytes(12)),
        "0.2 milestones": milestone,
        "as many rows of x as of y": plain(AREA, bytes(12), null, null, null, null),
    }
    for problem, roi in bad.items():
        with pytest.raises(ProjectError, match=problem.strip()):
            decode_objects(item(roi=roi))
    with pytest.raises(ProjectError, match="Open and save the image with QuPath 0.2.3"):
        decode_objects(item(roi=milestone))


def test_roi_shared_by_objects():
    """As after QuPath's Duplicate command."""

    def shared(w):
        w.begin(schema.ROI_CLASSES[RoiKind.RECTANGLE], ("key", "roi"))
        w.raw(struct.pack(">iiddddi", -1, 0, 0, 1, 0, 1, 0))
        w.null()

    first, second = decode_objects(item(roi=shared), item(roi=ref("roi"))).objects
    assert first.roi == second.roi
    assert first.roi.geometry.area == 1
    assert first.id != second.id


def test_roi_of_objects_without_one():
    found = decode_object(item(roi=null))
    assert found.roi is None
    assert uuid.UUID(found.id).version == 8
