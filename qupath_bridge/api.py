"""The complete application as functions; the command line only parses, calls and prints.

A function that takes ``options`` also takes single options by name, which win over it:
``export(plans, "patches", workers=2)``.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from qupath_bridge import registry
from qupath_bridge.config import ExportConfig, RunOptions, Selection, Settings
from qupath_bridge.errors import (
    ConfigError,
    Fault,
    MissingDependencyError,
    ProjectError,
    SlideError,
    UsageError,
)
from qupath_bridge.model import Slide
from qupath_bridge.outputs import open_output
from qupath_bridge.outputs.base import Output
from qupath_bridge.pipeline import estimate as _estimate
from qupath_bridge.pipeline import inspection as _inspection
from qupath_bridge.pipeline import verify as _verify
from qupath_bridge.pipeline.cancel import Cancel
from qupath_bridge.pipeline.empty import warn_of_empty
from qupath_bridge.pipeline.estimate import Estimate
from qupath_bridge.pipeline.export import run_export
from qupath_bridge.pipeline.inspection import Inspection
from qupath_bridge.pipeline.parallel import available_cores
from qupath_bridge.pipeline.plan import Failure, Plan, Plans, plan_slide, plan_slides
from qupath_bridge.pipeline.preview import preview_path
from qupath_bridge.pipeline.progress import Progress, watch
from qupath_bridge.pipeline.run import Run
from qupath_bridge.pipeline.select import select_slides
from qupath_bridge.pipeline.slide_files import failure_lines
from qupath_bridge.pipeline.survey import Survey, name_slides, slide_key, survey, survey_plans
from qupath_bridge.pipeline.verify import Finding, Verification
from qupath_bridge.qupath.editing import Editor
from qupath_bridge.qupath.files.qpproj import check_kind, project_above
from qupath_bridge.qupath.files.uris import mapped_place
from qupath_bridge.qupath.jvm.installation import find_installations
from qupath_bridge.qupath.project_writer import copy_project
from qupath_bridge.roundtrip import corrected as _corrected
from qupath_bridge.roundtrip import provenance as _provenance
from qupath_bridge.roundtrip import status as _status
from qupath_bridge.roundtrip import write_back as _write_back
from qupath_bridge.roundtrip.backups import Backup
from qupath_bridge.roundtrip.corrected import CorrectedTiles
from qupath_bridge.roundtrip.provenance import Provenance
from qupath_bridge.roundtrip.status import EntryStatus, RunStatus
from qupath_bridge.roundtrip.write_back import BACKUPS, EntryChange, WriteBack
from qupath_bridge.sources import get_source, open_project
from qupath_bridge.sources.auto import choose
from qupath_bridge.sources.base import Project
from qupath_bridge.sources.slides import has_slides, is_plain
from qupath_bridge.stores import local_path

if TYPE_CHECKING:
    from qupath_bridge.pipeline.doctor import Check

__all__ = [
    "OPENING",
    "Backup",
    "CorrectedTiles",
    "EntryChange",
    "EntryStatus",
    "Estimate",
    "Failure",
    "Finding",
    "Inspection",
    "Plan",
    "Plans",
    "Progress",
    "Project",
    "Provenance",
    "Run",
    "RunStatus",
    "Verification",
    "WriteBack",
    "clean",
    "copy_project",
    "corrected_tiles",
    "doctor",
    "draw_previews",
    "ensure_provenance",
    "estimate",
    "export",
    "failure_lines",
    "find_projects",
    "inspect",
    "open_project",
    "plan",
    "select",
    "slide",
    "status",
    "stored_data",
    "undo_write_back",
    "verify",
    "write_back",
    "write_provenance",
]

log = logging.getLogger("qupath_bridge")

OPENING = ("engine", "qupath", "slide_map", "search", "annotations", "skip_bad_features")
"""Options of a run that say how to open a project that is given by path."""

Place = Path | str
"""A path or a URL."""
Source = Project | Slide | Place | Sequence[Project | Slide | Place]
"""Slides to work on: a project, slides, the path of a project or of a folder with projects.

With the option ``annotations`` also the path of a slide file, or of a folder with slides.
"""


def find_projects(place: Place) -> tuple[Path, ...]:
    """Return the project files of a place: the file itself, or those in a folder and below it.

    Raises
    ------
    ProjectError
        If there is none, or the file is plainly of another kind.
    """
    path = Path(place)
    if not path.is_dir():
        return (check_kind(path),)
    direct = sorted(path.glob("*.qpproj"))
    found = direct or sorted(path.glob("*/*.qpproj"))
    if not found:
        raise ProjectError(
            "No project found",
            path=path,
            hint=project_above(path)
            or "Name a .qpproj file or its folder, or give GeoJSON files for slides without a "
            "project with the option annotations.",
        )
    return tuple(found)


def slide(
    path: Place, *, annotations: Place | None = None, skip_bad_features: bool = False
) -> Slide:
    """Return a slide file as a slide, without a QuPath project.

    Parameters
    ----------
    path : path
        The slide file.
    annotations : path, optional
        GeoJSON file with its regions, or a folder in which a file has the slide's name; nothing
        is drawn on it when not given.
    skip_bad_features : bool
        Whether features that cannot be read are left out.

    Raises
    ------
    ReadError
        If the slide file cannot be read.
    UsageError
        If there is no such GeoJSON file.
    ProjectError
        If ``path`` is a folder or a project.
    """
    place = Path(path)
    if place.is_dir() or not is_plain(place):
        raise ProjectError(
            "this is not a slide file", path=place, hint="Open a project with open_project."
        )
    if annotations is None:
        opened = get_source("slides").open(place)
    else:
        opened = open_project(place, annotations=annotations, skip_bad_features=skip_bad_features)
    (only,) = opened.slides
    return only


def inspect(
    source: Source, options: RunOptions | None = None, **changes: Any
) -> tuple[Inspection, ...]:
    """Look at projects: slides, classes, pixel sizes, coordinates, and what is wrong with them.

    Problems are part of the result, not errors.

    Returns
    -------
    tuple of Inspection
        One per project.
    """
    options = _options(options, changes)
    _refuse_unused("inspect", options, *OPENING, "reader")
    with _open_source(source, options) as (projects, _):
        return tuple(
            _inspection.inspect_project(project, reader=options.reader) for project in projects
        )


def select(source: Source, selection: Selection | None = None, **changes: Any) -> tuple[Slide, ...]:
    """Return the slides that a selection names, in project order.

    Parameters
    ----------
    source : Project, Slide, or a sequence of these
    selection : Selection, optional
        ``entry``, ``where`` and ``tag`` may also be given by name.

    Raises
    ------
    ConfigError
        If a pattern, a metadata condition or a tag matches no slide.
    """
    wanted = (selection or Selection()).replace(**changes)
    slides = _slides_of(source)
    return select_slides(slides, wanted) if wanted != Selection() else slides


@overload
def plan(
    source: Slide,
    config: ExportConfig | None = ...,
    *,
    selection: Selection | None = ...,
    options: RunOptions | None = ...,
) -> Plan: ...
@overload
def plan(
    source: Project | Place | Sequence[Project | Slide | Place],
    config: ExportConfig | None = ...,
    *,
    selection: Selection | None = ...,
    options: RunOptions | None = ...,
) -> Plans: ...
def plan(
    source: Source,
    config: ExportConfig | None = None,
    *,
    selection: Selection | None = None,
    options: RunOptions | None = None,
) -> Plan | Plans:
    """Decide which patches to export, and with which labels.

    Parameters
    ----------
    source : Slide, or Project, or a path, or a sequence of these
    config : ExportConfig, optional
        Defaults where not given.
    selection : Selection, optional
        All slides when not given.
    options : RunOptions, optional
        Engine and places for what is given by path, and ``reader`` for the slide files; other
        options are refused.

    Returns
    -------
    Plan
        Of one slide.
    Plans
        Of everything else; slides that fail are in its ``failures``, and one of them never stops
        the others.

    Raises
    ------
    ConfigError
        If the configuration names a class that is nowhere, or the selection matches nothing.
    SlideError, ProjectError
        If a single slide cannot be planned.
    """
    config, options = config or ExportConfig(), options or RunOptions()
    _refuse_unused("plan", options, *OPENING, "reader")
    if isinstance(source, Slide):
        _refuse_opening(options)
        one = plan_slide(source, config, options)
        # The other slides of the project are not read: a class may be theirs.
        shared = survey_plans([one], unread=True).warnings
        return dataclasses.replace(one, warnings=(*one.warnings, *shared))
    with _open_source(source, options) as (projects, given):
        slides = select(given, selection)
        names = name_slides(slides)
        slide_ids = [names[slide_key(slide)] for slide in slides]
        plans = plan_slides(slides, config, options, slide_ids=slide_ids)
    problems = [text for project in projects for text in project.problems]
    shared = survey_plans(plans, unread=bool(plans.failures)).warnings if len(plans) else ()
    empty = warn_of_empty(
        (one.slide.name, len(one), {str(reason): n for reason, n in one.dropped.items()})
        for one in plans
    )
    return Plans(plans, plans.failures, (*problems, *shared, *empty))


def draw_previews(
    plans: Sequence[Plan], path: Path | None
) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Draw one picture per slide; the slide's id is added to the name where there are several.

    Returns
    -------
    tuple of Path
        The pictures.
    tuple of str
        What went wrong with slides that cannot be read.
    """
    if path is None:
        return (), ()
    drawn, notes = [], []
    for one in plans:
        target = preview_path(path, one.slide_id, len(plans))
        try:
            one.preview(target)
            drawn.append(target)
        except SlideError as error:
            notes.append(f"{one.slide.name}: no preview: {error}")
    return tuple(drawn), tuple(notes)


def estimate(plans: Plan | Sequence[Plan], *, workers: int | None = None) -> Estimate:
    """Return size and duration of an export, from a few patches that are made for it."""
    chosen = [plans] if isinstance(plans, Plan) else plans
    return _estimate.estimate(chosen, workers=workers or available_cores())


def export(
    source: Plan | Plans | Sequence[Plan] | Source,
    out: Place | Output,
    config: ExportConfig | None = None,
    *,
    selection: Selection | None = None,
    options: RunOptions | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    cancel: Cancel | None = None,
    command: Sequence[str] | None = None,
    **changes: Any,
) -> Run:
    """Write patches into an output, with index, record, report, and provenance for QuPath.

    Parameters
    ----------
    source : plans, or slides, or projects, or their paths
        Plans are made again for each slide right before it is written, and a slide whose plan
        differs by now fails.
    out : path, URL or Output
        A new or empty place; made when it does not exist.
    config : ExportConfig, optional
        What to make; that of the plans where plans are given.
    selection : Selection, optional
        Which slides; not for plans.
    options : RunOptions, optional
        How to run; single options may be given by name (``workers=2``, ``resume=True``).
    on_progress : callable, optional
        Called with :class:`Progress` values, from the calling thread.
    cancel : Cancel, optional
        A :class:`CancelToken`, or anything with ``is_set()``.
    command : sequence of str, optional
        For ``run.json``.

    Returns
    -------
    Run
        Slides that failed are in its ``failures``, and one of them never stops the others.

    Raises
    ------
    ConfigError
        If the configuration names a class that is nowhere in slides or projects.
    OutputError
        If the output is refused or cannot be written.
    InterruptedRunError
        If it is stopped; what is committed stays, and ``resume=True`` goes on.

    Examples
    --------
    A script that uses ``runner="processes"`` needs the usual ``if __name__ == "__main__":``.
    """
    options = _options(options, changes)
    plans = _plans_of(source)
    if plans is not None:
        if selection is not None or (config is not None and config != plans[0].config):
            raise UsageError(
                "Plans have their slides and configuration already.",
                hint="Give selection and config to plan, or export slides.",
            )
        _refuse_opening(options)
        return _export_plans(plans, out, options, on_progress, cancel, command)
    settings = Settings(selection or Selection(), config or ExportConfig(), options)
    with _open_source(source, options) as (projects, given):  # type: ignore[arg-type]
        slides = select(given, settings.selection)
        surveyed = survey(slides, settings.config, options)
        return _export(surveyed, out, settings, projects, {}, (), on_progress, cancel, command)


def _export_plans(
    plans: Plans,
    out: Place | Output,
    options: RunOptions,
    on_progress: Callable[[Progress], None] | None,
    cancel: Cancel | None,
    command: Sequence[str] | None,
) -> Run:
    if any(one.config != plans[0].config for one in plans):
        raise UsageError(
            "The plans were made with different configurations.",
            hint="Export them into one output each.",
        )
    settings = Settings(Selection(), plans[0].config, options)
    surveyed = survey_plans(plans, unread=bool(plans.failures))
    expected = {one.slide_id: one.digest for one in plans}
    return _export(
        surveyed, out, settings, (), expected, plans.failures, on_progress, cancel, command
    )


def _export(
    surveyed: Survey,
    out: Place | Output,
    settings: Settings,
    projects: Sequence[Project],
    expected: Mapping[str, str],
    failures: Sequence[Failure],
    on_progress: Callable[[Progress], None] | None,
    cancel: Cancel | None,
    command: Sequence[str] | None,
) -> Run:
    options = settings.options
    output = out if isinstance(out, Output) else open_output(out, settings.config.container)
    name, argument = registry.split_argument(options.runner)
    runner = registry.load("runner", name)(workers=options.workers, argument=argument)
    infos = {facts.slide.project.place: facts.slide.project for facts in surveyed.slides}
    records = {path: _project_record(info) for path, info in infos.items()}
    for project in projects:
        path = project.info.place
        records[path] = {**records.get(path, {}), **project.engine_record}
    with watch(on_progress or options.progress) as listener:
        run = run_export(
            surveyed, output, settings, runner,
            expected=expected, failures=failures,
            projects=[{**record, "path": path} for path, record in records.items()],
            command=sys.argv if command is None else command,
            progress=listener, cancel=cancel,
        )  # fmt: skip
    empty = warn_of_empty((s["slide_name"], s["written"], s["dropped"]) for s in run)
    warnings = [*(text for project in projects for text in project.problems), *run.warnings, *empty]
    written = []
    if options.provenance:
        in_files = local_path(run.url) is not None
        written = [
            _provenance.write_provenance(info, run)
            for info in infos.values()
            if in_files or not info.plain
        ]
        warnings += [each.warning for each in written if each.warning]
    return dataclasses.replace(
        run,
        provenance=tuple(dict.fromkeys(each.folder for each in written)),
        warnings=tuple(warnings),
    )


def _project_record(info: Any) -> dict[str, Any]:
    ref = info.source
    return {
        "name": ref and ref.engine,
        "project_version": info.version,
        "annotations": ref and ref.annotations,
        "skip_bad_features": bool(ref and ref.skip_bad_features),
    }


def verify(
    run: Run | Output | Place,
    *,
    pixels: int | None = None,
    reader: str = "auto",
    slide_map: Mapping[str, str] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Verification:
    """Compare every row of an index with its patch, and patches with the slides.

    Parameters
    ----------
    run : Run, Output, path or URL
    pixels : int, optional
        How many patches to read again from the slides, spread evenly; all when not given.
    reader : str
        What reads the slide files.
    slide_map : mapping of str to str, optional
        Old place to new place of slides that moved.
    on_progress : callable, optional
        Called with the number of patches that are done, and of all.

    Raises
    ------
    OutputError
        If there is no finished run.
    UsageError
        If there is no such reader.
    """
    return _verify.verify(
        _output_of(run), pixels=pixels, reader=reader, on_progress=on_progress,
        find_slide=lambda facts: mapped_place(facts["path"], slide_map or {}),
    )  # fmt: skip


def doctor(qupath: Place | None = None) -> tuple[Check, ...]:
    """Return what is installed, what is missing, and how to get it."""
    from qupath_bridge.pipeline.doctor import checks

    return tuple(checks(find_installations(configured=qupath)))


def stored_data(project: Project) -> tuple[tuple[Backup, Mapping[str, str]], ...]:
    """Return the backups that write-backs made of a project's data, and the state of each slide."""
    return tuple(_write_back.backups(project.info.folder))


def corrected_tiles(project: Project | Place) -> tuple[CorrectedTiles, ...]:
    """Return the tiles of runs that somebody gave another class in QuPath, by slide.

    Imports and write-backs leave them alone.
    """
    with _opened(project, RunOptions()) as opened:
        return tuple(_corrected.corrected_tiles(opened))


def ensure_provenance(
    project: Project | Place, run: Run | Place, *, dry_run: bool = False
) -> tuple[str, Provenance]:
    """Write a run into its project unless it is there; return its id and place."""
    with _opened_for_writing(project) as opened:
        return _provenance.ensure_provenance(opened, _run_name(run), dry_run=dry_run)


def clean(run: Run | Output | Place, *, break_lock: bool = False) -> int:
    """Remove what abandoned runs left in an output; return how many files that were.

    Only half-written files and patches that no index lists are removed.

    Raises
    ------
    OutputError
        If a run is writing to it, or it is not an output.
    """
    output = _output_of(run)
    with output.lock("clean", break_lock=break_lock):
        return output.sweep()


def status(
    project: Project | Place, options: RunOptions | None = None, **changes: Any
) -> tuple[RunStatus, ...]:
    """Return the runs of a project, oldest first, each compared with the project of today.

    ``options`` says how to open a project that is given by path: engine and places. Slides are
    read by the reader that the run used.
    """
    options = _options(options, changes)
    _refuse_unused("status", options, *OPENING)
    with _opened(project, options) as opened:
        return _status.status(opened)


def write_provenance(project: Project | Place, run: Run | Output | Place) -> Provenance:
    """Write a run's GeoJSON to ``<project>/qupath_bridge/runs/<run id>/``.

    Where the project cannot be written it goes to ``OUT/provenance/``; the result says so.

    Raises
    ------
    OutputError
        If neither place can be written, or the run was exported from another project.
    """
    finished = run if isinstance(run, Run) else Run.load(run)
    _verify.check_intact(finished.open())
    with _opened_for_writing(project) as opened:
        recorded = _provenance.recorded_project(opened, finished)
        return _provenance.write_provenance(opened.info, finished, recorded)


def write_back(
    project: Project | Place,
    run: Run | str | Path,
    *,
    engine: str = "auto",
    qupath: Path | str | None = None,
    selection: Selection | None = None,
    replace: bool = False,
    discard_corrections: bool = False,
    dry_run: bool = False,
    keep: int = BACKUPS,
    force: bool = False,
) -> WriteBack:
    """Write the tiles of a run straight into QuPath's data; QuPath has to be closed.

    Parameters
    ----------
    project : Project or path
    run : Run, run id, or output
    engine : str
        What writes: ``paquo``, ``embedded``, or ``auto``. What was written is read back with both,
        where a QuPath is installed.
    qupath : path, optional
        Its folder; the newest that is found when not given.
    selection : Selection, optional
        Which slides; all of the run when not given.
    replace : bool
        Also remove the tiles of all other runs.
    discard_corrections : bool
        Also replace tiles that a person gave another class in QuPath; else they are left alone.
    dry_run : bool
        Say what would change, and change nothing.
    keep : int
        Backups to keep, 0 for all.
    force : bool
        Write also if a QuPath is running that may have the project open.

    Returns
    -------
    WriteBack
        Slides that failed are in it, each with the reason and the data that it has now.

    Raises
    ------
    OutputError
        If QuPath has the project open or may have it open, another write-back is running, or
        there is no such run.
    InterruptedRunError
        If it was interrupted; the message says what was written, and how to undo it.
    """
    with (
        _opened_for_writing(project) as opened,
        _editors(engine, qupath) as ((editor, *verifiers), warnings),
    ):
        run_id, _ = _provenance.ensure_provenance(opened, _run_name(run), dry_run=dry_run)
        slides = None if selection is None else select(opened, selection)
        done = _write_back.write_back(
            opened, run_id, editor, slides=slides, replace=replace,
            discard_corrections=discard_corrections, dry_run=dry_run, keep=keep,
            verifiers=verifiers, force=force,
        )  # fmt: skip
    return dataclasses.replace(done, warnings=(*warnings, *done.warnings))


def undo_write_back(
    project: Project | Place,
    run: Run | str | Path,
    *,
    engine: str = "auto",
    qupath: Path | str | None = None,
    selection: Selection | None = None,
    dry_run: bool = False,
    keep: int = BACKUPS,
    force: bool = False,
) -> WriteBack:
    """Remove the tiles of a run from QuPath's data again; see :func:`write_back`.

    Data that nobody touched since get their old bytes. In others the tiles of the run go, those
    that they replaced come back, and every other object stays as it is now. The run is found by
    its backups and tiles too, so that its output is not needed.
    """
    with (
        _opened_for_writing(project) as opened,
        _editors(engine, qupath) as ((editor, *verifiers), warnings),
    ):
        slides = None if selection is None else select(opened, selection)
        run_id = _provenance.find_run_to_undo(opened.info, _run_name(run))
        done = _write_back.undo(
            opened, run_id, editor, slides=slides, dry_run=dry_run, keep=keep,
            verifiers=verifiers, force=force,
        )  # fmt: skip
    return dataclasses.replace(done, warnings=(*warnings, *done.warnings))


# --- what callers may name in several ways --------------------------------------------------------


def _options(options: RunOptions | None, changes: Mapping[str, Any]) -> RunOptions:
    unknown = [name for name in changes if name not in RunOptions.model_fields]
    if unknown:
        raise ConfigError([Fault(name, "no such option of a run") for name in unknown])
    base = options or RunOptions()
    return base.replace(**changes) if changes else base


def _refuse_unused(function: str, options: RunOptions, *used: str) -> None:
    """Refuse options that a function would accept and ignore."""
    unused = options.changed(*used)
    if unused:
        raise UsageError(
            f"{function} does not use {', '.join(unused)}.",
            hint=f"It uses {', '.join(used)}; RunOptions.only keeps these.",
        )


def _refuse_opening(options: RunOptions) -> None:
    """Refuse options of opening a project where nothing is given by path."""
    given = [name for name in OPENING if name in options.changed()]
    if given:
        raise UsageError(
            f"The project is open already; {', '.join(given)} would not be used.",
            hint="Give them to open_project, or name the project by its path.",
        )


def _slides_of(source: Any) -> tuple[Slide, ...]:
    if isinstance(source, Slide):
        return (source,)
    if isinstance(source, Project):
        return source.slides
    if isinstance(source, Iterable) and not isinstance(source, str | bytes):
        return tuple(slide for each in source for slide in _slides_of(each))
    raise UsageError(
        f"{type(source).__name__} is neither a project nor a slide.",
        hint="Open the project first: open_project(path).",
    )


def _plans_of(source: Any) -> Plans | None:
    if isinstance(source, Plan):
        return Plans([source])
    if isinstance(source, Plans):
        if not len(source):
            first = source.failures[0] if source.failures else None
            raise UsageError(
                "Nothing to export: no slide could be planned.",
                hint=f"The first failure: {first.slide_name}: {first.error}" if first else None,
            )
        return source
    if isinstance(source, list | tuple):
        if not source:
            raise UsageError("Nothing to export: no slide was planned.")
        if all(isinstance(each, Plan) for each in source):
            return Plans(source)
    return None


@contextmanager
def _open_source(
    source: Source, options: RunOptions
) -> Iterator[tuple[tuple[Project, ...], tuple[Project | Slide, ...]]]:
    """Open what is given by path; give the projects, and projects and slides in the order given."""
    several = isinstance(source, Sequence) and not isinstance(source, str)
    items: Any = source if several else (source,)
    if not any(isinstance(item, str | Path) for item in items):
        _refuse_opening(options)
    projects: list[Project] = []
    given: list[Project | Slide] = []
    with ExitStack() as stack:
        for item in items:
            if isinstance(item, Slide):
                given.append(item)
                continue
            if isinstance(item, Project):
                found = [item]
            else:
                found = [
                    stack.enter_context(_open(path, options)) for path in _places(item, options)
                ]
            projects += found
            given += found
        yield tuple(projects), tuple(given)


@contextmanager
def _opened(project: Project | Place, options: RunOptions) -> Iterator[Project]:
    if isinstance(project, Project):
        _refuse_opening(options)
        yield project
    else:
        with _open(Path(project), options) as opened:
            yield opened


@contextmanager
def _opened_for_writing(project: Project | Place) -> Iterator[Project]:
    """Open a project of whose slides nothing but names and sizes is asked: files will do."""
    if isinstance(project, Project):
        yield project
    else:
        with _open(Path(project), RunOptions(engine="embedded")) as opened:
            yield opened


def _places(place: Place, options: RunOptions) -> tuple[Path, ...]:
    """Return what to open at a place: projects, or slides where these can have regions."""
    slides_wanted = options.annotations is not None or options.engine == "slides"
    path = Path(place)
    if slides_wanted and is_plain(path):
        return (path,)
    found = find_projects(place)
    if slides_wanted and path.is_dir() and found[0].parent != path and has_slides(path):
        raise UsageError(
            f"{place} has slides, and QuPath projects in its folders.",
            hint="Name the project, or put the slides into a folder without projects.",
        )
    return found


def _open(path: Path, options: RunOptions) -> Project:
    return open_project(
        path,
        engine=options.engine,
        qupath=options.qupath,
        slide_map=options.slide_map,
        search=options.search,
        annotations=options.annotations,
        skip_bad_features=options.skip_bad_features,
    )


def _output_of(run: Run | Output | Place) -> Output:
    if isinstance(run, Run):
        return run.open()
    return run if isinstance(run, Output) else open_output(run)


def _run_name(run: Run | str | Path) -> str:
    return run.url if isinstance(run, Run) else str(run)


@contextmanager
def _editors(
    engine: str, qupath: Path | str | None
) -> Iterator[tuple[Sequence[Editor], tuple[str, ...]]]:
    """Give the editor that was asked for, then the others that can read what it made.

    ``auto`` takes QuPath's own classes where they can be used. What is written is read back by
    both engines in that case, whichever of them wrote. A QuPath that nobody asked for and that
    does not start is a warning.
    """
    choice = choose(find_installations(configured=qupath))
    first = choice.name if engine == "auto" else engine
    names = [first]
    if first == "paquo" or (first == "embedded" and choice.name == "paquo"):
        names.append("embedded" if first == "paquo" else "paquo")
    ready: list[Editor] = []
    warnings: tuple[str, ...] = ()
    try:
        for name in names:
            editor = get_source(name, qupath=qupath)
            if not isinstance(editor, Editor):
                raise UsageError(f"The engine {name!r} cannot write.", hint="Use 'embedded'.")
            try:
                editor.start()
            except MissingDependencyError as error:
                if name == engine:
                    raise
                warnings = (*warnings, f"QuPath could not be used: {error}")
                continue
            ready.append(editor)
        yield ready, warnings
    finally:
        for each in ready:
            each.close()
