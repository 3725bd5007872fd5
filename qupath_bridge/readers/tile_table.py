"""Tables of the tiles of a level, and the tiles that boxes touch: as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from qupath_bridge.model import IntArray

from .tile_decoders import Decoder, choose_decoder

__all__ = ["TileTable", "find_pieces", "read_table", "segment_size"]

NOT_LISTED = -1
"""Offset of a tile that the directory of the file does not list."""

_MOST = np.uint64(1 << 62)  # damaged BigTIFF files have numbers that fit no other type


@dataclass(frozen=True, slots=True, eq=False)
class TileTable:
    """The tiles of one plane of one level. A strip counts as a tile of full width.

    Attributes
    ----------
    tile : (int, int)
        Width and height of a tile, pixels.
    across : int
        Tiles in a row.
    samples : int
        Values per pixel: 3, or 4 with alpha.
    multiplied : bool
        Whether the colours are multiplied by the alpha already.
    offsets, counts : arrays of int, shape (P, T)
        Place and length of the data of T tiles, bytes; P is 1, or ``samples`` where each sample
        has tiles of its own. A count of 0 says that there is no such tile.
    decode : Decoder
    jpeg_tables : bytes or None
        JPEG tables that all tiles share.
    jpeg_space : str or None
        ``"RGB"`` or ``"YCBCR"``: what JPEG data holds, whatever its markers say; None to go by
        the markers.
    is_jpeg : bool
        Whether each tile is JPEG data with the three samples of its pixels.
    kind : str
        ``"tile"`` or ``"strip"``, for messages.
    """

    tile: tuple[int, int]
    across: int
    samples: int
    multiplied: bool
    offsets: IntArray
    counts: IntArray
    decode: Decoder
    jpeg_tables: bytes | None
    jpeg_space: str | None
    is_jpeg: bool
    kind: str


def segment_size(page: Any) -> tuple[int, int]:
    """Return width and height of a tile, or of a strip as a tile of full width."""
    if page.is_tiled:
        return page.tilewidth, page.tilelength
    return page.imagewidth, min(page.rowsperstrip or page.imagelength, page.imagelength)


def read_table(page: Any) -> TileTable:
    """Return the table of a page, as tifffile read its directory.

    Parameters
    ----------
    page : tifffile.TiffPage or TiffFrame
    """
    key = page.keyframe
    width, height = segment_size(key)
    across = -(-key.imagewidth // width)
    planes = 1 if key.planarconfig == 1 else key.samplesperpixel
    length = across * -(-key.imagelength // height) * planes
    listed = min(len(page.dataoffsets), len(page.databytecounts), length)
    offsets = np.full(length, NOT_LISTED, np.int64)
    counts = np.full(length, NOT_LISTED, np.int64)
    for values, said in ((offsets, page.dataoffsets), (counts, page.databytecounts)):
        values[:listed] = np.minimum(np.array(said[:listed], np.uint64), _MOST)
    choice = choose_decoder(page)
    return TileTable(
        tile=(width, height),
        across=across,
        samples=key.samplesperpixel,
        multiplied=key.samplesperpixel == 4 and int(key.extrasamples[0]) == 1,
        offsets=offsets.reshape(planes, -1),
        counts=counts.reshape(planes, -1),
        decode=choice.decode,
        jpeg_tables=page.jpegtables,
        jpeg_space=choice.jpeg_space,
        is_jpeg=choice.is_jpeg,
        kind="tile" if key.is_tiled else "strip",
    )


def find_pieces(
    corners: IntArray, size: tuple[int, int], tile: tuple[int, int], across: int
) -> IntArray:
    """Return the pieces of which rectangles are made: what each takes of each tile.

    Parameters
    ----------
    corners : array of int, shape (N, 2)
        x, y of the rectangles, inside the level.
    size : (width, height)
        Of all rectangles, pixels.
    tile : (width, height)
    across : int
        Tiles in a row.

    Returns
    -------
    array of int, shape (M, 8)
        Tile, rectangle, left, top, right, bottom in the rectangle, and left, top in the tile; by
        tile, in the order of the file's tiles.

    Examples
    --------
    >>> find_pieces(np.array([[60, 0]]), (10, 5), (64, 64), 2).tolist()
    [[0, 0, 0, 0, 4, 5, 60, 0], [1, 0, 4, 0, 10, 5, 0, 0]]
    """
    first = corners // tile
    reach = (np.array(size) - 2) // tile + 2  # tiles that a rectangle may touch, per axis
    columns = first[:, :1] + np.arange(reach[0])
    rows = first[:, 1:] + np.arange(reach[1])
    # Of each column or row of tiles: from where to where it covers the rectangle.
    left, right = _spans(columns, corners[:, :1], tile[0], size[0])
    top, bottom = _spans(rows, corners[:, 1:], tile[1], size[1])
    shape = (len(corners), reach[1], reach[0])
    pieces = np.empty((*shape, 8), np.int64)
    pieces[..., 0] = rows[:, :, None] * across + columns[:, None, :]
    pieces[..., 1] = np.arange(len(corners))[:, None, None]
    pieces[..., 2], pieces[..., 4] = left[:, None, :], right[:, None, :]
    pieces[..., 3], pieces[..., 5] = top[:, :, None], bottom[:, :, None]
    pieces[..., 6] = pieces[..., 2] + (corners[:, :1] - columns * tile[0])[:, None, :]
    pieces[..., 7] = pieces[..., 3] + (corners[:, 1:] - rows * tile[1])[:, :, None]
    pieces = pieces.reshape(-1, 8)
    pieces = pieces[(pieces[:, 4] > pieces[:, 2]) & (pieces[:, 5] > pieces[:, 3])]
    return np.asarray(pieces[np.argsort(pieces[:, 0], kind="stable")])


def _spans(
    numbers: IntArray, starts: IntArray, tile: int, length: int
) -> tuple[IntArray, IntArray]:
    low = np.clip(numbers * tile - starts, 0, length)
    high = np.clip((numbers + 1) * tile - starts, 0, length)
    return low, high
