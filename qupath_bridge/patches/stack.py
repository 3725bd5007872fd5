"""The polygons of regions, one on top of the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import shapely

from qupath_bridge.errors import GeometryError
from qupath_bridge.geometry.edges import GeometryArray, as_array
from qupath_bridge.geometry.lattice import BoxEntries, ragged
from qupath_bridge.model import IntArray, LabelRule

from .regions import ActiveRegion
from .roles import label_ranks

__all__ = ["MAX_CONTRIBUTIONS", "Stack", "stack_polygons"]

AREA_DECIMALS = 6
"""Decimals to which areas of polygons are compared: equal shapes tie, whatever point is first."""

MAX_CONTRIBUTIONS = 10_000_000
"""Pairs of an annotation and a box that it covers in part; each needs some 100 bytes."""


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Distinct polygons of regions from the lowest to the topmost.

    Attributes
    ----------
    polygons : array of Polygon, shape (K,)
    label_ranks : array, shape (K,), int64
        Rank of each polygon's label, see :func:`~qupath_bridge.patches.roles.label_ranks`.
    owners : array, shape (M,), int64
        Numbers of regions, M ≥ K: copies of a region share its polygons.
    place : array, shape (M,), int64
        The polygon of each owner, ascending.
    """

    polygons: GeometryArray
    label_ranks: IntArray
    owners: IntArray
    place: IntArray

    def for_each_owner(self, entries: BoxEntries) -> BoxEntries:
        """Turn values of polygons into values of owners.

        Parameters
        ----------
        entries : BoxEntries
            ``region`` counts polygons.

        Returns
        -------
        BoxEntries
            ``region`` counts owners.

        Raises
        ------
        GeometryError
            If there are more than :data:`MAX_CONTRIBUTIONS`.
        """
        copies = np.bincount(self.place, minlength=len(self.polygons))[entries.region]
        count = int(copies.sum())
        if count > MAX_CONTRIBUTIONS:
            raise GeometryError(
                f"Regions lie in the boxes of the grid {count:,} times in all: too many to record "
                "which regions each patch has.",
                hint="Delete copies of regions in QuPath, or make fewer patches.",
            )
        entry, number = ragged(copies)
        repeated = entries.take(entry)
        return replace(repeated, region=self.place.searchsorted(repeated.region) + number)


def stack_polygons(regions: Sequence[ActiveRegion], rule: LabelRule, names: Sequence[str]) -> Stack:
    """Sort the polygons of all regions from the lowest to the topmost, copies once.

    Each polygon of a merged annotation is ordered by its own area: it may lie over one region and
    under another. The topmost polygon owns the area that it covers. Equal polygons of one label
    are one: a thousand copies cost as much as one. The order among polygons of one label and area
    decides nothing, as regions of one label are united.

    Parameters
    ----------
    regions : sequence of ActiveRegion
        Regions of kind ``label``.
    names : sequence of str
        All labels, sorted.
    """
    rank_of = dict(zip(names, label_ranks(names, rule), strict=True))
    polygons, owners = shapely.get_parts(
        as_array([region.polygon for region in regions]), return_index=True
    )
    areas = np.round(shapely.area(polygons), AREA_DECIMALS).tolist()
    shapes = shapely.to_wkb(shapely.normalize(polygons)).tolist()
    ranks = [rank_of[regions[owner].role.label or ""] for owner in owners.tolist()]
    by_label = rule.overlap == "priority"
    keys = [
        (-rank if by_label else 0, -area, -rank, shape)
        for rank, area, shape in zip(ranks, areas, shapes, strict=True)
    ]
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)
    first = [k == 0 or keys[order[k]] != keys[order[k - 1]] for k in range(len(order))]
    place = np.cumsum(first, dtype=np.int64) - 1
    distinct = order[np.array(first, np.bool_)]
    return Stack(polygons[distinct], np.array(ranks, np.int64)[distinct], owners[order], place)
