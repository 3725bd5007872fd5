"""Balance of folds: how far the parts of a split are from their shares of each class.

Weights are whole numbers, so that every machine decides the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

import numpy as np
import xxhash
from numpy.typing import NDArray

__all__ = ["FINE", "Shares", "Weights", "cost", "fill", "placing_order", "relative"]

Weights: TypeAlias = NDArray[np.int64]
"""Whole numbers, shape (units, classes)."""

FINE = 1_000_000
"""Parts of a class that weights are rounded to."""
_SWAPPED = 100
"""Units up to which pairs are swapped; with more, moving them one by one balances well."""
_FINEST = 20
"""Largest denominator of the share of the test set."""


@dataclass(frozen=True, slots=True)
class Shares:
    """The share of each class that each part of a split should have, as whole numbers.

    Part ``b`` should have ``parts[b] / whole`` of each class; a test set is the first part.
    """

    parts: tuple[int, ...]
    whole: int

    @classmethod
    def of(cls, folds: int, test: float | None) -> Shares:
        """Return equal shares for folds, beside a test set.

        >>> Shares.of(4, 0.2)
        Shares(parts=(4, 4, 4, 4, 4), whole=20)
        """
        if test is None:
            return cls((1,) * folds, folds)
        share = Fraction(test).limit_denominator(_FINEST)
        rest = share.denominator - share.numerator
        return cls((share.numerator * folds, *[rest] * folds), share.denominator * folds)


def relative(weights: Weights, whole: int = FINE) -> Weights:
    """Return weights as parts of a whole of each class, rounded.

    >>> relative(np.array([[1, 30], [2, 10]]), 1000).tolist()
    [[333, 750], [667, 250]]
    """
    totals = np.maximum(weights.sum(axis=0), 1)
    scaled: Weights = (2 * whole * weights + totals) // (2 * totals)
    return scaled


def cost(loads: Weights, totals: Weights, shares: Shares) -> int:
    """Return how far loads (parts, classes) are from their shares: the sum over all."""
    wanted = np.array(shares.parts)[:, None] * totals
    return int(np.abs(shares.whole * loads - wanted).sum())


def placing_order(names: Sequence[str], weights: Weights, seed: int) -> list[int]:
    """Return the order in which units are placed: large ones first.

    The seed shuffles units whose sizes are within a factor of two. Each unit's place in the
    shuffle depends on its own name, whatever others there are.
    """
    sizes = weights.sum(axis=1).tolist()
    rank = [
        (-size.bit_length(), _shuffled(seed, name)) for size, name in zip(sizes, names, strict=True)
    ]
    return sorted(range(len(names)), key=rank.__getitem__)


def _shuffled(seed: int, name: str) -> tuple[int, str]:
    return xxhash.xxh3_64_intdigest(f"{seed}|{name}".encode()), name


def fill(
    weights: Weights, shares: Shares, order: Sequence[int], loads: Weights | None = None
) -> list[int]:
    """Return the part of each unit: placed one by one, then moved and swapped while that helps.

    Parameters
    ----------
    weights : array, shape (units, classes)
    shares : Shares
    order : sequence of int
        The units in the order in which they are placed.
    loads : array, shape (parts, classes), optional
        What the parts have already, and keep.
    """
    count = len(shares.parts)
    start = np.zeros((count, weights.shape[1]), np.int64) if loads is None else loads
    totals = start.sum(axis=0) + weights.sum(axis=0)
    parts = [-1] * len(weights)
    held = start.copy()
    for unit in order:
        costs = [_after(held, totals, shares, [(b, weights[unit])]) for b in range(count)]
        parts[unit] = costs.index(min(costs))
        held[parts[unit]] += weights[unit]
    while _improve(parts, held, weights, totals, shares, order):
        pass
    return parts


def _after(
    held: Weights, totals: Weights, shares: Shares, added: Sequence[tuple[int, Weights]]
) -> int:
    """Return the cost once some weights were added to parts."""
    changed = held.copy()
    for part, weight in added:
        changed[part] += weight
    return cost(changed, totals, shares)


def _improve(
    parts: list[int],
    held: Weights,
    weights: Weights,
    totals: Weights,
    shares: Shares,
    order: Sequence[int],
) -> bool:
    """Carry out each move and swap that lowers the cost; return whether there was any."""
    now = before = cost(held, totals, shares)
    for position, unit in enumerate(order):
        own = weights[unit]
        for there in range(len(shares.parts)):
            here = parts[unit]
            moved = _after(held, totals, shares, [(here, -own), (there, own)])
            if moved < now:
                held[here] -= own
                held[there] += own
                parts[unit], now = there, moved
        for other in order[position + 1 :] if len(order) <= _SWAPPED else ():
            here, there, more = parts[unit], parts[other], weights[other] - own
            swapped = _after(held, totals, shares, [(here, more), (there, -more)])
            if here != there and swapped < now:
                held[here] += more
                held[there] -= more
                parts[unit], parts[other], now = there, here, swapped
    return now < before
