"""HDF5: one file per slide, with its patches as one array."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import h5py
import numpy as np
import pyarrow as pa

from qupath_bridge.codecs.raw import little_endian
from qupath_bridge.errors import OutputError
from qupath_bridge.model import PixelArray

from .arrays import Arrays, Numbers, check_written, offsets_of, with_offsets
from .base import Location, PatchRef
from .row_batches import places_in
from .stored import PATCHES, StoredOutput, no_argument

if TYPE_CHECKING:
    from qupath_bridge.stores.base import Draft, Store

__all__ = ["H5Output"]

_NAME = re.compile(rf"{PATCHES}(?P<slide>[^/]+)\.h5")
IMAGES = "images"
_GROWTH = 1024  # patches by which the array grows while it is written
_PIECE = 1 << 20


@dataclass(slots=True)
class _Slide:
    """A slide that is written: its file is made with the first patch.

    ``data`` has the arrays of patches and of masks by name, ``offsets`` where their parts begin.
    """

    arrays: Arrays
    draft: Draft | None = None
    path: str = ""
    file: Any = None
    data: dict[str, Any] = field(default_factory=dict)
    offsets: dict[str, Numbers] = field(default_factory=dict)
    published: bool = False


class H5Output(StoredOutput[_Slide]):
    """Writes the patches of a slide into ``patches/<slide>.h5``: ``images``, ``coords``, masks.

    The arrays are described in ``outputs/arrays.py``. Each patch is one chunk that is not
    compressed, so that the index can say where its bytes are. The file has a temporary name until
    the slide is committed; then it takes the place of an earlier one.

    Parameters
    ----------
    place : str, Path or Store
        A folder, a URL, or a store.
    argument : None
        The output ``h5`` takes none.

    Raises
    ------
    UsageError
        If there is an argument.
    """

    name = "h5"
    holds_masks = True
    accepts: Literal["bytes", "array"] = "array"

    def __init__(self, place: str | Path | Store, argument: str | None = None) -> None:
        no_argument(self.name, argument)
        super().__init__(place)

    def _start(self, slide_id: str) -> _Slide:
        return _Slide(Arrays(slide_id))

    def _write(self, pending: _Slide, patch: PatchRef, payload: PixelArray) -> Location:
        name = IMAGES if patch.mask is None else patch.mask.column
        arrays = pending.arrays
        number = arrays.add(payload) if patch.mask is None else arrays.count - 1
        with _errors_of(self._name_of(pending)):
            if pending.file is None:
                self._open(pending)
            data = pending.data.get(name)
            if data is None:
                data = pending.data[name] = _new_array(pending.file, name, payload)
            if number >= len(data):
                data.resize(number + _GROWTH, 0)
            at = (number,) + (0,) * payload.ndim
            data.id.write_direct_chunk(at, little_endian(payload))
        return Location(self._name_of(pending), number, payload.nbytes)

    def _open(self, pending: _Slide) -> None:
        pending.draft = self.store.draft(PATCHES.rstrip("/"))
        path = getattr(pending.draft, "path", None)
        if path is None:  # a store that cannot hold a file that is written in any order
            handle, path = tempfile.mkstemp(suffix=".h5")
            os.close(handle)
        pending.path = path
        pending.file = h5py.File(path, "w", locking=False)

    def _finish(self, pending: _Slide) -> Mapping[str, str]:
        if pending.file is not None:
            with _errors_of(self._name_of(pending)):
                for name, data in pending.data.items():
                    data.resize(pending.arrays.count, 0)
                    pending.offsets[name] = _chunk_offsets(data, pending.arrays.count)
        return {}

    def _placed(self, pending: _Slide, rows: pa.Table) -> pa.Table:
        written = (self._name_of(pending),) if pending.offsets else ()
        check_written(pending.arrays.slide_id, rows, written)
        if not pending.offsets or not rows.num_rows:
            return rows
        pending.arrays.place(offsets_of(rows), rows)
        for column, offset, _ in places_in(rows.column_names):
            offsets = pending.offsets[IMAGES if column == "path" else column]
            rows = with_offsets(rows, offsets[offsets_of(rows, offset)], offset)
        return rows

    def _missing(self, table: pa.Table) -> list[str]:
        return []  # the one file of a slide gets its name when all of its rows are known

    def _publish(self, pending: _Slide) -> None:
        arrays, draft = pending.arrays, pending.draft
        if pending.file is None or draft is None or not arrays.rows:
            return
        name = self._name_of(pending)
        with _errors_of(name):
            coords = pending.file.create_dataset("coords", data=arrays.coords)
            coords.attrs.update(arrays.attributes)
            pending.data[IMAGES].attrs["channels"] = arrays.channels
            pending.file.create_dataset("index_row", data=arrays.index_row)
            pending.file.close()
        pending.file = None
        if not hasattr(draft, "path"):
            for piece in _pieces(pending.path):
                draft.write(piece)
        pending.published = True  # first: a rename that fails is taken back too
        draft.publish(name, durable=True)
        self._cancel(pending)

    def _cancel(self, pending: _Slide) -> None:
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            if pending.file is not None:
                pending.file.close()
        pending.file, pending.data = None, {}
        if pending.draft is not None:
            if not hasattr(pending.draft, "path"):
                Path(pending.path).unlink(missing_ok=True)
            pending.draft.discard()

    def _files(self, pending: _Slide) -> list[str]:
        return [self._name_of(pending)] if pending.published else []

    def _name_of(self, pending: _Slide) -> str:
        return f"{PATCHES}{pending.arrays.slide_id}.h5"

    def _slide_of(self, name: str) -> str | None:
        match = _NAME.fullmatch(name)
        return match["slide"] if match else None

    def _own_names(self) -> re.Pattern[str]:
        return _NAME


def _new_array(file: Any, name: str, first: PixelArray) -> Any:
    """Make an array of parts that have the shape and type of the first one, one chunk each."""
    return file.create_dataset(
        name,
        (0, *first.shape),
        first.dtype.newbyteorder("<"),
        chunks=(1, *first.shape),
        maxshape=(None, *first.shape),
    )


def _chunk_offsets(data: Any, count: int) -> Numbers:
    """Return where the parts of an array begin in the file."""
    offsets = np.empty(count, np.int64)

    def keep(chunk: Any) -> None:
        offsets[chunk.chunk_offset[0]] = chunk.byte_offset

    data.id.chunk_iter(keep)
    return offsets


def _pieces(path: str) -> Iterator[bytes]:
    with Path(path).open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece


@contextmanager
def _errors_of(name: str) -> Iterator[None]:
    """Translate errors of HDF5, which does not say more than that it could not."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise OutputError(
            f"{name} cannot be written: {error}.",
            hint="Free disk space, fix permissions, or choose another folder.",
            may_heal=True,
        ) from error
