"""Splits: which slides a model learns from, and which it is measured on."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from qupath_bridge.errors import OutputError, UsageError
from qupath_bridge.frozen import FrozenDict, OneLine, count, one_line
from qupath_bridge.outputs.base import Output
from qupath_bridge.sources.table_files import listed

from .balance import Shares, Weights, fill, placing_order, relative
from .fold_tables import (
    SCHEMA_VERSION,
    FoldTable,
    SplitRecord,
    check_name,
    has_folds,
    index_digest,
    read_folds,
    write_folds,
)
from .folding import plain_folds
from .grouping import Unit, group_slides, join_groups, similar_values
from .run_slides import RunSlide, read_slides, values_of
from .site_folds import MOST_UNITS, best_folds

__all__ = ["LABEL", "TEST", "FoldCounts", "Recipe", "Split", "extend_split", "make_split"]

TEST = "test"
"""Fold of the slides that are held out of all others."""
LABEL = "label"
"""Key of stratification that stands for the labels of patches."""
_MOST_FOLDS = 100

Method = Literal["scikit-learn", "exact", "balanced"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """Recipe of a split.

    Attributes
    ----------
    folds : int
        At least 2.
    by : str
        Key of what must not be on two sides, as ``patient``.
    stratify : str or None
        ``label``, or a key of slides.
    preserve : str or None
        Key of what has to stay whole too, as ``site``.
    test : float or None
        Share that is held out.
    seed : int

    Raises
    ------
    UsageError
        If a number is outside its range.
    """

    folds: int
    by: str
    stratify: str | None = None
    preserve: str | None = None
    test: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.folds <= _MOST_FOLDS:
            raise UsageError(f"{self.folds} folds cannot be made.", hint=f"Use 2 to {_MOST_FOLDS}.")
        if self.test is not None and not 0.01 <= self.test <= 0.9:
            raise UsageError(
                f"A test set cannot have the share {self.test}.", hint="Use 0.01 to 0.9."
            )


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


def make_split(output: Output, name: str, recipe: Recipe) -> Split:
    """Put the slides of a run into folds, and write the table of them.

    Raises
    ------
    OutputError
        If there is no finished run, or another split of this name.
    UsageError
        If slides have no value of a key, or there are too few groups.
    """
    check_name(name)
    digest = index_digest(output)
    slides = _slides(output)
    units = _units(slides, recipe)
    parts = list(_fold_names(recipe))
    _check_number(units, len(parts), recipe)
    weights, classes = _weights(units, recipe)
    numbers, method = _assign(units, weights, recipe)
    chosen = {unit.name: parts[number] for unit, number in zip(units, numbers, strict=True)}
    _check_filled(chosen, parts, units)
    table = _table(name, recipe, digest, units, chosen, method, {})
    if has_folds(output, name) and read_folds(output, name) != table:
        raise OutputError(
            f"{output.describe()} has another split {name!r} already.",
            hint="Choose another name, or delete its files. To add new slides, extend it.",
        )
    files = write_folds(output, table)
    notes = (*_few(units, weights, classes, recipe), *_coarse(method, recipe, units))
    return _result(table, units, files, method, new=len(slides), warnings=notes)


def extend_split(output: Output, name: str) -> Split:
    """Bring a split up to date: known groups keep their fold, new ones are put where they fit.

    Raises
    ------
    OutputError
        If there is no finished run, or no split of this name that was made by us.
    UsageError
        If groups of several folds have become one; all of these are listed.
    """
    before = read_folds(output, name)
    if (record := before.record) is None:
        raise OutputError(
            f"{before.place} was made by hand, and does not say how.",
            hint="Add the new slides to it by hand.",
        )
    recipe = Recipe(
        record.folds, record.by, record.stratify, record.preserve, record.test, record.seed
    )
    digest = index_digest(output)
    slides = _slides(output)
    units = _units(slides, recipe)
    known = {unit.name: _known_folds(unit, before, record) for unit in units}
    _check_agreement(units, known, before, record)
    chosen = {name: min(folds) for name, folds in known.items() if folds}
    weights, classes = _weights(units, recipe)
    parts = list(_fold_names(recipe))
    chosen |= _place(units, weights, parts, chosen, recipe)
    table = _table(name, recipe, digest, units, chosen, record.method, record.known)
    files = write_folds(output, table)
    new = sum(slide.slide_id not in before.folds for slide in slides)
    return _result(
        table, units, files, record.method, new=new, warnings=_few(units, weights, classes, recipe)
    )


def _slides(output: Output) -> tuple[RunSlide, ...]:
    slides = read_slides(output)
    if not slides:
        raise OutputError(f"{output.describe()} has no patches to split.", hint="Export some.")
    return slides


def _units(slides: Sequence[RunSlide], recipe: Recipe) -> tuple[Unit, ...]:
    sites = None if recipe.preserve is None else values_of(slides, recipe.preserve)
    return join_groups(group_slides(slides, recipe.by), sites)


def _fold_names(recipe: Recipe) -> tuple[str, ...]:
    """Return the names of all parts, the test set first."""
    test = () if recipe.test is None else (TEST,)
    return (*test, *map(str, range(recipe.folds)))


def _check_number(units: Sequence[Unit], parts: int, recipe: Recipe) -> None:
    if len(units) >= parts:
        return
    key, values = recipe.preserve or recipe.by, sum(len(unit.sites) for unit in units)
    why = f", as groups of {recipe.by!r} join {values} values" if values > len(units) else ""
    most = len(units) - (recipe.test is not None)
    raise UsageError(
        f"There {'is' if len(units) == 1 else 'are'} {count(len(units), 'group')} by {key!r} for "
        f"{count(recipe.folds, 'fold')}{' and a test set' if recipe.test else ''}{why}.",
        hint=f"Use at most {most} folds, or another key."
        if most >= 2
        else "Export more slides, or use another key.",
    )


def _check_filled(chosen: Mapping[str, str], parts: Sequence[str], units: Sequence[Unit]) -> None:
    if empty := [part for part in parts if part not in chosen.values()]:
        raise UsageError(
            f"The {count(len(units), 'group')} leave {', '.join(empty)} without any: one of them "
            "outweighs the others.",
            hint="Use fewer folds.",
        )


def _weights(units: Sequence[Unit], recipe: Recipe) -> tuple[Weights, list[str]]:
    """Return what is balanced, shape (units, classes), and the names of the classes.

    Patches by label; slides by another key; all patches if nothing is stratified.
    """
    found: list[Counter[str]] = []
    slides = [slide for unit in units for slide in unit.slides]
    values = values_of(slides, recipe.stratify) if recipe.stratify not in (None, LABEL) else None
    for unit in units:
        own: Counter[str] = Counter()
        for slide in unit.slides:
            if recipe.stratify is None:
                own["patches"] += slide.patches
            elif values is None:
                own.update(slide.labels)
            else:
                own[values[slide.slide_id]] += 1
        found.append(own)
    classes = sorted({name for own in found for name in own})
    if recipe.stratify == LABEL and classes == [""]:
        raise UsageError("No patch has a label to stratify by.", hint="Leave stratify out.")
    return np.array([[own[name] for name in classes] for own in found], np.int64), classes


def _assign(units: Sequence[Unit], weights: Weights, recipe: Recipe) -> tuple[list[int], Method]:
    shares = Shares.of(recipe.folds, recipe.test)
    names, test = [unit.name for unit in units], recipe.test is not None
    if recipe.preserve is None:
        return plain_folds(names, weights, shares, test=test, seed=recipe.seed), "scikit-learn"
    scaled = relative(weights)
    order = placing_order(names, scaled, recipe.seed)
    best = best_folds(weights, shares, order, test=test)
    return (fill(scaled, shares, order), "balanced") if best is None else (best, "exact")


def _known_folds(unit: Unit, before: FoldTable, record: SplitRecord) -> set[str]:
    """Return the folds that slides and values of a unit had."""
    slides = {before.folds.get(slide.slide_id) for slide in unit.slides}
    values = {record.known.get(value) for value in unit.values}
    return {fold for fold in slides | values if fold is not None}


def _check_agreement(
    units: Sequence[Unit],
    known: Mapping[str, set[str]],
    before: FoldTable,
    record: SplitRecord,
) -> None:
    faults = []
    for unit in units:
        if len(known[unit.name]) > 1:
            places = {f"{record.by} {v!r} in {record.known[v]}" for v in unit.values
                      if v in record.known}  # fmt: skip
            places |= {f"{s.shown} in {before.folds[s.slide_id]}" for s in unit.slides
                       if s.slide_id in before.folds}  # fmt: skip
            faults.append(f"{unit.name}: {', '.join(sorted(places))}")
    if faults:
        raise UsageError(
            listed(f"Groups of different folds of {before.place} are one group now", faults),
            hint="\nMake a new split under another name: this one would leak.",
        )


def _place(
    units: Sequence[Unit],
    weights: Weights,
    parts: Sequence[str],
    chosen: Mapping[str, str],
    recipe: Recipe,
) -> dict[str, str]:
    """Return the folds of new units: where they balance best what is there."""
    new = [at for at, unit in enumerate(units) if unit.name not in chosen]
    if not new:
        return {}
    scaled = relative(weights)
    loads = np.zeros((len(parts), scaled.shape[1]), np.int64)
    for at, unit in enumerate(units):
        if unit.name in chosen:
            loads[parts.index(chosen[unit.name])] += scaled[at]
    names, own = [units[at].name for at in new], scaled[new]
    order = placing_order(names, own, recipe.seed)
    found = fill(own, Shares.of(recipe.folds, recipe.test), order, loads)
    return {name: parts[number] for name, number in zip(names, found, strict=True)}


def _table(
    name: str,
    recipe: Recipe,
    digest: str,
    units: Sequence[Unit],
    chosen: Mapping[str, str],
    method: Method,
    known: Mapping[str, str],
) -> FoldTable:
    folds, groups, values = {}, {}, dict(known)
    for unit in units:
        fold = chosen[unit.name]
        values |= dict.fromkeys(unit.values, fold)
        for group in unit.groups:
            for slide in group.slides:
                folds[slide.slide_id], groups[slide.slide_id] = fold, group.name
    record = SplitRecord(
        schema_version=SCHEMA_VERSION, by=recipe.by, folds=recipe.folds, stratify=recipe.stratify,
        preserve=recipe.preserve, test=recipe.test, seed=recipe.seed, method=method,
        index_digest=digest, known=dict(sorted(values.items())),
    )  # fmt: skip
    place = f"splits/{name}.parquet"
    return FoldTable(name, place, "slide_id", FrozenDict(folds), FrozenDict(groups), record)


def _few(
    units: Sequence[Unit], weights: Weights, classes: Sequence[str], recipe: Recipe
) -> tuple[str, ...]:
    """Return warnings about classes that fewer groups have than there are folds, and others."""
    parts = len(_fold_names(recipe))
    having = (weights > 0).sum(axis=0).tolist()
    notes = [
        f"Only {count(number, 'group has', 'groups have')} {name or 'no label'!r}: some folds "
        "are without it."
        for name, number in zip(classes, having, strict=True)
        if number < parts and recipe.stratify is not None
    ]
    notes += [
        f"Values of {recipe.by!r} that look like one, and are not: {', '.join(map(repr, alike))}."
        for alike in similar_values(value for unit in units for value in unit.values)
    ]
    return tuple(notes)


def _coarse(method: Method, recipe: Recipe, units: Sequence[Unit]) -> tuple[str, ...]:
    if method != "balanced":
        return ()
    reason = f"more than {MOST_UNITS}" if len(units) > MOST_UNITS else "hard to balance"
    return (
        f"The {len(units)} groups by {recipe.preserve!r} are {reason}: the balance of folds is "
        "good, and not proven to be the best.",
    )


def _result(
    table: FoldTable,
    units: Sequence[Unit],
    files: tuple[str, ...],
    method: Method,
    *,
    new: int,
    warnings: tuple[str, ...],
) -> Split:
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
