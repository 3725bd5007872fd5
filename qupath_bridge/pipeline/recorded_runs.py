"""Runs that a project has in its folder, and where theirs is what the project cannot hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qupath_bridge.errors import BridgeError
from qupath_bridge.model import ProjectInfo
from qupath_bridge.patches.ids import project_names
from qupath_bridge.schemas import ProjectRunRecord
from qupath_bridge.stores.local import LocalStore

from .pseudonyms import is_pseudonym
from .records import RUN_FILE, check_named, load_record

__all__ = ["folder_beside", "load_run_record", "place_beside", "places_beside", "run_folders"]


def run_folders(project: ProjectInfo) -> list[Path]:
    """Return the folders of the runs of a project, oldest first."""
    root = project.bridge_folder / "runs"
    folders = sorted(root.iterdir()) if root.is_dir() else []
    return [folder for folder in folders if (folder / RUN_FILE).is_file()]


def load_run_record(folder: Path) -> dict[str, Any]:
    """Return the record of a run in a project.

    Raises
    ------
    OutputError
        If it is damaged, or of another run than its folder says.
    """
    hint = (
        f"Delete {folder}, and write the run into the project again, from its output: the command "
        "write-back does that."
    )
    record = load_record(LocalStore(folder), RUN_FILE, ProjectRunRecord, hint=hint)
    check_named(record, run_id=folder.name, path=folder / RUN_FILE)
    return record


def folder_beside(out: Path, projects: Sequence[Mapping[str, Any]], recorded: str) -> Path:
    """Return the folder in an output for what belongs into a project that cannot be written.

    Parameters
    ----------
    out : Path
    projects : sequence of mapping
        Those of the run, as its record lists them.
    recorded : str
        The project file as the run has it.
    """
    folder = out / "provenance"
    if len(projects) == 1:
        return folder
    # Entry IDs are small numbers, which every project has.
    if is_pseudonym(recorded):
        return folder / recorded
    names = project_names(Path(project["path"]).parent for project in projects)
    return folder / names[Path(recorded).parent.resolve()]


def place_beside(record: Mapping[str, Any]) -> Path | None:
    """Return :func:`folder_beside` of a run of a project; None if its output is gone.

    Parameters
    ----------
    record : mapping
        As the project has it; an empty one is that of a damaged run.
    """
    out = Path(record["out"]) if record.get("out") else None
    if out is None or not out.is_dir():
        return None
    return folder_beside(out, record["projects"], record["project"])


def places_beside(project: ProjectInfo) -> tuple[Path, ...]:
    """Return the folders beside the patches of a project's runs, oldest first.

    Runs with a damaged record are left out.
    """
    places = []
    for folder in run_folders(project):
        try:
            place = place_beside(load_run_record(folder))
        except BridgeError:
            continue
        if place is not None:
            places.append(place)
    return tuple(dict.fromkeys(places))
