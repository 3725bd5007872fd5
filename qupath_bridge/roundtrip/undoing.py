"""Decisions about taking a run out of a slide: what goes, and what comes back.

Nothing is written here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from qupath_bridge.errors import BridgeError
from qupath_bridge.model import ImageData, PathObject
from qupath_bridge.qupath.editing import Editor, tile_of
from qupath_bridge.qupath.geojson import Tile

from .backups import Backup
from .comparing import tile_hashes
from .edits import Protection, TileEdit, measured_edit
from .prediction_names import predictions_of
from .runs import ProjectRuns, our_tiles, run_of

__all__ = ["History", "is_active", "remove_edit", "undo_edit", "unpredict_edit"]


@dataclass(frozen=True, slots=True)
class History:
    """The changes of one slide that were made, oldest first, by the backups that have them.

    Parameters
    ----------
    entry_id : str
    backups : tuple of Backup
    editor : Editor
        Reads the stored data files.
    """

    entry_id: str
    backups: tuple[Backup, ...]
    editor: Editor

    @classmethod
    def of(
        cls, backups: Iterable[Backup], entry_id: str, now: str | None, editor: Editor
    ) -> History:
        """Return the history of a slide whose data file has the digest ``now``."""
        found = [backup for backup in backups if entry_id in backup.changes]
        # Only the last one can have been cut off: the next call drops what was not made.
        if found and found[-1].state(entry_id, now) == "not written":
            found.pop()
        return cls(entry_id, tuple(found), editor)

    def last_action(self, run_id: str) -> str | None:
        """Return what was done last with a run on this slide."""
        actions = [b.action for b in self.backups if b.run_id == run_id]
        return actions[-1] if actions else None

    def image_before(self, backup: Backup) -> ImageData | None:
        """Return what was stored before a change; None if there was no data file."""
        if backup.content(self.entry_id) is None:
            return None
        return self.editor.read_file(backup.file(self.entry_id), entry_id=self.entry_id)

    def states_before(self, now: str | None) -> Iterator[Backup]:
        """Yield the backups of the states that led to that of now, newest first.

        They end where somebody else wrote in between.
        """
        for backup in reversed(self.backups):
            change = backup.changes[self.entry_id]
            if change.after != now:
                return
            now = change.before
            yield backup


def is_active(history: History, run_id: str | None) -> bool:
    """Return whether a run was not taken out of a slide; imports of QuPath count as put in."""
    return run_id is None or history.last_action(run_id) != "undo"


def undo_edit(
    runs: ProjectRuns,
    run_id: str,
    shown: Mapping[str, PathObject],
    protection: Protection,
    history: History,
) -> TileEdit:
    """Return the edit after which a slide is as if a run had never been written.

    The tiles of the run go. Those that it had replaced come back, unless their run was taken out
    too, a later run would have replaced them, or a person rejected them. They have the class that
    a person gave them, if somebody did.
    """
    entry_id = history.entry_id
    listed = {tile.id for tile in _readable(partial(runs.written_tiles, run_id, entry_id))}
    for backup in history.backups:
        if (backup.action, backup.run_id) == ("write", run_id):
            listed.update(backup.changes[entry_id].added)
    # QuPath 0.4 and 0.5 drop the metadata of tiles.
    remove = frozenset(
        i
        for i, tile in shown.items()
        if run_of(tile) == run_id or (run_of(tile) is None and i in listed)
    )
    stay = shown.keys() - remove
    back = dict(_from_run_folders(runs, history, {run_of(shown[i]) for i in stay}, remove))
    back.update(_replaced_tiles(run_id, history))
    edit = _coming_back(remove, {i: t for i, t in back.items() if i not in stay}, protection)
    return replace(
        edit,
        runs_out=frozenset([run_id]),
        replaced_before=edit.empty
        and is_active(history, run_id)
        and _was_replaced(run_id, listed, history),
    )


def remove_edit(
    runs: ProjectRuns,
    run_id: str,
    entry_id: str,
    shown: Mapping[str, PathObject],
    protection: Protection,
    origins: Mapping[str, str],
) -> TileEdit:
    """Return the edit after which a slide shows nothing of a run.

    Boxes that another run shares show that run's tile, with the class that a person gave it.

    Parameters
    ----------
    origins : mapping of str to str
        The run of each tile that is shown.
    """
    remove = frozenset(i for i, tile in shown.items() if origins.get(i, run_of(tile)) == run_id)
    back: dict[str, Tile] = {}
    for other in sorted({run for i, run in origins.items() if i in shown} - {run_id}):
        back.update((tile.id, tile) for tile in runs.tiles(other, entry_id) if tile.id in remove)
    return replace(_coming_back(remove, back, protection), runs_out=frozenset([run_id]))


def unpredict_edit(
    run_id: str, name: str, shown: Mapping[str, PathObject], protection: Protection
) -> TileEdit:
    """Return the edit after which the tiles of a run have no predictions of a name."""
    named = {i: protection.named(tile) for i, tile in shown.items()}
    there = {
        i: tile
        for i, tile in named.items()
        if run_of(tile) == run_id and predictions_of(tile.measurements, name)
    }
    kept = {
        i: {
            key: value
            for key, value in tile.measurements.items()
            if key not in predictions_of(tile.measurements, name)
        }
        for i, tile in there.items()
    }
    return measured_edit(TileEdit(), there, kept)


def _coming_back(
    remove: frozenset[str], back: Mapping[str, Tile], protection: Protection
) -> TileEdit:
    """Return the edit that removes tiles and restores others, but for those that were rejected."""
    rejected = frozenset(i for i in back if protection.rejects(i))
    add = [protection.applied(tile) for i, tile in back.items() if i not in rejected]
    corrected = frozenset(tile.id for tile in add if tile is not back[tile.id])
    return TileEdit(remove, add, hashes=tile_hashes(add), corrected=corrected, rejected=rejected)


def _was_replaced(run_id: str, listed: Collection[str], history: History) -> bool:
    """Return whether another run replaced tiles of a run, which may share ids with others."""
    for backup in history.backups:
        gone = [i for i in backup.changes[history.entry_id].removed if i in listed]
        if backup.action == "undo" or backup.run_id == run_id or not gone:
            continue
        try:
            image = history.image_before(backup)
        except BridgeError:
            return True  # damaged: it cannot be ruled out
        tiles = {} if image is None else our_tiles(image)
        if any(i in tiles and run_of(tiles[i]) in {run_id, None} for i in gone):
            return True
    return False


def _readable(tiles: Callable[[], Iterator[Tile]]) -> list[Tile]:
    """Return the tiles that a run has of a slide; none if its file is damaged."""
    try:
        return list(tiles())
    except BridgeError:
        return []


def _from_run_folders(
    runs: ProjectRuns, history: History, others: Collection[str | None], ids: Collection[str]
) -> Iterable[tuple[str, Tile]]:
    """Yield tiles of other runs that are shown on a slide, and that share a box; newest last."""
    for other in runs.folders:
        if other in others and is_active(history, other):
            tiles = _readable(partial(runs.tiles, other, history.entry_id))
            yield from ((tile.id, tile) for tile in tiles if tile.id in ids)


def _replaced_tiles(run_id: str, history: History) -> dict[str, Tile]:
    """Return the tiles that a run replaced, itself or through runs that were taken out since.

    The changes of the slide are gone through in order. What is replaced by a run that is out
    may come back; what a run that is in would have replaced, and what came back, may not. What
    came back of a run that is out by now is gone again with it.
    """

    def is_out(run: str | None) -> bool:
        return run == run_id or not is_active(history, run)

    back: dict[str, Tile] = {}
    replaced: dict[tuple[str, str], str | None] = {}  # run and tile: the run that was there before
    for backup in history.backups:
        change = backup.changes[history.entry_id]
        if backup.action == "undo":
            for i in change.added:
                before = replaced.get((backup.run_id, i))
                if before is None or not is_out(before):
                    back.pop(i, None)
        elif is_out(backup.run_id):
            image = history.image_before(backup) if change.removed else None
            tiles = {} if image is None else our_tiles(image)
            for i in change.removed:
                # A run that was written again, as with predictions, replaced its own tiles.
                if i in tiles and run_of(tiles[i]) != backup.run_id:
                    replaced[backup.run_id, i] = run_of(tiles[i])
                    if not is_out(run_of(tiles[i])):
                        back[i] = tile_of(tiles[i])
        elif backup.replace:
            back.clear()
        else:
            for i in change.added:
                back.pop(i, None)
    return back
