"""Edges of polygons as flat arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from qupath_bridge.model import FloatArray, IntArray

__all__ = ["Chain", "Edges", "GeometryArray", "Outlines", "as_array", "chains", "chunks"]

GeometryArray = NDArray[np.object_]

EDGES = 1 << 17
"""Number of edges, or pieces of edges, that are processed at once."""


def as_array(geometries: Sequence[BaseGeometry]) -> GeometryArray:
    """Return geometries as an array of objects, which NumPy must not convert."""
    array = np.empty(len(geometries), dtype=object)
    array[:] = geometries
    return array


@dataclass(frozen=True, slots=True, eq=False)
class Outlines:
    """Polygons that belong to regions, each added to its region or subtracted from it.

    Attributes
    ----------
    polygons : array of Polygon and MultiPolygon, shape (P,)
        Valid. Exteriors turn one way if added, the other way if subtracted.
    region : array, shape (P,), int64
        Ascending.
    """

    polygons: GeometryArray
    region: IntArray

    @classmethod
    def of(
        cls, polygons: GeometryArray, region: IntArray, negative: NDArray[np.bool_] | None = None
    ) -> Self:
        """Orient polygons; those where ``negative`` is true are subtracted."""
        turned = shapely.orient_polygons(polygons)
        if negative is not None and negative.any():
            turned[negative] = shapely.orient_polygons(polygons[negative], exterior_cw=True)
        order = np.argsort(region, kind="stable")
        return cls(turned[order], region[order])

    def bounds(self) -> FloatArray:
        """Return x and y limits of each region, shape (regions, 4); NaN where it is empty."""
        count = int(self.region[-1]) + 1 if len(self.region) else 0
        limits = np.full((count, 4), np.nan)
        boxes = shapely.bounds(self.polygons)
        np.fmin.at(limits[:, :2], self.region, boxes[:, :2])
        np.fmax.at(limits[:, 2:], self.region, boxes[:, 2:])
        return limits

    def slotted(self, regions: IntArray) -> tuple[GeometryArray, IntArray]:
        """Return the polygons of some regions (ascending), and each one's place in ``regions``."""
        start, stop = self.region.searchsorted([regions[0], regions[-1] + 1])
        polygons, region = self.polygons[start:stop], self.region[start:stop]
        slot = regions.searchsorted(region)
        wanted = regions[slot] == region
        return polygons[wanted], slot[wanted]


@dataclass(frozen=True, slots=True, eq=False)
class Edges:
    """Edges from (x0, y0) to (x1, y1), none of them horizontal, and the slot of each."""

    x0: FloatArray
    y0: FloatArray
    x1: FloatArray
    y1: FloatArray
    slot: IntArray

    def take(self, which: NDArray[np.bool_]) -> Self:
        """Return some of the edges."""
        return type(self)(
            self.x0[which], self.y0[which], self.x1[which], self.y1[which], self.slot[which]
        )

    def upward(self) -> tuple[Self, FloatArray]:
        """Turn all edges towards larger y; also return -1 for edges that were upward, else 1.

        An edge that two polygons share is then the same edge for both, so that results computed
        from it agree to the last bit.
        """
        up = self.y1 > self.y0
        edges = type(self)(
            np.where(up, self.x0, self.x1),
            np.where(up, self.y0, self.y1),
            np.where(up, self.x1, self.x0),
            np.where(up, self.y1, self.y0),
            self.slot,
        )
        return edges, np.where(up, -1.0, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """Points of rings one after the other; edge i runs from point i to point i + 1.

    ``real`` is false for edges that would connect two rings, and for horizontal edges, which
    bound no area in their row.
    """

    x: FloatArray
    y: FloatArray
    slot: IntArray
    real: NDArray[np.bool_]

    def edges(self, which: NDArray[np.bool_]) -> Edges:
        """Return some of the edges."""
        index = np.flatnonzero(which)
        ends = index + 1
        return Edges(self.x[index], self.y[index], self.x[ends], self.y[ends], self.slot[index])


def chains(
    polygons: GeometryArray, slots: IntArray, origin: tuple[float, float]
) -> Iterator[Chain]:
    """Yield the outlines of polygons in parts of bounded size.

    ``slots`` has the slot of each polygon, shape (P,); coordinates are relative to ``origin``.
    """
    _, points, offsets = shapely.to_ragged_array(polygons, include_z=False)
    slot = np.repeat(slots, shapely.get_num_coordinates(polygons))
    first = np.zeros(len(points), np.bool_)
    first[offsets[0][:-1]] = True
    for start in range(0, len(points) - 1, EDGES):
        piece = slice(start, start + EDGES + 1)
        x = points[piece, 0] - origin[0]
        y = points[piece, 1] - origin[1]
        yield Chain(x, y, slot[piece], (y[:-1] != y[1:]) & ~first[piece][1:])


def chunks(counts: IntArray) -> Iterator[slice]:
    """Yield runs of at least one item whose counts sum to ``EDGES`` at most."""
    ends = np.cumsum(counts)
    start = 0
    while start < len(counts):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(ends.searchsorted(done + EDGES, "right")))
        yield slice(start, stop)
        start = stop
