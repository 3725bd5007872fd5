"""Places inside a QuPath project that may be written."""

from __future__ import annotations

from pathlib import Path

from qupath_bridge.errors import OutputError
from qupath_bridge.model import BRIDGE_FOLDER
from qupath_bridge.urls import shown

__all__ = ["check_inside", "check_place"]

QUPATH_FOLDERS = {"data", "classifiers", "scripts", "resources"}


def check_inside(path: Path, project: Path) -> None:
    """Refuse to write in a project through a link that leads out of it.

    Raises
    ------
    OutputError
        If ``path`` is in a folder, or is a file, that is outside.
    """
    real = path.resolve()
    if not real.is_relative_to(project.resolve()):
        raise OutputError(
            f"{path} leads out of the project, to {real}; nothing is written there.",
            hint="Put a folder or file of the project itself in the place of the link.",
        )


def check_place(path: Path, project: Path) -> None:
    """Refuse a place inside a project that belongs to QuPath, or to the runs of the project.

    Raises
    ------
    OutputError
        If ``path`` is the project folder, in one of QuPath's own folders, or among the runs.
    """
    try:
        inside = path.resolve().relative_to(project.resolve()).parts
    except ValueError:
        return
    own_folders = {(BRIDGE_FOLDER,), (BRIDGE_FOLDER, "runs")}
    if not inside or inside[0] in QUPATH_FOLDERS or inside[:2] in own_folders:
        raise OutputError(
            f"{shown(path)} belongs to the QuPath project itself.",
            hint="Name a folder outside, or a new one such as "
            f"{shown(project / BRIDGE_FOLDER / 'patches')}.",
        )
