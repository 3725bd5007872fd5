"""All errors that this library raises on purpose.

::

    BridgeError                   exit status
    ├── UsageError                2    invalid arguments of a call or command
    ├── ConfigError               3    invalid configuration; all faults at once, with their places
    ├── ProjectError              4    a QuPath project or data file that cannot be read
    │   └── MissingDataError      4    the folder with what was drawn is not there
    ├── SlideError                1    one slide cannot be used; the others continue
    │   ├── MissingSlideError     1    the slide file was not found
    │   ├── CoordinateError       1    QuPath's coordinates cannot be mapped to the file
    │   ├── PlanError             1    the requested patches cannot be planned on this slide
    │   └── ReadError             1    pixels cannot be read
    ├── GeometryError             1    a box without area, or an invalid region
    ├── OutputError               5    the output folder is refused or cannot be written
    ├── MissingDependencyError    6    something is not installed
    └── InterruptedRunError       130  stopped on request; the run can be resumed

A message says what was wrong and where; ``hint`` says what to do next, and ``may_heal`` whether
it is worth trying again after a while.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

__all__ = [
    "BridgeError",
    "ConfigError",
    "CoordinateError",
    "Fault",
    "GeometryError",
    "InterruptedRunError",
    "MissingDataError",
    "MissingDependencyError",
    "MissingSlideError",
    "OutputError",
    "PlanError",
    "ProjectError",
    "ReadError",
    "SlideError",
    "UsageError",
]


class BridgeError(Exception):
    """Base of all errors raised on purpose.

    Parameters
    ----------
    message : str
        What was wrong, and where.
    hint : str, optional
        What to do next, as a sentence.
    may_heal : bool
        Whether it is worth trying again after a while: a disk is full, a network is away.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None, may_heal: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.may_heal = may_heal

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message


class UsageError(BridgeError):
    """The arguments of a call or command are invalid."""

    exit_code: ClassVar[int] = 2


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a configuration: its place and the problem."""

    place: str
    problem: str

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}"


class ConfigError(BridgeError):
    """The configuration is invalid; ``faults`` lists every problem."""

    exit_code: ClassVar[int] = 3

    def __init__(self, faults: Sequence[Fault], *, hint: str | None = None) -> None:
        self.faults = tuple(faults)
        end = "." if hint else ""
        super().__init__("\n".join(str(fault) for fault in self.faults) + end, hint=hint)

    def within(self, source: str) -> ConfigError:
        """Return this error with the place of each fault inside a source, such as a file."""
        prefix = f"{source}: " if source else ""
        faults = [Fault(prefix + fault.place, fault.problem) for fault in self.faults]
        return ConfigError(faults, hint=self.hint)


class ProjectError(BridgeError):
    """A file of a QuPath project cannot be read.

    ``path`` is the file, ``offset`` the byte at which reading stopped (None for JSON files),
    ``expected`` the content that was expected there.
    """

    exit_code: ClassVar[int] = 4

    def __init__(
        self,
        problem: str,
        *,
        path: Path | str | None = None,
        offset: int | None = None,
        expected: str | None = None,
        hint: str | None = None,
        may_heal: bool = False,
    ) -> None:
        problem = problem.removesuffix(".")  # it may be the sentence of another library
        self.problem = problem
        self.path = None if path is None else Path(path)
        self.offset = offset
        self.expected = expected
        where = "" if path is None else f"{path}: "
        at = "" if offset is None else f" at byte {offset}"
        wanted = "" if expected is None else f" (expected {expected})"
        super().__init__(f"{where}{problem}{at}{wanted}.", hint=hint, may_heal=may_heal)


class MissingDataError(ProjectError):
    """The folder of a slide's data was not copied: nobody knows what was drawn.

    ``whole_project`` is True where the folder ``data`` of the project is missing.
    """

    def __init__(
        self,
        problem: str,
        *,
        path: Path | str | None = None,
        hint: str | None = None,
        whole_project: bool = False,
    ) -> None:
        self.whole_project = whole_project
        super().__init__(problem, path=path, hint=hint)


class SlideError(BridgeError):
    """One slide cannot be used; the other slides of a run continue."""


class MissingSlideError(SlideError):
    """The slide file was not found; ``place`` is where the project says that it is."""

    def __init__(self, message: str, *, place: str = "", hint: str | None = None) -> None:
        self.place = place
        super().__init__(message, hint=hint)


class CoordinateError(SlideError):
    """QuPath's coordinates of an image cannot be mapped to its file."""


class PlanError(SlideError):
    """The requested patches cannot be planned on this slide."""


class ReadError(SlideError):
    """Pixels cannot be read."""


class GeometryError(BridgeError):
    """A box has no area, or a region is not a valid polygon; ``index`` is its position."""

    def __init__(self, message: str, *, index: int | None = None, hint: str | None = None) -> None:
        self.index = index
        super().__init__(message, hint=hint)


class OutputError(BridgeError):
    """The output folder is refused, or cannot be written."""

    exit_code: ClassVar[int] = 5


class MissingDependencyError(BridgeError):
    """A required program or package is not installed."""

    exit_code: ClassVar[int] = 6


class InterruptedRunError(BridgeError):
    """A run was stopped on request; committed slides are kept, and the run can be resumed."""

    exit_code: ClassVar[int] = 130
