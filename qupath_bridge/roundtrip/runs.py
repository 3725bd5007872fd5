"""Runs that a project has in its folder, and what each of them wrote about a slide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from qupath_bridge.config import ExportConfig
from qupath_bridge.errors import BridgeError, ProjectError
from qupath_bridge.frozen import FrozenDict
from qupath_bridge.model import ImageData, ObjectType, PathObject, ProjectInfo
from qupath_bridge.patches.ids import slide_of_patch
from qupath_bridge.pipeline.recorded_runs import load_run_record, place_beside, run_folders
from qupath_bridge.pipeline.records import load_record
from qupath_bridge.qupath.editing import is_ours
from qupath_bridge.qupath.geojson import Tile
from qupath_bridge.schemas import SlideFacts
from qupath_bridge.stores.local import LocalStore

from .prediction_files import load_all, with_predictions
from .tile_files import RUN_KEY, read_run_tiles, tile_file
from .tile_tables import RunTiles

__all__ = ["ProjectRuns", "our_tiles", "run_of"]

_CACHED = 8
"""Tables of tiles that are kept: some 20 MB for 100,000 tiles."""


def our_tiles(image: ImageData) -> dict[str, PathObject]:
    """Return the tiles of this library in a slide's data, by id."""
    return {o.id: o for o in image.objects if o.object_type is ObjectType.TILE and is_ours(o.id)}


def run_of(tile: PathObject) -> str | None:
    """Return the run that a tile shows; None if QuPath 0.4 or 0.5 dropped its metadata."""
    return tile.metadata.get(RUN_KEY)


class ProjectRuns:
    """The runs in a project's folder. The folder is listed once, files are read when needed.

    Parameters
    ----------
    project : ProjectInfo
    """

    def __init__(self, project: ProjectInfo) -> None:
        self.project = project
        self.folders: Mapping[str, Path] = {f.name: f for f in run_folders(project)}
        self._record = lru_cache(maxsize=None)(self._load_record)
        self._table = lru_cache(maxsize=_CACHED)(self._read_table)
        self.predictions = lru_cache(maxsize=None)(self._load_predictions)

    def record(self, run_id: str) -> Mapping[str, Any]:
        """Return the record of a run; empty if it is damaged or there is none."""
        if run_id not in self.folders or self.problem(run_id):
            return FrozenDict()
        return self._record(run_id)

    def problem(self, run_id: str) -> str | None:
        """Return what is wrong with the record of a run; None if nothing is."""
        try:
            self._record(run_id)
        except BridgeError as error:
            return str(error)
        return None

    def has(self, run_id: str, entry_id: str) -> bool:
        """Return whether a run exported a slide: it has facts of it, and tiles if it kept any."""
        folder = self.folders.get(run_id)
        return folder is not None and any(
            (folder / name).is_file() for name in (tile_file(entry_id), f"{entry_id}.json")
        )

    def of_slide(self, entry_id: str) -> tuple[str, ...]:
        """Return the runs that exported a slide, oldest first."""
        return tuple(run_id for run_id in self.folders if self.has(run_id, entry_id))

    def slide_ids(self, entry_id: str) -> frozenset[str]:
        """Return the names that runs gave a slide."""
        return frozenset(
            slide["slide_id"]
            for run_id in self.of_slide(entry_id)
            for slide in self.record(run_id).get("slides", ())
            if slide["entry_id"] == entry_id and slide["slide_id"] is not None
        )

    def tiles(self, run_id: str, entry_id: str) -> Iterator[Tile]:
        """Yield the tiles that a run has of a slide, with its predictions; may be none.

        Raises
        ------
        ProjectError
            If their file, or one of predictions, is not the one that was written, is damaged, or
            has anything else.
        OutputError
            If the record of the run, or one of its predictions, is damaged.
        """
        written = self.written_tiles(run_id, entry_id)
        if run_id not in self.folders:
            return written
        folder = self.folders[run_id]
        return with_predictions(folder, self.predictions(run_id), entry_id, written)

    def written_tiles(self, run_id: str, entry_id: str) -> Iterator[Tile]:
        """Yield the tiles of a slide as the run wrote them; see :meth:`tiles`."""
        folder = self.folders.get(run_id)
        if folder is None or not self.has(run_id, entry_id):
            return
        for tile in read_run_tiles(folder, self._record(run_id), entry_id):
            if not is_ours(tile.id):
                raise ProjectError(
                    f"has {tile.id}, which is not a tile of qupath-bridge",
                    path=folder / tile_file(entry_id),
                )
            yield tile

    def table(self, run_id: str, entry_id: str) -> RunTiles | None:
        """Return the table of the tiles that a run has of a slide; None if it has none.

        Raises
        ------
        ProjectError, OutputError
            As :meth:`tiles`.
        """
        return self._table(run_id, entry_id) if self.has(run_id, entry_id) else None

    def original_class(self, tile: PathObject, entry_id: str) -> tuple[bool, str | None]:
        """Return whether the run of a tile is known, and the class that it gave the tile.

        QuPath copies tiles with an image: the run then has them under the first image's ID.
        """
        run = run_of(tile) or ""
        entries = {s["slide_id"]: s["entry_id"] for s in self.record(run).get("slides", ())}
        origin = entries.get(slide_of_patch(tile.name or ""), entry_id)
        for entry in (entry_id, origin):
            table = self.table(run, entry)
            if table is not None and tile.id in table.rows:
                return True, table.class_of(tile.id)
        return False, None

    def earlier_versions(self, run_id: str) -> frozenset[str]:
        """Return the runs that a run replaces: older ones of its output, or with its settings."""
        this = self.record(run_id)
        return frozenset(
            other
            for other in self.folders
            if other < run_id
            and any(
                this.get(key) is not None and self.record(other).get(key) == this[key]
                for key in ("out", "config_digest")
            )
        )

    def places_beside(self, entry_id: str) -> tuple[Path, ...]:
        """Return the folders beside the patches of a slide's runs, newest first.

        They hold what belongs into the project where that cannot be written.
        """
        places = (place_beside(self.record(r)) for r in reversed(self.of_slide(entry_id)))
        return tuple(dict.fromkeys(place for place in places if place is not None))

    def _read_table(self, run_id: str, entry_id: str) -> RunTiles:
        record = self._record(run_id)
        config = ExportConfig.parse(record["config"], source=str(self.folders[run_id]))
        return RunTiles.of(
            run_id,
            self.written_tiles(run_id, entry_id),
            fingerprint=self.fingerprint(run_id, entry_id),
            labels=frozenset(record["labels"]),
            rule=config.label_rule(),
        )

    def facts(self, run_id: str, entry_id: str) -> Mapping[str, Any]:
        """Return what a run knew of a slide; empty if that is damaged or there is none."""
        store = LocalStore(self.folders[run_id])
        try:
            return load_record(store, f"{entry_id}.json", SlideFacts)
        except BridgeError:
            return FrozenDict()

    def fingerprint(self, run_id: str, entry_id: str) -> str:
        """Return the digest of the slide file that a run read; empty if it is not known."""
        facts = self.facts(run_id, entry_id)
        return str(facts["fingerprint"]["digest"]) if facts else ""

    def _load_predictions(self, run_id: str) -> tuple[Mapping[str, Any], ...]:
        """Return the records of the predictions of a run."""
        return load_all(self.folders[run_id])

    def _load_record(self, run_id: str) -> Mapping[str, Any]:
        return load_run_record(self.folders[run_id])
