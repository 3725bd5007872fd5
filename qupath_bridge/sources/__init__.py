"""Sources of slides: QuPath projects, read by one of several engines, and plain slide files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qupath_bridge import registry
from qupath_bridge.errors import UsageError
from qupath_bridge.urls import url_of

if TYPE_CHECKING:
    from qupath_bridge.model import SourceRef

    from .base import Project, Source

__all__ = ["get_source", "open_project", "open_source"]


def get_source(name: str = "auto", qupath: Path | str | None = None) -> Source:
    """Return a source by its name in the registry; ``auto`` chooses.

    ``qupath`` is the folder of the QuPath that it uses, if it uses one.

    Raises
    ------
    UsageError
        If there is no source of that name.
    MissingDependencyError
        If something that the source needs is not installed.
    """
    source: Source = registry.load("source", name)(qupath=qupath)
    return source


def open_project(
    path: Path | str,
    *,
    engine: str = "auto",
    qupath: Path | str | None = None,
    slide_map: Mapping[str, str] | None = None,
    search: Sequence[Path | str] = (),
    annotations: Path | str | None = None,
    skip_bad_features: bool = False,
) -> Project:
    r"""Open a QuPath project, or slides without one, for reading; nothing is ever changed.

    Parameters
    ----------
    path : path or URL
        The ``.qpproj`` file, or the folder that holds exactly one; or a slide file, a folder of
        slides without a project, or a table of slides (CSV or Parquet).
    engine : str
        ``auto``, or the name of an engine: a source in the registry.
    qupath : path, optional
        Folder of the QuPath that the engine uses, where it uses one; the newest that is found
        when not given.
    slide_map : mapping of str to str, optional
        Beginnings of slide URIs or paths, and what to put in their place, as
        ``{"Z:\\": "/mnt/z"}``. They win over what stands at the old place.
    search : sequence of paths, optional
        Folders in which to look, by file name, for slides that are not found otherwise.
    annotations : path, optional
        GeoJSON file, or folder with one file per slide; its regions take the place of those that
        the project has. See :func:`qupath_bridge.sources.annotations.annotate`.
    skip_bad_features : bool
        Whether GeoJSON features that cannot be read are left out.

    Raises
    ------
    ProjectError
        If the project cannot be read. Slides that are not found are not an error: their ``path``
        is None, and ``tried`` says where they were looked for.
    UsageError
        If a folder of ``search`` does not exist, or ``annotations`` does not, or has a file for
        no slide.
    """
    if skip_bad_features and annotations is None:
        raise UsageError(
            "skip_bad_features is for GeoJSON files, and annotations names none.",
            hint="Give both, or neither.",
        )
    if engine in _ENGINES and _has_plain_slides(Path(path)):
        if engine != "auto":
            raise UsageError(
                f"{path} is not a QuPath project: the engine {engine} cannot read it.",
                hint="Leave the option engine out.",
            )
        engine = "slides"
    project = get_source(engine, qupath).open(path, slide_map=slide_map, search=search)
    return _annotated(project, annotations, skip_bad_features)


def open_source(ref: SourceRef) -> Project:
    """Open again what a project was opened from (``project.ref``), also in another process.

    Raises
    ------
    ProjectError
        If the project cannot be read any more.
    UsageError
        If it is a project in memory that another process made.
    MissingDependencyError
        If something that its engine needs is not installed here.
    """
    project = get_source(ref.engine, ref.qupath).open(
        ref.location, slide_map=ref.slide_map, search=ref.search
    )
    return _annotated(project, ref.annotations, ref.skip_bad_features)


_ENGINES = ("auto", "embedded", "paquo")
"""Sources that read QuPath projects, and nothing else."""


def _has_plain_slides(place: Path) -> bool:
    """Return whether a place is slides without a project: a file, a folder, or a table."""
    from qupath_bridge.qupath.files.finding import PICTURE, SLIDE, file_kind, is_project_file
    from qupath_bridge.readers import is_slide
    from qupath_bridge.stores.files import files_in

    from .base import project_errors
    from .slides import has_slides, is_plain, is_table

    if url_of(place):
        if is_project_file(place) or is_table(place) or file_kind(place) is not None:
            return not is_project_file(place)
        with project_errors(place):
            return not any(map(is_project_file, files_in(place)))
    if not is_plain(place):
        return False
    if place.is_dir():
        return has_slides(place)
    if is_table(place):
        return True
    if not place.exists():
        return False
    kind = file_kind(place)
    return kind in {SLIDE, PICTURE} or (kind is None and is_slide(place))


def _annotated(
    project: Project, annotations: Path | str | None, skip_bad_features: bool
) -> Project:
    if annotations is None:
        return project
    from .annotations import annotate

    try:
        return annotate(project, annotations, skip_bad_features=skip_bad_features)
    except BaseException:
        project.close()
        raise
