"""The protocol of an encoder: pixels to the bytes of an image file."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from qupath_bridge.model import PixelArray

__all__ = ["Encoder"]


@runtime_checkable
class Encoder(Protocol):
    """Turns pixels into the bytes of an image file: the same bytes for the same pixels.

    An encoder holds no state, may be used from several threads, and can be pickled. Its factory
    is called as ``factory(quality=int, subsampling=str, mpp=float or None)``: for formats with
    loss 1 to 100, and ``420``, ``422`` or ``444``, how JPEG keeps colours; µm per pixel for
    formats that keep a resolution. A format that has no use for one ignores it.
    """

    @property
    def extension(self) -> str:
        """Ending of file names, with its dot."""
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
            Of the slide's type; RGB is C = 3 and uint8, the only one that is exported today.
        """
        ...
