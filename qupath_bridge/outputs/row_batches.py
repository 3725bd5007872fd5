"""The rows of one slide, some thousand at a time: memory does not grow with their number."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from qupath_bridge.config.masks import MASK_KINDS, kinds_in

from .base import DamagedRowsError

__all__ = [
    "BATCH",
    "FOLDERS",
    "AnyRows",
    "Rows",
    "batches_of",
    "flat_values",
    "held",
    "is_patch_path",
    "places_in",
    "row_problem",
]

BATCH = 4096
"""Rows that are handled at once."""

FEW = 1024
"""Rows that are held at once, if need be: half a megabyte."""

MAX_ROWS = 10_000_000
"""Rows of one slide: 3 million patches of 64 pixels fill the largest slides."""
MAX_ROWS_BYTES = 2 << 30
"""Bytes of these rows before compression, some 200 per patch."""

_ALWAYS = (
    "run_id", "entry_id", "slide_name", "patch_id", "tile_uuid",
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

FOLDERS = ("patches", *(kind.folder for kind in MASK_KINDS))
"""Folders of patches and of masks."""

_PATH = rf"^(?:{'|'.join(FOLDERS)})(?:/[^/\\:]*[^/\\:.][^/\\:]*)+$"
"""A name below one of :data:`FOLDERS` that does not lead out of it again."""


class Rows:
    """The rows of one slide in a Parquet file, read and checked batch by batch.

    Parameters
    ----------
    content : bytes
        The file.
    name : str
        What messages call it.

    Attributes
    ----------
    schema : pyarrow.Schema
        The columns, and in its metadata what holds for all rows.
    num_rows : int

    Raises
    ------
    DamagedRowsError
        If the file is not Parquet, or says that it has more rows than a slide can have.
    """

    def __init__(self, content: bytes, name: str) -> None:
        self._name = name
        try:
            # ParquetFile, as read_table would add the partition key from the path.
            self._file = pq.ParquetFile(pa.BufferReader(content))
            _check_bounds(self._file.metadata)
            self.schema: pa.Schema = self._file.schema_arrow
        except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
            raise self.damaged(error) from error
        self.num_rows = int(self._file.metadata.num_rows)

    def damaged(self, problem: object) -> DamagedRowsError:
        """Return the error that says what is wrong with the file."""
        return DamagedRowsError(f"{self._name} is damaged: {problem}.")

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order, at most :data:`BATCH` at once; only some columns if given.

        Raises
        ------
        DamagedRowsError
            If the next rows are damaged.
        """
        wanted = None if columns is None else list(columns)
        try:
            # Without Arrow's threads: threads that start while the process ends can abort it.
            for batch in self._file.iter_batches(BATCH, columns=wanted, use_threads=False):
                # Arrow takes texts that are not UTF-8, and fails where they are used.
                batch.validate(full=True)
                yield batch
        except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
            raise self.damaged(error) from error

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return all rows at once.

        Raises
        ------
        DamagedRowsError
            If they are damaged.
        """
        wanted = None if columns is None else list(columns)
        try:
            table = self._file.read(wanted, use_threads=False)
            table.validate(full=True)
        except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
            raise self.damaged(error) from error
        return table


AnyRows: TypeAlias = Rows | pa.Table
"""Rows in a file or in memory; both have ``schema`` and ``num_rows``."""


def held(rows: Rows) -> AnyRows:
    """Return rows in memory if they are few, for those who look at them several times.

    There may be ten thousand small slides, and each read of a column of one of them takes about as
    long as a read of all.

    Raises
    ------
    DamagedRowsError
        If they are damaged.
    """
    return rows.table() if rows.num_rows <= FEW else rows


def batches_of(rows: AnyRows, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Yield rows in order, at most :data:`BATCH` at once; only some columns if given."""
    if isinstance(rows, Rows):
        yield from rows.batches(columns)
    else:
        chosen = rows if columns is None else rows.select(list(columns))
        yield from chosen.to_batches(BATCH)


def flat_values(column: pa.Array, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the values of a column as named buffers, for digests.

    Buffers of one name, put together batch after batch, do not depend on where batches are cut:
    what is null, the lengths of lists and texts, and the values one after the other.
    """
    kind = column.type
    if pa.types.is_map(kind):
        pair = pa.struct([("key", kind.key_type), ("value", kind.item_type)])
        column, kind = column.cast(pa.list_(pair)), pa.list_(pair)
    full = column.null_count == 0
    valid = np.ones(len(column), np.bool_) if full else column.is_valid().to_numpy(False)
    yield f"{name}:valid", valid
    if pa.types.is_list(kind):
        yield f"{name}:lengths", _numbers(pc.list_value_length(column))
        yield from flat_values(column.flatten(), f"{name}:items")
    elif pa.types.is_struct(kind):
        for field, values in zip(kind, column.flatten(), strict=True):
            yield from flat_values(values, f"{name}:{field.name}")
    elif pa.types.is_string(kind):
        yield f"{name}:lengths", _numbers(pc.binary_length(column))
        yield f"{name}:text", _whole_text(column if full else column.drop_null())
    else:
        yield f"{name}:numbers", _numbers(column)


def _whole_text(texts: pa.Array) -> Any:
    """Return the bytes of texts without nulls, one after the other as they lie in memory."""
    if not len(texts):
        return b""
    _, ends, content = texts.buffers()
    own = np.frombuffer(ends, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return memoryview(content or b"")[own[0] : own[-1]]


def _numbers(column: pa.Array) -> Any:
    if column.null_count:
        column = column.fill_null(False if pa.types.is_boolean(column.type) else 0)
    return column.to_numpy(zero_copy_only=False)


def _check_bounds(found: pq.FileMetaData) -> None:
    """Refuse, before it is read, a file that no export writes and that could fill the memory."""
    groups = [found.row_group(i) for i in range(found.num_row_groups)]
    size = sum(group.total_byte_size for group in groups)
    if not 0 <= found.num_rows <= MAX_ROWS or not 0 <= size <= MAX_ROWS_BYTES:
        raise ValueError(f"it says that it has {found.num_rows} rows of {size} bytes")


def is_patch_path(path: str) -> bool:
    """Return whether a path of a row stays inside the folders of patches and masks."""
    return re.fullmatch(_PATH, path) is not None


def places_in(columns: Sequence[str]) -> tuple[tuple[str, str, str], ...]:
    """Return the columns with file, offset and length of patches, and of each kind of masks."""
    return ("path", "offset", "length"), *(kind.place for kind in kinds_in(columns))


def row_problem(rows: AnyRows) -> str | None:
    """Return why rows cannot be those of written patches; None if they can.

    Code that uses rows relies on this: what is always there is there, numbers are in a possible
    range, and paths stay inside the folders of patches and masks.
    """
    masks = [name for kind in kinds_in(rows.schema.names) for name in (*kind.place, kind.digest)]
    columns = list(dict.fromkeys([*_ALWAYS, *_RANGES, *masks]))
    problems = map(_batch_problem, batches_of(rows, columns))
    return next((problem for problem in problems if problem), None)


def _batch_problem(batch: pa.RecordBatch) -> str | None:
    masks = kinds_in(batch.schema.names)
    paths = ["path", *(kind.column for kind in masks)]
    digests = [kind.digest for kind in masks]
    for name in dict.fromkeys([*_ALWAYS, *paths, *digests]):
        if batch.column(name).null_count:
            return f"the column {name} has a row without a value"
    sizes = {name: (0, _INT64) for kind in masks for name in kind.place[1:]}
    for name, (least, most) in {**_RANGES, **sizes}.items():
        ends = pc.min_max(batch.column(name)).as_py()
        for value in ends.values():
            if value is not None and not least <= value <= most:
                return f"the column {name} has {value}"
    for name in paths:
        inside = pc.match_substring_regex(batch.column(name), _PATH)
        if batch.num_rows and not pc.all(inside).as_py():
            return f"the column {name} leads out of the folders of patches"
    return None
