"""Every error that this library raises on purpose.

::

    BridgeError                   exit status
    ├── UsageError                2    the call itself cannot be right
    ├── ConfigError               3    configuration; all faults at once, each with its place
    ├── ProjectError              4    a QuPath project or data file that cannot be read as it is
    ├── SlideError                1    one slide cannot be used; the others go on
    │   ├── CoordinateError            1    QuPath's coordinates cannot be mapped to the file
    │   ├── PlanError             1    the patches asked for cannot be planned on this slide
    │   └── ReadError             1    pixels cannot be read
    ├── GeometryError             1    a box without area, a region that cannot be repaired
    ├── OutputError               5    the output folder is refused or cannot be written
    ├── MissingDependencyError    6    something is not installed
    └── InterruptedRunError       130  stopped on request; the run can be resumed

A message says what was wrong and where; ``hint`` says what to do next.
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
    "MissingDependencyError",
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
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message


class UsageError(BridgeError):
    """The call itself cannot be right."""

    exit_code: ClassVar[int] = 2


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a configuration: where it is and what is wrong with it."""

    place: str
    problem: str

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}"


class ConfigError(BridgeError):
    """A configuration that cannot be used; ``faults`` has them all."""

    exit_code: ClassVar[int] = 3

    def __init__(self, faults: Sequence[Fault], *, hint: str | None = None) -> None:
        self.faults = tuple(faults)
        end = "." if hint else ""
        super().__init__("\n".join(str(fault) for fault in self.faults) + end, hint=hint)


class ProjectError(BridgeError):
    """A file of a QuPath project that cannot be read.

    ``path`` is the file, ``offset`` the byte at which reading stopped (None for JSON files),
    ``expected`` what should have stood there.
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
    ) -> None:
        self.problem = problem
        self.path = None if path is None else Path(path)
        self.offset = offset
        self.expected = expected
        where = "" if path is None else f"{path}: "
        at = "" if offset is None else f" at byte {offset}"
        wanted = "" if expected is None else f" (expected {expected})"
        super().__init__(f"{where}{problem}{at}{wanted}.", hint=hint)


class SlideError(BridgeError):
    """One slide cannot be used; the other slides of a run go on."""


class CoordinateError(SlideError):
    """QuPath's coordinates of an image cannot be mapped to its file."""


class PlanError(SlideError):
    """The patches that were asked for cannot be planned on this slide."""


class ReadError(SlideError):
    """Pixels cannot be read."""


class GeometryError(BridgeError):
    """A box without area, or a region that is not a valid polygon; ``index`` says which one."""

    def __init__(self, message: str, *, index: int | None = None, hint: str | None = None) -> None:
        self.index = index
        super().__init__(message, hint=hint)


class OutputError(BridgeError):
    """The output folder is refused, or cannot be written."""

    exit_code: ClassVar[int] = 5


class MissingDependencyError(BridgeError):
    """Something that this needs is not installed."""

    exit_code: ClassVar[int] = 6


class InterruptedRunError(BridgeError):
    """A run that was stopped on request; what is committed stays, the rest can be resumed."""

    exit_code: ClassVar[int] = 130
