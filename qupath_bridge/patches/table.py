"""Table of planned patches: a few arrays, so that a million patches are not a million objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from qupath_bridge.frozen import count, one_line
from qupath_bridge.model import BoxArray, FloatArray, IntArray, Plane

from .ids import patch_id

__all__ = ["LABEL_SOURCES", "PatchTable", "Ragged"]

CodeArray = NDArray[np.int32]

_BATCH = 4096

LABEL_SOURCES = ("rule", "background", "corrected", "metadata", "object")
"""Names for the codes of ``PatchTable.label_source``; -1 is null."""


class _Columns:
    """Base of dataclasses of arrays: read-only arrays, compared by content (NaN is NaN)."""

    __slots__ = ()

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]  # it is for dataclasses
            column = getattr(self, field.name)
            if isinstance(column, np.ndarray):
                view = column.view()  # the caller's own array stays as it is
                view.setflags(write=False)
                object.__setattr__(self, field.name, view)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        names = [field.name for field in fields(self)]  # type: ignore[arg-type]
        return all(_equal(getattr(self, name), getattr(other, name)) for name in names)

    __hash__ = None  # type: ignore[assignment]  # tables of arrays cannot be keys

    def __reduce__(self) -> tuple[type[Self], tuple[Any, ...]]:
        return type(self), tuple(getattr(self, field.name) for field in fields(self))  # type: ignore[arg-type]


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    return bool(one == other)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Ragged(_Columns):
    """A list of codes, and optionally of numbers, per row: offsets into flat arrays.

    Row ``i`` is ``codes[offsets[i]:offsets[i + 1]]``, as in Arrow's lists.

    Attributes
    ----------
    offsets : array, shape (N + 1,), int64
    codes : array, shape (M,), int32
    values : array, shape (M,), float64, or None
    """

    offsets: IntArray
    codes: CodeArray
    values: FloatArray | None = None

    @classmethod
    def of(
        cls,
        rows: IntArray,
        codes: NDArray[np.integer],
        count: int,
        values: FloatArray | None = None,
    ) -> Self:
        """Make lists from entries that are sorted by row."""
        offsets = np.zeros(count + 1, np.int64)
        np.cumsum(np.bincount(rows, minlength=count), out=offsets[1:])
        return cls(offsets, codes.astype(np.int32), values)

    @classmethod
    def empty(cls, count: int, *, values: bool = False) -> Self:
        """Make ``count`` empty lists."""
        offsets = np.broadcast_to(np.int64(0), (count + 1,))
        return cls(offsets, np.zeros(0, np.int32), np.zeros(0) if values else None)

    @classmethod
    def concatenate(cls, parts: Sequence[Ragged]) -> Self:
        """Concatenate the rows of several; empty ones take no memory in the result."""
        if not any(len(part.codes) for part in parts):
            values = any(part.values is not None for part in parts)
            return cls.empty(sum(map(len, parts)), values=values)
        ends = np.cumsum([0, *(len(part.codes) for part in parts)])
        offsets = [part.offsets[1:] + end for part, end in zip(parts, ends, strict=False)]
        numbers = [part.values for part in parts if part.values is not None]
        return cls(
            np.concatenate([np.zeros(1, np.int64), *offsets]),
            np.concatenate([part.codes for part in parts]),
            np.concatenate(numbers) if numbers else None,
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __repr__(self) -> str:
        return one_line("Ragged", count(len(self), "row"), count(len(self.codes), "code"))

    @property
    def lengths(self) -> IntArray:
        """Number of codes of each row, shape (N,)."""
        return np.diff(self.offsets)

    @property
    def rows(self) -> IntArray:
        """The row of each code, shape (M,)."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @property
    def amounts(self) -> FloatArray:
        """The numbers, shape (M,); 0 if there are no numbers."""
        return np.zeros(len(self.codes)) if self.values is None else self.values

    def row(self, index: int) -> CodeArray:
        """Return the codes of one row."""
        return self.codes[self.offsets[index] : self.offsets[index + 1]]

    def row_values(self, index: int) -> FloatArray:
        """Return the numbers of one row."""
        return self.amounts[self.offsets[index] : self.offsets[index + 1]]

    def lists(self) -> list[list[int]]:
        """Return the codes of all rows; for tables of some thousand rows."""
        return _by_row(self.offsets, self.codes)

    def value_lists(self) -> list[list[float]]:
        """Return the numbers of all rows."""
        return _by_row(self.offsets, self.amounts)

    def take(self, rows: IntArray) -> Self:
        """Return the lists of some rows, in the order of ``rows``."""
        if not len(self.codes):
            return self.empty(len(rows), values=self.values is not None)
        lengths = self.lengths[rows]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        # Index of each entry in the old arrays: its row's start plus its place in the row.
        index = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths)
        values = None if self.values is None else self.values[index]
        return replace(self, offsets=offsets, codes=self.codes[index], values=values)


def _concatenated(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Concatenate columns; one value that all rows have is kept once."""
    first = next((part[0] for part in parts if len(part)), None)
    if first is None or parts[0].ndim > 1 or not all(_is_all(part, first) for part in parts):
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
    return np.broadcast_to(first, (sum(map(len, parts)),))


def _is_all(column: NDArray[Any], value: Any) -> bool:
    if column.dtype.kind == "f" and np.isnan(value):
        return bool(np.isnan(column).all())
    return bool((column == value).all())


def _by_row(offsets: IntArray, values: NDArray[Any]) -> list[list[Any]]:
    flat = values.tolist()
    return [flat[start:end] for start, end in pairwise(offsets.tolist())]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class PatchTable(_Columns):
    """The kept patches of one slide, one row per patch, sorted by z, t, row, col.

    Names are stored once, in ``label_names``, ``region_names`` and ``core_names``; columns hold
    indices into them (codes), -1 for null. In columns of shares NaN is null.

    Attributes
    ----------
    boxes : array, shape (N, 4), int64, QuPath pixels
        x, y, width, height.
    z, t : array, shape (N,), int32
        Plane.
    col, row : array, shape (N,), int32
        Position in the grid; may be negative. See ``objects``.
    labels : Ragged
        Codes into ``label_names``: one or none for single-label rules, several for ``multi``.
    label_source : array, shape (N,), int8
        Codes into :data:`LABEL_SOURCES`.
    rule_labels : Ragged
        What the rule says about patches with a corrected label; nothing for the others.
    label_share, margin : array, shape (N,), float64
    shares : Ragged
        Every label with a share > 1e-9, and its share, in the order of ``label_names``.
    regions : Ragged
        Codes into ``region_names``, by contribution descending, then name; the values are the
        contributions as shares of the box.
    within_share, excluded_share, valid_share, tissue_share : array, shape (N,), float64
    tma_core : array, shape (N,), int32
        Codes into ``core_names``.
    label_names : tuple of str
        Sorted by code point.
    region_names : tuple of str
        Ids of annotations, sorted.
    core_names : tuple of str
    multi : bool
        True if labels are lists (rules ``threshold`` and ``any``).
    objects : Ragged or None
        Objects around which patches are made, or from whose corner their grid begins: codes into
        ``object_names``. None for the patches of one grid over the slide; for others ``col`` and
        ``row`` say only which patches are near each other.
    object_names : tuple of str
        Ids of objects, sorted.
    sized : bool
        True if patches have sizes of their own; then these are a part of their ids.
    """

    boxes: BoxArray
    z: CodeArray
    t: CodeArray
    col: CodeArray
    row: CodeArray
    labels: Ragged
    label_source: NDArray[np.int8]
    rule_labels: Ragged
    label_share: FloatArray
    margin: FloatArray
    shares: Ragged
    regions: Ragged
    within_share: FloatArray
    excluded_share: FloatArray
    valid_share: FloatArray
    tissue_share: FloatArray
    tma_core: CodeArray
    label_names: tuple[str, ...] = ()
    region_names: tuple[str, ...] = ()
    core_names: tuple[str, ...] = ()
    multi: bool = False
    objects: Ragged | None = None
    object_names: tuple[str, ...] = ()
    sized: bool = False

    def __len__(self) -> int:
        return len(self.boxes)

    def __repr__(self) -> str:
        counts = (f"{name!r}: {number}" for name, number in self.label_counts().items())
        return one_line("PatchTable", count(len(self), "patch", "patches"), *counts)

    def take(self, rows: slice | IntArray | NDArray[np.bool_]) -> Self:
        """Return a table of some rows: a slice, a mask, or their numbers."""
        index = np.arange(len(self))[rows]
        columns: dict[str, Any] = {
            field.name: column.take(index) if isinstance(column, Ragged) else column[index]
            for field in fields(self)
            if isinstance(column := getattr(self, field.name), Ragged | np.ndarray)
        }
        return replace(self, **columns)

    @classmethod
    def concatenate(cls, parts: Iterable[PatchTable]) -> Self:
        """Concatenate tables that share their names; at least one.

        A column of one value takes no memory in the result. Columns of parts that nobody else
        holds are given up one by one.
        """
        lists: dict[str, list[Any]] = {field.name: [] for field in fields(cls)}
        for part in parts:
            for name, values in lists.items():
                values.append(getattr(part, name))
        columns: dict[str, Any] = {}
        for name in tuple(lists):
            values = lists.pop(name)
            if isinstance(values[0], Ragged):
                columns[name] = values[0] if len(values) == 1 else Ragged.concatenate(values)
            elif isinstance(values[0], np.ndarray):
                columns[name] = _concatenated(values)
            else:
                columns[name] = values[0]
            del values
        return cls(**columns)

    def plane(self, row: int) -> Plane:
        """Return the plane of one patch."""
        return Plane(int(self.z[row]), int(self.t[row]))

    def labels_of(self, row: int) -> list[str]:
        """Return the labels of one patch: none, one, or several."""
        return [self.label_names[code] for code in self.labels.row(row)]

    def label_of(self, row: int) -> str | list[str] | None:
        """Return the label as in the index: a list for multi-label rules, else a name or None."""
        names = self.labels_of(row)
        if self.multi:
            return names
        return names[0] if names else None

    def rule_label_of(self, row: int) -> str | list[str] | None:
        """Return what the rule says about a patch with a corrected label; None for the others."""
        if self.label_source[row] != LABEL_SOURCES.index("corrected"):
            return None
        names = [self.label_names[code] for code in self.rule_labels.row(row)]
        if self.multi:
            return names
        return names[0] if names else None

    def shares_of(self, row: int) -> dict[str, float]:
        """Return the shares of one patch by label."""
        codes, values = self.shares.row(row).tolist(), self.shares.row_values(row).tolist()
        return {self.label_names[code]: value for code, value in zip(codes, values, strict=True)}

    def regions_of(self, row: int) -> list[str]:
        """Return the ids of the annotations in one patch, largest contribution first."""
        return [self.region_names[code] for code in self.regions.row(row)]

    def core_of(self, row: int) -> str | None:
        """Return the name of the TMA core of one patch."""
        code = int(self.tma_core[row])
        return self.core_names[code] if code >= 0 else None

    def label_source_of(self, row: int) -> str | None:
        """Return the origin of one patch's label."""
        code = int(self.label_source[row])
        return LABEL_SOURCES[code] if code >= 0 else None

    def label_counts(self) -> dict[str, int]:
        """Return the number of patches by label, most first, then by name.

        Under multi-label rules a patch counts for each of its labels.
        """
        counts = np.bincount(self.labels.codes, minlength=len(self.label_names)).tolist()
        named: Mapping[str, int] = dict(zip(self.label_names, counts, strict=True))
        return {name: n for name, n in Counter(named).most_common() if n}

    def patch_id(self, slide_id: str, row: int) -> str:
        """Return the id of one patch (:func:`qupath_bridge.patches.ids.patch_id`)."""
        (name,) = self.patch_ids_of(slide_id, np.array([row]))
        return name

    def patch_ids(self, slide_id: str) -> Iterator[str]:
        """Yield the id of each patch, in order."""
        for start in range(0, len(self), _BATCH):
            yield from self.patch_ids_of(slide_id, slice(start, start + _BATCH))

    def patch_ids_of(self, slide_id: str, rows: slice | IntArray) -> list[str]:
        """Return the ids of some patches, in the order of ``rows``."""
        boxes, z, t = self.boxes[rows], self.z[rows].tolist(), self.t[rows].tolist()
        places = zip(*boxes[:, :2].T.tolist(), z, t, strict=True)
        if not self.sized:
            return [patch_id(slide_id, *place) for place in places]
        sizes = map(tuple, boxes[:, 2:].tolist())
        return [
            patch_id(slide_id, *place, size=size) for place, size in zip(places, sizes, strict=True)
        ]
