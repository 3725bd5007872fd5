"""Metadata of the images in QuPath's project: the run whose tiles an image shows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress

from qupath_bridge.errors import BridgeError, OutputError
from qupath_bridge.qupath.files.entry_metadata import set_entry_metadata
from qupath_bridge.regular_files import read_regular
from qupath_bridge.sources.base import Project
from qupath_bridge.stores.local import TEMPORARY, LocalStore

from .backups import Action
from .file_state import FileState, check_same_file, check_unchanged

__all__ = ["POINTER", "set_run_pointers"]

POINTER = "qupath_bridge.run"
"""Metadata key, by which QuPath's list of images can be filtered."""


def set_run_pointers(
    project: Project,
    before: FileState,
    run_id: str,
    action: Action,
    shown: Mapping[str, Collection[str]],
) -> None:
    """Let the images of a project point to the run that they show, in one change of its file.

    After an undo an image that pointed to the run points to the newest one whose tiles it still
    has, or to none.

    Parameters
    ----------
    project : Project
    before : FileState
        Of the project file when the project was opened.
    run_id : str
        The run that was written or undone.
    action : str
    shown : mapping of str to collection of str
        By entry ID of the images that did not fail: the runs whose tiles they show now.

    Raises
    ------
    OutputError
        If the project file cannot be written, or somebody else changed it.
    """
    pointers = {slide.entry_id: slide.metadata.get(POINTER) for slide in project.slides}
    values = {
        entry_id: run_id if action == "write" else max(runs, default=None)
        for entry_id, runs in shown.items()
        if action == "write" or pointers[entry_id] == run_id
    }
    for left in project.info.folder.glob(f"{TEMPORARY}*"):  # by a write-back that was killed
        with suppress(OSError):
            left.unlink()
    if all(pointers[entry_id] == value for entry_id, value in values.items()):
        return
    path, hint = project.info.path, "Close the project in QuPath, then write the run again."
    try:
        text = read_regular(path).decode("utf-8")
        changed = set_entry_metadata(text, POINTER, values)
        now = check_unchanged(path, before, hint=hint)
        store = LocalStore(path.parent)
        with store.staged(
            path.name, durable=True, last_check=lambda: check_same_file(path, now, hint=hint)
        ) as copy:
            copy.write_bytes(changed.encode("utf-8"))
    except (BridgeError, OSError, ValueError) as error:
        raise OutputError(
            f"The metadata {POINTER} of the images was not set: {error}", hint=hint
        ) from error
