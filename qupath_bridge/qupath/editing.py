"""Protocol of an editor: an exchangeable part that writes tiles into a copy of a data file."""

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
    """Return whether an id is that of a tile made by this library."""
    return identity.startswith(TILE_ID_BEGINNING)


def tile_of(item: PathObject) -> Tile:
    """Return a tile object of this library as the tile that it was made from.

    Raises
    ------
    ValueError
        If it has no ROI.
    """
    if item.roi is None:
        raise ValueError(f"the tile {item.id} has no ROI")
    x, y, x2, y2 = (round(value) for value in item.roi.geometry.bounds)
    return Tile(
        id=item.id,
        box=Box(x, y, x2 - x, y2 - y),
        plane=item.roi.plane,
        name=item.name or "",
        class_path=item.class_path,
        color=None if item.class_color is None else unpack_rgb(item.class_color),
        measurements=item.measurements,
        metadata=item.metadata,
    )


@runtime_checkable
class Editor(Protocol):
    """Writes changed copies of data files; engines that write are editors too.

    An editor never changes an existing file: the caller checks the copy, then replaces the file.
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
        """Write a copy of a data file in which tiles are removed and others are added.

        Parameters
        ----------
        source : Path or None
            The data file; None for an image without one, which gets a new file.
        target : Path
            The copy; must not exist.
        slide : Slide
            The slide of the data file.
        remove : collection of str
            Ids of tiles; the children of a removed tile move up to its parent.
        add : iterable of Tile
            Added below the root, after all other objects.

        Raises
        ------
        ProjectError
            If the file cannot be read.
        OutputError
            If the file cannot be changed safely, or the copy cannot be written.
        """
        ...

    def read_file(self, path: Path, *, entry_id: str = "") -> ImageData:
        """Read all objects of one data file, in any folder.

        Raises
        ------
        ProjectError
            If it cannot be read.
        """
        ...

    def start(self) -> None:
        """Start the programs that the editor needs.

        Raises
        ------
        MissingDependencyError
            If one is not installed.
        """
        ...

    def close(self) -> None:
        """Release all resources. Idempotent; the editor may be used again."""
        ...
