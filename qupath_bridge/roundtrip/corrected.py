"""Tiles that a person gave another class in QuPath."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from qupath_bridge.errors import BridgeError
from qupath_bridge.frozen import FrozenDict, OneLine
from qupath_bridge.patches.ids import TILE_ID_BEGINNING
from qupath_bridge.sources.base import Project

from .backups import DATA_FILE
from .runs import ProjectRuns, our_tiles

__all__ = ["CorrectedTiles", "contains", "corrected_tiles"]

_TILES = TILE_ID_BEGINNING.encode()
"""Part of every data file with tiles of this library: QuPath writes ids as texts."""


@dataclass(frozen=True, slots=True, repr=False)
class CorrectedTiles(OneLine):
    """The corrected tiles of one slide.

    Attributes
    ----------
    entry_id, slide_name : str
    tiles : mapping of str to (str or None, str or None)
        Patch id (the tile's name) to the class that its run wrote, and the one that it has now.
    """

    entry_id: str
    slide_name: str
    tiles: Mapping[str, tuple[str | None, str | None]]


def corrected_tiles(project: Project) -> Iterator[CorrectedTiles]:
    """Yield the slides with tiles whose class is not the one that their run wrote.

    Slides without tiles of this library are not read; those that cannot be read are left out.
    """
    runs = ProjectRuns(project.info)
    for slide in project.slides if runs.folders else ():
        if not contains(project.info.folder / "data" / slide.entry_id / DATA_FILE, _TILES):
            continue
        try:
            shown = our_tiles(slide.read(detections=True))
            written = runs.corrected(shown.values(), slide.entry_id)
        except BridgeError:
            continue
        if written:
            tiles = {shown[i].name or i: (was, shown[i].class_path) for i, was in written.items()}
            yield CorrectedTiles(slide.entry_id, slide.name, FrozenDict(sorted(tiles.items())))


def contains(path: Path, wanted: bytes) -> bool:
    """Return whether a file has these bytes somewhere; False if it cannot be read."""
    rest = b""
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                if wanted in rest + block:
                    return True
                rest = block[-len(wanted) :]
    except OSError:
        pass  # said where the slide is read, if it has to be
    return False
