"""Pixels of the patches of a run, from whatever container holds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import xxhash

from qupath_bridge.codecs import Contents, decode
from qupath_bridge.errors import BridgeError, OutputError
from qupath_bridge.model import PixelArray
from qupath_bridge.outputs.base import Location, Output

__all__ = ["PATCH_COLUMNS", "read_patch"]

PATCH_COLUMNS = (
    "patch_id", "path", "offset", "length", "width", "height", "mpp", "channels", "dtype", "digest",
)  # fmt: skip
"""Columns of the index that :func:`read_patch` needs."""


def read_patch(output: Output, row: Mapping[str, Any], *, raw: bool) -> PixelArray:
    """Return the pixels of a patch, shape (H, W, C), in their type.

    Parameters
    ----------
    output : Output
    row : mapping
        Of the index, with :data:`PATCH_COLUMNS`.
    raw : bool
        True if the format of the run is ``raw``, as it is in every container of arrays.

    Raises
    ------
    OutputError
        If the patch is not there, or is not what its row says.
    """
    try:
        data = output.read(Location(row["path"], row["offset"], row["length"]))
        if f"xxh3_128:{xxhash.xxh3_128_hexdigest(data)}" != row["digest"]:
            raise OutputError("its bytes are not those that were written.")
        size = (row["width"], row["height"])
        return decode(data, size, Contents.of_row(row), raw=raw)
    except BridgeError as error:
        raise OutputError(
            f"The patch {row['patch_id']} cannot be read: {error.message}",
            hint="`qupath-bridge verify` lists everything that is wrong.",
        ) from error
