"""Sources of slides: QuPath projects, read by one of several engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qupath_bridge import registry

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
) -> Project:
    r"""Open a QuPath project for reading; nothing in it is ever changed.

    Parameters
    ----------
    path : path
        The ``.qpproj`` file, or the folder that holds exactly one.
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

    Raises
    ------
    ProjectError
        If the project cannot be read. Slides that are not found are not an error: their ``path``
        is None, and ``tried`` says where they were looked for.
    UsageError
        If a folder of ``search`` does not exist.
    """
    return get_source(engine, qupath).open(path, slide_map=slide_map, search=search)


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
    return get_source(ref.engine, ref.qupath).open(
        ref.location, slide_map=ref.slide_map, search=ref.search
    )
