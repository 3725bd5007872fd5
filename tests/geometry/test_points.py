"""Points of a grid in polygons: half-open boundaries, exactly."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from qupath_bridge.geometry import edges, lattice, points
from qupath_bridge.geometry.edges import Outlines, as_array
from qupath_bridge.geometry.points import points_inside
from qupath_bridge.geometry.validity import repair


def inside(xs, ys, polygons):
    """Return whether each point is in each polygon: bool (K, R, C)."""
    outlines = Outlines.of(as_array(polygons), np.arange(len(polygons)))
    found = np.zeros((len(polygons), len(ys), len(xs)), bool)
    entries = points_inside(np.asarray(xs, float), np.asarray(ys, float), outlines)
    assert (entries.value == 1).all()
    found[entries.region, entries.row, entries.col] = True
    return found


def by_ray(x, y, polygon):
    """The textbook test, one point at a time, in fractions: a point on a boundary is nudged
    towards +x and, by much less, towards +y."""
    crossings = 0
    for part in shapely.get_parts(polygon):
        for ring in (part.exterior, *part.interiors):
            corners = [(Fraction(a), Fraction(b)) for a, b in ring.coords]
            for (ax, ay), (bx, by) in pairwise(corners):
                if (ay > y) != (by > y) and x < ax + (y - ay) * (bx - ax) / (by - ay):
                    crossings += 1
    return crossings % 2 == 1


SQUARE = shapely.box(2, 2, 4, 4)


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        *[(3, 3, True), (2, 3, True), (4, 3, False), (3, 2, True), (3, 4, False)],
        *[(2, 2, True), (4, 2, False), (2, 4, False), (4, 4, False)],
        *[(1, 3, False), (5, 3, False)],
    ],
)
def test_points_in_a_square_are_half_open(x, y, expected):
    assert inside([x], [y], [SQUARE])[0, 0, 0] == expected


def test_points_on_the_boundary_of_a_hole_are_half_open():
    region = shapely.box(0, 0, 9, 9).difference(SQUARE)
    xs = ys = np.arange(10.0)
    assert not (inside(xs, ys, [region]) & inside(xs, ys, [SQUARE])).any()
    assert (inside(xs, ys, [region]) | inside(xs, ys, [SQUARE]))[0, :9, :9].all()


corner = st.integers(0, 8).map(float)
tenth = st.integers(0, 80).map(lambda v: v / 10)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([corner, tenth]).flatmap(
        lambda c: st.lists(st.tuples(c, c), min_size=3, max_size=7)
    ),
    st.integers(-2, 3),
)
def test_points_inside_equals_the_textbook_test(ring, start):
    polygon = repair(shapely.Polygon(ring))[0]
    xs, ys = start + 0.5 * np.arange(14), start + np.arange(8.0)
    expected = [[by_ray(Fraction(x), Fraction(y), polygon) for x in xs] for y in ys]
    assert inside(xs, ys, [polygon])[0].tolist() == expected


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(tenth, tenth), min_size=3, max_size=7))
def test_points_are_in_a_region_or_in_its_complement(ring):
    """Whatever is on a border that two polygons share is in exactly one of them."""
    region = repair(shapely.Polygon(ring))[0]
    around = shapely.box(-1, -1, 9, 9)
    # A polygon with the region's rings as holes: no vertex is computed anew.
    rest = [around, region]
    found = inside(np.arange(-1, 9, 0.5), np.arange(-1, 9, 0.5), rest)
    assert not (found[1] & ~found[0]).any()
    outlines = Outlines.of(as_array(rest), np.array([0, 0]), np.array([False, True]))
    entries = points_inside(np.arange(-1, 9, 0.5), np.arange(-1, 9, 0.5), outlines)
    holed = np.zeros(found[0].shape, bool)
    holed[entries.row, entries.col] = True
    assert (holed ^ found[1] == found[0]).all()


def test_points_inside_does_not_depend_on_batch_sizes(monkeypatch):
    rng = np.random.default_rng(7)
    polygons = [repair(shapely.Polygon(rng.uniform(0, 50, (9, 2)).round(1)))[0] for _ in range(12)]
    xs, ys = np.arange(5, 40, 0.5), np.arange(-5, 45, 0.5)
    whole = inside(xs, ys, polygons)
    monkeypatch.setattr(lattice, "CELLS", 50)
    monkeypatch.setattr(edges, "EDGES", 4)
    assert (inside(xs, ys, polygons) == whole).all()
    truth = shapely.contains_xy(as_array(polygons)[:, None, None], xs, ys[:, None])
    border = shapely.intersects_xy(as_array(polygons)[:, None, None], xs, ys[:, None]) & ~truth
    assert (whole == truth)[~border].all()


def test_points_inside_is_exact_where_rounding_fails():
    """Points exactly on a slope whose products do not fit a float."""
    big = 2.0**40 + 1
    triangle = shapely.Polygon([(0, 0), (3 * big, big), (0, big)])
    xs = 3.0 * np.array([big - 2**20, big - 1])
    ys = np.array([big - 2**20, big - 1])
    # On the slope the interior is towards -x: out. One step to the left: in.
    assert inside(xs, ys, [triangle])[0].diagonal().tolist() == [False, False]
    assert inside(np.nextafter(xs, 0), ys, [triangle])[0].diagonal().tolist() == [True, True]


def test_points_inside_uses_fractions_only_where_rounding_could_fail(monkeypatch):
    monkeypatch.setattr(points, "Fraction", None)
    assert inside([3.0], [3.0], [SQUARE]).all()
    with pytest.raises(TypeError):
        inside([3.0], [3.0], [shapely.Polygon([(0, 0), (6, 6), (0, 6)])])


def test_points_inside_without_points_or_polygons_is_empty():
    assert inside([], [1.0], [SQUARE]).shape == (1, 1, 0)
    assert inside([1.0], [1.0], []).shape == (0, 1, 1)
    assert not inside([1.0], [1.0], [shapely.Polygon()]).any()
