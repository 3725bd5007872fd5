"""Decisions of a write-back about one slide: which tiles to remove, and which to add.

Nothing is written here.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from qupath_bridge.errors import BridgeError
from qupath_bridge.frozen import FrozenDict
from qupath_bridge.model import Box, ImageData, PathObject, Plane, RoiKind
from qupath_bridge.qupath.editing import Editor, tile_of
from qupath_bridge.qupath.geojson import Tile

from .backups import Backup
from .comparing import tile_hashes
from .runs import ProjectRuns, our_tiles, run_of

__all__ = ["History", "TileEdit", "is_active", "undo_edit", "write_edit"]


@dataclass(frozen=True, slots=True)
class TileEdit:
    """An edit of one slide.

    Attributes
    ----------
    remove : frozenset of str
        Ids of tiles.
    add : sequence of Tile
    hashes : mapping of str to int
        Those of the added tiles, as an inventory has them.
    corrected : frozenset of str
        Tiles that are left alone: a person gave them another class.
    others : mapping of str to int
        How many tiles of which other run stay.
    replaced_before : bool
        True if the edit changes nothing, but tiles of the run that is taken out were replaced by
        others: that is recorded, so that they do not come back.
    """

    remove: frozenset[str] = frozenset()
    add: Sequence[Tile] = ()
    hashes: Mapping[str, int] = field(default_factory=FrozenDict)
    corrected: frozenset[str] = frozenset()
    others: Mapping[str, int] = field(default_factory=FrozenDict)
    replaced_before: bool = False

    @property
    def empty(self) -> bool:
        """True if no tile goes or comes."""
        return not (self.remove or self.add)


def write_edit(
    runs: ProjectRuns,
    run_id: str,
    entry_id: str,
    shown: Mapping[str, PathObject],
    *,
    replace: bool,
    discard_corrections: bool,
) -> TileEdit:
    """Return the edit after which a slide has the tiles of a run.

    These go: tiles that the run does not list or shows otherwise; tiles of its earlier versions,
    or of all runs with ``replace``; and tiles at the place of a new one, which QuPath copied with
    the image of another entry. Tiles that a person gave another class stay, unless
    ``discard_corrections``.

    Parameters
    ----------
    runs : ProjectRuns
    run_id, entry_id : str
    shown : mapping of str to PathObject
        Our tiles in the data of the slide.
    replace, discard_corrections : bool
    """
    wanted = {tile.id: tile for tile in runs.tiles(run_id, entry_id)}
    places = {(tile.box, tile.plane) for tile in wanted.values()}
    same = {i for i, tile in wanted.items() if i in shown and shows(shown[i], tile)}
    replaced = {run_id, *runs.earlier_versions(run_id)}
    candidates = {
        i: tile
        for i, tile in shown.items()
        if i not in same
        and (replace or i in wanted or run_of(tile) in replaced or _place(tile) in places)
    }
    corrected = runs.corrected(candidates.values(), entry_id)
    stay = frozenset(() if discard_corrections else corrected)
    taken = {_place(shown[i]) for i in stay}
    add = [
        tile
        for i, tile in wanted.items()
        if i not in same and i not in stay and (tile.box, tile.plane) not in taken
    ]
    remove = frozenset(candidates.keys() - stay)
    others = Counter(
        run_of(tile) or "unknown"
        for i, tile in shown.items()
        if i not in remove and i not in stay and i not in same
    )
    return TileEdit(remove, add, tile_hashes(add), stay, FrozenDict(others))


def shows(item: PathObject, tile: Tile) -> bool:
    """Return whether an object shows a tile, however it came in.

    Numbers are compared as QuPath stores them, with 32 bits. What somebody added to the object
    (measurements, a colour, a lock) does not count.
    """
    return (
        item.class_path == tile.class_path
        and (item.name or "") == tile.name
        and _place(item) == (tile.box, tile.plane)
        and _has(item.metadata, tile.metadata)
        and all(
            name in item.measurements and _float32(item.measurements[name]) == _float32(value)
            for name, value in tile.measurements.items()
        )
    )


def _has(texts: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(texts.get(key) == text for key, text in wanted.items())


def _float32(value: float) -> float:
    return array("f", (value,))[0]


def _place(item: PathObject) -> tuple[Box, Plane] | None:
    roi = item.roi
    if roi is None or roi.kind is not RoiKind.RECTANGLE:
        return None
    x, y, x2, y2 = roi.geometry.bounds
    return Box(x, y, x2 - x, y2 - y), roi.plane


# --- taking a run out ----------------------------------------------------------------------------


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
    runs: ProjectRuns, run_id: str, shown: Mapping[str, PathObject], history: History
) -> TileEdit:
    """Return the edit after which a slide is as if a run had never been written.

    The tiles of the run go. Those that it had replaced come back, unless their run was taken out
    too, or a later run would have replaced them.
    """
    entry_id = history.entry_id
    listed = {tile.id for tile in _readable(runs, run_id, entry_id)}
    for backup in history.backups:
        if (backup.action, backup.run_id) == ("write", run_id):
            listed.update(backup.changes[entry_id].added)
    # QuPath 0.4 drops the metadata of tiles.
    remove = frozenset(
        i
        for i, tile in shown.items()
        if run_of(tile) == run_id or (run_of(tile) is None and i in listed)
    )
    stay = shown.keys() - remove
    back = dict(_from_run_folders(runs, history, {run_of(shown[i]) for i in stay}, remove))
    back.update(_replaced_tiles(run_id, history))
    add = [tile for i, tile in back.items() if i not in stay]
    return TileEdit(
        remove,
        add,
        tile_hashes(add),
        replaced_before=not (remove or add)
        and is_active(history, run_id)
        and _was_replaced(run_id, listed, history),
    )


def _was_replaced(run_id: str, listed: Collection[str], history: History) -> bool:
    """Return whether another run replaced tiles of a run, which may share ids with others."""
    for backup in history.backups:
        gone = [i for i in backup.changes[history.entry_id].removed if i in listed]
        if backup.action == "undo" or not gone:
            continue
        try:
            image = history.image_before(backup)
        except BridgeError:
            return True  # damaged: it cannot be ruled out
        tiles = {} if image is None else our_tiles(image)
        if any(i in tiles and run_of(tiles[i]) in {run_id, None} for i in gone):
            return True
    return False


def _readable(runs: ProjectRuns, run_id: str, entry_id: str) -> list[Tile]:
    """Return the tiles that a run has of a slide; none if its file is damaged."""
    try:
        return list(runs.tiles(run_id, entry_id))
    except BridgeError:
        return []


def _from_run_folders(
    runs: ProjectRuns, history: History, others: Collection[str | None], ids: Collection[str]
) -> Iterable[tuple[str, Tile]]:
    """Yield tiles of other runs that are shown on a slide, and that share a box; newest last."""
    for other in runs.folders:
        if other in others and is_active(history, other):
            tiles = _readable(runs, other, history.entry_id)
            yield from ((tile.id, tile) for tile in tiles if tile.id in ids)


def _replaced_tiles(run_id: str, history: History) -> dict[str, Tile]:
    """Return the tiles that a run replaced, itself or through runs that were taken out since.

    The changes of the slide are gone through in order. What is replaced by a run that is out
    may come back; what a run that is in would have replaced, and what came back, may not.
    """

    def is_out(run: str | None) -> bool:
        return run == run_id or not is_active(history, run)

    back: dict[str, Tile] = {}
    for backup in history.backups:
        change = backup.changes[history.entry_id]
        if backup.action == "undo":
            for i in change.added:
                back.pop(i, None)
        elif is_out(backup.run_id):
            image = history.image_before(backup) if change.removed else None
            tiles = {} if image is None else our_tiles(image)
            for i in change.removed:
                if i in tiles and not is_out(run_of(tiles[i])):
                    back[i] = tile_of(tiles[i])
        elif backup.replace:
            back.clear()
        else:
            for i in change.added:
                back.pop(i, None)
    return back
