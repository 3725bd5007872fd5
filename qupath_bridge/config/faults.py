"""Faults of options, in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qupath_bridge.errors import Fault
from qupath_bridge.suggestions import similar_options, similar_value, value_advice

from .declare import choices_of

SHOWN = 100
"""Characters of a wrong value that a message shows."""


def placed(fault: Fault, places: Mapping[str, str]) -> Fault:
    """Return a fault with the group in which its option stands."""
    name, dot, rest = fault.place.partition(".")
    return Fault(places.get(name, name) + dot + rest, fault.problem)


def unknown(name: str, known: Sequence[str]) -> str:
    """Return what is wrong with a name that no option has, with the names that come close."""
    close = " or ".join(similar_options(name, known))
    return "no such option" + (f"; did you mean {close}?" if close else "")


def fault_of(detail: Any, fields: Mapping[str, Any]) -> Fault:
    """Turn one of pydantic's error details about a model of these fields into plain words."""
    place = ".".join(str(part) for part in detail["loc"])
    kind, message, value = detail["type"], detail["msg"], detail.get("input")
    if kind == "extra_forbidden":
        return Fault(place, unknown(place, tuple(fields)))
    if kind == "value_error":
        text = str(detail["ctx"]["error"])
        return Fault(place or text.split(" ", 1)[0], text)
    message = message.removeprefix("Input ").removeprefix("Value ")
    message = message.removesuffix(", unable to parse string as a number")
    message = message.removesuffix(", unable to parse string as an integer")
    return Fault(place, f"{message}, not {_shortened(value)}{_meant(place, kind, value, fields)}")


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _meant(name: str, kind: str, value: object, fields: Mapping[str, Any]) -> str:
    """Return what was likely meant by a value that is not accepted."""
    advice = value_advice(name, value, _ACCEPTED.get(kind, ""))
    if advice is None and name in fields and kind == "literal_error":
        close = similar_value(value, choices_of(fields[name]))
        advice = f"did you mean {close}?" if close else None
    return f"; {advice}" if advice else ""


_ACCEPTED = {
    "literal_error": "choice",
    "int_parsing": "integer",
    "int_from_float": "integer",
    "float_parsing": "number",
}
"""Accepted kind of value by pydantic's name of the error."""
