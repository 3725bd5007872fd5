"""Outlines of a mask: polygons along the sides of its pixels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import shapely
from shapely.geometry import LinearRing, MultiPolygon

from qupath_bridge.model import IntArray, MaskArray

from .masks import label_pieces

__all__ = ["outline_mask"]

Corner = tuple[int, int]
"""x and y, pixels."""


def outline_mask(mask: MaskArray, scale: tuple[float, float] = (1.0, 1.0)) -> MultiPolygon:
    """Return the polygons that cover exactly the set pixels of a mask.

    Parameters
    ----------
    mask : array, shape (h, w), bool
    scale : (x, y)
        Pixels of the mask per unit of the result.

    Returns
    -------
    MultiPolygon
        Valid. One polygon per piece whose pixels touch at their sides, in the order of their
        first pixels; pieces and holes may touch at corners.

    Examples
    --------
    >>> outline_mask(np.ones((1, 2), bool)).wkt
    'MULTIPOLYGON (((0 0, 2 0, 2 1, 0 1, 0 0)))'
    """
    labels = label_pieces(mask)
    shells: dict[int, LinearRing] = {}
    holes: dict[int, list[LinearRing]] = {}
    for ring in _rings(mask):
        x, y = ring[0]
        places = shapely.linearrings(ring / np.asarray(scale, np.float64))
        # The first corner is the upper left one: its pixel is inside a shell, and below one
        # that is inside where it begins a hole.
        if mask.shape[0] > y and mask.shape[1] > x and mask[y, x]:
            shells[int(labels[y, x])] = places
        else:
            holes.setdefault(int(labels[y - 1, x]), []).append(places)
    return MultiPolygon([shapely.polygons(shells[k], holes.get(k)) for k in sorted(shells)])


def _rings(mask: MaskArray) -> Iterator[IntArray]:
    """Yield the corners (x, y) of each closed line between set pixels and others.

    The first is that with the least y, and the least x of these.
    """
    x, y, left_first, upper_first = _corners(mask)
    # Along a row of corners every second stretch between two of them is a side, and so it is
    # along a column: each corner has one partner in both.
    across = _partners(np.lexsort((~left_first, x, y)))
    along = _partners(np.lexsort((~upper_first, y, x)))
    places = list(zip(x.tolist(), y.tolist(), strict=True))
    seen = bytearray(len(x))
    for start in range(len(x)):
        if seen[start]:
            continue
        ring: list[Corner] = []
        here = start
        while True:
            other = across[here]
            ring += (places[here], places[other])
            seen[here] = seen[other] = 1
            here = along[other]
            if here == start:
                break
        for part in [ring] if len(set(ring)) == len(ring) else _apart(ring):
            yield np.array(part, np.int64)


def _apart(ring: list[Corner]) -> Iterator[list[Corner]]:
    """Yield the parts of a line that meets itself at corners, each without such a corner."""
    line: list[Corner] = []
    at: dict[Corner, int] = {}
    for corner in [*ring, ring[0]]:
        if corner in at:
            first = at[corner]
            part = line[first:]
            for gone in part[1:]:
                del at[gone]
            del line[first + 1 :]
            top = min(range(len(part)), key=lambda k: (part[k][1], part[k][0]))
            yield part[top:] + part[:top]
        else:
            at[corner] = len(line)
            line.append(corner)


def _partners(order: IntArray) -> list[int]:
    partners = np.empty(len(order), np.int64)
    partners[order[0::2]], partners[order[1::2]] = order[1::2], order[0::2]
    return partners.tolist()


def _corners(mask: MaskArray) -> tuple[IntArray, IntArray, MaskArray, MaskArray]:
    """Return the corners of a mask by row and column; where two lines cross there are two.

    Besides x and y: whether a corner ends the side on its left, and that above it, so that of two
    at one place each goes around its own pixel.
    """
    framed = np.pad(mask, 1)
    upper_left, upper_right = framed[:-1, :-1], framed[:-1, 1:]
    lower_left, lower_right = framed[1:, :-1], framed[1:, 1:]
    left, right = upper_left != lower_left, upper_right != lower_right
    crossing = left & right & (upper_left != upper_right)
    y, x = np.nonzero((left != right) | crossing)
    twice = crossing[y, x]
    falling = upper_left[y, x]  # of a crossing: its pixels are the upper left and lower right ones
    first = np.ones(len(x), np.bool_)
    index = np.repeat(np.arange(len(x)), 1 + twice)
    second = np.zeros(len(index), np.bool_)
    second[1:] = index[1:] == index[:-1]
    x, y, first, falling, twice = x[index], y[index], first[index], falling[index], twice[index]
    left_first = np.where(twice, second ^ falling, first)
    upper_first = np.where(twice, ~second, first)
    return x, y, left_first, upper_first
