"""Carrying out plans: read, encode, write, commit.

The index partition of a slide is its commit record: what it does not list does not exist. It is
written after all patches of the slide, each of which appears whole or not at all; so a run that
is killed at any moment can be resumed, and then equals one that was never interrupted.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from qupath_bridge.codecs import get_encoder
from qupath_bridge.config import ExportConfig
from qupath_bridge.errors import InterruptedRunError, SlideError, UsageError
from qupath_bridge.outputs import index
from qupath_bridge.outputs.base import PatchFile, Sink
from qupath_bridge.outputs.folder import FolderSink
from qupath_bridge.patches import ids
from qupath_bridge.readers import open_reader
from qupath_bridge.readers.base import Reader
from qupath_bridge.stores.local import LocalStore

from . import records, rows
from .output_check import check_output, check_place
from .plan import Failure, Plan
from .run import Progress, Run
from .runner import InlineRunner, Runner

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["export", "patch_digest"]

CHUNK = 64
"""Patches a task: enough to hide its cost, few enough to stop soon and to share out evenly."""

Lend = Callable[[], AbstractContextManager[Reader]]


def export(
    plans: Sequence[Plan],
    out: Path | str,
    *,
    failures: Sequence[Failure] = (),
    runner: Runner | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    command: Sequence[str] | None = None,
    engine: Mapping[str, Any] | None = None,
) -> Run:
    """Write the patches of plans into a folder, with index, record and report.

    Parameters
    ----------
    plans : sequence of Plan
        All made with one configuration; its ``resume`` and ``update`` say what to do with a
        folder that holds a run already.
    out : path
        A new or empty folder; made when it does not exist.
    failures : sequence of Failure
        Slides that could not be planned; they go into the report.
    runner : Runner, optional
        Where the work is done; the calling thread when not given.
    on_progress : callable, optional
        Told after each piece of work, from the calling thread.
    command, engine
        For ``run.json``.

    Raises
    ------
    OutputError
        If the folder is refused, or cannot be written (nothing half is left under a final
        name; the run can be resumed).
    InterruptedRunError
        If the user stops it; it can be resumed.
    """
    config = _common_config(plans)
    check_place(Path(out), plans[0].slide.project.folder)
    store = LocalStore(Path(out))
    record = records.run_record(
        ids.run_id(),
        plans,
        config,
        command=sys.argv if command is None else command,
        engine=engine or {},
        started=records.timestamp(),
    )
    record, old = check_output(store, config, record)
    store.put(records.RUN_FILE, records.dump_json(record), durable=True)
    store.sweep()

    job = _Job(store, runner or InlineRunner(), record["run_id"], on_progress, _total(plans))
    folders = ids.label_folders(sorted({label for p in plans for label in p.table.label_names}))
    extension = get_encoder(config.format).extension
    failed = list(failures)
    for plan, slide in zip(plans, record["slides"], strict=True):
        began = time.perf_counter()
        try:
            job.export_slide(plan, rows.patch_paths(plan, folders, extension))
        except SlideError as error:
            failed.append(Failure.of(plan.slide, error))
        slide["seconds"] = round(time.perf_counter() - began, 3)
    kept = _remove_unlisted(store, plans, failed)
    # Rows of an earlier run that stay need its record of their slide.
    known = {slide["slide_id"] for slide in record["slides"]}
    record["slides"] += [
        slide
        for slide in (old["slides"] if old else ())
        if slide["slide_id"] in kept and slide["slide_id"] not in known
    ]

    index.write_csv(store)
    report = records.report_record(record["run_id"], plans, failed)
    store.put(records.REPORT_FILE, records.dump_json(report), durable=True)
    record = {**record, "state": "complete", "finished": records.timestamp()}
    store.put(records.RUN_FILE, records.dump_json(record), durable=True)
    return Run(Path(out), record, report)


@dataclass(slots=True)
class _Job:
    """One run at work: what all of its slides share."""

    store: LocalStore
    runner: Runner
    run_id: str
    on_progress: Callable[[Progress], None] | None
    total: int
    done: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def export_slide(self, plan: Plan, paths: Sequence[str]) -> None:
        """Write one slide, unless it is committed already and its files are what they should be."""
        old = index.read_partition(self.store, plan.slide_id)
        if old is not None and rows.run_id_of(old) == self.run_id and self._intact(old):
            self._report(plan, len(plan))
            return
        sink = FolderSink(self.store)
        sink.begin(plan.slide_id)
        known = {} if old is None else rows.find_reusable(plan, old)
        try:
            digests = self._write(plan, paths, sink, known)
        except KeyboardInterrupt:
            raise InterruptedRunError(
                f"Stopped at {plan.slide.name} with {self.done} of {self.total} patches done.",
                hint="Continue with the same command and --resume.",
            ) from None
        except SlideError:
            # Where pixels are the same as in an earlier run, every file that was replaced has its
            # old bytes, and the earlier rows still hold. Else they do not.
            if not known:
                index.delete_partition(self.store, plan.slide_id)
                sink.abort(plan.slide_id)
            raise
        table = rows.index_table(plan, self.run_id, paths=paths, digests=digests)
        index.write_partition(self.store, plan.slide_id, table)
        sink.commit(plan.slide_id)

    def _write(
        self, plan: Plan, paths: Sequence[str], sink: Sink, known: Mapping[int, rows.ReusablePatch]
    ) -> list[str]:
        """Write all patches of a slide; return their digests in plan order."""
        config = plan.config
        encoder = get_encoder(config.format, quality=config.quality, mpp=plan.mpp)
        digests: list[str] = []
        self.stop.clear()
        with _readers(plan.path) as lend:

            def task(chunk: range) -> list[str]:
                with lend() as reader:
                    done = []
                    for row in chunk:
                        if self.stop.is_set():
                            break
                        earlier = known.get(row)
                        payload = self._known_payload(earlier)
                        if payload is None or earlier is None or earlier.path != paths[row]:
                            if payload is None:
                                payload = encoder.encode(plan.read(row, reader))
                            sink.write(PatchFile(_stem(paths[row]), paths[row]), payload)
                        done.append(patch_digest(payload))
                    return done

            with closing(self.runner.run(task, _chunks(len(plan)), stop=self.stop)) as results:
                for written in results:
                    digests += written
                    self._report(plan, len(written))
        return digests

    def _known_payload(self, known: rows.ReusablePatch | None) -> bytes | None:
        """Return the bytes that an earlier run wrote for the same pixels, if they are intact."""
        if known is None or not self.store.exists(known.path):
            return None
        payload = self.store.get(known.path)
        return payload if patch_digest(payload) == known.digest else None

    def _intact(self, old: pa.Table) -> bool:
        """Whether every file of a committed slide has the bytes that the index says."""
        return all(
            self.store.exists(path) and patch_digest(self.store.get(path)) == digest
            for path, digest in zip(
                old.column("path").to_pylist(), old.column("digest").to_pylist(), strict=True
            )
        )

    def _report(self, plan: Plan, count: int) -> None:
        self.done += count
        if self.on_progress:
            self.on_progress(Progress(self.done, self.total, plan.slide.name))


def _chunks(count: int) -> Iterator[range]:
    return (range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK))


def _stem(path: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[0]


def _total(plans: Sequence[Plan]) -> int:
    return sum(len(plan) for plan in plans)


def _common_config(plans: Sequence[Plan]) -> ExportConfig:
    if not plans:
        raise UsageError("There is nothing to export: no slide was planned.")
    config = plans[0].config
    if any(plan.config != config for plan in plans):
        raise UsageError(
            "The plans were made with different configurations.",
            hint="Export them into one folder each.",
        )
    entries = [plan.slide.entry_id for plan in plans]
    if len(set(entries)) < len(entries):
        raise UsageError("An image is planned twice.", hint="Plan each entry once.")
    return config


PATCH_NAME = re.compile(
    r"patches/(?P<slide>[^/]+)/[^/]+/(?P=slide)_x-?\d+_y-?\d+(_z\d+_t\d+)?\.(png|jpg|tif)"
)
"""How our patches are called; nothing else below ``patches/`` is ever removed."""


def _remove_unlisted(
    store: LocalStore, plans: Sequence[Plan], failures: Sequence[Failure]
) -> set[str]:
    """Remove what earlier runs left and this one does not list: gone images, moved patches.

    Images that failed keep what an earlier run committed for them. Returns the slides in the
    index.
    """
    failed = {failure.entry_id for failure in failures}
    current = {plan.slide_id for plan in plans}
    listed: set[str] = set()
    kept: set[str] = set()
    for slide_id in index.list_partitions(store):
        if slide_id not in current and slide_id.partition("_")[0] not in failed:
            index.delete_partition(store, slide_id)
            continue
        kept.add(slide_id)
        table = index.read_partition(store, slide_id)
        listed.update(table.column("path").to_pylist() if table is not None else ())
    for name in list(store.list("patches/")):
        if name not in listed and PATCH_NAME.fullmatch(name):
            store.delete(name)
    return kept


@contextmanager
def _readers(path: Path) -> Iterator[Lend]:
    """Lend readers of one slide, each to one thread at a time; close them at the end.

    A reader that is still lent then (a second interrupt cut the wait short) is left open: closing
    it under a running read would crash the process.
    """
    idle: list[Reader] = []
    lock = threading.Lock()

    @contextmanager
    def lend() -> Iterator[Reader]:
        with lock:
            reader = idle.pop() if idle else None
        if reader is None:
            reader = open_reader(path)
        try:
            yield reader
        finally:
            with lock:
                idle.append(reader)

    try:
        yield lend
    finally:
        with lock:
            while idle:
                idle.pop().close()


def patch_digest(payload: bytes) -> str:
    """Return the digest of a written file, as the index holds it."""
    return f"xxh3_128:{xxhash.xxh3_128_hexdigest(payload)}"
