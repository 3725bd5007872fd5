"""Masks of patches as tensors."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from qupath_bridge.config.masks import MASK_KINDS, MaskKind, kinds_in
from qupath_bridge.errors import OutputError, UsageError
from qupath_bridge.outputs.base import Location, Output

__all__ = ["find_kind", "read_mask"]


def find_kind(rows: pa.Table, name: str) -> MaskKind:
    """Return a kind of masks that an index has.

    Raises
    ------
    UsageError
        If there is no such kind, or the run has no such masks.
    """
    known = {kind.name: kind for kind in MASK_KINDS}
    if name not in known:
        raise UsageError(f"No masks are called {name!r}.", hint=f"Use {' or '.join(known)}.")
    if known[name] not in kinds_in(rows.column_names):
        raise UsageError(
            f"The run has no {name} masks.", hint=f"Export again with the option masks: {name}."
        )
    return known[name]


def read_mask(output: Output, row: Mapping[str, Any], kind: MaskKind, *, raw: bool) -> Any:
    """Return the mask of a patch as a tensor (H, W), int64.

    Parameters
    ----------
    output : Output
    row : mapping
        Of the index.
    kind : MaskKind
    raw : bool
        True if the output holds pixels without a header.

    Raises
    ------
    OutputError
        If it cannot be read, or has another size than its patch.
    """
    import torch

    data = output.read(Location(*(row[name] for name in kind.place)))
    shape = (row["height"], row["width"])
    try:
        if raw:
            dtype = np.dtype(kind.dtype).newbyteorder("<")
            values = np.frombuffer(data, dtype).reshape(shape)
        else:
            with Image.open(io.BytesIO(data)) as picture:
                values = np.asarray(picture)
        if values.shape != shape:
            raise ValueError(f"it has the shape {values.shape}")
    except (OSError, ValueError) as error:
        raise OutputError(
            f"The mask of {row['patch_id']} cannot be read: {error}.",
            hint="`qupath-bridge verify` lists everything that is wrong.",
        ) from error
    return torch.from_numpy(values.astype(np.int64))
