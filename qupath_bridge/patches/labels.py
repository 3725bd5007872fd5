"""Label rules: from shares of classes to labels of boxes, on arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from qupath_bridge.geometry.accumulate import DECIMALS
from qupath_bridge.model import FloatArray, IntArray, LabelRule

from .roles import check_class_names, label_ranks
from .table import LABEL_SOURCES, Ragged

Number = TypeVar("Number", np.float64, np.int64)

__all__ = [
    "EPSILON",
    "Decision",
    "add_background",
    "check_class_names",
    "decide",
    "object_labels",
    "one_label",
    "single_label",
]

EPSILON = 1e-9
"""Shares below it count as zero; limits and ties are compared with this tolerance."""


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """Labels of N boxes; the columns of :class:`~qupath_bridge.patches.table.PatchTable`."""

    labels: Ragged
    source: NDArray[np.int8]
    share: FloatArray
    margin: FloatArray

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Mask of boxes that have a label."""
        return self.source >= 0


def decide(
    rule: LabelRule, names: tuple[str, ...], shares: Ragged, owners: Ragged | None = None
) -> Decision:
    """Assign labels to boxes.

    Parameters
    ----------
    rule : LabelRule
    names : tuple of str
        The labels, sorted; codes are indices into it. ``rule.background`` is included, if set.
    shares : Ragged, N rows
        Labels with a share > ε and that share, codes ascending in each row.
    owners : Ragged, N rows, optional
        Labels that own the centre of a box; needed for rule ``centre``.

    Examples
    --------
    >>> shares = Ragged.of(np.array([0, 0, 1]), np.array([0, 1, 1]), 2, np.array([0.6, 0.3, 0.2]))
    >>> decision = decide(LabelRule(), ("Stroma", "Tumor"), shares)
    >>> decision.labels.codes.tolist(), decision.labelled.tolist()
    ([0], [True, False])
    >>> decision.share.tolist(), decision.margin.round(9).tolist()
    ([0.6, nan], [0.3, nan])
    """
    ranks = np.array(label_ranks(names, rule), np.int64)
    by_rank = np.argsort(ranks)
    if rule.rule == "majority":
        decision = single_label(_largest(shares, ranks, by_rank, rule.min_share), shares)
    elif rule.rule == "centre":
        decision = single_label(
            _lowest_rank(owners or Ragged.empty(len(shares)), ranks, by_rank), shares
        )
    else:
        least = rule.min_share - EPSILON if rule.rule == "threshold" else 0.0
        decision = _multi_label(shares, ranks, least)
    if rule.background is None:
        return decision
    return add_background(decision, names.index(rule.background))


def _per_row(
    ufunc: np.ufunc, lists: Ragged, values: NDArray[Number], nothing: float
) -> NDArray[Number]:
    """Reduce the values of each row; ``nothing`` for rows without any."""
    result = np.full(len(lists), nothing, values.dtype)
    filled = lists.lengths > 0
    if filled.any():
        result[filled] = ufunc.reduceat(values, lists.offsets[:-1][filled])
    return result


def _lowest_rank(lists: Ragged, ranks: IntArray, by_rank: IntArray) -> IntArray:
    """Return the code of lowest rank in each row, -1 for empty rows."""
    best = _per_row(np.minimum, lists, ranks[lists.codes], len(ranks))
    codes: IntArray = np.append(by_rank, -1)[best]
    return codes


def _largest(shares: Ragged, ranks: IntArray, by_rank: IntArray, least: float) -> IntArray:
    """Return the code with the largest share in each row, -1 if it is too small."""
    values = shares.amounts
    most = _per_row(np.maximum, shares, values, 0.0)
    tied = most[shares.rows] - values < EPSILON
    candidates = Ragged.of(shares.rows[tied], shares.codes[tied], len(shares))
    return np.where(most >= least - EPSILON, _lowest_rank(candidates, ranks, by_rank), -1)


def single_label(winner: IntArray, shares: Ragged) -> Decision:
    """Return labels, shares and margins of one label per row, -1 for none."""
    values, won = shares.amounts, shares.codes == winner[shares.rows]
    share = _per_row(np.maximum, shares, np.where(won, values, 0.0), 0.0)
    others = _per_row(np.maximum, shares, np.where(won, 0.0, values), 0.0)
    labelled = winner >= 0
    nothing = np.where(labelled, 0.0, np.nan)
    rows = np.flatnonzero(labelled)
    return Decision(
        Ragged.of(rows, winner[rows], len(winner)),
        np.where(labelled, LABEL_SOURCES.index("rule"), -1).astype(np.int8),
        share + nothing,
        np.round(share - others, DECIMALS).astype(np.float64) + nothing,
    )


def one_label(code: int, count: int) -> Decision:
    """Return the same label for all boxes, which their slide has and no region gave."""
    unknown = np.full(count, np.nan)
    return Decision(
        Ragged.of(np.arange(count), np.full(count, code), count),
        np.full(count, LABEL_SOURCES.index("metadata"), np.int8),
        unknown,
        unknown,
    )


def object_labels(labels: Ragged) -> Decision:
    """Return the labels that objects give their boxes, one or none for each."""
    unknown = np.full(len(labels), np.nan)
    source = np.where(labels.lengths > 0, LABEL_SOURCES.index("object"), -1).astype(np.int8)
    return Decision(labels, source, unknown, unknown)


def _multi_label(shares: Ragged, ranks: IntArray, least: float) -> Decision:
    """Make the columns of several labels per row, in the order of rank."""
    enough = shares.amounts >= least
    rows, codes = shares.rows[enough], shares.codes[enough]
    order = np.lexsort((ranks[codes], rows))
    labels = Ragged.of(rows, codes[order], len(shares))
    source = np.where(labels.lengths > 0, LABEL_SOURCES.index("rule"), -1).astype(np.int8)
    nothing = np.full(len(shares), np.nan)
    return Decision(labels, source, nothing, nothing)


def add_background(decision: Decision, code: int) -> Decision:
    """Return a decision in which rows without a label have that of the background."""
    labels, unlabelled = decision.labels, ~decision.labelled
    rows = np.concatenate([labels.rows, np.flatnonzero(unlabelled)])
    codes = np.concatenate([labels.codes, np.full(int(unlabelled.sum()), code)])
    order = np.argsort(rows, kind="stable")
    source = decision.source.copy()
    source[unlabelled] = LABEL_SOURCES.index("background")
    labels = Ragged.of(rows[order], codes[order], len(labels))
    return Decision(labels, source, decision.share, decision.margin)
