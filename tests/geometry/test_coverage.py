"""Exact coverage: held against shapely's own intersections, and both ways against each other."""

import tracemalloc

import numpy as np
import pytest
import shapely
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qupath_bridge.errors import GeometryError
from qupath_bridge.geometry import edges, lattice
from qupath_bridge.geometry.coverage import box_coverage, coverage, grid_coverage, grid_entries
from qupath_bridge.geometry.edges import Outlines, as_array
from qupath_bridge.geometry.validity import polygons_only, repair

EXACT = 1e-9


def grid_boxes(xs, ys, w, h):
    """All boxes of a grid, row by row."""
    x, y = np.meshgrid(xs, ys)
    return np.column_stack([x.ravel(), y.ravel(), np.full(x.size, w), np.full(x.size, h)])


def shapely_shares(boxes, regions, offset=0):
    """The slow truth, computed near the origin: (N, K)."""
    near = [shapely.transform(region, lambda points: points - offset) for region in regions]
    return np.array(
        [
            [
                shapely.intersection(
                    region, shapely.box(x - offset, y - offset, x + w - offset, y + h - offset)
                ).area
                / (w * h)
                for region in near
            ]
            for x, y, w, h in np.asarray(boxes).tolist()
        ]
    ).reshape(len(boxes), len(regions))


def wobbly(cx, cy, radius, count, seed):
    """A star-shaped polygon of many vertices, on the 0.01 px grid."""
    rng = np.random.default_rng(seed)
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    reach = radius * (0.7 + 0.3 * np.sin(3 * angle + seed) * rng.uniform(0.8, 1, count))
    points = np.column_stack([cx + reach * np.cos(angle), cy + reach * np.sin(angle)])
    return repair(shapely.Polygon(points.round(2)))[0]


# --- shapes: holes, parts, nesting, slivers, vertices on lines of the grid and off them ---

on_lines = st.integers(-4, 24).map(lambda v: v * 5.0)
hundredths = st.integers(-2000, 12000).map(lambda v: v / 100)
anywhere = st.floats(-20, 120).map(lambda v: round(v, 9))


@st.composite
def polygons(draw):
    """A valid polygon or multipolygon around [-20, 120]², perhaps with holes, perhaps thin."""
    coordinate = draw(st.sampled_from([on_lines, hundredths, anywhere]))
    ring = st.lists(st.tuples(coordinate, coordinate), min_size=3, max_size=12)
    shape = repair(shapely.Polygon(draw(ring)))[0]
    for operation in draw(st.lists(st.sampled_from("+-^"), max_size=2)):
        other = repair(shapely.Polygon(draw(ring)))[0]
        combine = {
            "+": shapely.union,
            "-": shapely.difference,
            "^": shapely.symmetric_difference,
        }[operation]
        shape = polygons_only(combine(shape, other))
    if draw(st.booleans()):
        # A sliver, perhaps of almost no width.
        x, y, width = draw(coordinate), draw(coordinate), draw(st.sampled_from([0.01, 1e-6]))
        sliver = shapely.Polygon([(x, y), (x + 60, y + 40), (x + 60, y + 40 + width)])
        shape = polygons_only(shapely.union(shape, sliver))
    return repair(shape)[0]


steps = st.sampled_from([(10, 10), (10, 5), (10, 3), (10, 15), (7, 7), (25, 10), (1, 30)])


@st.composite
def grids(draw):
    """Columns, rows, and box size: with gaps, without, overlapping, different by axis."""
    (w, step_x), (h, step_y) = draw(steps), draw(steps)
    x, y = draw(st.integers(-40, 20)), draw(st.integers(-40, 20))
    columns, rows = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    return x + step_x * np.arange(columns), y + step_y * np.arange(rows), w, h


@settings(max_examples=100, deadline=None)
@given(grids(), st.lists(polygons(), min_size=1, max_size=3), st.sampled_from([0, 100_000, -7]))
def test_grid_and_box_coverage_equal_shapely(grid, regions, offset):
    xs, ys, w, h = grid
    xs, ys = xs + offset, ys + offset
    # The shift rounds coordinates: what is measured, and what the truth is made of, is the same.
    regions = [shapely.transform(region, lambda points: points + offset) for region in regions]
    regions = [region for region in regions if region.is_valid]
    boxes = grid_boxes(xs, ys, w, h)
    truth = shapely_shares(boxes, regions, offset)
    dense = grid_coverage(xs, ys, w, h, regions)
    assert dense.shape == (len(regions), len(ys), len(xs))
    np.testing.assert_allclose(dense.reshape(len(regions), len(boxes)).T, truth, rtol=0, atol=EXACT)
    by_tree = box_coverage(boxes, as_array(regions))
    np.testing.assert_allclose(by_tree, truth, rtol=0, atol=EXACT)
    np.testing.assert_allclose(coverage(boxes, regions), truth, rtol=0, atol=EXACT)


@settings(max_examples=60, deadline=None)
@given(grids(), st.lists(polygons(), min_size=1, max_size=4), st.data())
def test_grid_entries_equal_grid_coverage(grid, regions, data):
    """Sparse entries, regions of several polygons that add and subtract."""
    xs, ys, w, h = grid
    whole = shapely.box(-30, -30, 130, 130)
    take_away = data.draw(st.lists(st.booleans(), min_size=len(regions), max_size=len(regions)))
    polygons, owner, negative, wanted = [], [], [], []
    for k, (region, taken) in enumerate(zip(regions, take_away, strict=True)):
        polygons += [whole, region] if taken else [region]
        owner += [k, k] if taken else [k]
        negative += [False, True] if taken else [False]
        wanted.append(polygons_only(shapely.difference(whole, region)) if taken else region)
    shuffled = data.draw(st.permutations(range(len(polygons))))
    outlines = Outlines.of(
        as_array([polygons[k] for k in shuffled]),
        np.array([owner[k] for k in shuffled]),
        np.array([negative[k] for k in shuffled]),
    )
    # GEOS can leave a ring that touches itself, which cannot be compared with.
    assume(all(shape.is_valid for shape in wanted))
    entries = grid_entries(xs, ys, w, h, outlines)
    found = np.zeros((len(regions), len(ys), len(xs)))
    found[entries.region, entries.row, entries.col] = entries.value
    assert (entries.value > 0).all()
    expected = grid_coverage(xs, ys, w, h, wanted)
    np.testing.assert_allclose(found, expected, rtol=0, atol=EXACT)


@settings(max_examples=40, deadline=None)
@given(grids(), st.lists(polygons(), min_size=1, max_size=4), st.integers(1, 40))
def test_coverage_does_not_depend_on_batch_sizes(grid, regions, cells):
    """Bands, batches and chunks of any size give the same numbers."""
    xs, ys, w, h = grid
    whole = grid_coverage(xs, ys, w, h, regions)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lattice, "CELLS", cells)
        patch.setattr(edges, "EDGES", 3)
        cut = grid_coverage(xs, ys, w, h, regions)
    np.testing.assert_allclose(cut, whole, rtol=0, atol=1e-11)


@settings(max_examples=60, deadline=None)
@given(polygons(), st.integers(0, 2**32 - 1))
def test_coverage_of_irregular_boxes_equals_shapely(region, seed):
    rng = np.random.default_rng(seed)
    boxes = np.column_stack([rng.integers(-30, 120, (20, 2)), rng.integers(1, 60, (20, 2))])
    truth = shapely_shares(boxes, [region])
    np.testing.assert_allclose(coverage(boxes, [region]), truth, rtol=0, atol=EXACT)


@settings(max_examples=60, deadline=None)
@given(polygons(), grids())
def test_coverage_of_a_partition_sums_to_1(region, grid):
    """The covered and the remaining share of a box sum to exactly 1."""
    xs, ys, w, h = grid
    around = shapely.box(xs[0] - 50, ys[0] - 50, xs[-1] + w + 50, ys[-1] + h + 50)
    rest = polygons_only(shapely.difference(around, region))
    inside = polygons_only(shapely.intersection(around, region))
    sums = grid_coverage(xs, ys, w, h, [inside, rest]).sum(axis=0)
    np.testing.assert_allclose(sums, 1.0, rtol=0, atol=EXACT)


# --- single promises ---


def test_coverage_is_exactly_1_inside_and_0_outside():
    region = wobbly(500, 500, 400, 2000, seed=1)
    xs = ys = np.arange(0, 1000, 20)
    dense = grid_coverage(xs, ys, 20, 20, [region])[0]
    rectangles = shapely.box(*np.meshgrid(xs, ys), *np.meshgrid(xs + 20, ys + 20))
    assert (dense[shapely.covers(region, rectangles)] == 1.0).all()
    assert (dense[~shapely.intersects(region, rectangles)] == 0.0).all()
    assert (shapely.covers(region, rectangles)).sum() > 100


def test_coverage_of_a_box_inside_a_polygon_and_a_polygon_inside_a_box():
    huge, tiny = shapely.box(0, 0, 100_000, 100_000), shapely.box(140, 140, 160, 160)
    assert coverage([[45_000, 45_000, 10, 10]], [huge]).tolist() == [[1.0]]
    assert coverage([[100, 100, 100, 100]], [tiny]).tolist() == [[0.04]]


def test_coverage_is_0_if_an_edge_or_corner_only_touches():
    boxes = grid_boxes([0, 100], [0, 100], 100, 100)
    assert coverage(boxes, [shapely.box(100, 0, 200, 100)]).ravel().tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("turn", ["shell", "hole", "both", "none"])
def test_coverage_does_not_depend_on_ring_direction(turn):
    shell = [(0, 0), (90, 0), (90, 90), (0, 90)][:: -1 if turn in {"shell", "both"} else 1]
    hole = [(30, 30), (60, 30), (60, 60), (30, 60)][:: -1 if turn in {"hole", "both"} else 1]
    region = shapely.Polygon(shell, [hole])
    shares = grid_coverage([0, 30, 60], [0, 30, 60], 30, 30, [region])[0]
    assert shares.tolist() == [[1, 1, 1], [1, 0, 1], [1, 1, 1]]


def test_coverage_of_two_regions_along_a_shared_slope_sums_to_exactly_1():
    left = shapely.Polygon([(0, 0), (37.37, 0), (61.13, 97.01), (0, 97.01)])
    right = shapely.Polygon([(37.37, 0), (99, 0), (99, 97.01), (61.13, 97.01)])
    shares = grid_coverage(np.arange(0, 90, 9), np.arange(0, 97, 9)[:-1], 9, 9, [left, right])
    np.testing.assert_allclose(shares.sum(axis=0), 1.0, rtol=0, atol=2e-12)


def test_coverage_ignores_a_third_dimension():
    flat, tall = shapely.box(0, 0, 5, 10), shapely.force_3d(shapely.box(0, 0, 5, 10), 7.0)
    assert coverage([[0, 0, 10, 10]], [flat, tall]).tolist() == [[0.5, 0.5]]


def test_coverage_without_boxes_or_regions_is_empty():
    region = shapely.box(0, 0, 5, 5)
    assert coverage([], [region]).shape == (0, 1)
    assert coverage(np.zeros((0, 4), int), [region]).shape == (0, 1)
    assert coverage([[0, 0, 5, 5]], []).shape == (1, 0)
    assert coverage([[0, 0, 5, 5]], [shapely.Polygon(), region]).tolist() == [[0.0, 1.0]]
    assert coverage([[0, 0, 5, 5], [1, 1, 9, 4]], [shapely.MultiPolygon()]).tolist() == [[0], [0]]
    assert grid_coverage([], [0], 5, 5, [region]).shape == (1, 1, 0)
    nothing = Outlines.of(as_array([]), np.zeros(0, np.int64))
    assert len(grid_entries(np.arange(3), np.arange(3), 1, 1, nothing)) == 0
    assert len(grid_entries(np.arange(0), np.arange(3), 1, 1, nothing)) == 0


def test_coverage_of_regions_beside_the_grid_on_every_side():
    xs, ys = np.array([0, 10, 20]), np.array([0, 10])
    sides = [
        shapely.box(-50, 0, 0, 20),
        shapely.box(30, 0, 50, 20),
        shapely.box(0, -50, 30, 0),
        shapely.box(0, 20, 30, 50),
    ]
    assert not grid_coverage(xs, ys, 10, 10, sides).any()
    ring = shapely.box(-50, -50, 80, 70).difference(shapely.box(-1, -1, 31, 21))
    assert not grid_coverage(xs, ys, 10, 10, [ring]).any()
    assert (grid_coverage(xs, ys, 10, 10, [shapely.box(-50, -50, 80, 70)]) == 1.0).all()


def test_coverage_of_grid_boxes_in_any_order_and_number():
    region = wobbly(50, 50, 45, 60, seed=3)
    boxes = grid_boxes(np.arange(0, 100, 10), np.arange(0, 100, 10), 10, 10)
    rng = np.random.default_rng(0)
    some = boxes[rng.permutation(100)[:60]]
    some = np.concatenate([some, some[:5]])
    expected = shapely_shares(some, [region])
    np.testing.assert_allclose(coverage(some, [region]), expected, rtol=0, atol=EXACT)


def test_coverage_of_a_few_distant_boxes_makes_no_large_grid(monkeypatch):
    boxes = [[k * 1000, k * 1000, 10, 10] for k in range(50)]
    monkeypatch.setattr("qupath_bridge.geometry.coverage._grid_coverage", None)
    assert coverage(boxes, [shapely.box(0, 0, 20_005, 20_005)]).sum() == 20.25


def test_coverage_of_many_overlapping_boxes():
    """A step of one pixel: each box is many cells of two axes."""
    region = wobbly(40, 40, 30, 50, seed=5)
    xs = ys = np.arange(0, 60)
    dense = grid_coverage(xs, ys, 25, 25, [region])[0]
    truth = shapely_shares(grid_boxes(xs[::7], ys[::7], 25, 25), [region])
    np.testing.assert_allclose(dense[::7, ::7].reshape(-1, 1), truth, rtol=0, atol=EXACT)


@pytest.mark.parametrize(
    ("boxes", "regions", "index", "text"),
    [
        ([[0, 0, 5, 5], [0, 0, 5, 0]], [], 1, "Box 1 has no area"),
        ([[0, 0, -5, 5]], [], 0, "Box 0 has no area"),
        ([[0.5, 0, 5, 5]], [], None, "whole numbers of shape"),
        ([[0, 0, 5]], [], None, "whole numbers of shape"),
        ([[0, 0, 5, 5]], [shapely.box(0, 0, 1, 1), shapely.Point(1, 1)], 1, "Region 1 is not a"),
        (
            [[0, 0, 5, 5]],
            [shapely.Polygon([(0, 0), (9, 9), (9, 0), (0, 9)])],
            0,
            "Region 0 is not valid: Self-intersection",
        ),
    ],
)
def test_boxes_without_area_and_invalid_regions_are_refused(boxes, regions, index, text):
    with pytest.raises(GeometryError, match=text) as error:
        coverage(boxes, regions)
    assert error.value.index == index


def test_grid_starts_that_do_not_ascend_are_refused():
    region = shapely.box(0, 0, 5, 5)
    with pytest.raises(GeometryError, match="ascend"):
        grid_coverage([0, 10, 10], [0], 10, 10, [region])
    with pytest.raises(GeometryError, match="has no area"):
        grid_coverage([0, 10], [0], 10, 0, [region])


def test_coverage_memory_is_bounded_for_a_huge_polygon_on_a_fine_grid():
    """A comb of 100,000 vertices whose teeth cross the whole grid: 10 million crossings."""
    teeth = 100_000
    x = np.linspace(0, 4000, teeth).round(2)
    y = np.where(np.arange(teeth) % 2, 3990.0, 2.0)
    region = shapely.Polygon([(-5, 0), *zip(x, y, strict=True), (4005, 0), (4005, -5), (-5, -5)])
    xs, ys = np.arange(0, 4000, 8), np.arange(0, 4000, 40)
    assert region.is_valid
    tracemalloc.start()
    shares = grid_coverage(xs, ys, 8, 40, [region])[0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    total = shapely.intersection(region, shapely.box(0, 0, 4000, 4000)).area
    assert shares.sum() * 320 == pytest.approx(total, rel=1e-9)
    assert peak < 150e6


def test_coverage_reports_a_geos_failure_as_geometry_error(monkeypatch):
    def fail(*_):
        raise shapely.errors.GEOSException("TopologyException: side location conflict")

    monkeypatch.setattr(shapely, "intersection", fail)
    with pytest.raises(GeometryError, match="side location conflict"):
        box_coverage(np.array([[0, 0, 9, 9]]), as_array([shapely.box(0, 0, 5, 5)]))
