"""Zarr (version 3): one group per slide, with its patches as one array in shards.

The layout is that of https://zarr-specs.readthedocs.io: a shard holds chunks one after the other,
and behind them an index of their places. As chunks are not compressed, all places are known when a
patch is written, and no library is needed.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from qupath_bridge.codecs.raw import little_endian
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
_COMPANIONS = (_META, f"images/{_META}", f"coords/{_META}", f"index_row/{_META}",
               "coords/c/0/0", "index_row/c/0")  # fmt: skip
_NAME = re.compile(
    rf"{PATCHES}(?P<slide>[^/]+)\.zarr/(images/c/[0-9]+/0/0/0|{'|'.join(_COMPANIONS)})".replace(
        _META, re.escape(_META)
    )
)


@dataclass(slots=True)
class _Slide:
    """A slide that is written; ``held`` patches are in the shard that is not full yet."""

    arrays: Arrays
    draft: Draft | None = None
    held: int = 0
    shards: int = 0
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

    def __init__(self, place: str | Path | Store, argument: str | None = None) -> None:
        no_argument(self.name, argument)
        super().__init__(place)

    def _start(self, slide_id: str) -> _Slide:
        return _Slide(Arrays(slide_id))

    def _write(self, pending: _Slide, patch: PatchRef, payload: PixelArray) -> Location:
        _check_whole(pending)
        pending.arrays.add(payload)
        pending.broken = True  # until all of this is done
        length = payload.nbytes
        if pending.held == patches_per_shard(length):
            self._complete(pending, length)
        if pending.draft is None:
            pending.draft = self.store.draft(self._shard(pending).rpartition("/")[0])
        path, offset = self._shard(pending), pending.held * length
        pending.draft.write(little_endian(payload).data.cast("B"))
        pending.held += 1
        pending.broken = False
        return Location(path, offset, length)

    def _complete(self, pending: _Slide, length: int) -> None:
        """Give the shard that is being written its index and its name."""
        if pending.draft is None:
            return
        places = [(n * length, length) for n in range(pending.held)]
        places += [(_EMPTY, _EMPTY)] * (patches_per_shard(length) - len(places))
        index = b"".join(struct.pack("<QQ", *place) for place in places)
        pending.draft.write(index + struct.pack("<I", crc32c(index)))
        name = self._shard(pending)
        pending.shards += 1  # first: a rename that fails is taken back too
        pending.draft.publish(name)
        pending.draft, pending.held = None, 0

    def _shard(self, pending: _Slide, number: int | None = None) -> str:
        at = pending.shards if number is None else number
        return f"{PATCHES}{pending.arrays.slide_id}.zarr/images/c/{at}/0/0/0"

    def _finish(self, pending: _Slide) -> Mapping[str, str]:
        _check_whole(pending)
        if pending.arrays.shape is not None:
            self._complete(pending, pending.arrays.patch_bytes)
        return {}

    def _placed(self, pending: _Slide, rows: pa.Table) -> pa.Table:
        shape = pending.arrays.shape
        written = [self._shard(pending, number) for number in range(pending.shards)]
        check_written(pending.arrays.slide_id, rows, written)
        if shape is None or not rows.num_rows:
            return rows
        length = pending.arrays.patch_bytes
        shards = [int(path.split("/")[-4]) for path in rows.column("path").to_pylist()]
        numbers = np.array(shards) * patches_per_shard(length) + offsets_of(rows) // length
        pending.arrays.place(numbers, rows)
        return rows

    def _publish(self, pending: _Slide) -> None:
        arrays = pending.arrays
        if arrays.shape is None or arrays.dtype is None or not arrays.rows:
            return
        pending.described = True
        group = f"{PATCHES}{arrays.slide_id}.zarr/"
        shard = (patches_per_shard(arrays.patch_bytes), *arrays.shape)
        for name, array, data_type, axes in (
            ("coords", arrays.coords, "int64", ("patch", "xy")),
            ("index_row", arrays.index_row, "int64", ("patch",)),
        ):
            chunk = "/".join("0" * array.ndim)
            self.store.put(f"{group}{name}/c/{chunk}", array.astype("<i8").tobytes())
            about = _array(array.shape, data_type, array.shape, [_BYTES], axes)
            if name == "coords":
                about["attributes"] = arrays.attributes
            self.store.put(f"{group}{name}/{_META}", _json(about))
        inner = {
            "chunk_shape": [1, *arrays.shape],
            "codecs": [_BYTES],
            "index_codecs": [_BYTES, {"name": "crc32c"}],
            "index_location": "end",
        }
        codecs = [{"name": "sharding_indexed", "configuration": inner}]
        shape = (arrays.count, *arrays.shape)
        images = ("patch", "y", "x", "channel")
        about = _array(shape, arrays.dtype.name, shard, codecs, images)
        about["attributes"] = {"channels": arrays.channels}
        self.store.put(f"{group}images/{_META}", _json(about))
        about = {"zarr_format": 3, "node_type": "group", "attributes": {}}
        self.store.put(f"{group}{_META}", _json(about))

    def _cancel(self, pending: _Slide) -> None:
        if pending.draft is not None:
            pending.draft.discard()

    def _files(self, pending: _Slide) -> list[str]:
        shards = [self._shard(pending, number) for number in range(pending.shards)]
        described = self._companions(pending.arrays.slide_id) if pending.described else ()
        return [*shards, *described]

    def _companions(self, slide_id: str) -> Collection[str]:
        return [f"{PATCHES}{slide_id}.zarr/{name}" for name in _COMPANIONS]

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
