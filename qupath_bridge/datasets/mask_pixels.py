"""Masks of a run, read back."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qupath_bridge.config.masks import MaskKind
from qupath_bridge.outputs.base import Output

from .patch_reading import read_bytes

__all__ = ["read_mask"]


def read_mask(output: Output, row: Mapping[str, Any], kind: MaskKind) -> NDArray[np.integer]:
    """Return the values of a mask of the patch of a row, shape (H, W).

    Raises
    ------
    OutputError
        If the mask is not there, or is not what its row says.
    """
    data = read_bytes(output, row, f"mask of {row['patch_id']}", kind.place, kind.digest)
    if output.accepts == "array":
        little = np.dtype(kind.dtype).newbyteorder("<")
        return np.frombuffer(data, little).reshape(row["height"], row["width"])
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture).astype(kind.dtype)
