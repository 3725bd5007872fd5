"""Slides with JPEG tiles through cuCIM: a GPU decodes the tiles, or cuCIM itself without one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from qupath_bridge.errors import MissingDependencyError, ReadError
from qupath_bridge.model import FIRST_PLANE, BoxArray, IntArray, PixelArray, Plane
from qupath_bridge.timing import step

from .base import Pixels
from .tile_decoders import is_whole_jpeg, whole_jpeg
from .tile_table import TileTable, find_pieces
from .tiles import TileReader

__all__ = ["BATCH_BYTES", "MAX_DIFFERENCE", "CucimReader"]

log = logging.getLogger("qupath_bridge")

BATCH_BYTES = 16 << 20
"""Pixels of tiles that a GPU decodes at once."""

MAX_DIFFERENCE = 8
"""Largest difference of a GPU's pixels to libjpeg's in the tiles that are compared, of 255.

Decoders round differently: by 1 to 3 on an H100. Wrong colours differ by far more.
"""

_OTHER_READERS = "Use another reader, for example 'tiles'."
_TRIES = 8  # tiles of a level that are looked at for one that can be compared


class CucimReader(TileReader):
    """Reads TIFF slides with RGB in JPEG tiles, decoded on an NVIDIA GPU where one answers.

    All but the decoding is that of the reader ``tiles``. On a GPU, nvImageCodec decodes the file
    tiles of a batch together; it is installed with cuCIM. Their pixels can differ from OpenSlide's
    by rounding. Without a GPU, cuCIM decodes them one by one, to OpenSlide's pixels. cuCIM's own
    GPU code is not used: it takes RGB in JPEG for YCbCr, enlarges colours without smoothing, and
    ends the process where tiles are not JPEG.

    When a slide is opened, a tile of each level is compared with that of the reader ``tiles``.

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
        open_image = _load_cucim()
        self._decoder: _Decoder | None = None  # the levels are settled without it
        self._ready: dict[tuple[int, int, int], PixelArray] = {}
        super().__init__(path)
        try:
            for level in range(len(self._layout.levels)):
                self._check_layout(level)
            self._decoder = self._start(open_image)
        except BaseException:
            self.close()
            raise
        self.variant = self._decoder.variant
        self._tables.clear()
        self._cache = self._find_cache(self.variant)  # its pixels may be others

    @staticmethod
    def can_open(path: Path) -> int:
        """Return 0: this reader is for those who name it, and ``auto`` takes another."""
        return 0

    def read_encoded(
        self, boxes: BoxArray, size: tuple[int, int], plane: Plane = FIRST_PLANE
    ) -> list[bytes | None]:
        """Return whole JPEG files as the reader ``tiles`` does; None if a GPU decodes."""
        exact = self._decoder is not None and self._decoder.tolerance == 0
        return super().read_encoded(boxes, size, plane) if exact else [None] * len(boxes)

    def _table(self, level: int, number: int) -> TileTable:
        known = (level, number) in self._tables
        table = super()._table(level, number)
        if self._decoder is not None and not known:
            decode = partial(_decode_one, self._decoder, (level, number), table)
            table = self._tables[level, number] = replace(table, decode=decode)
        return table

    def _read_samples(
        self, level: int, corners: IntArray, size: tuple[int, int], plane: Plane
    ) -> Pixels:
        if self._decoder is None or not self._decoder.in_batches:
            return super()._read_samples(level, corners, size, plane)
        place = level, self._plane_number(plane)
        table = self._table(*place)
        touched = np.unique(find_pieces(corners, size, table.tile, table.across)[:, 0])
        limit = _batch_size(table)
        if len(touched) > limit and len(corners) > 1:
            half = len(corners) // 2
            parts = (corners[:half], corners[half:])
            return _joined([self._read_samples(level, part, size, plane) for part in parts])
        found = self._read_batch(place, table, touched[:limit].tolist())
        if found:
            with step("decode"):
                decoded = self._decoder.decode(place, table, found)
            self._ready = {
                (*place, index): pixels
                for (index, _), pixels in zip(found, decoded, strict=True)
                if pixels is not None
            }
        try:
            return super()._read_samples(level, corners, size, plane)
        finally:
            self._ready = {}

    def _read_batch(
        self, place: tuple[int, int], table: TileTable, indices: Sequence[int]
    ) -> list[tuple[int, bytes]]:
        """Return number and data of tiles that are to be decoded, without those at fault."""
        found = []
        for index in indices:
            if self._cache.get((*place, index)) is not None or table.counts[0, index] == 0:
                continue
            try:
                data = self._data.read(table, 0, index)
            except ValueError:
                continue  # it is read again alone, and named
            if is_whole_jpeg(data, table.tile):
                found.append((index, data))
        return found

    def _decode(
        self, place: tuple[int, int], table: TileTable, index: int, out: PixelArray
    ) -> bool:
        ready = self._ready.get((*place, index))
        if ready is None:
            return super()._decode(place, table, index, out)
        out[:] = ready
        return True

    def _check_layout(self, level: int) -> None:
        """Refuse what is not 8-bit RGB in JPEG tiles."""
        if not self._table(level, 0).is_jpeg or not self._layout.is_rgb:
            key = self._layout.levels[level][0].page.keyframe
            name = getattr(key.compression, "name", str(key.compression))
            raise ReadError(
                f"{self._path}: {'tiles' if key.is_tiled else 'strips'} of {key.samplesperpixel} "
                f"samples in {name}; the reader 'cucim' reads RGB in JPEG tiles.",
                hint=_OTHER_READERS,
            )

    def _start(self, open_image: Any) -> _Decoder:
        """Return the first decoder that gives the right pixels."""
        for way in ("HW_GPU_ONLY", "HYBRID_CPU_GPU"):
            try:
                on_gpu = _GpuDecoder(way)
                self._verify(on_gpu)
            except Exception as error:  # noqa: BLE001  # drivers and libraries raise what they like
                log.info("%s: not decoded on a GPU: %s", self, error)
            else:
                return on_gpu
        decoder = _CpuDecoder(open_image, self._path, self._layout.sizes)
        try:
            self._verify(decoder)
        except BaseException:
            decoder.close()
            raise
        return decoder

    def _verify(self, decoder: _Decoder) -> None:
        """Refuse a decoder with other pixels than those of the reader ``tiles``."""
        for level, (width, height) in enumerate(self._layout.sizes):
            table = self._table(level, 0)
            for index in np.flatnonzero(table.counts[0] > 0)[:_TRIES].tolist():
                expected = np.empty((table.tile[1], table.tile[0], 3), np.uint8)
                found = np.empty_like(expected)
                try:
                    data = self._data.read(table, 0, index)
                    table.decode(data, index, expected)
                except Exception:  # noqa: BLE001, S112  # it is named where it is read
                    continue
                try:
                    _decode_one(decoder, (level, 0), table, data, index, found)
                except ValueError as error:
                    raise ReadError(f"{self._path}: {error}.", hint=_OTHER_READERS) from error
                row, column = divmod(index, table.across)
                shown = np.s_[: height - row * table.tile[1], : width - column * table.tile[0]]
                apart = np.abs(found[shown].astype(np.int16) - expected[shown]).max()
                if apart > decoder.tolerance:
                    raise ReadError(
                        f"{self._path}: {decoder.variant} decodes the tile at column {column}, "
                        f"row {row} of level {level} to other pixels than the reader 'tiles', "
                        f"{apart} of 255 apart.",
                        hint=_OTHER_READERS,
                    )
                break

    def _close(self) -> None:
        if self._decoder is not None:
            self._decoder.close()
        self._decoder = None
        super()._close()


class _Decoder(Protocol):
    """Decodes JPEG tiles.

    ``tolerance`` is how far the pixels may be from libjpeg's; ``in_batches`` whether many tiles
    take less time together.
    """

    variant: str
    tolerance: int
    in_batches: bool

    def decode(
        self, place: tuple[int, int], table: TileTable, tiles: Sequence[tuple[int, bytes]]
    ) -> list[PixelArray | None]:
        """Decode tiles of one plane of a level.

        Parameters
        ----------
        place : (int, int)
            Level and plane.
        table : TileTable
        tiles : sequence of (int, bytes)
            Number and data of each.

        Returns
        -------
        list of array (h, w, 3) or None
            None for a tile that cannot be decoded. Of several they are valid until the next call
            with several.
        """
        ...

    def close(self) -> None:
        """Let go of what it holds."""
        ...


class _CpuDecoder:
    """cuCIM's own decoder. It reads the file itself, by place; its pixels are libjpeg's."""

    tolerance = 0
    in_batches = False

    def __init__(self, open_image: Any, path: Path, sizes: Sequence[tuple[int, int]]) -> None:
        self.variant = f"cpu, cuCIM {_version('cucim')}"
        try:
            self._image = open_image(str(path))
        except Exception as error:
            raise ReadError(
                f"{path}: cuCIM cannot open it: {error}.", hint=_OTHER_READERS
            ) from error
        resolutions = self._image.resolutions
        known = list(resolutions["level_dimensions"])
        if not set(sizes) <= set(known):
            self._image.close()
            raise ReadError(
                f"{path}: cuCIM sees {len(known)} of its {len(sizes)} levels.", hint=_OTHER_READERS
            )
        self._sizes, self._numbers = sizes, [known.index(size) for size in sizes]
        # cuCIM divides places in level 0 by this number, in 32 bits, and cuts to whole pixels.
        self._downsamples = np.array(resolutions["level_downsamples"], np.float32)

    def decode(
        self, place: tuple[int, int], table: TileTable, tiles: Sequence[tuple[int, bytes]]
    ) -> list[PixelArray | None]:
        """Decode tiles one by one: in batches of cuCIM an error ends the process."""
        level, plane = place
        found: list[PixelArray | None] = []
        for index, _ in tiles:
            row, column = divmod(index, table.across)
            corner = np.array([column, row]) * table.tile
            size = np.minimum(table.tile, self._sizes[level] - corner)
            try:
                region = self._image.read_region(
                    self._location(corner, level), size.tolist(), self._numbers[level]
                )
                # A copy: cuCIM frees the memory of the region.
                found.append(np.array(region) if plane == 0 else None)
            except (RuntimeError, ValueError):
                found.append(None)
        return found

    def close(self) -> None:
        """Close cuCIM's file."""
        self._image.close()

    def _location(self, corner: Any, level: int) -> list[int]:
        """Return the place in level 0 that cuCIM takes to a corner in a level."""
        factor = np.float64(self._downsamples[self._numbers[level]])
        place: list[int] = np.ceil(corner * factor).astype(np.int64).tolist()
        return place


class _GpuDecoder:
    """nvImageCodec on the current GPU, by one of its ways only: each rounds in its own way.

    Parameters
    ----------
    way : str
        ``"HW_GPU_ONLY"``, the JPEG engine that some GPUs have, or ``"HYBRID_CPU_GPU"``.
    """

    tolerance = MAX_DIFFERENCE
    in_batches = True

    def __init__(self, way: str) -> None:
        import cupy

        cupy.cuda.runtime.getDeviceCount()  # raises where no GPU answers
        from cupyx import empty_pinned
        from nvidia import nvimgcodec

        self._cupy, self._codec = cupy, nvimgcodec
        self._pinned, self._stream = empty_pinned, cupy.cuda.Stream(non_blocking=True)
        self._decoder = nvimgcodec.Decoder(
            max_num_cpu_threads=1, backends=[nvimgcodec.Backend(getattr(nvimgcodec, way))]
        )
        # RGB is taken for YCbCr. It stays as it is where YCbCr is asked for.
        self._colors = {
            space: nvimgcodec.DecodeParams(apply_exif_orientation=False, color_spec=wanted)
            for space, wanted in (
                ("RGB", nvimgcodec.ColorSpec.SYCC),
                ("YCBCR", nvimgcodec.ColorSpec.SRGB),
                (None, nvimgcodec.ColorSpec.SRGB),
            )
        }
        self._buffer: PixelArray | None = None
        self.variant = f"cuda {way}, nvImageCodec {nvimgcodec.__version__}"

    def decode(
        self, place: tuple[int, int], table: TileTable, tiles: Sequence[tuple[int, bytes]]
    ) -> list[PixelArray | None]:
        """Decode tiles together."""
        files = [whole_jpeg(data, table.jpeg_tables, None) for _, data in tiles]
        streams = [self._codec.CodeStream(file) for file in files]
        images = self._decoder.decode(
            streams, params=self._colors[table.jpeg_space], cuda_stream=self._stream.ptr
        )
        if len(images) == 1:
            return [None if image is None else np.asarray(image.cpu()) for image in images]
        shape = (_batch_size(table), table.tile[1], table.tile[0], 3)
        if self._buffer is None or self._buffer.shape != shape:
            self._buffer = self._pinned(shape, np.uint8)  # a GPU copies to it at once
        found: list[PixelArray | None] = []
        for image, out in zip(images, self._buffer, strict=False):
            if image is not None and image.shape == out.shape:
                self._cupy.asarray(image).get(self._stream, out=out, blocking=False)
                found.append(out)
            else:
                found.append(None)
        self._stream.synchronize()
        return found

    def close(self) -> None:
        """Give the buffer back."""
        self._buffer = None


def _decode_one(
    decoder: _Decoder,
    place: tuple[int, int],
    table: TileTable,
    data: bytes,
    index: int,
    out: PixelArray,
) -> None:
    """Decode a tile into an array, as :data:`~qupath_bridge.readers.tile_decoders.Decoder` says."""
    if not is_whole_jpeg(data, table.tile):
        raise ValueError("it is not a JPEG image of a tile's size with an end")
    (pixels,) = decoder.decode(place, table, [(index, data)])
    if pixels is None or pixels.shape[0] > out.shape[0] or pixels.shape[1] > out.shape[1]:
        raise ValueError(f"{decoder.variant} does not decode it")
    out[: pixels.shape[0], : pixels.shape[1]] = pixels


def _batch_size(table: TileTable) -> int:
    return max(BATCH_BYTES // (table.tile[0] * table.tile[1] * 3), 1)


def _joined(parts: Sequence[Pixels]) -> Pixels:
    """Return batches as one."""
    pixels = np.concatenate([own for own, _ in parts])
    if all(mask is None for _, mask in parts):
        return pixels, None
    return pixels, np.concatenate(
        [np.ones(own.shape[:3], np.bool_) if mask is None else mask for own, mask in parts]
    )


def _load_cucim() -> Any:
    """Import cuCIM and return what opens a file."""
    try:
        from cucim import CuImage
    except Exception as error:  # a part of it that does not fit raises whatever it likes
        raise MissingDependencyError(
            f"The reader 'cucim' needs cuCIM, which cannot be imported: {error}.",
            hint="Install it, on Linux: pip install cucim-cu12. For a GPU also: pip install "
            "'nvidia-nvimgcodec-cu12[nvjpeg]'.",
        ) from error
    return CuImage


def _version(module: str) -> str:
    """Return the version of the package that has a module: its name has that of CUDA in it."""
    names = metadata.packages_distributions().get(module, [])
    return metadata.version(names[0]) if names else "of unknown version"
