"""Pictures of a page as texts: how large they are, so that a page of many slides stays small."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

from qupath_bridge.model import PixelArray

__all__ = ["DETAILS", "MAX_BYTES", "Detail", "as_picture", "data_uri", "first_detail", "fit"]

MAX_BYTES = 20_000_000
"""Of a page of 50 slides; pictures get nine tenths of it."""


class Detail(NamedTuple):
    """Size and number of the pictures of a slide.

    Attributes
    ----------
    side : int
        Pixels of the longer side of the picture of a slide.
    patch : int
        Pixels of the side of a patch.
    each : int
        Patches per label and per reason.
    quality : int
        Of WebP, 1 to 100.
    """

    side: int
    patch: int
    each: int
    quality: int


DETAILS = (
    Detail(1600, 128, 24, 82),
    Detail(1200, 112, 16, 78),
    Detail(900, 112, 10, 74),
    Detail(640, 88, 6, 68),
    Detail(400, 64, 4, 60),
    Detail(240, 48, 2, 50),
)
"""From much to little."""
_MOST_SLIDES = (2, 8, 60, 200, 600)
"""Slides up to which a detail is tried; the last one is for all others."""


def first_detail(slides: int) -> int:
    """Return the number of the detail with which to begin for so many slides.

    >>> [first_detail(n) for n in (1, 8, 50, 100, 10_000)]
    [0, 1, 2, 3, 5]
    """
    return sum(slides > most for most in _MOST_SLIDES)


Encoded = list[bytes | None]


def fit(encode: Callable[[Detail], Encoded], slides: int) -> tuple[Detail, Encoded]:
    """Encode the pictures of a slide so that the page of all slides stays small enough.

    Parameters
    ----------
    encode : callable
        From a detail to the pictures of one slide.
    slides : int
        Of the page; they share :data:`MAX_BYTES`.

    Returns
    -------
    (Detail, list of bytes or None)
        With the first detail that fits; with the last one if none does.
    """
    budget = MAX_BYTES * 0.9 / max(slides, 1)
    for detail in DETAILS[first_detail(slides) :]:
        made = encode(detail)
        if sum(len(each) * 4 / 3 for each in made if each is not None) <= budget:
            break
    return detail, made


def as_picture(pixels: PixelArray | Image.Image, side: int, quality: int | None = None) -> bytes:
    """Return pixels as a WebP file, made smaller where the longer side is longer than ``side``.

    Parameters
    ----------
    pixels : array, shape (H, W, 3), uint8, or a picture with or without transparency
    side : int
    quality : int, optional
        1 to 100; without loss when not given.
    """
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.asarray(pixels))
    longest = max(picture.size)
    if longest > side:
        size = tuple(max(1, round(length * side / longest)) for length in picture.size)
        picture = picture.resize(size, Image.Resampling.BOX)  # type: ignore[arg-type]
    buffer = io.BytesIO()
    if quality is None:
        picture.save(buffer, "WEBP", lossless=True, method=2)
    else:
        picture.save(buffer, "WEBP", quality=quality, method=2)
    return buffer.getvalue()


def data_uri(picture: bytes) -> str:
    """Return a WebP file as the address of a picture that is in the page itself."""
    return f"data:image/webp;base64,{base64.b64encode(picture).decode('ascii')}"
