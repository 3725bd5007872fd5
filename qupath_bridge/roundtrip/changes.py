"""Differences between a plan and the tiles that an earlier run wrote into the project."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache, partial
from itertools import compress, islice
from typing import NamedTuple

import numpy as np

from qupath_bridge.patches.ids import is_patch_id
from qupath_bridge.patches.lookup import PatchLookup
from qupath_bridge.patches.table import PatchTable
from qupath_bridge.pipeline.plan import Plan
from qupath_bridge.qupath.geojson import Tile

__all__ = ["TileChanges", "tile_changes", "tile_names"]

_BATCH = 512


class TileChanges(NamedTuple):
    """Ids of patches, sorted; ``both`` has those of the plan that the run has, too."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    label_changed: tuple[str, ...]
    both: tuple[str, ...]


def tile_changes(plan: Plan, tiles: Iterator[Tile]) -> TileChanges:
    """Compare a plan with the tiles that a run wrote, which are read some at a time."""
    table, lookup = plan.table, PatchLookup(plan.table)
    # Tiles mostly stand in the order of the plan.
    shown = lru_cache(maxsize=2)(partial(_shown, table))
    found = np.zeros(len(table), np.bool_)
    removed, label_changed = set[str](), set[str]()
    for batch in _batches(tiles):
        places = (number for tile in batch for number in (*tile.box, *tile.plane))
        lines = np.fromiter(places, np.int64, 6 * len(batch)).reshape(-1, 6)
        rows = lookup.rows(lines[:, :4], lines[:, 4], lines[:, 5])
        for tile, row in zip(batch, rows.tolist(), strict=True):
            name = _name(tile)
            if row < 0 or not is_patch_id(name, plan.slide_id, tile.box, tile.plane):
                removed.add(name)
                continue
            found[row] = True
            if _shown_by(tile) != shown(row // _BATCH)[row % _BATCH]:
                label_changed.add(name)
    return TileChanges(
        added=tuple(sorted(compress(table.patch_ids(plan.slide_id), ~found))),
        removed=tuple(sorted(removed)),
        label_changed=tuple(sorted(label_changed)),
        both=tuple(sorted(compress(table.patch_ids(plan.slide_id), found))),
    )


def tile_names(tiles: Iterable[Tile]) -> tuple[str, ...]:
    """Return the ids of the patches of tiles, sorted."""
    return tuple(sorted({_name(tile) for tile in tiles}))


def _batches(tiles: Iterator[Tile]) -> Iterator[list[Tile]]:
    while batch := list(islice(tiles, _BATCH)):
        yield batch


def _name(tile: Tile) -> str:
    return tile.name or tile.id


_NAMED = frozenset(("qb: label share", "qb: margin"))


def _shown_by(tile: Tile) -> tuple[str | None, dict[str, float]]:
    """Return class and shares that a tile shows; a share of zero is none."""
    measurements = tile.measurements.items()
    return tile.class_path, {n: value for n, value in measurements if value and n not in _NAMED}


def _shown(table: PatchTable, number: int) -> list[tuple[str | None, dict[str, float]]]:
    """Return class and shares of one batch of patches, as their tiles show them."""
    rows = np.arange(number * _BATCH, min((number + 1) * _BATCH, len(table)))
    chosen, covered = table.labels.take(rows), table.shares.take(rows)
    shares = [f"qb: {name}" for name in table.label_names]
    return [
        (
            ": ".join(table.label_names[code] for code in labels) or None,
            {shares[code]: value for code, value in zip(codes, values, strict=True)},
        )
        for labels, codes, values in zip(
            chosen.lists(), covered.lists(), covered.value_lists(), strict=True
        )
    ]
