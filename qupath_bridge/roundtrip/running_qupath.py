"""Detection of QuPath processes that have a project open, as far as that is visible.

QuPath locks nothing, leaves no mark, and keeps no file open. This looks at its processes: their
command lines, the files that they have open, the project that QuPath's preferences name as the
last one, and files of the project that changed since the process started.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from .qupath_preferences import last_projects

__all__ = ["Process", "QuPathProcess", "find_qupath", "processes"]

_QUPATH = re.compile(r"qupath([ _.-]?v?\d[\w.-]*)?( \(console\))?(\.exe)?", re.IGNORECASE)
_MAIN = ("qupath.QuPath", "qupath.lib.gui.QuPathApp")
_PREFERENCES = "-Djava.util.prefs.userRoot="
_PROJECT = re.compile(r"\.qpproj/?$", re.IGNORECASE)
_WITHOUT_WINDOW = frozenset({"script", "convert-ome", "help"})
"""Subcommands: QuPath opens no window, and no project but the one that stands there."""

State = Literal["open", "unclear", "elsewhere"]


@dataclass(frozen=True, slots=True)
class Process:
    """A process of QuPath.

    Attributes
    ----------
    pid : int
    command : tuple of str
    files : tuple of str
        That it has open.
    started : float
        Seconds since 1970.
    last_projects : tuple of str
        Those that its user's preferences name as opened last, one per version of QuPath.
    """

    pid: int
    command: tuple[str, ...]
    files: tuple[str, ...] = ()
    started: float = 0.0
    last_projects: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class QuPathProcess:
    """A QuPath process, and whether it has the project open.

    Attributes
    ----------
    pid : int
    state : str
        ``open``: it has the project open; ``elsewhere``: it works on another project, or has no
        window; ``unclear``: it may have it open.
    reason : str
    """

    pid: int
    state: State
    reason: str


_CERTAINTY: tuple[State, ...] = ("open", "unclear", "elsewhere")


def find_qupath(
    project: Path,
    slides: Iterable[Path] = (),
    running: Iterable[Process] | None = None,
    written: Iterable[Path] = (),
) -> list[QuPathProcess]:
    """Return the QuPath processes of this machine, those that surely have a project open first.

    Parameters
    ----------
    project : Path
        The project's folder.
    slides : iterable of Path
        Files of its slides.
    running : iterable of Process, optional
        The processes to look at; those of this machine when not given.
    written : iterable of Path
        Files that only QuPath writes.
    """
    found = list(processes() if running is None else running)
    if not found:
        return []
    folder = _plain(project)
    files = {_plain(slide) for slide in slides}
    newest = max(((_changed(path), path) for path in written), default=None)
    judged = (_judge(each, folder, files, newest) for each in found)
    return sorted(judged, key=lambda each: _CERTAINTY.index(each.state))


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
            recent = tuple(sorted(map(str, _last_projects(process, command))))
            yield Process(process.pid, command, files, process.create_time(), recent)
        except (psutil.Error, OSError):
            continue  # it ended meanwhile, or may not be looked at


def _is_qupath(name: str, command: Collection[str]) -> bool:
    if _QUPATH.fullmatch(name):
        return True
    # Started by hand with a Java: its main class or its launcher stands on the command line.
    return name.lower().startswith("java") and any(word in _MAIN for word in command)


def _last_projects(process: psutil.Process, command: Iterable[str]) -> set[Path]:
    roots = [Path(w.removeprefix(_PREFERENCES)) for w in command if w.startswith(_PREFERENCES)]
    try:
        home = Path(f"~{process.username()}").expanduser() if os.name == "posix" else Path.home()
    except (psutil.Error, RuntimeError):
        home = Path.home()
    return last_projects(home, roots[-1] if roots else None)


def _judge(
    process: Process, folder: str, slides: set[str], newest: tuple[float, Path] | None
) -> QuPathProcess:
    elsewhere = None
    for word in process.command[1:]:
        plain = _plain(Path(word.removeprefix("--project=").removeprefix("file:")))
        if _is_in(plain, folder):
            return QuPathProcess(process.pid, "open", f"it was started with {word}")
        if _PROJECT.search(word):
            elsewhere = f"it was started with {word}"
    for file in process.files:
        plain = _plain(Path(file))
        if plain in slides or _is_in(plain, folder):
            return QuPathProcess(process.pid, "open", f"it has {file} open")
    if _subcommand(process.command) in _WITHOUT_WINDOW:
        reason = elsewhere or "it runs a command without a window"
        return QuPathProcess(process.pid, "elsewhere", reason)
    for path in process.last_projects:
        if _is_in(_plain(Path(path)), folder):
            reason = "it is the project that QuPath opened last, by its preferences"
            return QuPathProcess(process.pid, "unclear", reason)
    if newest is not None and newest[0] > process.started > 0:
        reason = f"{newest[1]} was written since QuPath was started"
        return QuPathProcess(process.pid, "unclear", reason)
    if elsewhere is not None:
        return QuPathProcess(process.pid, "elsewhere", elsewhere)
    return QuPathProcess(process.pid, "unclear", "nothing says which project it has open")


def _subcommand(command: Sequence[str]) -> str | None:
    """Return the first word for QuPath itself, behind a Java and its options if it has one."""
    main = max((at for at, word in enumerate(command) if word in _MAIN), default=0)
    return command[main + 1] if len(command) > main + 1 else None


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + os.sep)


def _changed(path: Path) -> float:
    """Return when a file was changed, seconds since 1970; 0 if there is none."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _plain(path: Path) -> str:
    return os.path.normcase(os.path.realpath(path))
