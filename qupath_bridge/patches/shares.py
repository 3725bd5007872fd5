"""Shares of boxes: of labels, annotations and unions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qupath_bridge.geometry.accumulate import tidy
from qupath_bridge.geometry.edges import as_array
from qupath_bridge.geometry.lattice import BoxEntries
from qupath_bridge.geometry.overlap import resolve_overlaps
from qupath_bridge.model import FloatArray, IntArray, LabelRule

from .boxes import PatchBoxes
from .centres import labels_at_centres
from .covering import covered_shares
from .labels import EPSILON
from .regions import ActiveRegion
from .roles import label_ranks
from .stack import stack_polygons
from .table import Ragged

__all__ = ["LabelRegions", "LabelShares", "UnionShares"]


@dataclass(frozen=True, slots=True, eq=False)
class LabelShares:
    """Shares of labels and annotations in each of N boxes.

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


class UnionShares:
    """The union of regions, whose share of boxes is measured band by band."""

    def __init__(self, regions: Sequence[ActiveRegion]) -> None:
        shapes = {region.polygon.normalize().wkb: region.polygon for region in regions}
        self._visible = resolve_overlaps(as_array(list(shapes.values()))).visible_part()

    def of(self, boxes: PatchBoxes) -> FloatArray:
        """Return the share of each box that the union covers, shape (N,)."""
        entries = covered_shares(boxes, self._visible)
        shares = np.bincount(entries.box, entries.value, minlength=len(boxes))
        return tidy(shares.astype(np.float64))


class LabelRegions:
    """Regions that label, with their overlaps resolved, whose shares are measured band by band.

    Parameters
    ----------
    regions : sequence of ActiveRegion
        Regions of kind ``label``, all on one plane.
    rule : LabelRule
    names : sequence of str
        All labels, sorted.
    region_names : sequence of str
        Ids of all annotations, sorted.
    """

    def __init__(
        self,
        regions: Sequence[ActiveRegion],
        rule: LabelRule,
        names: Sequence[str],
        region_names: Sequence[str],
    ) -> None:
        self._regions, self._rule = regions, rule
        self._stack = stack = stack_polygons(regions, rule, names)
        ranks = np.argsort(np.array(label_ranks(names, rule), np.int64))
        self._labels = labels = ranks[stack.label_ranks]
        code = {name: code for code, name in enumerate(region_names)}
        self._ids = np.array([code[region.id] for region in regions], np.int64)[stack.owners]

        self._independent = rule.overlap == "independent"
        overlaps = resolve_overlaps(stack.polygons, labels if self._independent else None)
        self._visible = overlaps.visible_part()
        self._own = list(overlaps.own_parts(labels))

    def shares(self, boxes: PatchBoxes) -> LabelShares:
        """Return the shares of labels and annotations in each box."""
        stack, labels = self._stack, self._labels
        visible = covered_shares(boxes, self._visible)
        shares = _sum_by_box(visible, labels, len(boxes))
        own = [covered_shares(boxes, outlines) for outlines in self._own]
        differs = np.zeros(len(labels), np.bool_)
        for entries in own:
            differs[entries.region] = True
        own.append(visible.take(~differs[visible.region]))
        contributions = _sort_by_value(
            _sum_by_box(stack.for_each_owner(BoxEntries.concatenate(own)), self._ids, len(boxes))
        )
        owners = None
        if self._rule.rule == "centre":
            owners = labels_at_centres(
                stack, labels, self._regions, boxes, topmost=not self._independent
            )
        return LabelShares(shares, contributions, owners)


def _sum_by_box(entries: BoxEntries, code_of_region: IntArray, count: int) -> Ragged:
    """Sum the values of regions with the same code in each box; leave out sums up to ε."""
    if not len(entries):
        return Ragged.empty(count, values=True)
    codes = int(code_of_region.max()) + 1
    keys = entries.box * codes + code_of_region[entries.region]
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    sums = tidy(np.add.reduceat(entries.value[order], starts))
    real = sums > EPSILON
    rows, found = np.divmod(keys[starts][real], codes)
    return Ragged.of(rows, found, count, sums[real])


def _sort_by_value(lists: Ragged) -> Ragged:
    """Sort each row by its values, descending, then by code."""
    order = np.lexsort((lists.codes, -lists.amounts, lists.rows))
    return Ragged(lists.offsets, lists.codes[order], lists.amounts[order])
