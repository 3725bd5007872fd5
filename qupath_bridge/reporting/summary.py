"""Counts of an index, and samples of its patches: pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from qupath_bridge.config.quality import KEPT_RAW
from qupath_bridge.model import FloatArray, IntArray
from qupath_bridge.outputs.row_batches import AnyRows, batches_of

__all__ = [
    "BINS",
    "NO_LABEL",
    "Histogram",
    "IndexSummary",
    "add_histograms",
    "choose_rows",
    "evenly",
    "groups_of",
    "summarize",
]

BINS = 20
"""Bars of a histogram of shares."""
NO_LABEL = ""
"""Stands for the label of a patch without one."""
CORRECTED = "corrected"
"""Name of a group of patches that is shown beside those of the labels; :data:`KEPT_RAW` is one."""

Histogram = tuple[int, ...]
"""Number of patches by share: ``BINS`` bars of the same width from 0 to 1."""
Group = tuple[str, str]
"""Kind and name: ``("label", "Tumor")``, ``("flag", "corrected")``."""


@dataclass(frozen=True, slots=True)
class IndexSummary:
    """Numbers of the rows of a slide.

    Attributes
    ----------
    patches : int
    groups : mapping of Group to int
        Number of patches of each label and flag. A patch with several labels counts in each.
    shares : mapping of str to Histogram
        Label shares, by label.
    tissue : Histogram or None
        Tissue shares; None if there was no tissue test.
    metadata : mapping of str to str
        Of the slide, as its rows have it.
    """

    patches: int = 0
    groups: Mapping[Group, int] = field(default_factory=dict)
    shares: Mapping[str, Histogram] = field(default_factory=dict)
    tissue: Histogram | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    def labels(self) -> dict[str, int]:
        """Return the number of patches by label, most first, then by name."""
        counts = {name: n for (kind, name), n in self.groups.items() if kind == "label"}
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def flags(self) -> dict[str, int]:
        """Return the number of patches by flag."""
        return {name: n for (kind, name), n in sorted(self.groups.items()) if kind == "flag"}


def histogram(values: FloatArray) -> IntArray:
    """Return the number of values in each of ``BINS`` bins from 0 to 1; 1 is in the last.

    >>> histogram(np.array([0.0, 0.049, 0.5, 1.0])).nonzero()[0].tolist()
    [0, 10, 19]
    """
    places = np.clip((np.asarray(values) * BINS + 1e-9).astype(np.int64), 0, BINS - 1)
    return np.bincount(places, minlength=BINS).astype(np.int64)


def add_histograms(histograms: Iterable[Histogram | None]) -> Histogram | None:
    """Return the sum of histograms; None if there is none.

    >>> add_histograms([(1, 2), None, (3, 4)])
    (4, 6)
    """
    present = [one for one in histograms if one is not None]
    return tuple(map(sum, zip(*present, strict=True))) if present else None


def groups_of(batch: pa.RecordBatch) -> dict[Group, IntArray]:
    """Return which rows of a batch of the index are in each group, ascending."""
    found: dict[Group, IntArray] = {}
    labels = batch.column("label")
    if pa.types.is_list(labels.type):
        rows = np.asarray(pc.list_parent_indices(labels))
        names = labels.flatten()
        empty = np.setdiff1d(np.arange(len(labels)), rows)
    else:
        rows, names = np.arange(len(labels)), labels
        empty = rows[np.asarray(labels.is_null())]
    for name in names.drop_null().unique().to_pylist():
        same = pc.fill_null(pc.equal(names, name), False)
        found["label", name] = rows[np.asarray(same)]
    if len(empty):
        found["label", NO_LABEL] = empty
    for flag, rows in _flags(batch):
        if len(rows):
            found["flag", flag] = rows
    return found


def _flags(batch: pa.RecordBatch) -> Iterable[tuple[str, IntArray]]:
    names = batch.schema.names
    if "label_source" in names:
        same = pc.equal(batch.column("label_source"), CORRECTED)
        yield CORRECTED, np.flatnonzero(np.asarray(pc.fill_null(same, False)))
    if KEPT_RAW in names:
        flagged = pc.fill_null(batch.column(KEPT_RAW), False)
        yield KEPT_RAW, np.flatnonzero(np.asarray(flagged))


def summarize(rows: AnyRows) -> IndexSummary:
    """Return the numbers of the rows of a slide, read some thousand at a time."""
    groups: Counter[Group] = Counter()
    shares: dict[str, IntArray] = {}
    tissue = np.zeros(BINS, np.int64)
    tested, metadata = False, None
    columns = ["label", "label_source", "label_share", "tissue_share", "metadata", KEPT_RAW]
    for batch in batches_of(rows, [name for name in columns if name in rows.schema.names]):
        share = _floats(batch.column("label_share"))
        for (kind, name), found in groups_of(batch).items():
            groups[kind, name] += len(found)
            known = share[found]
            known = known[~np.isnan(known)]
            if kind == "label" and len(known):
                shares[name] = shares.get(name, np.zeros(BINS, np.int64)) + histogram(known)
        shown = _floats(batch.column("tissue_share"))
        shown = shown[~np.isnan(shown)]
        tested |= bool(len(shown))
        tissue = tissue + histogram(shown)
        if metadata is None and batch.num_rows:
            metadata = dict(batch.column("metadata")[0].as_py() or ())
    return IndexSummary(
        rows.num_rows,
        dict(groups),
        {name: tuple(counts.tolist()) for name, counts in shares.items()},
        tuple(tissue.tolist()) if tested else None,
        metadata or {},
    )


def _floats(column: pa.Array) -> FloatArray:
    """Return numbers, NaN for null."""
    return np.asarray(column.fill_null(np.nan).to_numpy(zero_copy_only=False), np.float64)


def evenly(number: int, wanted: int) -> IntArray:
    """Return ``wanted`` of the numbers 0 to ``number - 1``, spread evenly, ascending.

    >>> evenly(10, 3).tolist(), evenly(2, 3).tolist(), evenly(0, 3).tolist()
    ([1, 5, 8], [0, 1], [])
    """
    wanted = min(number, wanted)
    places = (np.arange(wanted) + 0.5) * (number / max(wanted, 1))
    return places.astype(np.int64)


def choose_rows(
    rows: AnyRows, groups: Mapping[Group, int], wanted: int, columns: Iterable[str]
) -> dict[Group, list[dict[str, Any]]]:
    """Return some rows of each group, spread evenly over the slide; the same ones each time.

    Parameters
    ----------
    rows : rows of a slide
    groups : mapping of Group to int
        Number of patches of each, as :func:`summarize` counts them.
    wanted : int
        Rows per group.
    columns : iterable of str
        Names of those that the rows shall have; others than the index has are left out.
    """
    ranks = {group: evenly(number, wanted) for group, number in groups.items()}
    seen: Counter[Group] = Counter()
    chosen: dict[Group, list[dict[str, Any]]] = {group: [] for group in groups}
    needed = {*columns, "label", "label_source", KEPT_RAW}
    for batch in batches_of(rows, [name for name in rows.schema.names if name in needed]):
        for group, found in groups_of(batch).items():
            start = seen[group]
            seen[group] += len(found)
            here = ranks[group][(ranks[group] >= start) & (ranks[group] < seen[group])] - start
            chosen[group] += batch.take(pa.array(found[here])).to_pylist()
    return chosen
