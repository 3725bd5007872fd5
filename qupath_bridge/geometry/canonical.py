"""Canonical coordinates: the 0.01 px grid on which QuPath itself compares and exports shapes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from qupath_bridge.model import FloatArray

__all__ = ["GRID", "round_coordinates"]

GRID = 0.01
"""Step of the grid, pixels."""

_SCALE = 100.0


def round_coordinates(coordinates: ArrayLike) -> FloatArray:
    """Round coordinates to the 0.01 px grid with the rule of JTS, the library under QuPath.

    Parameters
    ----------
    coordinates : array of numbers, any shape, pixels

    Returns
    -------
    array, same shape, float64, pixels
        ``floor(v * 100 + 0.5) / 100``: halves round up, also below zero. NaN and infinities are
        kept.

    Notes
    -----
    Rounding twice changes nothing. NumPy's own ``round`` differs: it rounds halves to even.

    Examples
    --------
    >>> round_coordinates([0.125, 0.375, -0.125, 265.125]).tolist()
    [0.13, 0.38, -0.12, 265.13]
    >>> round_coordinates([]).shape
    (0,)
    """
    rounded = np.array(coordinates, dtype=np.float64)
    rounded *= _SCALE
    rounded += 0.5
    np.floor(rounded, out=rounded)
    rounded /= _SCALE
    return rounded
