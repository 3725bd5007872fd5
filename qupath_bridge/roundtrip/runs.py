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
from qupath_bridge.qupath.editing import is_ours
from qupath_bridge.qupath.geojson import Tile

from .provenance import load_run_record, run_folders
from .tile_files import read_run_tiles, tile_file

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
        self._record = lru_cache(maxsize=None)(self._load_record)
        self._classes = lru_cache(maxsize=8)(self._read_classes)

    def record(self, run_id: str) -> Mapping[str, Any]:
        """Return the record of a run; empty if it is damaged or there is none."""
        try:
            return self._record(run_id) if run_id in self.folders else FrozenDict()
        except BridgeError:
            return FrozenDict()

    def has(self, run_id: str, entry_id: str) -> bool:
        """Return whether a run exported a slide: it has facts of it, and tiles if it kept any."""
        folder = self.folders.get(run_id)
        return folder is not None and any(
            (folder / name).is_file() for name in (tile_file(entry_id), f"{entry_id}.json")
        )

    def tiles(self, run_id: str, entry_id: str) -> Iterator[Tile]:
        """Yield the tiles that a run has of a slide; may be none.

        Raises
        ------
        ProjectError
            If their file is not the one that the run wrote, is damaged, or has anything else.
        OutputError
            If the record of the run is damaged.
        """
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

    def _load_record(self, run_id: str) -> Mapping[str, Any]:
        return load_run_record(self.folders[run_id])
