"""Resolution of overlaps: from polygons that overlap to pieces that share no area.

A later polygon hides the parts of earlier ones that it covers. A piece is its polygon minus the
hidden parts, as a difference of areas: the polygon itself is never cut. Most often the upper
polygon is wholly inside the lower one, or nothing overlaps at all, and then no geometry is
computed. Only where outlines cross, the common part is computed.

The cost is bounded: polygons that overlap in too many pairs are refused, with the number.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import shapely
from numpy.typing import NDArray

from qupath_bridge.errors import GeometryError
from qupath_bridge.model import IntArray

from .edges import GeometryArray, Outlines, as_array
from .validity import Polygonal, split, unite

__all__ = ["MAX_COMPARED", "MAX_CROSSED", "OverlapResolution", "Piece", "resolve_overlaps"]

MAX_COMPARED = 200_000_000
"""Points that are compared: the smaller polygon's of each pair whose bounding boxes overlap.

Some 15 seconds. 10,000 cells inside one region have less than one percent of it.
"""

MAX_CROSSED = 5_000_000
"""Points of outlines that cross: the smaller polygon's of each pair. Some 15 seconds."""

LEAST_POINTS = 50
"""Points that a pair counts for at least: each needs memory, too."""

PIECES = 4096
"""Pieces that are handed over at once."""

BLOCK = 256
"""Polygons whose neighbours are looked up at once."""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """The visible part of a polygon: a base, minus polygons inside it that share no area."""

    base: Polygonal
    holes: tuple[Polygonal, ...] = ()

    def within(self, polygon: Polygonal) -> Self:
        """Return the part of the piece inside a polygon."""
        base, *holes = (split(part, polygon)[0] for part in (self.base, *self.holes))
        return type(self)(base, tuple(holes))


@dataclass(frozen=True, slots=True, eq=False)
class _Overlaps:
    """Pairs of polygons that share area, ``above`` on top of ``below``.

    ``inside``: above is wholly in below. ``hidden``: below is wholly in above.
    """

    below: IntArray
    above: IntArray
    inside: NDArray[np.bool_]
    hidden: NDArray[np.bool_]

    @classmethod
    def of(cls, polygons: GeometryArray, group: IntArray | None) -> Self:
        """Find the pairs; with groups, only pairs of one group.

        Raises
        ------
        GeometryError
            If there are too many.
        """
        shapely.prepare(polygons)
        below, above = _neighbours(polygons, group)
        meet = shapely.intersects(polygons[below], polygons[above])
        below, above = below[meet], above[meet]
        inside = shapely.covers(polygons[below], polygons[above])
        hidden = shapely.covers(polygons[above], polygons[below])
        real = inside | hidden
        real[~real] = ~shapely.touches(polygons[below[~real]], polygons[above[~real]])
        order = np.lexsort((above[real], below[real]))
        pairs = cls(*(column[real][order] for column in (below, above, inside, hidden)))
        crossing = ~(pairs.inside | pairs.hidden)
        points = _points(polygons, pairs.below[crossing], pairs.above[crossing])
        if points > MAX_CROSSED:
            raise _too_many(int(crossing.sum()), points, "cross one another")
        return pairs

    def __iter__(self) -> Iterator[tuple[int, int, bool, bool]]:
        """Yield below, above, inside and hidden of each pair."""
        columns = (self.below, self.above, self.inside, self.hidden)
        return zip(*(column.tolist() for column in columns), strict=True)


def _neighbours(polygons: GeometryArray, group: IntArray | None) -> tuple[IntArray, IntArray]:
    """Return the pairs, lower one first, whose bounding boxes share area."""
    limits = shapely.bounds(polygons)
    tree = shapely.STRtree(polygons)
    found: list[tuple[IntArray, IntArray]] = [(np.zeros(0, np.int64),) * 2]
    pairs = points = 0
    # In blocks, and stopped early: n polygons have up to n² / 2 pairs.
    for start in range(0, len(polygons), BLOCK):
        below, above = tree.query(polygons[start : start + BLOCK])
        below = below + start
        # Neighbours whose bounding boxes only touch, as tiles do, share nothing.
        corner = np.maximum(limits[below, :2], limits[above, :2])
        opposite = np.minimum(limits[below, 2:], limits[above, 2:])
        real = (below < above) & (corner < opposite).all(axis=1)
        if group is not None:
            real &= group[below] == group[above]
        found.append((below[real], above[real]))
        pairs += int(real.sum())
        points += _points(polygons, *found[-1])
        if points > MAX_COMPARED:
            raise _too_many(pairs, points, "lie over one another")
    return np.concatenate([b for b, _ in found]), np.concatenate([a for _, a in found])


def _points(polygons: GeometryArray, below: IntArray, above: IntArray) -> int:
    """Return the number of points of the smaller polygon of each pair, in all."""
    counts = np.maximum(shapely.get_num_coordinates(polygons), LEAST_POINTS)
    return int(np.minimum(counts[below], counts[above]).sum())


def _too_many(pairs: int, points: int, relation: str) -> GeometryError:
    return GeometryError(
        f"Regions {relation} in {pairs:,} pairs or more, with {points:,} points: too many to find "
        "which one is on top.",
        hint="Merge regions of one class, or simplify their outlines, in QuPath.",
    )


@dataclass(frozen=True, slots=True, eq=False)
class OverlapResolution:
    """Polygons in order, later ones on top, and the visible part of each.

    Attributes
    ----------
    polygons : array of valid Polygon and MultiPolygon, shape (K,)
    pieces : tuple of K Piece or None
        None if no part is visible. They share no area; together they have that of the union.
    """

    polygons: GeometryArray
    pieces: tuple[Piece | None, ...]
    overlaps: _Overlaps

    def visible_part(self) -> Outlines:
        """Return the pieces as outlines; region k is the visible part of polygon k."""
        return _outlines((k, [piece], []) for k, piece in enumerate(self.pieces) if piece)

    def own_parts(self, group: IntArray) -> Iterator[Outlines]:
        """Yield the part of polygons where a piece of their own group is on top.

        It is polygon k ∩ (union of all pieces of its group). Only of polygons where it is not
        the visible part, some at a time.
        """
        own: dict[int, list[tuple[int, bool]]] = defaultdict(list)
        other: dict[int, list[tuple[int, bool]]] = defaultdict(list)
        for below, above, inside, _ in self.overlaps:
            if self.pieces[above]:
                same = group[below] == group[above]
                (own if same else other)[below].append((above, inside))
        batch, size = [], 0
        for k in own:
            batch.append(self._own_part(k, own[k], other[k]))
            size += sum(len(pieces) for pieces in batch[-1][1:])
            if size >= PIECES:
                yield _outlines(batch)
                batch, size = [], 0
        yield _outlines(batch)

    def _own_part(
        self, k: int, own: list[tuple[int, bool]], other: list[tuple[int, bool]]
    ) -> tuple[int, list[Piece], list[Piece]]:
        """Return k, and the pieces that add up to its part and those to subtract.

        Either the visible piece and those of the own group above it, or the polygon without
        those of other groups: whichever are fewer.
        """
        visible = self.pieces[k]
        if len(other) < len(own) + (len(visible.holes) if visible else 0):
            return k, [Piece(self.polygons[k])], self._parts(k, other)
        return k, [*([visible] if visible else []), *self._parts(k, own)], []

    def _parts(self, k: int, above: list[tuple[int, bool]]) -> list[Piece]:
        """Return the parts of pieces above polygon k that are over it."""
        pieces = [(self.pieces[j], inside) for j, inside in above]
        return [p if inside else p.within(self.polygons[k]) for p, inside in pieces if p]


def resolve_overlaps(polygons: GeometryArray, group: IntArray | None = None) -> OverlapResolution:
    """Find the visible part of each polygon, later ones on top.

    Parameters
    ----------
    polygons : array of valid Polygon and MultiPolygon, shape (K,)
    group : array, shape (K,), optional
        A polygon hides only those of its own group; all are one group when not given.

    Raises
    ------
    GeometryError
        If more than :data:`MAX_COMPARED` or :data:`MAX_CROSSED` points would have to be
        compared, or the geometry library fails on two outlines.

    Examples
    --------
    >>> field, island = shapely.box(0, 0, 9, 9), shapely.box(2, 2, 4, 4)
    >>> [len(piece.holes) for piece in resolve_overlaps(np.array([field, island])).pieces]
    [1, 0]
    """
    overlaps = _Overlaps.of(polygons, group)
    above: dict[int, set[int]] = defaultdict(set)
    neighbours: dict[int, set[int]] = defaultdict(set)
    containers: dict[int, set[int]] = defaultdict(set)
    hidden: set[int] = set()
    for low, high, high_inside, low_inside in overlaps:
        above[low].add(high)
        neighbours[low].add(high)
        neighbours[high].add(low)
        if high_inside:
            containers[high].add(low)
        if low_inside:
            containers[low].add(high)
            hidden.add(low)
    areas = shapely.area(polygons)
    # Containers before their contents; of two equal polygons the later one.
    size_rank = np.empty(len(polygons), np.int64)
    size_rank[np.lexsort((-np.arange(len(polygons)), -areas))] = np.arange(len(polygons))

    def piece(k: int) -> Piece | None:
        if k in hidden:
            return None
        # An upper polygon inside another upper one hides nothing more.
        outermost: set[int] = set()
        for j in sorted(above[k], key=size_rank.__getitem__):
            if outermost.isdisjoint(containers[j]):
                outermost.add(j)
        holes = []
        for cluster in _clusters(outermost, neighbours):
            part = unite(polygons[cluster])
            inside = all(k in containers[j] for j in cluster)
            holes.append(part if inside else split(part, polygons[k])[0])
        return Piece(polygons[k], tuple(holes))

    return OverlapResolution(polygons, tuple(piece(k) for k in range(len(polygons))), overlaps)


def _clusters(members: set[int], neighbours: dict[int, set[int]]) -> Iterator[list[int]]:
    """Yield the members in clusters that overlap directly or through others, sorted."""
    left = set(members)
    for first in sorted(members):
        if first not in left:
            continue
        left.remove(first)
        cluster = [first]
        for j in cluster:
            found = neighbours[j] & left
            left -= found
            cluster.extend(found)
        yield sorted(cluster)


def _outlines(parts: Iterable[tuple[int, list[Piece], list[Piece]]]) -> Outlines:
    """Return the outlines of regions: a number, pieces that are added, pieces subtracted."""
    polygons: list[Polygonal] = []
    regions: list[int] = []
    negative: list[bool] = []
    for region, added, subtracted in parts:
        for pieces, sign in ((added, False), (subtracted, True)):
            for piece in pieces:
                polygons.extend((piece.base, *piece.holes))
                negative.extend([sign, *[not sign] * len(piece.holes)])
        regions.extend([region] * (len(polygons) - len(regions)))
    return Outlines.of(
        as_array(polygons), np.array(regions, np.int64), np.array(negative, np.bool_)
    )
