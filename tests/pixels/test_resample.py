from fractions import Fraction
from itertools import pairwise
from math import ceil, floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qupath_bridge.pixels.resample import area_means, area_resize, choose_level, pixel_edges
from qupath_bridge.readers.level_sizes import make_levels

SOURCE = np.random.default_rng(3).integers(0, 256, (70, 90, 3), dtype=np.uint8)


def exact_means(pixels, box, size):
    """Means by overlap, pixel by pixel, as plain as can be; not rounded."""
    x0, y0, x1, y1 = box
    width, height = size
    out = np.zeros((height, width, 3))
    for row in range(height):
        top, bottom = y0 + (y1 - y0) * row / height, y0 + (y1 - y0) * (row + 1) / height
        for column in range(width):
            left = x0 + (x1 - x0) * column / width
            right = x0 + (x1 - x0) * (column + 1) / width
            total = 0.0
            for y in range(int(top), min(int(np.ceil(bottom)), pixels.shape[0])):
                for x in range(int(left), min(int(np.ceil(right)), pixels.shape[1])):
                    area = (min(y + 1, bottom) - max(y, top)) * (min(x + 1, right) - max(x, left))
                    out[row, column] += area * pixels[y, x]
                    total += area
            out[row, column] /= total
    return out


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5, 7, 10])
def test_whole_factors_are_box_means_rounded_half_up(factor):
    n = 60 // factor
    found = area_resize(SOURCE, (5, 2, 5 + n * factor, 2 + n * factor), (n, n))
    boxes = SOURCE[2 : 2 + n * factor, 5 : 5 + n * factor].reshape(n, factor, n, factor, 3)
    sums = boxes.astype(np.int64).sum(axis=(1, 3))
    np.testing.assert_array_equal(found, (2 * sums + factor**2) // (2 * factor**2))


def test_halves_go_up():
    pixels = np.zeros((1, 2, 3), np.uint8)
    pixels[0, 1] = (1, 3, 255)
    assert area_resize(pixels, (0, 0, 2, 1), (1, 1)).tolist() == [[[1, 2, 128]]]


@settings(max_examples=60, deadline=None)
@given(
    start=st.tuples(st.floats(0, 20), st.floats(0, 20)),
    factors=st.tuples(st.floats(1.01, 6), st.floats(1.01, 6)),
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
)
def test_fractions_are_exact_areas(start, factors, size):
    box = (*start, start[0] + factors[0] * size[0], start[1] + factors[1] * size[1])
    found = area_resize(SOURCE, box, size).astype(int)
    expected = exact_means(SOURCE, box, size)
    assert np.abs(found - expected).max() <= 0.5 + 1e-3


def test_one_axis_alone():
    tall = area_resize(SOURCE, (0, 0, 90, 70), (90, 35))
    sums = SOURCE.reshape(35, 2, 90, 3).astype(int).sum(axis=1)
    np.testing.assert_array_equal(tall, (sums + 1) // 2)
    wide = area_resize(SOURCE, (0, 0, 90, 70), (45, 70))
    sums = SOURCE.reshape(70, 45, 2, 3).astype(int).sum(axis=2)
    np.testing.assert_array_equal(wide, (sums + 1) // 2)


def test_the_same_resolution_takes_pixels_as_they_are():
    np.testing.assert_array_equal(area_resize(SOURCE, (0, 0, 90, 70), (90, 70)), SOURCE)
    np.testing.assert_array_equal(area_resize(SOURCE, (3, 4, 13, 24), (10, 20)), SOURCE[4:24, 3:13])
    # A level meant as 4 that is 4.00012: half a pixel off at most, no blur.
    moved = area_resize(SOURCE, (3.3, 4.2, 13.3003, 24.2), (10, 20))
    np.testing.assert_array_equal(moved, SOURCE[4:24, 3:13])


def test_enlarging_takes_the_nearest():
    found = area_resize(SOURCE, (0, 0, 90, 70), (270, 140))
    np.testing.assert_array_equal(found, SOURCE.repeat(2, axis=0).repeat(3, axis=1))


def test_uniform_stays_uniform():
    for value in (0, 1, 127, 254, 255):
        pixels = np.full((97, 101, 3), value, np.uint8)
        for size in ((33, 31), (100, 96), (7, 90), (1, 1)):
            assert (area_resize(pixels, (0.25, 0.75, 100.8, 96.9), size) == value).all()


def test_blocks_equal_the_whole():
    x_edges, y_edges = pixel_edges(1.3, 88.1, 23), pixel_edges(0.7, 69.4, 19)
    (whole,) = area_means(SOURCE[None], x_edges, y_edges)
    for rows, columns in ((1, 23), (4, 5), (19, 1)):
        for top in range(0, 19, rows):
            for left in range(0, 23, columns):
                (part,) = area_means(
                    SOURCE[None], x_edges[left : left + columns + 1], y_edges[top : top + rows + 1]
                )
                np.testing.assert_array_equal(part, whole[top : top + rows, left : left + columns])


def test_masks_scale_too():
    mask = np.zeros((1, 6, 6, 1), np.uint8)
    mask[:, :3] = 255
    found = area_means(mask, pixel_edges(0, 6, 2), pixel_edges(0, 6, 2))
    assert found[0, ..., 0].tolist() == [[255, 255], [0, 0]]


def round_half_up(pixels, x_edges, y_edges):
    """As plain as can be, with fractions: the exact mean of each box, its halves rounded up."""

    def overlap(edges, index, place):
        low, high = Fraction(edges[index]), Fraction(edges[index + 1])
        return max(min(high, place + 1) - max(low, place), Fraction(0))

    def spans(edges):
        if edges[-1] - edges[0] <= (len(edges) - 1) * 1.001:  # the same resolution
            middle = [int((a + b) / 2) for a, b in pairwise(edges)]
            return [[(place, Fraction(1))] for place in middle]
        return [
            [(place, overlap(edges, index, place)) for place in range(int(a), ceil(b))]
            for index, (a, b) in enumerate(pairwise(edges))
        ]

    rows, columns = spans(y_edges), spans(x_edges)
    out = np.empty((len(rows), len(columns), pixels.shape[2]))
    tie = np.zeros(out.shape, bool)
    for y, row in enumerate(rows):
        for x, column in enumerate(columns):
            for c in range(out.shape[2]):
                parts = [(v * w, int(pixels[j, i, c])) for j, v in row for i, w in column]
                mean = sum(a * value for a, value in parts) / sum(a for a, _ in parts)
                out[y, x, c] = floor(mean + Fraction(1, 2))
                tie[y, x, c] = abs(mean - floor(mean) - Fraction(1, 2)) < Fraction(1, 10**9)
    return out, tie


whole = st.integers(1, 5)
fraction = st.floats(1.01, 4).map(lambda value: round(value, 3))


@settings(max_examples=80, deadline=None)
@given(
    start=st.tuples(st.integers(0, 9) | st.floats(0, 9), st.integers(0, 9) | st.floats(0, 9)),
    factors=st.tuples(whole | fraction, whole | fraction),
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    channels=st.integers(1, 3),
)
def test_a_batch_has_the_exact_means_rounded_half_up(start, factors, size, channels):
    ends = [a + f * n for a, f, n in zip(start, factors, size, strict=True)]
    x_edges, y_edges = (pixel_edges(a, b, n) for a, b, n in zip(start, ends, size, strict=True))
    batch = np.stack([SOURCE, SOURCE[::-1], SOURCE[:, ::-1] // 200 * 255])[..., :channels]
    found = area_means(batch, x_edges, y_edges)
    assert found.dtype == np.uint8
    whole = all(isinstance(value, int) for value in (*start, *factors))
    for pixels, own in zip(batch, found, strict=True):
        expected, tie = round_half_up(pixels, x_edges, y_edges)
        assert np.array_equal(own, expected) if whole else ((own == expected) | tie).all()


@pytest.mark.parametrize("factor", [2, 15, 16, 17, 60])
@pytest.mark.parametrize("value", [0, 254, 255])
def test_sums_of_large_boxes_do_not_overflow(factor, value):
    pixels = np.full((2, factor * 2, factor * 3, 3), value, np.uint8)
    edges = pixel_edges(0, factor * 3, 3), pixel_edges(0, factor * 2, 2)
    assert (area_means(pixels, *edges) == value).all()


@pytest.mark.parametrize(
    ("sizes", "target", "level"),
    [
        ([(4096, 4096), (1024, 1024), (256, 256)], 1, 0),
        ([(4096, 4096), (1024, 1024), (256, 256)], 0.3, 0),
        ([(4096, 4096), (1024, 1024), (256, 256)], 3.9, 0),
        ([(4096, 4096), (1024, 1024), (256, 256)], 4, 1),
        ([(4096, 4096), (1024, 1024), (256, 256)], 15.5, 1),
        ([(4096, 4096), (1024, 1024), (256, 256)], 1000, 2),
        ([(46000, 32914), (11500, 8228), (2875, 2057)], 4, 1),  # 4.00012
        ([(46000, 32914), (11500, 8228), (2875, 2057)], 16, 2),  # 16.0005
        ([(4443, 3567), (2221, 1783)], 2, 1),
        ([(300, 250), (150, 125), (75, 62)], 4, 1),  # 4.016 is coarser
    ],
)
def test_the_coarsest_level_that_is_not_coarser(sizes, target, level):
    assert choose_level([level.downsample for level in make_levels(sizes)], target) == level


def test_level_order_does_not_matter():
    levels = [level.downsample for level in make_levels([(800, 800), (100, 100), (400, 400)])]
    assert [choose_level(levels, d) for d in (1, 2, 7, 8)] == [0, 2, 2, 1]


# ---- other types than uint8


TYPES = ["int8", "uint16", "int16", "uint32", "int32"]


def whole_range(shape, dtype):
    ends = np.iinfo(dtype)
    return np.random.default_rng(5).integers(ends.min, ends.max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("factors", [(3, 2), (2.5, 1.75), (1, 3), (1.3, 1.3)])
def test_means_of_integers_are_exact_and_rounded_half_up(dtype, factors):
    """Also of negative ones: the mean -0.5 gives 0. Against fractions."""
    values = whole_range((12, 15, 5), dtype)
    edges = pixel_edges(0, factors[0] * 4, 4), pixel_edges(0, factors[1] * 3, 3)
    (found,) = area_means(values[None], *edges)
    expected, tie = round_half_up(values, *edges)
    assert found.dtype == dtype
    assert ((found == expected) | tie).all() if factors[0] % 1 else (found == expected).all()


def test_halves_of_negative_values_go_up():
    values = np.array([[-1, 0], [-3, -2], [-1, -2], [1, 0]], np.int16)[None, :, :, None]
    found = area_means(values, pixel_edges(0, 2, 1), pixel_edges(0, 4, 4))
    assert found.ravel().tolist() == [0, -2, -1, 1]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("end", ["min", "max"])
def test_sums_of_the_largest_values_do_not_overflow(dtype, end):
    value = getattr(np.iinfo(dtype), end)
    values = np.full((2, 120, 180, 2), value, dtype)
    for across, down in ((60, 60), (2, 3), (1.5, 2.5)):
        edges = pixel_edges(0, 3 * across, 3), pixel_edges(0, 2 * down, 2)
        assert (area_means(values, *edges) == value).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("factors", [(3, 2), (2.5, 1.75), (1.3, 1.3)])
def test_means_of_floats_are_computed_in_float64(dtype, factors):
    """A million and a thousandth: in float32 the sums would lose the thousandth."""
    values = (1e6 + np.random.default_rng(1).random((12, 15, 2)) * 1e-3).astype(dtype)
    edges = pixel_edges(0, factors[0] * 4, 4), pixel_edges(0, factors[1] * 3, 3)
    (found,) = area_means(values[None], *edges)
    assert found.dtype == dtype
    x, y = (np.asarray(each) for each in edges)
    for row in range(3):
        for column in range(4):
            rows = np.clip(
                np.minimum(np.arange(1, 13), y[row + 1]) - np.maximum(np.arange(12), y[row]), 0, 1
            )
            columns = np.clip(
                np.minimum(np.arange(1, 16), x[column + 1]) - np.maximum(np.arange(15), x[column]),
                0,
                1,
            )
            weights = np.outer(rows, columns)[..., None]
            mean = (values.astype(np.float64) * weights).sum((0, 1)) / weights.sum()
            np.testing.assert_allclose(
                found[row, column], mean.astype(dtype), rtol=1e-7 if dtype == "float32" else 1e-12
            )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("length", "count"), [(6, 3), (6, 4), (7, 4)])
def test_a_nan_counts_where_it_has_a_part(length, count, value):
    """And nowhere else, also next to it; nobody is warned of it."""
    values = np.ones((1, length, length, 1), np.float32)
    values[0, 2, 4] = value
    edges = pixel_edges(0, length, count)
    found = area_means(values, edges, edges)[0, ..., 0]
    down, across = (
        np.array([max(a, place) < min(b, place + 1) for a, b in pairwise(edges)])
        for place in (2, 4)
    )
    touched = np.outer(down, across)
    np.testing.assert_array_equal(np.isfinite(found), ~touched)
    assert (found[~touched] == 1).all()
    assert 1 <= touched.sum() < count**2
    if not np.isnan(value):
        assert (found[touched] == value).all()
