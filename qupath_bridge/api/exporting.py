"""Functions that write patches into an output, and tidy it."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qupath_bridge import registry
from qupath_bridge.config import ExportConfig, RunOptions, Selection, Settings
from qupath_bridge.errors import BridgeError, ProjectError, UsageError
from qupath_bridge.frozen import FrozenDict
from qupath_bridge.model import Slide
from qupath_bridge.outputs import open_output
from qupath_bridge.outputs.base import Output
from qupath_bridge.parallel import available_cores
from qupath_bridge.patches.roles import EXCLUDED
from qupath_bridge.pipeline.cancel import Cancel
from qupath_bridge.pipeline.empty import warn_of_empty
from qupath_bridge.pipeline.export import run_export
from qupath_bridge.pipeline.inputs import (
    JOINING,
    NO_INPUTS,
    joined_table,
    listed_sizes,
    read_inputs,
    slide_key,
)
from qupath_bridge.pipeline.listed_boxes import fitted_config
from qupath_bridge.pipeline.output_check import check_output
from qupath_bridge.pipeline.places import check_place
from qupath_bridge.pipeline.plan import Failure, Plan, Plans
from qupath_bridge.pipeline.profile import Profile
from qupath_bridge.pipeline.progress import Progress, watch
from qupath_bridge.pipeline.pseudonyms import OPEN, Names, register_names
from qupath_bridge.pipeline.recorded_runs import run_folders
from qupath_bridge.pipeline.run import Run
from qupath_bridge.pipeline.slide_labels import (
    check_label_key,
    has_no_drawing,
    label_names,
)
from qupath_bridge.pipeline.starting import choose_inputs
from qupath_bridge.pipeline.survey import Survey, survey, survey_plans
from qupath_bridge.pipeline.tissue import check_tissue
from qupath_bridge.roundtrip import provenance as _provenance
from qupath_bridge.sources.base import Project
from qupath_bridge.stores import local_path
from qupath_bridge.timing import collect, step

from .opening import (
    INPUTS,
    Place,
    Source,
    open_source,
    opened_project,
    options_of,
    output_of,
    refuse_opening,
    slides_of,
)
from .planning import select_joined

if TYPE_CHECKING:
    from qupath_bridge.model import ProjectInfo
    from qupath_bridge.roundtrip.corrections import SlideCorrections
    from qupath_bridge.sources.joining import JoinedTable


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
    UsageError
        If plans are given and none of their slides could be planned; the output then has the
        report of a run in which every slide failed.

    Examples
    --------
    A script that uses ``runner="processes"`` needs the usual ``if __name__ == "__main__":``.
    """
    options = options_of(options, changes)
    began = time.perf_counter()
    with collect(options.profile) as timer:
        run = _export_source(source, out, config, selection, options, on_progress, cancel, command)
        if options.track != "none":
            run = _tracked(run, options.track)
    if not options.profile:
        return run
    workers = options.workers or available_cores()
    wall = time.perf_counter() - began
    seconds, amounts = FrozenDict(timer.seconds), FrozenDict(timer.amounts)
    return dataclasses.replace(run, profile=Profile(seconds, wall, run.written, workers, amounts))


def _tracked(run: Run, to: str) -> Run:
    """Tell a service of a run; that it could not be told is a warning, the patches are there."""
    from .tracking import track

    try:
        track(run, to)
    except BridgeError as error:
        later = f"`qupath-bridge track {run.place} --to {to}` tries again"
        return dataclasses.replace(run, warnings=(*run.warnings, f"Not tracked: {error} {later}."))
    return run


def _export_source(
    source: Plan | Plans | Sequence[Plan] | Source,
    out: Place | Output,
    config: ExportConfig | None,
    selection: Selection | None,
    options: RunOptions,
    on_progress: Callable[[Progress], None] | None,
    cancel: Cancel | None,
    command: Sequence[str] | None,
) -> Run:
    plans = _plans_of(source)
    if plans is not None:
        if selection is not None or config not in (None, plans.config):
            raise UsageError(
                "Plans have their slides and configuration already.",
                hint="Give selection and config to plan, or export slides.",
            )
        refuse_opening(options)
        if unused := sorted(set(options.changed()) & {*INPUTS, *_OF_SLIDES}):
            raise UsageError(
                f"Plans have their inputs already; {', '.join(unused)} would not be used.",
                hint="Give them to plan, or export slides.",
            )
        return _export_plans(plans, out, options, on_progress, cancel, command)
    settings = Settings(selection or Selection(), config or ExportConfig(), options)
    check_tissue(settings.config)
    with open_source(source, options) as (projects, given):  # type: ignore[arg-type]
        known = slides_of(given)
        table = joined_table(options, known)
        slides = select_joined(known, settings.selection, table)
        output = out if isinstance(out, Output) else open_output(out, settings.config.container)
        if options.create_project is not None:
            return _export_new_project(
                slides, output, settings, table, on_progress, cancel, command
            )
        return _export_slides(
            slides, known, output, settings, projects, (), table, on_progress, cancel, command
        )


def _export_slides(
    slides: Sequence[Slide],
    known: Sequence[Slide],
    output: Output,
    settings: Settings,
    projects: Sequence[Project],
    failures: Sequence[Failure],
    table: JoinedTable | None,
    on_progress: Callable[[Progress], None] | None,
    cancel: Cancel | None,
    command: Sequence[str] | None,
) -> Run:
    """Export selected slides of projects that are open."""
    options = settings.options
    surveyed, settings, names, collected = survey_slides(
        slides, known, output, settings, table, command
    )
    run = _export(
        surveyed, output, settings, projects, {}, failures, on_progress, cancel, command, names
    )
    # A run that is resumed has its values already, and may have lost the table.
    joined = () if table is None or options.resume else table.warnings
    problems = (
        f"The corrections of {each.slide_name} could not be collected: {each.problem}"
        for each in collected
        if each.problem
    )
    return dataclasses.replace(
        run,
        warnings=(*problems, *joined, *run.warnings),
        unsure=sum(len(each.unsure) for each in collected),
    )


def survey_slides(
    slides: Sequence[Slide],
    known: Sequence[Slide],
    output: Output,
    settings: Settings,
    table: JoinedTable | None,
    command: Sequence[str] | None,
) -> tuple[Survey, Settings, Names, tuple[SlideCorrections, ...]]:
    """Collect what people said, choose the inputs of slides, and survey them.

    The settings are returned with what inputs decide of them.
    """
    options = settings.options
    collected = _collect(slides, options)
    names = register_names(
        options, slides, selection=settings.selection,
        command=sys.argv if command is None else command, output=local_path(output.url),
    )  # fmt: skip
    with step("plan"):
        said = {(e.project, e.entry_id): e.statements for e in collected if not e.problem}
        inputs = choose_inputs(
            slides, options, output, known, said=said, table=table, shown_names=names
        )
        key = settings.config.label_key
        inputs = {place: names.inputs(each, key) for place, each in inputs.items()}
        config = fitted_config(settings.config, listed_sizes(inputs.values()))
        surveyed = survey(slides, config, options, inputs=inputs, shown_names=names)
    return surveyed, dataclasses.replace(settings, config=config), names, collected


def _export_new_project(
    slides: Sequence[Slide],
    output: Output,
    settings: Settings,
    table: JoinedTable | None,
    on_progress: Callable[[Progress], None] | None,
    cancel: Cancel | None,
    command: Sequence[str] | None,
) -> Run:
    """Make a project over the slides, unless a run that goes on has made it, and export it.

    It has everything that the options added to the slides, so that the run needs none of them.
    """
    from qupath_bridge.pipeline.new_project import write_project

    options = settings.options
    folder = Path(options.create_project or "")
    joined: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    # Also of those that cannot be put into the project.
    register_names(
        options, slides, selection=settings.selection,
        command=sys.argv if command is None else command, output=local_path(output.url),
    )  # fmt: skip
    if not (options.resume or options.update) or not any(folder.glob("*.qpproj")):
        _check_both_places(output, folder, options)
        inputs = read_inputs(slides, options.only(*JOINING), known=slides, table=table)
        seen = [inputs.get(slide_key(slide), NO_INPUTS).applied(slide) for slide in slides]
        check_label_key(seen, settings.config)
        labels = label_names(seen, settings.config)
        classes = [*labels, EXCLUDED] if labels else []
        failures = write_project(folder, slides, classes=classes, inputs=inputs).failures
        joined = () if table is None else table.warnings
    mine = {slide.entry_id for slide in slides}
    kept = RunOptions().model_dump(include=set(ADDED))
    engine = "auto" if options.engine == "slides" else options.engine
    config = settings.config
    if all(has_no_drawing(slide, config) for slide in slides):
        config = config.replace(labels=False)  # the new project is one in which one could draw
    later = Settings(Selection(), config, options.replace(**kept, engine=engine))
    with opened_project(folder, later.options) as project:
        there = {slide.entry_id for slide in project} | {each.entry_id for each in failures}
        gone = ProjectError("not in the project", path=project.info.shown, hint="Add it in QuPath.")
        failures += tuple(Failure.of(s, gone) for s in slides if s.entry_id not in there)
        run = _export_slides(
            [slide for slide in project if slide.entry_id in mine],
            project.slides, output, later, (project,), failures, None,
            on_progress, cancel, command,
        )  # fmt: skip
    return dataclasses.replace(run, warnings=(*joined, *run.warnings))


_OF_SLIDES = ("reviewer", "create_project", "pseudonymise", "metadata_keep")
"""Options, besides those of inputs, that plans cannot have any more."""

ADDED = (
    "annotations", "skip_bad_features", "slide_map", "search", "create_project", *JOINING,
)  # fmt: skip
"""Options whose values are in the project once it is made."""


def _check_both_places(output: Output, folder: Path, options: RunOptions) -> None:
    """Refuse an output before a project is made for it."""
    check_output(output, options, {})
    place = local_path(output.url)
    if place is not None and folder.absolute().is_relative_to(place.absolute()):
        raise UsageError(
            f"The project {folder} would be in the output {place}.",
            hint="Name a folder beside it.",
        )
    if place is not None:
        check_place(place, folder.absolute())


def _collect(slides: Sequence[Slide], options: RunOptions) -> tuple[SlideCorrections, ...]:
    """Store what people said in QuPath, before it is applied.

    A run that is resumed has its inputs already, and in object storage nothing is stored.
    """
    slides = [slide for slide in slides if not slide.project.is_stored]
    if options.corrections != "auto" or options.resume or not slides:
        if options.reviewer is not None:
            raise UsageError(
                "The reviewer is not used: nothing is collected with resume, with corrections "
                "other than 'auto', or in projects in object storage."
            )
        return ()
    projects = {slide.project.place: slide.project for slide in slides if not slide.project.plain}
    if not any(map(run_folders, projects.values())):
        return ()  # before the first run there is nothing that anybody could have corrected
    from qupath_bridge.roundtrip.corrections import collect_corrections

    return collect_corrections(slides, options.reviewer)


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
    if plans.config is None:
        raise UsageError("Nothing to export: no slide was planned.")
    settings = Settings(Selection(), plans.config, options)
    surveyed = survey_plans(plans, plans.config, unread=bool(plans.failures))
    expected = {one.slide_id: one.digest for one in plans}
    output = out if isinstance(out, Output) else open_output(out, plans.config.container)
    run = _export(
        surveyed, output, settings, (), expected, plans.failures, on_progress, cancel, command
    )
    if not plans:
        first = plans.failures[0]
        raise UsageError(
            f"Nothing was exported: no slide could be planned. {run.place} has the report.",
            hint=f"The first failure: {first.slide_name}: {first.error}",
        )
    return run


def _export(
    surveyed: Survey,
    output: Output,
    settings: Settings,
    projects: Sequence[Project],
    expected: Mapping[str, str],
    failures: Sequence[Failure],
    on_progress: Callable[[Progress], None] | None,
    cancel: Cancel | None,
    command: Sequence[str] | None,
    names: Names = OPEN,
) -> Run:
    options = settings.options
    name, argument = registry.split_argument(options.runner)
    runner = registry.load("runner", name)(workers=options.workers, argument=argument)
    infos = {facts.slide.project.place: facts.slide.project for facts in surveyed.slides}
    with watch(on_progress or options.progress) as listener:
        run = run_export(
            surveyed, output, settings, runner,
            expected=expected, failures=failures,
            projects=project_records(infos.values(), projects),
            command=sys.argv if command is None else command, names=names,
            progress=listener, cancel=cancel,
        )  # fmt: skip
    problems = (text for project in projects for text in project.problems)
    done = complete(run, infos.values(), names, provenance=options.provenance)
    return dataclasses.replace(done, warnings=(*problems, *done.warnings))


def complete(run: Run, infos: Iterable[ProjectInfo], names: Names, *, provenance: bool) -> Run:
    """Write a finished run into its projects, and say what the user should know of it."""
    empty = warn_of_empty((s["slide_name"], s["written"], s["dropped"]) for s in run)
    written = []
    if provenance:
        in_files = local_path(run.url) is not None
        with step("commit"):
            written = [
                _provenance.write_provenance(info, run, names=names)
                for info in infos
                if in_files or not info.plain
            ]
    notes = (each.warning for each in written if each.warning)
    return dataclasses.replace(
        run,
        provenance=tuple(dict.fromkeys(each.folder for each in written)),
        warnings=(*run.warnings, *empty, *notes),
    )


def project_records(
    infos: Iterable[ProjectInfo], projects: Sequence[Project]
) -> list[dict[str, Any]]:
    """Return what ``run.json`` says of the projects of a run."""
    records = {info.place: _project_record(info) for info in infos}
    for project in projects:
        path = project.info.place
        records[path] = {**records.get(path, {}), **project.engine_record}
    return [{**record, "path": path} for path, record in records.items()]


def _project_record(info: ProjectInfo) -> dict[str, Any]:
    ref = info.source
    return {
        "name": ref and ref.engine,
        "project_version": info.version,
        "annotations": ref and ref.annotations,
        "skip_bad_features": bool(ref and ref.skip_bad_features),
    }


def _plans_of(source: Any) -> Plans | None:
    if isinstance(source, Plan):
        return Plans([source])
    if isinstance(source, Plans):
        return source
    if isinstance(source, list | tuple) and all(isinstance(each, Plan) for each in source):
        return Plans(source)
    return None


def clean(run: Run | Output | Place, *, break_lock: bool = False) -> int:
    """Remove what abandoned runs left in an output; return how many files that were.

    Only half-written files and patches that no index lists are removed.

    Raises
    ------
    OutputError
        If a run is writing to it, or it is not an output.
    """
    output = output_of(run)
    with output.lock("clean", break_lock=break_lock):
        return output.sweep()
