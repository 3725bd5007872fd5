"""Forms in which a value may be given, and the types of values that several options have."""

from __future__ import annotations

import math
import re
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from qupath_bridge.frozen import FrozenDict
from qupath_bridge.urls import url_of


def as_tuple(value: object) -> object:
    """Let one value stand for a list of one, and "A,B" stay one value."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else value


def as_names(value: object) -> object:
    """Read names, of which a TOML file may give a number as a number."""
    values = as_tuple(value)
    if isinstance(values, int):
        values = (values,)
    if isinstance(values, tuple | list):
        return tuple(as_text(each) for each in values)
    return values


def as_pair(value: object) -> object:
    """Read "X,Y" as two whole numbers."""
    if isinstance(value, str):
        parts = value.split(",")
        if len(parts) != 2:
            raise ValueError("should be two whole numbers, as in 0,0")
        try:
            return tuple(int(part) for part in parts)
        except ValueError:
            raise ValueError("should be two whole numbers, as in 0,0") from None
    return value


def as_planes(value: object) -> object:
    """Read "Z,T", or a list of them, as pairs of whole numbers."""
    if isinstance(value, str):
        return (as_pair(value),)
    if isinstance(value, list | tuple):
        if len(value) == 2 and all(isinstance(part, int) for part in value):
            return (tuple(value),)
        return tuple(as_pair(part) for part in value)
    return value


def _strip(text: str) -> str:
    """Take off plain white space only: a no-break space may be a part of a class name."""
    return text.strip(string.whitespace)


def as_priority(value: object) -> object:
    """Read "A,B" as a list; a class name with a comma needs the list form."""
    if isinstance(value, str):
        return tuple(_strip(part) for part in value.split(",") if _strip(part))
    return value


def as_pairs(value: object) -> object:
    """Read ["A=B", ...] as a mapping; the last ``=`` separates."""
    if isinstance(value, str):
        value = (value,)
    if isinstance(value, list | tuple):
        pairs: dict[str, str] = {}
        for item in value:
            left, sign, right = str(item).rpartition("=")
            left, right = _strip(left), _strip(right)
            if not sign or not left or not right:
                raise ValueError(f"{item!r} is not of the form A=B")
            known = pairs.setdefault(left, right)
            if known != right:
                raise ValueError(f"{left} is given twice: {known} and {right}")
        return pairs
    return value


def as_conditions(value: object) -> object:
    """Read ["A=B", "A=C", ...] or {"A": "B"} as a mapping of names to all their values."""
    if isinstance(value, str):
        value = (value,)
    if isinstance(value, Mapping):
        return {key: as_tuple(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        conditions: dict[str, tuple[str, ...]] = {}
        for item in value:
            left, sign, right = str(item).partition("=")
            if not sign or not left.strip():
                raise ValueError(f"{item!r} is not of the form KEY=VALUE")
            conditions[left.strip()] = (*conditions.get(left.strip(), ()), right.strip())
        return conditions
    return value


def as_unclassified(value: object) -> object:
    """Read {"as": "Label"} as "as=Label"."""
    if isinstance(value, Mapping):
        if set(value) == {"as"}:
            return f"as={value['as']}"
        raise ValueError('the table form has one key, "as"')
    return value


def as_corrections(value: object) -> object:
    """Read the path of a file as its whole path, so that it can be read again elsewhere."""
    if isinstance(value, str | Path) and str(value) not in {"", "auto", "none"}:
        return str(Path(value).absolute())
    return value


def as_references(value: object) -> object:
    """Read the paths of files as whole paths, so that they can be read again elsewhere."""
    texts = as_tuple(value)
    if isinstance(texts, tuple | list) and all(isinstance(each, str | Path) for each in texts):
        return tuple(str(Path(each).absolute()) for each in texts if str(each))
    return texts


def as_text(value: object) -> object:
    """Let a TOML file hold a number where its digits are meant."""
    return str(value) if isinstance(value, int) else value


def as_threshold(value: object) -> object:
    """Read a number from 0 to 1, or "otsu", as text."""
    if value is None or value == "otsu":
        return value
    try:
        number = math.nan if isinstance(value, bool) else float(str(value))
    except ValueError:
        number = math.nan
    if not 0 <= number < 1:
        raise ValueError(f"should be otsu, or a number from 0 to below 1, not {value!r}")
    return repr(number)


Strings = Annotated[tuple[str, ...], BeforeValidator(as_tuple)]
Pairs = Annotated[Mapping[str, str], BeforeValidator(as_pairs), AfterValidator(FrozenDict)]
Limits = Annotated[Mapping[str, float], BeforeValidator(as_pairs), AfterValidator(FrozenDict)]
Conditions = Annotated[
    Mapping[str, tuple[str, ...]], BeforeValidator(as_conditions), AfterValidator(FrozenDict)
]
Share = Annotated[float, Field(ge=0, le=1)]
NO_PAIRS: FrozenDict[str, Any] = FrozenDict()


_UNITS = {
    "": 1,
    "b": 1,
    **{f"{sign}b": 1000 ** (power + 1) for power, sign in enumerate("kmgt")},
    **{f"{sign}ib": 1024 ** (power + 1) for power, sign in enumerate("kmgt")},
}


def parse_bytes(text: str) -> int:
    """Return the bytes that a size names.

    Raises
    ------
    ValueError
        If it is not a size of at least one byte.

    Examples
    --------
    >>> parse_bytes("50GB"), parse_bytes("1.5 GiB")
    (50000000000, 1610612736)
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)\s*", text.lower())
    size = int(float(match[1]) * _UNITS.get(match[2], 0)) if match else 0
    if size < 1:
        raise ValueError(f"{text!r} is not a size; write 50GB, 500MB or 1TB")
    return size


def check_here(place: Path | None) -> Path | None:
    """Return a path that is written or listed on this machine, or raise ValueError for a URL."""
    if place is not None and (url := url_of(place)):
        raise ValueError(f"should be a path of this machine, not {url}")
    return place


Here = Annotated[Path | None, AfterValidator(check_here)]
"""A file or folder of this machine."""


def check_bytes(text: str | None) -> str | None:
    """Return the text of a size, or raise ValueError."""
    if text is not None:
        parse_bytes(text)
    return text
