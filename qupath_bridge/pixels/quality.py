"""Quality measures: one number per patch."""

from __future__ import annotations

import numpy as np

from qupath_bridge.model import FloatArray, PixelArray

from .tissue import saturation

__all__ = ["mean_saturation"]


def mean_saturation(batch: PixelArray, mpp: float | None = None) -> FloatArray:
    """Return the mean HSV saturation of each patch; glass is near 0, stained tissue above.

    Parameters
    ----------
    batch : array, shape (N, H, W, 3), uint8
        N may be 0.
    mpp : float or None
        Has no influence.

    Returns
    -------
    array, shape (N,), float64, unitless, 0 to 1

    Examples
    --------
    >>> batch = np.array([[[[255, 255, 255]]], [[[200, 100, 150]]]], np.uint8)
    >>> mean_saturation(batch, 0.5).tolist()
    [0.0, 0.5]
    """
    return np.asarray(saturation(batch).mean(axis=(1, 2)), dtype=np.float64)
