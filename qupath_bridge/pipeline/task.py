"""One slide, one task: plan it, write its patches, commit it.

A task is a value. A laptop, a process pool, a cluster and a job queue carry out the very same
function, and a task that was cut off is simply carried out again.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xxhash

from qupath_bridge.codecs import Encoder, encoder_of
from qupath_bridge.codecs.raw import decode_raw
from qupath_bridge.config import ExportConfig, RunOptions
from qupath_bridge.config.masks import mask_kinds
from qupath_bridge.errors import (
    GeometryError,
    InterruptedRunError,
    OutputError,
    PlanError,
    ProjectError,
    SlideError,
)
from qupath_bridge.frozen import FrozenDict, OneLine, freeze
from qupath_bridge.model import IntArray, PixelArray, Reason, Slide, SourceRef
from qupath_bridge.outputs import check_lock, open_output
from qupath_bridge.outputs.base import DamagedRowsError, Location, Output, PatchRef, patch_digest
from qupath_bridge.parallel import available_cores, ordered_map
from qupath_bridge.patches.mask_classes import MaskClass, classes_json, read_classes
from qupath_bridge.patches.order import reading_batches
from qupath_bridge.readers import fetched_as, open_reader, slide_version
from qupath_bridge.readers.base import BadTile, Reader
from qupath_bridge.stores.staging import Fetch, use_cache
from qupath_bridge.timing import collect, step

from . import rows
from .cancel import Cancel
from .estimate import mean_pixels, patch_bytes
from .inputs import load_inputs
from .masks import MadeMask, MaskMaker
from .opened import slide_of
from .patch_pixels import PatchPixels, PixelBatch
from .plan import Failure, Plan, producer_of
from .planning import make_plan
from .pseudonyms import names_of
from .quality import summarise
from .records import bad_tile_warnings, bad_tiles_of, facts_record, load_facts
from .slide_files import missing_place, read_objects, slide_path
from .tissue import tissue_problems
from .written import PatchNames, WrittenPatches

if TYPE_CHECKING:
    from qupath_bridge.outputs.row_batches import Rows

__all__ = ["SlideResult", "SlideTask", "process_slide"]

log = logging.getLogger("qupath_bridge")


@dataclass(frozen=True, slots=True, repr=False)
class SlideTask(OneLine):
    """Everything that is needed to export one slide, on any machine.

    Attributes
    ----------
    source : SourceRef
        Where the slide comes from.
    entry_id, slide_id : str
        The slide in its project, and its name in files.
    config, options
    labels : mapping of str to str
        Folder name of each label, the same for all slides of the run.
    output : str
        URL of the output.
    run_id : str
    expected_plan_digest : str or None
        A slide whose plan differs by now fails.
    inputs : mapping of str to str
        Names and digests of the frozen inputs of the slide, which are in the output.
    classes : tuple of MaskClass
        Values and colours of labels in masks, the same for all slides of the run.
    """

    source: SourceRef
    entry_id: str
    slide_id: str
    config: ExportConfig
    options: RunOptions
    labels: Mapping[str, str]
    output: str
    run_id: str
    expected_plan_digest: str | None = None
    inputs: Mapping[str, str] = FrozenDict()
    classes: tuple[MaskClass, ...] = ()

    def __post_init__(self) -> None:
        for name in ("labels", "inputs"):
            object.__setattr__(self, name, freeze(getattr(self, name)))

    def as_json(self) -> dict[str, Any]:
        """Return the task as plain JSON values."""
        return {
            "source": self.source.as_json(),
            "entry_id": self.entry_id,
            "slide_id": self.slide_id,
            "config": self.config.as_json(),
            "options": self.options.as_json(),
            "labels": dict(self.labels),
            "output": self.output,
            "run_id": self.run_id,
            "expected_plan_digest": self.expected_plan_digest,
            "inputs": dict(self.inputs),
            "classes": classes_json(self.classes),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SlideTask:
        """Return the task of :meth:`as_json`."""
        return cls(
            **{
                **values,
                "source": SourceRef.from_json(values["source"]),
                "config": ExportConfig.parse(values["config"]),
                "options": RunOptions.parse(values["options"]),
                "classes": read_classes(values["classes"]),
            }
        )


@dataclass(frozen=True, slots=True, repr=False)
class SlideResult(OneLine):
    """The outcome of a task: small, whatever the number of patches.

    Attributes
    ----------
    written : int
        Patches that are committed.
    reused : bool
        Whether the slide was committed already, and nothing had to be written.
    failure : Failure or None
    may_heal : bool
        Whether a slide that failed may succeed after a while.
    warnings : tuple of str
    notes : tuple of str
        Troubles beside the patches, such as a preview that could not be drawn.
    preview : str or None
        The picture that was drawn.
    seconds : float
    steps : mapping of str to float
        Seconds of each step, where the options ask for a profile.
    amounts : mapping of str to int
        Requests to object storage and bytes that came, likewise.
    fetched : "copy", "ranges" or None
        How the slide came from object storage; None for one of this machine.
    """

    entry_id: str
    slide_id: str
    slide_name: str
    written: int = 0
    by_label: Mapping[str, int] = field(default_factory=FrozenDict)
    dropped: Mapping[str, int] = field(default_factory=FrozenDict)
    reused: bool = False
    failure: Failure | None = None
    may_heal: bool = False
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    preview: str | None = None
    plan_digest: str | None = None
    seconds: float = 0.0
    steps: Mapping[str, float] = field(default_factory=FrozenDict)
    amounts: Mapping[str, int] = field(default_factory=FrozenDict)
    fetched: Fetch | None = None

    def __post_init__(self) -> None:
        for name in ("by_label", "dropped"):
            object.__setattr__(self, name, freeze(getattr(self, name)))


SlideProgress = Callable[[str, int, int], None]
"""Called with slide id, patches done and patches planned of one slide."""


def process_slide(
    task: SlideTask, *, progress: SlideProgress | None = None, cancel: Cancel | None = None
) -> SlideResult:
    """Plan, export and commit one slide. Doing it twice changes nothing the second time.

    Parameters
    ----------
    task : SlideTask
    progress : callable, optional
        Called after each batch of patches, from the calling thread.
    cancel : Cancel, optional
        Looked at before the slide is opened, and between batches.

    Returns
    -------
    SlideResult
        A slide that cannot be read or planned has a ``failure``; its earlier patches stay where
        they still hold.

    Raises
    ------
    OutputError
        If the output cannot be written, or another run holds it: no other slide could be
        written either.
    InterruptedRunError
        If it was cancelled; nothing of the slide is committed.
    """
    with collect(task.options.profile) as timer:
        result = _process_slide(task, progress, cancel)
    return dataclasses.replace(
        result, steps=FrozenDict(timer.seconds), amounts=FrozenDict(timer.amounts)
    )


def _process_slide(
    task: SlideTask, progress: SlideProgress | None, cancel: Cancel | None
) -> SlideResult:
    began = time.perf_counter()
    slide: Slide | None = None
    use_cache(task.options.cache, task.options.cache_size, task.options.fetch)
    try:
        with step("open"):
            slide = names_of(task.options).renamed(slide_of(task.source, task.entry_id))
        result = _process(task, slide, progress, cancel)
    except (SlideError, ProjectError, GeometryError, PlanError) as error:
        name = slide.name if slide else task.entry_id
        log.warning("%s: %s", name, error)
        project = slide.project.place if slide else task.source.location
        failure = Failure(
            task.entry_id, name, error.message, error.hint, task.slide_id, project,
            missing=missing_place(error),
        )  # fmt: skip
        result = SlideResult(
            task.entry_id, task.slide_id, name, failure=failure, may_heal=error.may_heal
        )
    seconds = round(time.perf_counter() - began, 3)
    log.info("%s: %d patches in %.2f s", result.slide_name, result.written, seconds)
    return dataclasses.replace(result, seconds=seconds)


def _process(
    task: SlideTask, slide: Slide, progress: SlideProgress | None, cancel: Cancel | None
) -> SlideResult:
    _check_cancel(cancel, slide.name)
    output = open_output(task.output, task.config.container)
    check_lock(output, task.run_id)
    path = slide_path(slide)
    with step("open"):
        version = slide_version(path)
        inputs = load_inputs(output, task.inputs)
        slide = inputs.applied(slide)
        data = read_objects(slide, task.config)
        opened = open_reader(path, name=task.options.reader, on_bad_tile=task.config.on_bad_tile)
    with opened as reader:
        with step("plan"):
            plan = make_plan(
                slide, task.config, data, reader,
                slide_id=task.slide_id, reader_name=task.options.reader, inputs=inputs,
                names=names_of(task.options),
            )  # fmt: skip
        if task.expected_plan_digest not in (None, plan.digest):
            raise PlanError(
                f"{slide.name}: annotations, slide file, pixel size or reader changed after "
                "planning.",
                hint="Plan it again.",
            )
        job = _SlideJob(task, plan, output, reader, version, progress, cancel)
        committed = job.committed()
        if committed is None:
            committed = job.write()
            reused = False
        else:
            reused = True
        preview, notes = _preview(task, plan)
        bad = bad_tile_warnings(job.bad_tiles)
        if progress:
            progress(task.slide_id, len(plan), len(plan))
        return SlideResult(
            entry_id=task.entry_id,
            slide_id=task.slide_id,
            slide_name=slide.name,
            written=committed.written,
            by_label=FrozenDict(committed.by_label),
            dropped=FrozenDict(committed.dropped),
            reused=reused,
            warnings=(*plan.warnings, *bad),
            notes=(*notes, *(f"{slide.name}: {text}" for text in bad)),
            preview=preview,
            plan_digest=plan.digest,
            fetched=fetched_as(path, reader),
        )


def _check_cancel(cancel: Cancel | None, name: str) -> None:
    if cancel is not None and cancel.is_set():
        raise InterruptedRunError(f"Stopped at {name}.", hint="Resume the run to finish it.")


class _Made(NamedTuple):
    """A patch that a thread made: its file and digest, or why it was dropped."""

    row: int
    payload: bytes | PixelArray | None
    digest: bytes
    kept_at: Location | None
    reason: str | None
    measured: Mapping[str, float]
    masks: Sequence[MadeMask] = ()


class _Committed(NamedTuple):
    """Numbers of a committed slide: patches, by label, and those that were dropped by reason."""

    written: int
    by_label: Mapping[str, int]
    dropped: Mapping[str, int]


@dataclass(slots=True)
class _SlideJob:
    """One slide at work."""

    task: SlideTask
    plan: Plan
    output: Output
    reader: Reader
    version: str | None
    progress: SlideProgress | None
    cancel: Cancel | None
    stop: threading.Event = field(default_factory=threading.Event)
    began: float = field(default_factory=time.perf_counter)
    bad_tiles: set[BadTile] = field(default_factory=set)

    def committed(self) -> _Committed | None:
        """Return what is committed of this very plan and run, if its patches are all there."""
        try:
            old = self.output.rows(self.task.slide_id)
            if old is None or rows.run_id_of(old) != self.task.run_id:
                return None
            dropped = self.output.dropped(self.task.slide_id)
            same = rows.equal_plan(self.plan, self.task.run_id, old, dropped, self._names())
            facts = load_facts(old, self.task.slide_id)
        except DamagedRowsError:
            return None
        if not same or not self._intact(old):
            return None
        if facts["tissue"] is not None and any(tissue_problems(facts["tissue"], self.output)):
            return None
        self.bad_tiles = bad_tiles_of(facts)
        return _Committed(old.num_rows, rows.label_counts(old), facts["counts"]["dropped"])

    def write(self) -> _Committed:
        """Write all patches of the slide and commit them."""
        plan, output, slide_id = self.plan, self.output, self.task.slide_id
        reusable: Mapping[int, rows.ReusablePatch] = {}
        try:
            old = output.rows(slide_id)
            bad_before = frozenset() if old is None else bad_tiles_of(load_facts(old, slide_id))
            reusable = {} if old is None else rows.find_reusable(plan, old)
        except DamagedRowsError:
            old, bad_before = None, frozenset()
        names = self._names()
        self._check_space(len(plan) - len(reusable))
        output.begin(slide_id)
        try:
            written, dropped = self._write_patches(names, reusable)
            _check_cancel(self.cancel, plan.slide.name)
            if (
                self.reader.fingerprint != plan.fingerprint
                or slide_version(plan.path) != self.version
            ):
                raise SlideError(
                    f"{plan.slide.name}: the slide file was replaced while it was read.",
                    hint="Export again when nobody writes the file.",
                    may_heal=True,
                )
        except BaseException as error:
            output.abort(slide_id)
            if isinstance(error, SlideError) and old is not None and not self._intact(old):
                self._remove_earlier(old)
            raise
        seconds = round(time.perf_counter() - self.began, 3)
        reasons = Counter(patch.reason for patch in dropped)
        if reusable:
            self.bad_tiles |= bad_before
        facts = facts_record(
            plan,
            self.task.run_id,
            reasons,
            seconds,
            self.bad_tiles,
            _quality(written, dropped),
            fetched_as(plan.path, self.reader),
        )
        with step("commit"):
            if plan.tissue is not None:
                for name, content in plan.tissue.files(slide_id).items():
                    output.put(name, content)
            output.commit(
                slide_id,
                rows.index_rows(plan, self.task.run_id, written, names, facts),
                rows.dropped_table(plan, self.task.run_id, dropped) if dropped else None,
            )
        kept = np.ones(len(plan), np.bool_)
        kept[[patch.row for patch in dropped]] = False
        return _Committed(
            len(written),
            plan.table.take(kept).label_counts() if dropped else plan.label_counts(),
            facts["counts"]["dropped"],
        )

    def _remove_earlier(self, old: Rows) -> None:
        """Remove what an earlier run committed, unless another worker committed meanwhile."""
        now = self.output.rows(self.task.slide_id)
        if now is not None and rows.run_id_of(now) == rows.run_id_of(old) != self.task.run_id:
            self.output.remove(self.task.slide_id)

    def _names(self) -> PatchNames:
        return PatchNames(self.plan, self.task.labels, self._encoder().extension)

    def _check_space(self, patches: int) -> None:
        """Refuse to begin a slide whose patches will not fit."""
        free = self.output.free_bytes()
        if free is None:
            return
        # Pixels as they are take more than any encoder makes of them, but for headers.
        pixels, masks = mean_pixels(self.plan), mask_kinds(self.plan.config.masks)
        raw = patches * (pixels * self.plan.contents.pixel_bytes + 1024)
        needed = raw if raw <= free else patches * patch_bytes(self.plan, self.reader)
        needed += len(self.plan) * pixels * sum(np.dtype(kind.dtype).itemsize for kind in masks)
        if needed > free:
            raise OutputError(
                f"{self.plan.slide.name} needs about {needed / 1e6:,.0f} MB, and "
                f"{self.output.describe()} has {free / 1e6:,.0f} MB free.",
                hint="Free disk space and resume the run, or choose another place.",
                may_heal=True,
            )

    def _write_patches(
        self, names: PatchNames, reusable: Mapping[int, rows.ReusablePatch]
    ) -> tuple[WrittenPatches, list[rows.DroppedPatch]]:
        """Make and write all patches, batch after batch."""
        slide_id, output = self.task.slide_id, self.output
        with step("masks"):
            masks = MaskMaker(self.plan, self.task.classes, arrays=output.accepts == "array")
        written = WrittenPatches(self.plan.config.measured_columns(), masks.kinds, masks.objects)
        dropped: list[rows.DroppedPatch] = []
        done = 0
        for batch, made in self._batches(names, reusable, masks):
            ids = self.plan.table.patch_ids_of(self.plan.slide_id, batch)
            wanted = names.of_ids(batch, ids)
            with step("write"):
                records = self._records(batch, ids)
                for patch, name, patch_id, record in zip(made, wanted, ids, records, strict=True):
                    if patch.reason is not None:
                        dropped.append(rows.DroppedPatch(patch.row, patch.reason, patch.measured))
                        continue
                    location = patch.kept_at
                    if location is None and patch.payload is not None:
                        ref = PatchRef(slide_id, patch_id, name, record)
                        location = output.write(ref, patch.payload)
                    if location is None:
                        raise AssertionError("a patch is written, kept or dropped")
                    written.add(patch.row, location, name, patch.digest, patch.measured)
                    for mask in patch.masks:
                        mask_name = names.mask_of(name, mask.kind)
                        ref = PatchRef(slide_id, patch_id, mask_name, mask=mask.kind)
                        place = output.write(ref, mask.payload)
                        written.add_mask(mask, place, mask_name)
            done += len(batch)
            if self.progress:
                self.progress(slide_id, done, len(self.plan))
        return written, dropped

    def _records(
        self, batch: IntArray, patch_ids: Sequence[str]
    ) -> Iterable[dict[str, Any] | None]:
        """Return what the output stores beside each patch of a batch, None if it stores nothing."""
        if self.output.wants_records:
            return rows.patch_records(self.plan, batch, patch_ids)
        return repeat(None, len(batch))

    def _batches(
        self, names: PatchNames, reusable: Mapping[int, rows.ReusablePatch], masks: MaskMaker
    ) -> Generator[tuple[IntArray, list[_Made]], None, None]:
        """Yield the patches of each batch, in the order of reading."""
        plan, table = self.plan, self.plan.table
        producer = producer_of(plan, self.reader)
        workers = self.task.options.workers or available_cores()
        # The largest one says how many are made at once.
        largest = int(plan.sizes(table.boxes).prod(axis=1).max(initial=1))
        patch_bytes = largest * plan.view.pixel_bytes(self.reader.dtype)
        batches = reading_batches(table.col, table.row, table.z, table.t, patch_bytes)
        name = self.task.options.reader
        with _readers(plan, name, self.reader, self.bad_tiles) as acquire:

            def make(batch: IntArray) -> tuple[IntArray, list[_Made]]:
                kept = self._reuse(batch, names, reusable) if reusable else {}
                new = batch[[row not in kept for row in batch.tolist()]] if kept else batch
                if len(new):
                    # Lent until its pixels are encoded: it has their memory for the next ones.
                    with acquire() as reader:
                        kept.update(self._read_and_encode(new, producer, reader))
                made = [kept[row] for row in batch.tolist()]
                if not masks.kinds:
                    return batch, made
                with step("masks"):
                    return batch, [self._with_masks(patch, masks) for patch in made]

            work = ordered_map(make, batches, workers=workers, stop=self.stop)
            with closing(work) as results:
                for result in results:
                    _check_cancel(self.cancel, plan.slide.name)
                    yield result

    def _read_and_encode(
        self, batch: IntArray, producer: PatchPixels, reader: Reader
    ) -> dict[int, _Made]:
        """Return the patches of a batch, by row of the plan."""
        boxes = self.plan.table.boxes[batch]
        plane, sizes = self.plan.table.plane(batch[0]), self.plan.sizes(boxes)
        pixels = producer.read(reader, boxes, plane, sizes)
        return {patch.row: patch for patch in self._encoded(batch, pixels)}

    def _encoded(self, batch: IntArray, pixels: PixelBatch) -> Iterator[_Made]:
        """Yield the patches of a batch as they are written."""
        encoder = self._encoder()
        takes_arrays = self.output.accepts == "array"
        for number, (row, patch) in enumerate(zip(batch.tolist(), pixels.patches, strict=True)):
            self._check_stop()
            measured = pixels.measured_of(number)
            if patch is None:
                yield _Made(row, None, b"", None, str(Reason.QUALITY), measured)
                continue
            payload = patch
            if takes_arrays:
                payload = np.ascontiguousarray(patch)
            elif not isinstance(patch, bytes):
                with step("encode"):
                    payload = encoder.encode(patch)
            yield _Made(row, payload, _raw_digest(payload), None, None, measured)

    def _with_masks(self, patch: _Made, masks: MaskMaker) -> _Made:
        """Return a patch with its masks; one that is dropped has none."""
        self._check_stop()
        return patch if patch.reason else patch._replace(masks=masks.make(patch.row))

    def _check_stop(self) -> None:
        """End a batch of a slide that is given up; it is never used."""
        if self.stop.is_set():
            raise InterruptedRunError("Another thread of this slide failed.")
        _check_cancel(self.cancel, self.plan.slide.name)

    def _encoder(self) -> Encoder:
        return encoder_of(self.plan.config, self.plan.contents)

    def _reuse(
        self, batch: IntArray, names: PatchNames, reusable: Mapping[int, rows.ReusablePatch]
    ) -> dict[int, _Made]:
        """Return the patches that an earlier run wrote with the same pixels, if they are intact."""
        kept = {}
        sizes = dict(
            zip(batch.tolist(), self.plan.sizes(self.plan.table.boxes[batch]).tolist(), strict=True)
        )
        wanted = dict(zip(batch.tolist(), names.of(batch), strict=True))
        found = {row: known for row in wanted if (known := reusable.get(row)) is not None}
        gone = set(self.output.missing(known.location for known in found.values()))
        there = [row for row, known in found.items() if known.location not in gone]
        payloads = self._together(lambda row: self.output.read(found[row].location), there)
        for row, payload in zip(there, payloads, strict=True):
            self._check_stop()
            known = found[row]
            if patch_digest(payload) != known.digest:
                continue
            here = known.location == Location(wanted[row])
            digest = _raw_digest(payload)
            again: bytes | PixelArray = payload
            if self.output.accepts == "array":
                again = decode_raw(payload, tuple(sizes[row]), self.plan.contents)
            kept[row] = _Made(
                row,
                None if here else again,
                digest,
                known.location if here else None,
                None,
                known.measured,
            )
        return kept

    def _intact(self, old: Rows) -> bool:
        """Return whether every patch of a committed slide has the bytes that the index says."""
        try:
            if next(self.output.missing(place for place, _ in rows.locations(old)), None):
                return False
            return all(self._together(self._has_digest, rows.locations(old)))
        except DamagedRowsError:
            return False

    def _has_digest(self, patch: tuple[Location, str]) -> bool:
        place, digest = patch
        return patch_digest(self.output.read(place)) == digest

    def _together(self, task: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Return what a task about a patch of the output makes of each item."""
        return ordered_map(task, items, workers=self.output.at_once)


@contextmanager
def _readers(
    plan: Plan, name: str, first: Reader, bad_tiles: set[BadTile]
) -> Iterator[Callable[[], Any]]:
    """Give a function that lends readers of one slide, each to one thread at a time.

    ``first`` is open already and stays open; the others are closed at the end. A reader that is
    still lent then (a second interrupt cut the wait short) is left open: closing it under a
    running read would crash the process. ``bad_tiles`` gets the file tiles that they read as
    background.
    """
    idle = [first]
    lock = threading.Lock()

    @contextmanager
    def acquire() -> Iterator[Reader]:
        with lock:
            reader = idle.pop() if idle else None
        if reader is None:
            reader = open_reader(plan.path, name=name, on_bad_tile=plan.config.on_bad_tile)
        try:
            yield reader
        finally:
            with lock:
                idle.append(reader)

    try:
        yield acquire
    finally:
        with lock:
            for reader in idle:
                bad_tiles.update(getattr(reader, "bad_tiles", ()))
                if reader is not first:
                    reader.close()
            idle.clear()


def _preview(task: SlideTask, plan: Plan) -> tuple[str | None, tuple[str, ...]]:
    """Draw the preview that the options ask for; a trouble with it is only noted."""
    if task.options.preview is None:
        return None, ()
    try:
        plan.preview(task.options.preview)
    except SlideError as error:
        return None, (f"{plan.slide.name}: no preview: {error}",)
    return str(task.options.preview), ()


def _quality(
    written: WrittenPatches, dropped: Sequence[rows.DroppedPatch]
) -> dict[str, dict[str, float]]:
    """Return the summary of each quality measure over all patches that were read."""
    return summarise(
        {
            name: np.append(written.values(name), [patch.measured[name] for patch in dropped])
            for name in written.measured
        }
    )


def _raw_digest(payload: bytes | PixelArray) -> bytes:
    data = payload if isinstance(payload, bytes) else payload.data
    return xxhash.xxh3_128_digest(data)
