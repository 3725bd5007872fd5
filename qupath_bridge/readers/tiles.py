"""TIFF slides tile by tile: plain pyramids, OME-TIFF, QPTIFF, Aperio SVS, ImageJ's stacks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from qupath_bridge.errors import ReadError
from qupath_bridge.model import FIRST_PLANE, Box, BoxArray, IntArray, MaskArray, PixelArray, Plane
from qupath_bridge.timing import step
from qupath_bridge.urls import shown

from .background import blend_alpha
from .base import BadTile, Fingerprint, Pixels
from .levels import LevelReader
from .recycling import Recycler
from .tiff_layout import read_layout
from .tile_cache import TileCache, shared_cache
from .tile_data import open_tile_data
from .tile_decoders import is_whole_jpeg, whole_jpeg
from .tile_ranks import rank_tiff
from .tile_table import Cuts, TileTable, cut_tiles, read_table, touched_tiles

__all__ = ["TileReader"]

CACHE_BYTES = 32 << 20
"""Decoded tiles of an RGB file that are kept in this process: neighbouring boxes share them."""

MOST_CACHES = 4
"""Of a file with more bytes per pixel as many times more tiles are kept, up to this."""

_HINT = (
    "The file is damaged there, or not copied completely. Copy it again, or read on with "
    "on_bad_tile background."
)


class TileReader(LevelReader):
    """Reads TIFF slides: RGB with or without alpha, and any number of channels of other types.

    These are integers of 8, 16 and 32 bits, float32 and float64, with channels side by side or
    apart; see :func:`~qupath_bridge.readers.tiff_stacks.find_stack` for which pages are channels,
    z slices and time points.

    The places of all tiles are read once; then each tile that boxes touch is read and decoded once
    per batch, and only those of the channels that are asked for, where channels are apart. Tiled
    JPEG, JPEG 2000, LZW, deflate, WebP, Zstandard and uncompressed pixels are decoded without
    tifffile; it decodes the rest. JPEG is decoded as libjpeg does by default, which gives the same
    pixels as OpenSlide. Missing tiles and transparent pixels show the background; a tile that only
    some channels miss shows the others.

    Parameters
    ----------
    path : path

    Attributes
    ----------
    on_bad_tile : "fail" or "background"
        What to do with a tile that cannot be decoded: raise ReadError, or read it as background.
    bad_tiles : set of BadTile
        Those that were read as background.

    Raises
    ------
    ReadError
        If it is not a TIFF file, or its pixels are of another type; the message says which.
    """

    def __init__(self, path: Path | str) -> None:
        self.on_bad_tile: Literal["fail", "background"] = "fail"
        self.bad_tiles: set[BadTile] = set()
        self._path = Path(path)
        label = shown(self._path)
        self._tables: dict[tuple[int, int], TileTable] = {}
        self._grids: dict[Any, tuple[TileTable, int, int] | None] = {}
        self._memory = Recycler()
        self._file, self._data = open_tile_data(self._path)
        try:
            layout = self._layout = read_layout(self._file, label)
            self._data.check()
            self._cache = self._find_cache("tiles")
            super().__init__(
                label,
                layout.sizes,
                pixel_size=layout.pixel_size,
                objective_power=layout.objective_power,
                planes=layout.planes,
                channels=layout.channels,
                dtype=layout.dtype,
            )
            self._settle_padded_levels(layout.tiles, layout.stated_downsamples)
        except ReadError:
            self._file.close()
            raise
        except Exception as error:
            self._file.close()
            self._data.check()
            raise ReadError(
                f"{label}: its TIFF directory cannot be read: {error}.",
                hint="Is the copy complete?",
            ) from error

    @staticmethod
    def can_open(path: Path) -> int:
        """Return how well this reader knows a file, see :func:`.tile_ranks.rank_tiff`."""
        return rank_tiff(path)

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the file as it is now; read again each time."""
        return self._data.fingerprint

    @property
    def in_place(self) -> bool:
        """True for a slide that is read where it is, in object storage."""
        return self._data.in_place

    def read_encoded(
        self, boxes: BoxArray, size: tuple[int, int], plane: Plane = FIRST_PLANE
    ) -> list[bytes | None]:
        """Return whole JPEG files with the pixels of boxes, None for those without one.

        Parameters
        ----------
        boxes : array of int, shape (N, 4)
            x, y, width, height: level-0 pixels of the file.
        size : (width, height)
            Output pixels of each box.
        plane : Plane

        Returns
        -------
        list of N bytes or None
            For a box that is exactly one JPEG file tile of the level that is read, and not
            scaled: the data of the tile, with the tables of the file. Decoded it gives the pixels
            of :meth:`read`.

        Raises
        ------
        ReadError
            If the file cannot be read there, or has no such plane.
        """
        places = [self._tile_of(Box(*box), size, plane) for box in boxes.tolist()]
        self._data.expect(filter(None, places))
        return [place and self._whole_jpeg(*place) for place in places]

    def _whole_jpeg(self, table: TileTable, tile: int) -> bytes | None:
        """Return a tile as a JPEG file, None if its data is not what it should be."""
        try:
            data = self._data.read(table, 0, tile)
        except ValueError:
            return None  # `read` says what is wrong
        if not is_whole_jpeg(data, table.tile):
            return None
        return whole_jpeg(data, table.jpeg_tables, table.jpeg_space)

    def _tile_of(
        self, box: Box, size: tuple[int, int], plane: Plane
    ) -> tuple[TileTable, int] | None:
        """Return the JPEG tile that a box is, None if it is none."""
        self._check(box, size, plane)
        key = box[2:], size, plane
        if key not in self._grids:
            self._grids[key] = self._tile_grid(*key)
        grid = self._grids[key]
        if grid is None:
            return None
        table, columns, rows = grid
        column, left = divmod(box.x, box.w)
        row, top = divmod(box.y, box.h)
        if left or top or not (0 <= column < columns and 0 <= row < rows):
            return None
        tile = row * table.across + column
        return None if table.counts[0, tile] == 0 else (table, tile)

    def _tile_grid(
        self, box: tuple[int, ...], size: tuple[int, int], plane: Plane
    ) -> tuple[TileTable, int, int] | None:
        """Return the table of which boxes of a size are whole JPEG tiles, and how many there are.

        These are the columns and the rows of tiles that lie inside the slide. None if boxes of
        this size do not fit its tiles.
        """
        index = self._choose_level(Box(0, 0, *box), size)
        if not self._layout.is_rgb:
            return None
        table = self._table(self._numbers[index], self._plane_number(plane))
        sides = tuple(
            side * factor for side, factor in zip(size, self._factors[index], strict=True)
        )
        if not table.is_jpeg or size != table.tile or box != sides:
            return None
        right, bottom = self._limits(index)
        return table, right // size[0], bottom // size[1]

    def __reduce__(self) -> Any:
        return _reopen, (type(self), self._path, self.on_bad_tile)

    def _find_cache(self, decoder: str) -> TileCache:
        """Return the cache of this file for tiles that a decoder made."""
        layout = self._layout
        times = len(layout.channels) * layout.dtype.itemsize // 3
        return shared_cache(
            (decoder, *self._data.identity), CACHE_BYTES * min(max(times, 1), MOST_CACHES)
        )

    def _plane_number(self, plane: Plane) -> int:
        """Return the number of the first part of a plane in each level."""
        return (plane.t * self.planes[0] + plane.z) * self._layout.parts

    def _table(self, level: int, number: int) -> TileTable:
        """Return the table of a part of a level, read from the directory at the first use."""
        table = self._tables.get((level, number))
        if table is None:
            try:
                table = read_table(self._layout.levels[level][number])
                self._data.check()
            except ReadError:
                raise
            except Exception as error:
                self._data.check()
                raise ReadError(
                    f"{self._label}: the tiles of level {level} are not listed: {error}.",
                    hint="Is the copy complete?",
                ) from error
            self._tables[level, number] = table
        return table

    def _read_rectangle(self, level: int, rectangle: Box, plane: Plane) -> Pixels:
        return self._read_as_batch(level, rectangle, plane, None)

    def _read_rectangles(
        self,
        level: int,
        corners: IntArray,
        size: tuple[int, int],
        plane: Plane,
        channels: tuple[int, ...] | None,
    ) -> Pixels:
        if self._layout.parts > 1:
            return self._read_parts(level, corners, size, plane, channels)
        pixels, mask = self._read_samples(level, corners, size, plane)
        return pixels if channels is None else pixels[..., channels], mask

    def _read_parts(
        self,
        level: int,
        corners: IntArray,
        size: tuple[int, int],
        plane: Plane,
        channels: tuple[int, ...] | None,
    ) -> Pixels:
        """Read channels that are in several parts of a plane; decode those parts only.

        The channels lie apart in the memory of the result, as they do in the file.
        """
        chosen = range(len(self.channels)) if channels is None else channels
        samples = len(self.channels) // self._layout.parts
        planar = np.empty((len(corners), len(chosen), size[1], size[0]), self.dtype)
        first, missing = self._plane_number(plane), []
        cuts: dict[Any, Cuts] = {}  # the same for parts with the same tiles
        for part in sorted({channel // samples for channel in chosen}):
            places = [(n, own % samples) for n, own in enumerate(chosen) if own // samples == part]
            block = planar[:, places[0][0], ..., None]
            if samples > 1:
                block = np.empty((len(corners), size[1], size[0], samples), self.dtype)
            holes = self._read_tiles((level, first + part), corners, block, cuts)
            for hole in holes:
                block[hole] = self.background[part * samples : (part + 1) * samples]
            for number, sample in places[1:] if samples == 1 else places:
                planar[:, number] = block[..., sample]
            missing.append(holes)
        pixels = planar.transpose(0, 2, 3, 1)
        return pixels, _seen_once(pixels.shape[:3], missing) if all(missing) else None

    def _read_samples(
        self, level: int, corners: IntArray, size: tuple[int, int], plane: Plane
    ) -> Pixels:
        """Read all channels of a plane that is one part, each pixel's side by side."""
        place = level, self._plane_number(plane)
        table = self._table(*place)
        shape = len(corners), size[1], size[0], table.samples
        pixels = self._memory.empty(shape, self.dtype)
        missing = self._read_tiles(place, corners, pixels, {})
        mask: MaskArray | None = None
        if missing:
            mask = np.ones(pixels.shape[:3], np.bool_)
            for hole in missing:
                pixels[hole] = (*self.background, 0)[: table.samples]
                mask[hole] = False
        if table.samples == len(self.channels):
            return pixels, mask
        pixels, visible = blend_alpha(pixels, self.background, multiplied=table.multiplied)
        if mask is None or visible is None:
            return pixels, visible if mask is None else mask
        pixels[~mask] = self.background
        return pixels, mask & visible

    def _read_tiles(
        self,
        place: tuple[int, int],
        corners: IntArray,
        pixels: PixelArray,
        cuts: dict[Any, Cuts],
    ) -> list[Any]:
        """Read rectangles of one part from its tiles; return the places without a tile."""
        table = self._table(*place)
        size = pixels.shape[2], pixels.shape[1]
        if size == table.tile and not (corners % table.tile).any():
            return self._decode_whole(place, corners, pixels)
        key = table.tile, table.across
        if key not in cuts:
            cuts[key] = cut_tiles(corners, size, *key)
        return self._decode_pieces(place, cuts[key], pixels)

    def _decode_whole(
        self, place: tuple[int, int], corners: IntArray, pixels: PixelArray
    ) -> list[Any]:
        """Decode rectangles that are tiles to where they are wanted; return those without one."""
        table = self._tables[place]
        columns, rows = (corners // table.tile).T
        indices = (rows * table.across + columns).tolist()
        self._data.expect((table, index) for index in indices)
        return [
            number
            for number, (index, out) in enumerate(zip(indices, pixels, strict=True))
            if not self._decode(place, table, index, out)
        ]

    def _decode_pieces(self, place: tuple[int, int], cuts: Cuts, pixels: PixelArray) -> list[Any]:
        """Copy rectangles from the tiles that they touch; return the places without a tile."""
        table = self._tables[place]
        count, height, width, samples = pixels.shape
        lines = pixels.reshape(count, height, width * samples)
        missing: list[Any] = []
        self._expect((place, index) for index, _ in cuts)
        for index, own in cuts:
            tile = self._tile(place, table, index)
            if tile is None:
                missing += [
                    np.s_[number, top:bottom, left:right]
                    for number, left, top, right, bottom, _, _ in own
                ]
                continue
            source, used = tile.reshape(len(tile), -1), 0
            for number, left, top, right, bottom, x, y in own:
                part = source[y : y + bottom - top, x * samples : (x + right - left) * samples]
                lines[number, top:bottom, left * samples : right * samples] = part
                used += part.size
            self._cache.use((*place, index), used)
        return missing

    def _expect_rectangles(
        self, level: int, rectangles: IntArray, plane: Plane, channels: tuple[int, ...] | None
    ) -> None:
        if not self._data.in_place:
            return
        chosen = range(len(self.channels)) if channels is None else channels
        samples = len(self.channels) // self._layout.parts
        first = self._plane_number(plane)
        places = [(level, first + part) for part in sorted({each // samples for each in chosen})]
        for place in places:
            self._table(*place)
        self._expect(
            (place, index)
            for rectangle in rectangles.tolist()
            for place in places
            for index in touched_tiles(rectangle, self._tables[place])
        )

    def _expect(self, tiles: Iterable[tuple[tuple[int, int], int]]) -> None:
        """Say which tiles of which parts will be read, but for those that are kept."""
        wanted = ((p, index) for p, index in tiles if self._cache.get((*p, index)) is None)
        self._data.expect((self._tables[place], index) for place, index in wanted)

    def _tile(self, place: tuple[int, int], table: TileTable, index: int) -> PixelArray | None:
        """Return a decoded tile, None if the file has none; from the cache if it is there."""
        name = (*place, index)
        tile = self._cache.get(name)
        if tile is None:
            width, height = table.tile
            tile = np.empty((height, width, table.samples), table.dtype)
            if not self._decode(place, table, index, tile):
                return None
            self._cache.put(name, tile)
        return tile

    def _decode(
        self, place: tuple[int, int], table: TileTable, index: int, out: PixelArray
    ) -> bool:
        """Decode a tile into an array; return whether there is one."""
        counts, length = table.counts[:, index].tolist(), table.counts.shape[1]
        if 0 in counts:
            return False
        try:
            for sample in range(len(counts)):
                data = self._data.read(table, sample, index)
                part = out if len(counts) == 1 else out[..., sample : sample + 1]
                with step("decode"):
                    table.decode(data, sample * length + index, part)
        except ReadError:
            raise
        except Exception as error:  # noqa: BLE001  # damaged data raises whatever its codec raises
            self._note_bad(place, table, index, error)
            return False
        return True

    def _note_bad(
        self, place: tuple[int, int], table: TileTable, index: int, error: Exception
    ) -> None:
        level, number = place
        row, column = divmod(index, table.across)
        offset = max(int(table.offsets[0, index]), 0)
        if self.on_bad_tile == "background":
            t, z = divmod(number // self._layout.parts, self.planes[0])
            self.bad_tiles.add(BadTile(level, column, row, z, t, offset))
            return
        raise ReadError(
            f"{self._label}: {table.kind} at column {column}, row {row} of level {level} (offset "
            f"{offset}) cannot be decoded: {error}.",
            hint=_HINT,
        ) from error

    def _close(self) -> None:
        self._cache, self._memory = TileCache(0), Recycler()
        self._file.close()
        self._data.close()


def _seen_once(shape: tuple[int, ...], missing: Sequence[Sequence[Any]]) -> MaskArray:
    """Return where at least one part has a tile, of those whose places without one are given."""
    seen: MaskArray = np.zeros(shape, np.bool_)
    for holes in missing:
        own: MaskArray = np.ones(shape, np.bool_)
        for hole in holes:
            own[hole] = False
        seen |= own
    return seen


def _reopen(
    kind: type[TileReader], path: Path, on_bad_tile: Literal["fail", "background"]
) -> TileReader:
    reader = kind(path)
    reader.on_bad_tile = on_bad_tile
    return reader
