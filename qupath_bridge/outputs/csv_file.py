"""``index.csv``: the rows of the index for people and spreadsheets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Self

import pyarrow as pa
import pyarrow.compute as pc

from .index import FIELDS, in_order, rows_of, to_json
from .row_batches import AnyRows, batches_of

if TYPE_CHECKING:
    from .base import Output

__all__ = ["CSV_FILE", "CsvColumns", "csv_pieces", "csv_text", "write_csv"]

CSV_FILE = "index.csv"
META_PREFIX = "meta."
FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")
_QUOTED_SIGNS = (",", '"', "\r", "\n")
_CHANGED = f"^[{re.escape(''.join(FORMULA_SIGNS))}]|[{re.escape(''.join(_QUOTED_SIGNS))}]"
"""Texts that do not stand in a line as they are, as Arrow's pattern."""


class CsvColumns:
    """The columns of ``index.csv``: those that rows of any slide have."""

    def __init__(self) -> None:
        self._names, self._keys = dict.fromkeys(FIELDS), set[str]()

    @classmethod
    def of(cls, output: Output) -> Self:
        """Return the columns for the committed slides, each of which is looked into."""
        found = cls()
        for _, rows in rows_of(output):
            found.add(rows)
        return found

    def add(self, rows: AnyRows) -> None:
        """Add the columns of the rows of a slide."""
        self._names.update(dict.fromkeys(rows.schema.names))
        for batch in batches_of(rows, ["metadata"]):
            self._keys.update(batch.column(0).keys.unique().to_pylist())

    @property
    def names(self) -> list[str]:
        """All but ``metadata``, in order."""
        return [name for name in in_order(self._names) if name != "metadata"]

    @property
    def keys(self) -> list[str]:
        """Those of ``metadata``, sorted."""
        return sorted(self._keys)


def write_csv(output: Output, columns: CsvColumns | None = None) -> None:
    """Write ``index.csv`` from the committed slides, one slide at a time.

    Lists and maps are JSON, null is empty, numbers are written so that they come back the same.
    ``metadata`` becomes one column ``meta.<key>`` per key. A text that a spreadsheet would run as
    a formula gets a leading ``'``. ``columns`` is given by those who saw the rows of all slides.
    """
    output.put(CSV_FILE, csv_pieces(output, columns))


def csv_pieces(output: Output, columns: CsvColumns | None = None) -> Iterator[bytes]:
    """Yield the content of ``index.csv``, some lines at a time."""
    found = CsvColumns.of(output) if columns is None else columns
    names, keys = found.names, found.keys
    yield csv_text(dict.fromkeys(("slide_id", *names, *(META_PREFIX + k for k in keys)), ()))
    for slide_id, rows in rows_of(output):
        for batch in rows.batches():
            held = dict(zip(batch.schema.names, batch.columns, strict=True))
            cells = [_cells(held[name]) if name in held else "" for name in names]
            if keys:
                metadata = [dict(value or ()) for value in held["metadata"].to_pylist()]
                cells += [pa.array([_cell(each.get(key)) for each in metadata]) for key in keys]
            yield _lines([_cell(slide_id), *cells])


def csv_text(columns: Mapping[str, Sequence[str]]) -> bytes:
    """Return a CSV file of a few columns of texts, written as :func:`write_csv` does."""
    return _lines(
        [pa.array([_cell(name), *map(_cell, values)]) for name, values in columns.items()]
    )


def _lines(columns: Sequence[pa.Array | str]) -> bytes:
    """Return lines of columns of cells; a text stands for a column that has it in each line.

    Arrow puts them together: Python's texts would take most of the time of a large index.
    """
    lines = pc.binary_join_element_wise(*columns, ",")
    ended = pc.binary_join_element_wise(lines, "\n", "")
    whole = pa.ListArray.from_arrays([0, len(ended)], ended)
    return bytes(pc.binary_join(whole, "")[0].as_buffer())


def _cells(column: pa.Array) -> pa.Array | str:
    """Return a column as what stands in the lines, as ``csv`` writes it."""
    count, kind = len(column), column.type
    if count > 1 and column.slice(1).equals(column.slice(0, count - 1)):
        return str(_cells(column.slice(0, 1))[0])  # most columns have one value
    if pa.types.is_string(kind):
        if not pc.any(pc.match_substring_regex(column, _CHANGED)).as_py():
            return column.fill_null("")
        return pa.array([_cell(value) for value in column.to_pylist()])
    if pa.types.is_integer(kind):
        return column.cast(pa.string()).fill_null("")
    values = column.to_pylist()
    if pa.types.is_map(kind):
        texts = ["" if value is None else _map_cell(value) for value in values]
    elif pa.types.is_list(kind):
        texts = ["" if value is None else _list_cell(tuple(value)) for value in values]
    else:
        texts = ["" if value is None else repr(value) for value in values]
    return pa.array(texts, pa.string())


def _map_cell(items: Sequence[tuple[str, float]]) -> str:
    """Return a map of numbers as JSON, as :func:`to_json` writes it, in quotes."""
    pairs = ", ".join([f"{_key(key)}: {value!r}" for key, value in sorted(items)])
    return f'"{{{pairs}}}"' if pairs else "{}"


@lru_cache(maxsize=1024)
def _key(name: str) -> str:
    return to_json(name).replace('"', '""')


# Of very many patches, many have the same regions.
@lru_cache(maxsize=1024)
def _list_cell(values: tuple[object, ...]) -> str:
    return _cell(to_json(values))


def _cell(text: str | None) -> str:
    """Put a text in quotes where it needs them; a spreadsheet does not run it.

    >>> _cell("a, b"), _cell("=1+1")
    ('"a, b"', "'=1+1")
    """
    if not text:
        return ""
    shown = f"'{text}" if text.startswith(FORMULA_SIGNS) else text
    quoted = any(sign in shown for sign in _QUOTED_SIGNS)
    return '"{}"'.format(shown.replace('"', '""')) if quoted else shown
