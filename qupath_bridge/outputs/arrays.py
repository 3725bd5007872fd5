"""Common parts of outputs of arrays: one group per slide, with images and where they are from.

The arrays of a group have one entry per patch, in the order in which patches were written:

========= ============= ======= ====================================================================
name      shape         type    contents
========= ============= ======= ====================================================================
images    (N, H, W, C)  own     pixels; one chunk per patch, not compressed
coords    (N, 2)        int64   x, y of the patch's corner, full-resolution pixels of the slide file
index_row (N,)          int64   row of the patch in the index of the slide, -1 for none
========= ============= ======= ====================================================================

Masks stand beside ``images``: ``mask`` (N, H, W) of uint8, ``mask_instance`` (N, H, W) of uint16.

``images`` have the type of the slide's pixels, in little-endian order, and an attribute
``channels`` with the names of the channels.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from qupath_bridge.errors import OutputError, UsageError
from qupath_bridge.model import PixelArray

from .row_batches import places_in

__all__ = ["Arrays"]

Numbers = NDArray[np.int64]


@dataclass(slots=True)
class Arrays:
    """Facts about the patches of a slide that is written: their shape, and where they are from."""

    slide_id: str
    shape: tuple[int, ...] | None = None
    dtype: np.dtype[Any] | None = None
    count: int = 0
    rows: int = 0
    coords: Numbers = field(default_factory=lambda: np.empty((0, 2), np.int64))
    index_row: Numbers = field(default_factory=lambda: np.empty(0, np.int64))
    attributes: dict[str, Any] = field(default_factory=dict)
    channels: list[str] = field(default_factory=list)

    @property
    def patch_bytes(self) -> int:
        """Bytes of one patch; 0 before the first."""
        if self.shape is None or self.dtype is None:
            return 0
        return math.prod(self.shape) * self.dtype.itemsize

    def add(self, pixels: PixelArray) -> int:
        """Count a patch and return its number, the first one is 0.

        Raises
        ------
        UsageError
            If it has another shape or type than the others.
        """
        if self.shape is None:
            self.shape, self.dtype = pixels.shape, pixels.dtype
        if (pixels.shape, pixels.dtype) != (self.shape, self.dtype):
            raise UsageError(
                f"{self.slide_id} has patches of {self.shape}, {self.dtype}, and of "
                f"{pixels.shape}, {pixels.dtype}, in one array."
            )
        self.count += 1
        return self.count - 1

    def place(self, numbers: Numbers, rows: pa.Table) -> None:
        """Keep where patches are from; ``rows`` of the index come one part after the other.

        Raises
        ------
        OutputError
            If a number is not that of a patch.
        """
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < self.count:
            raise _not_written(self.slide_id, rows.column("path")[0].as_py())
        if not self.rows:
            self.coords = np.full((self.count, 2), -1, np.int64)
            self.index_row = np.full(self.count, -1, np.int64)
            self.attributes = _attributes(rows)
            self.channels = rows.column("channels")[0].as_py() or [] if rows.num_rows else []
        for axis, name in enumerate(("x_slide", "y_slide")):
            column = rows.column(name).fill_null(-1).to_numpy()
            self.coords[numbers, axis] = column
        self.index_row[numbers] = np.arange(self.rows, self.rows + rows.num_rows)
        self.rows += rows.num_rows


def _attributes(rows: pa.Table) -> dict[str, Any]:
    """Return what CLAM's readers ask ``coords`` for: a patch is a square of the level 0."""
    if not rows.num_rows:
        return {}
    first = {name: rows.column(name)[0].as_py() for name in ("w_slide", "slide_file")}
    return {
        "patch_size": first["w_slide"] or 0,
        "patch_level": 0,
        "name": first["slide_file"] or "",
    }


def check_written(slide_id: str, rows: pa.Table, written: Collection[str]) -> None:
    """Check that rows list no other files than those that were written with them.

    Raises
    ------
    OutputError
        If there is one; it is named.
    """
    for column, _, _ in places_in(rows.column_names):
        for path in rows.column(column).unique().to_pylist():
            if path not in written:
                raise _not_written(slide_id, path)


def _not_written(slide_id: str, path: str) -> OutputError:
    return OutputError(
        f"The rows of {slide_id} list a patch in {path} that was not written with them.",
        hint="Export this slide again.",
    )


def offsets_of(rows: pa.Table, column: str = "offset") -> Numbers:
    """Return a column of offsets as numbers."""
    return np.asarray(rows.column(column).to_numpy(), np.int64)


def with_offsets(rows: pa.Table, offsets: Numbers, column: str = "offset") -> pa.Table:
    """Return rows with other offsets."""
    at = rows.schema.get_field_index(column)
    return rows.set_column(at, rows.schema.field(at), pa.array(offsets, pa.int64()))
