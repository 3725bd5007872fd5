"""Writer of objects into a Java stream, as QuPath's classes write them."""

from __future__ import annotations

import struct
from collections.abc import Hashable, Mapping
from typing import NamedTuple

import shapely

from qupath_bridge.model import CLASS_SEPARATOR, ObjectType, PathObject, Roi, RoiKind
from qupath_bridge.qupath.files.classes import default_rgb, pack_rgb, split_class
from qupath_bridge.qupath.geojson import Tile
from qupath_bridge.qupath.javaio.grammar import ARRAY, BLOCK, END, NULL, OBJECT
from qupath_bridge.qupath.javaio.writer import JavaWriter

from . import schema
from .records import DESCRIPTION, OBJECT_ID

__all__ = ["ObjectWriter"]

_I32 = struct.Struct(">i")
_PLANE = struct.Struct(">iii")  # c, t, z
_BOX = struct.Struct(">iiddddi")  # c, t, x, x2, y, y2, z
_NO_CHILDREN = _I32.pack(0)
_NAN = bytes.fromhex("7ff8000000000000")
_TILE_END = bytes([NULL, BLOCK, 8]) + _NAN + bytes([END])  # the ROI's name, class probability


class _TilePattern(NamedTuple):
    """The bytes between the parts in which tiles differ: name, texts and id, numbers, box."""

    start: bytes
    metadata: bytes
    measurements: bytes
    roi: bytes


class ObjectWriter:
    """Writes each object in two halves; its children are written between them.

    Parameters
    ----------
    out : JavaWriter
        Receives the bytes.
    colors : mapping of str to int
        Colours of classes, packed ARGB; a class without one gets a colour derived from its name.
    """

    def __init__(self, out: JavaWriter, colors: Mapping[str, int]) -> None:
        self.out = out
        self.colors = colors
        self._patterns: dict[tuple[str | None, tuple[str, ...], tuple[str, ...]], _TilePattern] = {}

    def begin_list(self, count: int, key: Hashable = None) -> None:
        """Write the beginning of an ArrayList; its items and the end of the object come next."""
        self.out.begin(schema.ARRAY_LIST, key)
        self.out.raw(_I32.pack(count))
        self.out.block(_I32.pack(count))

    def begin(self, each: PathObject, n_children: int, key: Hashable = None) -> None:
        """Write an object up to its children."""
        metadata = {name: text for name, text in each.metadata.items() if name != DESCRIPTION}
        if each.description is not None:
            metadata[DESCRIPTION] = each.description
        self.out.begin(schema.OBJECT_CLASSES[each.object_type], key)
        self._head(each.id, each.name, each.color, metadata, each.measurements)
        self.out.block(_I32.pack(n_children))

    def finish(self, each: PathObject) -> None:
        """Write the part of an object after its children."""
        out = self.out
        self._locked(each.locked)
        self._path_class(each.class_path)
        self._roi(each.roi)
        probability = each.probability
        tail = _NAN if probability is None else struct.pack(">d", probability)
        if each.object_type is ObjectType.TMA_CORE:
            tail += bytes([bool(each.missing)])
        out.block(tail)
        if each.object_type is ObjectType.CELL:
            self._roi(each.nucleus)
        out.end()

    def tile(self, tile: Tile) -> None:
        """Write a tile: the same bytes as for its object, without making the object."""
        out, (x, y, w, h) = self.out, tile.box
        box = _BOX.pack(-1, tile.plane.t, x, x + w, y, y + h, tile.plane.z)
        kind = (tile.class_path, tuple(tile.measurements), tuple(tile.metadata))
        pattern = self._patterns.get(kind)
        if pattern is None:
            self._first_tile(tile, box)
            self._patterns[kind] = self._tile_pattern(*kind)
            return
        out.raw(pattern.start, 1)
        out.text(tile.name or None)
        out.raw(pattern.metadata, 3)
        for text in tile.metadata.values():
            out.text(text)
        out.text(tile.id, once=True)
        if tile.measurements:
            out.raw(pattern.measurements, 2)
            out.raw(struct.pack(f">{len(kind[1])}d", *tile.measurements.values()))
        else:
            out.raw(pattern.measurements)
        out.raw(pattern.roi + box + _TILE_END, 1)

    def _first_tile(self, tile: Tile, box: bytes) -> None:
        out = self.out
        out.begin(schema.OBJECT_CLASSES[ObjectType.TILE])
        self._head(tile.id, tile.name or None, None, tile.metadata, tile.measurements)
        out.block(_NO_CHILDREN)
        self._locked(False)
        self._path_class(tile.class_path)
        out.begin(schema.ROI_CLASSES[RoiKind.RECTANGLE])
        out.raw(box + _TILE_END)

    def _tile_pattern(
        self, class_path: str | None, names: tuple[str, ...], keys: tuple[str, ...]
    ) -> _TilePattern:
        """Return the bytes that are equal for all tiles of one class and the same names and keys.

        One such tile was written before, so that all texts and classes can be referred to.
        """
        to, to_class = self.out.reference_to, self.out.reference_to_class
        begin, array = bytes([OBJECT]), bytes([ARRAY])
        count = _I32.pack(len(keys) + 1)
        objects = array + to_class(schema.OBJECTS) + count
        measured = bytes([END, NULL])
        if names:
            measured = (
                bytes([END]) + begin + to_class(schema.DOUBLE_LIST) + bytes([0, NULL])
                + to(("names", names)) + array + to_class(schema.DOUBLES) + _I32.pack(len(names))
            )  # fmt: skip
        class_reference = bytes([NULL]) if class_path is None else to(("class", class_path))
        return _TilePattern(
            start=begin + to_class(schema.OBJECT_CLASSES[ObjectType.TILE]),
            metadata=bytes([NULL]) + begin + to_class(schema.METADATA) + to(("int", 1)) + objects
            + b"".join(to(key) for key in (*keys, OBJECT_ID)) + objects,
            measurements=measured,
            roi=bytes([BLOCK, 4]) + _NO_CHILDREN + to(("locked", False)) + class_reference + begin
            + to_class(schema.ROI_CLASSES[RoiKind.RECTANGLE]),
        )  # fmt: skip

    def _head(
        self,
        identity: str,
        name: str | None,
        color: int | None,
        metadata: Mapping[str, str],
        measurements: Mapping[str, float],
    ) -> None:
        out = self.out
        out.text(name)
        self._integer(color)
        out.begin(schema.METADATA)
        self._integer(1)
        out.array(schema.OBJECTS, len(metadata) + 1)
        for key in (*metadata, OBJECT_ID):
            out.text(key)
        out.array(schema.OBJECTS, len(metadata) + 1)
        for text in metadata.values():
            out.text(text)
        out.text(identity, once=True)
        out.end()
        self._measurements(measurements)

    def _locked(self, locked: bool) -> None:
        if not self.out.reference(("locked", locked)):
            self.out.begin(schema.BOOLEAN, ("locked", locked))
            self.out.raw(bytes([locked]))

    def _integer(self, value: int | None) -> None:
        if value is None:
            self.out.null()
        elif not self.out.reference(("int", value)):
            self.out.begin(schema.INTEGER, ("int", value))
            self.out.raw(_I32.pack(value))

    def _measurements(self, measurements: Mapping[str, float]) -> None:
        out = self.out
        if not measurements:
            out.null()
            return
        names = tuple(measurements)
        out.begin(schema.DOUBLE_LIST)
        out.raw(b"\0")  # not closed: QuPath does that, and shares the names, when it reads
        out.null()  # map
        if not out.reference(("names", names)):
            self.begin_list(len(names), ("names", names))
            for name in names:
                out.text(name)
            out.end()
        values = struct.pack(f">{len(names)}d", *measurements.values())
        out.array(schema.DOUBLES, len(names), values)

    def _path_class(self, path: str | None) -> None:
        """Write a class, with its parents inside it."""
        out = self.out
        while path is not None and not out.reference(("class", path)):
            names = split_class(path)
            color = self.colors.get(path)
            out.begin(schema.PATH_CLASS, ("class", path))
            self._integer(pack_rgb(*default_rgb(path)) if color is None else color)
            out.text(names[-1])
            path = CLASS_SEPARATOR.join(names[:-1]) or None
        if path is None:
            out.null()

    # --- ROIs -------------------------------------------------------------------------------

    def _roi(self, roi: Roi | None) -> None:
        out = self.out
        if roi is None:
            out.null()
            return
        out.begin(schema.ROI_CLASSES[roi.kind])
        c, z, t = roi.channel, roi.plane.z, roi.plane.t
        if roi.kind in (RoiKind.RECTANGLE, RoiKind.ELLIPSE, RoiKind.LINE):
            x, y, x2, y2 = (
                shapely.get_coordinates(roi.geometry).ravel().tolist()
                if roi.kind is RoiKind.LINE
                else roi.geometry.bounds
            )
            out.raw(_BOX.pack(c, t, x, x2, y, y2, z))
            out.null()  # name
            return
        out.raw(_PLANE.pack(c, t, z))
        if roi.kind is RoiKind.GEOMETRY:
            out.null()  # stats
            wkb = shapely.to_wkb(roi.geometry, byte_order=0, output_dimension=2)
            out.array(schema.BYTES, len(wkb), wkb)
            return
        if roi.kind in (RoiKind.POLYGON, RoiKind.POINTS):
            out.null()  # name
        if roi.kind is RoiKind.POLYGON:
            out.null()  # stats
        points = shapely.get_coordinates(roi.geometry)
        if roi.kind is RoiKind.POLYGON:
            points = points[:-1]  # QuPath closes rings itself
        for column in points.T.astype(">f4"):
            out.array(schema.FLOATS, len(points), column.tobytes())
