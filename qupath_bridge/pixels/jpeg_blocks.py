"""Traces of JPEG compression in patches."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qupath_bridge.model import FloatArray, PixelArray

__all__ = ["blockiness"]

BLOCK = 8  # pixels per side of a block of JPEG
_LINES = 4  # every n-th line is looked at
_NOISE = 2.0  # gray levels: steps of patches that are flat


def blockiness(batch: PixelArray, mpp: float | None = None) -> FloatArray:
    """Return how much larger steps between JPEG blocks are than those inside of them.

    The grid of blocks may begin anywhere in the patch. It is looked for in the pixels as they
    are: scaling blurs it, so only patches of one resolution are comparable.

    Parameters
    ----------
    batch : array, shape (N, H, W, 3), uint8
        N may be 0.
    mpp : float or None
        Has no influence.

    Returns
    -------
    array, shape (N,), float64, unitless, 0 or more
        The excess of the steps at every eighth pixel over the other steps; near 0 without a grid.
    """
    green = batch[..., 1]
    across = _steps(green[:, ::_LINES])
    down = _steps(green[:, :, ::_LINES].transpose(0, 2, 1))
    return np.asarray((across + down) / 2, dtype=np.float64)


def _steps(lines: NDArray[np.uint8]) -> FloatArray:
    """Return the excess of steps along lines (N, lines, pixels), shape (N,)."""
    lines = np.ascontiguousarray(lines)
    high, low = (
        np.maximum(lines[..., 1:], lines[..., :-1]),
        np.minimum(lines[..., 1:], lines[..., :-1]),
    )
    steps = (high - low).sum(axis=1, dtype=np.uint32) / max(lines.shape[1], 1)
    blocks = steps.shape[1] // BLOCK
    if not blocks or not len(lines):
        return np.zeros(len(lines))
    phases = steps[:, : blocks * BLOCK].reshape(-1, blocks, BLOCK).mean(axis=1)
    most = phases.max(axis=1)
    others = (phases.sum(axis=1) - most) / (BLOCK - 1)
    return np.asarray((most - others) / (others + _NOISE))
