"""What an engine is: a way to read a QuPath project."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from qupath_bridge.errors import ProjectError, UsageError
from qupath_bridge.model import ProjectInfo, Slide

__all__ = ["Engine", "Project", "check_link"]


@dataclass(frozen=True, slots=True)
class Project:
    """A QuPath project, opened for reading. Nothing in it is ever written.

    Listing the slides touches no data file; :meth:`Slide.read` does, when it is called.
    ``engine`` is the name of the engine that reads, ``reason`` why it was chosen where it was left
    to choose, ``qupath_version`` the version of the QuPath that it uses, if it uses one, and
    ``problems`` what was found odd on opening. ``_close`` gives back what the engine holds.
    """

    info: ProjectInfo
    slides: tuple[Slide, ...]
    engine: str
    problems: tuple[str, ...] = ()
    reason: str | None = None
    qupath_version: str | None = None
    _close: Callable[[], None] = field(default=lambda: None, repr=False, compare=False)

    @property
    def engine_record(self) -> dict[str, str | None]:
        """What ``run.json`` says of the engine: its name, why it, and the QuPath versions."""
        return {
            "name": self.engine,
            "reason": self.reason,
            "project_version": self.info.version,
            "qupath_version": self.qupath_version,
        }

    def slide(self, entry_id: str) -> Slide:
        """Return the slide of an entry ID."""
        for slide in self.slides:
            if slide.entry_id == entry_id:
                return slide
        raise UsageError(
            f"{self.info.path}: no image has the entry ID {entry_id!r}.",
            hint=f"The IDs are {', '.join(slide.entry_id for slide in self.slides) or 'none'}.",
        )

    def close(self) -> None:
        """Give back what the engine holds; the slides cannot be read after that."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Engine(Protocol):
    """Reads QuPath projects; one of several, all held by one contract suite."""

    name: str

    def open(
        self,
        path: Path,
        *,
        slide_map: Mapping[str, str] | None = None,
        search: Sequence[Path] = (),
    ) -> Project:
        """Open a project file (or the folder that holds exactly one).

        Raises
        ------
        ProjectError
            If it cannot be read as a QuPath project; the error names the file.
        """
        ...


def check_link(data: Path) -> None:
    """Refuse a data file that is a link to nothing: its image was saved, and is elsewhere.

    Raises
    ------
    ProjectError
        If it is one. A file that is not there at all is of an image that was never saved.
    """
    if data.is_symlink() and not data.exists():
        raise ProjectError(
            f"is a link to {data.readlink()}, which is not there",
            path=data,
            hint="Make the place available that it names.",
        )
