"""The index: one row per written patch. The truth about a run.

One Parquet file per slide, ``index/slide_id=<slide_id>/part-0.parquet``; the slide is the
partition key, so it is not repeated inside. ``index.csv`` has the same rows. The rows of patches
that were dropped while reading stand in ``dropped/slide_id=<slide_id>/part-<digest>.parquet``:
not in ``index/``, so that what reads that folder as one dataset reads written patches only.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from qupath_bridge.errors import OutputError

if TYPE_CHECKING:
    from qupath_bridge.stores.base import Store

    from .base import Output

__all__ = [
    "COLUMN_NAMES",
    "CSV_FILE",
    "QC_PREFIX",
    "SCHEMA_VERSION",
    "delete_partition",
    "facts_of",
    "list_partitions",
    "make_table",
    "metadata_of",
    "read_dropped",
    "read_index",
    "read_partition",
    "schema",
    "unused_dropped",
    "with_facts",
    "write_csv",
    "write_partition",
]

SCHEMA_VERSION = 1

_FIELDS: Mapping[str, pa.DataType] = {
    "run_id": pa.string(),
    "entry_id": pa.string(),
    "slide_name": pa.string(),
    "patch_id": pa.string(),
    "tile_uuid": pa.string(),
    "col": pa.int32(),
    "row": pa.int32(),
    "x_qupath": pa.int32(),
    "y_qupath": pa.int32(),
    "w_qupath": pa.int32(),
    "h_qupath": pa.int32(),
    "x_slide": pa.int32(),
    "y_slide": pa.int32(),
    "w_slide": pa.int32(),
    "h_slide": pa.int32(),
    "z": pa.int32(),
    "t": pa.int32(),
    "width": pa.int32(),
    "height": pa.int32(),
    "mpp": pa.float64(),
    "downsample": pa.float64(),
    "read_level": pa.int32(),
    "label": pa.string(),
    "label_source": pa.string(),
    "label_share": pa.float64(),
    "margin": pa.float64(),
    "within_share": pa.float64(),
    "excluded_share": pa.float64(),
    "valid_share": pa.float64(),
    "tissue_share": pa.float64(),
    "shares": pa.map_(pa.string(), pa.float64()),
    "region_ids": pa.list_(pa.string()),
    "tma_core": pa.string(),
    "path": pa.string(),
    "offset": pa.int64(),
    "length": pa.int64(),
    "object_id": pa.string(),
    "channels": pa.list_(pa.string()),
    "dtype": pa.string(),
    "digest": pa.string(),
    "rule_label": pa.string(),
    "project": pa.string(),
    "slide_file": pa.string(),
    "slide_digest": pa.string(),
    "metadata": pa.map_(pa.string(), pa.string()),
}

COLUMN_NAMES: tuple[str, ...] = ("slide_id", *_FIELDS)
"""All columns but those of quality measures, which stand behind ``digest``."""

QC_PREFIX = "qc_"
META_PREFIX = "meta."
_LABELS = ("label", "rule_label")

FOLDER = "index/"
PREFIX = f"{FOLDER}slide_id="
PART = "/part-0.parquet"
DROPPED_PREFIX = "dropped/slide_id="
CSV_FILE = "index.csv"
METADATA_PREFIX = "qupath_bridge."
FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")


def schema(*, multi: bool = False, qc: Iterable[str] = ()) -> pa.Schema:
    """Return the columns of a partition.

    Parameters
    ----------
    multi : bool
        Whether labels are lists, as under multi-label rules.
    qc : iterable of str
        Names of the quality measures that were asked for; the columns are ``qc_<name>``.
    """
    fields: dict[str, pa.DataType] = {}
    for name, kind in _FIELDS.items():
        fields[name] = pa.list_(pa.string()) if multi and name in _LABELS else kind
        if name == "digest":
            fields.update({f"{QC_PREFIX}{measure}": pa.float64() for measure in qc})
    return pa.schema(list(fields.items()))


def make_table(
    columns: Mapping[str, Sequence[Any] | pa.Array],
    *,
    multi: bool = False,
    qc: Iterable[str] = (),
    metadata: Mapping[str, str] | None = None,
) -> pa.Table:
    """Return the rows of one slide.

    Parameters
    ----------
    columns : mapping
        Every column of :func:`schema`.
    multi : bool
        Whether labels are lists.
    qc : iterable of str
        Names of the quality measures; the columns are ``qc_<name>``.
    metadata : mapping of str to str
        What holds for all rows; kept in the file beside the schema version.

    Raises
    ------
    KeyError
        If a column is missing.
    """
    wanted = schema(multi=multi, qc=qc)
    notes = {"schema_version": str(SCHEMA_VERSION), **(metadata or {})}
    arrays = [_array(columns[field.name], field.type) for field in wanted]
    return _annotated(pa.Table.from_arrays(arrays, schema=wanted), notes)


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    """Return a column; NaN in an array of numbers is null."""
    if isinstance(values, pa.Array):
        return values.cast(kind)
    if pa.types.is_map(kind):
        values = [[*value.items()] if isinstance(value, Mapping) else value for value in values]
    return pa.array(values, kind, from_pandas=True)


def metadata_of(table: pa.Table) -> dict[str, str]:
    """Return what :func:`make_table` was given for all rows, and the schema version."""
    return _metadata(table.schema)


def _metadata(columns: pa.Schema) -> dict[str, str]:
    return {
        key.decode().removeprefix(METADATA_PREFIX): value.decode()
        for key, value in (columns.metadata or {}).items()
        if key.decode().startswith(METADATA_PREFIX)
    }


def _annotated(table: pa.Table, notes: Mapping[str, str]) -> pa.Table:
    """Return a table with these notes and no others."""
    return table.replace_schema_metadata(
        {f"{METADATA_PREFIX}{key}": value for key, value in notes.items()}
    )


def with_facts(table: pa.Table, facts: Mapping[str, Any]) -> pa.Table:
    """Return the table with the facts about its slide in its metadata, as one JSON object.

    Raises
    ------
    ValueError
        If a number is not finite.
    """
    return _annotated(table, {**metadata_of(table), "facts": _json(facts)})


def facts_of(table: pa.Table) -> dict[str, Any]:
    """Return what :func:`with_facts` put into a table; empty where it put nothing."""
    facts: dict[str, Any] = json.loads(metadata_of(table).get("facts", "{}"))
    return facts


def write_partition(
    store: Store, slide_id: str, table: pa.Table, dropped: pa.Table | None = None
) -> None:
    """Write the rows of one slide. Once this returns, the slide is committed.

    The rows of dropped patches come with it or not at all: they are written first, under a name
    that only the new rows know.
    """
    notes = {key: value for key, value in metadata_of(table).items() if key != "dropped"}
    if dropped is not None and dropped.num_rows:
        version = {"schema_version": str(SCHEMA_VERSION)}
        content = _parquet(_annotated(dropped, {**metadata_of(dropped), **version}))
        notes["dropped"] = f"part-{xxhash.xxh3_64_hexdigest(content)}.parquet"
        store.put(f"{DROPPED_PREFIX}{slide_id}/{notes['dropped']}", content, durable=True)
    partition = _parquet(_annotated(table, notes))
    store.put(_partition(slide_id), partition, durable=True)
    for left in _dropped_besides(store, slide_id, notes.get("dropped")):
        store.delete(left)


def _parquet(table: pa.Table) -> memoryview:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", version="2.6", write_statistics=True)
    return buffer.getbuffer()


def read_partition(
    store: Store, slide_id: str, columns: Sequence[str] | None = None
) -> pa.Table | None:
    """Return the rows of one slide; None if it is not committed.

    Parameters
    ----------
    store : Store
    slide_id : str
    columns : sequence of str, optional
        Only these columns.

    Raises
    ------
    OutputError
        If the file is damaged, or of a version that this one does not know.
    """
    return _read(store, _partition(slide_id), columns)


def read_dropped(store: Store, slide_id: str) -> pa.Table | None:
    """Return the rows of the patches that reading dropped; None if there are none.

    Raises
    ------
    OutputError
        If a file is damaged, missing, or of a version that this one does not know.
    """
    file = _dropped_file(store, slide_id)
    if file is None:
        return None
    name = f"{DROPPED_PREFIX}{slide_id}/{file}"
    if (table := _read(store, name)) is None:
        raise OutputError(f"{name} is missing.", hint="Export this slide again.")
    return table


def unused_dropped(store: Store, slide_id: str) -> Iterator[str]:
    """Yield the names of files of dropped patches that the rows of a slide do not go with."""
    yield from _dropped_besides(store, slide_id, _dropped_file(store, slide_id))


def _dropped_file(store: Store, slide_id: str) -> str | None:
    """Return the name, in the slide's folder, of the file that the rows of a slide go with."""
    table = read_partition(store, slide_id, ())
    return None if table is None else metadata_of(table).get("dropped")


def _dropped_besides(store: Store, slide_id: str, file: str | None) -> Iterator[str]:
    folder = f"{DROPPED_PREFIX}{slide_id}/"
    for name in store.list(folder):
        if name != f"{folder}{file}":
            yield name


def _read(store: Store, name: str, columns: Sequence[str] | None = None) -> pa.Table | None:
    if not store.exists(name):
        return None
    try:
        # ParquetFile, as read_table would add the partition key from the path.
        file = pq.ParquetFile(pa.BufferReader(store.get(name)))
        # Without Arrow's threads: a slide's rows are few, and threads that start while the process
        # ends can abort it.
        table = file.read(None if columns is None else list(columns), use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise OutputError(
            f"{name} is damaged: {error}.",
            hint="Delete it and resume the export.",
        ) from error
    version = metadata_of(table).get("schema_version")
    if version != str(SCHEMA_VERSION):
        raise OutputError(
            f"{name} has schema version {version}; this version reads {SCHEMA_VERSION}.",
            hint="Use the version of qupath-bridge that wrote it, or a newer one.",
        )
    return table


def delete_partition(store: Store, slide_id: str) -> None:
    """Take a slide out of the index; nothing happens where it is not in it."""
    store.delete(_partition(slide_id))
    for name in unused_dropped(store, slide_id):
        store.delete(name)


def list_partitions(store: Store) -> list[str]:
    """Return the slide ids that are committed, sorted."""
    return sorted(
        name.removeprefix(PREFIX).removesuffix(PART)
        for name in store.list(PREFIX)
        if name.endswith(PART)
    )


def _partition(slide_id: str) -> str:
    return f"{PREFIX}{slide_id}{PART}"


def read_index(output: Output) -> pa.Table:
    """Return the rows of all slides, ``slide_id`` first; no rows where nothing is committed.

    Raises
    ------
    OutputError
        If the rows of a slide are damaged, or of a version that this one does not know.
    """
    tables = [
        table.add_column(0, "slide_id", pa.array([slide_id] * table.num_rows, pa.string()))
        for slide_id, table in _tables(output)
    ]
    if not tables:
        return schema().empty_table().add_column(0, "slide_id", pa.array([], pa.string()))
    notes = tables[0].schema.metadata
    whole = pa.concat_tables(
        (table.replace_schema_metadata(notes) for table in tables), promote_options="default"
    )
    return whole.select(_in_order(whole.column_names))


def write_csv(output: Output) -> None:
    """Write ``index.csv`` from the committed slides, one slide at a time.

    Lists and maps are JSON, null is empty, numbers are written so that they come back the same.
    ``metadata`` becomes one column ``meta.<key>`` per key. A text that a spreadsheet would run as
    a formula gets a leading ``'``.
    """
    output.put(CSV_FILE, _csv(output))


def _csv(output: Output) -> Iterator[bytes]:
    names, keys = _csv_columns(output)
    yield _lines([["slide_id", *names, *(f"{META_PREFIX}{key}" for key in keys)]])
    for slide_id, table in _tables(output):
        for batch in table.to_batches(4096):
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
    names, keys = dict.fromkeys(_FIELDS), set()
    for _, table in _tables(output):
        names.update(dict.fromkeys(table.column_names))
        for chunk in table.column("metadata").chunks:
            keys.update(chunk.keys.unique().to_pylist())
    return [name for name in _in_order(names) if name != "metadata"], sorted(keys)


def _in_order(names: Iterable[str]) -> list[str]:
    """Return names of columns in the order of the index, quality measures sorted."""
    names = list(names)
    extra = sorted(name for name in names if name.startswith(QC_PREFIX))
    at = [name for name in names if name not in extra]
    behind = at.index("digest") + 1
    return [*at[:behind], *extra, *at[behind:]]


def _tables(output: Output) -> Iterator[tuple[str, pa.Table]]:
    for slide_id in output.slides():
        if (table := output.table(slide_id)) is not None:
            yield slide_id, table


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
        return [None if value is None else _json(dict(value)) for value in values]
    if pa.types.is_list(column.type):
        return [None if value is None else _json(value) for value in values]
    if pa.types.is_string(column.type):
        return [_text(value) for value in values]
    return values  # type: ignore[no-any-return]


def _text(value: str | None) -> str | None:
    """Keep a spreadsheet from running a text."""
    return f"'{value}" if value is not None and value.startswith(FORMULA_SIGNS) else value


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False)
