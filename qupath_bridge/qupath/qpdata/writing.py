"""Writer of a new ``data.qpdata`` file for one image, which QuPath 0.2 to 0.7 opens.

New files only; :mod:`.splice` changes files that QuPath wrote.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from qupath_bridge.model import ImageData, ObjectType
from qupath_bridge.qupath.javaio.descriptors import encode_text
from qupath_bridge.qupath.javaio.writer import JavaWriter

from . import schema
from .object_writer import ObjectWriter
from .rules import check_image_data

__all__ = ["encode_image_data"]

DATA_VERSION = 3
"""Version of the data files of QuPath 0.3 to 0.7; 0.2.3 reads it inside a project."""

_I32 = struct.Struct(">i")
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
        is not, since a new file starts a new history.
    server : mapping, optional
        The entry's ``serverBuilder``, verbatim.
    qupath_version : str
        QuPath version that the file states.
    properties : mapping of str to str, optional
        Additional properties; QuPath itself writes ``PROJECT_ENTRY_ID``.

    Raises
    ------
    OutputError
        If QuPath would refuse the file or fail later. The error names the object.

    Notes
    -----
    Vertices of polygons, polylines and points are stored as float32, as in QuPath: exact to
    0.01 px up to 131,072 px.
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
        colors: dict[str, int] = {}
        for each in data.objects:
            if each.class_path is not None and each.class_color is not None:
                colors.setdefault(each.class_path, each.class_color)
        self.objects = ObjectWriter(self.out, colors)

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
                is_core = objects[i].object_type is ObjectType.TMA_CORE
                self.objects.begin(objects[i], len(below), ("core", i) if is_core else None)
                open_objects.append((i, iter(below)))
                break
            else:
                open_objects.pop()
                if parent >= 0:
                    self.objects.finish(objects[parent])
                else:
                    out.end()
        self._grid()

    def _grid(self) -> None:
        out, grid = self.out, self.data.tma_grid
        if grid is None:
            out.null()
            return
        out.begin(schema.GRID)
        out.raw(_I32.pack(grid.height) + _I32.pack(grid.width))
        self.objects.begin_list(len(grid.cores))
        for core in grid.cores:
            out.reference(("core", core))
        out.end()
