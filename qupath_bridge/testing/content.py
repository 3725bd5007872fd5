"""The whole content of values as text: to compare them where NaN is a value like others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from shapely.geometry.base import BaseGeometry

__all__ = ["full_text"]


def full_text(value: Any) -> str:
    """Return all that a value holds as text; its own ``repr`` is one short line.

    >>> full_text({"a": (1, float("nan"))})
    "{'a': (1, nan)}"
    """
    if isinstance(value, BaseGeometry):
        return str(value.wkb_hex)
    if is_dataclass(value):
        parts = (f"{field.name}={full_text(getattr(value, field.name))}" for field in fields(value))
        return f"{type(value).__name__}({', '.join(parts)})"
    if isinstance(value, Mapping):
        pairs = (f"{full_text(key)}: {full_text(item)}" for key, item in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list | tuple):
        return f"({', '.join(map(full_text, value))})"
    return repr(value)
