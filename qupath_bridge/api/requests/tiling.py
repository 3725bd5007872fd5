"""The request ``tiles``: which tiles QuPath removes from an image, and which it adds.

Python decides, QuPath carries out. The decisions are those of write-back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from qupath_bridge.errors import OutputError, UsageError
from qupath_bridge.frozen import count
from qupath_bridge.model import ImageData, PathObject, Slide
from qupath_bridge.pipeline.cancel import Cancel
from qupath_bridge.qupath.files.classes import class_colors
from qupath_bridge.qupath.geojson import read_geojson, write_tiles
from qupath_bridge.roundtrip.collecting import examine, keep_event, keep_statements
from qupath_bridge.roundtrip.edits import Protection, TileEdit, state_after, write_edit
from qupath_bridge.roundtrip.run_pointers import POINTER
from qupath_bridge.roundtrip.run_words import run_words
from qupath_bridge.roundtrip.runs import ProjectRuns, our_tiles, run_of
from qupath_bridge.roundtrip.tile_files import RUN_KEY
from qupath_bridge.roundtrip.undoing import remove_edit
from qupath_bridge.stores.local import LocalStore

from .opened import open_request_project, slide_of
from .protocol import Emit, ProjectRequest, Text

__all__ = ["TilesRequest", "tiles"]

_ENDING = ".geojson.gz"


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
        Whether tiles show the run's classes, and rejected tiles too; what people said stays.
    live_tiles : str or None
        GeoJSON file with the tiles that the image has now; None for an image without tiles.
    add : str or None
        Place of the GeoJSON file with the tiles to add; it ends in ``.geojson.gz``.
    """

    action: Literal["show", "remove"]
    entry: Text
    run: Text | None = None
    replace: bool = False
    discard_corrections: bool = False
    live_tiles: Text | None = None
    add: Text | None = None


def tiles(request: TilesRequest, emit: Emit, cancel: Cancel | None = None) -> Mapping[str, Any]:
    """Return ids of tiles to remove, and the file of those to add.

    What people said about the tiles is stored first, and what is shown from now on is recorded.
    """
    image = _live_image(request)
    shown = our_tiles(image)
    with open_request_project(request.project) as project:
        slide = slide_of(project, request.entry)
        runs = ProjectRuns(project.info)
        seen = examine(runs, slide.entry_id, image.objects, reviewer=request.reviewer)
        said = Protection.of(seen, class_colors(project.info.classes))
        shown = {i: said.named(tile) for i, tile in shown.items()}
        run_id = _run(request, runs, slide, shown)
        if request.action == "show":
            protection = said.discarded() if request.discard_corrections else said
            edit = write_edit(
                runs, run_id, slide.entry_id, shown, protection, replace=request.replace
            )
        elif request.replace:
            edit = TileEdit(remove=frozenset(shown), runs_out=frozenset(runs.folders))
        else:
            edit = remove_edit(runs, run_id, slide.entry_id, shown, said, seen.state.runs)
        place = _write(request.add, edit) if edit.add else None
        keep_statements(runs, seen)
        keep_event(
            runs, seen, request.action, state_after(seen, edit),
            run_id=run_id, rejected=len(edit.rejected),
        )  # fmt: skip
    return {
        "run": run_id,
        "remove": sorted(edit.remove),
        "add": place,
        "added": len(edit.add),
        "removed": len(edit.remove),
        "measured": len(edit.measured),
        "corrected_kept": len(edit.corrected),
        "rejected_kept": len(edit.rejected),
        "restored": len(edit.restored),
        "collected": len(seen.found.new),
        "other_runs": dict(edit.others),
        "pointer": _pointer(request, slide, run_id, edit, shown),
        "messages": [
            f"{slide.name}: {text}"
            for text in (*seen.messages, *_messages(request, runs, run_id, edit))
        ],
    }


def _live_image(request: TilesRequest) -> ImageData:
    if request.live_tiles is None:
        return ImageData()
    return read_geojson(Path(request.live_tiles), entry_id=request.entry)


def _run(
    request: TilesRequest, runs: ProjectRuns, slide: Slide, shown: Mapping[str, PathObject]
) -> str:
    """Return the run that is meant."""
    if request.action == "show":
        run_id = request.run or _newest(runs, slide)
        _check_run(runs, run_id, slide)
        return run_id
    return request.run or _newest_shown(runs, slide, shown)


def _newest(runs: ProjectRuns, slide: Slide) -> str:
    found = runs.of_slide(slide.entry_id)
    if not found:
        raise UsageError(
            f"No run has patches of {slide.name}.", hint="Export patches of this image first."
        )
    return found[-1]


def _newest_shown(runs: ProjectRuns, slide: Slide, shown: Mapping[str, PathObject]) -> str:
    found = max((run for tile in shown.values() if (run := run_of(tile))), default=None)
    if found is None and not shown:
        raise UsageError(f"{slide.name} shows no patches.", hint="There is nothing to remove.")
    return found or _newest(runs, slide)


def _check_run(runs: ProjectRuns, run_id: str, slide: Slide) -> None:
    if run_id not in runs.folders:
        raise UsageError(
            f"There is no run {run_id} in {slide.project.folder}.",
            hint=f"Its runs are: {', '.join(runs.folders) or 'none'}.",
        )
    if not runs.has(run_id, slide.entry_id):
        raise UsageError(
            f"The run {run_id} has nothing of {slide.name}.",
            hint="Export the image, or choose another run.",
        )


def _pointer(
    request: TilesRequest,
    slide: Slide,
    run_id: str,
    edit: TileEdit,
    shown: Mapping[str, PathObject],
) -> str | None:
    """Return the run that the metadata of the image then names; None for no run."""
    if request.action == "show":
        return run_id
    left = {run_of(tile) for i, tile in shown.items() if i not in edit.remove}
    left |= {tile.metadata.get(RUN_KEY) for tile in edit.add}
    known = {run for run in left if run}
    before = slide.metadata.get(POINTER)
    return before if before in known else max(known, default=None)


def _write(place: str | None, edit: TileEdit) -> str:
    if place is None:
        raise UsageError("The request tiles has tiles to add, and no file for them: set add.")
    path = Path(place)
    if not path.name.endswith(_ENDING):  # by the name QuPath knows that it is packed
        raise UsageError(f"{place} cannot hold the tiles to add: its name must end in {_ENDING}.")
    if not path.parent.is_dir():
        raise OutputError(f"The tiles cannot be written to {place}: the folder does not exist.")
    with LocalStore(path.parent).staged(path.name) as target, target.open("wb") as file:
        write_tiles(file, edit.add)
    return place


def _messages(
    request: TilesRequest, runs: ProjectRuns, run_id: str, edit: TileEdit
) -> Iterator[str]:
    """Yield what a person should read, one sentence each."""

    def words(run: str | None) -> str:
        if run is None or run not in runs.folders:
            return "a run that is not known"
        return run_words(run, runs.record(run))

    if request.action == "show" and edit.empty:
        yield f"The patches of {words(run_id)} are there already."
    else:
        removed, added = count(edit.gone, "tile"), count(edit.new, "tile")
        if request.action == "show":
            yield f"Removed {removed} and added {added} of {words(run_id)}."
        else:
            yield f"Removed {removed} of {'all runs' if request.replace else words(run_id)}."
            for run, number in Counter(tile.metadata.get(RUN_KEY) for tile in edit.add).items():
                yield f"{count(number, 'tile')} of {words(run)} came back: they were there before."
    if edit.measured:
        yield f"{count(len(edit.measured), 'tile has', 'tiles have')} other predictions now."
    if edit.unmeasured:
        yield (
            f"{count(len(edit.unmeasured), 'tile stays', 'tiles stay')} as before: locked, or with "
            "a colour or description of its own."
        )
    if edit.corrected:
        yield f"Kept the class that somebody gave {count(len(edit.corrected), 'tile')}."
    if edit.rejected:
        yield f"Kept {count(len(edit.rejected), 'tile')} as rejected."
    if edit.restored:
        yield f"Brought {count(len(edit.restored), 'tile')} back that were missing."
    for run, number in edit.others.items():
        yield f"{count(number, 'tile')} of {words(run)} stay; they may overlap."
