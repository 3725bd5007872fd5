"""``data.qpdata``: a new file for one image, which QuPath 0.2 to 0.7 opens.

Only new files: a file that QuPath wrote is never changed here.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import shapely

from qupath_bridge.model import ImageData, ObjectType, PathObject, Roi, RoiKind
from qupath_bridge.project.classes import SEPARATOR, default_rgb, pack_rgb, split_class

from . import schema
from .javaclass import encode_text
from .javawrite import JavaWriter
from .objects import OBJECT_ID
from .records import DESCRIPTION
from .rules import check_image_data

__all__ = ["encode_image_data"]

DATA_VERSION = 3
"""Version of the data files of QuPath 0.3 to 0.7; 0.2.3 reads it inside a project."""

_I32 = struct.Struct(">i")
_PLANE = struct.Struct(">iii")  # c, t, z
_BOX = struct.Struct(">iiddddi")  # c, t, x, x2, y, y2, z
_NAN = bytes.fromhex("7ff8000000000000")
_MIN_BUCKETS = 16
_LOAD = 0.75


def encode_image_data(
    data: ImageData,
    *,
    server: Mapping[str, Any] | None = None,
    qupath_version: str = "0.7.0",
    properties: Mapping[str, str] | None = None,
) -> bytes:
    """Encode a new ``data.qpdata`` file; the same values give the same bytes.

    Parameters
    ----------
    data : ImageData
        Objects of every type but the root, each after its parent; image type; stains, as the
        ``text`` that QuPath stores; TMA grid. Texts in its properties are written; its workflow
        is not, since a new file begins a new history.
    server : mapping, optional
        The entry's ``serverBuilder``, verbatim.
    qupath_version : str
        The version that the file claims to be from.
    properties : mapping of str to str, optional
        Written too; QuPath's own is ``PROJECT_ENTRY_ID``.

    Raises
    ------
    OutputError
        If QuPath would refuse the file or fail over it later. It names the object.

    Notes
    -----
    Vertices of polygons, polylines and points are stored as float32, as QuPath does: their
    0.01 px are kept up to 131,072 px.
    """
    check_image_data(data)
    stored = {key: item for key, item in data.properties.items() if isinstance(item, str)}
    stored.update(properties or {})
    return _Encoder(data).encode(_server_text(server, qupath_version), stored)


def _server_text(server: Mapping[str, Any] | None, version: str) -> str:
    about: dict[str, Any] = {"dataVersion": DATA_VERSION, "qupathVersion": version}
    if server is not None:
        about["server"] = server
    return json.dumps(about, ensure_ascii=False, separators=(",", ":"))


class _Encoder:
    """Writes the items of one file, in QuPath's order."""

    def __init__(self, data: ImageData) -> None:
        self.data = data
        self.out = JavaWriter()
        self.colors: dict[str, int] = {}  # of classes
        for each in data.objects:
            if each.class_path is not None and each.class_color is not None:
                self.colors.setdefault(each.class_path, each.class_color)

    def encode(self, server: str, properties: Mapping[str, str]) -> bytes:
        out = self.out
        header = encode_text(f"Data file version {DATA_VERSION}")
        out.block(struct.pack(">H", len(header)) + header)
        out.text(server)
        out.begin(schema.LOCALE)
        out.raw(_I32.pack(-1))
        for text in ("US", "", "en", "", ""):  # country, extensions, language, script, variant
            out.text(text)
        out.end()
        out.enum(schema.IMAGE_TYPE, self.data.image_type or "UNSET")
        self._stains()
        out.begin(schema.WORKFLOW)
        out.block(_I32.pack(1) + _I32.pack(0))
        out.end()
        self._hierarchy()
        self._properties(properties)
        out.text("EOF")
        return out.getvalue()

    def _stains(self) -> None:
        if self.data.stains is None:
            self.out.null()
            return
        self.out.begin(schema.STAINS)
        self.out.block(_I32.pack(1))
        self.out.text(self.data.stains["text"])
        self.out.end()

    def _properties(self, properties: Mapping[str, str]) -> None:
        out = self.out
        buckets = _MIN_BUCKETS
        while buckets * _LOAD < len(properties):
            buckets *= 2
        out.begin(schema.HASH_MAP)
        out.raw(struct.pack(">fi", _LOAD, int(buckets * _LOAD)))
        out.block(_I32.pack(buckets) + _I32.pack(len(properties)))
        for key, text in properties.items():
            out.text(key)
            out.text(text)
        out.end()

    # --- objects ----------------------------------------------------------------------------

    def _hierarchy(self) -> None:
        out, objects = self.out, self.data.objects
        children: dict[int, list[int]] = {}
        for i, each in enumerate(objects):
            children.setdefault(each.parent, []).append(i)
        out.begin(schema.HIERARCHY)
        out.begin(schema.OBJECT_CLASSES[ObjectType.ROOT])
        for _ in range(3):  # name, colour, measurements
            out.null()
        out.block(_I32.pack(len(children.get(-1, ()))))
        open_objects: list[tuple[int, Iterator[int]]] = [(-1, iter(children.get(-1, ())))]
        while open_objects:
            parent, left = open_objects[-1]
            for i in left:
                below = children.get(i, [])
                self._head(i, objects[i], len(below))
                open_objects.append((i, iter(below)))
                break
            else:
                open_objects.pop()
                if parent >= 0:
                    self._tail(objects[parent])
                out.end()
        self._grid()

    def _grid(self) -> None:
        out, grid = self.out, self.data.tma_grid
        if grid is None:
            out.null()
            return
        out.begin(schema.GRID)
        out.raw(_I32.pack(grid.height) + _I32.pack(grid.width))
        self._list(len(grid.cores))
        for core in grid.cores:
            out.reference(("core", core))
        out.end()

    def _list(self, count: int, key: Any = None) -> None:
        """Begin an ArrayList; its items and the end of the object come next."""
        self.out.begin(schema.ARRAY_LIST, key)
        self.out.raw(_I32.pack(count))
        self.out.block(_I32.pack(count))

    def _head(self, i: int, each: PathObject, n_children: int) -> None:
        out = self.out
        is_core = each.object_type is ObjectType.TMA_CORE
        out.begin(schema.OBJECT_CLASSES[each.object_type], ("core", i) if is_core else None)
        out.text(each.name)
        self._integer(each.color)
        metadata = {key: text for key, text in each.metadata.items() if key != DESCRIPTION}
        if each.description is not None:
            metadata[DESCRIPTION] = each.description
        out.begin(schema.METADATA)
        self._integer(1)
        out.array(schema.OBJECTS, len(metadata) + 1)
        for key in (*metadata, OBJECT_ID):
            out.text(key)
        out.array(schema.OBJECTS, len(metadata) + 1)
        for text in metadata.values():
            out.text(text)
        out.text(each.id, once=True)
        out.end()
        self._measurements(each.measurements)
        out.block(_I32.pack(n_children))

    def _tail(self, each: PathObject) -> None:
        out = self.out
        if not out.reference(("locked", each.locked)):
            out.begin(schema.BOOLEAN, ("locked", each.locked))
            out.raw(bytes([each.locked]))
        self._path_class(each.class_path)
        self._roi(each.roi)
        probability = each.probability
        tail = _NAN if probability is None else struct.pack(">d", probability)
        if each.object_type is ObjectType.TMA_CORE:
            tail += bytes([bool(each.missing)])
        out.block(tail)
        if each.object_type is ObjectType.CELL:
            self._roi(each.nucleus)

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
            self._list(len(names), ("names", names))
            for name in names:
                out.text(name)
            out.end()
        values = np.fromiter(measurements.values(), dtype=">f8", count=len(names))
        out.array(schema.DOUBLES, len(names), values.tobytes())

    def _path_class(self, path: str | None) -> None:
        """Write a class and, inside it, its parents."""
        out = self.out
        while path is not None and not out.reference(("class", path)):
            names = split_class(path)
            color = self.colors.get(path)
            out.begin(schema.PATH_CLASS, ("class", path))
            self._integer(pack_rgb(*default_rgb(path)) if color is None else color)
            out.text(names[-1])
            path = SEPARATOR.join(names[:-1]) or None
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
