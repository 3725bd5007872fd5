"""Reading patches of an output to compare what they show."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from qupath_bridge.outputs.base import Output
from qupath_bridge.parallel import available_cores, ordered_map

from .patch_reading import PATCH_COLUMNS, read_patch
from .similar_patches import Looks, look_of

__all__ = ["read_looks"]

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
    wanted = rows.select(PATCH_COLUMNS)
    each = (row for batch in wanted.to_batches(_BATCH) for row in batch.to_pylist())
    found = []
    looks = ordered_map(
        lambda row: look_of(read_patch(output, row, raw=raw)),
        each,
        workers=max(available_cores(), output.at_once),
    )
    for look in looks:
        found.append(look)
        if on_progress and (len(found) % _BATCH == 0 or len(found) == rows.num_rows):
            on_progress(len(found), rows.num_rows)
    return Looks.of(found)
