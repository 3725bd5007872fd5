"""Pieces that share no area, against sums over the faces of all outlines."""

import numpy as np
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from qupath_bridge.geometry import overlap
from qupath_bridge.geometry.edges import as_array
from qupath_bridge.geometry.overlap import resolve_overlaps
from qupath_bridge.geometry.validity import repair
from tests.support.faces import trusted_faces

number = st.integers(0, 12)


@st.composite
def shapes(draw):
    """A rectangle (often nested or touching), or any polygon; on a coarse grid."""
    if draw(st.booleans()):
        x, y = draw(number), draw(number)
        return shapely.box(x, y, x + draw(st.integers(1, 8)), y + draw(st.integers(1, 8)))
    ring = draw(st.lists(st.tuples(number, number), min_size=3, max_size=6))
    shape = repair(shapely.Polygon(ring))[0]
    return shape if shape.area else shapely.box(3, 3, 6, 5)


def summed(outlines, count):
    """Area of each region, from the polygons that add and subtract."""
    areas = np.zeros(count)
    # The shoelace of an exterior that was turned round is negative.
    for polygon, region in zip(outlines.polygons, outlines.region, strict=True):
        for part in shapely.get_parts(polygon):
            sign = 1 if part.exterior.is_ccw else -1
            areas[region] += sign * part.area
    return areas


def top(holders):
    return max(k for k, holds in enumerate(holders) if holds)


@settings(max_examples=200, deadline=None)
@given(st.lists(shapes(), min_size=1, max_size=7))
def test_overlap_pieces_are_the_visible_parts(polygons):
    seen = np.zeros(len(polygons))
    for area, holders in trusted_faces(polygons):
        seen[top(holders)] += area
    areas = summed(resolve_overlaps(as_array(polygons)).visible_part(), len(polygons))
    np.testing.assert_allclose(areas, seen, rtol=0, atol=1e-9)


@settings(max_examples=150, deadline=None)
@given(st.lists(shapes(), min_size=1, max_size=6), st.data())
def test_overlap_groups_hide_only_their_own_polygons(polygons, data):
    group = np.array([data.draw(st.integers(0, 1)) for _ in polygons])
    seen = np.zeros(len(polygons))
    for area, holders in trusted_faces(polygons):
        for g in (0, 1):
            own = np.array(holders) & (group == g)
            if own.any():
                seen[top(own)] += area
    areas = summed(resolve_overlaps(as_array(polygons), group).visible_part(), len(polygons))
    np.testing.assert_allclose(areas, seen, rtol=0, atol=1e-9)


@settings(max_examples=150, deadline=None)
@given(st.lists(shapes(), min_size=1, max_size=6), st.data())
def test_own_part_is_the_part_inside_the_groups_pieces(polygons, data):
    group = np.array([data.draw(st.integers(0, 1)) for _ in polygons])
    expected = np.zeros(len(polygons))
    for area, holders in trusted_faces(polygons):
        expected[np.array(holders) & (group == group[top(holders)])] += area
    resolved = resolve_overlaps(as_array(polygons))
    areas = summed(resolved.visible_part(), len(polygons))
    for outlines in resolved.own_parts(group):
        differs = np.unique(outlines.region)
        areas[differs] = summed(outlines, len(polygons))[differs]
    np.testing.assert_allclose(areas, expected, rtol=0, atol=1e-9)


def test_overlaps_without_crossing_outlines_compute_no_geometry(monkeypatch):
    """Nested and neighbouring regions: no union, no difference."""
    field = shapely.box(0, 0, 100, 100)
    islands = [shapely.box(10 * k, 0, 10 * k + 10, 10) for k in range(9)]
    lakes = [shapely.box(10 * k + 2, 2, 10 * k + 4, 4) for k in range(9)]
    polygons = as_array([field, *islands, *lakes])
    monkeypatch.setattr(overlap, "split", None)
    monkeypatch.setattr(overlap, "unite", lambda polygons: polygons.item())
    resolved = resolve_overlaps(polygons)
    areas = summed(resolved.visible_part(), len(polygons))
    assert areas.tolist() == [10_000 - 900] + [96] * 9 + [4] * 9
    (outlines,) = resolved.own_parts(np.zeros(19, int))
    assert summed(outlines, 19).tolist() == [10_000] + [100] * 9 + [0] * 9
    assert np.unique(outlines.region).tolist() == list(range(10))


def test_overlap_of_nested_polygons_of_one_group_needs_no_pieces_of_others():
    """The part of each is the whole polygon; else their number would be squared."""
    polygons = as_array([shapely.box(k, k, 200 - k, 200 - k) for k in range(90)])
    parts = list(resolve_overlaps(polygons).own_parts(np.zeros(90, int)))
    assert sum(len(outlines.polygons) for outlines in parts) == 89
    assert [piece.holes[0] for piece in resolve_overlaps(polygons).pieces[:-1]] == [*polygons[1:]]


def test_overlap_of_equal_polygons_shows_the_last():
    square = shapely.box(0, 0, 4, 4)
    polygons = as_array([square, square, shapely.box(-1, -1, 9, 9), square])
    resolved = resolve_overlaps(polygons)
    assert resolved.pieces[:2] == (None, None)
    assert summed(resolved.visible_part(), 4).tolist() == [0, 0, 100 - 16, 16]


def test_overlaps_of_no_polygons_are_empty():
    assert resolve_overlaps(as_array([])).pieces == ()
    assert len(resolve_overlaps(as_array([])).visible_part().polygons) == 0
