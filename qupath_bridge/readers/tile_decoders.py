"""Bytes of one tile of a TIFF file to pixels.

The decoders of imagecodecs let other threads run. What they do not read (strips, a tile per
sample, rare compressions) is decoded by tifffile.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any, NamedTuple

import imagecodecs
import numpy as np

from qupath_bridge.model import PixelArray

from .encoded_sizes import jpeg_xl_size, jpeg_xr_size

__all__ = [
    "MAX_GROWTH",
    "Decoder",
    "DecoderChoice",
    "choose_decoder",
    "decode_rows",
    "encoded_size",
    "is_swapped",
    "is_whole_jpeg",
    "means_markers",
    "whole_jpeg",
]

Decoder = Callable[[bytes, int, PixelArray], None]
"""Decodes the data of the tile with a number into an array of shape (height, width, samples).

The array has the type of the pixels, in the byte order of this machine.

Raises any error for data that is not such a tile.
"""

MAX_GROWTH = 4
"""A tile of a JPEG format with more pixels than this many tiles is refused.

It has a size of its own, and is decoded at that size: 700 bytes can take gigabytes.
"""

_JPEG = 7
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of the header with the size."""
_JPEG_SCAN = 0xDA
_JPEG_SCAN_SIGN = bytes((0xFF, _JPEG_SCAN))
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_JFIF, _ADOBE_MARKER = 0xE0, 0xEE
_ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"  # then the colours
_JPEG_2000 = frozenset((33003, 33004, 33005, 34712))
_JPEG_2000_START = b"\xff\x4f\xff\x51"
_JPEG_XL = frozenset((50002, 52546))
_JPEG_XR = frozenset((22610, 34934))
_WEBP = 50001
_BYTES: dict[int, Callable[..., Any]] = {
    5: imagecodecs.lzw_decode,
    8: imagecodecs.deflate_decode,
    32946: imagecodecs.deflate_decode,
    34926: imagecodecs.zstd_decode,  # the number that libtiff used before 50000
    50000: imagecodecs.zstd_decode,
}
_GREY, _RGB, _YCBCR = 1, 2, 6
_PLAIN, _HORIZONTAL, _FLOATS = 1, 2, 3
"""Predictors: the values; the difference of each from its left neighbour; that of the bytes of
floats, of which those with the sign come first."""


class DecoderChoice(NamedTuple):
    """The decoder of a page; see :class:`~qupath_bridge.readers.tile_table.TileTable`."""

    decode: Decoder
    is_jpeg: bool = False
    jpeg_space: str | None = None


def choose_decoder(page: Any, *, apart: bool = False) -> DecoderChoice:
    """Return the decoder for the tiles of a tifffile page.

    Parameters
    ----------
    page : tifffile.TiffPage or TiffFrame
    apart : bool
        Whether the tiles of one sample are decoded, where each sample has tiles of its own.
    """
    key = page.keyframe
    code, predictor = int(key.compression), int(key.predictor)
    samples = 1 if apart else key.samplesperpixel
    bytewise = key.dtype is not None and key.bitspersample == 8 * np.dtype(key.dtype).itemsize
    whole = key.is_tiled and (apart or key.planarconfig == 1) and bytewise
    if not whole or (key.fillorder != 1 and code != _JPEG):
        return DecoderChoice(_by_tifffile(page))
    if code == _JPEG and key.dtype == np.uint8:
        if samples == 3:
            space = _jpeg_space(page)
            decode = partial(_decode_jpeg, page.jpegtables, space)
            return DecoderChoice(decode, is_jpeg=True, jpeg_space=space)
        if samples == 1:
            return DecoderChoice(partial(_decode_grey_jpeg, page.jpegtables))
    if code in _JPEG_2000 and (samples == 1 or (samples == 3 and key.dtype == np.uint8)):
        return DecoderChoice(_decode_jpeg_2000)
    if code == _WEBP and samples == 3:
        return DecoderChoice(_decode_webp)
    if code == 1 and predictor == _PLAIN:
        return DecoderChoice(partial(_copy, is_swapped(key)))
    if code in _BYTES and _is_undone(predictor, key.dtype, is_swapped(key)):
        return DecoderChoice(partial(_decode_bytes, _BYTES[code], predictor, is_swapped(key)))
    return DecoderChoice(_by_tifffile(page))


def is_swapped(page: Any) -> bool:
    """Return whether the values of a page have the other byte order than this machine."""
    key = page.keyframe
    return bool(np.dtype(key.dtype).newbyteorder(key.parent.byteorder).isnative is False)


def _is_undone(predictor: int, dtype: Any, swapped: bool) -> bool:
    """Return whether a predictor is undone here, after the bytes were unpacked."""
    if predictor == _FLOATS:
        return np.dtype(dtype).kind == "f" and not swapped
    return predictor == _PLAIN or (predictor == _HORIZONTAL and np.dtype(dtype).kind != "f")


def encoded_size(data: bytes, code: int) -> tuple[int, int]:
    """Return width and height that encoded pixels say they have; (0, 0) if they do not say.

    Parameters
    ----------
    data : bytes
    code : int
        TIFF's number of the compression.
    """
    if code in _JPEG_2000:
        start = data.find(_JPEG_2000_START)
        if 0 <= start <= len(data) - 24:
            x, y, left, top = struct.unpack_from(">4I", data, start + 8)
            return max(x - left, 0), max(y - top, 0)
    elif code == _JPEG:
        return _header_of(data).size
    elif code in _JPEG_XL:
        return jpeg_xl_size(data)
    elif code in _JPEG_XR:
        return jpeg_xr_size(data)
    return 0, 0


def whole_jpeg(data: bytes, tables: bytes | None, space: str | None) -> bytes | None:
    """Return a tile as a whole JPEG file: with the shared tables, and a marker of its colours.

    Parameters
    ----------
    data : bytes
        Of the tile, a JPEG image.
    tables : bytes or None
        JPEG tables that all tiles share.
    space : str or None
        ``"RGB"`` or ``"YCBCR"``, or None to go by the markers of the tile.

    Returns
    -------
    bytes or None
        None if decoders would take the colours for others than they are.
    """
    head = _new_head(_header_of(data).space, tables, space)
    if head is None:
        return None
    return b"".join((head, memoryview(data)[2 : data.rfind(_JPEG_END)], _JPEG_END))


@lru_cache(maxsize=64)
def _new_head(said: str | None, tables: bytes | None, space: str | None) -> bytes | None:
    """Return what stands before the own markers of a tile in a whole file."""
    head = _JPEG_START
    said = said or _said_space(tables or b"")
    if space is not None and said != space:
        if said is not None:
            return None  # of two markers the other would count
        head += _ADOBE + (b"\x00" if space == "RGB" else b"\x01")
    if tables is not None:
        head += tables[2:].removesuffix(_JPEG_END)
    return head


class _Header(NamedTuple):
    """Width, height and colours of JPEG data, as they are said before the first scan."""

    size: tuple[int, int]
    space: str | None


def _header_of(data: bytes) -> _Header:
    """Read the header of JPEG data; that of the tiles of a file is mostly the same, and known."""
    end = data.find(_JPEG_SCAN_SIGN)
    known = None if end < 0 else _known_header(data[:end])
    return known or _Header(_said_size(data), _said_space(data))


@lru_cache(maxsize=64)
def _known_header(header: bytes) -> _Header | None:
    """Return what a header says; None if it was cut inside a segment, which holds any bytes."""
    end = 2
    for _, place in _jpeg_markers(header):
        end = place + 2 + int.from_bytes(header[place + 2 : place + 4])
    whole = end == len(header)
    return _Header(_said_size(header), _said_space(header)) if whole else None


def _said_size(data: bytes) -> tuple[int, int]:
    """Return width and height that JPEG data say they have; (0, 0) if they do not say."""
    for marker, place in _jpeg_markers(data):
        if marker in _JPEG_SIZES and place + 9 <= len(data):
            height, width = struct.unpack_from(">2H", data, place + 5)
            return width, height
    return 0, 0


def _said_space(data: bytes) -> str | None:
    """Return what JPEG data hold by their own markers, as decoders read them."""
    said = None
    for marker, place in _jpeg_markers(data):
        if marker == _JFIF and data[place + 4 : place + 9] == b"JFIF\0":
            return "YCBCR"
        if marker == _ADOBE_MARKER and data[place + 4 : place + 9] == b"Adobe":
            said = "YCBCR" if data[place + 15 : place + 16] == b"\x01" else "RGB"
    return said


def _jpeg_markers(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the markers of JPEG data with their places, up to the first scan."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != _JPEG_SCAN:
        yield data[place + 1], place
        place += 2 + int.from_bytes(data[place + 2 : place + 4])


def means_markers(page: Any) -> bool:
    """Return whether JPEG tiles hold what their own JFIF marker says, not what the page says.

    Some writers call any picture RGB, also where its JPEG data are YCbCr.
    """
    key = page.keyframe
    return bool(int(key.compression) == _JPEG and int(key.photometric) == _RGB and key.is_jfif)


def is_whole_jpeg(data: bytes, size: tuple[int, int]) -> bool:
    """Return whether the data of a tile are a JPEG image of a size that does not end early."""
    return encoded_size(data, _JPEG) == size and not _ends_early(data)


def _ends_early(data: bytes) -> bool:
    # Inside a scan the mark of the end never appears, and libjpeg fills what is missing with
    # grey, without an error.
    return not data.endswith(_JPEG_END) and _JPEG_END not in data


def _jpeg_space(page: Any) -> str | None:
    if means_markers(page):
        return None
    return "RGB" if int(page.keyframe.photometric) == _RGB else "YCBCR"


def _check_size(data: bytes, code: int, out: PixelArray) -> None:
    height, width = out.shape[:2]
    own = encoded_size(data, code)
    if own != (width, height):
        raise ValueError(
            f"it says that it has {own[0]} x {own[1]} pixels, not {width} x {height}"
            if all(own)
            else "it is not an image"
        )


def _check_jpeg(data: bytes, out: PixelArray) -> None:
    _check_size(data, _JPEG, out)
    if _ends_early(data):
        raise ValueError("its data ends too early")


def _decode_jpeg(
    tables: bytes | None, space: str | None, data: bytes, _: int, out: PixelArray
) -> None:
    _check_jpeg(data, out)
    imagecodecs.jpeg8_decode(data, tables=tables, colorspace=space, outcolorspace="RGB", out=out)


def _decode_grey_jpeg(tables: bytes | None, data: bytes, _: int, out: PixelArray) -> None:
    _check_jpeg(data, out)
    imagecodecs.jpeg8_decode(data, tables=tables, outcolorspace=_GREY, out=out[..., 0])


def _decode_jpeg_2000(data: bytes, _: int, out: PixelArray) -> None:
    _check_size(data, 34712, out)
    place = data.find(_JPEG_2000_START) + 40
    samples = int.from_bytes(data[place : place + 2])
    if samples != out.shape[2]:  # they would be decoded, however many there are
        raise ValueError(f"it says that it has {samples} samples, not {out.shape[2]}")
    imagecodecs.jpeg2k_decode(data, out=out[..., 0] if out.shape[2] == 1 else out)


def _decode_webp(data: bytes, _: int, out: PixelArray) -> None:
    imagecodecs.webp_decode(data, hasalpha=False, out=out)


def _copy(swapped: bool, data: bytes, _: int, out: PixelArray) -> None:
    kind = out.dtype.newbyteorder() if swapped else out.dtype
    out.reshape(-1)[:] = np.frombuffer(data, kind, out.size)


def decode_rows(swapped: bool, data: bytes, _: int, out: PixelArray) -> None:
    """Copy rows of plain values to the upper rows of an array; the last group has less."""
    kind = out.dtype.newbyteorder() if swapped else out.dtype
    values = np.frombuffer(data, kind)
    out.reshape(-1)[: len(values)] = values


def _decode_bytes(
    decompress: Callable[..., Any],
    predictor: int,
    swapped: bool,
    data: bytes,
    _: int,
    out: PixelArray,
) -> None:
    flat = out.reshape(-1).view(np.uint8)
    found = decompress(data, out=flat)
    if len(found) != len(flat):
        raise ValueError(f"it has {len(found)} bytes, not {len(flat)}")
    if swapped:
        out.byteswap(inplace=True)
    if predictor == _HORIZONTAL:
        imagecodecs.delta_decode(out, axis=-2, out=out)
    elif predictor == _FLOATS:
        imagecodecs.floatpred_decode(out.copy(), axis=-2, out=out)


def _by_tifffile(page: Any) -> Decoder:
    key = page.keyframe

    def decode(data: bytes, index: int, out: PixelArray) -> None:
        width, height = encoded_size(data, int(key.compression))
        if width * height > MAX_GROWTH * out.shape[0] * out.shape[1]:
            raise ValueError(f"it says that it has {width} x {height} pixels")
        decoded, _, shape = key.decode(data, index, jpegtables=page.jpegtables)
        tile = np.asarray(decoded[0])
        if tile.dtype != out.dtype:
            raise ValueError(f"it has {tile.dtype} values, not {out.dtype}")
        if tile.shape != tuple(shape[1:]):
            raise ValueError(f"it has {tile.shape} values, not {tuple(shape[1:])}")
        out[: tile.shape[0], : tile.shape[1]] = tile

    return decode
