"""Sites into folds: the best balance that there is, found by SciPy's solver HiGHS.

A unit is in one part; the cost is that of :mod:`.balance`. Folds are interchangeable, so a unit may
open a fold only if an earlier unit opened the one before. Of all solutions of the least cost the
first one is taken: that in which the first unit has the lowest fold, then the second, and so on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qupath_bridge.errors import MissingDependencyError

from .balance import Shares, Weights, cost, relative
from .folding import NEEDED

__all__ = ["best_folds"]

MOST_UNITS = 40
"""Units up to which the best balance is looked for; with more, any good one is about as good."""
_COARSE = 1000
"""Parts of a class that weights are rounded to: larger numbers are not exact in the solver."""
_NODES = 5_000
"""Nodes of the search; a limit of time would not be the same on every machine."""
_DIGITS = 20_000
"""Largest number that stands for the folds of some units: larger ones are not exact enough."""


def best_folds(
    weights: Weights, shares: Shares, order: Sequence[int], *, test: bool
) -> list[int] | None:
    """Return the part of each unit with the least cost; None if it is not found in time.

    Parameters
    ----------
    weights : array, shape (units, classes)
        How many samples of each class a unit has; they count in thousandths of the class.
    shares : Shares
        Of the parts; the first one is the test set, if there is one.
    order : sequence of int
        The units in the order that decides between solutions of equal cost.
    test : bool
        Whether there is a test set.
    """
    if len(weights) > MOST_UNITS:
        return None
    placed = relative(weights, _COARSE)[list(order)]
    problem = _Problem.of(placed, shares, test=test)
    first = problem.solve(problem.distance)
    if first is None:
        return None
    least = cost(_loads(placed, first, len(shares.parts)), placed.sum(axis=0), shares)
    problem.limit(least)
    parts = problem.first_of_equals()
    if parts is None:
        return None
    if cost(_loads(placed, parts, len(shares.parts)), placed.sum(axis=0), shares) > least:
        return None  # the solver rounded too much
    found = [0] * len(parts)
    for position, unit in enumerate(order):
        found[unit] = parts[position]
    return found


def _loads(weights: Weights, parts: Sequence[int], count: int) -> Weights:
    loads = np.zeros((count, weights.shape[1]), np.int64)
    np.add.at(loads, list(parts), weights)
    return loads


@dataclass
class _Problem:
    """The linear program: a 0 or 1 for each unit and part, then a distance per part and class."""

    units: int
    parts: int
    rows: list[NDArray[np.float64]]
    least: list[float]
    most: list[float]
    distance: NDArray[np.float64]
    """The sum of all distances, as an objective."""
    low: NDArray[np.float64] = field(init=False)
    high: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        chosen = np.arange(len(self.distance)) < self.units * self.parts
        self.low = np.zeros(len(self.distance))
        self.high = np.where(chosen, 1.0, np.inf)

    @classmethod
    def of(cls, weights: Weights, shares: Shares, *, test: bool) -> _Problem:
        units, classes = weights.shape
        parts = len(shares.parts)
        chosen, size = units * parts, (units + classes) * parts
        distance = np.zeros(size)
        distance[chosen:] = 1
        problem = cls(units, parts, [], [], [], distance)
        for unit in range(units):  # each unit is in one part
            problem.add(range(unit * parts, (unit + 1) * parts), [1] * parts, 1, 1)
        for part in range(parts):  # no part is empty
            problem.add(range(part, chosen, parts), [1] * units, 1, np.inf)
            for number in range(classes):  # a distance is at least the difference, both ways
                wanted = shares.parts[part] * int(weights[:, number].sum())
                own = [*range(part, chosen, parts), chosen + part * classes + number]
                load = (shares.whole * weights[:, number]).tolist()
                problem.add(own, [*(-value for value in load), 1], -wanted, np.inf)
                problem.add(own, [*load, 1], wanted, np.inf)
        for unit in range(units):  # folds are opened in order
            for part in range(1 + test, parts):
                earlier = range(part - 1, unit * parts, parts)
                own = [unit * parts + part, *earlier]
                problem.add(own, [1, *[-1] * len(earlier)], -np.inf, 0)
        return problem

    def add(self, at: Any, values: Sequence[float], least: float, most: float) -> None:
        """Add a constraint: the sum of some variables, times values, is in a range."""
        row = np.zeros(len(self.distance))
        row[list(at)] = values
        self.rows.append(row)
        self.least.append(least)
        self.most.append(most)

    def limit(self, least: int) -> None:
        """Leave only solutions of the least cost; costs are whole numbers."""
        self.rows.append(self.distance)
        self.least.append(-np.inf)
        self.most.append(least + 0.5)

    def solve(self, objective: NDArray[np.float64]) -> list[int] | None:
        """Return the part of each unit with the least objective; None if that is not proven."""
        try:
            from scipy import optimize, sparse
        except ImportError as error:
            raise MissingDependencyError("Folds need SciPy.", hint=f"{NEEDED}.") from error
        chosen = np.arange(len(objective)) < self.units * self.parts
        found = optimize.milp(
            objective,
            integrality=chosen.astype(np.uint8),
            bounds=optimize.Bounds(self.low, self.high),
            constraints=optimize.LinearConstraint(
                sparse.csr_array(np.array(self.rows)), self.least, self.most
            ),
            options={"mip_rel_gap": 0, "node_limit": _NODES},
        )
        if found.status != 0:
            return None
        values = np.rint(found.x[: self.units * self.parts]).reshape(self.units, self.parts)
        return [int(part) for part in values.argmax(axis=1)]

    def first_of_equals(self) -> list[int] | None:
        """Return the solution whose first unit has the lowest part, then the second, and so on."""
        step = 1
        while self.parts ** (step + 1) <= _DIGITS:
            step += 1
        parts: list[int] | None = None
        for start in range(0, self.units, step):
            units = range(start, min(start + step, self.units))
            objective = np.zeros(len(self.distance))
            for digit, unit in enumerate(reversed(units)):
                objective[self._places(unit)] = np.arange(self.parts) * self.parts**digit
            parts = self.solve(objective)
            if parts is None:
                return None
            for unit in units:
                fixed = np.arange(self.parts) == parts[unit]
                self.low[self._places(unit)] = self.high[self._places(unit)] = fixed
        return parts

    def _places(self, unit: int) -> slice:
        return slice(unit * self.parts, (unit + 1) * self.parts)
