"""Values in the properties of a feature, read as QuPath reads them.

What QuPath ignores is ignored, and what it converts is converted: names that are numbers, flags
that are texts. Colours never lose an object: those that cannot be read are left out.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from qupath_bridge.frozen import FrozenDict
from qupath_bridge.model import FIRST_PLANE, Plane
from qupath_bridge.qupath.files.classes import pack_rgb

__all__ = [
    "read_color",
    "read_flag",
    "read_measurements",
    "read_metadata",
    "read_object",
    "read_plane",
    "read_text",
]

MAX_INDEX = (1 << 31) - 1
"""Largest plane: QuPath counts with 32 bits."""

_HEX = re.compile(r"#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})")
_INT = re.compile(r"[+-]?[0-9]{1,10}")
_DOUBLE = re.compile(r"[+-]?(NaN|Infinity|([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?)([fFdD]?)")
_SPECIAL = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def read_object(raw: Any, what: str) -> dict[str, Any]:
    """Return a JSON object.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    if not isinstance(raw, dict):
        raise ValueError(f"{what}: expected an object, not {_kind(raw)}")
    return raw


def read_text(raw: Any, what: str) -> str:
    """Return a text; numbers and truth values become one, also alone in a list, as in QuPath.

    >>> read_text(5, "name"), read_text(True, "name"), read_text(["a"], "name")
    ('5', 'true', 'a')

    Raises
    ------
    ValueError
        For null, objects, and lists of several.
    """
    if isinstance(raw, list) and len(raw) == 1:
        raw = raw[0]
    if isinstance(raw, str):
        return raw
    if isinstance(raw, int | float):
        return json.dumps(raw)
    raise ValueError(f"{what}: expected text, not {_kind(raw)}")


def read_flag(raw: Any) -> bool:
    """Return whether a value is true, or the text "true" in any case."""
    return raw is True or (isinstance(raw, str) and raw.lower() == "true")


def read_color(raw: Any) -> int | None:
    """Return a packed colour; None if there is none, or none that can be read.

    Red, green and blue may be whole numbers, fractions (which are cut off, as in QuPath), or
    texts of whole numbers; one number is a packed colour, and ``#rrggbb`` is known too.

    >>> read_color([255.0, 0, 0]) == read_color("#ff0000") == read_color(-65536)
    True
    >>> read_color("red"), read_color([1, 2])
    (None, None)
    """
    try:
        if isinstance(raw, list):
            return pack_rgb(*(_whole(part) & 255 for part in raw[:3])) if len(raw) > 2 else None
        if isinstance(raw, str) and (match := _HEX.fullmatch(raw)):
            return pack_rgb(*(int(part, 16) for part in match.groups()))
        return (_whole(raw) + (1 << 31)) % (1 << 32) - (1 << 31)
    except ValueError:
        return None


def read_measurements(raw: Any) -> Mapping[str, float]:
    """Return measurements of all versions; what QuPath ignores is left out.

    Raises
    ------
    ValueError
        If a text is not a number, or a list has anything but a name and a value.
    """
    if isinstance(raw, list):  # 0.2 and 0.3
        return FrozenDict(_listed(raw))
    return FrozenDict(_mapped(raw) if isinstance(raw, dict) else {})


def read_metadata(raw: Any) -> Mapping[str, str]:
    """Return texts, and numbers and truth values as texts; QuPath drops the rest."""
    pairs = raw.items() if isinstance(raw, dict) else ()
    return FrozenDict(
        {key: read_text(value, key) for key, value in pairs if isinstance(value, str | int | float)}
    )


def read_plane(raw: Any) -> tuple[int, Plane]:
    """Return channel and plane; fractions are cut off, and texts of whole numbers are known.

    Raises
    ------
    ValueError
        If QuPath refuses it: below 0 (the channel: below -1), or not numbers.
    """
    if raw is None:
        return -1, FIRST_PLANE
    raw = read_object(raw, "plane")
    try:
        c, z, t = _whole(raw.get("c", -1)), _whole(raw.get("z", 0)), _whole(raw.get("t", 0))
    except ValueError as error:
        raise ValueError(f"plane: {error}") from error
    if c < -1 or min(z, t) < 0 or max(c, z, t) > MAX_INDEX:
        raise ValueError(f"plane: expected whole numbers from 0 to {MAX_INDEX}, not {raw!r}")
    return c, Plane(z, t)


def _whole(raw: Any) -> int:
    """Return a whole number as Java makes it of a number or a text."""
    if isinstance(raw, str) and _INT.fullmatch(raw):
        return int(raw)
    if isinstance(raw, int | float) and not isinstance(raw, bool) and math.isfinite(raw):
        return int(raw)
    raise ValueError(f"expected a whole number, not {raw!r}")


def _listed(raw: list[Any]) -> Iterator[tuple[str, float]]:
    for each in raw:
        member = read_object(each, "measurement")
        if "name" not in member:
            raise ValueError("measurements: one has no name")
        value = member.get("value")
        if value is not None:
            name = read_text(member["name"], "measurements")
            yield name, _double(name, value)


def _mapped(raw: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in raw.items():
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            yield name, _double(name, value)


def _double(name: str, value: Any) -> float:
    """Return a number as Java makes it: of a number, or of a text."""
    if isinstance(value, str):
        text = value.strip()
        match = _DOUBLE.fullmatch(text)
        if text.lower() in _SPECIAL:
            return _SPECIAL[text.lower()]
        if match:
            return float(text.removesuffix(match[4]) if match[4] else text)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    raise ValueError(f"measurements: {name} is {value!r}, not a number")


def _kind(raw: Any) -> str:
    return "null" if raw is None else type(raw).__name__
