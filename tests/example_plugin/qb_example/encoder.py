"""An encoder of BMP files."""

import io

import numpy as np
from PIL import Image

from qupath_bridge.codecs.base import RGB_PIXELS, check_contents

MICROMETRES_PER_INCH = 25_400


class BmpEncoder:
    """8-bit RGB BMP files, with their resolution. There is no loss to choose."""

    extension = ".bmp"
    media_type = "image/bmp"
    lossless = True
    portable = True

    def __init__(self, *, quality=90, subsampling="420", contents=RGB_PIXELS):
        check_contents("BMP", contents, (3,))
        mpp = contents.mpp
        self._dpi = (96, 96) if mpp is None else (MICROMETRES_PER_INCH / mpp,) * 2

    def encode(self, pixels):
        """Return a BMP file of pixels, shape (H, W, 3), uint8."""
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "BMP", dpi=self._dpi)
        return buffer.getvalue()
