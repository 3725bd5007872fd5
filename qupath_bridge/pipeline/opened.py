"""Projects that are open in this process, so that tasks of one run do not open them again."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from qupath_bridge.errors import OutputError, SlideError, UsageError
from qupath_bridge.model import Slide, SourceRef
from qupath_bridge.sources import open_source
from qupath_bridge.sources.base import Project
from qupath_bridge.stores.files import store_of

__all__ = ["lend_slides", "slide_of", "source_of"]

_lent: dict[tuple[SourceRef, str], Slide] = {}
_projects: dict[SourceRef, tuple[object, Project]] = {}
_lock = threading.Lock()


@contextmanager
def lend_slides(slides: Iterable[Slide]) -> Iterator[None]:
    """Let tasks of this process use slides that are open already, while the block runs."""
    mine = {(source_of(slide), slide.entry_id): slide for slide in slides}
    with _lock:
        before = {key: _lent.get(key) for key in mine}
        _lent.update(mine)
    try:
        yield
    finally:
        with _lock:
            for key, slide in before.items():
                if slide is None:
                    _lent.pop(key, None)
                else:
                    _lent[key] = slide


def source_of(slide: Slide) -> SourceRef:
    """Return how the project of a slide is opened again.

    Raises
    ------
    UsageError
        If no source has opened it: the slide was made by hand.
    """
    if slide.project.source is None:
        raise UsageError(
            f"No source is known of slide {slide.name}.",
            hint="Open its project with open_project, or make one with memory_project.",
        )
    return slide.project.source


def slide_of_entry(project: Project, entry_id: str) -> Slide:
    """Return the slide of an entry ID, even if another slide has it as its name."""
    for slide in project.slides:
        if slide.entry_id == entry_id:
            return slide
    raise SlideError(
        f"{project.info.shown}: no slide has the entry ID {entry_id}.",
        hint="Was it removed from the project?",
    )


def slide_of(source: SourceRef, entry_id: str) -> Slide:
    """Return a slide: a lent one, else from its project, which stays open in this process.

    Raises
    ------
    ProjectError
        If the project can no longer be read.
    UsageError
        If it has no such entry, or is in the memory of another process.
    """
    with _lock:
        if (source, entry_id) in _lent:
            return _lent[source, entry_id]
        state = _state_of(source)
        known, project = _projects.get(source, (None, None))
        if project is None or known != state:
            if project is not None:
                project.close()
            project = open_source(source)
            _projects[source] = (state, project)
    return slide_of_entry(project, entry_id)


def _state_of(source: SourceRef) -> object:
    """Return a value that changes when the project is saved; None if there is no file."""
    path = Path(source.location)
    try:
        place = store_of(path)
        if place is not None:
            return place[0].state(place[1])
        state = path.stat()
    except (OSError, OutputError):
        return None
    return state.st_mtime_ns, state.st_size


@atexit.register
def _close_all() -> None:
    while _projects:
        _projects.popitem()[1][1].close()
