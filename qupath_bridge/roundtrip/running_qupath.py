"""Detection of QuPath processes that have a project open, as far as that is visible.

QuPath locks nothing and leaves no mark, so this looks at its processes, their command lines, and
the files that they have open (slides stay open while they are shown).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

__all__ = ["Process", "QuPathProcess", "occupants", "processes"]

_QUPATH = re.compile(r"qupath([ _.-]?v?\d[\w.-]*)?( \(console\))?(\.exe)?", re.IGNORECASE)
_MAIN = frozenset({"qupath.QuPath", "qupath.lib.gui.QuPathApp"})


@dataclass(frozen=True, slots=True)
class Process:
    """A process of QuPath: its command line and open files."""

    pid: int
    command: tuple[str, ...]
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class QuPathProcess:
    """A QuPath process; ``evidence`` says why it seems to have the project open, None if not."""

    pid: int
    evidence: str | None


def occupants(
    project: Path, slides: Iterable[Path] = (), running: Iterable[Process] | None = None
) -> list[QuPathProcess]:
    """Return the QuPath processes of this machine, and whether they have a project open.

    Parameters
    ----------
    project : Path
        The project's folder.
    slides : iterable of Path
        Files of its slides.
    running : iterable of Process, optional
        The processes to look at; those of this machine when not given.
    """
    folder = _plain(project)
    files = {_plain(slide) for slide in slides}
    found = processes() if running is None else running
    return [QuPathProcess(each.pid, _evidence(each, folder, files)) for each in found]


def processes() -> Iterator[Process]:
    """Yield the QuPath processes of this machine that may be looked at."""
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or not _is_qupath(process.name(), process.cmdline()):
                continue
            command = tuple(process.cmdline())
            try:
                files = tuple(file.path for file in process.open_files())
            except (psutil.Error, OSError):
                files = ()  # another user's
            yield Process(process.pid, command, files)
        except (psutil.Error, OSError):
            continue  # it ended meanwhile, or may not be looked at


def _is_qupath(name: str, command: list[str]) -> bool:
    if _QUPATH.fullmatch(name):
        return True
    # Started by hand with a Java: its main class or its launcher stands on the command line.
    is_java = name.lower().startswith("java")
    return is_java and any(
        word in ("qupath.QuPath", "qupath.lib.gui.QuPathApp") for word in command
    )


def _evidence(process: Process, folder: str, slides: set[str]) -> str | None:
    for word in process.command[1:]:
        plain = _plain(Path(word.removeprefix("--project=").removeprefix("file:")))
        if plain == folder or plain.startswith(folder + os.sep):
            return f"it was started with {word}"
    for file in process.files:
        plain = _plain(Path(file))
        if plain in slides or plain.startswith(folder + os.sep):
            return f"it has {file} open"
    return None


def _plain(path: Path) -> str:
    return os.path.normcase(os.path.realpath(path))
