"""Slides for tests: tiled TIFF files with known pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile

from qupath_bridge.model import PixelArray

__all__ = ["marker_image", "write_slide"]


def marker_image(width: int, height: int) -> PixelArray:
    """Make an image in which all pixels have different colours.

    Parameters
    ----------
    width, height : int
        Size in pixels; at most 2**24 pixels in all.

    Returns
    -------
    array, shape (height, width, 3), uint8
        The pixel at (x, y) is the number ``y * width + x``, permuted so that neighbours differ
        strongly, as three bytes.
    """
    if not 0 < width * height <= 1 << 24:
        raise ValueError(f"a marker image has 1 to {1 << 24} pixels, not {width} x {height}")
    number = np.arange(width * height, dtype=np.uint64).reshape(height, width)
    # Multiplication by an odd number permutes the 24-bit numbers, so the colours stay unique.
    code = (number * np.uint64(10_368_889) + np.uint64(5_552_345)) & np.uint64(0xFFFFFF)
    shifts = np.array([16, 8, 0], dtype=np.uint64)
    return (code[..., None] >> shifts & np.uint64(0xFF)).astype(np.uint8)


def write_slide(
    path: Path | str,
    pixels: PixelArray,
    *,
    mpp: float | None = None,
    tile: int | None = 256,
    levels: int = 1,
    compression: str | None = "deflate",
    ome: bool = False,
    bigtiff: bool = False,
) -> Path:
    """Write pixels as a slide file that OpenSlide (unless ``ome``), tifffile and QuPath read.

    Parameters
    ----------
    path : path
        Path of the new file; OME-TIFF files should end in ``.ome.tif``.
    pixels : array, shape (H, W, 3), uint8
        Level 0.
    mpp : float, optional
        µm per pixel: as resolution in cm, and in the OME-XML.
    tile : int or None
        Side of a tile, a multiple of 16; None for strips (which OpenSlide does not read).
    levels : int
        Number of levels; each is the box mean of 2 × 2 pixels of the one before, odd last rows
        and columns dropped.
    compression : str or None
        As tifffile names it: ``"deflate"``, ``"lzw"``, ``"jpeg"``, ``"jpeg2000"``, ``"zstd"``;
        None for none. JPEG is YCbCr with half the colour resolution, as most slides have it.
    ome : bool
        OME-TIFF with the lower levels as SubIFDs; otherwise they are further pages.
    bigtiff : bool
        64-bit offsets.

    Returns
    -------
    Path
        The file written.
    """
    path = Path(path)
    metadata: dict[str, object] | None = {"axes": "YXS"} if ome else None
    if metadata is not None and mpp is not None:
        metadata |= {f"PhysicalSize{axis}": mpp for axis in "XY"}
        metadata |= {f"PhysicalSize{axis}Unit": "µm" for axis in "XY"}
    with tifffile.TiffWriter(path, bigtiff=bigtiff, ome=ome) as writer:
        for index in range(levels):
            if index:
                pixels = _halve(pixels)
            scale = 2**index
            writer.write(
                pixels,
                # With "ycbcr" tifffile takes the pixels for YCbCr as they are.
                photometric="rgb",
                compression=compression,
                tile=None if tile is None else (tile, tile),
                rowsperstrip=16 if tile is None else None,
                subifds=levels - 1 if ome and index == 0 else None,
                subfiletype=1 if index else 0,
                metadata=metadata if index == 0 else None,
                software=False,
                resolution=None if mpp is None else (1e4 / (mpp * scale), 1e4 / (mpp * scale)),
                resolutionunit=None if mpp is None else "CENTIMETER",
            )
    return path


def _halve(pixels: PixelArray) -> PixelArray:
    height, width = (side // 2 for side in pixels.shape[:2])
    boxes = pixels[: height * 2, : width * 2].reshape(height, 2, width, 2, 3).astype(np.uint16)
    means = (boxes.sum(axis=(1, 3)) + 2) // 4
    return np.asarray(means, dtype=np.uint8)
