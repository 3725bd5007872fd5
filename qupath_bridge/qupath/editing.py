"""What an editor is: a way to put tiles into an image's data file."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Protocol, runtime_checkable

from qupath_bridge.model import Box, ImageData, PathObject, Slide
from qupath_bridge.patches.ids import TILE_ID_BEGINNING
from qupath_bridge.qupath.files.classes import unpack_rgb

from .geojson import Tile

__all__ = ["Editor", "is_ours", "tile_of"]


def is_ours(identity: str) -> bool:
    """Return whether an id is that of a tile which this library made."""
    return identity.startswith(TILE_ID_BEGINNING)


def tile_of(each: PathObject) -> Tile:
    """Return a tile object, one of ours, as the tile that it was made from.

    Raises
    ------
    ValueError
        If it has no ROI.
    """
    if each.roi is None:
        raise ValueError(f"the tile {each.id} has no ROI")
    x, y, x2, y2 = (round(value) for value in each.roi.geometry.bounds)
    return Tile(
        id=each.id,
        box=Box(x, y, x2 - x, y2 - y),
        plane=each.roi.plane,
        name=each.name or "",
        class_path=each.class_path,
        color=None if each.class_color is None else unpack_rgb(each.class_color),
        measurements=each.measurements,
        metadata=each.metadata,
    )


@runtime_checkable
class Editor(Protocol):
    """Makes changed copies of data files; engines that write are editors too.

    It never changes a file that is there: who takes the copy into use decides that when it was
    looked at.
    """

    name: str

    def edit(
        self,
        source: Path | None,
        target: Path,
        *,
        slide: Slide,
        remove: Collection[str] = (),
        add: Iterable[Tile] = (),
    ) -> None:
        """Write a copy of a data file, from which tiles are gone and to which others were added.

        Parameters
        ----------
        source : Path or None
            The data file; None for an image that has none, which gets a new one.
        target : Path
            The copy; it does not exist yet.
        slide : Slide
            Whose data they are.
        remove : collection of str
            Ids of tiles; what lies below one moves up to its parent.
        add : iterable of Tile
            Come below the root, behind all others.

        Raises
        ------
        ProjectError
            If the file cannot be read.
        OutputError
            If it cannot be changed safely, or the copy cannot be written.
        """
        ...

    def read_file(self, path: Path, *, entry_id: str = "") -> ImageData:
        """Read all objects of one data file, wherever it lies.

        Raises
        ------
        ProjectError
            If it cannot be read.
        """
        ...

    def start(self) -> None:
        """Make ready what it needs.

        Raises
        ------
        MissingDependencyError
            If that is not there.
        """
        ...

    def close(self) -> None:
        """Give back what it holds; it may be used again."""
        ...
