"""Tables of a TOML file as options, and values that no model may see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from qupath_bridge.errors import Fault

from .faults import unknown

MAX_DEPTH = 4
"""Lists and tables in each other that a value may have; ``plane`` has two."""


def flatten(
    values: Mapping[str, Any], groups: Mapping[str, Sequence[str]]
) -> tuple[dict[str, Any], dict[str, str], list[Fault]]:
    """Lift the tables of a TOML file; a key may stand in its own group or at the top.

    The second value is the place of each key that stands in a group.
    """
    flat: dict[str, Any] = {}
    places: dict[str, str] = {}
    faults = []
    for key, value in values.items():
        # "labels" and "tissue" name a group and an option: a table is the group.
        if key in groups and isinstance(value, Mapping):
            for inner, inner_value in value.items():
                if inner not in groups[key]:
                    faults.append(Fault(f"{key}.{inner}", _misplaced(inner, key, groups)))
                elif inner in values and inner not in groups:
                    faults.append(Fault(f"{key}.{inner}", "is given twice: here and at the top"))
                else:
                    flat[inner] = inner_value
                    places[inner] = f"{key}.{inner}"
        else:
            flat[key] = value
    return flat, places, faults


def _misplaced(name: str, group: str, groups: Mapping[str, Sequence[str]]) -> str:
    """Return what is wrong with an option in a group that does not have it."""
    home = next((other for other, names in groups.items() if name in names), None)
    return f"belongs in [{home}]" if home else unknown(name, groups[group])


def value_faults(
    values: Mapping[str, Any], fields: Mapping[str, Any], *, places: bool
) -> Iterator[Fault]:
    """Yield a fault for each value that must not reach the checks of a model.

    A truth value would be taken as a number there, a deep one exhausts the stack, and text of
    bytes that are not UTF-8 cannot be written into an index. ``places`` says that texts of the
    model are names of files, which may be so.
    """
    for name, value in values.items():
        inside = _look_into(value)
        if inside.depth > MAX_DEPTH:
            yield Fault(name, "nested too deeply")
        elif inside.truth and name in fields and fields[name].annotation is not bool:
            yield Fault(name, "should not be true or false")
        elif inside.undecodable and not places:
            yield Fault(name, "has bytes in it that are not UTF-8 text")


class _Inside(NamedTuple):
    """Facts about a value: it holds a truth value, or text that is not UTF-8; its depth."""

    truth: bool
    undecodable: bool
    depth: int


def _look_into(value: object) -> _Inside:
    stack: list[tuple[Any, int]] = [(value, 0)]
    truth, undecodable, deepest = False, False, 0
    while stack and deepest <= MAX_DEPTH:
        each, depth = stack.pop()
        deepest = max(deepest, depth)
        truth = truth or isinstance(each, bool)
        undecodable = undecodable or (isinstance(each, str) and not _is_unicode(each))
        if isinstance(each, Mapping):
            stack += [(item, depth + 1) for pair in each.items() for item in pair]
        elif isinstance(each, list | tuple):
            stack += [(item, depth + 1) for item in each]
    return _Inside(truth, undecodable, deepest)


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= sign <= "\udfff" for sign in text)
