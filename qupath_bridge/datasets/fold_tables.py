"""Tables of folds in an output: ``splits/<name>.parquet`` and ``.csv``, ours or made by hand."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from qupath_bridge.errors import OutputError, UsageError
from qupath_bridge.frozen import FrozenDict, count
from qupath_bridge.outputs.base import Output
from qupath_bridge.outputs.csv_file import csv_text
from qupath_bridge.patches.ids import json_digest
from qupath_bridge.pipeline.records import load_finished
from qupath_bridge.schemas import Record, first_fault
from qupath_bridge.sources.table_files import Table, listed, parse_table
from qupath_bridge.stores import open_store

__all__ = [
    "FoldTable",
    "Method",
    "SplitRecord",
    "check_fresh",
    "check_name",
    "fold_column",
    "has_folds",
    "index_digest",
    "read_folds",
    "split_names",
    "write_folds",
]

FOLDER = "splits/"
SCHEMA_VERSION = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_RECORD = b"qupath_bridge.split"
"""Key of the record in the metadata of the Parquet file."""

Key = Literal["slide_id", "patch_id"]
Method = Literal["scikit-learn", "exact", "balanced"]
"""The way in which folds were found."""


class SplitRecord(Record):
    """Recipe of a split, and the index that it is of.

    ``known`` has the fold of each value of the key that the split ever had.
    """

    by: str
    folds: int
    stratify: str | None
    preserve: str | None
    test: float | None
    seed: int
    method: Method
    index_digest: str
    known: dict[str, str]


@dataclass(frozen=True, slots=True)
class FoldTable:
    """The folds of slides, or of patches in a table made by hand.

    Attributes
    ----------
    name : str
        Of the split.
    place : str
        Of the file.
    key : str
        ``slide_id`` or ``patch_id``.
    folds : mapping of str to str
        By slide id or patch id; empty for one that is in no fold.
    groups : mapping of str to str
        Groups of those that have one.
    record : SplitRecord or None
        None if the table was made by hand.
    """

    name: str
    place: str
    key: Key
    folds: Mapping[str, str]
    groups: Mapping[str, str]
    record: SplitRecord | None = None


def check_name(name: str, what: str = "a split") -> None:
    """Check the name of a split, or of ``what`` it is: it becomes the name of a file or folder.

    Raises
    ------
    UsageError
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be the name of {what}.",
            hint="Use up to 64 letters of English, digits, - and _.",
        )


def index_digest(output: Output) -> str:
    """Return the digest of the index of a finished run, from those of the rows of its slides.

    Raises
    ------
    OutputError
        If there is no finished run.
    """
    return json_digest(load_finished(output)["rows"])


def has_folds(output: Output, name: str) -> bool:
    """Return whether there is a split of this name."""
    return any(output.has(f"{FOLDER}{name}{ending}") for ending in (".parquet", ".csv"))


def split_names(output: Output) -> tuple[str, ...]:
    """Return the names of the splits of an output, sorted."""
    files = (Path(name) for name in open_store(output.url).list(FOLDER))
    tables = (file.stem for file in files if file.suffix in (".parquet", ".csv"))
    return tuple(sorted({name for name in tables if _NAME.fullmatch(name)}))


def write_folds(output: Output, table: FoldTable) -> tuple[str, ...]:
    """Write the table of a split as Parquet and CSV; return the names of the files.

    The same split gives the same bytes.
    """
    assert table.record is not None  # noqa: S101  # those made by hand are only read
    made = _arrow(table)
    buffer = io.BytesIO()
    note = {_RECORD: table.record.model_dump_json().encode()}
    pq.write_table(made.replace_schema_metadata(note), buffer, compression="zstd", version="2.6")
    files = {".parquet": buffer.getvalue(), ".csv": _csv(made)}
    for ending, content in files.items():
        output.put(f"{FOLDER}{table.name}{ending}", content)
    return tuple(f"{FOLDER}{table.name}{ending}" for ending in files)


def _arrow(table: FoldTable) -> pa.Table:
    ids = sorted(table.folds)
    columns = {
        "slide_id": ids,
        "group": [table.groups[each] for each in ids],
        "fold": [table.folds[each] for each in ids],
    }
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def _csv(made: pa.Table) -> bytes:
    return csv_text({name: made.column(name).to_pylist() for name in made.column_names})


def read_folds(output: Output, name: str) -> FoldTable:
    """Return a split of an output: that of the Parquet file, else that of the CSV file.

    Raises
    ------
    OutputError
        If there is none, or it is damaged, or the CSV file of our Parquet file was changed.
    UsageError
        If a table that was made by hand cannot be used; every fault is listed.
    """
    check_name(name)
    places = [f"{FOLDER}{name}{ending}" for ending in (".parquet", ".csv")]
    place = next((each for each in places if output.has(each)), None)
    if place is None:
        raise OutputError(
            f"{output.describe()} has no split {name!r}.",
            hint=f"Make it with split, or write {places[1]} with the columns slide_id and fold.",
        )
    content = output.get(place)
    if place == places[0]:
        try:
            found = pq.read_table(pa.BufferReader(content))
        except (pa.ArrowException, OSError) as error:
            raise OutputError(f"{place} is damaged: {error}.", hint=_AGAIN) from error
        note = (found.schema.metadata or {}).get(_RECORD)
        if note is not None:
            _check_csv(output, places[1], found)
            return _checked_folds(name, place, found, note)
    return _made_by_hand(name, place, parse_table(Path(place), content))


_AGAIN = "Delete the files of this split, and make it again."


def _checked_folds(name: str, place: str, found: pa.Table, note: bytes) -> FoldTable:
    try:
        record = SplitRecord.model_validate_json(note)
    except ValidationError as error:
        raise OutputError(f"{place} is damaged: {first_fault(error)}.", hint=_AGAIN) from error
    if record.schema_version != SCHEMA_VERSION:
        raise OutputError(
            f"{place} has schema version {record.schema_version}; this version reads "
            f"{SCHEMA_VERSION}.",
            hint="Use the version of qupath-bridge that wrote it, or a newer one.",
        )
    if found.column_names != ["slide_id", "group", "fold"] or any(
        column.null_count or not pa.types.is_string(column.type) for column in found.columns
    ):
        raise OutputError(f"{place} is damaged: its columns are not those of a split.", hint=_AGAIN)
    ids, groups, folds = (column.to_pylist() for column in found.columns)
    return FoldTable(
        name, place, "slide_id", FrozenDict(zip(ids, folds, strict=True)),
        FrozenDict(zip(ids, groups, strict=True)), record,
    )  # fmt: skip


def _check_csv(output: Output, place: str, found: pa.Table) -> None:
    """Refuse a split whose CSV file somebody edited: the Parquet file would win in silence."""
    if output.has(place) and output.get(place) != _csv(found):
        raise OutputError(
            f"{place} is not what the Parquet file beside it says.",
            hint="Delete the one of the two that is wrong. Copy an edited table to another name.",
        )


def _made_by_hand(name: str, place: str, table: Table) -> FoldTable:
    keys: list[Key] = ["patch_id", "slide_id"]
    key = next((each for each in keys if each in table.columns), None)
    if key is None or "fold" not in table.columns:
        raise UsageError(
            f"{place} is not a table of folds: it has the columns {', '.join(table.columns)}.",
            hint="It needs fold, and slide_id or patch_id. The column group may be there, too.",
        )
    folds: dict[str, str] = {}
    groups: dict[str, str] = {}
    faults = []
    for row in table.rows:
        own, fold = row.cells.get(key), row.cells.get("fold", "")
        if own is None:
            faults.append(f"row {row.number} has no {key}")
            continue
        if folds.setdefault(own, fold) != fold:
            faults.append(f"row {row.number}: {own} is in fold {folds[own]!r} and in {fold!r}")
        if "group" in row.cells:
            groups[own] = row.cells["group"]
    if faults:
        raise UsageError(listed(f"{place} cannot be used", faults))
    return FoldTable(name, place, key, FrozenDict(folds), FrozenDict(groups))


def check_fresh(output: Output, table: FoldTable) -> None:
    """Refuse a split of an earlier index. A table made by hand does not say of which it is.

    Raises
    ------
    OutputError
        With the number of slides that are new or gone.
    """
    if table.record is None or table.record.index_digest == index_digest(output):
        return
    now = {slide for slide in output.slides() if (rows := output.rows(slide)) and rows.num_rows}
    new, gone = len(now - table.folds.keys()), len(table.folds.keys() - now)
    changes = f"{count(new, 'slide')} with patches came, {gone} went"
    raise OutputError(
        f"The split {table.name!r} is stale: the run was updated since ({changes}).",
        hint="Extend it: split with extend keeps the fold of every known group.",
    )


def fold_column(rows: pa.Table, table: FoldTable) -> pa.ChunkedArray:
    """Return the fold of each row of an index; null for what is in no fold.

    Raises
    ------
    UsageError
        If the table does not list a slide or patch; all of them are named.
    """
    column = rows.column(table.key)
    known = column.unique().to_pylist()
    missing = sorted(each for each in known if each not in table.folds)
    if missing:
        what = (
            count(len(missing), "slide") if table.key == "slide_id" else f"{len(missing)} patches"
        )
        raise UsageError(
            listed(f"{what} of the run that {table.place} does not list", missing),
            hint="\nGive each a fold; one without a value is left out.",
        )
    encoded = column.dictionary_encode().unify_dictionaries()
    if not encoded.num_chunks:
        return pa.chunked_array([], pa.string())
    folds = [table.folds[each] or None for each in encoded.chunk(0).dictionary.to_pylist()]
    values = pa.array(folds, pa.string())
    return pa.chunked_array([values.take(chunk.indices) for chunk in encoded.chunks], pa.string())
