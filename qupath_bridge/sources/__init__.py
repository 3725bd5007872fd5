"""QuPath projects: read, listed, written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from qupath_bridge.errors import MissingDependencyError, UsageError

if TYPE_CHECKING:
    from .base import Engine, Project

__all__ = ["engine_names", "get_engine", "open_project"]

_ENGINES = {
    "auto": "qupath_bridge.sources.auto:AutoEngine",
    "embedded": "qupath_bridge.sources.embedded:EmbeddedEngine",
    "paquo": "qupath_bridge.sources.paquo:PaquoEngine",
}
"""Name of an engine: its class."""

_GROUP = "qupath_bridge.engines"


def engine_names() -> tuple[str, ...]:
    """Return the names of all engines, those of other packages too, sorted."""
    return tuple(sorted({*_ENGINES, *(point.name for point in entry_points(group=_GROUP))}))


def get_engine(name: str = "auto", *, qupath: Path | str | None = None) -> Engine:
    """Return an engine by its name; ``auto`` chooses.

    ``qupath`` is the folder of the QuPath that it should use, if it uses one.

    Raises
    ------
    UsageError
        If there is no engine of that name.
    MissingDependencyError
        If something that the engine needs is not installed.
    """
    if name in _ENGINES:
        module, _, attribute = _ENGINES[name].partition(":")
        kind = getattr(import_module(module), attribute)
        engine: Engine = kind() if name == "embedded" else kind(qupath=qupath)
        return engine
    for point in entry_points(group=_GROUP, name=name):
        try:
            found: Engine = point.load()()
        except ImportError as error:
            raise MissingDependencyError(
                f"The engine {name!r} cannot be loaded: {error}.",
                hint=f"Reinstall the package that provides it ({point.value}).",
            ) from error
        return found
    raise UsageError(
        f"There is no engine {name!r}.", hint=f"The engines are {', '.join(engine_names())}."
    )


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
        ``auto``, or the name of an engine.
    qupath : path, optional
        Folder of the QuPath that the engine uses, where it uses one; the newest that is found
        when not given.
    slide_map : mapping of str to str, optional
        Beginnings of slide URIs or paths, and what to put in their place, as
        ``{"Z:\\": "/mnt/z"}``.
    search : sequence of paths, optional
        Folders in which to look, by file name, for slides that are not found otherwise.

    Raises
    ------
    ProjectError
        If the project cannot be read. Slides that are not found are no error: they are in
        ``problems``, and their ``path`` is None.
    """
    return get_engine(engine, qupath=qupath).open(
        Path(path), slide_map=slide_map, search=[Path(folder) for folder in search]
    )
