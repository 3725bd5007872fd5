"""Functions that select slides and plan their patches."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

from qupath_bridge.config import ExportConfig, RunOptions, Selection
from qupath_bridge.errors import SlideError
from qupath_bridge.frozen import FrozenDict
from qupath_bridge.model import Slide
from qupath_bridge.parallel import available_cores
from qupath_bridge.pipeline import estimate as _estimate
from qupath_bridge.pipeline.empty import warn_of_empty
from qupath_bridge.pipeline.estimate import Estimate
from qupath_bridge.pipeline.inputs import (
    NO_INPUTS,
    joined_table,
    listed_sizes,
    read_inputs,
    slide_key,
)
from qupath_bridge.pipeline.listed_boxes import fitted_config
from qupath_bridge.pipeline.plan import Plan, Plans
from qupath_bridge.pipeline.planning import plan_slide, plan_slides
from qupath_bridge.pipeline.select import select_slides
from qupath_bridge.pipeline.slide_labels import check_label_key
from qupath_bridge.pipeline.survey import name_slides, survey_plans
from qupath_bridge.pipeline.tissue import check_tissue
from qupath_bridge.sources.base import Project
from qupath_bridge.sources.joining import JoinedTable

from .opening import (
    FETCHING,
    INPUTS,
    OPENING,
    Place,
    Source,
    open_source,
    refuse_opening,
    refuse_unused,
    slides_of,
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
    slides = slides_of(source)
    return select_slides(slides, wanted) if wanted != Selection() else slides


def select_joined(
    slides: Sequence[Slide], selection: Selection | None, table: JoinedTable | None
) -> tuple[Slide, ...]:
    """Return the slides that a selection names, also by what a table says of them."""
    if table is None or not (selection and selection.where):
        return select(slides, selection)
    seen = [
        dataclasses.replace(slide, metadata=FrozenDict({**table.values(slide), **slide.metadata}))
        for slide in slides
    ]
    chosen = {slide_key(slide) for slide in select(seen, selection)}
    return tuple(slide for slide in slides if slide_key(slide) in chosen)


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
        Engine and places for what is given by path, ``reader`` for the slide files,
        ``corrections``, ``live_annotations``, ``coords`` and ``metadata``; other options are
        refused.

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
    refuse_unused("plan", options, *OPENING, *INPUTS, "reader", *FETCHING)
    check_tissue(config)
    if isinstance(source, Slide):
        refuse_opening(options)
        own = read_inputs((source,), options).get(slide_key(source), NO_INPUTS)
        config = fitted_config(config, listed_sizes([own]))
        one = plan_slide(source, config, options, inputs=own)
        # The other slides of the project are not read: a class may be theirs.
        shared = survey_plans([one], config, unread=True).warnings
        return dataclasses.replace(one, warnings=(*one.warnings, *shared))
    with open_source(source, options) as (projects, given):
        known = slides_of(given)
        table = joined_table(options, known)
        slides = select_joined(known, selection, table)
        names = name_slides(slides)
        slide_ids = [names[slide_key(slide)] for slide in slides]
        inputs = read_inputs(slides, options, known=known, table=table)
        config = fitted_config(config, listed_sizes(inputs.values()))
        joined = () if table is None else table.warnings
        check_label_key(
            [inputs.get(slide_key(slide), NO_INPUTS).applied(slide) for slide in slides], config
        )
        plans = plan_slides(slides, config, options, slide_ids=slide_ids, inputs=inputs)
    problems = [text for project in projects for text in project.problems]
    shared = survey_plans(plans, config, unread=bool(plans.failures)).warnings if len(plans) else ()
    empty = warn_of_empty(
        (one.slide.name, len(one), {str(reason): n for reason, n in one.dropped.items()})
        for one in plans
    )
    return Plans(plans, plans.failures, (*problems, *joined, *shared, *empty), config=plans.config)


def draw_previews(
    plans: Sequence[Plan], path: Path | None
) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Draw a picture of a plan; of several plans one page with the pictures of all.

    Returns
    -------
    tuple of Path
        The picture, unless the only slide cannot be read.
    tuple of str
        What went wrong with slides that cannot be read.
    """
    if path is None or not plans:
        return (), ()
    if len(plans) > 1:
        from qupath_bridge.pipeline.preview_page import draw_page

        notes = draw_page(plans, path)
        return (path,), notes
    try:
        plans[0].preview(path)
    except SlideError as error:
        return (), (f"{plans[0].slide.name}: no preview: {error}",)
    return (path,), ()


def estimate(plans: Plan | Sequence[Plan], *, workers: int | None = None) -> Estimate:
    """Return size and duration of an export, from a few patches that are made for it."""
    chosen = [plans] if isinstance(plans, Plan) else plans
    return _estimate.estimate(chosen, workers=workers or available_cores())
