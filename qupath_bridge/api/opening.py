"""Arguments that callers may give in several ways: projects and slides, options, outputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from qupath_bridge.config import RunOptions
from qupath_bridge.errors import BridgeError, ConfigError, Fault, ProjectError, UsageError
from qupath_bridge.model import Slide
from qupath_bridge.outputs import open_output
from qupath_bridge.outputs.base import Output
from qupath_bridge.pipeline.pseudonyms import Names, names_of
from qupath_bridge.pipeline.records import RUN_FILE, load_record
from qupath_bridge.pipeline.run import Run
from qupath_bridge.qupath.files import finding
from qupath_bridge.qupath.files.finding import (
    NAME_ONE,
    check_kind,
    file_kind,
    is_project_file,
    project_above,
    projects_in,
)
from qupath_bridge.readers import is_slide, open_reader
from qupath_bridge.schemas import RunRecord
from qupath_bridge.sources import open_project
from qupath_bridge.sources.base import Project, project_errors
from qupath_bridge.sources.slides import has_slides, is_plain, is_table
from qupath_bridge.stores.files import files_in, is_object
from qupath_bridge.stores.staging import use_cache
from qupath_bridge.urls import shown, url_of

OPENING = ("engine", "qupath", "slide_map", "search", "annotations", "skip_bad_features")
"""Options of a run that say how to open a project that is given by path."""

FETCHING = ("fetch", "cache", "cache_size")
"""Options of a run that say how slides come from object storage."""

INPUTS = ("corrections", "live_annotations", "coords", "metadata", "metadata_key")
"""Options of a run that say what slides are planned from besides their own data."""

Place = Path | str
"""A path or a URL."""
Source = Project | Slide | Place | Sequence[Project | Slide | Place]
"""Slides to work on: projects and slides, or their paths.

A path is that of a project, a folder with projects, a slide file, a folder with slides, or a table
of slides (CSV or Parquet).
"""


def find_projects(place: Place) -> tuple[Path, ...]:
    """Return the project files of a place: the file itself, or those in a folder and below it.

    Raises
    ------
    ProjectError
        If there is none, or the file is plainly of another kind.
    """
    path = Path(place)
    if is_project_file(path) if url_of(path) else not path.is_dir():
        return (check_kind(path),)
    with project_errors(path):
        found = projects_in(path)
    if not found:
        above = None if url_of(path) else project_above(path)
        raise ProjectError(
            "No project and no slide found", path=shown(path), hint=above or NAME_ONE
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
    if place.is_dir() or is_table(place) or not is_plain(place):
        raise ProjectError(
            "this is not a slide file", path=place, hint="Open a project with open_project."
        )
    open_reader(place).close()
    opened = open_project(
        place, engine="slides", annotations=annotations, skip_bad_features=skip_bad_features
    )
    (only,) = opened.slides
    return only


def options_of(options: RunOptions | None, changes: Mapping[str, Any]) -> RunOptions:
    """Return the options of a call: those given together, changed by those given by name."""
    unknown = [name for name in changes if name not in RunOptions.model_fields]
    if unknown:
        raise ConfigError([Fault(name, "no such option of a run") for name in unknown])
    base = options or RunOptions()
    return base.replace(**changes) if changes else base


def refuse_unused(function: str, options: RunOptions, *used: str) -> None:
    """Refuse options that a function would accept and ignore."""
    unused = options.changed(*used)
    if unused:
        raise UsageError(
            f"{function} does not use {', '.join(unused)}.",
            hint=f"It uses {', '.join(used)}; RunOptions.only keeps these.",
        )


def refuse_opening(options: RunOptions) -> None:
    """Refuse options of opening a project where nothing is given by path."""
    given = [name for name in OPENING if name in options.changed()]
    if given:
        raise UsageError(
            f"The project is open already; {', '.join(given)} would not be used.",
            hint="Give them to open_project, or name the project by its path.",
        )


def slides_of(source: Any) -> tuple[Slide, ...]:
    """Return the slides of what is open already, in the order given."""
    if isinstance(source, Slide):
        return (source,)
    if isinstance(source, Project):
        return source.slides
    if isinstance(source, Iterable) and not isinstance(source, str | bytes):
        return tuple(slide for each in source for slide in slides_of(each))
    raise UsageError(
        f"{type(source).__name__} is neither a project nor a slide.",
        hint="Open the project first: open_project(path).",
    )


@contextmanager
def open_source(
    source: Source, options: RunOptions
) -> Iterator[tuple[tuple[Project, ...], tuple[Project | Slide, ...]]]:
    """Open what is given by path; give the projects, and projects and slides in the order given."""
    use_cache(options.cache, options.cache_size, options.fetch)
    several = isinstance(source, Sequence) and not isinstance(source, str)
    items: Any = source if several else (source,)
    if not any(isinstance(item, str | Path) for item in items):
        refuse_opening(options)
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
def opened_project(project: Project | Place, options: RunOptions) -> Iterator[Project]:
    """Open a project that is given by path; one that is open stays so."""
    if isinstance(project, Project):
        refuse_opening(options)
        yield project
    else:
        with _open(find_project_file(Path(project)), options) as opened:
            yield opened


def find_project_file(place: Place) -> Path:
    """Return the project file at a path: the file itself, or the only one in a folder.

    Raises
    ------
    ProjectError
        If there is none. Its hint has the next step for slides without a project, and for the
        output of a run.
    """
    path = Path(place)
    try:
        with project_errors(path):
            return finding.find_project_file(path)
    except ProjectError as error:
        hint = _without_project(path) if path.is_dir() else None
        if hint is None:
            raise
        raise ProjectError(error.problem, path=path, hint=hint) from error


def _without_project(path: Path) -> str | None:
    """Return the next step at a folder without a project; None for a folder of another kind."""
    if (path / RUN_FILE).is_file():
        try:
            record = load_record(open_output(str(path)), RUN_FILE, RunRecord)
        except BridgeError:
            return None
        check = f"`qupath-bridge verify {path}` compares its patches with the slides."
        sources = sorted({slide["project"] for slide in record["slides"]})
        if any(source.endswith(".qpproj") for source in sources):
            return f"It is the output of run {record['run_id']}. {check} Its project: {sources[0]}."
        return (
            f"It is the output of run {record['run_id']}, of slides without a project. {check} "
            "The same export with update brings it up to date."
        )
    if is_plain(path) and has_slides(path):
        return (
            "Runs of slides without a project are known to their outputs alone: `qupath-bridge "
            "verify OUT` compares one with its slides. `qupath-bridge project create DIR "
            f"{path}` makes a project, which knows its runs."
        )
    return None


def refuse_stored(project: Project | Place) -> None:
    """Refuse a project in object storage where its runs are read or anything is written.

    Raises
    ------
    UsageError
        With the next step.
    """
    place = project.info.path if isinstance(project, Project) else Path(project)
    if url_of(place) is not None:
        raise UsageError(
            f"{shown(place)} is in object storage: it can be planned and exported from there, and "
            "nothing is written there.",
            hint="Copy the folder of the project to this machine, name the copy, and copy it back "
            "when you are done.",
        )


@contextmanager
def opened_for_writing(project: Project | Place) -> Iterator[Project]:
    """Open a project of whose slides nothing but names and sizes is asked: files will do."""
    refuse_stored(project)
    if isinstance(project, Project):
        yield project
    else:
        with _open(Path(project), RunOptions(engine="embedded")) as opened:
            yield opened


def _places(place: Place, options: RunOptions) -> tuple[Path, ...]:
    """Return what to open at a place: projects, or slides without one."""
    path = Path(place)
    if url_of(path):
        return _stored_places(path, options)
    if not path.is_dir():
        other = is_table(path) or (path.exists() and path.suffix.lower() != ".qpproj")
        return (path,) if other or options.engine == "slides" else find_projects(path)
    if is_plain(path):
        return (path,) if options.engine == "slides" or has_slides(path) else find_projects(path)
    found = find_projects(path)
    if found[0].parent == path:
        return found
    if options.engine == "slides":
        return (path,)
    if has_slides(path, pictures=False):
        raise UsageError(
            f"{place} has slides, and QuPath projects in its folders.",
            hint="Name a project, or take the slides with the option engine: slides.",
        )
    return found


def _stored_places(path: Path, options: RunOptions) -> tuple[Path, ...]:
    """Return what to open at a URL; where a folder has slides, its folders are not looked into."""
    is_file = is_project_file(path) or is_table(path) or file_kind(path) is not None
    if is_file or options.engine == "slides":
        return (path,)
    with project_errors(path):
        inside = list(files_in(path))
        projects = tuple(filter(is_project_file, inside))
        # A slide may have any name. A folder exists only as the beginning of names.
        if projects or any(map(is_slide, inside)) or is_object(path):
            return projects or (path,)
        return tuple(projects_in(path)) or (path,)


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


def output_of(run: Run | Output | Place) -> Output:
    """Return the output of a run, however it is named."""
    if isinstance(run, Run):
        return run.open()
    return run if isinstance(run, Output) else open_output(run)


def run_name(run: Run | str | Path) -> str:
    """Return the URL, id or place that names a run."""
    return run.url if isinstance(run, Run) else str(run)


def names_at(key: Place | None) -> Names:
    """Return the names of a run with this key file; open ones without it.

    Raises
    ------
    UsageError
        If it is not a key file.
    """
    return names_of(RunOptions(pseudonymise=None if key is None else Path(key)))
