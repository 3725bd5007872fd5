"""Numbers made of predictions: softmax, rank, and how hard a patch is. Pure functions on arrays.

NaN stands for no prediction, and stays NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from qupath_bridge.errors import UsageError

__all__ = ["by_group", "hardest", "probabilities", "rank", "softmax", "uncertainty"]

FloatArray = NDArray[np.float64]

_TOLERANCE = 0.01
"""Distance from 1 that probabilities may add up to; models often use 16 bits."""


def softmax(values: FloatArray) -> FloatArray:
    """Return the softmax of the patches of one slide: positive numbers that add up to 1.

    Parameters
    ----------
    values : array, shape (N,)
        Scores before a softmax, such as raw attention.

    Examples
    --------
    >>> softmax(np.array([0.0, 0.0, np.nan])).tolist()
    [0.5, 0.5, nan]
    """
    known = ~np.isnan(values)
    if not known.any():
        return values.copy()
    powers = np.exp(values - values[known].max())
    return np.asarray(powers / powers[known].sum())


def rank(values: FloatArray) -> FloatArray:
    """Return the share of the other patches of a slide that have a lower value.

    The lowest value has 0, the highest 1; equal values share the mean of their places. A patch that
    is the only one has 1.

    Examples
    --------
    >>> rank(np.array([5.0, 1.0, 3.0, 3.0, np.nan])).tolist()
    [1.0, 0.0, 0.5, 0.5, nan]
    """
    known = ~np.isnan(values)
    result = np.full(len(values), np.nan)
    number = int(known.sum())
    if number == 1:
        result[known] = 1.0
    if number > 1:
        _, places, counts = np.unique(values[known], return_inverse=True, return_counts=True)
        lower = np.cumsum(counts) - counts
        result[known] = (lower[places] + (counts[places] - 1) / 2) / (number - 1)
    return result


def by_group(
    function: Callable[[FloatArray], FloatArray], values: FloatArray, groups: NDArray[np.int64]
) -> FloatArray:
    """Return what a function makes of the values of each group; NaN where the group is below 0.

    Parameters
    ----------
    function : callable
        Takes and returns the values of one group.
    values, groups : array, shape (N,)
    """
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]][: len(ordered)])
    result = np.full(len(values), np.nan)
    for rows in np.split(order, starts[1:]):
        if len(rows) and groups[rows[0]] >= 0:
            result[rows] = function(values[rows])
    return result


def probabilities(values: FloatArray) -> FloatArray:
    """Return class probabilities as two columns or more.

    Parameters
    ----------
    values : array, shape (N, K)
        Probabilities of K classes; of one column, that of one class against all others.

    Raises
    ------
    UsageError
        If they are not between 0 and 1, or do not add up to 1.
    """
    if values.shape[1] == 1:
        values = np.hstack([values, 1 - values])
    sums = values.sum(axis=1)
    known = ~np.isnan(sums)
    inside = (values[known] >= -_TOLERANCE) & (values[known] <= 1 + _TOLERANCE)
    bad = ~inside.all(axis=1) | (np.abs(sums[known] - 1) > _TOLERANCE)
    if bad.any() or not known.any():
        found = f", as {values[known][bad][0].tolist()}" if bad.any() else ": all are missing"
        raise UsageError(
            f"Hard patches are found by class probabilities, and these columns have none{found}.",
            hint="Name the columns with probabilities, which add up to 1 in each row; "
            "a softmax over the classes makes them.",
        )
    return values.clip(0, 1)


def uncertainty(values: FloatArray, by: str) -> FloatArray:
    """Return how uncertain each patch is; the larger, the less certain.

    Parameters
    ----------
    values : array, shape (N, K)
        Probabilities of at least two classes.
    by : str
        ``entropy``, from 0 to 1; or ``margin``, 1 less the distance of the two most likely classes.

    Examples
    --------
    >>> certain, unsure = [1.0, 0.0], [0.5, 0.5]
    >>> uncertainty(np.array([certain, unsure]), "entropy").tolist()
    [0.0, 1.0]
    >>> uncertainty(np.array([certain, [0.75, 0.25]]), "margin").tolist()
    [0.0, 0.5]
    """
    if by == "margin":
        ordered = np.sort(values, axis=1)
        return np.asarray(1 - (ordered[:, -1] - ordered[:, -2]))
    logs = np.log(np.where(values == 0, 1, values))  # 0 log 0 is 0
    return np.asarray(-(values * logs).sum(axis=1) / np.log(values.shape[1]) + 0.0)


def hardest(scores: FloatArray, number: int, order: Sequence[int] | NDArray[np.int64]) -> list[int]:
    """Return the rows with the highest scores, highest first.

    Parameters
    ----------
    scores : array, shape (N,)
        NaN is left out.
    number : int
        Rows that are returned at most.
    order : sequence of int, shape (N,)
        Decides between equal scores: the lower one comes first.

    Examples
    --------
    >>> hardest(np.array([0.1, 0.9, np.nan, 0.9]), 2, [0, 5, 2, 3])
    [3, 1]
    """
    rows = np.flatnonzero(~np.isnan(scores))
    places = np.lexsort((np.asarray(order)[rows], -scores[rows]))
    return [int(row) for row in rows[places[:number]]]
