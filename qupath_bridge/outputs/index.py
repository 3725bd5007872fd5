"""The index: one row per written patch. The truth about a run.

One Parquet file per slide, ``index/slide_id=<slide_id>/part-0.parquet``; the slide is the
partition key, so it is not repeated inside. ``index.csv`` has the same rows. The rows of patches
that were dropped while reading stand in ``dropped/slide_id=<slide_id>/part-<digest>.parquet``:
not in ``index/``, so that what reads that folder as one dataset reads written patches only.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from qupath_bridge.errors import OutputError
from qupath_bridge.schemas import parse_json

from .base import DamagedRowsError

if TYPE_CHECKING:
    from qupath_bridge.stores.base import Draft, Store

    from .base import Output

__all__ = [
    "COLUMN_NAMES",
    "QC_PREFIX",
    "SCHEMA_VERSION",
    "delete_partition",
    "facts_of",
    "is_patch_path",
    "list_partitions",
    "make_table",
    "metadata_of",
    "new_partition",
    "read_dropped",
    "read_index",
    "read_partition",
    "row_problem",
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

COLUMN_NAMES: tuple[str, ...] = ("slide_id", *FIELDS)
"""All columns but those of quality measures, which stand behind ``digest``."""

QC_PREFIX = "qc_"
_LABELS = ("label", "rule_label")

FOLDER = "index/"
PREFIX = f"{FOLDER}slide_id="
PART = "/part-0.parquet"
DROPPED_PREFIX = "dropped/slide_id="
METADATA_PREFIX = "qupath_bridge."


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
    for name, kind in FIELDS.items():
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
    arrays = [_array(columns[field.name], field.type) for field in wanted]
    return with_notes(pa.Table.from_arrays(arrays, schema=wanted), metadata or {})


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


def facts_of(table: pa.Table) -> Any:
    """Return what :func:`with_facts` put into a table; empty where it put nothing.

    Raises
    ------
    DamagedRowsError
        If it is damaged.
    """
    try:
        return parse_json(metadata_of(table).get("facts", "{}"))
    except ValueError as error:
        raise DamagedRowsError(f"The facts in a partition are damaged: {error}.") from error


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
        with _writer(draft, columns.with_metadata(_prefixed(notes))) as parquet:
            yield lambda table: parquet.write_table(
                table.replace_schema_metadata(_prefixed(notes)), GROUP
            )
        draft.publish(name, durable=True)
    finally:
        draft.discard()
    for left in _dropped_besides(store, slide_id, notes.get("dropped")):
        store.delete(left)


class _DraftFile(io.RawIOBase):
    """A draft as Arrow writes to it."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._draft.write(data)
        self._size += len(data)
        return len(data)

    def tell(self) -> int:
        return self._size


def _writer(draft: Draft, columns: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        _DraftFile(draft), columns, compression="zstd", version="2.6", write_statistics=True
    )


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
    DamagedRowsError
        If the file is damaged.
    OutputError
        If it cannot be reached, or is of a version that this one does not know.
    """
    return _read(store, _partition(slide_id), columns, _schema_problem)


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
    if (table := _read(store, name)) is None:
        raise DamagedRowsError(f"{name} is missing.")
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


def _read(
    store: Store,
    name: str,
    columns: Sequence[str] | None = None,
    problem_of: Callable[[pa.Schema], str | None] = lambda found: None,
) -> pa.Table | None:
    if not store.exists(name):
        return None
    try:
        # ParquetFile, as read_table would add the partition key from the path.
        file = pq.ParquetFile(pa.BufferReader(store.get(name)))
        _check_bounds(file.metadata)
        if problem := problem_of(file.schema_arrow):
            raise ValueError(problem)
        # Without Arrow's threads: a slide's rows are few, and threads that start while the process
        # ends can abort it.
        table = file.read(None if columns is None else list(columns), use_threads=False)
        # Arrow takes texts that are not UTF-8, and fails where they are used: in rows and notes.
        table.validate(full=True)
        version = metadata_of(table).get("schema_version")
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise DamagedRowsError(f"{name} is damaged: {error}.") from error
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


def strange_files(store: Store) -> Iterator[str]:
    """Yield the names of files in the folder of the index that are not partitions.

    What reads that folder as one dataset would read them too.
    """
    for name in store.list(FOLDER):
        slide_id = name.removeprefix(PREFIX).removesuffix(PART)
        if "/" in slide_id or name != _partition(slide_id):
            yield name


def _check_bounds(found: pq.FileMetaData) -> None:
    """Refuse, before it is read, a file that no export writes and that could fill the memory."""
    groups = [found.row_group(i) for i in range(found.num_row_groups)]
    size = sum(group.total_byte_size for group in groups)
    if not 0 <= found.num_rows <= MAX_ROWS or not 0 <= size <= MAX_ROWS_BYTES:
        raise ValueError(f"it says that it has {found.num_rows} rows of {size} bytes")


def _schema_problem(found: pa.Schema) -> str | None:
    """Return why a file cannot be a partition; None if its columns are those of one."""
    names = found.names
    multi = names.count("label") == 1 and pa.types.is_list(found.field("label").type)
    qc = [name.removeprefix(QC_PREFIX) for name in names if name.startswith(QC_PREFIX)]
    wanted = schema(multi=multi, qc=qc)
    if names != wanted.names:
        odd = sorted(set(names) ^ set(wanted.names)) or ["their order"]
        return f"it has other columns than an index: {', '.join(odd)}"
    for field in wanted:
        if (kind := found.field(field.name).type) != field.type:
            return f"its column {field.name} has {kind}, not {field.type}"
    return None


def is_patch_path(path: str) -> bool:
    """Return whether a path of a row stays inside ``patches/``."""
    return re.fullmatch(_PATH, path) is not None


def row_problem(table: pa.Table) -> str | None:
    """Return why rows cannot be those of written patches; None if they can.

    Code that uses rows relies on this: what is always there is there, numbers are in a possible
    range, and paths stay inside ``patches/``.
    """
    for name in _ALWAYS:
        if table.column(name).null_count:
            return f"the column {name} has a row without a value"
    for name, (least, most) in _RANGES.items():
        ends = pc.min_max(table.column(name)).as_py()
        for value in ends.values():
            if value is not None and not least <= value <= most:
                return f"the column {name} has {value}"
    inside = pc.match_substring_regex(table.column("path"), _PATH)
    if table.num_rows and not pc.all(inside).as_py():
        return "the column path leads out of the folder patches"
    return None


BATCH = 4096

GROUP = 1 << 15
"""Rows of a row group: what is written, or read, at a time; some 30 MB in memory."""

MAX_ROWS = 10_000_000
"""Rows of one slide: 3 million patches of 64 pixels fill the largest slides."""
MAX_ROWS_BYTES = 2 << 30
"""Bytes of these rows before compression, some 200 per patch."""

_ALWAYS = (
    "run_id", "entry_id", "slide_name", "patch_id", "tile_uuid", "col", "row",
    "x_qupath", "y_qupath", "w_qupath", "h_qupath", "x_slide", "y_slide", "w_slide", "h_slide",
    "z", "t", "width", "height", "downsample", "read_level", "path", "digest",
)  # fmt: skip
"""Columns that have a value in every row."""

_INT32, _INT64 = (1 << 31) - 1, (1 << 63) - 1
_RANGES: Mapping[str, tuple[float, float]] = {
    **dict.fromkeys(("w_qupath", "h_qupath", "w_slide", "h_slide"), (1, _INT32)),
    **dict.fromkeys(("width", "height"), (1, 1 << 14)),  # as the option size
    **dict.fromkeys(("z", "t", "read_level"), (0, _INT32)),
    **dict.fromkeys(("offset", "length"), (0, _INT64)),
    **dict.fromkeys(("mpp", "downsample"), (1e-300, 1e300)),
}
"""The least and the most that a column can have."""

_PATH = r"^patches(?:/[^/\\:]*[^/\\:.][^/\\:]*)+$"
"""A name below ``patches/`` that does not lead out of it again."""


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
        for slide_id, table in tables_of(output)
    ]
    if not tables:
        return schema().empty_table().add_column(0, "slide_id", pa.array([], pa.string()))
    notes = tables[0].schema.metadata
    whole = pa.concat_tables(
        (table.replace_schema_metadata(notes) for table in tables), promote_options="default"
    )
    return whole.select(in_order(whole.column_names))


def in_order(names: Iterable[str]) -> list[str]:
    """Return names of columns in the order of the index, quality measures sorted."""
    names = list(names)
    extra = sorted(name for name in names if name.startswith(QC_PREFIX))
    at = [name for name in names if name not in extra]
    behind = at.index("digest") + 1
    return [*at[:behind], *extra, *at[behind:]]


def tables_of(output: Output) -> Iterator[tuple[str, pa.Table]]:
    for slide_id in output.slides():
        if (table := output.table(slide_id)) is not None:
            yield slide_id, table


def to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False)
