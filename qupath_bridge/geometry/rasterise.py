"""Scan conversion by pixel centres: which pixels of a box each of many polygons holds.

A pixel belongs to a polygon if its centre does. A centre on a boundary is inside if the interior
is towards +x, then +y: half-open, as pixels are, so that of two polygons that share a border one
has it (:mod:`~qupath_bridge.geometry.points` decides it exactly).

Outlines can have a million points, and boxes are many: edges are kept in horizontal bands, so
that a box looks at those of its own rows only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import shapely
from numpy.typing import NDArray

from qupath_bridge.model import FloatArray, IntArray, MaskArray

from .edges import Edges, GeometryArray, chains
from .lattice import Windows, ragged
from .points import crossings

__all__ = ["Cover", "EdgeBands", "paint", "pixel_centres"]


class Cover(NamedTuple):
    """The pixels of a box that one polygon holds.

    ``inside`` is None if it holds all pixels of the box; else it is the part of them that
    begins at ``row`` and ``col``, shape (h, w).
    """

    polygon: int
    row: int
    col: int
    inside: MaskArray | None


def pixel_centres(start: float, length: float, pixels: int) -> FloatArray:
    """Return where the centres of the pixels of a box lie along one axis, shape (pixels,).

    >>> pixel_centres(10, 8, 4).tolist()
    [11.0, 13.0, 15.0, 17.0]
    """
    steps = np.arange(pixels, dtype=np.float64) + 0.5
    return np.float64(start) + steps * np.float64(length / pixels)


@dataclass(frozen=True, slots=True, eq=False)
class EdgeBands:
    """Edges of polygons, sorted by polygon and by the horizontal bands that they cross.

    Attributes
    ----------
    bounds : array, shape (K, 4)
        Limits of the polygons: least x and y, most x and y.
    x, y : array, shape (P,), float64
        Points of all rings; edge i runs from point i to point i + 1.
    edge : array, shape (M,), int64
        Edges, each once for every band that it crosses.
    key : array, shape (M,), int64
        Polygon times ``bands`` plus band, ascending.
    begins : array, shape (M,), bool
        Whether the band is the first one of the edge.
    height : float
        Of a band.
    first, bands : int
        Number of the first band, and how many there are.
    """

    bounds: FloatArray
    x: FloatArray
    y: FloatArray
    edge: IntArray
    key: IntArray
    begins: NDArray[np.bool_]
    height: float
    first: int
    bands: int

    @classmethod
    def of(cls, polygons: GeometryArray, height: float) -> Self:
        """Sort the edges of polygons, valid ones, into bands of a height.

        The height of the boxes is a good one: they then look at two bands.
        """
        bounds = shapely.bounds(polygons).reshape(-1, 4)
        turned = shapely.orient_polygons(polygons)
        x, y, slot, real = _points(turned)
        where = np.flatnonzero(real)
        ends = np.stack([y[where], y[where + 1]])
        low = np.floor(ends.min(axis=0) / height).astype(np.int64)
        high = np.floor(ends.max(axis=0) / height).astype(np.int64)
        first = int(low.min(initial=0))
        bands = int(high.max(initial=first)) - first + 1
        number, step = ragged(high - low + 1)
        key = slot[where][number] * bands + (low[number] - first) + step
        order = np.argsort(key, kind="stable")
        return cls(
            bounds, x, y, where[number][order], key[order], step[order] == 0, height, first, bands
        )

    def covers(self, xs: FloatArray, ys: FloatArray, polygons: IntArray) -> Iterator[Cover]:
        """Yield which pixels of a box some polygons hold, in their order.

        Polygons without a pixel are left out, and those below the last one that holds all.

        Parameters
        ----------
        xs, ys : array, shape (W,) and (H,), float64
            Centres of the columns and rows of pixels.
        polygons : array of int, shape (N,)
            Their numbers.
        """
        windows = self._windows(xs, ys, polygons)
        if len(windows):
            yield from _covers(self._edges(ys, windows), xs, ys, windows)

    def _windows(self, xs: FloatArray, ys: FloatArray, polygons: IntArray) -> Windows:
        """Return the pixels in the bounding box of each polygon; none for those without one."""
        left, top, right, bottom = self.bounds[polygons].T
        col, row = xs.searchsorted(left), ys.searchsorted(top)
        width, height = xs.searchsorted(right) - col, ys.searchsorted(bottom) - row
        real = (width > 0) & (height > 0)
        return Windows(polygons, row, col, height, width).take(np.flatnonzero(real))

    def _edges(self, ys: FloatArray, windows: Windows) -> Edges:
        """Return the edges that can cross the rows of each window; its number is their slot."""
        rows = np.stack([windows.row, windows.row + windows.height - 1])
        band = np.floor(ys[rows] / self.height).astype(np.int64) - self.first
        low, high = np.clip(band, 0, self.bands - 1) + windows.region * self.bands
        start, stop = self.key.searchsorted(low), self.key.searchsorted(high, "right")
        slot, step = ragged(stop - start)
        entry = start[slot] + step
        # An edge of several bands counts in the first one of them that is looked at.
        once = self.begins[entry] | (self.key[entry] == low[slot])
        edge, slot = self.edge[entry[once]], slot[once]
        return Edges(self.x[edge], self.y[edge], self.x[edge + 1], self.y[edge + 1], slot)


def paint(
    covers: Iterator[Cover],
    values: NDArray[np.integer] | Mapping[int, int],
    pixels: NDArray[np.integer],
) -> None:
    """Paint polygons over one another, the last on top, into the pixels of a box, in place.

    Parameters
    ----------
    covers : iterator of Cover
    values : array, shape (K,), or mapping of int to int
        The value of each polygon.
    pixels : array, shape (H, W)
    """
    for polygon, row, col, inside in covers:
        if inside is None:
            pixels[:] = int(values[polygon])
            continue
        height, width = inside.shape
        part = pixels[row : row + height, col : col + width]
        np.copyto(part, int(values[polygon]), where=inside)


def _points(polygons: GeometryArray) -> tuple[FloatArray, FloatArray, IntArray, NDArray[np.bool_]]:
    """Return the points of all rings, the polygon of each, and which begin an edge."""
    if not len(polygons):
        return np.zeros(0), np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.bool_)
    parts = list(chains(polygons, np.arange(len(polygons)), (0.0, 0.0)))
    end = parts[-1]
    # The last point of each part is the first one of the next.
    x = np.concatenate([*(part.x[:-1] for part in parts), end.x[-1:]])
    y = np.concatenate([*(part.y[:-1] for part in parts), end.y[-1:]])
    slot = np.concatenate([*(part.slot[:-1] for part in parts), end.slot[-1:]])
    return x, y, slot, np.concatenate([*(part.real for part in parts), np.zeros(1, np.bool_)])


@dataclass(frozen=True, slots=True, eq=False)
class _Crossings:
    """Crossings of edges with rows of pixels, which switch the pixels on and off.

    Attributes
    ----------
    turns : array, shape (rows of all windows,), int8
        What edges left of each row's first pixel add up to: not 0 if that is inside.
    slot, row, col : array, shape (N,), int64
        Window of each other crossing, its row among those of all windows, and the pixel in that
        row from which it counts.
    sign : array, shape (N,), int8
    """

    turns: NDArray[np.int8]
    slot: IntArray
    row: IntArray
    col: IntArray
    sign: NDArray[np.int8]

    @classmethod
    def of(cls, edges: Edges, xs: FloatArray, ys: FloatArray, windows: Windows) -> Self:
        """Cross edges, whose slots are windows, with the rows of pixels."""
        slot = edges.slot
        first, last = windows.col[slot], windows.col[slot] + windows.width[slot] - 1
        left = np.maximum(edges.x0, edges.x1) <= xs[first]
        near = ~left & (np.minimum(edges.x0, edges.x1) <= xs[last])
        turns = _turns_of(edges.take(left), ys, windows)
        parts = [(np.zeros(0, np.int64),) * 4, *crossings(edges.take(near), xs, ys, windows)]
        slot, row, col, sign = (np.concatenate(part) for part in zip(*parts, strict=True))
        row, col = row + (_row_starts(windows) - windows.row)[slot], col - windows.col[slot]
        sign = sign.astype(np.int8)
        start = col <= 0
        np.add.at(turns, row[start], sign[start])
        inner = ~start & (col < windows.width[slot])
        return cls(turns, slot[inner], row[inner], col[inner], sign[inner])


def _covers(edges: Edges, xs: FloatArray, ys: FloatArray, windows: Windows) -> Iterator[Cover]:
    """Yield which pixels of their windows polygons hold; the slot of an edge is its window."""
    found = _Crossings.of(edges, xs, ys, windows)
    crossed = np.bincount(found.slot, minlength=len(windows)) > 0
    held = np.add.reduceat(found.turns != 0, _row_starts(windows), dtype=np.int64)
    whole = ~crossed & (held == windows.height)
    whole &= windows.height * windows.width == len(xs) * len(ys)
    last = int(np.flatnonzero(whole)[-1]) if whole.any() else -1
    if last >= 0:
        yield Cover(int(windows.region[last]), 0, 0, None)
    wanted = crossed | (held > 0)
    wanted[: last + 1] = False
    yield from _filled(windows, found, wanted)


def _filled(windows: Windows, found: _Crossings, wanted: NDArray[np.bool_]) -> Iterator[Cover]:
    """Yield the pixels of some windows, whose crossings are known."""
    width, base, start = windows.width, windows.base, _row_starts(windows)
    turns = np.zeros(windows.size, np.int8)
    slot = found.slot
    np.add.at(turns, base[slot] + (found.row - start[slot]) * width[slot] + found.col, found.sign)
    columns = (windows.region, windows.row, windows.col, windows.height, width, base, start)
    for polygon, row, col, high, wide, at, first in zip(
        *(column[wanted].tolist() for column in columns), strict=True
    ):
        block = turns[at : at + high * wide].reshape(high, wide)
        block[:, 0] = found.turns[first : first + high]
        yield Cover(polygon, row, col, np.add.accumulate(block, axis=1) != 0)


def _row_starts(windows: Windows) -> IntArray:
    """Return the number of each window's first row among the rows of all windows."""
    return np.cumsum(windows.height) - windows.height


def _turns_of(edges: Edges, ys: FloatArray, windows: Windows) -> NDArray[np.int8]:
    """Return what edges add up to in each row of their windows, all windows one after another."""
    upward, sign = edges.upward()
    slot, sign = upward.slot, sign.astype(np.int8)
    # One spare row behind each window, in which edges that leave it at the end are taken back.
    start = _row_starts(windows) + np.arange(len(windows))
    turns = np.zeros(int(windows.height.sum()) + len(windows), np.int8)
    for at, step in ((upward.y0, sign), (upward.y1, -sign)):
        row = np.clip(ys.searchsorted(at) - windows.row[slot], 0, windows.height[slot])
        np.add.at(turns, start[slot] + row, step)
    summed = np.cumsum(turns, dtype=np.int8)
    return np.delete(summed, start + windows.height)
