"""Functions that look at projects, runs, tiles, outputs, and at what is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qupath_bridge.config import RunOptions
from qupath_bridge.errors import UsageError
from qupath_bridge.outputs.base import Output
from qupath_bridge.pipeline import inspection as _inspection
from qupath_bridge.pipeline import verify as _verify
from qupath_bridge.pipeline.inspection import Inspection
from qupath_bridge.pipeline.pseudonyms import check_key
from qupath_bridge.pipeline.records import load_finished
from qupath_bridge.pipeline.run import Run
from qupath_bridge.pipeline.verify import Verification
from qupath_bridge.qupath.files.uris import mapped_place
from qupath_bridge.qupath.jvm.installation import find_installations
from qupath_bridge.roundtrip import corrections as _corrections
from qupath_bridge.roundtrip import status as _status
from qupath_bridge.roundtrip import write_back as _write_back
from qupath_bridge.roundtrip.backups import Backup
from qupath_bridge.roundtrip.corrections import Corrections, Decision
from qupath_bridge.roundtrip.status import RunStatus
from qupath_bridge.sources.base import Project
from qupath_bridge.urls import url_of

from .opening import (
    FETCHING,
    OPENING,
    Place,
    Source,
    names_at,
    open_source,
    opened_project,
    options_of,
    output_of,
    refuse_stored,
    refuse_unused,
)

if TYPE_CHECKING:
    from qupath_bridge.pipeline.doctor import Check


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
    options = options_of(options, changes)
    refuse_unused("inspect", options, *OPENING, "reader", *FETCHING)
    with open_source(source, options) as (projects, _):
        return tuple(
            _inspection.inspect_project(project, reader=options.reader) for project in projects
        )


def verify(
    run: Run | Output | Place,
    *,
    pixels: int | None = None,
    reader: str = "auto",
    slide_map: Mapping[str, str] | None = None,
    pseudonymise: Place | None = None,
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
    pseudonymise : path, optional
        The key file of a run with pseudonyms: without it nobody knows where its slides are.
    on_progress : callable, optional
        Called with the number of patches that are done, and of all.

    Raises
    ------
    OutputError
        If there is no finished run.
    UsageError
        If there is no such reader, or patches with pseudonyms are to be compared with the slides
        and the key file is not that of the run.
    """
    output = output_of(run)
    names = names_at(pseudonymise)
    check_key(load_finished(output)["pseudonyms"], names, needed=pixels != 0)

    def find(facts: Mapping[str, Any]) -> Path:
        place = str(names.reveal(facts["path"]))
        return mapped_place(place, slide_map or {}) or Path(place)

    return _verify.verify(
        output, pixels=pixels, reader=reader, on_progress=on_progress, find_slide=find
    )


def report(
    run: Run | Output | Place,
    out: Place | None = None,
    *,
    reader: str = "auto",
    slide_map: Mapping[str, str] | None = None,
    pseudonymise: Place | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> str:
    """Write one HTML page on which everything about a run can be looked at.

    Nothing of it comes from elsewhere: it opens without a network, and can be sent to others. What
    is read from slides that are not found, or changed since, is left out, and the page says so. A
    run that is not finished has a page, too.

    Parameters
    ----------
    run : Run, Output, path or URL
    out : path, optional
        The file; ``report.html`` in the output when not given.
    reader : str
        What reads the slide files; that of the run when not given.
    slide_map : mapping of str to str, optional
        Old place to new place of slides that moved.
    pseudonymise : path, optional
        The key file of a run with pseudonyms, with which its slides are found. The page shows
        pseudonyms all the same.
    on_progress : callable, optional
        Called with the number of slides that are done, and of all.

    Returns
    -------
    str
        Where the page is.

    Raises
    ------
    OutputError
        If there is no run, or the page would replace a file that is not a report.
    UsageError
        If there is no such reader, or the key file is not that of the run.
    """
    from qupath_bridge.reporting.report import write_report

    if out is not None and (url := url_of(out)):
        raise UsageError(
            f"The page cannot be written to {url}.",
            hint="Leave the option out: it goes to the output of the run; or name a file of this "
            "machine.",
        )
    return write_report(
        output_of(run), None if out is None else Path(out),
        reader=reader, slide_map=slide_map or {}, names=names_at(pseudonymise),
        on_progress=on_progress,
    )  # fmt: skip


def doctor(qupath: Place | None = None) -> tuple[Check, ...]:
    """Return what is installed, what is missing, and how to get it."""
    from qupath_bridge.pipeline.doctor import checks

    return tuple(checks(find_installations(configured=qupath)))


def stored_data(project: Project) -> tuple[tuple[Backup, Mapping[str, str]], ...]:
    """Return the backups that write-backs made of a project's data, and the state of each slide."""
    return tuple(_write_back.backups(project.info.folder))


def corrections(
    project: Project | Place,
    options: RunOptions | None = None,
    *,
    collect: bool = False,
    accept: Iterable[str] = (),
    dismiss: Iterable[str] = (),
    reviewer: str | None = None,
    entries: Iterable[str] | None = None,
    **changes: Any,
) -> Corrections:
    """Return what people said about patches in QuPath: other classes, rejections, confirmations.

    Without ``collect``, ``accept`` and ``dismiss`` nothing is written.

    Parameters
    ----------
    project : Project or path
    options : RunOptions, optional
        How to open a project that is given by path.
    collect : bool
        Store what the slides' data say now, one file per slide that has anything new.
    accept, dismiss : iterable of str
        IDs or names of slides: what is unsure there is stored too, or forgotten.
    reviewer : str, optional
        Who said what is stored now.
    entries : iterable of str, optional
        IDs or names of slides; all when not given.

    Returns
    -------
    Corrections
        Slides that cannot be looked at are in it with their problem.

    Raises
    ------
    UsageError
        If there is no such slide, or one is to be accepted and dismissed; or the project is in
        object storage, where nothing is written.

    Examples
    --------
    >>> for slide in corrections("study/project.qpproj"):       # doctest: +SKIP
    ...     print(slide.slide_name, slide.number("corrected"), slide.number("rejected"))
    """
    options = options_of(options, changes)
    refuse_unused("corrections", options, *OPENING)
    refuse_stored(project)
    with opened_project(project, options) as opened:
        decisions: dict[str, Decision] = {opened[each].entry_id: "accept" for each in accept}
        for each in dismiss:
            if decisions.setdefault(opened[each].entry_id, "dismiss") == "accept":
                raise UsageError(f"The slide {each!r} is to be accepted and dismissed.")
        return _corrections.list_corrections(
            opened.slides if entries is None else [opened[each] for each in entries],
            decision="collect" if collect else "list",
            decisions=decisions,
            reviewer=reviewer,
        )


def status(
    project: Project | Place,
    options: RunOptions | None = None,
    *,
    runs: Iterable[Place] = (),
    **changes: Any,
) -> tuple[RunStatus, ...]:
    """Return the runs of a project, oldest first, each compared with the project of today.

    Slides are read by the reader that the run used.

    Parameters
    ----------
    project : Project, path or URL
    options : RunOptions, optional
        How to open a project that is given by path: engine and places.
    runs : iterable of path or URL
        Outputs with the provenance of further runs, because the project could not be written:
        those of projects in object storage.

    Raises
    ------
    OutputError
        If an output has no provenance of the project.
    """
    options = options_of(options, changes)
    refuse_unused("status", options, *OPENING)
    with opened_project(project, options) as opened:
        return _status.status(opened, runs)
