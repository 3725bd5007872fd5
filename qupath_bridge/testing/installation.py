"""Runs Groovy scripts with the classes of a real QuPath.

Tests marked ``qupath`` compare with QuPath itself; all others run without it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qupath_bridge.qupath.jvm.installation import Installation, find_qupath

__all__ = ["QuPath", "real_qupath"]


@dataclass(frozen=True, slots=True)
class QuPath:
    """A QuPath installation, and the ``java`` program that runs it."""

    installation: Installation
    java: Path

    @property
    def jars(self) -> Path:
        """The folder of its jar files."""
        return self.installation.jars

    @property
    def launcher(self) -> Path | None:
        """The program that users start."""
        return self.installation.launcher

    @property
    def version(self) -> str | None:
        """Version in the name of its jar."""
        return self.installation.version

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
        done = subprocess.run(  # noqa: S603 (a list, no shell; the program was found before)
            command, capture_output=True, text=True, encoding="utf-8", timeout=timeout, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{script.name} failed:\n{done.stdout}{done.stderr}")
        return done.stdout


def real_qupath() -> QuPath:
    """Return the QuPath found on this machine.

    Raises
    ------
    MissingDependencyError
        If no QuPath, or no Java for it, is found.
    """
    found = find_qupath()
    return QuPath(found, found.java())
