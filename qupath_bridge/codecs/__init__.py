"""Arrays to the bytes of image files, and back."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image

from qupath_bridge.errors import ReadError, UsageError
from qupath_bridge.model import PixelArray

from .base import Encoder
from .jpeg import JpegEncoder
from .png import PngEncoder
from .tiff import TiffEncoder

__all__ = ["FORMATS", "Encoder", "decode", "get_encoder"]

FORMATS = ("png", "jpeg", "tiff")


def get_encoder(format: str, *, quality: int = 90, mpp: float | None = None) -> Encoder:  # noqa: A002
    """Return the encoder of a file format.

    Parameters
    ----------
    format : str
        One of :data:`FORMATS`.
    quality : int
        1 to 100, for JPEG.
    mpp : float, optional
        µm per pixel, for TIFF's resolution.

    Examples
    --------
    >>> get_encoder("jpeg", quality=80).extension
    '.jpg'
    """
    if format == "png":
        return PngEncoder()
    if format == "jpeg":
        return JpegEncoder(quality)
    if format == "tiff":
        return TiffEncoder(mpp)
    raise UsageError(f"There is no file format {format!r}.", hint=f"Use {', '.join(FORMATS)}.")


def decode(data: bytes) -> PixelArray:
    """Return the pixels of an image file, shape (H, W, 3), uint8.

    Raises
    ------
    ReadError
        If the bytes are not a whole image.
    """
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data)) as picture:
            warnings.simplefilter("error")
            return np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Warning) as error:
        raise ReadError(f"These bytes are not a whole image: {error}.") from error
