"""QuPath's dialect of GeoJSON: reads that of every version, writes one that 0.4 to 0.7 accept."""

from __future__ import annotations

from .gate import check_feature, feature_problems
from .reading import load, loads, read_geojson
from .tiles import Tile, read_tiles, tiles_geojson, write_tiles
from .writing import dumps, to_feature

__all__ = [
    "Tile",
    "check_feature",
    "dumps",
    "feature_problems",
    "load",
    "loads",
    "read_geojson",
    "read_tiles",
    "tiles_geojson",
    "to_feature",
    "write_tiles",
]


def __dir__() -> list[str]:
    return sorted(__all__)
