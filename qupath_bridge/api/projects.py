"""Functions that make QuPath projects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qupath_bridge.config import RunOptions
from qupath_bridge.pipeline.inputs import JOINING, joined_table, read_inputs
from qupath_bridge.pipeline.new_project import NewProject, check_new_project, write_project

from .opening import OPENING, Place, Source, open_source, options_of, refuse_unused, slides_of


def create_project(
    folder: Place,
    source: Source,
    *,
    classes: Sequence[str] = (),
    options: RunOptions | None = None,
    **changes: Any,
) -> NewProject:
    """Make a QuPath project over slides that have none.

    Parameters
    ----------
    folder : path
        New or empty; a project that is there is never changed.
    source : slides, or their paths
        Slide files, folders of slides, tables of slides.
    classes : sequence of str
        The class list that QuPath shows; QuPath's own when not given.
    options : RunOptions, optional
        How to open what is given by path, ``annotations`` (GeoJSON files that are drawn into the
        project) and ``metadata`` (a table); single options may be given by name.

    Returns
    -------
    NewProject
        Slides that cannot be read are in its ``failures``; the others are in the project.

    Raises
    ------
    OutputError
        If the folder has anything in it, or cannot be written.
    UsageError
        If slides are in a project already, two are the same, or the table does not fit.

    Examples
    --------
    >>> create_project("study", "slides/", classes=["Tumor"])       # doctest: +SKIP
    """
    options = options_of(options, changes)
    refuse_unused("create_project", options, *OPENING, *JOINING)
    with open_source(source, options) as (_, given):
        slides = slides_of(given)
        check_new_project(folder, slides)
        table = joined_table(options, slides)
        inputs = read_inputs(slides, options.only(*JOINING), known=slides, table=table)
        return write_project(Path(folder), slides, classes=classes, inputs=inputs)
