"""Arrays to the bytes of image files, and back."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image

from qupath_bridge import registry
from qupath_bridge.config import ExportConfig
from qupath_bridge.errors import ReadError, UsageError
from qupath_bridge.model import PixelArray

from .base import Encoder
from .raw import RawEncoder, decode_raw

__all__ = ["Encoder", "RawEncoder", "decode", "encoder_of", "get_encoder"]

SUBSAMPLINGS = ("420", "422", "444")
JXL_SIGNATURE = b"\xff\x0a"


def get_encoder(
    format: str,  # noqa: A002
    *,
    quality: int = 90,
    subsampling: str = "420",
    mpp: float | None = None,
) -> Encoder:
    """Return the encoder of a file format.

    Parameters
    ----------
    format : str
        The name of a registered encoder: png, jpeg, tiff, webp, jxl, raw, or one of another
        package.
    quality : int
        1 to 100, for formats with loss.
    subsampling : str
        How JPEG keeps colours: ``420`` (half the pixels in both directions), ``422`` (in one) or
        ``444`` (all).
    mpp : float, optional
        µm per pixel, for formats that keep a resolution.

    Raises
    ------
    UsageError
        If there is no such encoder, or quality or subsampling are not among its values.
    MissingDependencyError
        If the encoder cannot be loaded.

    Examples
    --------
    >>> get_encoder("jpeg", quality=80).extension
    '.jpg'
    """
    if not 1 <= quality <= 100:
        raise UsageError(f"The quality {quality} is outside its range.", hint="Use 1 to 100.")
    if subsampling not in SUBSAMPLINGS:
        raise UsageError(
            f"No subsampling is called {subsampling!r}.", hint=f"Use {', '.join(SUBSAMPLINGS)}."
        )
    factory = registry.load("encoder", format)
    encoder: Encoder = factory(quality=quality, subsampling=subsampling, mpp=mpp)
    return encoder


def encoder_of(config: ExportConfig, mpp: float | None) -> Encoder:
    """Return the encoder that the options of a run ask for, for patches of ``mpp``."""
    return get_encoder(
        config.format,
        quality=config.jpeg_quality,
        subsampling=config.jpeg_subsampling,
        mpp=mpp,
    )


def decode(data: bytes, size: tuple[int, int] | None = None, *, raw: bool = False) -> PixelArray:
    """Return the pixels of an image file, shape (H, W, 3), uint8.

    Parameters
    ----------
    data : bytes
    size : (int, int), optional
        Width and height that the image must have; another one is refused before its pixels fill
        the memory. Without it, Pillow's bound on the number of pixels holds.
    raw : bool
        True if the bytes are those of the format ``raw``, which has no header; needs ``size``.

    Raises
    ------
    ReadError
        If the bytes are not a whole image, or the image has another size.
    MissingDependencyError
        If they are a JPEG XL file and nothing that is installed reads those.
    """
    try:
        if raw and size is not None:
            return decode_raw(data, size)
        if data.startswith(JXL_SIGNATURE):
            return _decode_jxl(data, size)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Image.open(io.BytesIO(data)) as picture:
                _check_size(picture.size, size)
                return np.asarray(picture.convert("RGB"))
    except (
        OSError, SyntaxError, ValueError, RuntimeError, Warning, Image.DecompressionBombError
    ) as error:  # fmt: skip
        raise ReadError(f"These bytes are not a whole image: {error}.") from error


def _decode_jxl(data: bytes, size: tuple[int, int] | None) -> PixelArray:
    """Return the pixels of a JPEG XL file, which Pillow does not read."""
    registry.load("encoder", "jxl")  # says what is missing, if anything is
    from .jxl import decode_jxl, size_of_jxl

    width, height = size_of_jxl(data)
    _check_size((width, height), size)
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise ValueError(f"its {width} x {height} pixels exceed the limit of {limit}")
    return decode_jxl(data)


def _check_size(found: tuple[int, int], wanted: tuple[int, int] | None) -> None:
    if wanted is not None and found != wanted:
        shown = ["{} x {}".format(*each) for each in (found, wanted)]
        raise ReadError(f"The picture has {shown[0]} pixels, not {shown[1]}.")
