"""The index: one row per written patch. The truth about a run.

One Parquet file per slide, ``index/slide_id=<slide_id>/part-0.parquet``; the slide is the
partition key, so it is not repeated inside. ``index.csv`` has the same rows. The rows of patches
that were dropped while reading stand in ``dropped/slide_id=<slide_id>/part-<digest>.parquet``:
not in ``index/``, so that what reads that folder as one dataset reads written patches only.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from qupath_bridge.config.masks import OBJECT_COLUMNS, MaskKind, kinds_in
from qupath_bridge.config.quality import KEPT_RAW, QC_PREFIX
from qupath_bridge.errors import OutputError
from qupath_bridge.schemas import parse_json

from .base import DamagedRowsError
from .draft_files import parquet_writer
from .row_batches import AnyRows, Rows

if TYPE_CHECKING:
    from qupath_bridge.stores.base import Store

    from .base import Output

__all__ = [
    "COLUMN_NAMES",
    "SCHEMA_VERSION",
    "delete_partition",
    "facts_of",
    "list_partitions",
    "make_table",
    "metadata_of",
    "new_partition",
    "open_partition",
    "read_dropped",
    "read_index",
    "read_partition",
    "rows_of",
    "schema",
    "strange_files",
    "unused_dropped",
    "with_facts",
    "with_notes",
    "without_notes",
    "write_partition",
]

SCHEMA_VERSION = 1

FIELDS: Mapping[str, pa.DataType] = {
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
    "object_ids": pa.list_(pa.string()),
    "channels": pa.list_(pa.string()),
    "dtype": pa.string(),
    "digest": pa.string(),
    "rule_label": pa.string(),
    "project": pa.string(),
    "slide_file": pa.string(),
    "slide_digest": pa.string(),
    "metadata": pa.map_(pa.string(), pa.string()),
}

COLUMN_NAMES: tuple[str, ...] = ("slide_id", *FIELDS)
"""All columns but those of quality measures and of masks, which stand behind ``digest``."""

_LABELS = ("label", "rule_label")

FOLDER = "index/"
PREFIX = f"{FOLDER}slide_id="
PART = "/part-0.parquet"
DROPPED_PREFIX = "dropped/slide_id="
METADATA_PREFIX = "qupath_bridge."


def schema(
    *, multi: bool = False, measured: Iterable[str] = (), masks: Iterable[MaskKind] = ()
) -> pa.Schema:
    """Return the columns of a partition.

    Parameters
    ----------
    multi : bool
        Whether labels are lists, as under multi-label rules.
    measured : iterable of str
        Columns of what reading found out about each patch: ``qc_<measure>`` for the quality
        measures that were asked for, and :data:`KEPT_RAW`.
    masks : iterable of MaskKind
        Kinds of masks that stand beside the patches.
    """
    fields: dict[str, pa.DataType] = {}
    for name, kind in FIELDS.items():
        fields[name] = pa.list_(pa.string()) if multi and name in _LABELS else kind
        if name == "digest":
            fields.update(
                {column: pa.bool_() if column == KEPT_RAW else pa.float64() for column in measured}
            )
            for kind_of_mask in masks:
                fields.update({column: _mask_type(column) for column in kind_of_mask.columns})
    return pa.schema(list(fields.items()))


def _mask_type(column: str) -> pa.DataType:
    """Return the type of a column of masks."""
    if column in OBJECT_COLUMNS:
        return pa.list_(pa.string())
    return pa.int64() if column.endswith(("_offset", "_length")) else pa.string()


def is_measured(column: str) -> bool:
    """Return whether a column says what reading found out about each patch."""
    return column == KEPT_RAW or column.startswith(QC_PREFIX)


def make_table(
    columns: Mapping[str, Sequence[Any] | pa.Array],
    *,
    multi: bool = False,
    measured: Iterable[str] = (),
    masks: Iterable[MaskKind] = (),
    metadata: Mapping[str, str] | None = None,
) -> pa.Table:
    """Return the rows of one slide.

    Parameters
    ----------
    columns : mapping
        Every column of :func:`schema`.
    multi : bool
        Whether labels are lists.
    measured : iterable of str
        Columns of what reading found out about each patch.
    masks : iterable of MaskKind
        Kinds of masks that stand beside the patches.
    metadata : mapping of str to str
        What holds for all rows; kept in the file beside the schema version.

    Raises
    ------
    KeyError
        If a column is missing.
    """
    wanted = schema(multi=multi, measured=measured, masks=masks)
    arrays = [_array(columns[field.name], field.type) for field in wanted]
    return with_notes(pa.Table.from_arrays(arrays, schema=wanted), metadata or {})


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    """Return a column; NaN in an array of numbers is null."""
    if isinstance(values, pa.Array):
        return values.cast(kind)
    if pa.types.is_boolean(kind):
        values = np.asarray(values) > 0
    if pa.types.is_map(kind):
        values = [[*value.items()] if isinstance(value, Mapping) else value for value in values]
    return pa.array(values, kind, from_pandas=True)


def metadata_of(rows: AnyRows) -> dict[str, str]:
    """Return what :func:`make_table` was given for all rows, and the schema version."""
    return _metadata(rows.schema)


def _metadata(columns: pa.Schema) -> dict[str, str]:
    return {
        key.decode().removeprefix(METADATA_PREFIX): value.decode()
        for key, value in (columns.metadata or {}).items()
        if key.decode().startswith(METADATA_PREFIX)
    }


def _annotated(table: pa.Table, notes: Mapping[str, str]) -> pa.Table:
    """Return a table with these notes and no others."""
    return table.replace_schema_metadata(_prefixed(notes))


def _prefixed(notes: Mapping[str, str]) -> dict[str, str]:
    return {f"{METADATA_PREFIX}{key}": value for key, value in notes.items()}


def with_facts(table: pa.Table, facts: Mapping[str, Any]) -> pa.Table:
    """Return the table with the facts about its slide in its metadata, as one JSON object.

    Raises
    ------
    ValueError
        If a number is not finite.
    """
    return _annotated(table, {**metadata_of(table), "facts": to_json(facts)})


def facts_of(rows: AnyRows) -> Any:
    """Return what :func:`with_facts` put into rows; empty where it put nothing.

    Raises
    ------
    DamagedRowsError
        If it is damaged.
    """
    try:
        return parse_json(metadata_of(rows).get("facts", "{}"))
    except ValueError as error:
        raise DamagedRowsError(f"facts that are not JSON: {error}") from error


def with_notes(table: pa.Table, notes: Mapping[str, str]) -> pa.Table:
    """Return the table with what holds for all rows, and the schema version, in its metadata."""
    return _annotated(table, {"schema_version": str(SCHEMA_VERSION), **notes})


def without_notes(table: pa.Table, *names: str) -> pa.Table:
    """Return a table without some of the metadata of :func:`metadata_of`."""
    notes = metadata_of(table)
    return _annotated(table, {name: notes[name] for name in notes if name not in names})


def write_partition(
    store: Store, slide_id: str, table: pa.Table, dropped: pa.Table | None = None
) -> None:
    """Write the rows of one slide. Once this returns, the slide is committed."""
    with new_partition(store, slide_id, table.schema, dropped) as write:
        write(table)


@contextmanager
def new_partition(
    store: Store, slide_id: str, columns: pa.Schema, dropped: pa.Table | None = None
) -> Iterator[Callable[[pa.Table], None]]:
    """Give a function that adds rows of one slide; after the block, the slide is committed.

    If the block fails, nothing is. The rows of dropped patches come with the others or not at
    all: they are written first, under a name that only the new rows know.

    Parameters
    ----------
    columns : Schema
        Of the rows, with what holds for all of them.
    """
    notes = {key: value for key, value in _metadata(columns).items() if key != "dropped"}
    if dropped is not None and dropped.num_rows:
        version = {"schema_version": str(SCHEMA_VERSION)}
        content = _parquet(_annotated(dropped, {**metadata_of(dropped), **version}))
        notes["dropped"] = f"part-{xxhash.xxh3_64_hexdigest(content)}.parquet"
        store.put(f"{DROPPED_PREFIX}{slide_id}/{notes['dropped']}", content, durable=True)
    name = _partition(slide_id)
    draft = store.draft(name.rpartition("/")[0])
    try:
        with parquet_writer(draft, columns.with_metadata(_prefixed(notes))) as parquet:
            yield lambda table: parquet.write_table(
                table.replace_schema_metadata(_prefixed(notes)), GROUP
            )
        draft.publish(name, durable=True)
    finally:
        draft.discard()


def _parquet(table: pa.Table) -> memoryview:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", version="2.6", write_statistics=True)
    return buffer.getbuffer()


def open_partition(store: Store, slide_id: str) -> Rows | None:
    """Open the rows of one slide; None if it is not committed.

    Raises
    ------
    DamagedRowsError
        If the file is damaged.
    OutputError
        If it cannot be reached, or is of a version that this one does not know.
    """
    rows = _open(store, _partition(slide_id))
    if rows is not None and (problem := _schema_problem(rows.schema)):
        raise rows.damaged(problem)
    return rows


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
    DamagedRowsError
        If the file is damaged.
    OutputError
        If it cannot be reached, or is of a version that this one does not know.
    """
    rows = open_partition(store, slide_id)
    return None if rows is None else rows.table(columns)


def read_dropped(store: Store, slide_id: str) -> pa.Table | None:
    """Return the rows of the patches that reading dropped; None if there are none.

    Raises
    ------
    DamagedRowsError
        If a file is damaged or missing.
    OutputError
        If it cannot be reached, or is of a version that this one does not know.
    """
    file = _dropped_file(store, slide_id)
    if file is None:
        return None
    name = f"{DROPPED_PREFIX}{slide_id}/{file}"
    if (rows := _open(store, name)) is None:
        raise DamagedRowsError(f"{name} is missing.")
    return rows.table()


def unused_dropped(store: Store, slide_id: str) -> Iterator[str]:
    """Yield the names of files of dropped patches that the rows of a slide do not go with."""
    yield from _dropped_besides(store, slide_id, _dropped_file(store, slide_id))


def _dropped_file(store: Store, slide_id: str) -> str | None:
    """Return the name, in the slide's folder, of the file that the rows of a slide go with."""
    rows = open_partition(store, slide_id)
    return None if rows is None else metadata_of(rows).get("dropped")


def _dropped_besides(store: Store, slide_id: str, file: str | None) -> Iterator[str]:
    folder = f"{DROPPED_PREFIX}{slide_id}/"
    for name in store.list(folder):
        if name != f"{folder}{file}":
            yield name


def _open(store: Store, name: str) -> Rows | None:
    if not store.exists(name):
        return None
    rows = Rows(store.get(name), name)
    try:
        version = metadata_of(rows).get("schema_version")
    except ValueError as error:
        raise rows.damaged(error) from error
    if version != str(SCHEMA_VERSION):
        raise OutputError(
            f"{name} has schema version {version}; this version reads {SCHEMA_VERSION}.",
            hint="Use the version of qupath-bridge that wrote it, or a newer one.",
        )
    return rows


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


def strange_files(store: Store) -> Iterator[str]:
    """Yield the names of files in the folder of the index that are not partitions.

    What reads that folder as one dataset would read them too.
    """
    for name in store.list(FOLDER):
        slide_id = name.removeprefix(PREFIX).removesuffix(PART)
        if "/" in slide_id or name != _partition(slide_id):
            yield name


def _schema_problem(found: pa.Schema) -> str | None:
    """Return why a file cannot be a partition; None if its columns are those of one."""
    names = found.names
    multi = names.count("label") == 1 and pa.types.is_list(found.field("label").type)
    wanted = schema(multi=multi, measured=filter(is_measured, names), masks=kinds_in(names))
    if names != wanted.names:
        odd = sorted(set(names) ^ set(wanted.names)) or ["their order"]
        return f"it has other columns than an index: {', '.join(odd)}"
    for field in wanted:
        if (kind := found.field(field.name).type) != field.type:
            return f"its column {field.name} has {kind}, not {field.type}"
    return None


GROUP = 1 << 14
"""Rows of a row group: what is written at a time; some 15 MB in memory."""


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
        for slide_id, rows in rows_of(output)
        for table in [rows.table()]
    ]
    if not tables:
        return schema().empty_table().add_column(0, "slide_id", pa.array([], pa.string()))
    notes = tables[0].schema.metadata
    whole = pa.concat_tables(
        (table.replace_schema_metadata(notes) for table in tables), promote_options="default"
    )
    return whole.select(in_order(whole.column_names))


def in_order(names: Iterable[str]) -> list[str]:
    """Return names of columns in the order of the index, measured ones sorted, then masks."""
    names = list(names)
    masks = [column for kind in kinds_in(names) for column in kind.columns]
    extra = [*sorted(filter(is_measured, names)), *masks]
    at = [name for name in names if name not in extra]
    behind = at.index("digest") + 1
    return [*at[:behind], *extra, *at[behind:]]


def rows_of(output: Output) -> Iterator[tuple[str, Rows]]:
    """Yield the committed slides and their rows."""
    for slide_id in output.slides():
        if (rows := output.rows(slide_id)) is not None:
            yield slide_id, rows


def to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False)
