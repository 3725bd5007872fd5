"""The encoded data of tiles, read from where the directory of a file says that they are."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from qupath_bridge.errors import ReadError
from qupath_bridge.timing import step

from .tile_decoders import MAX_GROWTH
from .tile_table import NOT_LISTED, TileTable

__all__ = ["TileData"]

SPARE_BYTES = 1 << 20
"""The data of a tile is longer than its pixels at most by this and :data:`MAX_GROWTH`."""


class TileData:
    """The data of the tiles of an open file.

    Parameters
    ----------
    path : path
    handle : tifffile.FileHandle
        Of the open file.
    """

    def __init__(self, path: Path, handle: Any) -> None:
        self._path, self._handle = path, handle
        self._length = int(handle.size)

    @property
    def identity(self) -> tuple[int, ...]:
        """Numbers that tell this file from others, and from itself after a change."""
        state = os.fstat(self._handle.fileno())
        return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns

    def read(self, table: TileTable, sample: int, index: int) -> bytes:
        """Read the data of a tile.

        Raises
        ------
        ValueError
            If the directory says what cannot be, or the file ends too early.
        ReadError
            If the drive fails.
        """
        offset, count = int(table.offsets[sample, index]), int(table.counts[sample, index])
        if offset == NOT_LISTED:
            raise ValueError("the file's directory does not list it")
        if offset + count > self._length:
            missing = offset + count - self._length
            raise ValueError(f"the file ends {missing} bytes too early")
        size = table.tile[0] * table.tile[1] * table.samples * table.dtype.itemsize
        if count > size * MAX_GROWTH + SPARE_BYTES:
            raise ValueError(f"the file's directory says that it has {count} bytes")
        try:
            with step("read"):
                data = read_at(self._handle, count, offset)
        except OSError as error:
            raise ReadError(
                f"{self._path}: {error.strerror or error}.", hint="Is the drive still connected?"
            ) from error
        if len(data) < count:
            raise ValueError(f"the file ends {count - len(data)} bytes too early")
        return data


def read_at(handle: Any, count: int, offset: int) -> bytes:
    """Read bytes at a place of an open file; fewer where the file ends."""
    if sys.platform == "win32":
        handle.seek(offset)
        return bytes(handle.read(count))
    return os.pread(handle.fileno(), count, offset)
