"""Decoded tiles that are kept, because neighbouring boxes share them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from weakref import WeakValueDictionary

from qupath_bridge.model import PixelArray

__all__ = ["TileCache", "shared_cache"]


class TileCache:
    """Keeps decoded tiles, up to a number of bytes. Several threads may use it.

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
        self._lock = threading.Lock()
        self.nbytes = 0

    def get(self, name: Hashable) -> PixelArray | None:
        """Return a tile, None if it is not kept."""
        with self._lock:
            tile = self._tiles.get(name)
            if tile is not None:
                self._tiles.move_to_end(name)
            return tile

    def put(self, name: Hashable, tile: PixelArray) -> None:
        """Keep a tile, and drop others if there are too many. It must not change afterwards."""
        with self._lock:
            if name in self._tiles:  # another thread was first
                return
            self._tiles[name] = tile
            self._unused[name] = tile.size
            self.nbytes += tile.nbytes
            while self.nbytes > self._limit and len(self._tiles) > 1:
                dropped, old = self._tiles.popitem(last=False)
                del self._unused[dropped]
                self.nbytes -= old.nbytes

    def use(self, name: Hashable, count: int) -> None:
        """Note that values of a tile were used."""
        with self._lock:
            if name in self._unused:
                self._unused[name] -= count
                if self._unused[name] <= 0:
                    self._tiles.move_to_end(name, last=False)


_shared: WeakValueDictionary[Hashable, TileCache] = WeakValueDictionary()
_lock = threading.Lock()


def shared_cache(identity: Hashable, limit: int) -> TileCache:
    """Return the one cache of a file in this process, for as long as a reader holds it.

    Threads that read neighbouring boxes, each with a reader of its own, find each other's tiles.
    """
    with _lock:
        cache = _shared.get(identity)
        if cache is None:
            cache = _shared[identity] = TileCache(limit)
        return cache
