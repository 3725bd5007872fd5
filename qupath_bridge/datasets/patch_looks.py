"""Reading patches of an output to compare what they show."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from typing import Any

import pyarrow as pa

from qupath_bridge.codecs import Contents, decode
from qupath_bridge.errors import BridgeError, OutputError
from qupath_bridge.outputs.base import Location, Output
from qupath_bridge.pipeline.parallel import available_cores, ordered_map

from .similar_patches import Look, Looks, look_of

__all__ = ["read_looks"]

COLUMNS = (
    "patch_id", "path", "offset", "length", "width", "height", "mpp", "channels", "dtype",
)  # fmt: skip
_BATCH = 512
"""Patches that are read between two calls of ``on_progress``."""


def read_looks(
    output: Output,
    rows: pa.Table,
    on_progress: Callable[[int, int], None] | None = None,
    *,
    raw: bool,
) -> Looks:
    """Return what the patches of rows of an index look like.

    Parameters
    ----------
    output : Output
    rows : pyarrow.Table
    on_progress : callable, optional
        Called with the number of patches that were read, and of all to be read.
    raw : bool
        True if the format of the run is ``raw``, as it is in every container of arrays.

    Raises
    ------
    OutputError
        If the bytes of a patch cannot be read.
    """
    wanted = rows.select(COLUMNS)
    each = (row for batch in wanted.to_batches(_BATCH) for row in batch.to_pylist())
    found = []
    looks = ordered_map(
        lambda row: _look_of_row(output, row, raw), each, workers=available_cores(), stop=Event()
    )
    for look in looks:
        found.append(look)
        if on_progress and (len(found) % _BATCH == 0 or len(found) == rows.num_rows):
            on_progress(len(found), rows.num_rows)
    return Looks.of(found)


def _look_of_row(output: Output, row: dict[str, Any], raw: bool) -> Look:
    try:
        data = output.read(Location(row["path"], row["offset"], row["length"]))
        size = (row["width"], row["height"])
        return look_of(decode(data, size, Contents.of_row(row), raw=raw))
    except BridgeError as error:
        raise OutputError(
            f"The patch {row['patch_id']} cannot be read: {error.message}",
            hint="`qupath-bridge verify` lists everything that is wrong.",
        ) from error
