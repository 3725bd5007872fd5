"""Reader of the object hierarchy of a ``.qpdata`` stream, with its own stack.

Objects that are not wanted are skipped, but their children are read. The order of an object's
parts is fixed by QuPath's classes, the layout of each part by the file.
"""

from __future__ import annotations

import math
import re
import struct
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from qupath_bridge.model import ObjectType, PathObject, TmaGrid
from qupath_bridge.qupath.javaio.descriptors import ClassDesc
from qupath_bridge.qupath.javaio.grammar import BLOCK, LONG_BLOCK, OBJECT, REFERENCE
from qupath_bridge.qupath.javaio.stream import JavaObject, Node, Ref

from .layouts import Layouts
from .records import OBJECT_ID, Record, objects_from_records
from .rois import read_roi
from .templates import Templates
from .values import Values

__all__ = [
    "HIERARCHY",
    "OBJECT_TYPES",
    "Hierarchy",
    "is_metadata",
    "read_hierarchy",
    "split_id",
]

MAX_DEPTH = 10_000  # objects within objects
WORTH_LEARNING = 8  # objects that must follow for a layout to pay

_OBJECTS = "qupath.lib.objects."
HIERARCHY = f"{_OBJECTS}hierarchy.PathObjectHierarchy"
"""Class of what holds the objects of an image."""
OBJECT_TYPES = {
    f"{_OBJECTS}TMACoreObject": ObjectType.TMA_CORE,
    f"{_OBJECTS}PathCellObject": ObjectType.CELL,
    f"{_OBJECTS}PathTileObject": ObjectType.TILE,
    f"{_OBJECTS}PathDetectionObject": ObjectType.DETECTION,
    f"{_OBJECTS}PathAnnotationObject": ObjectType.ANNOTATION,
    f"{_OBJECTS}PathRootObject": ObjectType.ROOT,
    # an unknown class with a ROI: never a region that labels
    f"{_OBJECTS}PathROIObject": ObjectType.DETECTION,
}
_DETECTIONS = (ObjectType.DETECTION, ObjectType.CELL, ObjectType.TILE)
_METADATA = f"{_OBJECTS}MetadataMap"
_UUID = re.compile(r"[0-9a-f]{1,16}(-[0-9a-f]{1,16}){4}", re.IGNORECASE)
_I32 = struct.Struct(">i")
_F64 = struct.Struct(">d")


@dataclass(slots=True, eq=False)
class _OpenObject:
    """An object whose children are being read."""

    type: ObjectType
    record: Record | None  # None if the object is skipped
    index: int  # of the nearest listed object, itself included; -1 for the root
    children: int
    left: int  # children to come
    handle: int
    offset: int
    body: int  # offset after the number of children


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """The wanted objects, the numbers of skipped ones, and the TMA grid."""

    objects: tuple[PathObject, ...]
    skipped: Mapping[ObjectType, int]
    grid: TmaGrid | None


def read_hierarchy(
    values: Values, desc: ClassDesc, *, entry_id: str, detections: bool, fast: bool = True
) -> Hierarchy:
    """Read an opened ``PathObjectHierarchy``.

    Parameters
    ----------
    values : Values
        Of the stream; its position is after the hierarchy's class.
    desc : ClassDesc
        The hierarchy's class.
    entry_id : str
        Entry ID of the image, for the ids of objects without an id.
    detections : bool
        True to read detections, cells and tiles too.
    fast : bool
        True to skip or read objects of equal layout together; False for comparison.

    Raises
    ------
    ProjectError
        If QuPath does not write such a stream.
    """
    walk = _HierarchyReader(values, detections=detections, fast=fast)
    grid: TmaGrid | None = None
    stream = values.stream
    has_root = False
    for step in desc.steps:
        if step.layout is not None:
            stream.skip_bytes(step.layout.size)
        elif not step.names:
            stream.end_object()
        elif step.names[0] == "rootObject":
            walk.run()
            has_root = True
        elif step.names[0] == "tmaGrid":
            grid = walk.grid(stream.read())
        else:
            stream.skip()
    if not has_root:
        raise stream.error("a hierarchy without a root", "rootObject")
    return Hierarchy(objects_from_records(stream, walk.records, entry_id), dict(walk.skipped), grid)


class _HierarchyReader:
    """Reads one hierarchy; the result is in ``records`` and ``skipped``."""

    def __init__(self, values: Values, *, detections: bool, fast: bool) -> None:
        self.values = values
        self.stream = values.stream
        self.records: list[Record] = []
        self.skipped: Counter[ObjectType] = Counter()
        self._all = detections
        self._cores: dict[int, int] = {}  # handle of a TMA core: index in the list
        self._layouts = Layouts(values.stream) if fast and not detections else None
        self._templates = Templates(values) if fast and detections else None

    def run(self) -> None:
        """Read from the root, which comes next, to its end."""
        stream = self.stream
        root = self._begin(-1)
        if root.type is not ObjectType.ROOT:
            raise stream.error(f"a hierarchy whose root is of type {root.type}", "a root object")
        stack = [root]
        while stack:
            opened = stack[-1]
            if self._layouts is not None:
                opened.left -= self._layouts.skip(opened.left, self.skipped)
            if self._templates is not None:
                opened.left -= self._templates.read(opened.left, opened.index, self.records)
            if not opened.left:
                self._finish(stack.pop())
                if stack and stack[-1].left >= WORTH_LEARNING:
                    self._learn(opened)
                continue
            if len(stack) > MAX_DEPTH:
                raise stream.error(f"objects within objects, more than {MAX_DEPTH} levels")
            if stream.peek() == REFERENCE:
                raise stream.error("an object that is in the hierarchy twice", "an object")
            opened.left -= 1
            child = self._begin(opened.index)
            if child.type is ObjectType.ROOT:
                raise stream.error("a root object within the hierarchy", "another object")
            stack.append(child)

    def _begin(self, parent: int) -> _OpenObject:
        """Read an object up to its children."""
        stream, offset = self.stream, self.stream.pos
        handle, desc = stream.open_object()
        kind = next((OBJECT_TYPES[name] for name in desc.lineage if name in OBJECT_TYPES), None)
        if kind is None:
            raise stream.error(f"found {desc.name} in the hierarchy", "a QuPath object", offset)
        listed = self._all or kind not in _DETECTIONS
        record = Record(kind, parent)
        if listed:
            self._read_head(record)
        else:
            self._skip_head()
        count = self._int()
        if not 0 <= count <= stream.size - stream.pos:
            raise stream.error(f"{count} children", "no more than the file has bytes")
        if kind is ObjectType.ROOT or not listed:
            if not listed:
                self.skipped[kind] += 1
            return _OpenObject(kind, None, parent, count, count, handle, offset, stream.pos)
        index = len(self.records)
        if kind is ObjectType.TMA_CORE:
            self._cores[handle] = index
        self.records.append(record)
        return _OpenObject(kind, record, index, count, count, handle, offset, stream.pos)

    def _int(self) -> int:
        value: int = _I32.unpack(self.stream.block(4))[0]
        return value

    def _read_head(self, record: Record) -> None:
        stream, values = self.stream, self.values
        record.name = values.text(stream.read(), "an object's name")
        record.color = values.boxed(stream.read(), "Integer")
        node = stream.read()
        if isinstance(node, JavaObject) and node.desc.name == "java.util.UUID":
            bits = (values.number(node, f"{half}SigBits") % (1 << 64) for half in ("most", "least"))
            most, least = bits
            record.id = str(uuid.UUID(int=most << 64 | least))
            parts = [stream.read() for _ in range(self._field_count())]
        else:
            parts = [node]
            if is_metadata(node):
                parts.append(stream.read())
        for part in parts:
            if isinstance(part, JavaObject) and is_metadata(part):
                record.metadata = values.metadata(part)
            elif part is not None:
                record.measurements = values.measurements(part)
        if record.id is None:
            record.id, record.metadata = split_id(record.metadata)

    def _field_count(self) -> int:
        count = self._int()
        if not 0 <= count <= 64:
            raise self.stream.error(f"{count} parts of an object", "a few")
        return count

    def _skip_head(self) -> None:
        """Skip name, colour, metadata and measurements."""
        stream = self.stream
        stream.skip()
        stream.skip()
        has_id = False
        if stream.peek() == OBJECT:
            _, desc = stream.open_object()
            has_id = desc.name == "java.util.UUID"
            stream.skip_remaining(desc)
        else:
            stream.skip()
        if has_id:
            for _ in range(self._field_count()):
                stream.skip()
        elif stream.peek() not in (BLOCK, LONG_BLOCK):
            stream.skip()

    def _finish(self, opened: _OpenObject) -> None:
        """Read the part of an object after its children."""
        record, stream, values = opened.record, self.stream, self.values
        if record is not None:
            node = stream.read()
            locked = values.boxed(node, "Boolean")
            if locked is not None:
                record.locked = bool(locked)
                node = stream.read()
            record.path_class = values.shared_class(node)
            record.roi = read_roi(values, stream.read())
            (probability,) = _F64.unpack(stream.block(8))
            record.probability = None if math.isnan(probability) else probability
            if record.type is ObjectType.CELL:
                record.nucleus = read_roi(values, stream.read())
            elif record.type is ObjectType.TMA_CORE:
                record.missing = stream.block(1) != b"\0"
        stream.end_object()

    def _learn(self, opened: _OpenObject) -> None:
        """Add the layout of the object that was just finished, for the next objects."""
        if opened.children or opened.type not in _DETECTIONS:
            return
        if self._layouts is not None:
            self._layouts.learn(opened.offset, opened.body, opened.handle, opened.type)
        if self._templates is not None and opened.record is not None:
            self._templates.learn(opened.record, opened.offset, opened.handle)

    def grid(self, node: Node) -> TmaGrid | None:
        """Return the TMA grid, whose cores are references to earlier objects."""
        values, grid = self.values, self.stream.resolve(node)
        if grid is None:
            return None
        if not isinstance(grid, JavaObject) or not grid.desc.name.endswith(".DefaultTMAGrid"):
            values.wrong(grid, "a TMA grid")
        width, height = values.number(grid, "gridWidth"), values.number(grid, "gridHeight")
        cores = values.items(grid.fields.get("cores")) or []
        indices = [self._cores.get(core.handle, -1) for core in cores if isinstance(core, Ref)]
        whole = min(width, height) >= 0 and width * height == len(cores) == len(indices)
        if not whole or -1 in indices:
            values.wrong(grid, f"a grid of {width} × {height} cores of this hierarchy")
        return TmaGrid(width, height, tuple(indices))


def is_metadata(node: Node) -> bool:
    """Return whether a node is the metadata of an object."""
    return isinstance(node, JavaObject) and node.desc.name == _METADATA


def split_id(metadata: Mapping[str, str]) -> tuple[str | None, Mapping[str, str]]:
    """Separate the id from an object's metadata, by QuPath's rules for ids."""
    text = metadata.get(OBJECT_ID)
    if text is None or len(text) > 36 or not _UUID.fullmatch(text):
        return None, metadata
    groups = zip(text.split("-"), (8, 4, 4, 4, 12), strict=True)
    digits = "".join(group[-width:].rjust(width, "0") for group, width in groups)
    rest = {key: value for key, value in metadata.items() if key != OBJECT_ID}
    return str(uuid.UUID(digits)), rest
