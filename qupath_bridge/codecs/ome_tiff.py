"""OME-TIFF: channels by name, with their pixel size, as microscopy software reads them."""

from __future__ import annotations

import io
import uuid
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import tifffile
import xxhash

from qupath_bridge.model import PixelArray

from .base import EncoderOptions
from .tiff import compression_of

__all__ = ["OmeTiffEncoder"]

_NAMESPACE = uuid.UUID("0f0d5c0e-8a53-5c1c-9f0e-4f2a6c6f7d11")


@dataclass(frozen=True, slots=True, kw_only=True)
class OmeTiffEncoder(EncoderOptions):
    """OME-TIFF files of one picture, with deflate: a page per channel; one page for RGB.

    The OME-XML has the names and colours of the channels and the µm per pixel.
    """

    extension: ClassVar[str] = ".ome.tif"
    media_type: ClassVar[str] = "image/tiff"
    lossless: ClassVar[bool] = True
    portable: ClassVar[bool] = True
    keeps_colors: ClassVar[bool] = True

    def encode(self, pixels: PixelArray) -> bytes:
        """Return an OME-TIFF file of pixels, shape (H, W, C), of any type."""
        contents = self.contents
        if contents.is_rgb:
            layout: dict[str, Any] = {"photometric": "rgb"}
            axes: dict[str, Any] = {"axes": "YXS"}
        else:
            pixels = np.moveaxis(pixels, -1, 0)
            layout = {"photometric": "minisblack"}
            channels: dict[str, Any] = {"Name": list(contents.channels)}
            if contents.colors:
                channels["Color"] = [_packed(color) for color in contents.colors]
            axes = {"axes": "CYX", "Channel": channels}
        pixels = np.ascontiguousarray(pixels)
        size = {} if contents.mpp is None else _pixel_size(contents.mpp)
        buffer = io.BytesIO()
        tifffile.imwrite(
            buffer,
            pixels,
            byteorder="<",
            ome=True,
            **layout,
            **compression_of(pixels.dtype),
            software=False,
            # The same pixels give the same file: an id of one's own, and no version of a library.
            metadata={**axes, **size, "UUID": _uuid(pixels), "Creator": "qupath-bridge"},
        )
        return buffer.getvalue()


def _pixel_size(mpp: float) -> dict[str, Any]:
    return {
        f"PhysicalSize{axis}{suffix}": value
        for axis in "XY"
        for suffix, value in (("", mpp), ("Unit", "µm"))
    }


def _packed(color: tuple[int, int, int]) -> int:
    """Return a colour as OME has it: red, green, blue and alpha as one number with a sign.

    >>> _packed((255, 0, 0)), _packed((0, 0, 255))
    (-16776961, 65535)
    """
    return int.from_bytes(bytes((*color, 255)), "big", signed=True)


def _uuid(pixels: PixelArray) -> str:
    """Return the id of a file, from its pixels."""
    digest = xxhash.xxh3_128_hexdigest(pixels.data)
    return str(uuid.uuid5(_NAMESPACE, f"{pixels.shape} {pixels.dtype} {digest}"))
