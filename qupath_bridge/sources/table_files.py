"""Tables that people keep about slides: CSV and Parquet files, every value as text."""

from __future__ import annotations

import codecs
import csv
import datetime as dt
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qupath_bridge.errors import OutputError, UsageError
from qupath_bridge.frozen import FrozenDict, OneLine, count
from qupath_bridge.stores.files import open_binary
from qupath_bridge.urls import absolute

__all__ = ["LISTED", "Table", "TableRow", "is_table", "listed", "parse_table", "read_table"]

ENDINGS = (".csv", ".tsv", ".parquet")

LISTED = 20
"""Faults of a table that a message names; more are counted."""

_SEPARATORS = ",;\t"
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"),
          (codecs.BOM_UTF16_BE, "utf-16"))  # fmt: skip


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row: its number as a spreadsheet shows it, and its cells that are not empty, by column."""

    number: int
    cells: FrozenDict[str, str]


@dataclass(frozen=True, slots=True, repr=False)
class Table(OneLine):
    """A table of texts.

    Attributes
    ----------
    path : Path
    columns : tuple of str
        In the order of the file; no two are equal.
    rows : tuple of TableRow
        Rows without any value are left out.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]

    def column(self, name: str) -> str:
        """Return a column by its name; case counts only where two differ by nothing else.

        Raises
        ------
        UsageError
            If there is none; the message lists the columns.
        """
        same = [each for each in self.columns if each == name]
        same = same or [each for each in self.columns if each.casefold() == name.casefold()]
        if len(same) == 1:
            return same[0]
        raise UsageError(
            f"{self.path}: no column {name!r}; there is {', '.join(map(repr, self.columns))}.",
            hint="The first row of a table has the names of its columns.",
        )


def is_table(path: Path) -> bool:
    """Return whether a file is a table, by its ending.

    >>> is_table(Path("labels.csv")), is_table(Path("a.svs"))
    (True, False)
    """
    return path.suffix.lower() in ENDINGS and not path.is_dir()


def read_table(path: Path | str) -> Table:
    """Read a CSV, TSV or Parquet file.

    A CSV file is UTF-8, or UTF-16 with a byte order mark; its values are separated by commas,
    semicolons or tabs, whichever its first row has most of. Nothing is made a number: ``007``
    stays as it is. Spaces around a value do not count.

    Raises
    ------
    UsageError
        If it cannot be read, or its columns have no names, or two have one name; every fault is
        listed.
    """
    path = absolute(Path(path))
    try:
        with open_binary(path) as file:
            content = file.read()
    except OutputError as error:  # of a table in object storage
        raise UsageError(error.message, hint=error.hint, may_heal=error.may_heal) from error
    except OSError as error:
        raise UsageError(
            f"{path}: {error.strerror or error}.", hint="Name a CSV or Parquet file."
        ) from error
    return parse_table(path, content)


def parse_table(path: Path, data: bytes) -> Table:
    """Return the table that a file holds, as :func:`read_table` does.

    Parameters
    ----------
    path : Path
        Its ending says which kind of table it is; messages name it.
    data : bytes
        The content of the file.
    """
    try:
        content = list(_parquet(data) if path.suffix.lower() == ".parquet" else _csv(data))
        if not content:
            raise ValueError("it is empty")
    except ValueError as error:
        raise UsageError(
            f"{path}: not a table with a row of column names: {error}.",
            hint="Save it as a CSV file in UTF-8.",
        ) from error
    (_, names), *lines = content
    columns = tuple(name.strip() for name in names)
    faults = [*_column_faults(columns), *_length_faults(lines, len(columns))]
    if faults:
        raise UsageError(listed(f"{path} cannot be used", faults))
    rows = []
    for number, values in lines:
        filled = {
            name: value.strip()
            for name, value in zip(columns, values, strict=False)
            if value.strip()
        }
        if filled:
            rows.append(TableRow(number, FrozenDict(filled)))
    return Table(path, columns, tuple(rows))


def listed(what: str, faults: Sequence[str]) -> str:
    """Return one message with all faults, the first :data:`LISTED` of them by name.

    >>> print(listed("a.csv cannot be used", ["row 2: x", "row 3: y"]))
    a.csv cannot be used:
      row 2: x
      row 3: y
    """
    shown = [f"\n  {fault}" for fault in faults[:LISTED]]
    more = len(faults) - LISTED
    return f"{what}:{''.join(shown)}" + (f"\n  and {more} more" if more > 0 else "")


def _csv(content: bytes) -> list[tuple[int, list[str]]]:
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    text = content.decode(encoding)
    if "\0" in text:
        raise ValueError("it has zero bytes")
    first = text.partition("\n")[0]
    separator = max(_SEPARATORS, key=_outside_quotes(first).count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        return [(reader.line_num, line) for line in reader if line]
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from error


def _outside_quotes(line: str) -> str:
    return "".join(line.split('"')[::2])


def _parquet(content: bytes) -> Iterator[tuple[int, list[str]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(pa.BufferReader(content))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(str(error)) from error
    yield 1, table.schema.names
    for number, values in enumerate(zip(*(c.to_pylist() for c in table.columns), strict=True), 2):
        yield number, [_text(value) for value in values]


def _text(value: Any) -> str:
    """Return a value of a Parquet file as a CSV file would have it; empty for none.

    >>> [_text(value) for value in (None, float("nan"), 7, 7.5, True, dt.date(2024, 5, 1))]
    ['', '', '7', '7.5', 'true', '2024-05-01']
    """
    if value is None or value != value:  # NaN is what pandas writes for nothing
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value.isoformat() if isinstance(value, dt.date | dt.time) else str(value)


def _column_faults(columns: Sequence[str]) -> Iterator[str]:
    nameless = [str(number) for number, name in enumerate(columns, 1) if not name]
    if nameless:
        yield f"column {', '.join(nameless)} has no name"
    twice = [name for name, n in Counter(filter(None, columns)).items() if n > 1]
    if twice:
        yield f"several columns have one name: {', '.join(map(repr, twice))}"


def _length_faults(lines: Sequence[tuple[int, list[str]]], columns: int) -> Iterator[str]:
    for number, values in lines:
        extra = [value for value in values[columns:] if value.strip()]
        if extra:
            yield f"row {number} has {count(len(values), 'value')} for {columns} columns"
