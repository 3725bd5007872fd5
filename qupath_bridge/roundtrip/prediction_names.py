"""Names of predictions, and of the measurements by which QuPath's tiles show them."""

from __future__ import annotations

from array import array
from collections.abc import Mapping

from qupath_bridge.errors import UsageError
from qupath_bridge.frozen import CONTROLS

__all__ = [
    "HARD",
    "MAX_NAME",
    "PREDICTED",
    "check_name",
    "measurement_name",
    "name_problem",
    "predictions_of",
    "same_numbers",
]

PREDICTED = "qb pred "
"""Beginning of the names of all measurements of predictions."""

HARD = "hard"
"""Name after that of the predictions: the place, from 1, of a tile among the hard ones."""

MAX_NAME = 100
"""Characters of the name of a measurement. QuPath shows it in one line of a list."""

_LONGEST = 40


def check_name(name: str) -> None:
    """Refuse a name of predictions that a list in QuPath would not show well.

    Raises
    ------
    UsageError
    """
    if not name.strip() or name != name.strip() or ":" in name or CONTROLS.search(name):
        problem = "is empty, or has a colon, a line break, or spaces around it"
    elif len(name) > _LONGEST:
        problem = f"has {len(name)} characters, more than {_LONGEST}"
    else:
        return
    raise UsageError(f"The name {name!r} {problem}.", hint="Use a short name, such as cnn-2.")


def measurement_name(name: str, column: str) -> str:
    """Return the name of the measurement of a column.

    >>> measurement_name("cnn", "Tumor")
    'qb pred cnn: Tumor'
    """
    return f"{PREDICTED}{name}: {column}"


def name_problem(measurement: str) -> str | None:
    """Return why QuPath cannot show a name of a measurement well; None if it can."""
    if CONTROLS.search(measurement):
        return "has a line break or another control character"
    if len(measurement) > MAX_NAME:
        return f"has {len(measurement)} characters, more than {MAX_NAME}"
    return None


def predictions_of(measurements: Mapping[str, float], name: str | None = None) -> dict[str, float]:
    """Return the predictions among measurements: those of one name, or all."""
    beginning = PREDICTED if name is None else measurement_name(name, "")
    return {key: value for key, value in measurements.items() if key.startswith(beginning)}


def same_numbers(first: Mapping[str, float], second: Mapping[str, float]) -> bool:
    """Return whether two mappings are equal as QuPath stores numbers, with 32 bits."""
    return first.keys() == second.keys() and (
        array("f", first.values()) == array("f", [second[name] for name in first])
    )
