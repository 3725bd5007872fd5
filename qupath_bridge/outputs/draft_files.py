"""Drafts of a store as files that Arrow writes Parquet to."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from qupath_bridge.stores.base import Draft

__all__ = ["DraftFile", "parquet_writer"]

WRITE_BYTES = 1 << 20
"""Bytes that a write to the file has, but for the last one."""


class DraftFile(io.RawIOBase):
    """A draft as Arrow writes to it."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._size = 0

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any) -> int:
        """Append bytes."""
        self._draft.write(data)
        self._size += len(data)
        return len(data)

    def tell(self) -> int:
        """Return the number of bytes until now."""
        return self._size


@contextmanager
def parquet_writer(
    draft: Draft, columns: pa.Schema, *, write_bytes: int = WRITE_BYTES
) -> Iterator[pq.ParquetWriter]:
    """Give what writes rows into a draft; Arrow's pages of some hundred bytes are gathered.

    Parameters
    ----------
    draft : Draft
    columns : Schema
    write_bytes : int
        Bytes that are gathered: the draft has all but these at any time.
    """
    with (
        io.BufferedWriter(DraftFile(draft), write_bytes) as file,
        pq.ParquetWriter(
            file, columns, compression="zstd", version="2.6", write_statistics=True
        ) as parquet,
    ):
        yield parquet
