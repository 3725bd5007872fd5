"""Shares of grid boxes: of labels, annotations and unions; and the owners of box centres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely

from qupath_bridge.geometry.accumulate import tidy
from qupath_bridge.geometry.coverage import grid_entries
from qupath_bridge.geometry.edges import GeometryArray, Outlines, as_array
from qupath_bridge.geometry.lattice import Entries
from qupath_bridge.geometry.overlap import resolve_overlaps
from qupath_bridge.geometry.points import points_inside
from qupath_bridge.model import FloatArray, IntArray, LabelRule

from .grid import Grid
from .labels import EPSILON
from .regions import ActiveRegion
from .roles import label_ranks
from .table import Ragged

__all__ = ["LabelShares", "cores_at_centres", "label_shares", "union_shares"]

AREA_DECIMALS = 6
"""Decimals to which areas of regions are compared: equal shapes tie, whatever point is first."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelShares:
    """Shares of labels and annotations in each of N boxes of a grid.

    Attributes
    ----------
    shares : Ragged
        Labels with a share > ε, and that share.
    regions : Ragged
        Annotations with a contribution > ε, largest first, and the contribution: the share of
        the box that the annotation covers and whose area its label owns.
    owners : Ragged or None
        Labels that own the centre of the box, for rule ``centre``.
    """

    shares: Ragged
    regions: Ragged
    owners: Ragged | None


def union_shares(regions: Sequence[ActiveRegion], grid: Grid) -> FloatArray:
    """Return the share of each box that the union of regions covers, shape (N,)."""
    overlaps = resolve_overlaps(as_array([region.polygon for region in regions]))
    entries = _entries(overlaps.visible_part(), grid)
    shares = np.bincount(_boxes(entries, grid), entries.value, minlength=len(grid))
    return tidy(shares.astype(np.float64))


def label_shares(
    regions: Sequence[ActiveRegion],
    grid: Grid,
    rule: LabelRule,
    names: Sequence[str],
    region_names: Sequence[str],
) -> LabelShares:
    """Return the shares of labels and annotations in each box, with overlaps resolved.

    Parameters
    ----------
    regions : sequence of ActiveRegion
        Regions of kind ``label``, all on one plane.
    names : sequence of str
        All labels, sorted.
    region_names : sequence of str
        Ids of all annotations, sorted.
    """
    polygons, ordered = _sort_bottom_up(regions, rule, names)
    label_code = {name: code for code, name in enumerate(names)}
    region_code = {name: code for code, name in enumerate(region_names)}
    labels = np.array([label_code[region.role.label or ""] for region in ordered], np.int64)
    ids = np.array([region_code[region.id] for region in ordered], np.int64)

    overlaps = resolve_overlaps(polygons, labels if rule.overlap == "independent" else None)
    visible = _entries(overlaps.visible_part(), grid)
    shares = _sum_by_box(visible, labels, grid)
    outlines, differs = overlaps.own_part(labels)
    own = Entries.concatenate([visible.take(~differs[visible.region]), _entries(outlines, grid)])
    contributions = _sort_by_value(_sum_by_box(own, ids, grid))
    owners = _centre_owners(polygons, labels, grid, rule) if rule.rule == "centre" else None
    return LabelShares(shares, contributions, owners)


def cores_at_centres(cores: GeometryArray, grid: Grid) -> IntArray:
    """Return the first core that contains each box's centre, -1 without a core, shape (N,)."""
    found = np.full(len(grid), len(cores))
    entries = _centres(cores, grid)
    np.minimum.at(found, _boxes(entries, grid), entries.region)
    return np.where(found < len(cores), found, -1)


def _sort_bottom_up(
    regions: Sequence[ActiveRegion], rule: LabelRule, names: Sequence[str]
) -> tuple[GeometryArray, list[ActiveRegion]]:
    """Return the polygons of all regions from the lowest to the topmost, and the region of each.

    Each polygon of a merged annotation is ordered by its own area: it may lie over one region and
    under another. The topmost polygon owns the area that it covers.
    """
    rank = dict(zip(names, label_ranks(names, rule), strict=True))
    polygons, owners = shapely.get_parts(
        as_array([region.polygon for region in regions]), return_index=True
    )
    areas = np.round(shapely.area(polygons), AREA_DECIMALS).tolist()
    shapes = shapely.to_wkb(shapely.normalize(polygons)).tolist()
    ids = [regions[owner].id for owner in owners.tolist()]
    ranks = [rank[regions[owner].role.label or ""] for owner in owners.tolist()]
    by_label = rule.overlap == "priority"
    # Of equal polygons the one that is listed first is on top, that is at the end.
    order = sorted(range(len(polygons)), key=lambda k: (ids[k], shapes[k]), reverse=True)
    order.sort(key=lambda k: (-ranks[k] if by_label else 0, -areas[k], -ranks[k]))
    return polygons[order], [regions[owners[k]] for k in order]


def _entries(outlines: Outlines, grid: Grid) -> Entries:
    return grid_entries(grid.xs, grid.ys, grid.box_width, grid.box_height, outlines)


def _centres(polygons: GeometryArray, grid: Grid) -> Entries:
    outlines = Outlines.of(polygons, np.arange(len(polygons)))
    xs = grid.xs.astype(np.float64) + grid.box_width / 2
    ys = grid.ys.astype(np.float64) + grid.box_height / 2
    return points_inside(xs, ys, outlines)


def _boxes(entries: Entries, grid: Grid) -> IntArray:
    """Return the number of each entry's box, counted row by row."""
    return entries.row * len(grid.cols) + entries.col


def _sum_by_box(entries: Entries, code_of_region: IntArray, grid: Grid) -> Ragged:
    """Sum the values of regions with the same code in each box; leave out sums up to ε."""
    if not len(entries):
        return Ragged.empty(len(grid), values=True)
    codes = int(code_of_region.max()) + 1
    keys = _boxes(entries, grid) * codes + code_of_region[entries.region]
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    sums = tidy(np.add.reduceat(entries.value[order], starts))
    real = sums > EPSILON
    rows, found = np.divmod(keys[starts][real], codes)
    return Ragged.of(rows, found, len(grid), sums[real])


def _sort_by_value(lists: Ragged) -> Ragged:
    """Sort each row by its values, descending, then by code."""
    order = np.lexsort((lists.codes, -lists.amounts, lists.rows))
    return Ragged(lists.offsets, lists.codes[order], lists.amounts[order])


def _centre_owners(
    polygons: GeometryArray, labels: IntArray, grid: Grid, rule: LabelRule
) -> Ragged:
    """Return the labels that own the centre of each box: the top one, or all if independent."""
    entries = _centres(polygons, grid)
    boxes = _boxes(entries, grid)
    if rule.overlap == "independent":
        count = int(labels.max(initial=0)) + 1
        rows, codes = np.divmod(np.unique(boxes * count + labels[entries.region]), count)
        return Ragged.of(rows, codes, len(grid))
    top = np.full(len(grid), -1)
    np.maximum.at(top, boxes, entries.region)
    rows = np.flatnonzero(top >= 0)
    return Ragged.of(rows, labels[top[rows]], len(grid))
