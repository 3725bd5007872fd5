"""The index: one row for each written patch. The truth about a run.

One Parquet file a slide, ``index/slide_id=<slide_id>/part-0.parquet``; the slide is the partition
key, so it is not repeated inside. ``index.csv`` has the same rows.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from qupath_bridge.errors import OutputError

if TYPE_CHECKING:
    from qupath_bridge.stores.base import Store

__all__ = [
    "COLUMN_NAMES",
    "SCHEMA_VERSION",
    "delete_partition",
    "list_partitions",
    "make_table",
    "metadata_of",
    "read_index",
    "read_partition",
    "schema",
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
    "digest": pa.string(),
}

COLUMN_NAMES: tuple[str, ...] = ("slide_id", *_FIELDS)
"""All columns, in the order of ``index.csv``."""

FOLDER = "index/"
PREFIX = f"{FOLDER}slide_id="
CSV_FILE = "index.csv"
METADATA_PREFIX = "qupath_bridge."


def schema(*, multi: bool = False) -> pa.Schema:
    """Return the columns of a partition; ``label`` is a list under multi-label rules."""
    fields = dict(_FIELDS)
    if multi:
        fields["label"] = pa.list_(pa.string())
    return pa.schema(list(fields.items()))


def make_table(
    columns: Mapping[str, Sequence[Any] | pa.Array],
    *,
    multi: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> pa.Table:
    """Return the rows of one slide.

    Parameters
    ----------
    columns : mapping
        Every column but ``slide_id``.
    multi : bool
        Whether labels are lists.
    metadata : mapping of str to str
        What holds for all rows; kept in the file beside the schema version.

    Raises
    ------
    KeyError
        If a column is missing.
    """
    wanted = schema(multi=multi)
    notes = {"schema_version": str(SCHEMA_VERSION), **(metadata or {})}
    arrays = [_array(columns[field.name], field.type) for field in wanted]
    keyed = {f"{METADATA_PREFIX}{key}": value for key, value in notes.items()}
    return pa.Table.from_arrays(arrays, schema=wanted.with_metadata(keyed))


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    """Return a column; NaN in an array of numbers is null."""
    if isinstance(values, pa.Array):
        return values.cast(kind)
    return pa.array(values, kind, from_pandas=True)


def metadata_of(table: pa.Table) -> dict[str, str]:
    """Return what :func:`make_table` was given for all rows, and the schema version."""
    notes = table.schema.metadata or {}
    return {
        key.decode().removeprefix(METADATA_PREFIX): value.decode()
        for key, value in notes.items()
        if key.decode().startswith(METADATA_PREFIX)
    }


def write_partition(store: Store, slide_id: str, table: pa.Table) -> None:
    """Write the rows of one slide. Once this returns, the slide is committed."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", version="2.6", write_statistics=True)
    store.put(_partition(slide_id), buffer.getbuffer(), durable=True)


def read_partition(store: Store, slide_id: str) -> pa.Table | None:
    """Return the rows of one slide; None where it is not committed.

    Raises
    ------
    OutputError
        If the file is damaged, or of a version that this one does not know.
    """
    name = _partition(slide_id)
    if not store.exists(name):
        return None
    try:
        # ParquetFile, as read_table would add the partition key from the path.
        table = pq.ParquetFile(pa.BufferReader(store.get(name))).read()
    except (pa.ArrowException, OSError) as error:
        raise OutputError(
            f"{name} is damaged: {error}.",
            hint="Delete it and run the export again with --resume.",
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


def list_partitions(store: Store) -> list[str]:
    """Return the slide ids that are committed, sorted."""
    names = (name.removeprefix(PREFIX).partition("/")[0] for name in store.list(PREFIX))
    return sorted(set(names))


def read_index(store: Store) -> pa.Table:
    """Return the rows of all slides, ``slide_id`` first; no rows where nothing is committed."""
    tables = [
        table.add_column(0, "slide_id", pa.array([slide_id] * table.num_rows, pa.string()))
        for slide_id in list_partitions(store)
        if (table := read_partition(store, slide_id)) is not None
    ]
    if not tables:
        return schema().empty_table().add_column(0, "slide_id", pa.array([], pa.string()))
    return pa.concat_tables(
        table.replace_schema_metadata(tables[0].schema.metadata) for table in tables
    )


def write_csv(store: Store) -> None:
    """Write ``index.csv`` from the committed partitions.

    Lists and maps are JSON, null is empty, numbers are written so that they come back the same.
    """
    store.put(CSV_FILE, _csv(store))


def _csv(store: Store) -> Iterator[bytes]:
    yield _lines([COLUMN_NAMES])
    for slide_id in list_partitions(store):
        table = read_partition(store, slide_id)
        for batch in table.to_batches(4096) if table is not None else ():
            columns = [_texts(column) for column in batch.columns]
            yield _lines(zip([slide_id] * batch.num_rows, *columns, strict=True))


def _lines(rows: Iterable[Iterable[object]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8")


def _partition(slide_id: str) -> str:
    return f"{PREFIX}{slide_id}/part-0.parquet"


def _texts(column: pa.Array) -> Iterator[object]:
    """Return a column as what the CSV shows; Python writes floats by their repr."""
    values = column.to_pylist()
    if pa.types.is_map(column.type):
        return (None if value is None else _json(dict(value)) for value in values)
    if pa.types.is_list(column.type):
        return (None if value is None else _json(value) for value in values)
    return iter(values)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False)
