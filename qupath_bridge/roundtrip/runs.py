"""Runs that a project has in its folder, and what each of them wrote about a tile."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from qupath_bridge.errors import BridgeError, ProjectError
from qupath_bridge.frozen import FrozenDict
from qupath_bridge.model import ImageData, ObjectType, PathObject, ProjectInfo
from qupath_bridge.patches.ids import slide_of_patch
from qupath_bridge.pipeline.records import RUN_FILE, load_record
from qupath_bridge.qupath.editing import is_ours
from qupath_bridge.qupath.geojson import Tile, read_tiles
from qupath_bridge.schemas import ProjectRunRecord
from qupath_bridge.stores.local import LocalStore

from .provenance import run_folders

__all__ = ["RUN_KEY", "ProjectRuns", "our_tiles", "run_of"]

RUN_KEY = "qb.run"
"""Metadata of a tile: the run that made it."""


def our_tiles(image: ImageData) -> dict[str, PathObject]:
    """Return the tiles of this library in a slide's data, by id."""
    return {o.id: o for o in image.objects if o.object_type is ObjectType.TILE and is_ours(o.id)}


def run_of(tile: PathObject) -> str | None:
    """Return the run that a tile shows; None if QuPath 0.4 dropped its metadata."""
    return tile.metadata.get(RUN_KEY)


class ProjectRuns:
    """The runs in a project's folder. The folder is listed once, files are read when needed.

    Parameters
    ----------
    project : ProjectInfo
    """

    def __init__(self, project: ProjectInfo) -> None:
        self.folders: Mapping[str, Path] = {f.name: f for f in run_folders(project)}
        self.record = lru_cache(maxsize=None)(self._record)
        self._classes = lru_cache(maxsize=8)(self._read_classes)

    def file(self, run_id: str, entry_id: str) -> Path | None:
        """Return the file with the tiles that a run has of a slide; None if there is none."""
        folder = self.folders.get(run_id)
        path = None if folder is None else folder / f"{entry_id}.geojson.gz"
        return path if path is not None and path.is_file() else None

    def has(self, run_id: str, entry_id: str) -> bool:
        """Return whether a run exported a slide: it has facts of it, and tiles if it kept any."""
        folder = self.folders.get(run_id)
        return folder is not None and any(
            (folder / f"{entry_id}{ending}").is_file() for ending in (".geojson.gz", ".json")
        )

    def tiles(self, run_id: str, entry_id: str) -> Iterator[Tile]:
        """Yield the tiles that a run has of a slide; may be none.

        Raises
        ------
        ProjectError
            If their file is damaged, or has anything else.
        """
        path = self.file(run_id, entry_id)
        for tile in () if path is None else read_tiles(path):
            if not is_ours(tile.id):
                raise ProjectError(
                    f"has {tile.id}, which is not a tile of qupath-bridge", path=path
                )
            yield tile

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

    def corrected(self, tiles: Iterable[PathObject], entry_id: str) -> dict[str, str | None]:
        """Return the tiles whose class is not the one that their run wrote: id to that class.

        A tile whose run is not known any more counts as unchanged.
        """
        found = {}
        for tile in tiles:
            written = self._written(tile, entry_id)
            if tile.id in written and written[tile.id] != tile.class_path:
                found[tile.id] = written[tile.id]
        return found

    def _written(self, tile: PathObject, entry_id: str) -> Mapping[str, str | None]:
        run = run_of(tile)
        if run is None:  # the newest run that lists it
            listing = (self._classes(each, entry_id) for each in reversed(tuple(self.folders)))
            return next((each for each in listing if tile.id in each), {})
        classes = self._classes(run, entry_id)
        if tile.id in classes or run not in self.folders:
            return classes
        # QuPath copied it with its image, so that the run has it under another entry.
        origin = slide_of_patch(tile.name or "")
        entries = {s.get("slide_id"): s.get("entry_id") for s in self.record(run).get("slides", ())}
        return self._classes(run, entries.get(origin) or entry_id)

    def _read_classes(self, run_id: str, entry_id: str) -> Mapping[str, str | None]:
        return {tile.id: tile.class_path for tile in self.tiles(run_id, entry_id)}

    def _record(self, run_id: str) -> Mapping[str, Any]:
        """Return the record of a run; empty if it is damaged or there is none."""
        if run_id not in self.folders:
            return FrozenDict()
        try:
            return load_record(LocalStore(self.folders[run_id]), RUN_FILE, ProjectRunRecord)
        except BridgeError:
            return FrozenDict()
