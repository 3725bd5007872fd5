"""QuPath's classes as texts, and its colours as numbers."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Mapping, Sequence

from qupath_bridge.model import ClassInfo

__all__ = [
    "SEPARATOR",
    "class_colors",
    "class_path",
    "class_problem",
    "default_rgb",
    "label_color",
    "normal_class_path",
    "pack_rgb",
    "split_class",
    "unpack_rgb",
]

SEPARATOR = ": "

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


def split_class(path: str) -> list[str]:
    """Split a class path into its names, base class first, as QuPath does.

    >>> split_class("Tumor: Positive")
    ['Tumor', 'Positive']
    """
    return [name.strip() for name in path.split(":")]


def class_path(names: Iterable[str]) -> str:
    """Join the names of a class and its parents, base class first."""
    return SEPARATOR.join(names)


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


def class_colors(classes: Sequence[ClassInfo]) -> dict[str, tuple[int, int, int]]:
    """Return the colours of the classes that have one, as red, green and blue."""
    return {c.path: unpack_rgb(c.color) for c in classes if c.color is not None}


def label_color(label: str, colors: Mapping[str, tuple[int, int, int]]) -> tuple[int, int, int]:
    """Return the project's colour of a label, or one derived from its name."""
    return colors.get(label) or PALETTE[zlib.crc32(label.encode("utf-8")) % len(PALETTE)]
