"""Decisions of a write-back about one slide: which tiles to remove, and which to add.

Nothing is written here.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from qupath_bridge.frozen import FrozenDict
from qupath_bridge.model import Box, PathObject, Plane, RoiKind
from qupath_bridge.patches.corrections import Correction
from qupath_bridge.qupath.editing import tile_of
from qupath_bridge.qupath.files.classes import label_color
from qupath_bridge.qupath.geojson import Tile

from .collecting import Examination, State
from .comparing import tile_hashes
from .prediction_names import predictions_of, same_numbers
from .runs import ProjectRuns, run_of
from .tile_files import RUN_KEY

__all__ = ["Protection", "TileEdit", "measured_edit", "shows", "state_after", "write_edit"]


@dataclass(frozen=True, slots=True)
class TileEdit:
    """An edit of one slide.

    Attributes
    ----------
    remove : frozenset of str
        Ids of tiles.
    add : sequence of Tile
    measured : frozenset of str
        Tiles that are removed, and added as they are but for their predictions.
    unmeasured : frozenset of str
        Tiles that keep the predictions that they have: they are locked, or have a colour or a text
        of their own, which would be lost.
    hashes : mapping of str to int
        Those of the added tiles, as an inventory has them.
    corrected : frozenset of str
        Tiles that show the class that a person gave them, not their run's.
    rejected : frozenset of str
        Tiles that stay out, or that keep the class by which a person rejected them.
    restored : frozenset of str
        Added tiles that were missing, nobody can know why.
    others : mapping of str to int
        How many tiles of which other run stay.
    runs_out : frozenset of str
        Runs of which nothing is shown any more.
    replaced_before : bool
        True if the edit changes nothing, but tiles of the run that is taken out were replaced by
        others: that is recorded, so that they do not come back.
    """

    remove: frozenset[str] = frozenset()
    add: Sequence[Tile] = ()
    measured: frozenset[str] = frozenset()
    unmeasured: frozenset[str] = frozenset()
    hashes: Mapping[str, int] = field(default_factory=FrozenDict)
    corrected: frozenset[str] = frozenset()
    rejected: frozenset[str] = frozenset()
    restored: frozenset[str] = frozenset()
    others: Mapping[str, int] = field(default_factory=FrozenDict)
    runs_out: frozenset[str] = frozenset()
    replaced_before: bool = False

    @property
    def empty(self) -> bool:
        """True if no tile goes or comes."""
        return not (self.remove or self.add)

    @property
    def gone(self) -> int:
        """Number of tiles that go, without those that come back with other predictions."""
        return len(self.remove) - len(self.measured)

    @property
    def new(self) -> int:
        """Number of tiles that come, without those that only get other predictions."""
        return len(self.add) - len(self.measured)


@dataclass(frozen=True, slots=True)
class Protection:
    """Statements of people about the tiles of a slide, which an edit keeps.

    Attributes
    ----------
    standing : mapping of str to Correction
        The last statement about each tile, by its id.
    unsure_classes, unsure_missing : frozenset of str
        Tiles that have another class, or are missing, and nobody can know why.
    fresh : frozenset of str
        Tiles that are there with a new id.
    foreign : frozenset of str
        Tiles that came with the copy of an image.
    colors : mapping of str to (int, int, int)
        Of classes.
    runs : mapping of str to str
        The run of each tile, also of those whose metadata QuPath 0.4 or 0.5 dropped.
    """

    standing: Mapping[str, Correction] = field(default_factory=FrozenDict)
    unsure_classes: frozenset[str] = frozenset()
    unsure_missing: frozenset[str] = frozenset()
    fresh: frozenset[str] = frozenset()
    foreign: frozenset[str] = frozenset()
    colors: Mapping[str, tuple[int, int, int]] = field(default_factory=FrozenDict)
    runs: Mapping[str, str] = field(default_factory=FrozenDict)

    @classmethod
    def of(cls, seen: Examination, colors: Mapping[str, tuple[int, int, int]]) -> Protection:
        """Return the protection of what was found on a slide."""
        return cls(
            seen.standing,
            seen.unsure_classes,
            seen.unsure_missing,
            frozenset(seen.data.fresh),
            frozenset(seen.data.foreign),
            colors,
            seen.state.runs,
        )

    def about(self, fingerprint: str) -> Protection:
        """Return what was said about one slide file only."""
        standing = {i: s for i, s in self.standing.items() if s.fingerprint == fingerprint}
        return replace(self, standing=FrozenDict(standing))

    def discarded(self) -> Protection:
        """Return a protection of nothing that somebody said."""
        return Protection(fresh=self.fresh, colors=self.colors, runs=self.runs)

    def named(self, item: PathObject) -> PathObject:
        """Return a tile object with its run in its metadata."""
        run = self.runs.get(item.id)
        if run is None or RUN_KEY in item.metadata:
            return item
        return replace(item, metadata=FrozenDict({**item.metadata, RUN_KEY: run}))

    def rejects(self, identity: str) -> bool:
        """Return whether a person rejected a tile."""
        said = self.standing.get(identity)
        return said is not None and said.kind == "rejected"

    def applied(self, tile: Tile) -> Tile:
        """Return a tile with the class that a person gave it, if somebody did."""
        said = self.standing.get(tile.id)
        if said is None or said.kind != "corrected" or said.after == tile.class_path:
            return tile
        color = None if said.after is None else label_color(said.after, self.colors)
        return tile._replace(class_path=said.after, color=color)

    def keeps(self, item: PathObject, run_class: str | None) -> bool:
        """Return whether a tile object shows what a person said, and a run says otherwise."""
        said = self.standing.get(item.id)
        if said is None or item.class_path != said.after or item.class_path == run_class:
            return False
        return said.kind == "corrected" or (said.kind == "rejected" and said.after is not None)


def write_edit(
    runs: ProjectRuns,
    run_id: str,
    entry_id: str,
    shown: Mapping[str, PathObject],
    protection: Protection,
    *,
    replace: bool = False,
) -> TileEdit:
    """Return the edit after which a slide has the tiles of a run.

    These go: tiles that the run does not list or shows otherwise; tiles of its earlier versions,
    or of all runs with ``replace``; and tiles at the place of a new one, which QuPath copied with
    the image of another entry. What a person said stays: tiles keep the class that they were
    given, and rejected ones stay out. Tiles that are missing, nobody can know why, come back.

    Parameters
    ----------
    runs : ProjectRuns
    run_id, entry_id : str
    shown : mapping of str to PathObject
        Our tiles in the data of the slide.
    protection : Protection
    replace : bool
    """
    shown = {i: protection.named(tile) for i, tile in shown.items()}
    said = protection.about(runs.fingerprint(run_id, entry_id))
    listed = {tile.id: tile for tile in runs.tiles(run_id, entry_id)}
    out = {i for i in listed if said.rejects(i) and i not in shown and i not in said.fresh}
    wanted = {i: said.applied(tile) for i, tile in listed.items() if i not in out}
    places = {(tile.box, tile.plane) for tile in wanted.values()}
    same = {i for i, tile in wanted.items() if i in shown and shows(shown[i], tile)}
    earlier = runs.earlier_versions(run_id)
    candidates = {
        i: tile
        for i, tile in shown.items()
        if i not in same
        and (replace or i in wanted or run_of(tile) in {run_id, *earlier} or _place(tile) in places)
    }
    stay = {
        i for i, tile in candidates.items() if _stays(tile, listed.get(i), said, runs, entry_id)
    }
    taken = {_place(shown[i]) for i in stay}
    add = [
        tile
        for i, tile in wanted.items()
        if not (i in same or i in stay or i in said.fresh or (tile.box, tile.plane) in taken)
    ]
    remove = frozenset(candidates.keys() - stay)
    settled = remove | stay | same
    kept_out = {i for i in stay if said.rejects(i)}
    given = {i for i, tile in wanted.items() if tile is not listed[i]} - stay
    edit = TileEdit(
        remove,
        add,
        corrected=frozenset((stay - kept_out) | given),
        rejected=frozenset(out | kept_out),
        restored=frozenset(tile.id for tile in add if tile.id in said.unsure_missing),
        others=_by_run(tile for i, tile in shown.items() if i not in settled),
        runs_out=frozenset(runs.folders.keys() - {run_id}) if replace else earlier,
    )
    left = {i: shown[i] for i in (*same, *stay) if i in wanted}
    return measured_edit(edit, left, {i: wanted[i].measurements for i in left})


def measured_edit(
    edit: TileEdit, left: Mapping[str, PathObject], wanted: Mapping[str, Mapping[str, float]]
) -> TileEdit:
    """Return an edit that also gives tiles their predictions.

    Parameters
    ----------
    edit : TileEdit
    left : mapping of str to PathObject
        Tiles that the edit leaves alone.
    wanted : mapping of str to mapping of str to float
        Measurements of each of them; what is not a prediction does not count.
    """
    others = {i for i, tile in left.items() if not _has_predictions(tile, wanted[i])}
    bound = {i for i in others if _has_more(left[i])}
    again = [_predicted(left[i], wanted[i]) for i in left if i in others - bound]
    add = [*edit.add, *again]
    return replace(
        edit,
        remove=edit.remove | {tile.id for tile in again},
        add=add,
        measured=frozenset(tile.id for tile in again),
        unmeasured=frozenset(bound),
        hashes=tile_hashes(add),
    )


def _has_predictions(item: PathObject, wanted: Mapping[str, float]) -> bool:
    return same_numbers(predictions_of(item.measurements), predictions_of(wanted))


def _has_more(item: PathObject) -> bool:
    """Return whether an object has anything that a tile of ours cannot hold."""
    own = (item.color, item.description, item.probability)
    return item.locked or any(each is not None for each in own)


def _predicted(item: PathObject, wanted: Mapping[str, float]) -> Tile:
    """Return a tile object as a tile with other predictions."""
    before = predictions_of(item.measurements)
    kept = {name: value for name, value in item.measurements.items() if name not in before}
    return tile_of(item)._replace(measurements={**kept, **predictions_of(wanted)})


def _by_run(tiles: Iterable[PathObject]) -> FrozenDict[str, int]:
    """Return how many tiles show which run."""
    return FrozenDict(Counter(run_of(tile) or "unknown" for tile in tiles))


def _stays(
    item: PathObject, tile: Tile | None, said: Protection, runs: ProjectRuns, entry_id: str
) -> bool:
    """Return whether a tile shows what a person said; ``tile`` is what the new run has there."""
    if item.id in said.unsure_classes:
        return True
    if item.id in said.foreign:
        is_known, written = runs.original_class(item, entry_id)
        return is_known and written != item.class_path
    if item.id not in said.standing:
        return False
    written = runs.original_class(item, entry_id)[1] if tile is None else tile.class_path
    return said.keeps(item, written)


def state_after(seen: Examination, edit: TileEdit) -> State:
    """Return what a slide shows after an edit."""
    removed = edit.remove - edit.measured
    state = {
        i: run
        for i, run in seen.state.runs.items()
        if i not in removed and (i in seen.data.rows or run not in edit.runs_out)
    }
    classes = {i: given for i, given in seen.state.classes.items() if i in state}
    for tile in edit.add:
        if tile.id in edit.measured:  # it shows what it showed before
            continue
        run = tile.metadata.get(RUN_KEY, "")
        table = seen.tables(run)
        if table is not None and tile.id in table.rows:
            state[tile.id] = run
            classes.pop(tile.id, None)
            if tile.class_path != table.class_of(tile.id):
                classes[tile.id] = tile.class_path
    return State(FrozenDict(state), FrozenDict(classes))


def shows(item: PathObject, tile: Tile) -> bool:
    """Return whether an object shows a tile, however it came in.

    Numbers are compared as QuPath stores them, with 32 bits. Predictions, and what somebody added
    to the object (measurements, a colour, a lock), do not count.
    """
    predicted = predictions_of(tile.measurements)
    return (
        item.class_path == tile.class_path
        and (item.name or "") == tile.name
        and _place(item) == (tile.box, tile.plane)
        and _has(item.metadata, tile.metadata)
        and all(
            name in item.measurements and _float32(item.measurements[name]) == _float32(value)
            for name, value in tile.measurements.items()
            if name not in predicted
        )
    )


def _has(texts: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return texts.get(RUN_KEY) == wanted.get(RUN_KEY) and all(
        texts.get(key, text) == text for key, text in wanted.items()
    )


def _float32(value: float) -> float:
    return array("f", (value,))[0]


def _place(item: PathObject) -> tuple[Box, Plane] | None:
    roi = item.roi
    if roi is None or roi.kind is not RoiKind.RECTANGLE:
        return None
    x, y, x2, y2 = roi.geometry.bounds
    return Box(x, y, x2 - x, y2 - y), roi.plane
