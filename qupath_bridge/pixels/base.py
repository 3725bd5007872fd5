"""Protocols of the exchangeable parts that look at pixels: tissue, quality and stain.

All of them may be used from several threads, and can be pickled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from qupath_bridge.errors import UsageError
from qupath_bridge.model import FloatArray, MaskArray, PixelArray

__all__ = ["QualityMeasure", "StainMethod", "StainSample", "TissueMethod", "refuse_argument"]


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


@dataclass(frozen=True, slots=True, eq=False)
class StainSample:
    """Pixels of a whole slide, from which its colours are learned.

    Attributes
    ----------
    pixels : array, shape (h, w, 3), uint8
        From places with tissue all over the slide, at the resolution of the patches; glass may
        be among them. ``h`` may be 0. They must not be changed.
    white : array, shape (3,), float64
        The colour of glass.
    vectors : tuple of two tuples of three numbers, or None
        The stain vectors that QuPath has for the image: optical densities of red, green and blue.
    background : tuple of three numbers, or None
        The white that QuPath has for the image.
    reference : bool
        Whether these are pixels of a reference.
    """

    pixels: PixelArray
    white: FloatArray
    vectors: tuple[tuple[float, ...], ...] | None = None
    background: tuple[float, ...] | None = None
    reference: bool = False


class StainMethod(Protocol):
    """Brings the colours of patches to those of a target.

    Its factory is called with the argument of ``NAME:ARGUMENT``, or None, and raises
    :class:`~qupath_bridge.errors.UsageError` for an argument that it does not take. Profiles are
    made of JSON values: the run keeps them, and checks patches with them.
    """

    version: str
    """Changes whenever other bytes come out."""

    def fit(self, sample: StainSample) -> Any | None:
        """Return the profile of a slide or a reference; None if it shows too little tissue."""
        ...

    def standard(self, profile: Any) -> Any:
        """Return the target for a slide of this profile where no reference is given."""
        ...

    def apply(
        self, batch: PixelArray, profile: Any, target: Any, draws: FloatArray | None = None
    ) -> tuple[PixelArray, MaskArray]:
        """Return the patches with normalised colours; a patch does not depend on the others.

        Parameters
        ----------
        batch : array, shape (N, H, W, 3), uint8
            N may be 0. It must not be changed.
        profile, target
            What :meth:`fit` returned for the slide and for the reference.
        draws : array, shape (N, 4), float64, or None
            Where the colours shall differ a little from patch to patch: numbers around 0, two
            that stretch and two that shift.

        Returns
        -------
        patches : array, shape (N, H, W, 3), uint8
        kept : array, shape (N,), bool
            Patches with too little stain, which are the same as before.
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
