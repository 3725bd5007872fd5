"""Decisions of a write-back about one slide: which tiles to remove, and which to add.

Pure: nothing is written here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from qupath_bridge.errors import OutputError, ProjectError
from qupath_bridge.model import ImageData, ObjectType, Slide
from qupath_bridge.pipeline.places import BRIDGE_FOLDER
from qupath_bridge.qupath.editing import Editor, is_ours, tile_of
from qupath_bridge.qupath.geojson import Tile, read_tiles
from qupath_bridge.sources.base import Project

from .backups import Backup
from .comparing import tile_hashes
from .provenance import run_folders

__all__ = ["TileEdit", "run_tiles", "tile_file", "undo_edit", "write_edit"]

_RUN_KEY = "qb.run"
_SHOWN = 3  # tiles that an error lists


@dataclass(frozen=True, slots=True)
class TileEdit:
    """An edit of one slide: tiles to remove and to add.

    ``hashes`` are those of the added tiles, as an inventory has them. ``restore``: restore the file
    that was kept in this backup; ``back`` are then the ids of the tiles that come with it.
    """

    remove: frozenset[str] = frozenset()
    add: Sequence[Tile] = ()
    hashes: Mapping[str, int] = field(default_factory=dict)
    restore: Backup | None = None
    back: tuple[str, ...] = ()

    @property
    def coming(self) -> tuple[str, ...]:
        """Ids of the tiles that are added."""
        return self.back if self.restore else tuple(self.hashes)

    @property
    def empty(self) -> bool:
        """True if there is nothing to do."""
        return not (self.remove or self.add or self.restore)


def write_edit(
    run_id: str,
    tiles: Sequence[Tile],
    image: ImageData,
    shown: Mapping[str, int],
    *,
    replace: bool,
) -> TileEdit:
    """Return the edit after which a slide, whose tiles have these hashes, has those of a run."""
    ours = _our_tiles(image)
    wanted = tile_hashes(tiles)
    same = {i for i, value in wanted.items() if shown.get(i) == value}
    going = {
        i for i, run in ours.items() if (replace or run == run_id or i in wanted) and i not in same
    }
    changed = {i for i in going & wanted.keys() if ours[i] == run_id}
    if changed and not replace:
        raise OutputError(
            f"{len(changed)} tiles of this run were changed in QuPath since they were put in "
            f"({', '.join(islice(sorted(changed), _SHOWN))}, …).",
            hint="Write back with replace to put the run's own in their place; a backup is kept.",
        )
    coming = {i: value for i, value in wanted.items() if i not in same}
    return TileEdit(frozenset(going), [tile for tile in tiles if tile.id in coming], coming)


def undo_edit(
    project: Project,
    run_id: str,
    editor: Editor,
    slide: Slide,
    image: ImageData,
    last: Backup | None,
) -> TileEdit:
    """Return the edit that removes a run from a slide, as if it had never been written.

    ``last`` is the backup that was made when it was; None when QuPath imported it, for example.
    """
    if last is not None and last.state(slide.entry_id, image.digest) == "in place":
        change = last.changes[slide.entry_id]
        return TileEdit(frozenset(change.added), restore=last, back=change.removed)
    kept = () if last is None else _kept(last, slide, run_id, editor)
    listed = {t.id for t in run_tiles(project.info.folder / BRIDGE_FOLDER / "runs" / run_id, slide)}
    ours = _our_tiles(image)
    # QuPath 0.4 drops the metadata of tiles.
    going = {i for i, run in ours.items() if run == run_id or (run is None and i in listed)}
    others = {run for run in ours.values() if run != run_id}
    back = {t.id: t for t in _of_other_runs(project, slide, others) if t.id in going}
    back.update((tile.id, tile) for tile in kept)
    staying = ours.keys() - going
    coming = [tile for i, tile in back.items() if i not in staying]
    return TileEdit(frozenset(going), coming, tile_hashes(coming))


def _kept(backup: Backup, slide: Slide, run_id: str, editor: Editor) -> tuple[Tile, ...]:
    """Return the tiles of other runs that a change removed, as they were."""
    gone = set(backup.changes[slide.entry_id].removed)
    if not gone or backup.content(slide.entry_id) is None:
        return ()
    image = editor.read_file(backup.file(slide.entry_id), entry_id=slide.entry_id)
    return tuple(
        tile_of(o) for o in image.objects if o.id in gone and o.metadata.get(_RUN_KEY) != run_id
    )


def _of_other_runs(project: Project, slide: Slide, others: set[str | None]) -> Iterator[Tile]:
    """Yield the tiles of other runs that are shown on a slide; newest last."""
    for folder in run_folders(project.info):
        if folder.name in others:
            yield from run_tiles(folder, slide)


def _our_tiles(image: ImageData) -> dict[str, str | None]:
    """Return the ids of our tiles in a slide's data, each with the run that it shows."""
    return {
        o.id: o.metadata.get(_RUN_KEY)
        for o in image.objects
        if o.object_type is ObjectType.TILE and is_ours(o.id)
    }


def run_tiles(folder: Path, slide: Slide) -> list[Tile]:
    """Return the tiles that a run has of a slide, from the run's folder; may be none.

    Raises
    ------
    ProjectError
        If their file is damaged, or has anything else.
    """
    path = tile_file(folder, slide)
    if not path.is_file():
        return []
    tiles = list(read_tiles(path))
    strangers = [tile.id for tile in tiles if not is_ours(tile.id)]
    if strangers:
        raise ProjectError(f"has {strangers[0]}, which is not a tile of qupath-bridge", path=path)
    return tiles


def tile_file(folder: Path, slide: Slide) -> Path:
    """Return the file with the tiles that a run has of a slide, in the run's folder."""
    return folder / f"{slide.entry_id}.geojson.gz"
