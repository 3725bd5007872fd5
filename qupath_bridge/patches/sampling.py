"""Sampling: which patches of a slide are taken where there are more than wanted.

Each patch has a rank that follows from its own box alone, and the patches of lowest rank are
taken. So the choice is the same in every run, on every machine and with any number of workers,
and a changed region changes little of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import xxhash
from numpy.typing import NDArray

from qupath_bridge.model import BoxArray, IntArray, MaskArray, Reason, SampleSpec

from .planning import KEPT, PlannedPatches
from .table import LABEL_SOURCES, PatchTable

__all__ = ["grid_ranks", "random_ranks", "sample_patches"]

RankArray = NDArray[np.uint64]

CORRECTED = LABEL_SOURCES.index("corrected")
BITS = 24
"""Of the number of a column or row of the grid that take part in a rank."""


def sample_patches(
    planned: PlannedPatches, spec: SampleSpec, *, step: tuple[int, int], slide: str
) -> PlannedPatches:
    """Take as many patches of a slide as the limits allow.

    Patches with a corrected label are taken first, so that what people said is not lost. First the
    limit of each label holds, then that of the slide. Under multi-label rules a patch counts for
    each of its labels, and is taken while none of them has enough.

    Parameters
    ----------
    planned : PlannedPatches
    spec : SampleSpec
    step : (int, int), QuPath pixels
        From one box of the grid to the next; what ``grid`` spreads evenly.
    slide : str
        Digest of the slide file: ``random`` takes other boxes of another slide.

    Returns
    -------
    PlannedPatches
        Those that are left out are counted as ``not_sampled``.
    """
    table = planned.table
    if not spec.limits:
        return planned
    if spec.method == "random":
        ranks = random_ranks(table, f"{spec.seed} {slide}")
    else:
        ranks = grid_ranks(table.boxes, step)
    taken = _taken(table, spec, ranks)
    left_out = int((~taken).sum())
    if not left_out:
        return planned
    dropped = dict(planned.dropped)
    dropped[Reason.NOT_SAMPLED] += left_out
    return replace(
        planned,
        table=table.take(taken),
        dropped=dropped,
        reasons=tuple(_left_out(planned.reasons, taken)),
    )


def random_ranks(table: PatchTable, seed: str) -> RankArray:
    """Return a random number for each patch, which follows from seed, box and plane; shape (N,)."""
    start = np.uint64(xxhash.xxh3_64_intdigest(seed.encode()))
    ranks = np.full(len(table), start, np.uint64)
    for column in (*table.boxes.T, table.z, table.t):
        ranks = _mixed(ranks + column.astype(np.int64).view(np.uint64))
    return ranks


def _mixed(values: RankArray) -> RankArray:
    """Return the next numbers of the generator SplitMix64, one for each value."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def grid_ranks(boxes: BoxArray, step: tuple[int, int]) -> RankArray:
    """Return ranks of boxes, of which the lowest ones make a coarser grid; shape (N,).

    Boxes of every 2nd column and row have lower ranks than the others, those of every 4th lower
    ones still, and so on.

    >>> x, y = np.meshgrid(range(4), range(4))
    >>> boxes = np.column_stack([x.ravel(), y.ravel(), np.ones((16, 2), int)])
    >>> boxes[grid_ranks(boxes, (1, 1)).argsort()[:4], :2].tolist()
    [[0, 0], [2, 0], [0, 2], [2, 2]]
    """
    cols, rows = (boxes[:, :2] // step).T.astype(np.int64).view(np.uint64)
    ranks = np.zeros(len(boxes), np.uint64)
    for _ in range(BITS):
        for numbers in (rows, cols):
            ranks = (ranks << np.uint64(1)) | (numbers & np.uint64(1))
        rows, cols = rows >> np.uint64(1), cols >> np.uint64(1)
    return ranks


def _taken(table: PatchTable, spec: SampleSpec, ranks: RankArray) -> MaskArray:
    """Return which patches are taken, shape (N,)."""
    later = table.label_source != CORRECTED
    taken = np.ones(len(table), np.bool_)
    if spec.max_per_label is not None:
        choose = _of_lists if table.multi else _of_each_label
        taken = choose(table, np.lexsort((ranks, later)), spec.max_per_label)
    if spec.max_per_slide is not None:
        order = np.lexsort((ranks, later, ~taken))
        taken[order[spec.max_per_slide :]] = False
    return taken


def _of_each_label(table: PatchTable, order: IntArray, limit: int) -> MaskArray:
    """Return the first patches of each label in an order; of those without a label, all."""
    codes = np.full(len(table), -1)
    codes[table.labels.lengths > 0] = table.labels.codes
    grouped = order[np.argsort(codes[order], kind="stable")]
    starts = np.searchsorted(codes[grouped], codes[grouped])
    taken = np.empty(len(table), np.bool_)
    taken[grouped] = np.arange(len(grouped)) - starts < limit
    return taken | (codes < 0)


def _of_lists(table: PatchTable, order: IntArray, limit: int) -> MaskArray:
    """Return the first patches in an order, each as long as none of its labels has enough."""
    offsets, codes = table.labels.offsets.tolist(), table.labels.codes.tolist()
    room = [limit] * len(table.label_names)
    taken = np.zeros(len(table), np.bool_)
    for row in order.tolist():
        labels = codes[offsets[row] : offsets[row + 1]]
        if all(room[label] for label in labels):
            taken[row] = True
            for label in labels:
                room[label] -= 1
    return taken


def _left_out(reasons: tuple[bytes, ...], taken: MaskArray) -> Iterator[bytes]:
    """Yield the reasons of each plane, with that of patches that are not taken."""
    start = 0
    for plane in reasons:
        codes = np.frombuffer(plane, np.uint8).copy()
        kept = np.flatnonzero(codes == KEPT)
        here = taken[start : start + len(kept)]
        codes[kept[~here]] = list(Reason).index(Reason.NOT_SAMPLED)
        start += len(kept)
        yield codes.tobytes()
