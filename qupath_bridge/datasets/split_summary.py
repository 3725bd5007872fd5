"""A split as its caller gets it: what each fold has, and what should be known about it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qupath_bridge.frozen import FrozenDict, OneLine, count, one_line

from .fold_tables import FoldTable, Method
from .grouping import Unit
from .run_slides import RunSlide

__all__ = ["TEST", "FoldCounts", "Split", "summarize"]

TEST = "test"
"""Fold of the slides that are held out of all others."""


@dataclass(frozen=True, slots=True, repr=False)
class FoldCounts(OneLine):
    """Numbers of a fold: groups, slides and patches, and patches by label."""

    groups: int
    slides: int
    patches: int
    by_label: Mapping[str, int]


@dataclass(frozen=True, slots=True, repr=False)
class Split:
    """A split of a run.

    Attributes
    ----------
    name : str
    folds : mapping of str to str
        The fold of each slide id: ``0``, ``1`` …, and ``test``.
    groups : mapping of str to str
        The group of each slide id.
    counts : mapping of str to FoldCounts
        What each fold has.
    method : str
        ``scikit-learn``; or ``exact`` or ``balanced``, if sites were preserved.
    files : tuple of str
        Names of its tables in the output.
    new : int
        Number of slides that extending it added; all if it was made anew.
    joined : tuple of str
        Groups of several values, and why they are one.
    warnings : tuple of str
    """

    name: str
    folds: Mapping[str, str]
    groups: Mapping[str, str]
    counts: Mapping[str, FoldCounts]
    method: Method
    files: tuple[str, ...]
    new: int
    joined: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.folds)

    def __repr__(self) -> str:
        return one_line(
            "Split", f"{self.name!r}, {count(len(self), 'slide')}",
            *(f"{fold}: {each.slides}" for fold, each in self.counts.items()),
        )  # fmt: skip


def summarize(
    table: FoldTable,
    units: Sequence[Unit],
    files: tuple[str, ...],
    method: Method,
    *,
    new: int,
    warnings: tuple[str, ...],
) -> Split:
    """Return a split with the numbers of its folds, and the groups that were joined."""
    slides: defaultdict[str, list[RunSlide]] = defaultdict(list)
    groups: Counter[str] = Counter()
    for unit in units:
        fold = table.folds[unit.slides[0].slide_id]
        slides[fold] += unit.slides
        groups[fold] += len(unit.groups)
    names = sorted(slides, key=lambda fold: (fold == TEST, fold.zfill(3)))
    counts = {fold: _counts(groups[fold], slides[fold]) for fold in names}
    joined = tuple(
        f"{group.name}: one group, as they share the slide file {', '.join(group.shared)}"
        for unit in units
        for group in unit.groups
        if len(group.values) > 1
    )
    joined += tuple(
        f"{unit.name}: in one fold, as a group is of several of them"
        for unit in units
        if len(unit.sites) > 1
    )
    return Split(
        table.name, table.folds, table.groups, FrozenDict(counts), method, files, new, joined,
        warnings,
    )  # fmt: skip


def _counts(groups: int, slides: Sequence[RunSlide]) -> FoldCounts:
    labels: Counter[str] = Counter()
    for slide in slides:
        labels.update(slide.labels)
    return FoldCounts(groups, len(slides), labels.total(), FrozenDict(sorted(labels.items())))
