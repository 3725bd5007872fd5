"""The protocol of an output: where patches and their index go, and how they are read back."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Protocol, runtime_checkable

import msgspec
import xxhash

from qupath_bridge.errors import OutputError

if TYPE_CHECKING:
    import pyarrow as pa

    from qupath_bridge.config.masks import MaskKind
    from qupath_bridge.model import PixelArray
    from qupath_bridge.stores.base import Data

    from .row_batches import Rows

__all__ = ["DamagedRowsError", "Location", "LockHolder", "Output", "PatchRef", "patch_digest"]


class DamagedRowsError(OutputError):
    """The rows of one slide cannot be used: the slide counts as not committed."""

    def __init__(self, message: str) -> None:
        super().__init__(message, hint="Export again with resume; it makes the slide again.")


def patch_digest(payload: bytes) -> str:
    """Return the digest of the bytes of a patch or mask, as the index holds it."""
    return f"xxh3_128:{xxhash.xxh3_128_hexdigest(payload)}"


class PatchRef(NamedTuple):
    """A patch to be written, with the file name that the layout gives it.

    ``name`` is relative to the output, with ``/`` separators and the encoder's ending. An output
    other than a folder uses what it needs of it. ``record`` is what a patch carries with it where
    the index is not at hand, as JSON values: label, shares, box, resolution and the like; None
    for an output that does not want records. ``mask`` is set where it is not the patch itself but
    a mask of it, which comes right behind the patch.
    """

    slide_id: str
    patch_id: str
    name: str
    record: Mapping[str, Any] | None = None
    mask: MaskKind | None = None


class Location(NamedTuple):
    """The place of a patch's bytes, as in the index.

    ``offset`` and ``length`` are set where the bytes are a part of the file ``path``.
    """

    path: str
    offset: int | None = None
    length: int | None = None


@dataclass(frozen=True, slots=True)
class LockHolder:
    """The run that writes to an output, and the process that coordinates it.

    ``process_started`` tells a process from a later one with the same number; ``since`` is the
    time at which the lock was taken, ISO 8601. ``job`` is the job of a service that the run belongs
    to: many processes work on it, so its lock outlives each of them.
    """

    run_id: str
    host: str
    process: Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]
    process_started: float
    since: str
    job: str | None = None


@runtime_checkable
class Output(Protocol):
    """Takes the patches of one slide after the other, and reads back what it took.

    A slide counts once :meth:`commit` has returned: its rows and its patches are there then, or
    neither is. Until then an earlier commit of the same slide stays as it was, as far as the
    output can hold both; what cannot be kept must fail the digests of the earlier rows rather
    than pass for them. Errors of the place (full, read-only, gone) come as OutputError.

    An output can be pickled: it opens its place again. One in the memory of a process refuses that
    with UsageError.
    """

    accepts: Literal["bytes", "array"]
    """Payload of :meth:`write`: encoded files or pixels."""

    wants_records: bool
    """True if :meth:`write` uses the record of a patch, which takes time to make."""

    holds_masks: bool
    """True if :meth:`write` takes masks, too; where it is False they are refused."""

    @property
    def url(self) -> str:
        """The place, as ``open_output`` takes it."""
        ...

    def describe(self) -> str:
        """Return what messages call it: the folder or URL."""
        ...

    def is_empty(self) -> bool:
        """Return whether there is nothing in it but what killed writers left."""
        ...

    def lock(self, run_id: str, *, break_lock: bool = False) -> AbstractContextManager[None]:
        """Keep other runs out while the block runs; workers of the same run may write.

        A lock whose process on this host is gone is taken over. ``break_lock`` takes over any.

        Raises
        ------
        OutputError
            If another run holds it; the message names the run, the process, the host and since
            when.
        """
        ...

    def hold(self, run_id: str, job: str, *, break_lock: bool = False) -> None:
        """Take the lock for a job whose processes come and go, until :meth:`release`.

        Nothing changes if the job has it already, but for the run that it names. The end of the
        process that took it never frees it.

        Raises
        ------
        OutputError
            If another run holds it.
        """
        ...

    def release(self, job: str) -> None:
        """Give the lock of a job back; nothing happens if the job does not hold it."""
        ...

    def holder(self) -> LockHolder | None:
        """Return who holds the lock, None if nobody does."""
        ...

    def begin(self, slide_id: str) -> None:
        """Get ready for the patches of a slide."""
        ...

    def write(self, patch: PatchRef, payload: bytes | PixelArray) -> Location:
        """Write one patch of a slide that was begun.

        Called by one thread, in an order that depends on the plan alone: block by block, so that
        neighbours come together.

        The location is for the slide's rows. An output may give a path that :meth:`commit`
        replaces in them; the patch can be read with the location that the committed rows have.

        Masks of a patch come right behind it. A patch that is not written again has new masks
        all the same.

        A patch that the committed rows already have at a location that stays (that of a folder
        is ``Location(patch.name)``) need not be written again: it is enough to list it.
        """
        ...

    def commit(
        self,
        slide_id: str,
        rows: pa.Table | pa.RecordBatchReader,
        dropped: pa.Table | None = None,
    ) -> None:
        """Make the slide count: its rows, and those of the patches that reading dropped.

        Rows of very many patches come as a reader of batches, and are never held all at once.
        Patches of an earlier commit of the slide that ``rows`` do not list do not count any more,
        nor do such of those written since :meth:`begin`; their files may stay until :meth:`sweep`.

        Two workers may have begun one slide: each commits what it wrote, and the last one counts.

        Raises
        ------
        OutputError
            If the file of a patch that ``rows`` list is not there any more; the earlier commit
            stays.
        """
        ...

    def abort(self, slide_id: str) -> None:
        """Forget what was written since :meth:`begin`; an earlier commit stays.

        So does what another worker wrote or committed meanwhile. Files may stay until
        :meth:`sweep`. Nothing happens where the slide was not begun.
        """
        ...

    def remove(self, slide_id: str) -> None:
        """Take a committed slide out: its rows first, then its patches."""
        ...

    def free_bytes(self) -> int | None:
        """Return how many bytes fit in, None if that is not known."""
        ...

    def slides(self) -> list[str]:
        """Return the ids of the committed slides, sorted."""
        ...

    def rows(self, slide_id: str) -> Rows | None:
        """Open the rows of a slide, to be read some thousand at a time; None if not committed.

        Raises
        ------
        OutputError
            If they cannot be reached, or are of a version that this one does not know; of the
            kind ``DamagedRowsError`` of this module if they are damaged. Rows that are damaged
            behind the beginning may fail when they are read.
        """
        ...

    def table(self, slide_id: str) -> pa.Table | None:
        """Return all rows of a slide at once, None if it is not committed.

        Errors are those of :meth:`rows`.
        """
        ...

    def dropped(self, slide_id: str) -> pa.Table | None:
        """Return the rows of the patches that reading dropped, None if there are none.

        Errors are those of :meth:`table`; a file that is missing counts as damage.
        """
        ...

    def read(self, location: Location) -> bytes:
        """Return the bytes of a patch."""
        ...

    def exists(self, location: Location) -> bool:
        """Return whether the bytes of a patch can be there: the file, and room for its part."""
        ...

    def missing(self, places: Iterable[Location]) -> Iterator[Location]:
        """Yield, in order, those of very many places for which :meth:`exists` is False."""
        ...

    @property
    def at_once(self) -> int:
        """Number of patches that are best read at the same time: 1 if each comes at once."""
        ...

    def unlisted(self) -> Iterator[str]:
        """Yield the names of files of patches and masks that no committed slide lists, sorted.

        Files of a slide whose rows are damaged are not among them. Files in the folder of the
        index that are not part of it are, and masks and outlines of tissue that no slide has.
        """
        ...

    def sweep(self, keep: Collection[str] = ()) -> int:
        """Remove what killed writers left, patches without rows included; return how many files.

        Frozen inputs that ``run.json`` does not list go, too, and files of tissue that the facts
        of no slide name.

        Patches of the slides ``keep`` stay: their rows may lack some by somebody's mistake.

        Only what this library writes is ever removed. Patches that are being written would go
        too: call it with the lock held, before the first slide is begun or after the last.
        """
        ...

    def put(self, name: str, data: Data, *, durable: bool = False) -> None:
        """Write a record or side file, whole or not at all."""
        ...

    def get(self, name: str) -> bytes:
        """Return the bytes of a record or side file; OutputError where there is none."""
        ...

    def has(self, name: str) -> bool:
        """Return whether a record or side file is there."""
        ...
