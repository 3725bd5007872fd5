"""Fast writer and reader of many tiles: one feature after the other, gzip, constant memory.

The ``geojson`` package's model makes several objects per tile and is too slow for 100,000 tiles; a
test checks that both give the same result.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import IO, Annotated, Any, BinaryIO, Literal, NamedTuple

import msgspec
import numpy as np

from qupath_bridge.errors import OutputError, ProjectError
from qupath_bridge.frozen import FrozenDict, one_line
from qupath_bridge.model import CLASS_SEPARATOR, FIRST_PLANE, Box, Plane
from qupath_bridge.qupath.files.classes import class_problem, default_rgb
from qupath_bridge.qupath.rois import is_uuid
from qupath_bridge.regular_files import open_regular

from .gate import MAX_MEASUREMENT, color_problem, plane_problem
from .writing import classification, plane_member

__all__ = ["Tile", "read_tiles", "tiles_geojson", "write_tiles"]

_LEVEL = 3  # of gzip: half the time of its default, a tenth more bytes
_BATCH = 1000
_FIRST_LINE = b'{"type":"FeatureCollection","features":[\n'
_LAST_LINE = b"]}\n"

MAX_LINE_BYTES = 64 << 10
"""Longest line of a tile file: one tile with a class path and shares of a hundred classes."""

MAX_RATIO = 100
"""Bytes of text per packed byte. The ids and digests of tiles keep it below 20; a file of blanks
made to fill the memory has 1000."""

_ALWAYS_ALLOWED = 1 << 20

_ENCODER = msgspec.json.Encoder()


class Tile(NamedTuple):
    """A patch as a tile object of QuPath.

    Attributes
    ----------
    id : str
        UUID in lower case.
    box : Box
        QuPath pixels.
    plane : Plane
    name : str
    class_path : str or None
        None for an unclassified tile.
    color : (int, int, int) or None
        Red, green and blue of the class; derived from its name when not given.
    measurements : mapping of str to float
        Values that are not finite are left out.
    metadata : mapping of str to str
    """

    id: str
    box: Box
    plane: Plane = FIRST_PLANE
    name: str = ""
    class_path: str | None = None
    color: tuple[int, int, int] | None = None
    measurements: Mapping[str, float] = FrozenDict()
    metadata: Mapping[str, str] = FrozenDict()

    def __repr__(self) -> str:
        return one_line("Tile", f"{self.class_path!r}, {self.box}", id=self.id, name=self.name)


def tiles_geojson(tiles: Iterable[Tile]) -> bytes:
    """Return a gzipped FeatureCollection of tiles; see :func:`write_tiles`."""
    stream = io.BytesIO()
    write_tiles(stream, tiles)
    return stream.getvalue()


def write_tiles(stream: IO[bytes], tiles: Iterable[Tile]) -> int:
    """Write a gzipped FeatureCollection of tiles, one feature per line.

    The bytes depend only on the tiles: they contain no time and no file name.

    Parameters
    ----------
    stream : binary stream
        Not closed.
    tiles : iterable of Tile
        Read one by one; their ids must differ, which is checked at the end.

    Returns
    -------
    int
        Number of tiles written.

    Raises
    ------
    OutputError
        If QuPath would refuse or lose a tile; it is named. The stream is then incomplete.
    """
    features = _features(tiles)
    count = 0
    with gzip.GzipFile("", "wb", _LEVEL, stream, mtime=0) as packed:
        packed.write(_FIRST_LINE)
        while batch := list(islice(features, _BATCH)):
            packed.write(b",\n" * bool(count) + b",\n".join(batch))
            count += len(batch)
        packed.write(b"\n" * bool(count) + _LAST_LINE)
    return count


def read_tiles(path: Path) -> Iterator[Tile]:
    """Read the tiles of a file of :func:`write_tiles`, one by one.

    Only for these files, which have one feature per line: other files are refused, and so are
    files that are damaged before the next tile. That all ids differ is known at the end.

    Raises
    ------
    ProjectError
        If the file is not such a file; the message has the number of the last tile read.
    """
    ids = _Ids()
    try:
        with open_regular(path) as packed:
            for feature in _read_features(_lines(packed)):
                tile = feature.tile()
                ids.add(tile.id)
                yield tile
        if twice := ids.twice():
            raise ValueError(f"two tiles have the id {twice}")
    except OSError as error:
        problem = f"cannot be read, {error.strerror or error}"
        raise ProjectError(problem, path=path) from error
    except (ValueError, RecursionError, EOFError, zlib.error) as error:
        raise ProjectError(
            f"not a tile file of qupath-bridge, or damaged after tile {len(ids)}: {error}",
            path=path,
            hint="Run the export again to write a new file.",
        ) from error


def _read_features(lines: Iterator[bytes]) -> Iterator[_Feature]:
    """Yield the features of the lines of a file: a comma ends each but the last one."""
    if next(lines, b"") != _FIRST_LINE:
        raise ValueError("the file begins otherwise")
    another: bool | None = None  # whether a feature must follow; at the beginning one may
    for line in lines:
        if line == _LAST_LINE and not another:
            if next(lines, None) is not None:
                raise ValueError("something stands behind its end")
            return
        if another is False:
            raise ValueError("no comma stands before the next tile")
        # One feature per call: its objects are gone before the next ones come.
        text = line.removesuffix(b"\n")
        another = text.endswith(b",")
        yield _FEATURE.decode(text.removesuffix(b","))
    raise ValueError("the file ends too early")


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a gzipped file; refuse more text than a tile file of its size has."""
    left = _ALWAYS_ALLOWED + MAX_RATIO * os.fstat(file.fileno()).st_size
    with gzip.open(file) as stream:
        while line := stream.readline(MAX_LINE_BYTES + 1):
            left -= len(line)
            if len(line) > MAX_LINE_BYTES or left < 0:
                raise ValueError("more text than tiles of a file of this size have")
            yield line


_Pixel = Annotated[int, msgspec.Meta(ge=-(1 << 31), lt=1 << 31)]
_Index = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]
_Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]
_Point = tuple[_Pixel, _Pixel]


class _Plane(msgspec.Struct, frozen=True, gc=False):
    z: _Index
    t: _Index


class _Polygon(msgspec.Struct, frozen=True, gc=False):
    type: Literal["Polygon"]
    coordinates: tuple[tuple[_Point, _Point, _Point, _Point, _Point]]
    plane: _Plane | None = None

    def box(self) -> Box:
        (x, y), (x2, ya), (xb, y2), (xc, yc), last = self.coordinates[0]
        if not (x == xc < x2 == xb and y == ya < y2 == yc and last == (x, y)):
            raise ValueError("a shape that is not a box")
        return Box(x, y, x2 - x, y2 - y)


class _Class(msgspec.Struct, frozen=True, gc=False):
    color: tuple[_Byte, _Byte, _Byte]
    name: str | None = None
    names: tuple[str, ...] = ()

    def path(self) -> str:
        return _checked_path(self.names, self.name)


class _Properties(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    object_type: Literal["tile"]
    name: str = ""
    classification: _Class | None = None
    measurements: dict[str, float] = {}
    metadata: dict[str, str] = {}


class _Feature(msgspec.Struct, frozen=True, gc=False):
    id: str
    geometry: _Polygon
    properties: _Properties

    def tile(self) -> Tile:
        if not is_uuid(self.id):
            raise ValueError(f"{self.id!r} is not a UUID in lower case")
        properties, plane = self.properties, self.geometry.plane
        kind = properties.classification
        return Tile(
            self.id,
            self.geometry.box(),
            Plane(plane.z, plane.t) if plane else FIRST_PLANE,
            properties.name,
            kind.path() if kind else None,
            kind.color if kind else None,
            properties.measurements,
            properties.metadata,
        )


_FEATURE = msgspec.json.Decoder(_Feature)


@lru_cache(maxsize=4096)
def _checked_path(names: tuple[str, ...], name: str | None) -> str:
    path = CLASS_SEPARATOR.join(names) or name or ""
    if problem := class_problem(path):
        raise ValueError(problem)
    return path


def _features(tiles: Iterable[Tile]) -> Iterator[bytes]:
    ids = _Ids()
    for tile in tiles:
        try:
            line = _line(tile)
        except ValueError as problem:
            raise OutputError(
                f"The tile {tile.id} ({tile.name!a}) cannot be written: {problem}."
            ) from problem
        ids.add(tile.id)
        yield line
    if twice := ids.twice():
        raise OutputError(f"The tile {twice} cannot be written: another tile has this id.")


class _Ids:
    """UUIDs, 16 bytes each, among which one that is there twice is found at the end."""

    def __init__(self) -> None:
        self._packed = bytearray()

    def add(self, identity: str) -> None:
        self._packed += bytes.fromhex(identity.replace("-", ""))

    def __len__(self) -> int:
        return len(self._packed) // 16

    def twice(self) -> str | None:
        """Return an id that was added twice; None if each was added once."""
        halves = np.frombuffer(bytes(self._packed), ">u8").reshape(-1, 2)
        ordered = halves[np.lexsort(halves.T)]
        (equal,) = np.nonzero((ordered[1:] == ordered[:-1]).all(axis=1))
        return str(uuid.UUID(bytes=ordered[equal[0]].tobytes())) if len(equal) else None


def _line(tile: Tile) -> bytes:
    """Return one feature as JSON; raise ValueError if QuPath would refuse it or lose a part."""
    try:
        line = _ENCODER.encode(_feature(tile))
    except UnicodeEncodeError as error:
        raise ValueError(f"{error.object!a} is not text of UTF-8") from error
    if len(line) > MAX_LINE_BYTES:
        raise ValueError("it has more text than QuPath should show of a tile")
    return line


def _feature(tile: Tile) -> dict[str, Any]:
    """Return one feature; raise ValueError if QuPath would refuse or lose a part of it."""
    if not is_uuid(tile.id):
        raise ValueError("its id is not a UUID in lower case")
    properties: dict[str, Any] = {"objectType": "tile"}
    if tile.name:
        properties["name"] = tile.name
    if tile.class_path is not None:
        properties["classification"] = _class(tile.class_path, tile.color)
    if measurements := _measurements(tile.measurements):
        properties["measurements"] = measurements
    if tile.metadata:
        properties["metadata"] = tile.metadata
    geometry = _geometry(tile.box, tile.plane)
    return {"type": "Feature", "id": tile.id, "geometry": geometry, "properties": properties}


def _geometry(box: Box, plane: Plane) -> dict[str, Any]:
    x, y, w, h = map(int, box)
    if (x, y, w, h) != box:
        raise ValueError(f"its box {tuple(box)} is not made of whole pixels")
    if w < 1 or h < 1:
        raise ValueError(f"its box {tuple(box)} has no area")
    x2, y2 = x + w, y + h
    corners = ((x, y), (x2, y), (x2, y2), (x, y2), (x, y))
    on_plane = {} if plane == FIRST_PLANE else {"plane": _plane(plane)}
    return {"type": "Polygon", "coordinates": (corners,), **on_plane}


def _plane(plane: Plane) -> dict[str, int]:
    if problem := plane_problem(plane.z, plane.t):
        raise ValueError(f"its {problem}")
    return plane_member(plane)


@lru_cache(maxsize=4096)
def _class(path: str, color: tuple[int, int, int] | None) -> dict[str, Any]:
    color = default_rgb(path) if color is None else color
    if problem := class_problem(path) or color_problem(color):
        raise ValueError(problem)
    return classification(path, color)


def _measurements(measurements: Mapping[str, float]) -> dict[str, float]:
    # NumPy's numbers are not JSON.
    finite = {name: float(value) for name, value in measurements.items() if math.isfinite(value)}
    if "" in finite:
        raise ValueError("a measurement has no name")
    for name, value in finite.items():
        if abs(value) > MAX_MEASUREMENT:
            raise ValueError(f"measurement {name!r} is {value}, more than QuPath can hold")
    return finite
