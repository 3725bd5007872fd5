"""Finds a real QuPath on this machine, and runs Groovy scripts with its own classes.

Tests that are marked ``qupath`` prove against QuPath itself what all others prove without it.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qupath_bridge.errors import MissingDependencyError

__all__ = ["VARIABLES", "Installation", "find_qupath"]

VARIABLES = ("QUPATH_BRIDGE_QUPATH", "PAQUO_QUPATH_DIR")
"""Environment variables that may name the folder of QuPath, or its launcher."""

_PLACES = {
    "Linux": ("/opt/QuPath*", "/usr/local/QuPath*", "~/QuPath*", "~/.local/share/QuPath*"),
    "Darwin": ("/Applications/QuPath*.app", "~/Applications/QuPath*.app"),
    "Windows": ("~/AppData/Local/QuPath*", "C:/Program Files/QuPath*"),
}
_JARS = ("lib/app", "app", "Contents/app")
_RUNTIMES = ("lib/runtime", "runtime", "Contents/runtime/Contents/Home")
_LAUNCHERS = ("bin/QuPath", "QuPath*.exe", "Contents/MacOS/QuPath*")
_CORE = re.compile(r"qupath-core-(\d+\.\d+[\w.-]*)\.jar")


@dataclass(frozen=True, slots=True)
class Installation:
    """A QuPath that can be run.

    Attributes
    ----------
    folder : Path
    jars : Path
        The folder of its jar files.
    java : Path
        Its own Java, or the one on the path where it comes without.
    launcher : Path or None
        The program that users start.
    version : str or None
        As its jar is named.
    """

    folder: Path
    jars: Path
    java: Path
    launcher: Path | None = None
    version: str | None = None

    def groovy(
        self, script: Path, arguments: Sequence[Path | str] = (), *, timeout: float = 120
    ) -> str:
        """Run a Groovy script with QuPath's classes, without its window; return its output.

        Raises
        ------
        RuntimeError
            If the script fails; the message has what it printed.
        subprocess.TimeoutExpired
            If it takes longer than ``timeout`` seconds.
        """
        command = [
            str(self.java),
            "-Xmx2g",
            "-Djava.awt.headless=true",
            "-Dfile.encoding=UTF-8",
            "-cp",
            str(self.jars / "*"),
            "groovy.ui.GroovyMain",
            str(script),
            *(str(argument) for argument in arguments),
        ]
        done = subprocess.run(  # noqa: S603 (a list, no shell; the program was found above)
            command, capture_output=True, text=True, encoding="utf-8", timeout=timeout, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{script.name} failed:\n{done.stdout}{done.stderr}")
        return done.stdout


def find_qupath(
    environ: Mapping[str, str] | None = None, places: Sequence[str] | None = None
) -> Installation:
    """Find a QuPath: named by a variable of :data:`VARIABLES`, else in the usual places.

    Parameters
    ----------
    environ : mapping of str to str, optional
        The environment; this process's when not given.
    places : sequence of str, optional
        Patterns of folders to look at; the platform's usual ones when not given. Of several the
        last by name is taken, the newest version.

    Raises
    ------
    MissingDependencyError
        If there is none, or no Java to run it with.
    """
    environ = os.environ if environ is None else environ
    for variable in VARIABLES:
        if environ.get(variable):
            return _installation(Path(environ[variable]), environ)
    found = sorted(_usual(places))
    if not found:
        raise MissingDependencyError(
            "no QuPath is found on this machine.",
            hint=f"{VARIABLES[0]} can name the folder of one.",
        )
    return _installation(found[-1], environ)


def _usual(places: Sequence[str] | None) -> Iterator[Path]:
    for pattern in _PLACES.get(platform.system(), ()) if places is None else places:
        path = Path(pattern).expanduser()
        yield from (each for each in path.parent.glob(path.name) if _jars(each))


def _jars(folder: Path) -> Path | None:
    if folder.name == "Contents":  # of a macOS bundle, which is found as a whole
        return None
    for place in _JARS:
        if any((folder / place).glob("qupath-core-[0-9]*.jar")):
            return folder / place
    return None


def _installation(named: Path, environ: Mapping[str, str]) -> Installation:
    """Return the installation in a folder, or around the launcher in it."""
    for folder in (named, *named.parents):
        jars = _jars(folder)
        if jars is not None:
            break
    else:
        raise MissingDependencyError(
            f"{named} is not in a QuPath installation: no qupath-core jar is near it.",
            hint="Name the folder that has lib/app (Linux), app (Windows) or Contents (macOS).",
        )
    names = (_CORE.fullmatch(path.name) for path in jars.iterdir())
    launchers = (path for place in _LAUNCHERS for path in sorted(folder.glob(place)))
    return Installation(
        folder=folder,
        jars=jars,
        java=_java(folder, environ),
        launcher=next(launchers, None),
        version=next((match[1] for match in names if match), None),
    )


def _java(folder: Path, environ: Mapping[str, str]) -> Path:
    program = "java.exe" if sys.platform == "win32" else "java"
    homes = [folder / place for place in _RUNTIMES]
    if environ.get("JAVA_HOME"):
        homes.append(Path(environ["JAVA_HOME"]))
    for home in homes:  # QuPath's own runtime usually comes without the program
        if (home / "bin" / program).exists():
            return home / "bin" / program
    on_path = shutil.which(program, path=environ.get("PATH"))
    if on_path is None:
        raise MissingDependencyError(
            f"{folder} has no java program, and there is none on the path.",
            hint="Install a Java of the version that this QuPath needs.",
        )
    return Path(on_path)
