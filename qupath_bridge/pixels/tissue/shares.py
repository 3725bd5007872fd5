"""Share of tissue in boxes, from a mask."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qupath_bridge.model import BoxArray, FloatArray, MaskArray

__all__ = ["TissueShares", "tissue_shares"]


class TissueShares:
    """The shares of boxes that a map covers; called with one set of boxes after the other.

    Parameters
    ----------
    tissue : array, shape (h, w), bool or float
        A map of the whole image: where it shows tissue, or numbers from 0 to 1 whose mean is
        wanted.
    scale : float or (float, float)
        Pixels of the map per QuPath pixel, along x and y.
    """

    def __init__(self, tissue: MaskArray | FloatArray, scale: float | tuple[float, float]) -> None:
        height, width = tissue.shape
        kind: Any = np.int32 if tissue.dtype == np.bool_ else np.float64
        self._table: NDArray[Any] = np.zeros((height + 1, width + 1), kind)
        np.cumsum(tissue, axis=0, dtype=kind, out=self._table[1:, 1:])
        np.cumsum(self._table[1:, 1:], axis=1, dtype=kind, out=self._table[1:, 1:])
        self._scale = np.broadcast_to(scale, (2,))

    def __call__(self, boxes: BoxArray) -> FloatArray:
        """Return the share of each box; see :func:`tissue_shares`."""
        height, width = np.subtract(self._table.shape, 1)
        places = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        x_scale, y_scale = self._scale
        x0, x1 = ((places[:, 0] + k * places[:, 2]) * x_scale for k in (0, 1))
        y0, y1 = ((places[:, 1] + k * places[:, 3]) * y_scale for k in (0, 1))
        x0, x1 = np.clip(x0, 0, width), np.clip(x1, 0, width)
        y0, y1 = np.clip(y0, 0, height), np.clip(y1, 0, height)
        sums = self._at(x1, y1) - self._at(x0, y1) - self._at(x1, y0) + self._at(x0, y0)
        areas = (x1 - x0) * (y1 - y0)
        shares = np.divide(sums, areas, out=np.zeros_like(sums), where=areas > 0)
        return np.asarray(np.clip(shares, 0, 1), dtype=np.float64)

    def _at(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return the sum of all pixels left of x and above y; between pixels it is bilinear."""
        table = self._table
        column = np.minimum(x.astype(np.intp), table.shape[1] - 2)
        row = np.minimum(y.astype(np.intp), table.shape[0] - 2)
        right, down = x - column, y - row
        upper = table[row, column] * (1 - right) + table[row, column + 1] * right
        lower = table[row + 1, column] * (1 - right) + table[row + 1, column + 1] * right
        return np.asarray(upper * (1 - down) + lower * down, dtype=np.float64)


def tissue_shares(
    tissue: MaskArray | FloatArray, scale: float | tuple[float, float], boxes: BoxArray
) -> FloatArray:
    """Return the share of each box that is tissue.

    Parameters
    ----------
    tissue, scale
        As :class:`TissueShares` takes them.
    boxes : array, shape (N, 4)
        x, y, width, height in QuPath pixels. Of a box that passes the edges the part inside counts.

    Returns
    -------
    array, shape (N,), float64, 0 to 1
        Pixels of the map on a box's edge count by the part that is inside; 0 for boxes that are
        outside.
    """
    return TissueShares(tissue, scale)(boxes)
