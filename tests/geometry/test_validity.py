"""Repair of polygons, and clipping to the image."""

import numpy as np
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qupath_bridge.errors import GeometryError
from qupath_bridge.geometry.edges import as_array
from qupath_bridge.geometry.validity import FINE, area_change, clip, polygons_only, repair, split

CASES = {
    # name: (wkt, before, after, change)
    "bow-tie": ("POLYGON ((0 0, 100 100, 100 0, 0 100, 0 0))", 5000, 5000, 0.0),
    "unequal bow-tie": ("POLYGON ((0 0, 80 80, 80 20, 0 100, 0 0))", 3400, 3400, 0.0),
    "loop wound twice": (
        "POLYGON ((0 0, 100 0, 100 100, 0 100, 0 0, 100 0, 100 100, 0 100, 0 0))",
        10000,
        10000,
        0.0,
    ),
    "loop over itself": (  # even-odd would make a hole of what it covers twice
        "POLYGON ((0 0, 100 0, 100 100, 40 100, 40 30, 60 30, 60 80, 0 80, 0 0))",
        9200,
        9200,
        0.0,
    ),
    "hole outside": (
        "POLYGON ((0 0, 10 0, 10 10, 0 10, 0 0), (20 20, 30 20, 30 30, 20 20))",
        150,
        150,
        0.0,
    ),
    "parts over each other": (
        "MULTIPOLYGON (((0 0, 10 0, 10 10, 0 10, 0 0)), ((5 0, 15 0, 15 10, 5 10, 5 0)))",
        150,
        150,
        0.0,
    ),
    "spike": ("POLYGON ((0 0, 10 0, 10 10, 5 10, 5 15, 5 10, 0 10, 0 0))", 100, 100, 0.0),
    "point touched twice": (
        "POLYGON ((0 0, 10 0, 5 5, 10 10, 0 10, 5 5, 0 0))",
        50,
        50,
        0.0,
    ),
    "collapsed": ("POLYGON ((0 0, 10 0, 5 0, 0 0))", 0, 0, 0.0),
}


@pytest.mark.parametrize("name", CASES)
def test_repair_by_structure(name):
    wkt, before, after, change = CASES[name]
    geometry = shapely.from_wkt(wkt)
    assert not geometry.is_valid
    shape, area_before, area_after = repair(geometry)
    assert shape.is_valid
    assert shape.geom_type in {"Polygon", "MultiPolygon"}
    assert area_before == pytest.approx(before)
    assert area_after == shape.area
    if after is not None:
        assert area_after == pytest.approx(after)
    if change is not None:
        assert area_change(area_before, area_after) == pytest.approx(change)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=3, max_size=14))
def test_repair_keeps_the_area_that_the_non_zero_rule_fills(ring):
    """As QuPath shows it. The areas come from two algorithms: windings, and GEOS."""
    _, before, after = repair(shapely.Polygon(ring))
    assert before == pytest.approx(after, abs=1e-9)


def test_repair_of_an_outline_that_crosses_itself_very_often_is_refused():
    """It would take minutes; a few hundred crossings take a moment."""
    rng = np.random.default_rng(1)
    with pytest.raises(GeometryError, match="more than 20,000 times") as caught:
        repair(shapely.Polygon(rng.random((2000, 2)) * 1000))
    assert "Simplify" in caught.value.hint
    shape, before, after = repair(shapely.Polygon(rng.random((60, 2)) * 1000))
    assert shape.is_valid
    assert before == pytest.approx(after)


def test_repair_returns_a_valid_polygon_itself():
    ring = shapely.Polygon([(0, 0), (9, 0), (9, 9)], [[(5, 1), (8, 1), (8, 3)]])
    shape, before, after = repair(ring)
    assert shape is ring
    assert before == after == ring.area


@settings(max_examples=200, deadline=None)
@example([(2, 0), (1, 0), (1, 1), (0, 0), (1, 0), (1, 1)])
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=3, max_size=12))
def test_repair_makes_any_ring_valid(ring):
    # The example: GEOS 3.14 makes two parts of it that share an edge, which is not valid.
    geometry = shapely.Polygon(ring)
    shape, _, after = repair(geometry)
    assert shape.is_valid
    again, before_again, _ = repair(shape)
    assert again is shape
    assert before_again == after
    # Never more than the ring could enclose.
    assert after <= geometry.convex_hull.area + 1e-9


def test_repair_refuses_other_geometries():
    with pytest.raises(GeometryError, match="A LineString is not a polygon"):
        repair(shapely.LineString([(0, 0), (1, 1)]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300, -1e200, 1e16])
def test_repair_refuses_coordinates_that_no_pixel_has(value):
    """Beyond 2^53, two pixels can have the same number."""
    with np.errstate(invalid="ignore", over="ignore"):
        broken = shapely.Polygon([(0, 0), (value, 0), (5, 5)])
    with pytest.raises(GeometryError, match="not a number, or farther"):
        repair(broken)


def test_polygons_only_drops_lines_and_points():
    square, other = shapely.box(0, 0, 1, 1), shapely.box(5, 5, 6, 6)
    line = shapely.LineString([(0, 0), (9, 9)])
    assert polygons_only(square) is square
    assert polygons_only(line).is_empty
    assert polygons_only(shapely.GeometryCollection([square, line])).equals(square)
    mixed = shapely.GeometryCollection([shapely.MultiPolygon([square, other]), line])
    assert polygons_only(mixed).equals(shapely.MultiPolygon([square, other]))
    assert polygons_only(shapely.GeometryCollection()).geom_type == "MultiPolygon"


@settings(max_examples=150, deadline=None)
@given(*[st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=3, max_size=9)] * 2)
def test_split_keeps_the_whole_area(ring, other):
    polygon, other = repair(shapely.Polygon(ring))[0], repair(shapely.Polygon(other))[0]
    inside, outside = split(polygon, other)
    assert inside.area + outside.area == pytest.approx(polygon.area, abs=1e-6)
    assert {inside.geom_type, outside.geom_type} <= {"Polygon", "MultiPolygon"}
    assert inside.difference(other).area < 1e-6
    assert outside.intersection(other).area < 1e-6


def lossy(operation, *, only_without_grid):
    """Lose all area, as GEOS has been seen to lose some."""

    def work(a, b, grid_size=None):
        if grid_size is None or not only_without_grid:
            return shapely.Polygon()
        assert grid_size == FINE
        return operation(a, b, grid_size=grid_size)

    return work


def test_split_tries_again_on_a_fine_grid_where_area_is_lost(monkeypatch):
    squares = shapely.box(0, 0, 4, 4), shapely.box(1, 0, 9, 9)
    real = shapely.difference
    monkeypatch.setattr(shapely, "difference", lossy(real, only_without_grid=True))
    inside, outside = split(*squares)
    assert (inside.area, outside.area) == (12, 4)
    monkeypatch.setattr(shapely, "difference", lossy(real, only_without_grid=False))
    with pytest.raises(GeometryError, match=r"of 16.00 px² there are 12.00 inside and 0.00 out"):
        split(*squares)


def test_clip_cuts_only_polygons_beyond_the_image():
    inside, past = shapely.box(0, 0, 100, 50), shapely.box(-10, 20, 60, 80)
    beside, touching = shapely.box(200, 0, 300, 10), shapely.box(100, 0, 120, 10)
    two = shapely.MultiPolygon([shapely.box(90, 40, 110, 60), shapely.box(100, 0, 120, 10)])
    clipped = clip(as_array([inside, past, beside, touching, two]), 100, 50)
    assert clipped[0] is inside
    assert clipped[1].equals(shapely.box(0, 20, 60, 50))
    assert clipped[2].is_empty
    assert clipped[3].is_empty
    assert clipped[4].equals(shapely.box(90, 40, 100, 50))
    assert {shape.geom_type for shape in clipped} <= {"Polygon", "MultiPolygon"}
    assert len(clip(as_array([]), 100, 50)) == 0
