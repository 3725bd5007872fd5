"""Parquet: patches as rows of tables, with their labels and places beside them.

The files of a slide are ``patches/slide_id=<slide>/part-<number>-<digest>.parquet``: the folder
``patches`` is one dataset for whatever reads partitions of that form. A column ``image`` holds the
bytes of a patch as Hugging Face's libraries hold pictures, columns ``mask`` and ``mask_instance``
those of its masks, and :mod:`.dataset_card` describes the others to them. The bytes are stored as
they are, so that the index can say where they are.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from qupath_bridge.config.masks import MASK_KINDS
from qupath_bridge.schemas import parse_json

from .arrays import Numbers, check_written, offsets_of, with_offsets
from .base import Location, PatchRef
from .dataset_card import CARD, card_of, notes_of
from .row_batches import places_in
from .shards import DEFAULT_SIZE, Shard, check_whole, parse_size
from .stored import PATCHES, StoredOutput

if TYPE_CHECKING:
    from qupath_bridge.stores.base import Data, Store

__all__ = ["PICTURE", "ParquetOutput", "columns_of"]

GROUP_BYTES, GROUP_ROWS = 32 << 20, 1024
"""Size from which, and number at which, patches become a row group: what is held in memory."""

_NAME = re.compile(rf"{PATCHES}slide_id=(?P<slide>[^/]+)/part-[0-9]{{6,}}-[0-9a-f]{{16}}\.parquet")
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""Type of a column of pictures, as Hugging Face's libraries have it."""
_PLAIN = {
    f"{column}.{part}"
    for column in ("image", *(kind.column for kind in MASK_KINDS))
    for part in ("bytes", "path")
}
"""Columns that are stored as they are; the others are compressed."""


def columns_of(*, multi: bool, masks: Iterable[str] = ()) -> dict[str, pa.DataType]:
    """Return the columns of the files.

    ``multi`` says whether labels are lists, ``masks`` are the columns of masks.
    """
    share = pa.struct([("name", pa.string()), ("share", pa.float64())])
    return {
        "image": PICTURE,
        **dict.fromkeys(masks, PICTURE),
        "label": pa.list_(pa.string()) if multi else pa.string(),
        "shares": pa.list_(share),
        "patch_id": pa.string(),
        "slide_id": pa.string(),
        "entry_id": pa.string(),
        "tile_uuid": pa.string(),
        **dict.fromkeys(("x_qupath", "y_qupath", "w_qupath", "h_qupath", "z", "t"), pa.int32()),
        "mpp": pa.float64(),
    }


@dataclass(slots=True)
class _Slide:
    """A slide that is written; ``offsets`` are those of its patches and masks, as written."""

    slide_id: str
    part: _Part | None = None
    final: dict[str, str] = field(default_factory=dict)
    offsets: list[int] = field(default_factory=list)
    broken: bool = False


class ParquetOutput(StoredOutput[_Slide]):
    """Writes the patches of a slide as rows of Parquet files.

    A file has the digest of its bytes in its name, so that other contents never take the place of
    one that committed rows list; ``write`` gives a placeholder for path and place, which ``commit``
    replaces.

    Parameters
    ----------
    place : str, Path or Store
        A folder, a URL, or a store.
    argument : str, optional
        Size at which a file ends: ``256MB`` (default), ``1GB``, ``64MiB``. It has one patch at
        least, and ends with a row group.

    Raises
    ------
    UsageError
        If the argument is not a size.
    """

    name = "parquet"
    wants_records = True
    holds_masks = True

    def __init__(self, place: str | Path | Store, argument: str | None = None) -> None:
        self.part_size = DEFAULT_SIZE if argument is None else parse_size(self.name, argument)
        super().__init__(place, argument)

    def put(self, name: str, data: Data, *, durable: bool = False) -> None:
        """Write a record or side file; the record of the run gets a description beside it."""
        super().put(name, data, durable=durable)
        if name == "run.json":
            self._describe(self.store.get(name))

    def _describe(self, record: bytes) -> None:
        """Write the card, which numbers the labels of the run, once there is a file."""
        try:
            labels = list(parse_json(record)["labels"])
        except (ValueError, KeyError, TypeError):
            return  # not a whole record: whoever reads it says so
        first = next(filter(_NAME.fullmatch, self.store.list(PATCHES)), None)
        if first is not None:
            self.store.put(CARD, card_of(_schema_of(self.store, first), labels))

    def _start(self, slide_id: str) -> _Slide:
        return _Slide(slide_id)

    def _write(self, pending: _Slide, patch: PatchRef, payload: bytes) -> Location:
        check_whole(pending.slide_id, broken=pending.broken)
        pending.broken = True  # until all of this is done
        part = pending.part
        full = part is not None and part.size + len(payload) > self.part_size
        if full and patch.mask is None:  # a mask stays with its patch
            self._complete(pending)
            part = None
        if part is None:
            number = len(pending.final)
            folder = f"{PATCHES}slide_id={pending.slide_id}"
            shard = Shard(self.store.draft(folder), f"{folder}/unfinished-{number:06d}.parquet")
            part = pending.part = _Part(shard, pending.offsets)
        part.add(patch, payload)
        location = Location(part.shard.placeholder, len(pending.offsets) - 1, len(payload))
        pending.broken = False
        return location

    def _complete(self, pending: _Slide) -> None:
        """Give the file that is being written its end and its name."""
        if pending.part is None:
            return
        shard = pending.part.shard
        pending.part.close()
        number = len(pending.final)
        name = (
            f"{PATCHES}slide_id={pending.slide_id}/"
            f"part-{number:06d}-{shard.digest.hexdigest()}.parquet"
        )
        pending.final[shard.placeholder] = name  # first: a rename that fails is taken back too
        shard.draft.publish(name, durable=True)
        pending.part = None

    def _finish(self, pending: _Slide) -> Mapping[str, str]:
        check_whole(pending.slide_id, broken=pending.broken)
        pending.broken = True
        self._complete(pending)
        pending.broken = False
        return pending.final

    def _placed(self, pending: _Slide, rows: pa.Table) -> pa.Table:
        check_written(pending.slide_id, rows, set(pending.final.values()))
        offsets: Numbers = np.array(pending.offsets, np.int64)
        for _, column, _ in places_in(rows.column_names):
            rows = with_offsets(rows, offsets[offsets_of(rows, column)], column)
        return rows

    def _cancel(self, pending: _Slide) -> None:
        if pending.part is not None:
            pending.part.shard.draft.discard()

    def _files(self, pending: _Slide) -> list[str]:
        return list(pending.final.values())

    def _slide_of(self, name: str) -> str | None:
        match = _NAME.fullmatch(name)
        return match["slide"] if match else None

    def _own_names(self) -> re.Pattern[str]:
        return _NAME


def _schema_of(store: Store, name: str) -> pa.Schema:
    """Return the columns of a file, of which the end is read alone."""
    size = store.size(name)
    length = int.from_bytes(store.get_range(name, size - 8, 4), "little")
    end = store.get_range(name, size - 8 - length, length + 8)
    return pq.read_schema(pa.BufferReader(b"PAR1" + end))


class _Held(NamedTuple):
    """A row that is not in the file yet, and the numbers of its pictures by their columns."""

    row: dict[str, Any]
    numbers: dict[str, int]


class _Part:
    """A file that is being written: some patches are held until they fill a row group.

    The offset of each picture is put to its number in ``offsets`` once it is in the file.
    """

    def __init__(self, shard: Shard, offsets: list[int]) -> None:
        self.shard = shard
        self._offsets = offsets
        self._written = _Collected()
        self._writer: pq.ParquetWriter | None = None
        self._schema: pa.Schema | None = None
        self._rows: list[_Held] = []
        self._held = 0

    @property
    def size(self) -> int:
        """Bytes of the patches until now, and what is around those that are in the file."""
        return self.shard.size + self._held

    def add(self, patch: PatchRef, payload: bytes) -> None:
        """Add a patch, or a mask of the patch that was added before."""
        picture = {"bytes": payload, "path": patch.name.rpartition("/")[2]}
        if patch.mask is None:
            if self._held >= GROUP_BYTES or len(self._rows) == GROUP_ROWS:
                self._flush()
            self._rows.append(_Held(_row(patch), {}))
        column = "image" if patch.mask is None else patch.mask.column
        row, numbers = self._rows[-1]
        row[column], numbers[column] = picture, len(self._offsets)
        self._offsets.append(-1)
        self._held += len(payload)

    def close(self) -> None:
        """Write what is left and the end of the file."""
        self._flush()
        if self._writer is not None:
            self._writer.close()
        self.shard.write(self._written.take())

    def _flush(self) -> None:
        if not self._rows:
            return
        if self._writer is None:
            self._schema = _schema_for(self._rows[0].row)
            settings = _settings(self._schema)
            self._writer = pq.ParquetWriter(self._written, self._schema, **settings)
        self._writer.write_table(pa.Table.from_pylist([row for row, _ in self._rows], self._schema))
        begin, content, at = self.shard.size, self._written.take(), 0
        for column in self._rows[0].numbers:  # one column of a row group stands behind the other
            pictures = [row[column]["bytes"] for row, _ in self._rows]
            places = find_in_order(content, pictures, at)
            for (_, numbers), place in zip(self._rows, places, strict=True):
                self._offsets[numbers[column]] = begin + place
            at = places[-1] + len(pictures[-1])
        self._rows, self._held = [], 0
        self.shard.write(content)


def _schema_for(row: Mapping[str, Any]) -> pa.Schema:
    """Return the columns of a file whose first row is this, and what says which are pictures."""
    masks = [kind.column for kind in MASK_KINDS if kind.column in row]
    columns = columns_of(multi=isinstance(row["label"], list | tuple), masks=masks)
    pictures = {column: row[column]["bytes"] for column in ("image", *masks)}
    return pa.schema(list(columns.items())).with_metadata(notes_of(pictures))


class _Collected(io.RawIOBase):
    """A file that hands out what was written to it since the last time."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        self._size += len(data)
        return len(data)

    def tell(self) -> int:
        return self._size

    def take(self) -> bytes:
        """Return the bytes that were written since the last call."""
        content, self._pieces = b"".join(self._pieces), []
        return content


def _settings(schema: pa.Schema) -> dict[str, Any]:
    """Return how columns are stored: bytes of patches as they are, one after the other."""
    leaves = [path for name in schema.names for path in _leaves(name, schema.field(name).type)]
    return {
        "version": "2.6",
        "compression": {path: "NONE" if path in _PLAIN else "ZSTD" for path in leaves},
        "use_dictionary": [path for path in leaves if path not in _PLAIN],
        "write_statistics": [path for path in leaves if path not in _PLAIN],
    }


def _leaves(name: str, kind: pa.DataType) -> list[str]:
    """Return the paths of the columns that a field is stored in."""
    if pa.types.is_struct(kind):
        return [path for each in kind for path in _leaves(f"{name}.{each.name}", each.type)]
    if pa.types.is_list(kind):
        return _leaves(f"{name}.list.element", kind.value_type)
    return [name]


def _row(patch: PatchRef) -> dict[str, Any]:
    """Return the row of a patch, without its pictures."""
    record = patch.record or {}
    box, plane = record.get("box") or [None] * 4, record.get("plane") or [None] * 2
    boxed = zip(("x_qupath", "y_qupath", "w_qupath", "h_qupath", "z", "t"), [*box, *plane],
                strict=True)  # fmt: skip
    shares = record.get("shares")
    return {
        "patch_id": patch.patch_id,
        "slide_id": patch.slide_id,
        "shares": None if shares is None else [{"name": k, "share": v} for k, v in shares.items()],
        **{name: record.get(name) for name in ("label", "entry_id", "tile_uuid", "mpp")},
        **dict(boxed),
    }


def find_in_order(content: bytes, parts: Sequence[bytes], start: int = 0) -> list[int]:
    r"""Return where parts begin in bytes that have them in order, each behind its length.

    They are behind ``start``.

    Examples
    --------
    >>> find_in_order(b"head\2\0\0\0ab page\1\0\0\0b", [b"ab", b"b"])
    [8, 19]
    """
    places, at = [], start
    for part in parts:
        at = content.index(len(part).to_bytes(4, "little") + part, at) + 4
        places.append(at)
        at += len(part)
    return places
