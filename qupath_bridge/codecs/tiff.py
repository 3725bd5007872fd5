"""TIFF with its resolution: RGB compressed without loss, other channels as ImageJ writes them."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import tifffile

from qupath_bridge.errors import BridgeError
from qupath_bridge.model import PixelArray

from .base import Contents, EncoderOptions

__all__ = ["TiffEncoder", "compression_of", "decode_tiff"]

UM_PER_CM = 10_000.0
LEVEL = 1
_ORDERS: Mapping[bytes, Literal["little", "big"]] = {b"II": "little", b"MM": "big"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TiffEncoder(EncoderOptions):
    """TIFF files of one picture.

    RGB is compressed with deflate, and the resolution tags have the µm per pixel. Other channels
    are pages, with ImageJ's description of size and channels, its labels for their names and its
    tables for their colours. They are not compressed: of compressed files, ImageJ and QuPath do
    not read these.
    """

    extension: ClassVar[str] = ".tif"
    media_type: ClassVar[str] = "image/tiff"
    lossless: ClassVar[bool] = True
    portable: ClassVar[bool] = True
    keeps_colors: ClassVar[bool] = True

    def encode(self, pixels: PixelArray) -> bytes:
        """Return a TIFF file of pixels, shape (H, W, C), of any type."""
        buffer = io.BytesIO()
        layout = self._of_rgb(pixels) if self.contents.is_rgb else self._of_channels()
        if not self.contents.is_rgb:
            pixels = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
        tifffile.imwrite(buffer, pixels, byteorder="<", metadata=None, software=False, **layout)
        return buffer.getvalue()

    def _of_rgb(self, pixels: PixelArray) -> dict[str, Any]:
        mpp = self.contents.mpp
        return {
            "photometric": "rgb",
            **compression_of(pixels.dtype),
            "resolution": None if mpp is None else (UM_PER_CM / mpp, UM_PER_CM / mpp),
            "resolutionunit": None if mpp is None else "CENTIMETER",
        }

    def _of_channels(self) -> dict[str, Any]:
        mpp, names = self.contents.mpp, self.contents.channels
        more: dict[str, Any] = {"Labels": [*names]}
        if self.contents.colors:
            more["LUTs"] = [_table(color) for color in self.contents.colors]
        lines = [
            "ImageJ=1.54",
            f"images={len(names)}",
            f"channels={len(names)}",
            "hyperstack=true",
            "mode=composite",
            *([] if mpp is None else ["unit=micron"]),
            "loop=false",
            "",
        ]
        return {
            "photometric": "minisblack",
            "description": "\n".join(lines),
            "extratags": tifffile.tifffile.imagej_metadata_tag(more, "<"),
            "resolution": None if mpp is None else (1 / mpp, 1 / mpp),
            "resolutionunit": "NONE",
        }


def _table(color: tuple[int, int, int]) -> PixelArray:
    """Return the colour of each of 256 steps, as ImageJ has it: shape (3, 256), uint8."""
    return (np.array(color)[:, None] * np.arange(256) / 255).astype(np.uint8)


def compression_of(dtype: np.dtype[Any]) -> dict[str, Any]:
    """Return how tifffile compresses values of a type.

    Differences between neighbours make integers smaller. The predictor of floating-point numbers
    is left out, since QuPath does not read it.
    """
    return {
        "compression": "zlib",
        "compressionargs": {"level": LEVEL},
        "predictor": dtype.kind in "iu",
    }


def decode_tiff(
    data: bytes, contents: Contents, check: Callable[[tuple[int, int]], None]
) -> PixelArray:
    """Return the pixels of a TIFF file, shape (H, W, C), as :class:`TiffEncoder` writes it.

    Also of an OME-TIFF file, whose channels are pages.

    Parameters
    ----------
    data : bytes
    contents : Contents
        Channels and type that it must have.
    check : callable
        Called with width and height of each page before its pixels fill the memory; raises what
        it likes.

    Raises
    ------
    ValueError
        If it is damaged, or has other contents.
    """
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            # Of a file with more pages than there can be channels, one too many is enough to see.
            pages: list[Any] = list(itertools.islice(file.pages, len(contents.channels) + 1))
            for page in pages:
                check((page.imagewidth, page.imagelength))
                if len(page.tags) != int.from_bytes(data[page.offset :][:2], _ORDERS[data[:2]]):
                    raise ValueError("a tag is damaged")
                if page.samplesperpixel > len(contents.channels) or page.dtype != contents.dtype:
                    raise ValueError(
                        f"it has {page.samplesperpixel} channels of {page.dtype}, not {contents}"
                    )
            planes = [_decode_page(page) for page in pages]
    except (ValueError, BridgeError):
        raise
    except Exception as error:
        # Of a damaged file, tifffile also passes on what its codecs raise, and TypeError or
        # ZeroDivisionError. It is the cause of this error, which decode makes a ReadError.
        raise ValueError(str(error) or type(error).__name__) from error
    return planes[0] if len(planes) == 1 else np.concatenate(planes, axis=-1)


def _decode_page(page: Any) -> PixelArray:
    """Return the pixels of one page, shape (H, W, C)."""
    pixels: PixelArray = page.asarray()
    if page.samplesperpixel == 1:
        return pixels[..., None]
    return np.ascontiguousarray(np.moveaxis(pixels, 0, -1)) if page.planarconfig == 2 else pixels
