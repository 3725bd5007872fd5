"""``index.csv``: the rows of the index for people and spreadsheets."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import pyarrow as pa

from .index import FIELDS, in_order, rows_of, to_json

if TYPE_CHECKING:
    from .base import Output

__all__ = ["CSV_FILE", "csv_pieces", "write_csv"]

CSV_FILE = "index.csv"
META_PREFIX = "meta."
FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")


def write_csv(output: Output) -> None:
    """Write ``index.csv`` from the committed slides, one slide at a time.

    Lists and maps are JSON, null is empty, numbers are written so that they come back the same.
    ``metadata`` becomes one column ``meta.<key>`` per key. A text that a spreadsheet would run as
    a formula gets a leading ``'``.
    """
    output.put(CSV_FILE, csv_pieces(output))


def csv_pieces(output: Output) -> Iterator[bytes]:
    """Yield the content of ``index.csv``, some lines at a time."""
    names, keys = _csv_columns(output)
    yield _lines([["slide_id", *names, *(f"{META_PREFIX}{key}" for key in keys)]])
    for slide_id, rows in rows_of(output):
        for batch in rows.batches():
            held = dict(zip(batch.schema.names, batch.columns, strict=True))
            empty = [None] * batch.num_rows
            columns: list[Sequence[object]]
            columns = [_cells(held[name]) if name in held else empty for name in names]
            metadata = [dict(value or ()) for value in held["metadata"].to_pylist()]
            columns += [[_text(each.get(key)) for each in metadata] for key in keys]
            ids = [_text(slide_id)] * batch.num_rows
            yield _lines(zip(ids, *columns, strict=True))


def _csv_columns(output: Output) -> tuple[list[str], list[str]]:
    """Return the names of all columns but ``metadata``, and the keys of that."""
    names, keys = dict.fromkeys(FIELDS), set()
    for _, rows in rows_of(output):
        names.update(dict.fromkeys(rows.schema.names))
        for batch in rows.batches(["metadata"]):
            keys.update(batch.column(0).keys.unique().to_pylist())
    return [name for name in in_order(names) if name != "metadata"], sorted(keys)


def _lines(rows: Iterable[Iterable[object]]) -> bytes:
    lines = _Lines()
    csv.writer(lines, lineterminator="\r\n").writerows(rows)
    return "".join(lines).encode("utf-8")


class _Lines(list[str]):
    """Lines of a CSV file that end with a line feed.

    The writer itself puts a text in quotes only where it has a sign of the line's end, and a
    carriage return alone must be in quotes too.
    """

    def write(self, line: str) -> None:
        self.append(line.removesuffix("\r\n") + "\n")


def _cells(column: pa.Array) -> Sequence[object]:
    """Return a column as what the CSV shows; Python writes floats by their repr."""
    values = column.to_pylist()
    if pa.types.is_map(column.type):
        return [None if value is None else _map_cell(tuple(value)) for value in values]
    if pa.types.is_list(column.type):
        return [None if value is None else _list_cell(tuple(value)) for value in values]
    if pa.types.is_string(column.type):
        return [_text(value) for value in values]
    return values  # type: ignore[no-any-return]


# Of very many patches, many have the same shares and regions.
@lru_cache(maxsize=1024)
def _map_cell(items: tuple[tuple[str, object], ...]) -> str:
    return to_json(dict(items))


@lru_cache(maxsize=1024)
def _list_cell(values: tuple[object, ...]) -> str:
    return to_json(values)


def _text(value: str | None) -> str | None:
    """Keep a spreadsheet from running a text."""
    return f"'{value}" if value is not None and value.startswith(FORMULA_SIGNS) else value
