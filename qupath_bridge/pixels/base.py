"""Protocols of the exchangeable parts that look at pixels: tissue, quality and stain.

All of them may be used from several threads, and can be pickled.
"""

from __future__ import annotations

from typing import Any, Protocol

from qupath_bridge.errors import UsageError
from qupath_bridge.model import FloatArray, PixelArray

__all__ = ["QualityMeasure", "StainMethod", "TissueMethod", "refuse_argument"]


class TissueMethod(Protocol):
    """Turns a slide's thumbnail into a map of the probability of tissue.

    Its factory is called with the argument of ``NAME:ARGUMENT``, or None, and raises
    :class:`~qupath_bridge.errors.UsageError` for an argument that it does not take.
    """

    def __call__(self, thumbnail: PixelArray, mpp: float | None) -> FloatArray:
        """Return the probability of tissue per thumbnail pixel.

        Parameters
        ----------
        thumbnail : array, shape (h, w, 3), uint8
            The whole slide, as QuPath shows it. It must not be changed.
        mpp : float or None
            µm per thumbnail pixel, where it is known.

        Returns
        -------
        array, shape (h, w), float, 0 to 1
        """
        ...


class QualityMeasure(Protocol):
    """Gives each patch one number. The factory is the function itself."""

    def __call__(self, batch: PixelArray, mpp: float | None) -> FloatArray:
        """Return one number per patch; a patch's number does not depend on the others.

        Parameters
        ----------
        batch : array, shape (N, H, W, 3), uint8
            N may be 0. It must not be changed.
        mpp : float or None
            µm per pixel, where it is known.

        Returns
        -------
        array, shape (N,), float64
        """
        ...


class StainMethod(Protocol):
    """Brings the colours of patches to a common look.

    Its factory is called with the argument of ``NAME:ARGUMENT``, or None, and raises
    :class:`~qupath_bridge.errors.UsageError` for an argument that it does not take.
    """

    def fit(self, sample: PixelArray) -> Any:
        """Return the profile of a slide: a value that can be pickled.

        Parameters
        ----------
        sample : array, shape (h, w, 3), uint8
            Pixels of the slide. They must not be changed.
        """
        ...

    def apply(self, batch: PixelArray, profile: Any) -> PixelArray:
        """Return the patches with normalised colours; a patch does not depend on the others.

        Parameters
        ----------
        batch : array, shape (N, H, W, 3), uint8
            N may be 0. It must not be changed.
        profile
            What :meth:`fit` returned for the slide.

        Returns
        -------
        array, shape (N, H, W, 3), uint8
        """
        ...


def refuse_argument(kind: str, name: str, argument: str | None) -> None:
    """Refuse any argument, for parts that take none.

    Raises
    ------
    UsageError
        If there is one.
    """
    if argument is not None:
        raise UsageError(
            f"The {kind} {name!r} takes no argument, {argument!r} was given.",
            hint=f"Write {name} alone.",
        )
