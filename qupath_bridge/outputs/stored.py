"""The base of outputs that keep everything in one store: index, records, lock, patch files."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from itertools import islice, starmap
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Self, TypeVar

import pyarrow as pa

from qupath_bridge.errors import OutputError, UsageError
from qupath_bridge.frozen import count
from qupath_bridge.schemas import INPUT_NAME, TISSUE_FILE, parse_json
from qupath_bridge.stores import open_store
from qupath_bridge.stores.local import LocalStore

from . import index, leftovers, lock
from .base import Location, LockHolder, PatchRef
from .names import NameLog, NameSet
from .row_batches import BATCH, FOLDERS, Rows, is_patch_path, places_in

if TYPE_CHECKING:
    from qupath_bridge.model import PixelArray
    from qupath_bridge.stores.base import Data, Store

__all__ = ["PATCHES", "StoredOutput"]

PATCHES = "patches/"
INPUTS = "inputs/"
TISSUE = "tissue/"
_INPUT = re.compile(INPUT_NAME)
_TISSUE = re.compile(TISSUE_FILE)

Pending = TypeVar("Pending")
"""State of a slide between ``begin`` and ``commit``."""


class StoredOutput(ABC, Generic[Pending]):
    """Base of outputs over a store. A subclass says how patches become files.

    The partition of a slide is its commit: it is written when the files are there. A queue may give
    one slide to two workers, so neither removes a file that the other may have written: it lists
    it among the leftovers, and ``sweep``, called while nobody works, removes what no rows list.

    Parameters
    ----------
    place : str, Path or Store
        The store, or what ``open_store`` takes.
    argument : str, optional
        What stands behind the name of the output, as in ``tar:1GB``.
    """

    accepts: Literal["bytes", "array"] = "bytes"
    wants_records: bool = False
    holds_masks: bool = False
    name: ClassVar[str]

    def __init__(self, place: str | Path | Store, argument: str | None = None) -> None:
        self.store = open_store(place) if isinstance(place, str | Path) else place
        self.argument = argument
        self._pending: dict[str, Pending] = {}

    # --- what a subclass says ---

    @abstractmethod
    def _start(self, slide_id: str) -> Pending:
        """Return what is held about a slide that is begun."""

    @abstractmethod
    def _write(self, pending: Pending, patch: PatchRef, payload: Any) -> Location:
        """Write one patch: bytes, or pixels if the output takes arrays."""

    @abstractmethod
    def _finish(self, pending: Pending) -> Mapping[str, str]:
        """Complete all files of a slide; return the final path of each path that was not final."""

    def _placed(self, pending: Pending, rows: pa.Table) -> pa.Table:
        """Return rows with their final locations; called in the order of the rows."""
        return rows

    def _publish(self, pending: Pending) -> None:
        """Give their names to files that hold more than patches; all rows were placed."""

    def _companions(self, slide_id: str, columns: Sequence[str]) -> Collection[str]:
        """Return the names of files of a slide with patches that its rows do not list.

        ``columns`` are those of the rows.
        """
        return ()

    @abstractmethod
    def _cancel(self, pending: Pending) -> None:
        """Give up what is not a file yet."""

    @abstractmethod
    def _files(self, pending: Pending) -> Iterable[str]:
        """Return the names of the files that were written for a slide."""

    @abstractmethod
    def _slide_of(self, name: str) -> str | None:
        """Return the slide of a file of patches or masks, None if it cannot be one of ours."""

    @abstractmethod
    def _own_names(self) -> re.Pattern[str]:
        """Return what the names of files of patches and masks look like that we write."""

    # --- the protocol ---

    @property
    def url(self) -> str:
        """The place, as ``open_output`` takes it."""
        return self.store.url

    @property
    def at_once(self) -> int:
        """Number of patches that are best read at the same time."""
        return self.store.at_once

    def __repr__(self) -> str:
        argument = "" if self.argument is None else f", {self.argument!r}"
        return f"{type(self).__name__}({self.url!r}{argument})"

    def __reduce__(self) -> tuple[type[Self], tuple[Store, str | None]]:
        return type(self), (self.store, self.argument)

    def describe(self) -> str:
        """Return what messages call it: the folder or URL."""
        return str(self.store.root) if isinstance(self.store, LocalStore) else self.url

    def is_empty(self) -> bool:
        """Return whether there is nothing in it but a lock and cut-off writes."""
        return all(map(lock.is_lock, self.store.list()))

    def lock(self, run_id: str, *, break_lock: bool = False) -> AbstractContextManager[None]:
        """Keep other runs out while the block runs."""
        return lock.hold_lock(self.store, self.describe(), run_id, break_lock=break_lock)

    def hold(self, run_id: str, job: str, *, break_lock: bool = False) -> None:
        """Take the lock for a job, until it is released."""
        lock.hold_for_job(self.store, self.describe(), run_id, job, break_lock=break_lock)

    def release(self, job: str) -> None:
        """Give the lock of a job back."""
        lock.release_job(self.store, job)

    def holder(self) -> LockHolder | None:
        """Return who holds the lock, None if nobody does."""
        return lock.read_holder(self.store)

    def begin(self, slide_id: str) -> None:
        """Get ready for the patches of a slide; what was begun before is given up."""
        self.abort(slide_id)
        self._pending[slide_id] = self._start(slide_id)

    def write(self, patch: PatchRef, payload: bytes | PixelArray) -> Location:
        """Write one patch of a slide that was begun."""
        if isinstance(payload, bytes) != (self.accepts == "bytes"):
            kinds = ("encoded files", "pixels")
            wanted, given = kinds if self.accepts == "bytes" else kinds[::-1]
            raise UsageError(f"The output {self.name!r} takes {wanted}, not {given}.")
        return self._write(self._begun(patch.slide_id), patch, payload)

    def commit(
        self,
        slide_id: str,
        rows: pa.Table | pa.RecordBatchReader,
        dropped: pa.Table | None = None,
    ) -> None:
        """Make the slide count."""
        pending = self._begun(slide_id)
        moved = self._finish(pending)
        listed = NameSet()
        gone: list[str] = []
        with index.new_partition(self.store, slide_id, rows.schema, dropped) as write:
            for batch in _batches(rows):
                table = self._placed(pending, _with_paths(batch, moved))
                gone += self._missing(table)
                for path, _, _ in places_in(table.column_names):
                    listed.update(table.column(path).to_pylist())
                write(table)
            if gone:
                raise OutputError(
                    f"{count(len(gone), 'file')} of {slide_id} in {self.describe()} were removed "
                    f"while the slide was exported, {gone[0]} among them.",
                    hint="Resume the run when nobody else works in this folder.",
                    may_heal=True,
                )
            self._publish(pending)
            if listed:
                listed.update(self._companions(slide_id, rows.schema.names))
            earlier = [name for name in self._listed(slide_id) or () if name not in listed]
        own = (name for name in self._files(pending) if name not in listed)
        leftovers.leave(self.store, slide_id, [*sorted(earlier), *own])
        del self._pending[slide_id]

    def abort(self, slide_id: str) -> None:
        """Forget what was written since :meth:`begin`; files stay until they are swept.

        One in the place of an earlier file is what the earlier rows say, or fails their digest.
        """
        pending = self._pending.pop(slide_id, None)
        if pending is not None:
            self._cancel(pending)
            leftovers.leave(self.store, slide_id, list(self._files(pending)))

    def remove(self, slide_id: str) -> None:
        """Take a committed slide out: its rows first, then its patches."""
        listed = NameLog(self._listed(slide_id) or ())
        index.delete_partition(self.store, slide_id)
        for name in listed:
            self.store.delete(name)

    def free_bytes(self) -> int | None:
        """Return how many bytes fit in, None if that is not known."""
        return self.store.free_bytes()

    def slides(self) -> list[str]:
        """Return the ids of the committed slides, sorted."""
        return index.list_partitions(self.store)

    def rows(self, slide_id: str) -> Rows | None:
        """Open the rows of a slide, None if it is not committed."""
        return index.open_partition(self.store, slide_id)

    def table(self, slide_id: str) -> pa.Table | None:
        """Return the rows of a slide, None if it is not committed."""
        return index.read_partition(self.store, slide_id)

    def dropped(self, slide_id: str) -> pa.Table | None:
        """Return the rows of the patches that reading dropped, None if there are none."""
        return index.read_dropped(self.store, slide_id)

    def read(self, location: Location) -> bytes:
        """Return the bytes of a patch."""
        path, offset, length = location
        if offset is None or length is None:
            return self.store.get(path)
        return self.store.get_range(path, offset, length)

    def exists(self, location: Location) -> bool:
        """Return whether the bytes of a patch can be there."""
        return next(self.missing([location]), None) is None

    def missing(self, places: Iterable[Location]) -> Iterator[Location]:
        """Yield the places whose bytes cannot be there, in order."""
        left = iter(places)
        while some := list(islice(left, BATCH)):
            paths = list(dict.fromkeys(place.path for place in some))
            sizes = dict(zip(paths, self.store.sizes(paths), strict=True))
            for place in some:
                size = sizes[place.path]
                if size is None or (place.offset or 0) + (place.length or 0) > size:
                    yield place

    def unlisted(self) -> Iterator[str]:
        """Yield the names of files of patches and masks that no committed slide lists, sorted."""
        yield from self._unlisted()
        yield from self._abandoned_tissue()
        yield from index.strange_files(self.store)

    def _unlisted(self, keep: Collection[str] = ()) -> Iterator[str]:
        """Yield the names of files of patches and masks, but for those of some slides."""
        # Files of a slide mostly stand together: the rows of two slides at a time are enough.
        listed = lru_cache(maxsize=2)(self._listed_set)
        for name in sorted(self._files_but_of(keep)):
            slide_id = self._slide_of(name)
            names = NameSet() if slide_id is None else listed(slide_id)
            if names is not None and name not in names:
                yield name

    def _files_but_of(self, slides: Collection[str]) -> Iterator[str]:
        """Yield the files of patches and masks; the folders of some slides are not listed."""
        of_slides = bool(slides) and self._has_slide_folders()
        for folder in FOLDERS:
            if not of_slides:
                yield from self.store.list(f"{folder}/")
                continue
            # Of a million patches in a bucket a list alone takes minutes.
            for name in self.store.children(f"{folder}/"):
                if not name.endswith("/"):
                    yield name
                elif name.removeprefix(f"{folder}/").rstrip("/") not in slides:
                    yield from self.store.list(name)

    def _has_slide_folders(self) -> bool:
        """Return whether the files of each slide are in a folder that has its id."""
        return False

    def sweep(self, keep: Collection[str] = ()) -> int:
        """Remove what killed writers left, patches without rows included."""
        removed = self.store.sweep() + self._remove_leftovers()
        stale = (
            *self._abandoned_dropped(),
            *self._abandoned_inputs(),
            *self._abandoned_tissue(),
            *lock.stale_claims(self.store),
        )
        for name in stale:
            self.store.delete(name)
            removed += 1
        own = self._own_names()
        for name in self._unlisted(keep):
            if own.fullmatch(name) and self._slide_of(name) not in keep:
                self.store.delete(name)
                removed += 1
        return removed

    def put(self, name: str, data: Data, *, durable: bool = False) -> None:
        """Write a record or side file, whole or not at all."""
        self.store.put(name, data, durable=durable)

    def get(self, name: str) -> bytes:
        """Return the bytes of a record or side file."""
        return self.store.get(name)

    def has(self, name: str) -> bool:
        """Return whether a record or side file is there."""
        return self.store.exists(name)

    # --- helpers ---

    def _remove_leftovers(self) -> int:
        """Remove the files that workers left, but for those that rows list by now."""
        removed, own = 0, self._own_names()
        for left, slide_id in leftovers.found(self.store):
            if (listed := self._listed_set(slide_id)) is None:
                continue  # damaged rows do not say which are used
            for name in leftovers.read(self.store, left):
                if own.fullmatch(name) and self._slide_of(name) == slide_id and name not in listed:
                    removed += self.store.exists(name)
                    self.store.delete(name)
            self.store.delete(left)
        return removed

    def _begun(self, slide_id: str) -> Pending:
        try:
            return self._pending[slide_id]
        except KeyError:
            raise UsageError(f"The slide {slide_id} was not begun in {self.describe()}.") from None

    def _missing(self, table: pa.Table) -> list[str]:
        """Return the files of rows that somebody removed or cut since they were written."""
        gone: list[Location] = []
        for columns in places_in(table.column_names):
            places = zip(*(table.column(name).to_pylist() for name in columns), strict=True)
            gone += self.missing(starmap(Location, places))
        return list(dict.fromkeys(place.path for place in gone))

    def _listed(self, slide_id: str) -> Iterator[str] | None:
        """Return the files that the rows of a slide list, None if the rows are damaged."""
        try:
            rows = index.open_partition(self.store, slide_id)
            if rows is None:
                return iter(())
            names, paths = rows.schema.names, []
            for column, _, _ in places_in(names):
                paths += rows.table([column]).column(column).unique().to_pylist()
        except OutputError:
            return None
        if paths:
            paths += list(self._companions(slide_id, names))
        # Whatever rows list, nothing but files of patches is ever removed because of it.
        return (path for path in paths if path is not None and is_patch_path(path))

    def _listed_set(self, slide_id: str) -> NameSet | None:
        names = self._listed(slide_id)
        return None if names is None else NameSet(names)

    def _abandoned_dropped(self) -> Iterator[str]:
        slides = {
            name.removeprefix(index.DROPPED_PREFIX).partition("/")[0]
            for name in self.store.list(index.DROPPED_PREFIX)
        }
        for slide_id in sorted(slides):
            try:
                yield from index.unused_dropped(self.store, slide_id)
            except OutputError:
                continue  # damaged rows do not say which are used

    def _abandoned_inputs(self) -> Iterator[str]:
        """Yield the inputs that the run does not list: those of an earlier run, or of none."""
        try:
            listed = parse_json(self.store.get("run.json"))["inputs"]
        except (OutputError, ValueError, KeyError, TypeError):
            return  # nobody can say which are used
        for name in self.store.list(INPUTS):
            if name not in (listed or ()) and _INPUT.fullmatch(name):
                yield name

    def _abandoned_tissue(self) -> Iterator[str]:
        """Yield the side files of tissue that the facts of no committed slide name."""
        for name in self.store.list(TISSUE):
            match = _TISSUE.fullmatch(name)
            if match is None:
                continue
            try:
                rows = index.open_partition(self.store, match["slide"])
                tissue = None if rows is None else index.facts_of(rows).get("tissue")
            except (OutputError, ValueError):
                continue  # damaged rows do not say which are used
            if tissue is None:
                yield name


def _batches(rows: pa.Table | pa.RecordBatchReader) -> Iterator[pa.Table]:
    if isinstance(rows, pa.Table):
        yield rows
        return
    for batch in rows:
        yield pa.Table.from_batches([batch])


def _with_paths(table: pa.Table, moved: Mapping[str, str]) -> pa.Table:
    for column, _, _ in places_in(table.column_names) if moved else ():
        paths = [moved.get(path, path) for path in table.column(column).to_pylist()]
        at = table.schema.get_field_index(column)
        table = table.set_column(at, table.schema.field(at), pa.array(paths, pa.string()))
    return table


def no_argument(name: str, argument: str | None) -> None:
    """Refuse an argument.

    Raises
    ------
    UsageError
    """
    if argument is not None:
        raise UsageError(f"The output {name!r} takes no argument, but got {argument!r}.")
