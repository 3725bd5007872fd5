"""Tables of the tiles of a level, and the tiles that boxes touch: as arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from qupath_bridge.model import IntArray, PixelArray

from .tile_decoders import Decoder, DecoderChoice, choose_decoder, decode_rows, is_swapped

__all__ = [
    "Cuts",
    "PagePart",
    "TileTable",
    "cut_tiles",
    "find_pieces",
    "is_raw",
    "read_table",
    "row_bytes",
    "segment_size",
    "touched_tiles",
]

NOT_LISTED = -1
"""Offset of a tile that the directory of the file does not list."""

STRIP_BYTES = 1 << 18
"""Rows of uncompressed pixels that are read at once, where a strip has more."""

Cuts = list[tuple[int, list[list[int]]]]
"""Of each tile its number, and of each piece: rectangle, left, top, right, bottom in the rectangle,
and left, top in the tile."""

_MOST = np.uint64(1 << 62)  # damaged BigTIFF files have numbers that fit no other type


class PagePart(NamedTuple):
    """The part of a page of a TIFF file that holds pixels of one plane of one level.

    Attributes
    ----------
    page : tifffile.TiffPage or TiffFrame
    sample : int or None
        The one sample that is meant, where each sample has tiles of its own; None for the page.
    shift : int
        Bytes from the data of the page to those that are meant: ImageJ writes large stacks with a
        single directory, and the other planes behind the first.
    """

    page: Any
    sample: int | None = None
    shift: int = 0


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
        Values per pixel of a tile, with alpha.
    dtype : dtype
        Of the values, in the byte order of this machine.
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
    dtype: np.dtype[Any]
    multiplied: bool
    offsets: IntArray
    counts: IntArray
    decode: Decoder
    jpeg_tables: bytes | None
    jpeg_space: str | None
    is_jpeg: bool
    kind: str


def segment_size(page: Any) -> tuple[int, int]:
    """Return width and height of a tile, or of a strip as a tile of full width.

    Long strips of uncompressed pixels, one behind the other, are cut into groups of rows.
    """
    key = page.keyframe
    if key.is_tiled:
        return key.tilewidth, key.tilelength
    width, height = key.imagewidth, key.imagelength
    rows, row = min(key.rowsperstrip or height, height), row_bytes(page)
    if row > 0 and rows * row > STRIP_BYTES and is_raw(page):
        rows = max(STRIP_BYTES // row, 1)
    return width, rows


def row_bytes(page: Any) -> int:
    """Return the bytes of a row of uncompressed pixels; of one sample, where those are apart."""
    key = page.keyframe
    samples = key.samplesperpixel if key.planarconfig == 1 else 1
    return int(key.imagewidth * samples * np.dtype(key.dtype or np.uint8).itemsize)


def is_raw(page: Any) -> bool:
    """Return whether a page has strips of plain values, one behind the other without a gap."""
    key = page.keyframe
    planes = 1 if key.planarconfig == 1 else key.samplesperpixel
    if (
        key.is_tiled
        or key.dtype is None
        or (int(key.compression), int(key.predictor), int(key.fillorder)) != (1, 1, 1)
        or key.bitspersample != 8 * np.dtype(key.dtype).itemsize
        or len(page.dataoffsets) != len(page.databytecounts)
        or sum(page.databytecounts) != row_bytes(page) * key.imagelength * planes
    ):
        return False
    ends = (a + b for a, b in zip(page.dataoffsets, page.databytecounts, strict=True))
    return all(end == start for end, start in zip(ends, page.dataoffsets[1:], strict=False))


def read_table(part: PagePart) -> TileTable:
    """Return the table of a part of a page, as tifffile read its directory.

    Parameters
    ----------
    part : PagePart

    Raises
    ------
    ValueError
        If the directory lists less than half of the tiles that the size of the image needs.
    """
    page, key = part.page, part.page.keyframe
    width, height = segment_size(page)
    across = -(-key.imagewidth // width)
    length = across * -(-key.imagelength // height)
    planes = 1 if key.planarconfig == 1 else key.samplesperpixel
    cut = not key.is_tiled and height < min(key.rowsperstrip or key.imagelength, key.imagelength)
    if part.shift or cut:
        offsets, counts = _rows(part, height, planes)
        choice = DecoderChoice(partial(decode_rows, is_swapped(key)))
    else:
        offsets, counts = _listed(page, length * planes)
        choice = choose_decoder(page, apart=part.sample is not None)
    offsets, counts = offsets.reshape(planes, length), counts.reshape(planes, length)
    decode, samples = choice.decode, key.samplesperpixel
    if part.sample is not None:
        samples, own = 1, slice(part.sample, part.sample + 1)
        offsets, counts = offsets[own], counts[own]
        decode = partial(_decode_from, decode, part.sample * length)
    return TileTable(
        tile=(width, height),
        across=across,
        samples=samples,
        dtype=np.dtype(key.dtype).newbyteorder("="),
        multiplied=samples == 4 and bool(key.extrasamples) and int(key.extrasamples[0]) == 1,
        offsets=offsets,
        counts=counts,
        decode=decode,
        jpeg_tables=page.jpegtables,
        jpeg_space=choice.jpeg_space,
        is_jpeg=choice.is_jpeg,
        kind="tile" if key.is_tiled else "strip",
    )


def _listed(page: Any, length: int) -> tuple[IntArray, IntArray]:
    """Return offsets and counts that the directory of a page lists."""
    listed = min(len(page.dataoffsets), len(page.databytecounts), length)
    if 2 * listed < length:  # a size that is damaged may ask for more than any memory
        raise ValueError(f"its directory lists {listed} tiles, its size needs {length}")
    offsets = np.full(length, NOT_LISTED, np.int64)
    counts = np.full(length, NOT_LISTED, np.int64)
    for values, said in ((offsets, page.dataoffsets), (counts, page.databytecounts)):
        values[:listed] = np.minimum(np.array(said[:listed], np.uint64), _MOST)
    return offsets, counts


def _rows(part: PagePart, height: int, planes: int) -> tuple[IntArray, IntArray]:
    """Return offsets and counts of groups of rows, shape (planes, groups)."""
    lines, row = part.page.keyframe.imagelength, row_bytes(part.page)
    first = min(int(part.page.dataoffsets[0]) + part.shift, int(_MOST))
    starts = np.arange(0, lines, height, dtype=np.int64)
    offsets = first + (np.arange(planes)[:, None] * lines + starts) * row
    counts = np.tile(np.minimum(height, lines - starts) * row, (planes, 1))
    return offsets, counts


def _decode_from(decode: Decoder, first: int, data: bytes, index: int, out: PixelArray) -> None:
    """Decode a tile of a sample whose tiles are listed from a place on."""
    decode(data, first + index, out)


def cut_tiles(corners: IntArray, size: tuple[int, int], tile: tuple[int, int], across: int) -> Cuts:
    """Return the pieces that rectangles take of each tile, see :func:`find_pieces`."""
    pieces = find_pieces(corners, size, tile, across)
    starts = np.flatnonzero(np.diff(pieces[:, 0], prepend=-1)).tolist()
    return [
        (int(pieces[first, 0]), pieces[first:end, 1:].tolist())
        for first, end in pairwise([*starts, len(pieces)])
    ]


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


def touched_tiles(rectangle: Sequence[int], table: TileTable) -> Iterator[int]:
    """Yield the tiles that a rectangle (x, y, width, height) inside the level touches."""
    x, y, w, h = rectangle
    width, height = table.tile
    for row in range(y // height, (y + h - 1) // height + 1):
        for column in range(x // width, (x + w - 1) // width + 1):
            yield row * table.across + column


def _spans(
    numbers: IntArray, starts: IntArray, tile: int, length: int
) -> tuple[IntArray, IntArray]:
    low = np.clip(numbers * tile - starts, 0, length)
    high = np.clip((numbers + 1) * tile - starts, 0, length)
    return low, high
