"""Columns of a table joined to slides: which row is which slide's, and what does not fit.

Where slides have metadata of the column's own name, as a patient, their values are the keys: one
row may be that of several slides. Else the values of the column are slides: entry IDs, names, or
names of slide files, with or without their ending. An ID counts before a name, and a whole name
before one without its ending.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from qupath_bridge.errors import PlanError, UsageError
from qupath_bridge.frozen import FrozenDict, count
from qupath_bridge.model import Slide

from .annotations import own_stems, slide_stems, whole_name
from .table_files import Table, TableRow, listed, read_table

__all__ = ["JoinedTable", "merged"]

Key = tuple[str, str]
Values = FrozenDict[str, str]

_NOTHING: Values = FrozenDict()


@dataclass(frozen=True)
class JoinedTable:
    """A table and the slides that it says something about; it is read when first asked.

    Attributes
    ----------
    path : Path
    column : str
        The column with the keys.
    slides : tuple of Slide
        All slides of the sources, selected or not.
    """

    path: Path
    column: str
    slides: tuple[Slide, ...] = field(repr=False)

    def values(self, slide: Slide) -> Values:
        """Return the columns of a slide's row, without the key; empty if it has none."""
        return self._found.values.get(_key(slide), _NOTHING)

    def check(self, selected: Iterable[Slide]) -> None:
        """Refuse a table that does not fit the slides that take part.

        Raises
        ------
        UsageError
            With every fault: keys twice, keys of several slides, slides without a row, values
            that contradict a slide's own metadata; and then also the rows of no slide.
        """
        found = self._found
        faults = [*found.faults]
        for slide in selected:
            named = f"{slide.name} (entry {slide.entry_id})"
            if fault := found.missing.get(_key(slide)):
                faults.append(f"{named}: {fault}")
            faults += [f"{named}: {fault}" for fault in _clashes(slide, self.values(slide))]
        if faults:
            faults += [f"{row}: of no slide" for row in found.unmatched]
            raise UsageError(
                listed(f"{self.path} does not fit the slides", faults),
                hint="Correct the table, name the column of the slides with the option "
                "metadata_key, or select slides with the option entry.",
            )

    @property
    def warnings(self) -> tuple[str, ...]:
        """Say which rows are of no slide; a table may be that of a larger cohort."""
        unmatched = self._found.unmatched
        if not unmatched:
            return ()
        shown = ", ".join(unmatched[:3]) + (", …" if len(unmatched) > 3 else "")
        return (f"{self.path}: {count(len(unmatched), 'row')} of no slide: {shown}.",)

    @cached_property
    def _found(self) -> _Found:
        return _match(read_table(self.path), self.column, self.slides)


@dataclass(frozen=True, slots=True)
class _Found:
    """The values of slides, and what does not fit: of the table, of slides, of rows."""

    values: Mapping[Key, Values]
    faults: tuple[str, ...]
    missing: Mapping[Key, str]
    unmatched: tuple[str, ...]


def merged(slide: Slide, values: Mapping[str, str]) -> Mapping[str, str]:
    """Return the metadata of a slide with joined values.

    Raises
    ------
    PlanError
        If the slide says something else itself.
    """
    if faults := list(_clashes(slide, values)):
        raise PlanError(
            f"{slide.name}: {'; '.join(faults)}.", hint="Rename the column of the table."
        )
    return {**slide.metadata, **values}


def _clashes(slide: Slide, values: Mapping[str, str]) -> Iterable[str]:
    for name, value in values.items():
        own = slide.metadata.get(name, value)
        if own != value:
            yield f"the table says {name} = {value!r}, and its own metadata {own!r}"


def _key(slide: Slide) -> Key:
    return str(slide.project.path), slide.entry_id


def _match(table: Table, wanted: str, slides: Sequence[Slide]) -> _Found:
    column = table.column(wanted)
    rows: dict[str, TableRow] = {}
    faults = []
    for row in table.rows:
        value = row.cells.get(column)
        if value is None:
            faults.append(f"row {row.number}: no {column}")
            continue
        first = rows.setdefault(unicodedata.normalize("NFC", value), row)
        if first is not row:
            faults.append(f"rows {first.number} and {row.number}: {column} is {value!r} in both")
    by_metadata = any(column in slide.metadata for slide in slides)
    users = _by_metadata(column, slides) if by_metadata else _by_name(rows, slides)
    found: dict[Key, list[tuple[str, TableRow]]] = {}
    for value, row in rows.items():
        own = users.get(value, ())
        if len(own) > 1 and not by_metadata:
            names = ", ".join(f"{slide.name} (entry {slide.entry_id})" for slide in own)
            faults.append(f"row {row.number}: {value!r} is the name of several slides: {names}")
        for slide in own:
            found.setdefault(_key(slide), []).append((value, row))
    values, missing = {}, {}
    for slide in slides:
        mine = found.get(_key(slide), [])
        if len(mine) > 1:
            numbers = " and ".join(str(row.number) for _, row in mine)
            faults.append(f"rows {numbers}: both are of {slide.name} (entry {slide.entry_id})")
        elif not mine:
            missing[_key(slide)] = _missing(slide, column, by_metadata=by_metadata)
        else:
            cells = mine[0][1].cells
            values[_key(slide)] = FrozenDict({k: v for k, v in cells.items() if k != column})
    unmatched = tuple(
        f"row {row.number} ({value!r})" for value, row in rows.items() if not users.get(value)
    )
    return _Found(values, tuple(faults), missing, unmatched)


def _missing(slide: Slide, column: str, *, by_metadata: bool) -> str:
    if not by_metadata:
        return "no row is of this slide"
    value = slide.metadata.get(column)
    return f"no metadata {column}" if value is None else f"no row has {column} = {value!r}"


def _by_metadata(column: str, slides: Sequence[Slide]) -> dict[str, list[Slide]]:
    users: dict[str, list[Slide]] = {}
    for slide in slides:
        if column in slide.metadata:
            value = unicodedata.normalize("NFC", slide.metadata[column].strip())
            users.setdefault(value, []).append(slide)
    return users


def _by_name(keys: Iterable[str], slides: Sequence[Slide]) -> dict[str, list[Slide]]:
    """Return the slides of each key, by the first kind of name that any slide has of it."""
    kinds: list[dict[str, list[Slide]]] = []
    names: Sequence[Callable[[Slide], tuple[str, ...]]] = (
        lambda slide: (slide.entry_id,), whole_name, own_stems, slide_stems,
    )  # fmt: skip
    for names_of in names:
        users: dict[str, list[Slide]] = {}
        for slide in slides:
            for name in names_of(slide):
                users.setdefault(name, []).append(slide)
        kinds.append(users)
    return {key: next((users[key] for users in kinds if key in users), []) for key in keys}
