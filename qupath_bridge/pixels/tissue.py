"""Share of tissue in boxes, judged on the slide's thumbnail.

A method turns a thumbnail into a map of probabilities; what is above a threshold is tissue, and the
share of a box is the part of its area that is tissue. Methods are exchangeable parts, see
:class:`~qupath_bridge.pixels.base.TissueMethod`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qupath_bridge.errors import UsageError
from qupath_bridge.model import BoxArray, FloatArray, MaskArray, PixelArray

from .base import TissueMethod, refuse_argument

__all__ = [
    "DARK",
    "GLASS",
    "OtsuTissue",
    "SaturationTissue",
    "TissueMap",
    "find_tissue",
    "otsu_threshold",
    "saturation",
    "stain_saturation",
    "tissue_probabilities",
    "tissue_shares",
]

DARK = 50
"""A pixel whose red, green and blue are all below it is not stained tissue.

Its saturation says nothing: of nearly black pixels, as around a scanned area, it is noise.
"""

GLASS = 0.1
"""Mean saturation of glass at most: it is 0.01 to 0.07 on slides with glass, and 0.3 for the paler
part of a slide that has none."""

_BINS = 256


def saturation(pixels: PixelArray) -> FloatArray:
    """Return the HSV saturation, (max - min) / max, 0 for black.

    Parameters
    ----------
    pixels : array, shape (..., 3), uint8

    Returns
    -------
    array, shape (...), float64, 0 to 1
    """
    high = pixels.max(axis=-1).astype(np.float64)
    low = pixels.min(axis=-1)
    return np.asarray((high - low) / np.maximum(high, 1), dtype=np.float64)


def otsu_threshold(values: NDArray[np.uint8]) -> int:
    """Return Otsu's threshold: where the two classes are furthest apart.

    Parameters
    ----------
    values : array of uint8

    Returns
    -------
    int
        Values above it are the upper class. Of several equally good ones the middle one; with a
        single value that value itself, so that nothing is above it.
    """
    counts = np.bincount(values.ravel(), minlength=_BINS).astype(np.float64)
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * np.arange(_BINS))
    both = (below > 0) & (above > 0)
    if not both.any():
        return int(values.flat[0])
    apart = np.full(_BINS, -1.0)
    gap = sums[both] / below[both] - (sums[-1] - sums[both]) / above[both]
    apart[both] = below[both] * above[both] * gap**2
    best = np.flatnonzero(apart >= apart.max() * (1 - 1e-12))
    return int(best[len(best) // 2])


def stain_saturation(pixels: PixelArray) -> FloatArray:
    """Return the HSV saturation, 0 where a pixel is too dark to tell (:data:`DARK`).

    Parameters
    ----------
    pixels : array, shape (..., 3), uint8

    Returns
    -------
    array, shape (...), float64, 0 to 1
    """
    return np.where(pixels.max(axis=-1) < DARK, 0.0, saturation(pixels))


@dataclass(frozen=True, slots=True, eq=False)
class TissueMap:
    """Pixels of a thumbnail that show tissue.

    Attributes
    ----------
    mask : array, shape (h, w), bool
    note : str or None
        A remark about how it was found.
    """

    mask: MaskArray
    note: str | None = None


def find_tissue(probabilities: FloatArray, threshold: float | None = None) -> TissueMap:
    """Return which pixels are tissue: those above a threshold.

    Parameters
    ----------
    probabilities : array, shape (h, w), 0 to 1
    threshold : float or None
        None for Otsu's, which needs both glass and tissue. Where even the lower class is above
        :data:`GLASS` on average, there is no glass: Otsu's threshold would split the tissue, and
        all that is above :data:`GLASS` counts as tissue.
    """
    if threshold is not None:
        return TissueMap(np.asarray(probabilities > threshold, dtype=np.bool_))
    levels = np.round(probabilities * (_BINS - 1)).astype(np.uint8)
    limit = otsu_threshold(levels)
    glass = levels[levels <= limit]
    if glass.mean() <= GLASS * (_BINS - 1):
        return TissueMap(np.asarray(levels > limit, dtype=np.bool_))
    return TissueMap(
        np.asarray(probabilities > GLASS, dtype=np.bool_),
        f"No glass is found on the thumbnail: all that is above {GLASS:g} counts as tissue. "
        "The option tissue_threshold sets another limit.",
    )


@dataclass(frozen=True, slots=True)
class SaturationTissue:
    """The saturation as the probability of tissue, 0 where it is dark. Takes no argument."""

    argument: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        refuse_argument("tissue", "saturation", self.argument)

    def __call__(self, thumbnail: PixelArray, mpp: float | None) -> FloatArray:
        """Return the saturation of a thumbnail, shape (h, w), float64, 0 to 1."""
        return stain_saturation(thumbnail)


@dataclass(frozen=True, slots=True)
class OtsuTissue:
    """The saturation too, always with Otsu's threshold (:func:`find_tissue`). No argument."""

    argument: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        refuse_argument("tissue", "otsu", self.argument)

    def __call__(self, thumbnail: PixelArray, mpp: float | None) -> FloatArray:
        """Return the saturation of a thumbnail, shape (h, w), float64, 0 to 1."""
        return stain_saturation(thumbnail)


def tissue_shares(
    tissue: MaskArray | FloatArray, scale: float | tuple[float, float], boxes: BoxArray
) -> FloatArray:
    """Return the share of each box that is tissue.

    Parameters
    ----------
    tissue : array, shape (h, w), bool or float
        The whole thumbnail: where it shows tissue, or numbers from 0 to 1 whose mean is wanted.
    scale : float or (float, float)
        Thumbnail pixels per QuPath pixel, along x and y.
    boxes : array, shape (N, 4)
        x, y, width, height in QuPath pixels. Of a box that passes the edges the part inside counts.

    Returns
    -------
    array, shape (N,), float64, 0 to 1
        Pixels of the thumbnail on a box's edge count by the part that is inside; 0 for boxes
        that lie outside.
    """
    values = np.asarray(tissue, dtype=np.float64)
    height, width = values.shape
    table = np.zeros((height + 1, width + 1))
    table[1:, 1:] = values.cumsum(axis=0).cumsum(axis=1)
    places = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    x_scale, y_scale = np.broadcast_to(scale, (2,))
    x0, x1 = ((places[:, 0] + k * places[:, 2]) * x_scale for k in (0, 1))
    y0, y1 = ((places[:, 1] + k * places[:, 3]) * y_scale for k in (0, 1))
    x0, x1 = np.clip(x0, 0, width), np.clip(x1, 0, width)
    y0, y1 = np.clip(y0, 0, height), np.clip(y1, 0, height)
    sums = _at(table, x1, y1) - _at(table, x0, y1) - _at(table, x1, y0) + _at(table, x0, y0)
    areas = (x1 - x0) * (y1 - y0)
    shares = np.divide(sums, areas, out=np.zeros_like(sums), where=areas > 0)
    return np.asarray(np.clip(shares, 0, 1), dtype=np.float64)


def tissue_probabilities(
    thumbnail: PixelArray, method: TissueMethod, mpp: float | None = None
) -> FloatArray:
    """Return the map that a method makes of a thumbnail.

    Parameters
    ----------
    thumbnail : array, shape (h, w, 3), uint8
        The whole image, as QuPath shows it.
    method : TissueMethod
        As :class:`OtsuTissue`.
    mpp : float, optional
        µm per thumbnail pixel.

    Returns
    -------
    array, shape (h, w), float64, 0 to 1

    Raises
    ------
    UsageError
        If the method does not return probabilities of the thumbnail's shape.
    """
    values = np.asarray(method(thumbnail, mpp), dtype=np.float64)
    if values.shape != thumbnail.shape[:2]:
        raise UsageError(
            f"The tissue method {method!r} returned a map of shape {values.shape} for a thumbnail "
            f"of shape {thumbnail.shape[:2]}."
        )
    if not ((values >= 0) & (values <= 1)).all():
        raise UsageError(f"The tissue method {method!r} returned values outside 0 to 1.")
    return values


def _at(table: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the sum of all pixels left of x and above y; between whole pixels it is bilinear."""
    column = np.minimum(x.astype(np.intp), table.shape[1] - 2)
    row = np.minimum(y.astype(np.intp), table.shape[0] - 2)
    right, down = x - column, y - row
    upper = table[row, column] * (1 - right) + table[row, column + 1] * right
    lower = table[row + 1, column] * (1 - right) + table[row + 1, column + 1] * right
    return np.asarray(upper * (1 - down) + lower * down, dtype=np.float64)
