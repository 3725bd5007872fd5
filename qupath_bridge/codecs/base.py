"""What an encoder is."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from qupath_bridge.model import PixelArray

__all__ = ["Encoder"]


@runtime_checkable
class Encoder(Protocol):
    """Turns RGB pixels into the bytes of an image file: the same bytes for the same pixels.

    An encoder holds no state and may be used from several threads.
    """

    @property
    def extension(self) -> str:
        """Ending of file names, with its dot."""
        ...

    @property
    def lossless(self) -> bool:
        """Whether decoding gives the very pixels back."""
        ...

    def encode(self, pixels: PixelArray) -> bytes:
        """Return a whole file.

        Parameters
        ----------
        pixels : array, shape (H, W, 3), uint8
        """
        ...
