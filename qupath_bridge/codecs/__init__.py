"""Arrays to the bytes of image files, and back."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image

from qupath_bridge import registry
from qupath_bridge.errors import ReadError, UsageError
from qupath_bridge.model import PixelArray

from .base import Encoder

__all__ = ["Encoder", "decode", "get_encoder"]


def get_encoder(format: str, *, quality: int = 90, mpp: float | None = None) -> Encoder:  # noqa: A002
    """Return the encoder of a file format.

    Parameters
    ----------
    format : str
        The name of a registered encoder: png, jpeg, tiff, or one of another package.
    quality : int
        1 to 100, for formats with loss.
    mpp : float, optional
        µm per pixel, for formats that keep a resolution.

    Raises
    ------
    UsageError
        If there is no such encoder, or the quality is outside its range.
    MissingDependencyError
        If the encoder cannot be loaded.

    Examples
    --------
    >>> get_encoder("jpeg", quality=80).extension
    '.jpg'
    """
    if not 1 <= quality <= 100:
        raise UsageError(f"The quality {quality} is outside its range.", hint="Use 1 to 100.")
    encoder: Encoder = registry.load("encoder", format)(quality=quality, mpp=mpp)
    return encoder


def decode(data: bytes, size: tuple[int, int] | None = None) -> PixelArray:
    """Return the pixels of an image file, shape (H, W, 3), uint8.

    Parameters
    ----------
    data : bytes
    size : (int, int), optional
        Width and height that the image must have; another one is refused before its pixels fill
        the memory. Without it, Pillow's bound on the number of pixels holds.

    Raises
    ------
    ReadError
        If the bytes are not a whole image, or the image has another size.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Image.open(io.BytesIO(data)) as picture:
                if size is not None and picture.size != size:
                    found, wanted = ("{} x {}".format(*pair) for pair in (picture.size, size))
                    raise ReadError(f"The picture has {found} pixels, not {wanted}.")
                return np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Warning, Image.DecompressionBombError) as error:
        raise ReadError(f"These bytes are not a whole image: {error}.") from error
