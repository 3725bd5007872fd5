"""A run whose slides many processes export: how it starts, and how it ends.

:func:`qupath_bridge.export` does a whole run in one call. A service starts it here, lets its
workers carry out the tasks with ``process_slide``, and ends it here. The job of the service holds
the lock of the output from the start to the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from qupath_bridge.config import Settings
from qupath_bridge.errors import OutputError, SlideError, UsageError
from qupath_bridge.frozen import FrozenDict
from qupath_bridge.job_options import ONE_PROCESS
from qupath_bridge.model import Slide, SourceRef
from qupath_bridge.outputs import open_output
from qupath_bridge.outputs.base import Output
from qupath_bridge.pipeline.export import RemovedFilesError, finish_run
from qupath_bridge.pipeline.inputs import joined_table
from qupath_bridge.pipeline.plan import Failure
from qupath_bridge.pipeline.pseudonyms import OPEN
from qupath_bridge.pipeline.records import RUN_FILE, load_record
from qupath_bridge.pipeline.run import Run
from qupath_bridge.pipeline.starting import plan_run, run_tasks, start_run
from qupath_bridge.pipeline.task import SlideTask
from qupath_bridge.pipeline.tissue import check_tissue
from qupath_bridge.schemas import RunRecord
from qupath_bridge.sources import open_source as open_ref

from .exporting import complete, project_records, survey_slides
from .opening import open_source, slides_of
from .planning import select_joined

__all__ = [
    "StartedRun",
    "check_shareable",
    "end_shared_run",
    "leave_shared_run",
    "start_shared_run",
]


@dataclass(frozen=True, slots=True)
class StartedRun:
    """A run that has begun.

    Attributes
    ----------
    run_id : str
    tasks : tuple of SlideTask
        One per slide.
    names : mapping of str to str
        Names of the slides by their ids.
    failures : tuple of Failure
        Slides that have no task, and why.
    warnings : tuple of str
    committed : frozenset of str
        Ids of the slides that are in the output already.
    """

    run_id: str
    tasks: tuple[SlideTask, ...]
    names: Mapping[str, str]
    failures: tuple[Failure, ...] = ()
    warnings: tuple[str, ...] = ()
    committed: frozenset[str] = frozenset()


def check_shareable(settings: Settings) -> None:
    """Refuse options of a run that one process does from start to end.

    Raises
    ------
    UsageError
    """
    if found := [name for name in ONE_PROCESS if name in settings.options.changed()]:
        raise UsageError(
            f"A job cannot have the options {', '.join(found)}.",
            hint="Leave them out, or use the command export.",
        )


def start_shared_run(
    sources: Sequence[str],
    out: str,
    settings: Settings,
    *,
    job: str,
    run_id: str,
    may_read: Callable[[Slide], bool] = lambda slide: True,
    command: Sequence[str] = (),
) -> StartedRun:
    """Survey the slides, take the output for a job, and write what a run has before its slides.

    Doing it again, after a crash or to finish what failed, continues the run ``run_id``.

    Parameters
    ----------
    sources : sequence of str
        Paths, as :func:`qupath_bridge.export` takes them.
    out : str
        Path or URL of the output.
    settings : Settings
    job : str
        Who holds the lock of the output from now on.
    run_id : str
        For a run that is new.
    may_read : callable
        Says of a slide whether its file may be read; one that may not gets a failure.
    command : sequence of str
        For ``run.json``.

    Raises
    ------
    UsageError, ConfigError, ProjectError, OutputError
        As :func:`qupath_bridge.export`.
    """
    check_shareable(settings)
    check_tissue(settings.config)
    output = open_output(out, settings.config.container)
    settings = _continued(output, settings, run_id)
    with open_source(list(sources), settings.options) as (projects, given):
        known = slides_of(given)
        table = joined_table(settings.options, known)
        chosen = select_joined(known, settings.selection, table)
        slides = [slide for slide in chosen if may_read(slide)]
        failures = [_forbidden(slide) for slide in chosen if not may_read(slide)]
        surveyed, settings, _, collected = survey_slides(
            slides, known, output, settings, table, command
        )
        infos = {facts.slide.project.place: facts.slide.project for facts in surveyed.slides}
        record = plan_run(
            surveyed, output, settings,
            failures=failures, projects=project_records(infos.values(), projects),
            command=command, run_id=run_id,
        )  # fmt: skip
        output.hold(record["run_id"], job, break_lock=settings.options.break_lock)
        record = start_run(surveyed, output, settings, record)
        tasks = tuple(run_tasks(surveyed, output, settings, record))
        problems = [text for project in projects for text in project.problems]
    problems += [
        f"The corrections of {each.slide_name} could not be collected: {each.problem}"
        for each in collected
        if each.problem
    ]
    joined = () if table is None or settings.options.resume else table.warnings
    names = {facts.slide_id: facts.slide.name for facts in surveyed.slides}
    return StartedRun(
        str(record["run_id"]),
        tasks,
        FrozenDict(names),
        tuple(failures),
        (*problems, *joined, *surveyed.warnings),
        frozenset(output.slides()),
    )


def end_shared_run(
    out: str,
    settings: Settings,
    *,
    job: str,
    sources: Iterable[SourceRef],
    failures: Sequence[Failure],
) -> tuple[Run, tuple[Failure, ...]]:
    """Complete a run whose tasks are done or have failed, and give the output back.

    Doing it again changes nothing.

    Returns
    -------
    Run
    tuple of Failure
        Slides that were done, and whose files somebody removed meanwhile. The run has them among
        its failures, without rows; patches of theirs that are left go when the job is retried.

    Raises
    ------
    OutputError
        If the output cannot be written, has no run any more, or is held by another run: one that
        began after an earlier call for this job had given the output back.
    """
    output = open_output(out, settings.config.container)
    if not output.has(RUN_FILE):
        raise OutputError(
            f"{RUN_FILE} was removed from {output.describe()} while the run was at work.",
            hint="Retry the job; if other files of the run are left, name a new output.",
        )
    output.hold(load_record(output, RUN_FILE, RunRecord)["run_id"], job)
    removed: tuple[Failure, ...] = ()
    try:
        run = finish_run(output, failures=failures)
    except RemovedFilesError as error:
        hint = "Retry the job when nobody else works in this folder."
        removed = tuple(replace(each, hint=hint) for each in error.slides)
        for each in removed:
            output.remove(each.slide_id or "")
        gone = {each.slide_id for each in removed}
        others = [each for each in failures if each.slide_id not in gone]
        run = finish_run(output, failures=[*others, *removed])
    infos = {}
    for ref in dict.fromkeys(sources):
        with open_ref(ref) as project:
            infos[project.info.place] = project.info
    run = complete(run, infos.values(), OPEN, provenance=settings.options.provenance)
    output.release(job)
    return run, removed


def leave_shared_run(out: str, settings: Settings, *, job: str) -> None:
    """Give the output of a job back as it is, when nobody works on it any more.

    What is committed stays, and half-written files are removed. The run can be resumed.

    Raises
    ------
    OutputError
        If the output cannot be written.
    """
    output = open_output(out, settings.config.container)
    holder = output.holder()
    if holder is not None and holder.job == job:
        output.sweep(keep=output.slides())
        output.release(job)


def _continued(output: Output, settings: Settings, run_id: str) -> Settings:
    """Let a run that has begun go on."""
    options = settings.options
    if options.update or options.resume or not output.has(RUN_FILE):
        return settings
    if load_record(output, RUN_FILE, RunRecord)["run_id"] != run_id:
        return settings
    return Settings(settings.selection, settings.config, options.replace(resume=True))


def _forbidden(slide: Slide) -> Failure:
    error = SlideError(
        "The slide file is in no folder that the service may read.",
        hint="Ask the operator for its folder to be among the roots of sources.",
    )
    return Failure.of(slide, error)
