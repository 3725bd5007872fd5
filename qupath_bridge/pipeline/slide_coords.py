"""Coordinates of a slide that are read when they are needed: a run never holds those of all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import xxhash

from qupath_bridge.errors import UsageError
from qupath_bridge.frozen import OneLine
from qupath_bridge.sources.coordinate_files import Coordinates, read_coordinates

__all__ = ["SlideCoords"]


@dataclass(frozen=True, slots=True, repr=False)
class SlideCoords(OneLine):
    """Coordinates of another tool, of one slide; they stay where they are, and do not change.

    Attributes
    ----------
    place : str
        Where they are, for messages.
    size : int
        Side of a patch as the tool hands it to an encoder, pixels.
    digest : str
        Of all that they say, xxh3_128.
    """

    place: str = field(compare=False)
    size: int
    digest: str
    _take: Callable[[], Coordinates] = field(compare=False, repr=False)

    @classmethod
    def taken(cls, place: str, take: Callable[[], Coordinates]) -> SlideCoords:
        """Look once at what ``take`` returns."""
        found = take()
        return cls(place, found.size, _digest(found), take)

    @classmethod
    def of_file(cls, path: Path) -> SlideCoords:
        """Look at a file of another tool.

        Raises
        ------
        UsageError
            If it cannot be read.
        """
        return cls.taken(str(path), partial(read_coordinates, path))

    def read(self) -> Coordinates:
        """Return the coordinates.

        Raises
        ------
        UsageError
            If they are not the same any more.
        UsageError, OutputError
            If they cannot be read any more.
        """
        found = self._take()
        if _digest(found) != self.digest:
            raise UsageError(
                f"coords: {self.place} changed while it was used.",
                hint="Start again when nobody writes there.",
            )
        return found


def _digest(found: Coordinates) -> str:
    about = (found.tool, found.size, found.side, found.side_in, found.places_in, found.centred)
    digest = xxhash.xxh3_128(repr(about).encode())
    digest.update(np.ascontiguousarray(found.places).data)
    return digest.hexdigest()
