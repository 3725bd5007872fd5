"""From what a tissue method says to a mask: thresholds, and checks of the method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from qupath_bridge.errors import UsageError
from qupath_bridge.model import MaskArray
from qupath_bridge.pixels.base import SlideView, TissueMap, TissueMethod

if TYPE_CHECKING:
    from shapely.geometry import MultiPolygon, Polygon

__all__ = [
    "GLASS",
    "STATED",
    "Tissue",
    "covers_slide",
    "find_tissue",
    "lacks_glass",
    "otsu_threshold",
    "split_by_otsu",
]

SAME_ASPECT = 0.01
"""Part by which the ratio of width to height of a map may differ from that of the slide."""

STATED = 10.0
"""µm that a pixel of the map counts for on slides without pixel size."""

GLASS = 0.1
"""Mean saturation of glass at most: it is 0.01 to 0.07 on slides with glass, and 0.3 for the paler
part of a slide that has none."""

APART = 0.03
"""Difference of the mean saturation of glass and tissue at least: below, both are glass."""

_BINS = 256
_NO_GLASS = f"No glass is found on the slide: all that is above {GLASS:g} counts as tissue."
_NO_TISSUE = "No tissue is found on the slide: its colours hardly differ."


@dataclass(frozen=True, slots=True, eq=False)
class Tissue:
    """The tissue of a slide.

    Attributes
    ----------
    mask : array, shape (h, w), bool, or None
        None if there are ``shapes``.
    shapes : sequence of Polygon or MultiPolygon, or None
        QuPath pixels.
    threshold : float or None
        Above which probabilities are tissue, None for a method that takes no threshold.
    note, made_from : str or None
        As :class:`~qupath_bridge.pixels.base.TissueMap` has them.
    """

    mask: MaskArray | None
    shapes: Sequence[Polygon | MultiPolygon] | None = None
    threshold: float | None = None
    note: str | None = None
    made_from: str | None = None


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


def split_by_otsu(values: NDArray[np.floating[Any]]) -> tuple[MaskArray, float, str | None]:
    """Return what is above Otsu's threshold, the threshold, and a remark.

    Otsu's threshold needs both glass and tissue. Where even the lower class is above
    :data:`GLASS` on average, there is no glass: the threshold would split the tissue, and all that
    is above :data:`GLASS` counts as tissue. Where both classes are nearly alike
    (:data:`APART`), there is no tissue: the threshold would split the noise of the glass.

    Parameters
    ----------
    values : array, shape (h, w), 0 to 1
    """
    levels = np.rint(values * (_BINS - 1)).astype(np.uint8)
    limit = otsu_threshold(levels)
    above = levels > limit
    glass = levels[~above].mean() / (_BINS - 1)
    if glass <= GLASS:
        if above.any() and levels[above].mean() / (_BINS - 1) - glass < APART:
            return np.zeros_like(above), limit / (_BINS - 1), _NO_TISSUE
        return np.asarray(above), limit / (_BINS - 1), None
    return np.asarray(values > GLASS), GLASS, _NO_GLASS


def lacks_glass(values: NDArray[np.floating[Any]]) -> bool:
    """Return whether even the lower class of :func:`split_by_otsu` has a colour."""
    return split_by_otsu(values)[2] == _NO_GLASS


def find_tissue(
    method: TissueMethod, view: SlideView, threshold: float | Literal["otsu"] | None = None
) -> Tissue:
    """Return where the tissue of a slide is.

    Parameters
    ----------
    method : TissueMethod
    view : SlideView
    threshold : float or "otsu", optional
        In place of the method's own.

    Raises
    ------
    PlanError
        If the method cannot tell.
    UsageError
        If a threshold is given to a method that takes none, or if the method does not keep to
        its protocol.
    """
    own = method.threshold
    if threshold is not None and own is None:
        raise UsageError(f"The tissue method {method!r} takes no threshold.")
    found = method(view)
    if found.shapes is not None:
        return Tissue(None, tuple(found.shapes), note=found.note, made_from=found.made_from)
    values: NDArray[Any] = _checked(method, found, view)
    if own is None:
        return Tissue(values, note=found.note, made_from=found.made_from)
    limit = own if threshold is None else threshold
    note = None
    if isinstance(limit, str):
        mask, limit, note = split_by_otsu(values)
    else:
        mask = np.asarray(values > limit)
    notes = " ".join(filter(None, (found.note, note))) or None
    return Tissue(mask, threshold=limit, note=notes, made_from=found.made_from)


def covers_slide(shape: tuple[int, ...], view: SlideView) -> bool:
    """Return whether a map of a shape (h, w) can show the whole image of a slide."""
    if len(shape) != 2 or 0 in shape:
        return False
    (width, height), (rows, columns) = view.size, shape
    ratio = (columns * height) / (rows * width)
    # Half a pixel on each side is rounding.
    return abs(ratio - 1) <= max(SAME_ASPECT, 1 / rows + 1 / columns)


def _checked(method: TissueMethod, found: TissueMap, view: SlideView) -> NDArray[Any]:
    """Return the values of a map as an array, if the method keeps to its protocol."""
    values = np.asarray(found.values)
    if values.shape != view.shape and not covers_slide(values.shape, view):
        raise UsageError(
            f"The tissue method {method!r} returned a map of shape {values.shape}, not "
            f"{view.shape}."
        )
    if (values.dtype == np.bool_) != (method.threshold is None):
        wanted = "a mask of bool" if method.threshold is None else "probabilities"
        raise UsageError(f"The tissue method {method!r} has to return {wanted}.")
    if values.dtype != np.bool_ and not ((values >= 0) & (values <= 1)).all():
        raise UsageError(f"The tissue method {method!r} returned values outside 0 to 1.")
    return values
