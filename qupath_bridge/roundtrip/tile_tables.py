"""Tables of the tiles of one slide: those in its data, and those that a run wrote."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import shapely
import xxhash
from numpy.typing import NDArray

from qupath_bridge.frozen import FrozenDict
from qupath_bridge.model import (
    Box,
    BoxArray,
    LabelRule,
    ObjectType,
    PathObject,
    Plane,
    RoiKind,
)
from qupath_bridge.patches.correcting import split_labels
from qupath_bridge.patches.ids import is_patch_id, slide_of_patch, tile_uuids
from qupath_bridge.patches.roles import EXCLUDED
from qupath_bridge.qupath.editing import is_ours
from qupath_bridge.qupath.geojson import Tile

from .tile_files import RULE_KEY, RUN_KEY

__all__ = ["OWN", "REVIEWED", "SAID_KEY", "DataTiles", "RunTiles"]

SAID_KEY = "qb.said "
"""Beginning of metadata of a tile that a person handled in the review panel, followed by the name
of the person: the class that this person gave the tile last or confirmed; empty for no class."""

OWN = "qb: "
"""Beginning of the names of the measurements of this library."""

REVIEWED = "qb: reviewed"
"""Measurement of a tile that a person handled in the review panel: 1."""

_BATCH = 10_000

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class RunTiles:
    """The tiles that a run wrote for one slide, one row per tile.

    Attributes
    ----------
    run_id : str
    fingerprint : str
        Digest of the slide file that the run read; empty if it is not known.
    rows : mapping of str to int
        Row of each id.
    names, classes : tuple of str
        Patch id and class of each row; a class can be None.
    overruled : mapping of int to str
        By row, what the rule said where a person's word is the label.
    places : array, shape (N, 6), int32
        x, y, width, height in QuPath pixels, z and t of each row.
    looks : array, shape (N,), uint64
        Digest of the measurements of each row, as QuPath stores them, with 32 bits.
    labels : frozenset of str
        Labels of the run.
    rule : LabelRule
    """

    run_id: str
    fingerprint: str
    rows: Mapping[str, int]
    names: tuple[str, ...]
    classes: tuple[str | None, ...]
    overruled: Mapping[int, str]
    places: NDArray[np.int32]
    looks: NDArray[np.uint64]
    labels: frozenset[str] = frozenset()
    rule: LabelRule = LabelRule()  # noqa: RUF009  # it does not change

    @classmethod
    def of(
        cls,
        run_id: str,
        tiles: Iterable[Tile],
        *,
        fingerprint: str = "",
        labels: frozenset[str] = frozenset(),
        rule: LabelRule | None = None,
    ) -> RunTiles:
        """Return the table of tiles, which are read one by one."""
        rows: dict[str, int] = {}
        names: list[str] = []
        classes: list[str | None] = []
        overruled: dict[int, str] = {}
        numbers: list[NDArray[np.int32]] = []
        looks: list[NDArray[np.uint64]] = []
        for batch in _batches(tiles):
            for tile in batch:
                if RULE_KEY in tile.metadata:
                    overruled[len(rows)] = tile.metadata[RULE_KEY]
                rows[tile.id] = len(rows)
                names.append(tile.name)
                classes.append(tile.class_path)
            numbers.append(np.array([(*tile.box, *tile.plane) for tile in batch], np.int32))
            looks.append(np.array([_look(tile.measurements) for tile in batch], np.uint64))
        return cls(
            run_id,
            fingerprint,
            rows,
            tuple(names),
            tuple(classes),
            overruled,
            np.concatenate([np.empty((0, 6), np.int32), *numbers]),
            np.concatenate([np.empty(0, np.uint64), *looks]),
            labels,
            rule or LabelRule(),
        )

    def rejects(self, class_path: str | None) -> bool:
        """Return whether a class rejects a patch."""
        return class_path == EXCLUDED or class_path in self.rule.exclude

    def class_of(self, identity: str) -> str | None:
        """Return the class that the run gave a tile."""
        return self.classes[self.rows[identity]]

    def box_of(self, identity: str) -> tuple[Box, Plane]:
        """Return box and plane of a tile."""
        x, y, w, h, z, t = self.places[self.rows[identity]].tolist()
        return Box(x, y, w, h), Plane(z, t)

    def rule_label(self, identity: str) -> str | tuple[str, ...] | None:
        """Return the rule's word about a tile; a person's word can have overruled it."""
        row = self.rows[identity]
        text = self.overruled.get(row, self.classes[row])
        if not text:
            return None
        return split_labels(text, self.labels) if self.rule.multi else text


class _Place(NamedTuple):
    """A tile object of the data, with its box and the id that this box has."""

    item: PathObject
    fitting: str
    box: Box
    plane: Plane


@dataclass(frozen=True, slots=True)
class DataTiles:
    """The tiles of this library in the data of one slide, one row per tile.

    Attributes
    ----------
    rows : mapping of str to int
        Row of each id. A tile that QuPath gave a new id has the one of its box.
    classes, runs : tuple of str or None
        Class of each row, and the run that its metadata name; None if there is none.
    looks : array, shape (N,), uint64
        As in :class:`RunTiles`.
    reviewed : frozenset of str
        Ids of tiles with the mark of the review panel.
    said : mapping of str to mapping of str to str or None
        What people with a name said last in the review panel: class by name, by id.
    foreign : tuple of str
        Ids that do not fit slide and box: QuPath copied the tiles with another image.
    fresh : mapping of str to str
        Id of the box to the new id that QuPath gave the tile.
    doubled : int
        Tiles with a new id beside one with the right id; they are not listed.
    """

    rows: Mapping[str, int]
    classes: tuple[str | None, ...]
    runs: tuple[str | None, ...]
    looks: NDArray[np.uint64]
    reviewed: frozenset[str] = frozenset()
    foreign: tuple[str, ...] = ()
    fresh: Mapping[str, str] = FrozenDict()
    doubled: int = 0
    said: Mapping[str, Mapping[str, str | None]] = FrozenDict()

    @classmethod
    def of(
        cls, entry_id: str, objects: Iterable[PathObject], slide_ids: Collection[str] = ()
    ) -> DataTiles:
        """Return the table of the tiles among objects.

        Parameters
        ----------
        entry_id : str
        objects : iterable of PathObject
            Of the data of the slide, of all types.
        slide_ids : collection of str
            Names that runs gave the slide: tiles with a new id are known by their names.
        """
        rows: dict[str, int] = {}
        columns: list[tuple[str | None, str | None, int]] = []
        reviewed: set[str] = set()
        said: dict[str, Mapping[str, str | None]] = {}
        foreign: list[str] = []
        renamed: list[_Place] = []

        def add(item: PathObject, identity: str) -> None:
            rows[identity] = len(columns)
            columns.append((item.class_path, item.metadata.get(RUN_KEY), _look(item.measurements)))
            if item.measurements.get(REVIEWED):
                reviewed.add(identity)
                if words := _words(item.metadata):
                    said[identity] = words

        for place in _places(entry_id, objects):
            if place.item.id == place.fitting:
                add(place.item, place.fitting)
            elif is_ours(place.item.id):
                foreign.append(place.item.id)
            elif _has_name_of(place, slide_ids):
                renamed.append(place)
        fresh: dict[str, str] = {}
        for place in renamed:
            if place.fitting not in rows:
                add(place.item, place.fitting)
                fresh[place.fitting] = place.item.id
        return cls(
            rows,
            tuple(c for c, _, _ in columns),
            tuple(r for _, r, _ in columns),
            np.array([look for _, _, look in columns], np.uint64),
            frozenset(reviewed),
            tuple(foreign),
            fresh,
            len(renamed) - len(fresh),
            said,
        )

    def class_of(self, identity: str) -> str | None:
        """Return the class that a tile has."""
        return self.classes[self.rows[identity]]

    def shows(self, identity: str, table: RunTiles) -> bool:
        """Return whether a tile is the one that a run wrote, whatever class it has now.

        Where QuPath dropped the metadata, the measurements tell.
        """
        row = self.rows.get(identity)
        if row is None or identity not in table.rows:
            return False
        run = self.runs[row]
        if run is not None:
            return run == table.run_id
        return bool(self.looks[row] == table.looks[table.rows[identity]])

    def origins(
        self, tables: Callable[[str], RunTiles | None], runs: Sequence[str]
    ) -> dict[str, str]:
        """Return the run of each tile: the one in its metadata.

        Without metadata it is the newest run with the same measurements, else the newest that
        lists it. Tiles of runs that are not known are left out.

        Parameters
        ----------
        tables : callable
            Returns what a run wrote; None if it is not known.
        runs : sequence of str
            Of the slide, oldest first.
        """
        found: dict[str, str] = {}
        unnamed: set[str] = set()
        for identity, row in self.rows.items():
            run = self.runs[row]
            if run is None:
                unnamed.add(identity)
            elif (table := tables(run)) is not None and identity in table.rows:
                found[identity] = run
        listed: dict[str, str] = {}
        for run in reversed(runs):
            if not unnamed:
                break  # all are found: older runs, which may be damaged, need not be read
            table = tables(run)
            for identity in sorted(unnamed & table.rows.keys()) if table is not None else ():
                listed.setdefault(identity, run)
                if table is not None and self.shows(identity, table):
                    found[identity] = run
                    unnamed.discard(identity)
        found.update((identity, listed[identity]) for identity in unnamed & listed.keys())
        return found


def _places(entry_id: str, objects: Iterable[PathObject]) -> Iterator[_Place]:
    """Yield the tiles that are boxes of whole pixels."""
    tiles = (
        item
        for item in objects
        if item.object_type is ObjectType.TILE
        and item.roi is not None
        and item.roi.kind is RoiKind.RECTANGLE
        and (is_ours(item.id) or slide_of_patch(item.name or "") is not None)
    )
    for batch in _batches(tiles):
        bounds = shapely.bounds([item.roi.geometry for item in batch if item.roi is not None])
        corners = np.rint(bounds).astype(np.int64)
        boxes: BoxArray = np.column_stack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
        planes = np.array([item.roi.plane for item in batch if item.roi is not None], np.int64)
        ids = tile_uuids(entry_id, boxes, planes[:, 0], planes[:, 1])
        numbers = zip(boxes.tolist(), planes.tolist(), strict=True)
        for item, fitting, (box, plane) in zip(batch, ids, numbers, strict=True):
            yield _Place(item, fitting, Box(*box), Plane(*plane))


def _has_name_of(place: _Place, slide_ids: Collection[str]) -> bool:
    """Return whether a tile has the name of the patch that is at its place."""
    name = place.item.name or ""
    slide = slide_of_patch(name)
    if slide is None or slide not in slide_ids:
        return False
    return is_patch_id(name, slide, place.box, place.plane)


def _words(metadata: Mapping[str, str]) -> dict[str, str | None]:
    """Return what each person said about a tile, by name."""
    return {
        key.removeprefix(SAID_KEY): class_path or None
        for key, class_path in sorted(metadata.items())
        if key.startswith(SAID_KEY)
    }


def _look(measurements: Mapping[str, float]) -> int:
    """Return the digest of what this library measured; other numbers do not count."""
    pairs = sorted(
        (name, value)
        for name, value in measurements.items()
        if name.startswith(OWN) and name != REVIEWED
    )
    names = "\n".join(name for name, _ in pairs).encode("utf-8", "surrogatepass")
    numbers = array("f", (value for _, value in pairs)).tobytes()
    return xxhash.xxh3_64_intdigest(names + b"\0" + numbers)


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yield lists of at most some thousand items."""
    batch: list[Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
