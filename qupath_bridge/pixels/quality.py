"""Quality measures by colour: one number per patch.

Shares of area and means are taken over every n-th pixel of a large patch (64 per side at least),
so they cost little; of 64 x 64 pixels and less all count.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qupath_bridge.model import FloatArray, MaskArray, PixelArray

from .lattice_views import UNKNOWN, lattice

__all__ = ["blank", "dark", "mean_saturation", "pen"]

GLASS = 205
"""Every channel of glass is at least so bright ..."""
GRAY = 15
"""... and the channels differ by this at most."""

INK = 80
"""The channels of ink differ by more than this; a blue counterstain seldom does."""
_GREENER = 20  # gray levels: green above red, as in no other stain
_REDDER = 100  # red above green and blue, which differ by less than the above

DARKNESS = 96
"""Mean of red, green and blue below which an area is dark."""

_AREA = 8.0  # µm: a nucleus alone is not a dark area


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
    high, low = _extremes(batch)
    return np.asarray(((high - low) / np.maximum(high, 1)).mean(axis=(1, 2)), dtype=np.float64)


def blank(batch: PixelArray, mpp: float | None = None) -> FloatArray:
    """Return the share of each patch that is glass: bright, and without colour.

    Parameters
    ----------
    batch : array, shape (N, H, W, 3), uint8
        N may be 0.
    mpp : float or None
        Has no influence.

    Returns
    -------
    array, shape (N,), float64, 0 to 1

    Examples
    --------
    >>> blank(np.array([[[[240, 241, 238], [230, 150, 190]]]], np.uint8)).tolist()
    [0.5]
    """
    high, low = _extremes(batch)
    return _share((low >= GLASS) & (high - low <= GRAY))


def pen(batch: PixelArray, mpp: float | None = None) -> FloatArray:
    """Return the share of each patch that has a colour of ink: blue, green or bright red.

    No stain is greener than it is red, apart from a blue counterstain (haematoxylin with DAB),
    which is paler than ink. Black ink is :func:`dark`.

    Parameters
    ----------
    batch : array, shape (N, H, W, 3), uint8
        N may be 0.
    mpp : float or None
        Has no influence.

    Returns
    -------
    array, shape (N,), float64, 0 to 1

    Examples
    --------
    >>> inks, eosin = [[40, 70, 160], [30, 140, 60], [220, 40, 45]], [200, 110, 170]
    >>> pen(np.array([[[*inks, eosin]]], np.uint8)).tolist()
    [0.75]
    """
    (red, green, blue), _ = lattice(batch)
    other = np.maximum(green, blue)
    cool = green > _more(red, _GREENER)
    cool &= np.maximum(red, other) > _more(np.minimum(red, blue), INK)
    warm = red > _more(other, _REDDER)
    warm &= blue < _more(green, _GREENER)
    return _share(cool | warm)


def dark(batch: PixelArray, mpp: float | None = None) -> FloatArray:
    """Return the share of each patch in dark areas of 8 µm and more: folds, black ink, shadow.

    Parameters
    ----------
    batch : array, shape (N, H, W, 3), uint8
        N may be 0.
    mpp : float or None
        µm per pixel; 0.5 where it is not known. Of pixels coarser than 4 µm each one counts.

    Returns
    -------
    array, shape (N,), float64, 0 to 1

    Examples
    --------
    >>> batch = np.full((1, 32, 32, 3), 220, np.uint8)
    >>> batch[:, :, :16] = (90, 20, 60)
    >>> dark(batch, 0.5).tolist()
    [0.5]
    """
    mpp = mpp or UNKNOWN
    (red, green, blue), step = lattice(batch, int(_AREA / (4 * mpp)))
    total = red.astype(np.uint16)
    total += green
    total += blue
    count, height, width = total.shape
    side = max(round(_AREA / (step * mpp)), 1)
    down, across = min(side, height), min(side, width)
    blocks = total[:, : height // down * down, : width // across * across].reshape(
        count, height // down, down, width // across, across
    )
    sums = blocks.sum(axis=2, dtype=np.uint32).sum(axis=3)
    return _share(sums < 3 * DARKNESS * down * across)


def _extremes(batch: PixelArray) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the brightest and the darkest channel of every n-th pixel."""
    (red, green, blue), _ = lattice(batch)
    return np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)


def _more(values: NDArray[np.uint8], amount: int) -> NDArray[np.uint8]:
    """Return larger values, at most 255."""
    return np.minimum(values, 255 - amount) + np.uint8(amount)


def _share(where: MaskArray) -> FloatArray:
    return np.asarray(where.mean(axis=(1, 2)), dtype=np.float64)
