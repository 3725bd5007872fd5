"""Protocols of the exchangeable parts that look at pixels: tissue, quality and stain.

All of them may be used from several threads, and can be pickled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from qupath_bridge.errors import PlanError, UsageError
from qupath_bridge.model import RGB_CHANNELS, FloatArray, MaskArray, PathObject, PixelArray

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from shapely.geometry import MultiPolygon, Polygon

__all__ = [
    "QualityMeasure",
    "SlideView",
    "StainMethod",
    "StainSample",
    "TissueMap",
    "TissueMethod",
    "refuse_argument",
]


@dataclass(frozen=True, slots=True, eq=False)
class SlideView:
    """A slide as a tissue method sees it.

    Attributes
    ----------
    name, entry_id, slide_id : str
        Its name in QuPath, its entry ID, and its name in files.
    size : (width, height)
        Of the whole image as QuPath shows it, QuPath pixels.
    shape : (height, width)
        Of the map that is wanted: the whole image.
    mpp : float or None
        µm per pixel of the map, mean of both axes; None if the slide has no pixel size.
    read : callable
        Returns the whole image, shape ``(*shape, C)``, in the slide's own type; given a sequence of
        indices of channels, only those. It takes time where the slide file is large. The pixels
        must not be changed. :meth:`read_rgb` is for methods that need colours.
    annotations : tuple of PathObject
        All annotations of the slide, in QuPath pixels.
    channels : tuple of str
        Names of all channels of the image as QuPath shows it.
    is_rgb : bool
        Whether the image is RGB of 8 bit.
    frozen : bytes or None
        What :meth:`TissueMethod.read_for` returned for the slide when the run began.
    """

    name: str
    entry_id: str
    slide_id: str
    size: tuple[int, int]
    shape: tuple[int, int]
    mpp: float | None
    read: Callable[..., PixelArray]
    annotations: tuple[PathObject, ...] = ()
    channels: tuple[str, ...] = RGB_CHANNELS
    is_rgb: bool = True
    frozen: bytes | None = None

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the map per QuPath pixel, along x and y."""
        return self.shape[1] / self.size[0], self.shape[0] / self.size[1]

    def read_rgb(self, method: str) -> PixelArray:
        """Read the whole image for a method that needs colours.

        Returns
        -------
        array, shape (*shape, 3), uint8

        Raises
        ------
        PlanError
            If the slide is not RGB of 8 bit.
        """
        if not self.is_rgb:
            raise PlanError(
                f"{self.name}: the tissue method {method!r} needs RGB pixels of 8 bit; this slide "
                f"has the channels {', '.join(self.channels)}.",
                hint="Set tissue to signal, or signal:CHANNEL.",
            )
        return self.read()


@dataclass(frozen=True, slots=True, eq=False)
class TissueMap:
    """Result of a tissue method on a slide: pixels, or shapes.

    Attributes
    ----------
    values : array, shape (h, w), bool or float, or None
        A mask, or probabilities from 0 to 1 of a method that takes a threshold. It shows the
        whole image; its resolution may be another than that of the view.
    shapes : sequence of Polygon or MultiPolygon, or None
        In place of ``values``: where the tissue is, in QuPath pixels. They may overlap.
    note : str or None
        A remark about how it was found.
    made_from : str or None
        What identifies the contents of the files that decided, such as their digest. It takes the
        place of the method's argument in digests, which know no paths.
    """

    values: NDArray[np.bool_ | np.floating[Any]] | None = None
    shapes: Sequence[Polygon | MultiPolygon] | None = None
    note: str | None = None
    made_from: str | None = None


class TissueMethod(Protocol):
    """Finds the tissue of a slide.

    Its factory is called with the argument of ``NAME:ARGUMENT``, or None, and raises
    :class:`~qupath_bridge.errors.UsageError` for an argument that it does not take. ``threshold``
    is an attribute of the factory, too: options are checked before a method is made.

    A method may have two more functions. ``check()`` raises a
    :class:`~qupath_bridge.errors.UsageError` if a file that it needs for all slides is not there;
    it is called before the first slide. ``read_for(name, entry_id)`` returns the bytes of the file
    that it needs for one slide, or raises :class:`~qupath_bridge.errors.PlanError`; a run keeps
    them, and gives them back as ``view.frozen``.
    """

    threshold: float | Literal["otsu"] | None
    """Above it a probability is tissue unless the option ``tissue_threshold`` says otherwise:
    a number, or Otsu's threshold of the map. None for a method whose values are masks, and which
    takes no threshold."""

    def __call__(self, view: SlideView) -> TissueMap:
        """Return where the tissue is.

        Raises
        ------
        PlanError
            If that cannot be known for this slide; the slide fails with it.
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
