"""A run from start to end: survey, one task per slide, records.

The index partition of a slide is its commit record: what it does not list does not exist. A run
that is killed at any moment can be resumed, and then equals one that was never interrupted.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any

from qupath_bridge.config import Settings
from qupath_bridge.errors import InterruptedRunError, OutputError
from qupath_bridge.frozen import FrozenDict, count
from qupath_bridge.outputs import index
from qupath_bridge.outputs.base import DamagedRowsError, Output
from qupath_bridge.outputs.csv_file import CsvColumns, write_csv
from qupath_bridge.outputs.row_batches import held
from qupath_bridge.schemas import RunRecord
from qupath_bridge.stores.staging import fetch_of_process
from qupath_bridge.timing import add, step, tally

from . import records, rows
from .cancel import Cancel
from .opened import lend_slides
from .plan import Failure
from .progress import Listener, Progress
from .pseudonyms import OPEN, Names
from .run import Run
from .runner import Runner
from .starting import plan_run, run_tasks, start_run
from .survey import Survey
from .task import SlideResult, SlideTask

__all__ = ["RemovedFilesError", "finish_run", "run_export"]

log = logging.getLogger("qupath_bridge")


class RemovedFilesError(OutputError):
    """Somebody removed what a run had written while it was at work.

    ``slides`` has a failure for each slide whose rows or patches are gone.
    """

    def __init__(self, slides: Sequence[Failure]) -> None:
        self.slides = tuple(slides)
        others = len(slides) - 1
        more = f" So were files of {count(others, 'other slide')}." if others else ""
        super().__init__(f"{slides[0].error}{more}", hint=slides[0].hint)


def run_export(
    survey: Survey,
    output: Output,
    settings: Settings,
    runner: Runner,
    *,
    expected: Mapping[str, str] = FrozenDict(),
    failures: Sequence[Failure] = (),
    projects: Sequence[Mapping[str, Any]] = (),
    command: Sequence[str] = (),
    names: Names = OPEN,
    progress: Listener | None = None,
    cancel: Cancel | None = None,
) -> Run:
    """Export all slides of a survey.

    Parameters
    ----------
    survey : Survey
    output : Output
    settings : Settings
        ``options.resume`` and ``options.update`` say what to do with a run in the output.
    runner : Runner
    expected : mapping of str to str
        Plan digests by slide id; a slide whose plan differs by now fails.
    failures : sequence of Failure
        Slides that failed before; they go into the report.
    projects, command
        For ``run.json``.
    names : Names
        Pseudonyms, where the run has some.
    progress : callable, optional
        Called with a :class:`Progress` after each batch of patches, from the calling thread.
    cancel : Cancel, optional

    Raises
    ------
    OutputError
        If the output is refused, or cannot be written (nothing half is left under a final name;
        the run can be resumed).
    InterruptedRunError
        If the user stops it; it can be resumed.
    """
    record = plan_run(
        survey, output, settings,
        failures=failures, projects=projects, command=command, names=names,
    )  # fmt: skip
    with (
        output.lock(record["run_id"], break_lock=settings.options.break_lock),
        _swept_if_stopped(output),
    ):
        record = start_run(survey, output, settings, record)
        watched = _Watch(survey, progress)
        tasks = run_tasks(survey, output, settings, record, expected)
        results: list[SlideResult] = []
        known = {facts.slide_id: facts.slide for facts in survey.slides}
        failed = [names.failure(each, known.values()) for each in failures]
        try:
            with (
                lend_slides([facts.slide for facts in survey.slides]),
                closing(_results(runner, tasks, watched, cancel)) as done,
            ):
                for result in done:
                    if result.failure:
                        own = [known[result.slide_id]]
                        failed.append(names.failure(result.failure, own))
                    add(result.steps)
                    tally(result.amounts)
                    results.append(_without_counts(result))
                    watched.finish(result)
        except (KeyboardInterrupt, InterruptedRunError):
            raise InterruptedRunError(
                f"Stopped with {watched.slides_done} of {len(survey.slides)} slides finished.",
                hint="Resume the run to finish it: the same export with resume.",
            ) from None
        with step("commit"):
            run = finish_run(output, failures=failed)
    return dataclasses.replace(
        run,
        previews=tuple(result.preview for result in results if result.preview),
        warnings=(
            *survey.warnings,
            *(note for result in results for note in result.notes),
            *_copied(results),
        ),
    )


def _copied(results: Sequence[SlideResult]) -> Iterator[str]:
    """Yield the warning about slides that were copied, where none should be."""
    names = [result.slide_name for result in results if result.fetched == "copy"]
    if names and fetch_of_process() == "ranges":
        others = f" and {count(len(names) - 1, 'other slide')}" if len(names) > 1 else ""
        yield (
            f"{names[0]}{others}: copied to the cache, because the format cannot be read in place."
        )


@contextmanager
def _swept_if_stopped(output: Output) -> Iterator[None]:
    """Remove what workers left where a run stops; what cannot be removed is left to the next."""
    try:
        yield
    except BaseException:
        with suppress(OutputError):
            output.sweep(keep=output.slides())
        raise


def finish_run(output: Output, *, failures: Sequence[Failure] = ()) -> Run:
    """Write report, ``index.csv`` and the state *complete*, from the committed slides.

    Slides that an earlier run committed and this one does not have are removed; those that
    failed keep what an earlier run committed for them, unless its rows are damaged.

    Raises
    ------
    OutputError
        If the output has no run, or cannot be written.
    RemovedFilesError
        If the rows or patches of a slide that did not fail are gone.
    """
    record = records.load_record(output, records.RUN_FILE, RunRecord)
    wanted = {slide["slide_id"] for slide in record["slides"]}
    failed = {failure.slide_id for failure in failures if failure.slide_id}
    for slide_id in output.slides():
        if slide_id not in wanted | failed or (
            slide_id in failed and _is_damaged(output, slide_id)
        ):
            output.remove(slide_id)
            failed.discard(slide_id)
    slides, digests, earlier = [], {}, []
    contents, columns = {}, CsvColumns()
    removed = {
        slide["slide_id"]: f"The rows of {slide['slide_name']}"
        for slide in record["slides"]
        if slide["slide_id"]
    }
    for failure in failures:
        removed.pop(failure.slide_id, None)
    for slide_id, opened in index.rows_of(output):
        stored = held(opened)
        columns.add(stored)
        facts = records.load_facts(stored, slide_id)
        digests[slide_id] = facts["plan_digest"]
        removed.pop(slide_id, None)
        # What an earlier run committed stays for slides that failed, but is not of this one.
        if facts["run_id"] != record["run_id"]:
            earlier.append(slide_id)
            continue
        places = (place for place, _ in rows.locations(stored))
        if gone := [place.path for place in output.missing(places)]:
            number = count(len(gone), "patch", "patches")
            removed[slide_id] = f"{number} of {facts['slide_name']}, {gone[0]} among them,"
        # Rows of a slide that failed were not compared with its plan: they may have been edited.
        known = record["rows"].get(slide_id) if slide_id in failed else None
        contents[slide_id] = known or rows.rows_digest(stored, facts)
        slides.append(rows.slide_report_of(stored, facts))
    if removed:
        raise RemovedFilesError(_removed(record, removed, output))
    output.sweep(keep={*earlier, *failed})
    report = records.report_record(record["run_id"], slides, failures)
    write_csv(output, columns)
    output.put(records.REPORT_FILE, records.dump_json(report), durable=True)
    record = {
        **record,
        "state": "complete",
        "finished": records.timestamp(),
        "rows": {**{key: record["rows"].get(key, "") for key in earlier}, **contents},
        "run_digest": records.run_digest(digests),
    }
    output.put(records.RUN_FILE, records.dump_json(record), durable=True)
    return Run(output.url, record, report)


def _is_damaged(output: Output, slide_id: str) -> bool:
    try:
        stored = output.rows(slide_id)
        if stored is not None:
            records.load_facts(stored, slide_id)
            deque(stored.batches(), maxlen=0)  # any of their columns may be damaged
    except DamagedRowsError:
        return True
    return False


def _removed(record: Mapping[str, Any], what: Mapping[str, str], output: Output) -> list[Failure]:
    """Return a failure for each slide of which something was removed."""
    return [
        Failure(
            slide["entry_id"],
            slide["slide_name"],
            f"{what[slide['slide_id']]} in {output.describe()} were removed while the run was at "
            "work.",
            "Resume the run when nobody else works in this folder.",
            slide["slide_id"],
            slide["project"],
        )
        for slide in record["slides"]
        if slide["slide_id"] in what
    ]


def _results(
    runner: Runner, tasks: Iterator[SlideTask], watched: _Watch, cancel: Cancel | None
) -> Any:
    listener: Callable[[str, int, int], None] | None = watched.update if watched.listener else None
    yield from runner.run(tasks, progress=listener, cancel=cancel)


def _without_counts(result: SlideResult) -> SlideResult:
    """Drop what is in the report anyway, so that very many slides take little memory."""
    empty: FrozenDict[str, int] = FrozenDict()
    nothing: FrozenDict[str, float] = FrozenDict()
    return dataclasses.replace(
        result, by_label=empty, dropped=empty, warnings=(), steps=nothing, amounts=empty
    )


class _Watch:
    """Adds up the progress of the slides at work."""

    def __init__(self, survey: Survey, listener: Listener | None) -> None:
        self.listener = listener
        self.slides_done = 0
        self._slides = len(survey.slides)
        self._names = {facts.slide_id: facts.slide.name for facts in survey.slides}
        self._at_work: dict[str, tuple[int, int]] = {}
        self._done = 0

    def update(self, slide_id: str, done: int, planned: int) -> None:
        self._at_work[slide_id] = (done, planned)
        self._report(slide_id)

    def finish(self, result: SlideResult) -> None:
        self._at_work.pop(result.slide_id, None)
        self._done += result.written
        self.slides_done += 1
        self._report(result.slide_id)

    def _report(self, slide_id: str) -> None:
        if self.listener:
            done = sum(done for done, _ in self._at_work.values())
            planned = sum(planned for _, planned in self._at_work.values())
            self.listener(
                Progress(
                    self._done + done,
                    self._done + planned,
                    self.slides_done,
                    self._slides,
                    self._names.get(slide_id, slide_id),
                )
            )
