"""Zarr (version 3): one group per slide, with its patches as one array in shards.

The layout is that of https://zarr-specs.readthedocs.io: a shard holds chunks one after the other,
and behind them an index of their places. As chunks are not compressed, all places are known when a
patch is written, and no library is needed.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from qupath_bridge.codecs.raw import little_endian
from qupath_bridge.config.masks import MASK_KINDS
from qupath_bridge.errors import OutputError
from qupath_bridge.model import PixelArray

from .arrays import Arrays, check_written, offsets_of
from .base import Location, PatchRef
from .stored import PATCHES, StoredOutput, no_argument

if TYPE_CHECKING:
    from qupath_bridge.stores.base import Draft, Store

__all__ = ["ZarrOutput", "crc32c"]

SHARD_BYTES = 16 << 20
MOST_PATCHES = 64
_EMPTY = 2**64 - 1  # offset and length of a chunk that a shard does not have

_META = "zarr.json"
IMAGES = "images"
_MASKS = tuple(kind.column for kind in MASK_KINDS)
_COMPANIONS = (_META, f"{IMAGES}/{_META}", f"coords/{_META}", f"index_row/{_META}",
               "coords/c/0/0", "index_row/c/0")  # fmt: skip
_NAME = re.compile(
    rf"{PATCHES}(?P<slide>[^/]+)\.zarr/({IMAGES}/c/[0-9]+/0/0/0"
    rf"|({'|'.join(_MASKS)})/(c/[0-9]+/0/0|zarr\.json)"
    rf"|{'|'.join(map(re.escape, _COMPANIONS))})"
)


@dataclass(slots=True)
class _Series:
    """Parts of one array that are written; ``held`` of them are in the shard that is not full."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    draft: Draft | None = None
    held: int = 0
    shards: int = 0

    @property
    def length(self) -> int:
        """Bytes of one part."""
        return math.prod(self.shape) * self.dtype.itemsize

    def shard(self, number: int | None = None) -> str:
        """Return the name of a shard in its group, the one that is not full when not given."""
        at = self.shards if number is None else number
        return f"{self.name}/c/{at}{'/0' * len(self.shape)}"


@dataclass(slots=True)
class _Slide:
    """A slide that is written: its arrays of patches and of masks, by name."""

    arrays: Arrays
    series: dict[str, _Series] = field(default_factory=dict)
    broken: bool = False
    described: bool = False


class ZarrOutput(StoredOutput[_Slide]):
    """Writes the patches of a slide into the group ``patches/<slide>.zarr``.

    The arrays are described in ``outputs/arrays.py``. A shard of ``images`` holds 64 patches, or
    fewer if they are large.

    Parameters
    ----------
    place : str, Path or Store
        A folder, a URL, or a store.
    argument : None
        The output ``zarr`` takes none.

    Raises
    ------
    UsageError
        If there is an argument.
    """

    name = "zarr"
    accepts: Literal["bytes", "array"] = "array"
    holds_masks = True

    def __init__(self, place: str | Path | Store, argument: str | None = None) -> None:
        no_argument(self.name, argument)
        super().__init__(place)

    def _start(self, slide_id: str) -> _Slide:
        return _Slide(Arrays(slide_id))

    def _write(self, pending: _Slide, patch: PatchRef, payload: PixelArray) -> Location:
        _check_whole(pending)
        name = IMAGES if patch.mask is None else patch.mask.column
        if patch.mask is None:
            pending.arrays.add(payload)
        series = pending.series.get(name)
        if series is None:
            series = pending.series[name] = _Series(name, payload.shape, payload.dtype)
        pending.broken = True  # until all of this is done
        if series.held == patches_per_shard(series.length):
            self._complete(pending, series)
        path = self._path(pending, series.shard())
        if series.draft is None:
            series.draft = self.store.draft(path.rpartition("/")[0])
        offset = series.held * series.length
        series.draft.write(little_endian(payload).data.cast("B"))
        series.held += 1
        pending.broken = False
        return Location(path, offset, series.length)

    def _complete(self, pending: _Slide, series: _Series) -> None:
        """Give the shard that is being written its index and its name."""
        if series.draft is None:
            return
        length = series.length
        places = [(n * length, length) for n in range(series.held)]
        places += [(_EMPTY, _EMPTY)] * (patches_per_shard(length) - len(places))
        index = b"".join(struct.pack("<QQ", *place) for place in places)
        series.draft.write(index + struct.pack("<I", crc32c(index)))
        name = self._path(pending, series.shard())
        series.shards += 1  # first: a rename that fails is taken back too
        series.draft.publish(name)
        series.draft, series.held = None, 0

    def _path(self, pending: _Slide, name: str) -> str:
        return f"{PATCHES}{pending.arrays.slide_id}.zarr/{name}"

    def _shards(self, pending: _Slide) -> list[str]:
        """Return the names of the shards that are complete."""
        return [
            self._path(pending, series.shard(number))
            for series in pending.series.values()
            for number in range(series.shards)
        ]

    def _finish(self, pending: _Slide) -> Mapping[str, str]:
        _check_whole(pending)
        for series in pending.series.values():
            self._complete(pending, series)
        return {}

    def _placed(self, pending: _Slide, rows: pa.Table) -> pa.Table:
        check_written(pending.arrays.slide_id, rows, self._shards(pending))
        if pending.arrays.shape is None or not rows.num_rows:
            return rows
        length = pending.arrays.patch_bytes
        shards = [int(path.split("/")[-4]) for path in rows.column("path").to_pylist()]
        numbers = np.array(shards) * patches_per_shard(length) + offsets_of(rows) // length
        pending.arrays.place(numbers, rows)
        return rows

    def _publish(self, pending: _Slide) -> None:
        arrays = pending.arrays
        if not pending.series or not arrays.rows:
            return
        pending.described = True
        for name, array, axes in (
            ("coords", arrays.coords, ("patch", "xy")),
            ("index_row", arrays.index_row, ("patch",)),
        ):
            chunk = "/".join("0" * array.ndim)
            self.store.put(self._path(pending, f"{name}/c/{chunk}"), array.astype("<i8").tobytes())
            about = _array(array.shape, "int64", array.shape, [_BYTES], axes)
            if name == "coords":
                about["attributes"] = arrays.attributes
            self.store.put(self._path(pending, f"{name}/{_META}"), _json(about))
        for series in pending.series.values():
            about = _sharded(series, arrays.count)
            if series.name == IMAGES:
                about["attributes"] = {"channels": arrays.channels}
            self.store.put(self._path(pending, f"{series.name}/{_META}"), _json(about))
        about = {"zarr_format": 3, "node_type": "group", "attributes": {}}
        self.store.put(self._path(pending, _META), _json(about))

    def _cancel(self, pending: _Slide) -> None:
        for series in pending.series.values():
            if series.draft is not None:
                series.draft.discard()

    def _files(self, pending: _Slide) -> list[str]:
        about = self._companions(pending.arrays.slide_id, tuple(pending.series))
        return [*self._shards(pending), *(about if pending.described else ())]

    def _companions(self, slide_id: str, columns: Sequence[str]) -> Collection[str]:
        masks = [f"{name}/{_META}" for name in _MASKS if name in columns]
        return [f"{PATCHES}{slide_id}.zarr/{name}" for name in (*_COMPANIONS, *masks)]

    def _slide_of(self, name: str) -> str | None:
        match = _NAME.fullmatch(name)
        return match["slide"] if match else None

    def _own_names(self) -> re.Pattern[str]:
        return _NAME


def _check_whole(pending: _Slide) -> None:
    if pending.broken:
        raise OutputError(
            f"A shard of {pending.arrays.slide_id} was not written completely.",
            hint="Export this slide again.",
        )


def patches_per_shard(length: int) -> int:
    """Return how many patches of some bytes a shard holds.

    >>> patches_per_shard(256 * 256 * 3), patches_per_shard(1024 * 1024 * 3)
    (64, 5)
    """
    return max(1, min(MOST_PATCHES, SHARD_BYTES // length))


_BYTES = {"name": "bytes", "configuration": {"endian": "little"}}


def _sharded(series: _Series, count: int) -> dict[str, Any]:
    """Return the description of an array of patches or of masks."""
    inner = {
        "chunk_shape": [1, *series.shape],
        "codecs": [_BYTES],
        "index_codecs": [_BYTES, {"name": "crc32c"}],
        "index_location": "end",
    }
    codecs = [{"name": "sharding_indexed", "configuration": inner}]
    shard = (patches_per_shard(series.length), *series.shape)
    axes = ("patch", "y", "x", "channel")[: 1 + len(series.shape)]
    return _array((count, *series.shape), series.dtype.name, shard, codecs, axes)


def _array(
    shape: Sequence[int],
    data_type: str,
    chunk: Sequence[int],
    codecs: Sequence[Mapping[str, Any]],
    axes: Sequence[str],
) -> dict[str, Any]:
    """Return the description of an array."""
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": list(codecs),
        "attributes": {},
        "dimension_names": list(axes),
    }


def _json(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, indent=2, ensure_ascii=False).encode()


def crc32c(data: bytes) -> int:
    """Return the checksum of the index of a shard: CRC-32 by Castagnoli's polynomial.

    >>> f"{crc32c(b'123456789'):x}"
    'e3069283'
    """
    rest, table = 0xFFFFFFFF, _table()
    for byte in data:
        rest = table[(rest ^ byte) & 0xFF] ^ (rest >> 8)
    return rest ^ 0xFFFFFFFF


@cache
def _table() -> tuple[int, ...]:
    found = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        found.append(byte)
    return tuple(found)
