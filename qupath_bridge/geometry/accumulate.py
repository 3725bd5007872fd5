"""Exact area accumulation: the share of each box of a grid that polygons cover.

As in anti-aliased font rasterisers. Each edge of a polygon is split at the lines of the grid.
Each piece adds, to its cell, the area between itself and the cell's right side, and its height
(the *cover*); a running sum of covers along the row fills the cells to the right. The cost grows
with the length of boundaries, not with area times boxes, and nothing is approximated.

The grid has a line at each start and each end of a box, so that boxes may overlap or leave gaps;
a box is the sum of its cells. Each region has its own window of the grid, and all windows are
stored one after the other in flat arrays: 10,000 small regions cost as much as a few large ones
with as many vertices.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from qupath_bridge.model import FloatArray, IntArray

from .edges import Chain, Edges, Outlines, chains, chunks
from .lattice import Lattice, Windows, ragged

__all__ = ["DECIMALS", "box_shares", "tidy"]

DECIMALS = 12
"""Precision of shares; rounding removes the noise of the sums, so that an inner box has 1.0."""


def box_shares(outlines: Outlines, lattice: Lattice) -> Iterator[tuple[Windows, FloatArray]]:
    """Yield the share of each box that each region covers, in batches.

    Parameters
    ----------
    outlines : Outlines
        The polygons of regions 0, 1, …; those of one region do not overlap.
    lattice : Lattice

    Yields
    ------
    windows : Windows
        Rows and columns of boxes; a large region comes in several windows.
    shares : array, shape (windows.size,), float64, unitless, in [0, 1]
    """
    for boxes in _box_windows(outlines, lattice).batches():
        cells = _cell_windows(boxes, lattice)
        areas = _cell_areas(outlines, lattice, cells)
        boxes, areas = _sum_columns(areas, boxes, cells, lattice)
        areas = _sum_rows(areas, boxes, cells, lattice)
        yield boxes, tidy(areas / lattice.area)


def tidy(shares: FloatArray) -> FloatArray:
    """Clip shares to [0, 1] and round them to 12 decimals, in place."""
    return np.round(np.clip(shares, 0.0, 1.0, out=shares), DECIMALS, out=shares)


def _box_windows(outlines: Outlines, lattice: Lattice) -> Windows:
    """Return the boxes that intersect each region's bounding box, in bands of bounded size."""
    limits = outlines.bounds() - [*lattice.origin, *lattice.origin]
    col, col_end = lattice.x.touched(limits[:, 0], limits[:, 2])
    row, row_end = lattice.y.touched(limits[:, 1], limits[:, 3])
    width, height = col_end - col, row_end - row
    region = np.flatnonzero((width > 0) & (height > 0))
    windows = Windows(region, row[region], col[region], height[region], width[region])
    return windows.banded()


def _cell_windows(boxes: Windows, lattice: Lattice) -> Windows:
    """Return the cells of windows of boxes, with one spare cell after each row."""
    x, y = lattice.x, lattice.y
    row, col = y.first[boxes.row], x.first[boxes.col]
    height = y.last[boxes.row + boxes.height - 1] - row
    width = x.last[boxes.col + boxes.width - 1] - col
    return Windows(boxes.region, row, col, height, width, pad=1)


def _cell_areas(outlines: Outlines, lattice: Lattice, cells: Windows) -> FloatArray:
    """Return the area that each region covers of each cell of its window, flat."""
    area, cover = np.zeros(cells.size), np.zeros(cells.size)
    polygons, slots = outlines.slotted(cells.region)
    for chain in chains(polygons, slots, lattice.origin):
        whole = _add_whole(chain, cells, lattice, area, cover)
        _add_split(chain.edges(chain.real & ~whole), cells, lattice, area, cover)
    # A ring is closed, so covers of a row sum to 0. The part right of the window was left out;
    # its cover goes to the spare cell, so that one sum runs through all rows.
    starts = cells.row_starts
    ends = np.append(starts[1:], cells.size) - 1
    cover[ends] = -np.add.reduceat(cover, starts)
    before = np.cumsum(cover) - cover
    area += before * _cell_widths(cells, lattice)
    area[ends] = 0.0
    return area


def _add_whole(
    chain: Chain, cells: Windows, lattice: Lattice, area: FloatArray, cover: FloatArray
) -> NDArray[np.bool_]:
    """Add the edges that lie in one cell of their window; return a mask of these edges."""
    col = lattice.x.lines.searchsorted(chain.x, "right") - 1
    row = lattice.y.lines.searchsorted(chain.y, "right") - 1
    whole: NDArray[np.bool_] = chain.real & (col[1:] == col[:-1]) & (row[1:] == row[:-1])
    slot, col, row = chain.slot[:-1], col[:-1], row[:-1]
    window_col, window_row = cells.col[slot], cells.row[slot]
    whole &= (col >= window_col) & (col < window_col + cells.width[slot])
    whole &= (row >= window_row) & (row < window_row + cells.height[slot])
    edges, col, row = chain.edges(whole), col[whole], row[whole]
    rise = edges.y0 - edges.y1
    right = lattice.x.lines[col + 1] - (edges.x0 + edges.x1) / 2
    _add_pieces(cells, edges.slot, row, col, rise, rise * right, area, cover)
    return whole


def _add_split(
    edges: Edges, cells: Windows, lattice: Lattice, area: FloatArray, cover: FloatArray
) -> None:
    """Split edges at the lines between rows, then columns, and add the pieces."""
    edges, sign = edges.upward()
    lines = lattice.y.lines
    first = lines.searchsorted(edges.y0, "right") - 1
    last = lines.searchsorted(edges.y1, "left") - 1
    first = np.maximum(first, cells.row[edges.slot])
    last = np.minimum(last, (cells.row + cells.height)[edges.slot] - 1)
    counts = np.maximum(last - first + 1, 0)
    for piece in chunks(counts):
        edge, step = ragged(counts[piece])
        edge += piece.start
        row = first[edge] + step
        x0, y0, x1, y1 = edges.x0[edge], edges.y0[edge], edges.x1[edge], edges.y1[edge]
        low, high = np.maximum(y0, lines[row]), np.minimum(y1, lines[row + 1])
        at_low, at_high = _interpolate(low, y0, y1, x0, x1), _interpolate(high, y0, y1, x0, x1)
        parts = Edges(at_low, low, at_high, high, edges.slot[edge])
        _add_row_parts(parts, row, sign[edge], cells, lattice, area, cover)


def _add_row_parts(
    edges: Edges,
    row: IntArray,
    sign: FloatArray,
    cells: Windows,
    lattice: Lattice,
    area: FloatArray,
    cover: FloatArray,
) -> None:
    """Split upward edges, each in one row, at the lines between columns, and add the pieces."""
    lines = lattice.x.lines
    right = edges.x1 >= edges.x0
    x0, x1 = np.where(right, edges.x0, edges.x1), np.where(right, edges.x1, edges.x0)
    y0, y1 = np.where(right, edges.y0, edges.y1), np.where(right, edges.y1, edges.y0)
    # All columns left of the window count as one: as if on the window's left line. Pieces right
    # of the window are left out.
    least, most = cells.col[edges.slot] - 1, (cells.col + cells.width)[edges.slot] - 1
    first = np.maximum(lines.searchsorted(x0, "right") - 1, least)
    last = np.maximum(lines.searchsorted(x1, "left") - 1, first)
    counts = np.maximum(np.minimum(last, most) - first + 1, 0)
    for piece in chunks(counts):
        edge, step = ragged(counts[piece])
        edge += piece.start
        col = first[edge] + step
        a, b, ya, yb = x0[edge], x1[edge], y0[edge], y1[edge]
        from_x = np.where(step == 0, a, lines[np.maximum(col, 0)])
        to_x = np.where(col == last[edge], b, lines[col + 1])
        rise = np.abs(_interpolate(to_x, a, b, ya, yb) - _interpolate(from_x, a, b, ya, yb))
        rise = np.where(a == b, np.abs(yb - ya), rise) * sign[edge]
        middle = np.where(col < cells.col[edges.slot[edge]], lines[col + 1], (from_x + to_x) / 2)
        col = np.maximum(col, cells.col[edges.slot[edge]])
        share = rise * (lines[col + 1] - middle)
        _add_pieces(cells, edges.slot[edge], row[edge], col, rise, share, area, cover)


def _interpolate(
    at: FloatArray, a: FloatArray, b: FloatArray, value_a: FloatArray, value_b: FloatArray
) -> FloatArray:
    """Interpolate from (a, value_a) to (b, value_b); exact at both ends."""
    length = b - a
    part = (at - a) / np.where(length == 0, 1.0, length)
    return np.where(at == b, value_b, value_a + part * (value_b - value_a))


def _add_pieces(
    cells: Windows,
    slot: IntArray,
    row: IntArray,
    col: IntArray,
    rise: FloatArray,
    right: FloatArray,
    area: FloatArray,
    cover: FloatArray,
) -> None:
    """Add heights, and the areas to the right, of pieces to their cells."""
    if not len(slot):
        return
    stride = cells.stride
    shift = cells.base - cells.row * stride - cells.col
    index = shift[slot] + row * stride[slot] + col
    low, high = int(index.min()), int(index.max()) + 1
    index -= low
    cover[low:high] += np.bincount(index, rise)
    area[low:high] += np.bincount(index, right)


def _cell_widths(cells: Windows, lattice: Lattice) -> FloatArray | float:
    """Return the width of each cell of some windows, flat; 0 for spare cells."""
    widths = np.diff(lattice.x.lines)
    if (widths == widths[0]).all():
        return float(widths[0])
    rows = np.repeat(np.arange(len(cells)), cells.height)
    _, col = ragged(cells.stride[rows])
    col += np.repeat(cells.col[rows], cells.stride[rows])
    flat: FloatArray = np.append(widths, 0.0)[col]
    return flat


def _sum_columns(
    areas: FloatArray, boxes: Windows, cells: Windows, lattice: Lattice
) -> tuple[Windows, FloatArray]:
    """Sum the cells of each box along x; rows stay rows of cells."""
    axis = lattice.x
    if axis.seamless:
        return replace(boxes, pad=1), areas
    rows = np.repeat(np.arange(len(boxes)), cells.height)
    row, col = ragged(boxes.width[rows])
    start = cells.row_starts[row] - cells.col[rows][row]
    col += boxes.col[rows][row]
    limits = np.empty(2 * len(col), np.int64)
    limits[::2], limits[1::2] = start + axis.first[col], start + axis.last[col]
    sums: FloatArray = np.add.reduceat(areas, limits)
    return boxes, sums[::2]


def _sum_rows(areas: FloatArray, boxes: Windows, cells: Windows, lattice: Lattice) -> FloatArray:
    """Sum the rows of cells of each box along y."""
    axis = lattice.y
    if axis.seamless:
        return areas
    window, row = ragged(boxes.height)
    row += boxes.row[window]
    base = np.cumsum(cells.height * boxes.stride) - cells.height * boxes.stride
    stride = boxes.stride[window]
    # Per row of boxes: the start of its first row of cells, and the number of rows of cells.
    start = base[window] + (axis.first[row] - cells.row[window]) * stride
    count = axis.last[row] - axis.first[row]
    line, step = ragged(stride)
    first, stride, count = start[line] + step, stride[line], count[line]
    total: FloatArray = areas[first]
    for k in range(1, int(count.max())):
        total += np.where(k < count, areas[np.minimum(first + k * stride, len(areas) - 1)], 0.0)
    return total
