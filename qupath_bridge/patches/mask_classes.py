"""Values of labels in masks, and their colours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qupath_bridge.errors import UsageError

__all__ = [
    "BACKGROUND",
    "IGNORED",
    "MaskClass",
    "classes_json",
    "classes_record",
    "number_classes",
    "palette_of",
    "read_classes",
]

BACKGROUND = 0
"""Value of a pixel that no region of a label holds."""

IGNORED = 255
"""Value of a pixel that says nothing: in an excluded region, or outside the image."""

_GROUND, _VOID = (0, 0, 0), (255, 255, 255)


class MaskClass(NamedTuple):
    """A label, its value in masks, and the colour in which people see it."""

    label: str
    value: int
    color: tuple[int, int, int]


def number_classes(
    colors: Mapping[str, tuple[int, int, int]], known: Iterable[MaskClass] = ()
) -> tuple[MaskClass, ...]:
    """Give each label a value from 1 on, by code point; those that have one keep it.

    Parameters
    ----------
    colors : mapping of str to (int, int, int)
        The labels and their colours.
    known : iterable of MaskClass
        From an earlier export into the same place; they stay, with their colours.

    Raises
    ------
    UsageError
        If there are more labels than values.

    Examples
    --------
    >>> tumor = number_classes({"Tumor": (200, 0, 0)})
    >>> [(one.label, one.value) for one in number_classes({"Stroma": (0, 200, 0)}, tumor)]
    [('Tumor', 1), ('Stroma', 2)]
    """
    classes = list(known)
    used = {each.label for each in classes}
    free = max((each.value for each in classes), default=BACKGROUND) + 1
    new = [label for label in sorted(colors) if label not in used]
    if free + len(new) > IGNORED:
        raise UsageError(
            f"A mask has values for {IGNORED - 1} labels, and there are {len(used) + len(new)}.",
            hint="Give several classes one label with the options map or rollup.",
        )
    numbered = (MaskClass(label, free + k, colors[label]) for k, label in enumerate(new))
    return (*classes, *numbered)


def palette_of(classes: Iterable[MaskClass]) -> NDArray[np.uint8]:
    """Return the colour of each value, shape (256, 3): background black, ignored white."""
    palette = np.zeros((256, 3), np.uint8)
    palette[BACKGROUND], palette[IGNORED] = _GROUND, _VOID
    for each in classes:
        palette[each.value] = each.color
    return palette


def classes_record(classes: Sequence[MaskClass]) -> dict[str, Any]:
    """Return what ``classes.json`` says: the value and colour of each label, and the other values.

    >>> classes_record([MaskClass("Tumor", 1, (200, 0, 0))])["classes"]
    {'Tumor': 1}
    """
    return {
        "classes": {each.label: each.value for each in classes},
        "colors": {each.label: list(each.color) for each in classes},
        "background": BACKGROUND,
        "ignored": IGNORED,
    }


def classes_json(classes: Iterable[MaskClass]) -> list[dict[str, Any]]:
    """Return classes as JSON values, which :func:`read_classes` reads."""
    return [{**each._asdict(), "color": list(each.color)} for each in classes]


def read_classes(values: Iterable[Mapping[str, Any]]) -> tuple[MaskClass, ...]:
    """Return the classes of :func:`classes_json`."""
    return tuple(MaskClass(one["label"], one["value"], tuple(one["color"])) for one in values)
