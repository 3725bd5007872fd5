"""Masks beside patches: which kinds there are, and where they stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = [
    "CLASS_MASK",
    "INSTANCE_MASK",
    "MASK_KINDS",
    "OBJECT_COLUMNS",
    "MaskKind",
    "kinds_in",
    "mask_kinds",
]

OBJECT_COLUMNS = ("instances", "instance_classes")
"""Columns that say which object an instance mask's values are, and its class."""


@dataclass(frozen=True, slots=True)
class MaskKind:
    """A kind of masks.

    Attributes
    ----------
    name : str
        As the option ``masks`` names it.
    column : str
        Column of the index with the file of a mask; also the name of an array of masks.
    folder : str
        Folder of the files, beside ``patches``.
    dtype : str
        Type of the values, as numpy calls it.
    """

    name: str
    column: str
    folder: str
    dtype: str

    @property
    def place(self) -> tuple[str, str, str]:
        """Columns with file, offset and length of a mask."""
        return self.column, f"{self.column}_offset", f"{self.column}_length"

    @property
    def digest(self) -> str:
        """Column with the digest of a mask."""
        return f"{self.column}_digest"

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns of a mask, in the order of the index."""
        objects = OBJECT_COLUMNS if self is INSTANCE_MASK else ()
        return (*self.place, self.digest, *objects)

    def __reduce__(self) -> tuple[Any, ...]:
        return _kind_of, (self.column,)


CLASS_MASK = MaskKind("class", "mask", "masks", "uint8")
INSTANCE_MASK = MaskKind("instance", "mask_instance", "instances", "uint16")
MASK_KINDS = (CLASS_MASK, INSTANCE_MASK)


def mask_kinds(masks: str) -> tuple[MaskKind, ...]:
    """Return the kinds that the option ``masks`` asks for.

    >>> [kind.column for kind in mask_kinds("both")], mask_kinds("none")
    (['mask', 'mask_instance'], ())
    """
    return tuple(kind for kind in MASK_KINDS if masks in {kind.name, "both"})


def kinds_in(columns: Any) -> tuple[MaskKind, ...]:
    """Return the kinds of masks that an index with some columns has."""
    return tuple(kind for kind in MASK_KINDS if kind.column in columns)


def _kind_of(column: str) -> MaskKind:
    return next(kind for kind in MASK_KINDS if kind.column == column)
