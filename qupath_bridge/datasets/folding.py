"""Units into folds, by scikit-learn; those of a test set first."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from qupath_bridge.errors import MissingDependencyError, UsageError
from qupath_bridge.frozen import count

from .balance import Shares, Weights, placing_order

__all__ = ["NEEDED", "plain_folds"]

NEEDED = "pip install 'qupath-bridge[folds]'"
_MOST = 1_000_000
"""Samples that scikit-learn is given: its time grows with their number."""


def plain_folds(
    names: Sequence[str], weights: Weights, shares: Shares, *, test: bool, seed: int
) -> list[int]:
    """Return the part of each unit, as ``StratifiedGroupKFold`` finds it.

    Parameters
    ----------
    names : sequence of str
    weights : array, shape (units, classes)
        How many samples of each class a unit has.
    shares : Shares
        Of the parts; the first one is the test set, if there is one.
    test : bool
        Whether there is one.
    seed : int

    Raises
    ------
    UsageError
        If no class has as many samples as there are folds, or the test set leaves too few units.
    """
    order = placing_order(names, weights, seed)
    if not test:
        return _assigned(weights, order, len(shares.parts))
    largest = min(len(names), int(weights.sum(axis=0).max()), shares.whole)
    share = Fraction(shares.parts[0], shares.whole).limit_denominator(largest)
    share = max(share, Fraction(1, largest))
    held_out = _nearest(_assigned(weights, order, share.denominator), weights, share)
    rest = [unit for unit in order if unit not in held_out]
    folds = len(shares.parts) - 1
    if len(rest) < folds:
        raise UsageError(
            f"The test set takes {len(order) - len(rest)} of {count(len(order), 'group')}, and "
            f"leaves {len(rest)} for {count(folds, 'fold')}.",
            hint="Use a smaller test set, or fewer folds.",
        )
    parts = [0] * len(names)
    for unit, fold in zip(rest, _assigned(weights[rest], range(len(rest)), folds), strict=True):
        parts[unit] = fold + 1
    return parts


def _nearest(found: Sequence[int], weights: Weights, share: Fraction) -> set[int]:
    """Return the units of those neighbouring folds that are nearest to a share of each class."""
    folds, wanted = share.denominator, share.numerator
    loads = np.zeros((folds, weights.shape[1]), np.int64)
    np.add.at(loads, list(found), weights)
    totals = loads.sum(axis=0)
    choices = [[(start + n) % folds for n in range(wanted)] for start in range(folds)]
    distances = [
        int(np.abs(folds * loads[chosen].sum(axis=0) - wanted * totals).sum()) for chosen in choices
    ]
    chosen = choices[distances.index(min(distances))]
    return {unit for unit, fold in enumerate(found) if fold in chosen}


def _assigned(weights: Weights, order: Sequence[int], folds: int) -> list[int]:
    """Return the fold of each unit.

    scikit-learn keeps the order of units that it finds equal, so it is not asked to shuffle:
    what it draws depends on all units, and sorts of other machines break ties in other ways.
    """
    try:
        from sklearn.model_selection import StratifiedGroupKFold
    except ImportError as error:
        raise MissingDependencyError("Folds need scikit-learn.", hint=f"{NEEDED}.") from error
    placed = _bounded(weights[list(order)])
    most = int(placed.sum(axis=0).max())
    if most < folds:
        raise UsageError(
            f"No class has enough samples for {count(folds, 'fold')}: the largest has {most}.",
            hint="Use fewer folds, or leave stratify out.",
        )
    units, classes = np.indices(placed.shape)
    times = placed.ravel()
    groups, labels = np.repeat(units.ravel(), times), np.repeat(classes.ravel(), times)
    found = [0] * len(weights)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with few samples: told by the caller
        kept = StratifiedGroupKFold(folds).split(labels, labels, groups)
        for fold, (_, members) in enumerate(kept):
            for unit in np.unique(groups[members]):
                found[order[unit]] = fold
    return found


def _bounded(weights: Weights) -> Weights:
    """Return weights with at most about :data:`_MOST` samples; none becomes 0."""
    total = int(weights.sum())
    if total <= _MOST:
        return weights
    scaled: Weights = -(-weights * _MOST // total)
    return scaled
