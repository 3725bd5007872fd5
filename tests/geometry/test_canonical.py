"""The 0.01 px grid, against exact arithmetic."""

import math
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qupath_bridge.geometry.canonical import GRID, round_coordinates


@given(st.lists(st.floats(-1e6, 1e6), max_size=20))
def test_round_coordinates_rounds_halves_up(values):
    rounded = round_coordinates(values)
    for value, found in zip(values, rounded.tolist(), strict=True):
        step = math.floor(value * 100 + 0.5)  # the rule, in the arithmetic that JTS uses
        assert found == step / 100
        assert abs(Fraction(found) - Fraction(value)) <= Fraction(1, 200) + Fraction(1, 10**8)
    assert (round_coordinates(rounded) == rounded).all()


def test_round_coordinates_keeps_shape_and_returns_floats():
    points = np.array([[1, 2], [3, 4]], dtype=np.int32)
    rounded = round_coordinates(points)
    assert (rounded.shape, rounded.dtype) == ((2, 2), np.float64)
    assert GRID == 0.01


def test_round_coordinates_does_not_change_its_argument():
    values = np.array([0.123])
    round_coordinates(values)
    assert values[0] == 0.123


def test_round_coordinates_keeps_nan_and_infinity():
    rounded = round_coordinates([math.nan, math.inf, -math.inf])
    assert math.isnan(rounded[0])
    assert rounded[1:].tolist() == [math.inf, -math.inf]
