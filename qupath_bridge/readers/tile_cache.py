"""Decoded tiles that are kept, because neighbouring boxes share them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from qupath_bridge.model import PixelArray

__all__ = ["TileCache"]


class TileCache:
    """Keeps decoded tiles, up to a number of bytes.

    Tiles of which as many values were used as they have go first: patches side by side use each
    value once. So what is kept is what later patches need, and a row of patches finds the lower
    parts of the tiles of the row above. After those goes what was unused the longest.

    Parameters
    ----------
    limit : int
        Bytes of all tiles; one tile is kept whatever it has.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._tiles: OrderedDict[Hashable, PixelArray] = OrderedDict()
        self._unused: dict[Hashable, int] = {}
        self.nbytes = 0

    def get(self, name: Hashable) -> PixelArray | None:
        """Return a tile, None if it is not kept."""
        tile = self._tiles.get(name)
        if tile is not None:
            self._tiles.move_to_end(name)
        return tile

    def put(self, name: Hashable, tile: PixelArray) -> None:
        """Keep a tile that is not kept yet, and drop others if there are too many."""
        self._tiles[name] = tile
        self._unused[name] = tile.size
        self.nbytes += tile.nbytes
        while self.nbytes > self._limit and len(self._tiles) > 1:
            dropped, old = self._tiles.popitem(last=False)
            del self._unused[dropped]
            self.nbytes -= old.nbytes

    def use(self, name: Hashable, count: int) -> None:
        """Note that values of a tile were used."""
        if name in self._unused:
            self._unused[name] -= count
            if self._unused[name] <= 0:
                self._tiles.move_to_end(name, last=False)

    def clear(self) -> None:
        """Drop all tiles."""
        self._tiles.clear()
        self._unused.clear()
        self.nbytes = 0
