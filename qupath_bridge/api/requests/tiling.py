"""The request ``tiles``: which tiles QuPath removes from an image, and which it adds.

Python decides, QuPath carries out. The decisions are those of write-back.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from qupath_bridge.errors import OutputError, UsageError
from qupath_bridge.frozen import count
from qupath_bridge.model import PathObject, Slide
from qupath_bridge.pipeline.cancel import Cancel
from qupath_bridge.qupath.geojson import read_geojson, write_tiles
from qupath_bridge.roundtrip.backups import DATA_FILE, backups_of
from qupath_bridge.roundtrip.edits import History, TileEdit, undo_edit, write_edit
from qupath_bridge.roundtrip.file_state import FileState
from qupath_bridge.roundtrip.run_pointers import POINTER
from qupath_bridge.roundtrip.runs import RUN_KEY, ProjectRuns, our_tiles, run_of
from qupath_bridge.sources import get_source
from qupath_bridge.sources.base import Project
from qupath_bridge.stores.local import LocalStore

from .opened import ENGINE, open_request_project, slide_of
from .protocol import Emit, ProjectRequest, Text

__all__ = ["TilesRequest", "tiles"]


class TilesRequest(ProjectRequest):
    """Ask which tiles go and which come.

    Attributes
    ----------
    action : str
        ``show`` the tiles of a run, or ``remove`` them.
    entry : str
    run : str or None
        Run id; None is the newest run of the slide, and for ``remove`` the newest that is shown.
    replace : bool
        Whether tiles of all other runs go, too.
    discard_corrections : bool
        Whether tiles go that a person gave another class.
    live_tiles : str or None
        GeoJSON file with the tiles that the image has now; None for an image without tiles.
    add : str or None
        Place of the GeoJSON file with the tiles to add; it ends in ``.geojson`` or ``.geojson.gz``.
    """

    action: Literal["show", "remove"]
    entry: Text
    run: Text | None = None
    replace: bool = False
    discard_corrections: bool = False
    live_tiles: Text | None = None
    add: Text | None = None


def tiles(request: TilesRequest, emit: Emit, cancel: Cancel | None = None) -> Mapping[str, Any]:
    """Return ids of tiles to remove, and the file of those to add."""
    shown = _live_tiles(request)
    with open_request_project(request.project) as project:
        slide = slide_of(project, request.entry)
        runs = ProjectRuns(project.info)
        if request.action == "show":
            run_id = request.run or _newest(runs, slide)
            _check_run(project, runs, run_id, slide)
            edit = write_edit(
                runs, run_id, slide.entry_id, shown,
                replace=request.replace, discard_corrections=request.discard_corrections,
            )  # fmt: skip
        else:
            run_id = request.run or _newest_shown(runs, slide, shown)
            edit = _removal(project, runs, run_id, slide, shown, everything=request.replace)
    added = list(edit.add)
    return {
        "run": run_id,
        "remove": sorted(edit.remove),
        "add": _write(request.add, edit) if added else None,
        "added": len(added),
        "removed": len(edit.remove),
        "corrected_kept": len(edit.corrected),
        "rejected_kept": 0,
        "other_runs": dict(edit.others),
        "pointer": _pointer(slide, run_id, edit, shown, request.action),
        "messages": list(_messages(request, slide, run_id, edit, len(added))),
    }


def _live_tiles(request: TilesRequest) -> Mapping[str, PathObject]:
    if request.live_tiles is None:
        return {}
    return our_tiles(read_geojson(Path(request.live_tiles), entry_id=request.entry))


def _newest(runs: ProjectRuns, slide: Slide) -> str:
    found = next((i for i in reversed(tuple(runs.folders)) if runs.has(i, slide.entry_id)), None)
    if found is None:
        raise UsageError(
            f"No run has patches of {slide.name}.", hint="Export patches of this image first."
        )
    return found


def _newest_shown(runs: ProjectRuns, slide: Slide, shown: Mapping[str, PathObject]) -> str:
    found = max((run for tile in shown.values() if (run := run_of(tile))), default=None)
    if found is None and not shown:
        raise UsageError(f"{slide.name} shows no patches.", hint="There is nothing to remove.")
    return found or _newest(runs, slide)


def _check_run(project: Project, runs: ProjectRuns, run_id: str, slide: Slide) -> None:
    if run_id not in runs.folders:
        raise UsageError(
            f"There is no run {run_id} in {project.info.folder}.",
            hint=f"Its runs are: {', '.join(runs.folders) or 'none'}.",
        )
    if not runs.has(run_id, slide.entry_id):
        raise UsageError(
            f"The run {run_id} has nothing of {slide.name}.",
            hint="Export the image, or choose another run.",
        )


def _removal(
    project: Project,
    runs: ProjectRuns,
    run_id: str,
    slide: Slide,
    shown: Mapping[str, PathObject],
    *,
    everything: bool,
) -> TileEdit:
    if everything:
        return TileEdit(remove=frozenset(shown))
    folder = project.info.folder
    now = FileState.of(folder / "data" / slide.entry_id / DATA_FILE).digest
    editor = get_source(ENGINE)
    history = History.of(backups_of(folder), slide.entry_id, now, editor)  # type: ignore[arg-type]
    return undo_edit(runs, run_id, shown, history)


def _pointer(
    slide: Slide, run_id: str, edit: TileEdit, shown: Mapping[str, PathObject], action: str
) -> str | None:
    """Return the run that the metadata of the image then names; None for no run."""
    before = slide.metadata.get(POINTER)
    if action == "show":
        return run_id
    left = {run_of(tile) for i, tile in shown.items() if i not in edit.remove}
    left |= {tile.metadata.get(RUN_KEY) for tile in edit.add}
    known = {run for run in left if run}
    return before if before in known else max(known, default=None)


def _write(place: str | None, edit: TileEdit) -> str:
    if place is None:
        raise UsageError("The request tiles has tiles to add, and no file for them: set add.")
    path = Path(place)
    if not path.parent.is_dir():
        raise OutputError(f"The tiles cannot be written to {place}: the folder does not exist.")
    with LocalStore(path.parent).staged(path.name) as target, target.open("wb") as file:
        write_tiles(file, edit.add)
    return place


def _messages(
    request: TilesRequest, slide: Slide, run_id: str, edit: TileEdit, added: int
) -> list[str]:
    """Return what a person should read, one sentence each."""
    removed = len(edit.remove)
    if request.action == "show" and edit.empty:
        said = [f"The patches of {run_id} are there already."]
    else:
        said = [f"Removed {count(removed, 'tile')} and added {count(added, 'tile')} of {run_id}."]
    if edit.corrected:
        said.append(
            f"Left {count(len(edit.corrected), 'tile')} alone, which somebody gave another class."
        )
    said += [
        f"{count(number, 'tile')} of {run} stay; they may overlap."
        for run, number in edit.others.items()
    ]
    return [f"{slide.name}: {text}" for text in said]
