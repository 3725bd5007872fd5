"""Sharpness of patches. Both measures compare fine structure with coarse structure.

So the depth of a stain has little influence, and glass beside tissue has none. Structure is judged
at 1 µm per pixel: the same tissue at 0.25, 0.5 and 1 µm per pixel has nearly the same value. Of
coarser patches the values are comparable only among themselves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qupath_bridge.model import FloatArray, PixelArray

from .lattice_views import every_other_band, gray_at_micrometre

__all__ = ["focus", "sharpness"]

CONTRAST = 64.0
"""Variance of gray levels that is added to the coarse structure: patches with less show nothing
that could be sharp, and their noise does not count."""

_COARSE = 16  # µm: structure inside blocks of this side is compared with
_FINE = 4  # µm: shorter waves are fine structure
_LINES = 4  # every n-th line takes part in the spectrum


def focus(batch: PixelArray, mpp: float | None = None) -> FloatArray:
    """Return the variance of the Laplacian, in parts of the variance inside blocks of 16 µm.

    Parameters
    ----------
    batch : array, shape (N, H, W, 3), uint8
        N may be 0.
    mpp : float or None
        µm per pixel; 0.5 where it is not known.

    Returns
    -------
    array, shape (N,), float64, unitless, 0 or more
        Some 0.5 to 4 for sharp tissue; it falls with every µm of blur. 0 for patches with less
        than 3 pixels per side.
    """
    bands = every_other_band(batch, mpp, _COARSE)
    gray = gray_at_micrometre(bands.reshape(-1, *bands.shape[2:]), mpp)
    if min(gray.shape[1:]) < 3 or not len(gray):
        return np.zeros(len(batch))
    laplacian = gray[:, 1:-1, 1:-1] * np.float32(4)
    for beside in (gray[:, :-2, 1:-1], gray[:, 2:, 1:-1], gray[:, 1:-1, :-2], gray[:, 1:-1, 2:]):
        laplacian -= beside
    fine = np.einsum("nyx,nyx->n", laplacian, laplacian) / laplacian[0].size
    fine, coarse = (
        each.reshape(bands.shape[:2]).mean(axis=1) for each in (fine, _inside_blocks(gray))
    )
    return np.asarray(fine / (coarse + CONTRAST), dtype=np.float64)


def _inside_blocks(gray: NDArray[np.float32]) -> NDArray[Any]:
    """Return the mean variance inside blocks, shape (N,)."""
    count, height, width = gray.shape
    down, across = min(_COARSE, height), min(_COARSE, width)
    gray = gray[:, : height // down * down, : width // across * across] - np.float32(128)
    blocks = gray.reshape(count, height // down, down, width // across, across)
    means = blocks.sum(axis=2).sum(axis=3) / (down * across)
    squares = np.einsum("nyx,nyx->n", gray, gray) / gray[0].size
    return np.asarray(squares - (means**2).mean(axis=(1, 2)))


def sharpness(batch: PixelArray, mpp: float | None = None) -> FloatArray:
    """Return the share of the power spectrum in waves shorter than 4 µm.

    Of rows and columns; waves longer than 32 µm take no part.

    Parameters
    ----------
    batch : array, shape (N, H, W, 3), uint8
        N may be 0.
    mpp : float or None
        µm per pixel; 0.5 where it is not known.

    Returns
    -------
    array, shape (N,), float64, unitless, 0 to 1
        Some 0.02 to 0.2 for sharp tissue; near 0 from 1 µm of blur on.
    """
    gray = gray_at_micrometre(batch, mpp)
    fine, whole = np.zeros(len(gray)), np.full(len(gray), CONTRAST)
    for each in (gray[:, ::_LINES], gray[:, :, ::_LINES].transpose(0, 2, 1)):
        lines = np.ascontiguousarray(each)  # else the order of sums depends on the batch
        size = lines.shape[2]
        window = np.hanning(size + 2)[1:-1].astype(np.float32)
        level = (lines * window).sum(axis=2, keepdims=True) / window.sum()
        power = np.abs(np.fft.rfft((lines - level) * window)) ** 2
        power *= 1 / (size * (window**2).sum())  # both directions of a wave, half of each axis
        shortest, longest = np.searchsorted(np.fft.rfftfreq(size), [1 / _FINE, 1 / (2 * _COARSE)])
        means = power.mean(axis=1)
        fine += means[:, shortest:].sum(axis=1)
        whole += means[:, longest:].sum(axis=1)
    return np.asarray(fine / whole, dtype=np.float64)
