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

from .base import RGB_PIXELS, Contents, Encoder
from .npy import SIGNATURE as NPY_SIGNATURE
from .npy import decode_npy
from .raw import RawEncoder, decode_raw

__all__ = [
    "RGB_PIXELS", "Contents", "Encoder", "RawEncoder", "decode", "encoder_of", "get_encoder",
    "keeps_colors",
]  # fmt: skip

SUBSAMPLINGS = ("420", "422", "444")
JXL_SIGNATURE = b"\xff\x0a"
TIFF_SIGNATURES = (b"II*\0", b"MM\0*")


def get_encoder(
    format: str,  # noqa: A002
    *,
    quality: int = 90,
    subsampling: str = "420",
    contents: Contents = RGB_PIXELS,
) -> Encoder:
    """Return the encoder of a file format.

    Parameters
    ----------
    format : str
        The name of a registered encoder: png, jpeg, tiff, ome-tiff, npy, webp, jxl, raw, or one
        of another package.
    quality : int
        1 to 100, for formats with loss.
    subsampling : str
        How JPEG keeps colours: ``420`` (half the pixels in both directions), ``422`` (in one) or
        ``444`` (all).
    contents : Contents
        Channels, type and size of the pixels.

    Raises
    ------
    UsageError
        If there is no such encoder, if quality or subsampling are not among its values, or if the
        format does not hold such pixels.
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
    encoder: Encoder = factory(quality=quality, subsampling=subsampling, contents=contents)
    return encoder


def encoder_of(config: ExportConfig, contents: Contents = RGB_PIXELS) -> Encoder:
    """Return the encoder that the options of a run ask for, for patches with these contents."""
    return get_encoder(
        config.format,
        quality=config.jpeg_quality,
        subsampling=config.jpeg_subsampling,
        contents=contents,
    )


def keeps_colors(format: str) -> bool:  # noqa: A002
    """Return whether files of a format hold the colours of channels.

    >>> keeps_colors("ome-tiff"), keeps_colors("npy")
    (True, False)
    """
    return bool(getattr(registry.load("encoder", format), "keeps_colors", False))


def decode(
    data: bytes,
    size: tuple[int, int] | None = None,
    contents: Contents = RGB_PIXELS,
    *,
    raw: bool = False,
) -> PixelArray:
    """Return the pixels of an image file, shape (H, W, C).

    Parameters
    ----------
    data : bytes
    size : (int, int), optional
        Width and height that the image must have; another one is refused before its pixels fill
        the memory. Without it, Pillow's bound on the number of pixels holds.
    contents : Contents
        Channels and type that it must have.
    raw : bool
        True if the bytes are those of the format ``raw``, which has no header; needs ``size``.

    Raises
    ------
    ReadError
        If the bytes are not a whole image, or the image has another size or other contents.
    MissingDependencyError
        If they are a JPEG XL file and nothing that is installed reads those.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pixels = _decode(data, size, contents, raw)
    except (
        OSError, SyntaxError, ValueError, RuntimeError, Warning, Image.DecompressionBombError
    ) as error:  # fmt: skip
        raise ReadError(f"These bytes are not a whole image: {error}.") from error
    if not contents.fits(pixels.shape, pixels.dtype):
        raise ReadError(
            f"The image has the shape {pixels.shape} of {pixels.dtype}, not {contents}."
        )
    return pixels


def _decode(data: bytes, size: tuple[int, int] | None, contents: Contents, raw: bool) -> PixelArray:
    if raw and size is not None:
        return decode_raw(data, size, contents)
    if data.startswith(JXL_SIGNATURE):
        return _decode_jxl(data, size, len(contents.channels))
    if data.startswith(NPY_SIGNATURE):
        pixels = decode_npy(data)
        _check_size(pixels.shape[1::-1], size)
        _check_limit(pixels.shape[1::-1])
        return pixels
    if data.startswith(TIFF_SIGNATURES):
        return _decode_tiff(data, size, contents)
    with Image.open(io.BytesIO(data)) as picture:
        _check_size(picture.size, size)
        if len(contents.channels) == 1 and picture.mode == "L":
            return np.asarray(picture)[..., None]
        return np.asarray(picture.convert("RGB"))


def _decode_jxl(data: bytes, size: tuple[int, int] | None, channels: int) -> PixelArray:
    """Return the pixels of a JPEG XL file, which Pillow does not read."""
    registry.load("encoder", "jxl")  # says what is missing, if anything is
    from .jxl import decode_jxl, size_of_jxl

    found = size_of_jxl(data)
    _check_size(found, size)
    _check_limit(found)
    return decode_jxl(data, channels)


def _decode_tiff(data: bytes, size: tuple[int, int] | None, contents: Contents) -> PixelArray:
    """Return the pixels of a TIFF file, of which Pillow knows the simple ones alone."""
    from .tiff import decode_tiff

    def check(found: tuple[int, int]) -> None:
        _check_size(found, size)
        _check_limit(found)

    return decode_tiff(data, contents, check)


def _check_size(found: tuple[int, ...], wanted: tuple[int, int] | None) -> None:
    if wanted is not None and found != wanted:
        shown = ["{} x {}".format(*each) for each in (found, wanted)]
        raise ReadError(f"The picture has {shown[0]} pixels, not {shown[1]}.")


def _check_limit(size: tuple[int, ...]) -> None:
    """Refuse a picture of more pixels than Pillow takes."""
    width, height = size
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise ValueError(f"its {width} x {height} pixels exceed the limit of {limit}")
