"""Choice of an image's pixel size among those of the user, QuPath and the slide file."""

from __future__ import annotations

import math

from qupath_bridge.config import PIXEL_SIZES
from qupath_bridge.errors import PlanError
from qupath_bridge.model import PixelSize

__all__ = ["TOLERANCE", "check_pixel_size", "resolve_pixel_size"]

TOLERANCE = 0.01
"""Relative difference of two pixel sizes above which it is reported."""


def resolve_pixel_size(
    user: float | None,
    project: PixelSize | None,
    slide: tuple[float, float] | None,
) -> tuple[PixelSize | None, tuple[str, ...]]:
    """Choose the pixel size: the user's, else QuPath's, else the slide's own.

    Parameters
    ----------
    user : float or None
        µm per full-resolution pixel, given for this run.
    project : PixelSize or None
        As stored in the project, for QuPath's view of the image.
    slide : (x, y) or None
        From the slide file, in QuPath's view of the image (:meth:`CoordinateMap.pixel_size`).

    Returns
    -------
    pixel_size : PixelSize or None
        With its origin; None if it is unknown.
    notes : tuple of str
        Remarks: sizes that differ by more than 1 %, pixels that are not square.

    Examples
    --------
    >>> resolve_pixel_size(None, PixelSize(0.25, 0.25, "project"), (0.5, 0.5))[0]
    PixelSize(x=0.25, y=0.25, origin='project')
    """
    own = None
    if slide is not None and all(math.isfinite(side) and side > 0 for side in slide):
        own = PixelSize(*slide, origin="slide")
    if user is not None:
        return PixelSize(user, user, origin="user"), _compare_with_user(user, project or own)
    notes = []
    if project and own and (_differ(project.x, own.x) or _differ(project.y, own.y)):
        notes.append(
            f"Pixel size: the project says {_text(project)} µm, the slide says {_text(own)} µm; "
            "the project's is used (the option pixel_size sets another)."
        )
    chosen = project or own
    if chosen and _differ(chosen.x, chosen.y):
        notes.append(
            f"Pixels are not square: {chosen.x:g} µm along x, {chosen.y:g} µm along y "
            f"(from the {chosen.origin})."
        )
    return chosen, tuple(notes)


def check_pixel_size(size: PixelSize | None) -> None:
    """Refuse a pixel size that no slide has: it is another unit, or the density of a screen.

    Raises
    ------
    PlanError
        With the number and its origin.
    """
    low, high = PIXEL_SIZES
    if size is None or (low <= size.x <= high and low <= size.y <= high):
        return
    origin = "this run" if size.origin == "user" else f"the {size.origin}"
    raise PlanError(
        f"The pixel size is {_text(size)} µm, as {origin} says; a slide has {low:g} to {high:g} "
        "µm.",
        hint="Correct it in QuPath (Image tab, double-click on pixel width), or give the right one "
        "with the option pixel_size.",
    )


def _compare_with_user(user: float, other: PixelSize | None) -> tuple[str, ...]:
    if other is None or not (_differ(user, other.x) or _differ(user, other.y)):
        return ()
    return (
        f"Pixel size: {user:g} µm as given for this run; "
        f"the {other.origin} says {_text(other)} µm.",
    )


def _differ(one: float, other: float) -> bool:
    # Rounding in the last digits of 1.01 × a number is not reported.
    return abs(one - other) > TOLERANCE * min(one, other) * (1 + 1e-9)


def _text(size: PixelSize) -> str:
    return f"{size.x:g}" if size.x == size.y else f"{size.x:g} x {size.y:g}"
