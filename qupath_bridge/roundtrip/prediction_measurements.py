"""Measurements made of a table of predictions: their names, kinds and numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qupath_bridge.errors import UsageError
from qupath_bridge.sources.table_files import listed

from .prediction_names import HARD, measurement_name, name_problem
from .prediction_table import PredictionTable
from .prediction_values import by_group, hardest, probabilities, rank, softmax, uncertainty

__all__ = [
    "MAX_MEASUREMENTS",
    "Column",
    "Hard",
    "check_columns",
    "columns_of",
    "find_hard",
    "hard_column",
]

FloatArray = NDArray[np.float64]
Kind = Literal["raw", "softmax", "rank", "class", "hard"]

_ADDED: Mapping[Kind, Callable[[FloatArray], FloatArray]] = {"softmax": softmax, "rank": rank}
"""Functions whose values can be shown beside a number: of the patches of one slide."""

MAX_MEASUREMENTS = 100
"""Measurements of all predictions of a run: QuPath shows them in one list, and reads each tile."""


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """One measurement: of each row of the table the number, NaN for none."""

    measurement: str
    column: str
    kind: Kind
    values: FloatArray


@dataclass(frozen=True, slots=True)
class Hard:
    """The hard patches: rows, hardest first, and how hard each is."""

    by: str
    rows: tuple[int, ...]
    scores: tuple[float, ...]


def columns_of(
    table: PredictionTable, name: str, groups: NDArray[np.int64], add: Collection[str] = ()
) -> list[Column]:
    """Return the measurements of a table.

    Numbers stay as they are. A column of texts becomes one measurement per class: 1 where the row
    has it, else 0.

    Parameters
    ----------
    table : PredictionTable
    name : str
        Of the predictions.
    groups : array, shape (N,)
        The slide of each row; -1 for a row that is not taken.
    add : collection of str
        ``softmax`` and ``rank`` of each number among the patches of its slide.

    Raises
    ------
    UsageError
        If there is nothing to add to, or names are too long or there twice.
    """
    unknown = [each for each in add if each not in _ADDED]
    if unknown:
        raise UsageError(
            f"Nothing called {unknown[0]!r} can be added.", hint="softmax or rank can."
        )
    if add and not table.numbers:
        raise UsageError(
            f"{table.source}: no column of numbers, of which there could be {' and '.join(add)}."
        )
    made = [*_numbers(table, name, groups, add), *_classes(table, name)]
    check_columns([each.measurement for each in made])
    return made


def check_columns(measurements: Sequence[str]) -> None:
    """Refuse names of measurements that QuPath would not show well, or that are there twice.

    Raises
    ------
    UsageError
    """
    faults = [f"{each!r} {problem}" for each in measurements if (problem := name_problem(each))]
    twice = [each for each, number in Counter(measurements).items() if number > 1]
    faults += [f"{each!r} would be there twice" for each in twice]
    if faults:
        raise UsageError(
            listed("Measurements cannot be named so", faults),
            hint="Give the columns other names, or take others.",
        )


def _numbers(
    table: PredictionTable, name: str, groups: NDArray[np.int64], add: Collection[str]
) -> Iterator[Column]:
    for column, values in table.numbers.items():
        measurement = measurement_name(name, column)
        yield Column(measurement, column, "raw", values)
        for kind, function in _ADDED.items():
            if kind in add:
                made = by_group(function, values, groups)
                yield Column(f"{measurement} {kind}", column, kind, made)


def _classes(table: PredictionTable, name: str) -> Iterator[Column]:
    for column, classes in table.classes.items():
        for code, each in enumerate(classes.names):
            values = np.where(classes.codes < 0, np.nan, classes.codes == code)
            yield Column(measurement_name(name, f"{column} = {each}"), column, "class", values)


# --- the hard ones --------------------------------------------------------------------------------


def find_hard(
    table: PredictionTable,
    number: int,
    by: str,
    labels: Collection[str],
    truth: Sequence[str | None],
    order: NDArray[np.int64],
) -> Hard:
    """Return the patches of which the model is least certain, or that it has most wrong.

    Parameters
    ----------
    table : PredictionTable
    number : int
    by : str
        ``entropy`` or ``margin`` of the probabilities of classes; ``wrong``: 1 less the probability
        of the patch's label.
    labels : collection of str
        Labels of the run. Columns of their names have the probabilities; where fewer than two
        have, it is all columns of numbers, and one column stands for one class against all others.
    truth : sequence of str or None
        Label of each row's patch.
    order : array, shape (N,)
        Decides between equal ones; below 0 for rows that are not taken.

    Raises
    ------
    UsageError
        If there are no such columns, or they hold something else.
    """
    if by not in ("entropy", "margin", "wrong"):
        raise UsageError(
            f"Patches are not hard by {by!r}.", hint="By entropy, margin or wrong they can be."
        )
    named = [each for each in table.numbers if each in labels]
    if by == "wrong" and not named:
        raise UsageError(
            f"{table.source}: no column of numbers is called as a label of the run, which are "
            f"{', '.join(labels) or 'none'}.",
            hint="Name each column of probabilities as its label, or find hard ones by entropy.",
        )
    chosen = named if len(named) > 1 or by == "wrong" else list(table.numbers)
    if not chosen:
        raise UsageError(
            f"{table.source}: hard patches are found by class probabilities, and no column has "
            "numbers."
        )
    values = np.column_stack([table.numbers[each] for each in chosen])
    values[order < 0] = np.nan
    scores = (
        1 - _of_label(probabilities(values), chosen, truth)
        if by == "wrong"
        else uncertainty(probabilities(values), by)
    )
    rows = hardest(scores, number, order)
    return Hard(by, tuple(rows), tuple(float(scores[row]) for row in rows))


def _of_label(
    values: FloatArray, columns: Sequence[str], truth: Sequence[str | None]
) -> FloatArray:
    """Return the probability of each row's label; NaN where no column has it."""
    places = {column: place for place, column in enumerate(columns)}
    codes = np.array([places.get(label or "", -1) for label in truth], np.int64)
    found = values[np.arange(len(values)), codes]
    return np.where(codes < 0, np.nan, found)


def hard_column(name: str, rows: int, hard: Hard) -> Column:
    """Return the measurement that numbers the hard patches from 1."""
    values = np.full(rows, np.nan)
    values[list(hard.rows)] = np.arange(1, len(hard.rows) + 1)
    return Column(measurement_name(name, HARD), HARD, "hard", values)
