"""Tables of predictions, one row per patch: CSV and Parquet files, or tables in memory."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from qupath_bridge.errors import UsageError
from qupath_bridge.frozen import FrozenDict
from qupath_bridge.outputs.index import COLUMN_NAMES
from qupath_bridge.regular_files import read_regular
from qupath_bridge.sources.table_files import listed

__all__ = ["KEYS", "Classes", "PredictionTable", "read_predictions"]

KEYS = ("patch_id", "tile_uuid")
"""Columns that name the patch of a row."""

MAX_CLASSES = 50
"""Different values of a column of classes."""

_MAX_BYTES = 4 << 30
_SEPARATORS = ",;\t"
_MARKS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


@dataclass(frozen=True, slots=True)
class Classes:
    """A column of texts: the different ones, and the number of each row's; -1 for none."""

    names: tuple[str, ...]
    codes: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PredictionTable:
    """Predictions, one row per patch.

    Attributes
    ----------
    source : str
        The table as messages call it.
    digest : str
        SHA-256 of the file, or of the content of a table in memory.
    key : str
        ``patch_id`` or ``tile_uuid``: by what rows are found.
    rows : mapping of str to int
        Row of each key.
    other : tuple of str or None
        The ``tile_uuid`` of each row where both keys are there.
    numbers : mapping of str to array, shape (N,), float64
        By column; NaN where there is no number.
    classes : mapping of str to Classes
        Columns of texts.
    left_out : tuple of str
        Columns that are not taken, each with the reason.
    """

    source: str
    digest: str
    key: str
    rows: Mapping[str, int]
    other: tuple[str, ...] | None
    numbers: Mapping[str, NDArray[np.float64]]
    classes: Mapping[str, Classes]
    left_out: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)


def read_predictions(source: Any, columns: Sequence[str] = ()) -> PredictionTable:
    """Read a table of predictions.

    Parameters
    ----------
    source : path or table
        A CSV, TSV or Parquet file; or a table that Arrow understands, such as a DataFrame.
    columns : sequence of str
        Columns to take; when not given, all columns of numbers and texts but those that the index
        of a run has.

    Raises
    ------
    UsageError
        If it cannot be read, has no key or no column of predictions, or if keys are missing or
        there twice: all such faults are listed.
    """
    table, name, digest = _load(source)
    twice = [each for each, number in Counter(table.column_names).items() if number > 1]
    nameless = [str(i) for i, each in enumerate(table.column_names, 1) if not each.strip()]
    if twice or nameless:
        raise UsageError(
            f"{name}: "
            + (f"several columns have one name: {', '.join(twice)}." if twice else "")
            + (f"column {', '.join(nameless)} has no name." if nameless else ""),
            hint="Give each column a name of its own.",
        )
    keys = [each for each in KEYS if each in table.column_names]
    if not keys:
        raise UsageError(
            f"{name}: no column patch_id or tile_uuid says which patch a row is about; there is "
            f"{', '.join(map(repr, table.column_names)) or 'no column'}.",
            hint="Take patch_id from the index of the run along with each prediction.",
        )
    texts = {key: _texts(table, key, name) for key in keys}
    _check_keys(name, texts)
    chosen, left_out = _choose(table, columns, name)
    numbers, classes = _values(table, chosen, name)
    ids = texts[keys[0]]
    return PredictionTable(
        source=name,
        digest=f"sha256:{digest}",
        key=keys[0],
        rows={key: row for row, key in enumerate(ids)},
        other=tuple(texts[keys[1]]) if len(keys) > 1 else None,
        numbers=FrozenDict(numbers),
        classes=FrozenDict(classes),
        left_out=tuple(left_out),
    )


# --- reading --------------------------------------------------------------------------------------


def _load(source: Any) -> tuple[pa.Table, str, str]:
    """Return a table, what messages call it, and the digest of its content."""
    if not isinstance(source, str | Path):
        try:
            table = pa.table(source)
        except (TypeError, ValueError, pa.ArrowException) as error:
            raise UsageError(
                f"{type(source).__name__} is not a table: {error}.",
                hint="Give the path of a CSV or Parquet file, an Arrow table, or a DataFrame.",
            ) from error
        content = io.BytesIO()
        with pa.ipc.new_stream(content, table.schema.remove_metadata()) as writer:
            writer.write_table(table.replace_schema_metadata(None))
        return table, "the table", hashlib.sha256(content.getbuffer()).hexdigest()
    path = Path(source)
    try:
        data = read_regular(path, _MAX_BYTES)
        table = _parquet(data) if path.suffix.lower() == ".parquet" else _csv(data)
    except OSError as error:
        raise UsageError(
            f"{path}: {error.strerror or error}.", hint="Name a CSV or Parquet file."
        ) from error
    except (ValueError, pa.ArrowException) as error:
        raise UsageError(
            f"{path}: not a table with a row of column names: {error}.",
            hint="Save it as a CSV file in UTF-8, or as a Parquet file.",
        ) from error
    return table, str(path), hashlib.sha256(data).hexdigest()


def _parquet(data: bytes) -> pa.Table:
    return pq.read_table(pa.BufferReader(data))


def _csv(data: bytes) -> pa.Table:
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    if encoding:
        data = data.decode(encoding).encode()
    first = data.partition(b"\n")[0].decode("utf-8-sig")
    outside = "".join(first.split('"')[::2])
    separator = max(_SEPARATORS, key=outside.count)
    return pa_csv.read_csv(
        io.BytesIO(data),
        parse_options=pa_csv.ParseOptions(delimiter=separator),
        convert_options=pa_csv.ConvertOptions(
            column_types=dict.fromkeys(KEYS, pa.string()),
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


# --- keys -----------------------------------------------------------------------------------------


def _texts(table: pa.Table, key: str, name: str) -> list[str]:
    """Return the keys of all rows."""
    kind = table.schema.field(key).type
    if not _is_text(kind):
        raise UsageError(
            f"{name}: the column {key} has values of the type {kind}, not texts.",
            hint=f"Take {key} from the index of the run as it is.",
        )
    texts = pc.fill_null(table.column(key).cast(pa.string()), "").to_pylist()
    return [text.lower() for text in texts] if key == "tile_uuid" else list(texts)


def _check_keys(name: str, texts: Mapping[str, Sequence[str]]) -> None:
    faults = []
    for key, values in texts.items():
        seen: dict[str, int] = {}
        for number, value in enumerate(values, 1):
            if not value:
                faults.append(f"row {number} has no {key}")
            elif value in seen:
                faults.append(f"row {number} has the {key} {value} of row {seen[value]}")
            else:
                seen[value] = number
    if faults:
        raise UsageError(
            listed(f"{name} cannot be used", faults), hint="Each patch has one row, with its key."
        )


# --- columns --------------------------------------------------------------------------------------


def _choose(table: pa.Table, columns: Sequence[str], name: str) -> tuple[list[str], list[str]]:
    """Return the columns to take, and those that are left out with the reason."""
    there = [each for each in table.column_names if each not in KEYS]
    if columns:
        unknown = [each for each in columns if each not in there]
        if unknown:
            raise UsageError(
                f"{name}: no column {', '.join(map(repr, unknown))}; there is "
                f"{', '.join(map(repr, there))}."
            )
        return list(dict.fromkeys(columns)), []
    chosen, left_out = [], []
    for each in there:
        if each in _OF_INDEX or each.startswith(_OTHERS):
            left_out.append(f"{each} (a column of the index)")
        elif not (
            _is_number(table.schema.field(each).type) or _is_text(table.schema.field(each).type)
        ):
            left_out.append(f"{each} (of the type {table.schema.field(each).type})")
        else:
            chosen.append(each)
    if not chosen:
        raise UsageError(
            f"{name}: no column of predictions"
            + (f"; left out: {', '.join(left_out)}." if left_out else "."),
            hint="Beside its key, a row has numbers or the text of a class; name "
            "them if they are called as a column of the index.",
        )
    return chosen, left_out


_OF_INDEX = frozenset(COLUMN_NAMES) | {"slide_id"}
_OTHERS = ("qc_", "meta.", "__index_level_")
"""Beginnings of columns of an index, and of the row numbers of pandas."""


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _is_number(kind: pa.DataType) -> bool:
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
    return any(test(kind) for test in tests) or bool(pa.types.is_null(kind))


def _values(
    table: pa.Table, chosen: Sequence[str], name: str
) -> tuple[dict[str, NDArray[np.float64]], dict[str, Classes]]:
    numbers, classes = {}, {}
    faults: list[str] = []
    for each in chosen:
        column = table.column(each)
        if _is_text(column.type):
            classes[each] = _classes(column)
            faults += _class_faults(each, classes[each])
        elif _is_number(column.type):
            numbers[each] = _numbers(column)
            faults += _number_faults(each, numbers[each])
        else:
            faults.append(f"the column {each} has values of the type {column.type}")
    if faults:
        raise UsageError(
            listed(f"{name} cannot be used", faults),
            hint="Name the columns to take, those that are predictions.",
        )
    return numbers, classes


def _numbers(column: pa.ChunkedArray) -> NDArray[np.float64]:
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    filled = pc.fill_null(column.cast(pa.float64(), safe=False), float("nan"))
    return np.array(filled.to_numpy(), np.float64)


def _classes(column: pa.ChunkedArray) -> Classes:
    encoded = pc.dictionary_encode(column.cast(pa.string())).combine_chunks()
    names = [str(each) for each in encoded.dictionary.to_pylist()]
    codes = np.array(pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False), np.int64)
    order = sorted(range(len(names)), key=names.__getitem__)
    places = np.full(len(names) + 1, -1, np.int64)  # the last one stands for none
    places[order] = np.arange(len(names))
    return Classes(tuple(names[i] for i in order), places[codes])


def _class_faults(name: str, column: Classes) -> Iterator[str]:
    if len(column.names) > MAX_CLASSES:
        yield (
            f"the column {name} has {len(column.names)} different texts, more than the "
            f"{MAX_CLASSES} classes that can be shown"
        )


def _number_faults(name: str, values: NDArray[np.float64]) -> Iterator[str]:
    with np.errstate(over="ignore"):
        too_large = np.flatnonzero(np.isinf(values.astype(np.float32)))
    for row in too_large.tolist():
        yield f"row {row + 1} has {values[row]} as {name}, which QuPath cannot show in a map"
