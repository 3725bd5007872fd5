"""Masks of a run, read back."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray
from PIL import Image

from qupath_bridge.config.masks import MaskKind
from qupath_bridge.errors import BridgeError, OutputError
from qupath_bridge.outputs.base import Location, Output

__all__ = ["read_mask"]


def read_mask(output: Output, row: Mapping[str, Any], kind: MaskKind) -> NDArray[np.integer]:
    """Return the values of a mask of the patch of a row, shape (H, W).

    Raises
    ------
    OutputError
        If the mask is not there, or is not what its row says.
    """
    try:
        data = output.read(Location(*(row[name] for name in kind.place)))
        if f"xxh3_128:{xxhash.xxh3_128_hexdigest(data)}" != row[kind.digest]:
            raise OutputError("its bytes are not those that were written.")
    except BridgeError as error:
        raise OutputError(
            f"The mask of {row['patch_id']} cannot be read: {error.message}",
            hint="`qupath-bridge verify` lists everything that is wrong.",
        ) from error
    if output.accepts == "array":
        little = np.dtype(kind.dtype).newbyteorder("<")
        return np.frombuffer(data, little).reshape(row["height"], row["width"])
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture).astype(kind.dtype)
