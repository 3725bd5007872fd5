"""The protocol of an encoder: pixels to the bytes of an image file."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from qupath_bridge.errors import UsageError
from qupath_bridge.frozen import count
from qupath_bridge.model import RGB_CHANNELS, PixelArray

__all__ = ["RGB_PIXELS", "Contents", "Encoder", "EncoderOptions", "check_contents"]


@dataclass(frozen=True, slots=True)
class Contents:
    """Channels, type and pixel size of the patches of a slide.

    Attributes
    ----------
    channels : tuple of str
        Names of the channels.
    dtype : str
        Type of the values, as numpy calls it.
    mpp : float or None
        µm per pixel, where it is known.
    colors : tuple of (red, green, blue)
        Of the channels, 0 to 255; empty if they are not known, or not kept.
    """

    channels: tuple[str, ...] = RGB_CHANNELS
    dtype: str = "uint8"
    mpp: float | None = None
    colors: tuple[tuple[int, int, int], ...] = ()

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Contents:
        """Return the contents of a patch from its row in the index."""
        return cls(tuple(row["channels"]), row["dtype"], row["mpp"])

    @property
    def is_rgb(self) -> bool:
        """True if the pixels are RGB of 8 bit."""
        return self.channels == RGB_CHANNELS and self.dtype == "uint8"

    @property
    def pixel_bytes(self) -> int:
        """Bytes of one pixel with all its channels."""
        return len(self.channels) * np.dtype(self.dtype).itemsize

    def fits(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
        """Return whether pixels of a shape (H, W, C) and type can be these."""
        return len(shape) == 3 and shape[2] == len(self.channels) and str(dtype) == self.dtype

    def __str__(self) -> str:
        """Say it in words.

        >>> print(Contents(("DAPI", "CD3"), "uint16"))
        2 channels of uint16
        """
        return f"{count(len(self.channels), 'channel')} of {self.dtype}"


RGB_PIXELS = Contents()
"""RGB of 8 bit, of an unknown size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderOptions:
    """Options with which every encoder is made; the base of those that are built in.

    A format that has no use for an option ignores it; :class:`Encoder` says what they mean.
    """

    quality: int = 90
    subsampling: str = "420"
    contents: Contents = RGB_PIXELS


def check_contents(
    name: str, contents: Contents, channels: Collection[int] = (1, 3), dtype: str = "uint8"
) -> None:
    """Refuse pixels that a format of pictures does not hold.

    Raises
    ------
    UsageError
        If they have another number of channels than one of ``channels``, or another type.
    """
    if contents.dtype == dtype and len(contents.channels) in channels:
        return
    numbers = " or ".join(str(number) for number in channels)
    raise UsageError(
        f"{name} files hold {numbers} channels of {dtype}, not {contents}.",
        hint="Set format to ome-tiff, tiff or npy, choose channels, or let composite make "
        "pictures of them.",
    )


@runtime_checkable
class Encoder(Protocol):
    """Turns pixels into the bytes of an image file: the same bytes for the same pixels.

    An encoder holds no state, may be used from several threads, and can be pickled. Its factory
    is called as ``factory(quality=int, subsampling=str, contents=Contents)``: for formats with
    loss 1 to 100, and ``420``, ``422`` or ``444``, how JPEG keeps colours; the channels, type and
    size of the pixels. A format that has no use for one ignores it. The factory raises
    :class:`~qupath_bridge.errors.UsageError` for contents that the format does not hold
    (:func:`check_contents` does). If files keep the colours of channels, the factory has the
    attribute ``keeps_colors``, which is True: contents have no colours for the others, so that
    another colour in QuPath does not make their patches again.
    """

    @property
    def extension(self) -> str:
        """Ending of file names, with its dot, as ``.png`` or ``.ome.tif``."""
        ...

    @property
    def media_type(self) -> str:
        """MIME type of the files, as ``image/png``."""
        ...

    @property
    def lossless(self) -> bool:
        """True if decoding gives exactly the same pixels."""
        ...

    @property
    def portable(self) -> bool:
        """True if one version of it gives the same bytes on every processor.

        False where that is not certain. A run records it; nothing else depends on it.
        """
        ...

    def encode(self, pixels: PixelArray) -> bytes:
        """Return a whole file.

        Parameters
        ----------
        pixels : array, shape (H, W, C)
            As the contents say.
        """
        ...
