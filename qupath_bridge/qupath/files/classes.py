"""QuPath's classes as texts, and its colours as numbers."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from qupath_bridge.model import CLASS_SEPARATOR, ClassInfo, PathObject

__all__ = [
    "class_colors",
    "class_from_json",
    "class_from_names",
    "class_from_text",
    "class_path",
    "class_problem",
    "default_rgb",
    "label_color",
    "normal_class_path",
    "pack_rgb",
    "split_class",
    "strip_name",
    "unpack_rgb",
]

_QUPATH_COLORS = {
    "Tumor": (200, 0, 0),
    "Stroma": (150, 200, 150),
    "Immune cells": (160, 90, 160),
    "Necrosis": (50, 50, 50),
    "Other": (255, 200, 0),
    "Region*": (0, 0, 180),
    "Ignore*": (180, 180, 180),
    "Positive": (200, 50, 50),
    "Negative": (90, 90, 180),
}
"""Colours of the classes in a new QuPath project."""


PALETTE = (
    (31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189),
    (140, 86, 75), (227, 119, 194), (188, 189, 34), (23, 190, 207),
)  # fmt: skip
"""Colours for labels without a class in the project."""


WHITESPACE = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2008\u2009\u200a"
    "\u2028\u2029\u205f\u3000"
)
"""Signs that QuPath takes off both ends of a name: Java's white space.

Python's own ``strip`` takes off more: a no-break space is a part of a name for QuPath.
"""


def strip_name(name: str) -> str:
    r"""Return the name of a class as QuPath keeps it, without white space around it.

    >>> strip_name(" Tumor\t"), strip_name("Tumeur\N{NO-BREAK SPACE}")
    ('Tumor', 'Tumeur\xa0')
    """
    return name.strip(WHITESPACE)


def split_class(path: str) -> list[str]:
    """Split a class path into its names, base class first.

    >>> split_class("Tumor: Positive")
    ['Tumor', 'Positive']
    """
    return [strip_name(name) for name in path.split(":")]


def class_from_text(text: str) -> str | None:
    """Return the class path that QuPath makes of a text; None for no class.

    As in Java, empty names at the end are dropped.

    >>> class_from_text("Tumor:Positive "), class_from_text("Tumor:"), class_from_text(":")
    ('Tumor: Positive', 'Tumor', None)

    Raises
    ------
    ValueError
        If QuPath refuses it: a name is empty.
    """
    names = text.split(":")
    while len(names) > 1 and not names[-1]:
        names.pop()
    if names == [""] and text:
        return None
    return class_from_names(names)


def class_from_names(names: Sequence[str]) -> str | None:
    """Return the class path of a list of names, base class first; None for an empty list.

    >>> class_from_names(["Tumor", " Positive"]), class_from_names([])
    ('Tumor: Positive', None)

    Raises
    ------
    ValueError
        If QuPath refuses one of the names.
    """
    stripped = [strip_name(name) for name in names]
    for name in stripped:
        if not name:
            raise ValueError(f"class {class_path(names)!r} has an empty name in it")
        if any(sign in name for sign in ":\n\r"):
            raise ValueError(f"the class name {name!r} has a colon or a line break in it")
    return class_path(stripped) or None


def class_from_json(raw: Any) -> str | None:
    """Return the class path of ``classification`` in GeoJSON, in the forms of all versions.

    A text; ``name`` (which wins) or ``names``; or QuPath 0.2 and 0.3's ``name`` and
    ``parentClass``. A colour is not needed, although QuPath needs one in some forms.

    >>> class_from_json({"name": "Tumor: Positive", "names": ["Stroma"]})
    'Tumor: Positive'
    >>> class_from_json({"names": []}) is class_from_json({}) is class_from_json(None) is None
    True

    Raises
    ------
    ValueError
        If it is none of these, or QuPath refuses a name.
    """
    if raw is None or raw == {}:
        return None
    if isinstance(raw, str):
        return class_from_text(raw)
    if not isinstance(raw, dict):
        raise ValueError(f"classification: expected an object or a text, not {raw!r}")
    # Beside the colour of QuPath 0.2 and 0.3, ``names`` has no meaning.
    name, names = raw.get("name"), None if "colorRGB" in raw else raw.get("names")
    if raw.get("parentClass") is not None:
        levels: list[str] = []
        level: Any = raw
        while isinstance(level, dict):
            levels.append(_json_name(level.get("name")))
            level = level.get("parentClass")
        return class_from_names(levels[::-1])
    if name is not None:
        return class_from_text(_json_name(name))
    if isinstance(names, list):
        return class_from_names([_json_name(each) for each in names])
    if names is not None or not raw.keys() & {"name", "names", "colorRGB"}:
        raise ValueError('classification: expected "name" or "names"')
    return None


def _json_name(raw: Any) -> str:
    """Return a name; numbers and truth values become text, as in QuPath."""
    if isinstance(raw, str):
        return raw
    if isinstance(raw, bool | int | float):
        return json.dumps(raw)
    raise ValueError(f"classification: expected a name, not {raw!r}")


def class_path(names: Iterable[str]) -> str:
    """Join the names of a class and its parents, base class first."""
    return CLASS_SEPARATOR.join(names)


def normal_class_path(path: str) -> str:
    """Return a class path as QuPath prints it.

    >>> normal_class_path("Tumor:Positive ")
    'Tumor: Positive'
    """
    return class_path(split_class(path))


def class_problem(path: str) -> str | None:
    """Return why QuPath would refuse or change a class path; None if it keeps it unchanged.

    >>> class_problem("Tumor: ")
    "class 'Tumor: ' has an empty name in it"
    >>> class_problem("Tumor: Positive") is None
    True
    """
    if any(sign in path for sign in "\n\r"):
        return f"class {path!r} has a line break in it"
    if not all(split_class(path)):
        return f"class {path!r} has an empty name in it"
    if normal_class_path(path) != path:
        return f"class {path!r} would become {normal_class_path(path)!r}"
    return None


def pack_rgb(red: int, green: int, blue: int) -> int:
    """Pack an opaque colour as QuPath stores it: ARGB in a signed 32-bit integer.

    >>> pack_rgb(200, 0, 0)
    -3670016
    """
    return (0xFF << 24 | red << 16 | green << 8 | blue) - (1 << 32)


def unpack_rgb(packed: int) -> tuple[int, int, int]:
    """Return red, green and blue of a packed colour.

    >>> unpack_rgb(-3670016)
    (200, 0, 0)
    """
    return packed >> 16 & 255, packed >> 8 & 255, packed & 255


def default_rgb(path: str) -> tuple[int, int, int]:
    """Return a colour for a class without one: QuPath's own, or one derived from the name.

    >>> default_rgb("Tumor")
    (200, 0, 0)
    """
    if path in _QUPATH_COLORS:
        return _QUPATH_COLORS[path]
    red, green, blue = (64 + byte * 3 // 4 for byte in hashlib.sha256(path.encode()).digest()[:3])
    return red, green, blue


def class_colors(
    classes: Iterable[ClassInfo] = (), objects: Iterable[PathObject] = ()
) -> dict[str, tuple[int, int, int]]:
    """Return the colours of classes that have one, as red, green and blue.

    The project's list of classes wins over the colours that objects have for their classes; of
    these the first counts, as in QuPath.
    """
    colors = {c.path: unpack_rgb(c.color) for c in classes if c.color is not None}
    for each in objects:
        if each.class_path is not None and each.class_color is not None:
            colors.setdefault(each.class_path, unpack_rgb(each.class_color))
    return colors


def label_color(label: str, colors: Mapping[str, tuple[int, int, int]]) -> tuple[int, int, int]:
    """Return the project's colour of a label, or one derived from its name."""
    return colors.get(label) or PALETTE[zlib.crc32(label.encode("utf-8")) % len(PALETTE)]
