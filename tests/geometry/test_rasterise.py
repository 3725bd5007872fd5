"""Scan conversion by pixel centres, against points in polygons and against its own tie rule."""

import numpy as np
import pytest
import shapely

from qupath_bridge.geometry.edges import as_array
from qupath_bridge.geometry.rasterise import EdgeBands, paint, pixel_centres


def painted(polygons, box, size, band=16.0, order=None):
    """The number + 1 of the polygon on top of each pixel of a box."""
    x, y, w, h = box
    pixels = np.zeros(size[::-1], np.uint8)
    bands = EdgeBands.of(as_array(polygons), band)
    order = np.arange(len(polygons)) if order is None else np.array(order, np.int64)
    xs, ys = pixel_centres(x, w, size[0]), pixel_centres(y, h, size[1])
    paint(bands.covers(xs, ys, order), np.arange(1, len(polygons) + 1), pixels)
    return pixels


def by_points(polygons, box, size):
    """The same by a test of each pixel's centre; no centre may lie on a boundary."""
    x, y, w, h = box
    xs = x + (np.arange(size[0]) + 0.5) * w / size[0]
    ys = y + (np.arange(size[1]) + 0.5) * h / size[1]
    pixels = np.zeros(size[::-1], np.uint8)
    for number, polygon in enumerate(polygons, 1):
        pixels[shapely.contains_xy(polygon, *np.meshgrid(xs, ys))] = number
    return pixels


def random_polygons(rng):
    """Some polygons with holes, near and over the edge of a small box."""
    for _ in range(rng.integers(1, 5)):
        centre = rng.uniform(-5, 25, 2)
        outer = shapely.Point(centre).buffer(rng.uniform(2, 15), quad_segs=int(rng.integers(1, 6)))
        hole = shapely.Point(centre + rng.uniform(-2, 2, 2)).buffer(rng.uniform(0.5, 3))
        yield from shapely.get_parts(outer.difference(hole))


@pytest.mark.parametrize("seed", range(60))
def test_pixels_are_those_whose_centre_is_in_the_polygon(seed):
    rng = np.random.default_rng(seed)
    polygons = list(random_polygons(rng))
    box = (*rng.integers(-5, 10, 2).tolist(), *rng.integers(5, 30, 2).tolist())
    size = tuple(rng.integers(3, 20, 2).tolist())
    band = float(rng.uniform(0.7, 40))
    np.testing.assert_array_equal(
        painted(polygons, box, size, band), by_points(polygons, box, size)
    )


def test_a_centre_on_a_border_belongs_to_the_side_towards_larger_x_then_y():
    # The centres of these pixels are 0.5, 1.5, 2.5, 3.5 on both axes.
    square = shapely.box(0.5, 1.5, 2.5, 3.5)
    assert painted([square], (0, 0, 4, 4), (4, 4)).tolist() == [
        [0, 0, 0, 0],
        [1, 1, 0, 0],
        [1, 1, 0, 0],
        [0, 0, 0, 0],
    ]


@pytest.mark.parametrize("band", [1.0, 3.0, 100.0])
def test_polygons_that_share_borders_share_no_pixel_and_leave_none_out(band):
    # Corners, centres of sides and diagonals run through the centres of pixels.
    corners = [(0, 0), (8, 0), (8, 8), (0, 8)]
    middle = (4, 4)
    parts = [shapely.Polygon([corners[k], corners[(k + 1) % 4], middle]) for k in range(4)]
    box, size = (-0.5, -0.5, 9, 9), (9, 9)  # centres are whole numbers
    counts = sum(painted([part], box, size, band).astype(int) for part in parts)
    assert counts.tolist() == [[1] * 8 + [0]] * 8 + [[0] * 9]


def test_rings_turn_any_way():
    ring = [(1, 1), (7, 2), (6, 7), (2, 6)]
    ways = [shapely.Polygon(ring), shapely.Polygon(ring[::-1])]
    first, second = (painted([way], (0, 0, 8, 8), (16, 16)) for way in ways)
    assert first.any()
    np.testing.assert_array_equal(first, second)


def test_the_last_polygon_is_on_top_and_one_that_holds_all_hides_those_below():
    low, middle, top = shapely.box(0, 0, 9, 9), shapely.box(-5, -5, 50, 50), shapely.box(0, 0, 2, 1)
    assert painted([low, middle, top], (0, 0, 3, 2), (3, 2)).tolist() == [[3, 3, 2], [2, 2, 2]]
    bands = EdgeBands.of(as_array([low, middle, top]), 4.0)
    xs, ys = pixel_centres(0, 3, 3), pixel_centres(0, 2, 2)
    assert [cover.polygon for cover in bands.covers(xs, ys, np.arange(3))] == [1, 2]


def test_edges_far_longer_than_the_box_count_once():
    # A needle through the box: one side is an edge that crosses a thousand bands, the other one
    # many short edges.
    steps = np.linspace(1, 0, 9999)[:, None] * (10_000, 9999.4) + (-5000, -4987.3)
    needle = shapely.Polygon([(-5000, -4987.3), (5000, 5015.9), *steps])
    box, size = (0, 0, 32, 32), (32, 32)
    expected = by_points([needle], box, size)
    assert 32 < expected.sum() < 200
    for band in (8.0, 32.0, 20000.0):
        np.testing.assert_array_equal(painted([needle], box, size, band), expected)


def test_only_the_polygons_that_are_asked_for_are_painted():
    pair = [shapely.box(0, 0, 2, 2), shapely.box(1, 0, 3, 2)]
    assert painted(pair, (0, 0, 3, 1), (3, 1), order=[0]).tolist() == [[1, 1, 0]]
    assert painted(pair, (0, 0, 3, 1), (3, 1), order=[]).tolist() == [[0, 0, 0]]
    assert painted([], (0, 0, 3, 1), (3, 1)).tolist() == [[0, 0, 0]]
