"""Slides with JPEG tiles through cuCIM: a GPU decodes the tiles, or cuCIM itself without one."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from qupath_bridge.errors import MissingDependencyError, ReadError
from qupath_bridge.model import FIRST_PLANE, Box, IntArray, MaskArray, PixelArray, Plane

from .base import Pixels
from .tiff import TiffReader, _encoded_size

__all__ = ["BATCH_BYTES", "MAX_DIFFERENCE", "CucimReader"]

log = logging.getLogger("qupath_bridge")

BATCH_BYTES = 32 << 20
"""Decoded tiles that are held at once."""

MAX_DIFFERENCE = 8
"""Largest difference of a GPU's pixels from libjpeg's in the tiles that are compared, of 255.

Decoders round differently: by 1 to 3 on an H100. Wrong colours differ by far more.
"""

_INSTALL = "pip install 'qupath-bridge[cucim]'"
_OTHER_READERS = "Use another reader, for example --reader tiff."
_JPEG = 7
_END_OF_IMAGE = b"\xff\xd9"


class CucimReader(TiffReader):
    """Reads TIFF slides with RGB in JPEG tiles, decoded on an NVIDIA GPU where one answers.

    Levels, pixel size and missing tiles are those of the reader ``tiff``. On a GPU, nvImageCodec
    decodes the file tiles of a batch together; it is installed with cuCIM. Their pixels can differ
    from OpenSlide's by rounding. Without a GPU, cuCIM decodes them, to OpenSlide's pixels. cuCIM's
    own GPU code is not used: it takes RGB in JPEG for YCbCr, enlarges colours without smoothing,
    and ends the process where tiles are not JPEG.

    When a slide is opened, a tile of each level is compared with that of the reader ``tiff``.

    Parameters
    ----------
    path : path

    Attributes
    ----------
    variant : str
        Device, decoder and its version, for records and digests.

    Raises
    ------
    MissingDependencyError
        If cuCIM is not installed.
    ReadError
        If the slide has other tiles, or they are decoded to other colours.
    """

    def __init__(self, path: Path | str) -> None:
        image = _load_cucim()
        self._decoder: _Decoder | None = None  # the levels are settled without it
        super().__init__(path)
        try:
            if self.planes != (1, 1):
                raise ReadError(f"{path}: a stack of {self.planes} planes.", hint=_OTHER_READERS)
            for pages in self._pages:
                _check_layout(pages[0].keyframe, self._label)
            self._decoder, self._colors = self._start(image)
        except BaseException:
            self.close()
            raise
        self.variant = self._decoder.variant

    @staticmethod
    def can_open(path: Path) -> int:
        """Return 0: this reader is for those who name it, and ``auto`` takes another."""
        return 0

    def _read_rectangle(self, level: int, rectangle: Box, plane: Plane) -> Pixels:
        if self._decoder is None:
            return super()._read_rectangle(level, rectangle, plane)
        corners = np.array([rectangle[:2]], np.int64)
        pixels, mask = self._read_rectangles(level, corners, rectangle[2:], plane)
        return pixels[0], None if mask is None else mask[0]

    def _read_rectangles(
        self, level: int, corners: IntArray, size: tuple[int, int], plane: Plane
    ) -> Pixels:
        if self._decoder is None:
            return super()._read_rectangles(level, corners, size, plane)
        pixels: PixelArray = np.empty((len(corners), size[1], size[0], 3), np.uint8)
        mask: MaskArray = np.ones(pixels.shape[:3], np.bool_)
        boxes = [Box(x, y, *size) for x, y in corners.tolist()]
        for group, numbers in self._groups(level, boxes):
            found = [self._file_tile(level, number) for number in sorted(numbers)]
            there = [tile for tile in found if tile is not None]
            decoded = self._decode_tiles(self._decoder, level, there, self._colors[level])
            tiles = {tile.number: (tile, own) for tile, own in zip(there, decoded, strict=True)}
            for place in range(group.start, group.stop):
                self._assemble(level, boxes[place], tiles, pixels[place], mask[place])
        return pixels, None if mask.all() else mask

    def _groups(self, level: int, boxes: Sequence[Box]) -> Iterator[tuple[slice, set[int]]]:
        """Yield boxes that follow each other, with the tiles that are decoded at once for them."""
        key = self._pages[level][0].keyframe
        limit = BATCH_BYTES // (key.tilewidth * key.tilelength * 3)
        start, tiles = 0, set[int]()
        for place, box in enumerate(boxes):
            own = set(self._touched(level, box))
            if tiles and len(tiles | own) > limit:
                yield slice(start, place), tiles
                start, tiles = place, set()
            tiles |= own
        yield slice(start, len(boxes)), tiles

    def _touched(self, level: int, box: Box) -> Iterator[int]:
        """Yield the numbers of the tiles that a box touches."""
        key = self._pages[level][0].keyframe
        across = -(-key.imagewidth // key.tilewidth)
        for row in range(box.y // key.tilelength, -(-(box.y + box.h) // key.tilelength)):
            first, last = box.x // key.tilewidth, -(-(box.x + box.w) // key.tilewidth)
            yield from range(row * across + first, row * across + last)

    def _decode_tiles(
        self, decoder: _Decoder, level: int, tiles: Sequence[_FileTile], colors: int
    ) -> Sequence[PixelArray]:
        found = decoder.decode(tiles, colors) if tiles else []
        for tile, pixels in zip(tiles, found, strict=True):
            if pixels is None or pixels.shape[:2] < (tile.shown[1], tile.shown[0]):
                raise self._damaged(level, tile.number, f"refused by {decoder.variant}")
        return [pixels for pixels in found if pixels is not None]

    def _assemble(
        self,
        level: int,
        box: Box,
        tiles: Mapping[int, tuple[_FileTile, PixelArray]],
        pixels: PixelArray,
        mask: MaskArray,
    ) -> None:
        """Copy what tiles show of a box; where there is none, it is background."""
        numbers = list(self._touched(level, box))
        if not all(number in tiles for number in numbers):
            pixels[:] = self._background
            mask[:] = False
        for tile, source in (tiles[number] for number in numbers if number in tiles):
            x, y = tile.corner
            x0, x1 = max(box.x, x), min(box.x + box.w, x + tile.size[0])
            y0, y1 = max(box.y, y), min(box.y + box.h, y + tile.size[1])
            place = np.s_[y0 - box.y : y1 - box.y, x0 - box.x : x1 - box.x]
            pixels[place] = source[y0 - y : y1 - y, x0 - x : x1 - x]
            mask[place] = True

    def _start(self, open_image: Any) -> tuple[_Decoder, Sequence[int]]:
        """Return the first decoder with the right pixels, and its colour conversion per level."""
        levels = range(len(self._pages))
        decoder: _Decoder
        try:
            decoder = _GpuDecoder()
            return decoder, [self._find_colors(decoder, level) for level in levels]
        except Exception as error:  # noqa: BLE001  # drivers and libraries raise what they like
            log.info("%s: cuCIM decodes on the CPU: %s", self, error)
        decoder = _CpuDecoder(open_image, self._path)
        return decoder, [self._find_colors(decoder, level) for level in levels]

    def _find_colors(self, decoder: _Decoder, level: int) -> int:
        """Return which of the decoder's conversions gives the pixels of the reader ``tiff``."""
        counts = self._pages[level][0].databytecounts
        number = next((number for number, count in enumerate(counts) if count), None)
        tile = None if number is None else self._file_tile(level, number)
        if tile is None:
            return 0
        expected, _ = super()._read_rectangle(level, Box(*tile.corner, *tile.shown), FIRST_PLANE)
        worst = []
        for conversion in range(decoder.conversions):
            (pixels,) = self._decode_tiles(decoder, level, [tile], conversion)
            shown = pixels[: tile.shown[1], : tile.shown[0]].astype(np.int16)
            worst.append(int(np.abs(shown - expected).max()))
            if worst[-1] <= decoder.tolerance:
                return conversion
        raise ReadError(
            f"{self._path}: {decoder.variant} decodes file tile {tile.number} of level {level} to "
            f"other pixels than the reader 'tiff': they differ by {min(worst)} of 255.",
            hint=_OTHER_READERS,
        )

    def _file_tile(self, level: int, number: int) -> _FileTile | None:
        """Read a tile and check it, without decoding it; None if the file has none."""
        page = self._pages[level][0]
        key = page.keyframe
        if number >= min(len(page.dataoffsets), len(page.databytecounts)):
            raise self._damaged(level, number, "the file's directory does not list it")
        count = page.databytecounts[number]
        if not count:
            return None
        handle = self._file.filehandle
        handle.seek(page.dataoffsets[number])
        data = handle.read(count)
        size = key.tilewidth, key.tilelength
        if len(data) < count:
            raise self._damaged(level, number, f"the file ends {count - len(data)} bytes too early")
        # Decoders write as many pixels as a tile says it has.
        found = _encoded_size(data, _JPEG)
        if found != size:
            raise self._damaged(level, number, f"it has {found[0]} x {found[1]} pixels")
        if _END_OF_IMAGE not in data[-16:]:
            raise self._damaged(level, number, "its end is missing")
        row, column = divmod(number, -(-key.imagewidth // size[0]))
        x, y = column * size[0], row * size[1]
        shown = min(size[0], key.imagewidth - x), min(size[1], key.imagelength - y)
        tables = page.jpegtables
        file = data if tables is None else data[:2] + tables[2:-2] + data[2:]
        return _FileTile((key.imagewidth, key.imagelength), number, (x, y), size, shown, file)

    def _damaged(self, level: int, number: int, reason: str) -> ReadError:
        return ReadError(
            f"{self._path}: file tile {number} of level {level} cannot be decoded: {reason}.",
            hint="The file is damaged there, or not copied completely.",
        )

    def _close(self) -> None:
        self._decoder = None
        super()._close()


class _FileTile(NamedTuple):
    """A JPEG tile: the size of its level, its number, place, size, what of it is shown, a file."""

    level: tuple[int, int]
    number: int
    corner: tuple[int, int]
    size: tuple[int, int]
    shown: tuple[int, int]
    file: bytes


class _Decoder(Protocol):
    """Decodes JPEG tiles of one level; ``conversions`` is the number of colour conversions."""

    variant: str
    conversions: int
    tolerance: int

    def decode(self, tiles: Sequence[_FileTile], colors: int) -> Sequence[PixelArray | None]:
        """Return the pixels of each tile, None for a tile that cannot be decoded."""
        ...


class _CpuDecoder:
    """cuCIM's own decoder. It reads the file itself, by place; its pixels are libjpeg's."""

    conversions = 1
    tolerance = 0

    def __init__(self, open_image: Any, path: Path) -> None:
        self.variant = f"cpu, cuCIM {_version('cucim')}"
        try:
            self._image = open_image(str(path))
            resolutions = self._image.resolutions
        except Exception as error:
            raise ReadError(
                f"{path}: cuCIM cannot open it: {error}.", hint=_OTHER_READERS
            ) from error
        self._sizes = list(resolutions["level_dimensions"])
        # cuCIM divides places in level 0 by this number, in 32 bits, and cuts to whole pixels.
        self._downsamples = np.array(resolutions["level_downsamples"], np.float32)

    def decode(self, tiles: Sequence[_FileTile], colors: int) -> Sequence[PixelArray | None]:
        """Return the pixels of each tile, None for a tile that cannot be decoded."""
        return [self._decode(tile) for tile in tiles]

    def _decode(self, tile: _FileTile) -> PixelArray | None:
        if tile.level not in self._sizes:
            return None
        level = self._sizes.index(tile.level)
        # One tile per call: in its batches an error ends the process. The array is a view of
        # memory that cuCIM frees.
        try:
            region = self._image.read_region(self._place(tile.corner, level), tile.shown, level)
            return np.array(region)
        except (RuntimeError, ValueError):
            return None

    def _place(self, corner: tuple[int, int], level: int) -> tuple[int, int]:
        """Return a place in level 0 that cuCIM takes to a corner in a level."""
        factor = self._downsamples[level]
        place = np.ceil(np.array(corner) * np.float64(factor)).astype(np.int64)
        place += (place.astype(np.float32) / factor).astype(np.int64) < corner
        x, y = place.tolist()
        return x, y


class _GpuDecoder:
    """nvImageCodec on the current GPU."""

    tolerance = MAX_DIFFERENCE

    def __init__(self) -> None:
        import cupy

        cupy.cuda.runtime.getDeviceCount()  # raises where no GPU answers
        from nvidia import nvimgcodec

        self._codec = nvimgcodec
        self._decoder = nvimgcodec.Decoder()
        # RGB without a colour marker is taken for YCbCr: YCbCr that is asked for stays as it is.
        self._parameters = [
            nvimgcodec.DecodeParams(apply_exif_orientation=False, color_spec=colors)
            for colors in (nvimgcodec.ColorSpec.SRGB, nvimgcodec.ColorSpec.SYCC)
        ]
        self.conversions = len(self._parameters)
        self.variant = f"cuda, nvImageCodec {nvimgcodec.__version__}"

    def decode(self, tiles: Sequence[_FileTile], colors: int) -> Sequence[PixelArray | None]:
        """Return the pixels of each tile, None for a tile that cannot be decoded."""
        streams = [self._codec.CodeStream(tile.file) for tile in tiles]
        images = self._decoder.decode(streams, params=self._parameters[colors])
        return [None if image is None else np.asarray(image.cpu()) for image in images]


def _load_cucim() -> Any:
    """Import cuCIM and return what opens a file."""
    try:
        from cucim import CuImage
    except Exception as error:  # a part of it that does not fit raises whatever it likes
        raise MissingDependencyError(
            f"The reader 'cucim' needs cuCIM, which cannot be imported: {error}.",
            hint=f"Install it with: {_INSTALL}. It is there for Linux.",
        ) from error
    return CuImage


def _version(module: str) -> str:
    """Return the version of the package that has a module: its name has that of CUDA in it."""
    names = metadata.packages_distributions().get(module, [])
    return metadata.version(names[0]) if names else "of unknown version"


def _check_layout(page: Any, label: str) -> None:
    """Refuse what is not 8-bit RGB in JPEG tiles."""
    if page.is_tiled and page.compression == _JPEG and page.samplesperpixel == 3:
        return
    kind = getattr(page.compression, "name", str(page.compression))
    shape = "tiles" if page.is_tiled else "strips"
    raise ReadError(
        f"{label}: {shape} of {page.samplesperpixel} samples in {kind}; the reader 'cucim' reads "
        "RGB in JPEG tiles.",
        hint=_OTHER_READERS,
    )
