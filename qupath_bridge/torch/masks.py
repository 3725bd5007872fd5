"""Masks of patches as tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from qupath_bridge.config.masks import MASK_KINDS, MaskKind, kinds_in
from qupath_bridge.errors import UsageError

__all__ = ["find_kind", "mask_tensor"]


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


def mask_tensor(values: NDArray[np.integer]) -> Any:
    """Return the values of a mask as a tensor (H, W), int64."""
    import torch

    return torch.from_numpy(values.astype(np.int64))
