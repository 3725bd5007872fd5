"""Resolution of overlaps: from polygons that overlap to pieces that share no area.

A later polygon hides the parts of earlier ones that it covers. A piece is its polygon minus the
hidden parts, as a difference of areas: the polygon itself is never cut. Most often the upper
polygon is wholly inside the lower one, or nothing overlaps at all, and then no geometry is
computed. Only where outlines cross, the common part is computed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from qupath_bridge.model import IntArray

from .edges import GeometryArray, Outlines, as_array
from .validity import Polygonal, split

__all__ = ["OverlapResolution", "Piece", "resolve_overlaps"]


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """The visible part of a polygon: a base, minus polygons inside it that share no area."""

    base: Polygonal
    holes: tuple[Polygonal, ...] = ()


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
    def of(cls, polygons: GeometryArray, group: IntArray | None) -> _Overlaps:
        """Find the pairs; with groups, only pairs of one group."""
        shapely.prepare(polygons)
        below, above = shapely.STRtree(polygons).query(polygons, predicate="intersects")
        limits = shapely.bounds(polygons)
        # Neighbours whose bounding boxes only touch, as tiles do, share nothing.
        corner = np.maximum(limits[below, :2], limits[above, :2])
        opposite = np.minimum(limits[below, 2:], limits[above, 2:])
        pairs = (below < above) & (corner < opposite).all(axis=1)
        if group is not None:
            pairs &= group[below] == group[above]
        below, above = below[pairs], above[pairs]
        inside = shapely.covers(polygons[below], polygons[above])
        hidden = shapely.covers(polygons[above], polygons[below])
        real = inside | hidden
        real[~real] = ~shapely.touches(polygons[below[~real]], polygons[above[~real]])
        order = np.lexsort((above[real], below[real]))
        return cls(*(column[real][order] for column in (below, above, inside, hidden)))


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
        return _outlines((k, piece) for k, piece in enumerate(self.pieces) if piece)

    def hidden_part(self, group: IntArray) -> Outlines:
        """Return the part of each polygon beneath pieces of its own group.

        The visible part and the hidden part of polygon k are together
        polygon k ∩ (union of all pieces of its group).
        """
        return _outlines(self._hidden_part(group))

    def _hidden_part(self, group: IntArray) -> Iterator[tuple[int, Piece]]:
        pairs = self.overlaps
        same = group[pairs.below] == group[pairs.above]
        for below, above, inside in zip(
            pairs.below[same].tolist(),
            pairs.above[same].tolist(),
            pairs.inside[same].tolist(),
            strict=True,
        ):
            piece = self.pieces[above]
            if piece and inside:
                yield below, piece
            elif piece:
                parts = (piece.base, *piece.holes)
                base, *holes = (split(part, self.polygons[below])[0] for part in parts)
                yield below, Piece(base, tuple(holes))


def resolve_overlaps(polygons: GeometryArray, group: IntArray | None = None) -> OverlapResolution:
    """Find the visible part of each polygon, later ones on top.

    Parameters
    ----------
    polygons : array of valid Polygon and MultiPolygon, shape (K,)
    group : array, shape (K,), optional
        A polygon hides only those of its own group; all are one group when not given.

    Examples
    --------
    >>> field, island = shapely.box(0, 0, 9, 9), shapely.box(2, 2, 4, 4)
    >>> [len(piece.holes) for piece in resolve_overlaps(np.array([field, island])).pieces]
    [1, 0]
    """
    overlaps = _Overlaps.of(polygons, group)
    above: dict[int, list[int]] = defaultdict(list)
    neighbours: dict[int, set[int]] = defaultdict(set)
    contents: set[tuple[int, int]] = set()
    hidden: set[int] = set()
    for low, high, high_inside, low_inside in zip(
        overlaps.below.tolist(),
        overlaps.above.tolist(),
        overlaps.inside.tolist(),
        overlaps.hidden.tolist(),
        strict=True,
    ):
        above[low].append(high)
        neighbours[low].add(high)
        neighbours[high].add(low)
        if high_inside:
            contents.add((low, high))
        if low_inside:
            contents.add((high, low))
            hidden.add(low)

    def piece(k: int) -> Piece | None:
        if k in hidden:
            return None
        covering = set(above[k])
        # An upper polygon inside another upper one hides nothing more. Of two equal ones the
        # later counts.
        for j in above[k]:
            if any(
                (i, j) in contents and (i > j or (j, i) not in contents)
                for i in neighbours[j] & covering
            ):
                covering.remove(j)
        holes = []
        for j in sorted(covering):
            part = polygons[j] if (k, j) in contents else split(polygons[j], polygons[k])[0]
            # The common part of two upper polygons is hidden once.
            for i in sorted(neighbours[j] & covering):
                part = split(part, polygons[i])[1] if i < j else part
            holes.append(part)
        return Piece(polygons[k], tuple(holes))

    return OverlapResolution(polygons, tuple(piece(k) for k in range(len(polygons))), overlaps)


def _outlines(pieces: Iterable[tuple[int, Piece]]) -> Outlines:
    polygons: list[Polygonal] = []
    regions: list[int] = []
    negative: list[bool] = []
    for region, piece in pieces:
        shapes = (piece.base, *piece.holes)
        polygons.extend(shapes)
        regions.extend([region] * len(shapes))
        negative.extend([False, *[True] * len(piece.holes)])
    return Outlines.of(
        as_array(polygons), np.array(regions, np.int64), np.array(negative, np.bool_)
    )
