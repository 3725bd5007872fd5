"""Leaks between folds: what a model would learn from one side and be measured by on another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from qupath_bridge.errors import OutputError
from qupath_bridge.frozen import FrozenDict, OneLine, count, one_line
from qupath_bridge.outputs.base import Output
from qupath_bridge.outputs.index import rows_of
from qupath_bridge.pipeline.records import load_finished

from .box_overlaps import overlaps
from .fold_tables import FoldTable, check_fresh, fold_column, read_folds
from .patch_looks import read_looks
from .run_slides import RunSlide, read_slides, values_of
from .similar_patches import Looks, similar_pairs

__all__ = ["KEPT", "Leak", "LeakCheck", "LeakKind", "check_leakage"]

LeakKind = Literal["group", "site", "file", "overlap", "identical", "similar"]

KEPT = 1000
"""Leaks of a kind that are listed; all are counted."""
MOST_PATCHES = 100_000
"""Patches whose pixels are compared if nothing else is asked for."""
_COLUMNS = (
    "patch_id", "slide_digest", "x_slide", "y_slide", "w_slide", "h_slide", "z", "t", "width",
    "height", "mpp", "channels", "dtype", "path", "offset", "length", "digest",
)  # fmt: skip


@dataclass(frozen=True, slots=True, repr=False)
class Leak(OneLine):
    """Something that is on two sides of a split: both places, and what they share.

    ``kind`` is ``group`` (the same value of the key), ``site`` (the same value of a preserved
    key), ``file`` (the same slide file), ``overlap`` (patches that share pixels), ``identical``
    (patches with the same bytes) or ``similar`` (patches that show the same). ``first`` and
    ``second`` are slide ids or patch ids, ``folds`` those that they are in.
    """

    kind: LeakKind
    first: str
    second: str
    folds: tuple[str, str]
    shared: str


@dataclass(frozen=True, slots=True, repr=False)
class LeakCheck:
    """Result of a check for leaks.

    Attributes
    ----------
    split : str
    leaks : tuple of Leak
        At most 1,000 of each kind.
    counts : mapping of str to int
        How many there are, by kind; 0 for a kind that was looked for and not found.
    patches : int
        Number of patches in folds.
    compared : int
        Patches whose pixels were compared.
    flat : int
        Patches of these that show nothing, as glass does; they are not like any other.
    not_checked : tuple of str
        What could not be looked for, and why.
    """

    split: str
    leaks: tuple[Leak, ...]
    counts: Mapping[str, int]
    patches: int
    compared: int
    flat: int
    not_checked: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """True if no leak was found."""
        return not self.leaks

    def __repr__(self) -> str:
        return one_line(
            "LeakCheck", f"{self.split!r}, {count(self.patches, 'patch', 'patches')}",
            *(f"{kind}: {number}" for kind, number in self.counts.items() if number),
            None if self.leaks else "no leak",
        )  # fmt: skip


@dataclass
class _Found:
    """Leaks that were found so far; the first of each kind are kept."""

    leaks: list[Leak] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, kind: LeakKind, leaks: Iterable[Leak]) -> None:
        """Add the leaks of a kind, which may be none."""
        self.counts.setdefault(kind, 0)
        for leak in leaks:
            self.counts[kind] += 1
            if self.counts[kind] <= KEPT:
                self.leaks.append(leak)


@dataclass(frozen=True)
class _Patches:
    """The patches that are in folds, and what they are compared by: one number for each text."""

    output: Output
    raw: bool
    rows: pa.Table
    folds: tuple[str, ...]
    sides: NDArray[np.int64]
    files: NDArray[np.int64]

    def leak(self, kind: LeakKind, a: int, b: int, shared: str) -> Leak:
        first, second = (self.rows.column("patch_id")[at].as_py() for at in (a, b))
        return Leak(
            kind, first, second, (self.folds[self.sides[a]], self.folds[self.sides[b]]), shared
        )

    def looks(
        self, chosen: NDArray[np.int64], on_progress: Callable[[int, int], None] | None = None
    ) -> Looks:
        """Return what the patches of some rows look like."""
        return read_looks(self.output, self.rows.take(chosen), on_progress, raw=self.raw)


def check_leakage(
    output: Output,
    split: str,
    *,
    by: str | None = None,
    pixels: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> LeakCheck:
    """Look for what two folds of a split share.

    Parameters
    ----------
    output : Output
        Of a finished run.
    split : str
        Name of the split; its table may have been made by hand.
    by : str, optional
        Key of what must not be on two sides; that of the split when not given.
    pixels : int, optional
        How many patches to compare by what they show, spread evenly; at most 100,000 when not
        given.
    on_progress : callable, optional
        Called with the number of patches that were read, and of all to be read.

    Raises
    ------
    OutputError
        If there is no finished run or no such split, or the split is stale.
    UsageError
        If the table does not list every slide or patch, or slides have no value of the key.
    """
    table = read_folds(output, split)
    check_fresh(output, table)
    slides = read_slides(output)
    patches = _patches(output, table)
    found, not_checked = _Found(), []
    places = _slide_folds(patches)
    for kind, key in _keys(table, by):
        if key is None:
            not_checked.append("groups: the table does not say by which key; name it (by)")
        else:
            found.add(kind, _shared_values(kind, key, values_of(slides, key), places))
    if table.record is None and table.groups:
        found.add("group", _shared_groups(patches, table))
    found.add("file", _shared_files(slides, places))
    found.add("overlap", _overlaps(patches))
    found.add("identical", _identical(patches))
    total, compared, flat = patches.rows.num_rows, 0, 0
    if limit := min(MOST_PATCHES if pixels is None else pixels, total):
        chosen = np.unique(np.linspace(0, total - 1, limit).astype(np.int64))
        looks = patches.looks(chosen, on_progress)
        found.add("similar", _similar(patches, chosen, looks))
        compared, flat = len(chosen), int(looks.flat.sum())
    if compared < total:
        not_checked.append(f"similar patches: {compared} of {total} were compared")
    return LeakCheck(
        split, tuple(found.leaks), FrozenDict(found.counts), total, compared, flat,
        tuple(not_checked),
    )  # fmt: skip


def _keys(table: FoldTable, by: str | None) -> Iterator[tuple[LeakKind, str | None]]:
    if table.record is None:
        if by is not None or not table.groups:
            yield "group", by
        return
    yield "group", by or table.record.by
    if table.record.preserve is not None:
        yield "site", table.record.preserve


def _patches(output: Output, table: FoldTable) -> _Patches:
    """Return the patches of a run that are in a fold."""
    tables = []
    for slide_id, rows in rows_of(output):
        if not rows.num_rows:
            continue
        own = rows.table(_COLUMNS)
        tables.append(own.add_column(0, "slide_id", pa.array([slide_id] * len(own), pa.string())))
    if not tables:
        raise OutputError(f"{output.describe()} has no patches to compare.", hint="Export some.")
    whole = pa.concat_tables(each.replace_schema_metadata(None) for each in tables)
    whole = whole.append_column("fold", fold_column(whole, table))
    whole = whole.filter(whole.column("fold").is_valid())
    folds, sides = _numbered(whole.column("fold"))
    # A slide whose file is not known is a file of its own.
    files = pc.coalesce(whole.column("slide_digest"), whole.column("slide_id"))
    raw = load_finished(output)["config"].get("format") == "raw"
    return _Patches(output, raw, whole, tuple(folds), sides, _numbered(files)[1])


def _numbered(column: Any) -> tuple[list[Any], NDArray[np.int64]]:
    """Return the values of a column, and for each row which of them it has."""
    encoded = column.combine_chunks().dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)


def _slide_folds(patches: _Patches) -> dict[str, list[str]]:
    """Return the folds of each slide id, sorted: several if the patches of a slide are apart."""
    slides, numbers = _numbered(patches.rows.column("slide_id"))
    pairs = np.unique(np.stack([numbers, patches.sides], axis=1), axis=0)
    found: defaultdict[str, list[str]] = defaultdict(list)
    for slide, side in pairs.tolist():
        found[slides[slide]].append(patches.folds[side])
    return {slide: sorted(folds) for slide, folds in found.items()}


def _apart(
    kind: LeakKind, shared: str, members: Iterable[str], places: Mapping[str, list[str]]
) -> Iterator[Leak]:
    """Yield a leak for each pair of folds that members of one thing are in."""
    first: dict[str, str] = {}
    for member in sorted(members):
        for fold in places.get(member, ()):
            first.setdefault(fold, member)
    for one, other in combinations(sorted(first), 2):
        yield Leak(kind, first[one], first[other], (one, other), shared)


def _shared_values(
    kind: LeakKind, key: str, values: Mapping[str, str], places: Mapping[str, list[str]]
) -> Iterator[Leak]:
    members: defaultdict[str, list[str]] = defaultdict(list)
    for slide_id, value in values.items():
        members[value].append(slide_id)
    for value, slide_ids in sorted(members.items()):
        yield from _apart(kind, f"{key} {value!r}", slide_ids, places)


def _shared_groups(patches: _Patches, table: FoldTable) -> Iterator[Leak]:
    """Yield the groups of a table that was made by hand which are in two folds."""
    there = set(patches.rows.column(table.key).unique().to_pylist())
    members: defaultdict[str, list[str]] = defaultdict(list)
    for member, group in table.groups.items():
        if member in there:
            members[group].append(member)
    places = {member: [table.folds[member]] for member in there}
    for group, own in sorted(members.items()):
        yield from _apart("group", f"group {group!r}", own, places)


def _shared_files(slides: Iterable[RunSlide], places: Mapping[str, list[str]]) -> Iterator[Leak]:
    members: defaultdict[str, list[RunSlide]] = defaultdict(list)
    for slide in slides:
        members[slide.slide_digest or slide.slide_id].append(slide)
    for digest, own in sorted(members.items(), key=lambda item: item[1][0].slide_id):
        names = sorted({slide.slide_file or slide.slide_name for slide in own})
        shared = f"slide file {', '.join(names)} ({digest})"
        yield from _apart("file", shared, [slide.slide_id for slide in own], places)


def _overlaps(patches: _Patches) -> Iterator[Leak]:
    names = ("x_slide", "y_slide", "w_slide", "h_slide", "z", "t")
    columns = [patches.rows.column(name).to_numpy() for name in names]
    boxes = np.stack(columns[:4], axis=1).astype(np.int64)
    planes = np.stack([patches.files, *columns[4:]], axis=1)
    _, plane = np.unique(planes, axis=0, return_inverse=True)
    order = np.argsort(plane.ravel(), kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(plane.ravel()[order])) + 1):
        for pairs in overlaps(boxes[rows], patches.sides[rows]):
            for a, b in rows[pairs].tolist():
                yield patches.leak("overlap", a, b, _shared_box(boxes[a], boxes[b]))


def _shared_box(a: NDArray[np.int64], b: NDArray[np.int64]) -> str:
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[:2] + a[2:], b[:2] + b[2:])
    return "{} x {} pixels at {}, {}".format(*(high - low).tolist(), *low.tolist())


def _identical(patches: _Patches) -> Iterator[Leak]:
    """Yield patches of different files with the same bytes, one pair for each pair of folds."""
    _, digests = _numbered(patches.rows.column("digest"))
    order = np.lexsort((np.arange(len(digests)), digests))
    for rows in np.split(order, np.flatnonzero(np.diff(digests[order])) + 1):
        if len(rows) < 2 or len(np.unique(patches.sides[rows])) < 2:
            continue
        pairs = _pairs_apart(rows.tolist(), patches)
        if pairs and not patches.looks(rows[:1]).flat[0]:
            for a, b in pairs:
                yield patches.leak("identical", a, b, "the same bytes")


def _pairs_apart(rows: list[int], patches: _Patches) -> list[tuple[int, int]]:
    """Return one pair of rows of different files for each pair of folds."""
    first: dict[tuple[int, int], int] = {}
    for row in rows:
        first.setdefault((int(patches.sides[row]), int(patches.files[row])), row)
    found: dict[tuple[int, int], tuple[int, int]] = {}
    for (side, file), row in first.items():
        for (other, elsewhere), another in first.items():
            if side < other and file != elsewhere:
                found.setdefault((side, other), (min(row, another), max(row, another)))
    return [found[key] for key in sorted(found)]


def _similar(patches: _Patches, chosen: NDArray[np.int64], looks: Looks) -> Iterator[Leak]:
    """Yield patches that show the same and are not identical, among some rows."""
    digests = _numbered(patches.rows.column("digest"))[1][chosen]
    for pairs in similar_pairs(looks, patches.sides[chosen], patches.files[chosen]):
        for a, b in pairs[digests[pairs[:, 0]] != digests[pairs[:, 1]]].tolist():
            close = float(looks.fine[a] @ looks.fine[b])
            yield patches.leak("similar", int(chosen[a]), int(chosen[b]), f"alike to {close:.3f}")
