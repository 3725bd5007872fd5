"""Rows of a plan by box and plane, found for many boxes at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from qupath_bridge.model import BoxArray, IntArray

from .table import PatchTable

__all__ = ["PatchLookup"]


class PatchLookup:
    """Finds the patches of a table by their boxes. Takes 16 bytes per patch.

    Parameters
    ----------
    table : PatchTable
        No two patches have one place.

    Examples
    --------
    >>> PatchLookup(table).rows(table.boxes, table.z, table.t)  # doctest: +SKIP
    array([0, 1, 2, ...])
    """

    def __init__(self, table: PatchTable) -> None:
        self._table = table
        places = _places(table.boxes, table.z, table.t)
        self._low = places.min(axis=0, initial=0)
        self._spans = places.max(axis=0, initial=0) - self._low + 1
        keys = self._keys(places)
        self._order = np.argsort(keys, kind="stable")
        self._sorted = keys[self._order]

    def rows(self, boxes: BoxArray, z: Any, t: Any) -> IntArray:
        """Return the row of each box on its plane, -1 where the table has no such box.

        Parameters
        ----------
        boxes : array, shape (N, 4), QuPath pixels
        z, t : array, shape (N,)

        Returns
        -------
        array, shape (N,), int64
        """
        if not len(self._sorted):
            return np.full(len(boxes), -1, np.int64)
        places = _places(boxes, z, t)
        inside = ((places >= self._low) & (places < self._low + self._spans)).all(axis=1)
        at = self._sorted.searchsorted(self._keys(np.where(inside[:, None], places, self._low)))
        rows = self._order[np.minimum(at, len(self._order) - 1)]
        found = self._table
        same = (
            inside
            & (found.boxes[rows] == boxes).all(axis=1)
            & (found.z[rows] == z)
            & (found.t[rows] == t)
        )
        return np.where(same, rows, -1)

    def _keys(self, places: IntArray) -> IntArray:
        """Return one number for each place; the places of a slide are fewer than 2**63."""
        keys = np.zeros(len(places), np.int64)
        for column, span in zip((places - self._low).T, self._spans, strict=True):
            keys = keys * span + column
        return keys


def _places(boxes: BoxArray, z: Any, t: Any) -> IntArray:
    return np.column_stack([z, t, boxes[:, 1], boxes[:, 0]]).astype(np.int64)
