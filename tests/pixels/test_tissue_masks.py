"""Pieces, holes and outlines of masks, against searches and sums that are slow and plain."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from qupath_bridge.pixels.tissue.masks import (
    close_mask,
    drop_specks,
    fill_holes,
    grow,
    label_pieces,
    open_mask,
    smooth,
)
from qupath_bridge.pixels.tissue.outlines import outline_mask

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9))
SIDES = ((0, 1), (1, 0), (0, -1), (-1, 0))
CORNERS = (*SIDES, (1, 1), (1, -1), (-1, 1), (-1, -1))


def pieces(mask, steps):
    """Return the pieces as sets of places, found one pixel after the other."""
    left, found = {tuple(place) for place in np.argwhere(mask).tolist()}, []
    for first in sorted(left):
        if first not in left:
            continue
        piece, todo = set(), [first]
        while todo:
            place = todo.pop()
            if place in left:
                left.remove(place)
                piece.add(place)
                todo += [(place[0] + dy, place[1] + dx) for dy, dx in steps]
        found.append(piece)
    return found


@settings(max_examples=150, deadline=None)
@given(MASKS)
def test_pieces_are_those_of_a_plain_search(mask):
    labels = label_pieces(mask)
    expected = np.zeros(mask.shape, int)
    for number, piece in enumerate(pieces(mask, SIDES), 1):
        for place in piece:
            expected[place] = number
    np.testing.assert_array_equal(labels, expected)


@settings(max_examples=150, deadline=None)
@given(MASKS, st.integers(1, 12))
def test_specks_and_holes_are_those_of_a_plain_search(mask, least):
    expected = np.zeros_like(mask)
    for piece in pieces(mask, CORNERS):
        for place in piece if len(piece) >= least else ():
            expected[place] = True
    np.testing.assert_array_equal(drop_specks(mask, least), expected)
    height, width = mask.shape
    filled = mask.copy()
    for hole in pieces(~mask, SIDES):
        inside = all(0 < y < height - 1 and 0 < x < width - 1 for y, x in hole)
        for place in hole if inside and len(hole) < least else ():
            filled[place] = True
    np.testing.assert_array_equal(fill_holes(mask, least), filled)


@settings(max_examples=200, deadline=None)
@given(MASKS)
def test_outlines_cover_just_the_pixels(mask):
    outline = outline_mask(mask)
    assert outline.is_valid
    assert len(outline.geoms) == len(pieces(mask, SIDES))
    y, x = np.indices(mask.shape)
    inside = shapely.contains_xy(outline, x.ravel() + 0.5, y.ravel() + 0.5)
    np.testing.assert_array_equal(inside.reshape(mask.shape), mask)
    assert outline.area == mask.sum()
    assert shapely.union_all(list(outline.geoms)).area == mask.sum()


def test_outlines_have_the_scale_of_each_axis():
    mask = np.zeros((4, 6), bool)
    mask[1:3, 2:5] = True
    assert outline_mask(mask, (0.5, 0.1)).bounds == (4, 10, 10, 30)


@settings(max_examples=60, deadline=None)
@given(arrays(np.float32, (7, 11), elements=st.floats(0, 1, width=32)), st.integers(0, 3))
def test_smoothing_is_the_mean_of_the_square_around(values, radius):
    found = smooth(values, radius)
    for y, x in ((0, 0), (3, 5), (6, 10), (6, 4)):
        part = values[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1]
        assert found[y, x] == pytest.approx(part.mean(dtype=float), abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(MASKS, st.integers(0, 3))
def test_growing_closing_and_opening(mask, radius):
    places = np.argwhere(mask)
    y, x = np.indices(mask.shape)
    expected = np.zeros_like(mask)
    for one, other in places.tolist():
        expected |= (abs(y - one) <= radius) & (abs(x - other) <= radius)
    np.testing.assert_array_equal(grow(mask, radius), expected)
    assert (close_mask(mask, radius) >= mask).all()
    assert (open_mask(mask, radius) <= mask).all()
    for change in (close_mask, open_mask):
        once = change(mask, radius)
        np.testing.assert_array_equal(change(once, radius), once)


def test_closing_joins_and_opening_parts():
    mask = np.zeros((9, 20), bool)
    mask[2:7, 2:8] = mask[2:7, 10:16] = True
    assert close_mask(mask, 1)[2:7, 2:16].all()
    mask[4, 8:10] = True
    opened = open_mask(mask, 1)
    assert not opened[4, 8:10].any()
    assert opened[2:7, 2:8].all()
