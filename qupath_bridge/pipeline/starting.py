"""The start of a run: what is checked, frozen and written before the first slide.

One machine that does a whole run and a service whose workers share it start a run here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qupath_bridge.config import ExportConfig, RunOptions, Settings
from qupath_bridge.config.masks import CLASS_MASK, mask_kinds
from qupath_bridge.errors import OutputError, UsageError
from qupath_bridge.frozen import FrozenDict
from qupath_bridge.outputs.base import Output
from qupath_bridge.patches import ids
from qupath_bridge.patches.mask_classes import classes_record, read_classes
from qupath_bridge.sources.joining import JoinedTable
from qupath_bridge.stores import local_path

from . import records
from .inputs import (
    SlideInputs,
    SlideKey,
    digest_of,
    files_of,
    frozen_inputs,
    input_problem,
    inputs_by_slide,
    read_inputs,
    slide_key,
    without_masks,
)
from .opened import source_of
from .output_check import check_output
from .places import check_place
from .plan import Failure
from .pseudonyms import OPEN, Names
from .survey import SlideFacts, Survey, name_slides
from .task import SlideTask
from .tissue import read_tissue_file

if TYPE_CHECKING:
    from qupath_bridge.model import Slide
    from qupath_bridge.patches.corrections import Correction

__all__ = ["choose_inputs", "plan_run", "run_tasks", "start_run"]


def plan_run(
    survey: Survey,
    output: Output,
    settings: Settings,
    *,
    failures: Sequence[Failure] = (),
    projects: Sequence[Mapping[str, Any]] = (),
    command: Sequence[str] = (),
    names: Names = OPEN,
    run_id: str | None = None,
) -> dict[str, Any]:
    """Return the record of a run, or of the run in the output that it continues.

    Nothing is written. ``failures`` are slides that failed before, and ``run_id`` is the id of a
    run that is new.

    Raises
    ------
    UsageError
        If there is no slide, or the output would be inside a project.
    OutputError
        If the output has anything that this run does not continue.
    """
    if not survey.slides and not failures:
        raise UsageError("Nothing to export: no slide was given.")
    _check_place(output, survey.slides)
    record = records.run_record(
        run_id or ids.run_id(),
        survey,
        settings,
        projects=projects,
        command=command,
        started=records.timestamp(),
        failures=failures,
        names=names,
    )
    return check_output(output, settings.options, record)


def start_run(
    survey: Survey, output: Output, settings: Settings, record: dict[str, Any]
) -> dict[str, Any]:
    """Write ``run.json``, and freeze the inputs of all slides. The caller holds the lock.

    Doing it again after a crash changes nothing that was frozen.

    Returns
    -------
    dict
        The record as written.

    Raises
    ------
    OutputError
        If somebody else wrote into the output since :func:`plan_run`, or it cannot be written.
    """
    record = check_output(output, settings.options, record)
    record = _freeze_inputs(survey, output, record, settings.config)
    output.put(records.RUN_FILE, records.dump_json(record), durable=True)
    classes = read_classes(record["classes"])
    if CLASS_MASK in mask_kinds(settings.config.masks):
        output.put(records.CLASSES_FILE, records.dump_json(classes_record(classes)))
    output.sweep(keep=output.slides())
    return record


def run_tasks(
    survey: Survey,
    output: Output,
    settings: Settings,
    record: Mapping[str, Any],
    expected: Mapping[str, str] = FrozenDict(),
) -> Iterator[SlideTask]:
    """Yield the task of each slide of a run that was started.

    Parameters
    ----------
    survey : Survey
    output : Output
    settings : Settings
    record : mapping
        As :func:`start_run` returned it.
    expected : mapping of str to str
        Plan digests by slide id; a slide whose plan differs by now fails.
    """
    options, preview = settings.options, settings.options.preview
    inputs = inputs_by_slide(record["inputs"])
    for facts in survey.slides:
        if preview is not None:
            from .preview import preview_path

            path = preview_path(preview, facts.slide_id, len(survey.slides))
            options = settings.options.replace(preview=path)
        yield SlideTask(
            source=source_of(facts.slide),
            entry_id=facts.slide.entry_id,
            slide_id=facts.slide_id,
            config=settings.config,
            options=options,
            labels=survey.labels,
            output=output.url,
            run_id=record["run_id"],
            expected_plan_digest=expected.get(facts.slide_id),
            inputs=inputs.get(facts.slide_id, FrozenDict()),
            classes=read_classes(record["classes"]),
        )


def _freeze_inputs(
    survey: Survey, output: Output, record: dict[str, Any], config: ExportConfig
) -> dict[str, Any]:
    """Write the inputs of all slides into the output, and return the record that lists them."""
    before = inputs_by_slide(record["inputs"] or {})
    if not output.has(records.RUN_FILE):
        # What is killed from here on can be resumed: a record without inputs reads them anew.
        output.put(records.RUN_FILE, records.dump_json(record), durable=True)
    listed: dict[str, str] = {}
    for facts in survey.slides:
        known = before.get(facts.slide_id)
        inputs = facts.inputs
        if known is None:
            mask = read_tissue_file(config, facts.slide.name, facts.slide.entry_id)
            inputs = dataclasses.replace(inputs, tissue=mask)
        files = files_of(facts.slide_id, facts.slide.entry_id, inputs)
        digests = {name: digest_of(content) for name, content in files.items()}
        if known is not None and without_masks(known) != digests:
            raise OutputError(
                f"The inputs of {facts.slide.name} are not those with which the run in "
                f"{output.describe()} began.",
                hint="Export with update, which reads them anew.",
            )
        for name, content in files.items():
            if input_problem(output, name, digests[name]):
                output.put(name, content, durable=True)
        listed |= {**(known or {}), **digests}
    return {**record, "inputs": listed}


def choose_inputs(
    slides: Sequence[Slide],
    options: RunOptions,
    output: Output,
    known: Iterable[Slide],
    said: Mapping[SlideKey, tuple[Correction, ...]] = FrozenDict(),
    table: JoinedTable | None = None,
    shown_names: Names = OPEN,
) -> dict[SlideKey, SlideInputs]:
    """Return the inputs of slides: those that a run that is resumed froze, else those of now.

    Parameters
    ----------
    slides : sequence of Slide
    options : RunOptions
    output : Output
    known : iterable of Slide
        All slides of the projects.
    said : mapping of SlideKey to tuple of Correction
        Corrections that were read just now.
    table : JoinedTable, optional
        What the option ``metadata`` names; not read where every slide has frozen inputs.
    shown_names : Names
        Names of slides in files.

    Raises
    ------
    OutputError
        If frozen inputs are damaged.
    ProjectError, UsageError
        If those of now cannot be read.
    """
    frozen = (frozen_inputs(output) if options.resume else None) or {}
    names = name_slides(slides, shown_names)
    before = {
        slide_key(slide): frozen[name]
        for slide in slides
        if (name := names[slide_key(slide)]) in frozen
    }
    new = [slide for slide in slides if slide_key(slide) not in before]
    if not new:
        return before
    read = read_inputs(new, options, known=known, output=output, said=said, table=table)
    return {**read, **before}


def _check_place(output: Output, slides: Sequence[SlideFacts]) -> None:
    place = local_path(output.url) or Path(output.url)
    for folder in {facts.slide.project.folder for facts in slides}:
        check_place(place, folder)
