"""A sample of the tissue of a slide, from which its colours are learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xxhash

from qupath_bridge.geometry.coordinates import CoordinateMap
from qupath_bridge.model import FIRST_PLANE, Box, MaskArray, Plane
from qupath_bridge.pixels.base import StainSample
from qupath_bridge.pixels.stain.light import white_point
from qupath_bridge.pixels.tissue.by_color import slide_saturation
from qupath_bridge.pixels.tissue.finding import split_by_otsu
from qupath_bridge.readers.base import Reader

from .channels import ChannelView
from .pixels import read_patch, read_patches

__all__ = ["read_sample"]

SIDE, COUNT = 64, 64
"""Pixels per side of the squares from which the colours of a slide are learned, and how many."""
THUMBNAIL = 1024
"""Pixels of the longer side of the picture in which tissue is looked for."""


def read_sample(
    reader: Reader,
    coordinates: CoordinateMap,
    region: Box,
    downsample: float,
    *,
    plane: Plane = FIRST_PLANE,
    view: ChannelView | None = None,
    stains: Mapping[str, Any] | None = None,
    reference: bool = False,
    tissue: MaskArray | None = None,
) -> StainSample:
    """Read squares of tissue all over a region, chosen at random but always the same.

    Parameters
    ----------
    reader, coordinates
        Of the slide.
    region : Box
        QuPath pixels.
    downsample : float
        QuPath pixels per pixel of the sample.
    plane : Plane
    view : ChannelView or None
        Of the slide; None for the file as it is.
    stains : mapping or None
        The stains that QuPath has for the image.
    reference : bool
    tissue : array, shape (h, w), bool, or None
        Where the tissue of the region is. Without it, it is looked for by saturation on a small
        picture.
    """
    factor = min(1.0, THUMBNAIL / max(region.w, region.h))
    size = max(1, round(region.w * factor)), max(1, round(region.h * factor))
    thumbnail, _ = read_patch(reader, coordinates, region, size, plane, view)
    if tissue is None:
        tissue = split_by_otsu(slide_saturation(thumbnail)[0])[0]
    candidates = np.argwhere(tissue)
    pixels = np.zeros((0, SIDE, 3), np.uint8)
    if len(candidates):
        seed = xxhash.xxh3_64_intdigest(reader.fingerprint.digest.encode())
        places = candidates[np.random.default_rng(seed).integers(len(candidates), size=COUNT)]
        side = min(max(round(SIDE * downsample), 1), region.w, region.h)
        scale = np.array([region.h / tissue.shape[0], region.w / tissue.shape[1]])
        corners = np.floor((places + 0.5) * scale - side / 2).astype(np.int64)
        corners = np.clip(corners, 0, [region.h - side, region.w - side])
        corners = np.unique(corners, axis=0)[:, ::-1] + np.array([region.x, region.y])
        boxes = np.column_stack([corners, np.full((len(corners), 2), side)])
        squares, _ = read_patches(reader, coordinates, boxes, (SIDE, SIDE), plane, view)
        pixels = squares.reshape(-1, SIDE, 3)
    vectors, background = _qupath_vectors(stains)
    return StainSample(pixels, white_point(thumbnail), vectors, background, reference)


def _qupath_vectors(
    stains: Mapping[str, Any] | None,
) -> tuple[tuple[tuple[float, ...], ...] | None, tuple[float, ...] | None]:
    """Return the first two stain vectors and the background of QuPath; None if it has none."""
    vectors = tuple(tuple(each["vector"]) for each in (stains or {}).get("stains", ())[:2])
    if len(vectors) < 2 or not all(len(v) == 3 and np.isfinite(v).all() for v in vectors):
        return None, None
    background = tuple((stains or {}).get("background", ()))
    good = len(background) == 3 and np.isfinite(background).all() and min(background) > 0
    return vectors, background if good else None
