"""Data files composed of parts, so that tests can also make files that QuPath never writes.

A part is a function that writes its bytes. ``key`` names a part, :func:`ref` refers to it later.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

from qupath_bridge.errors import ProjectError
from qupath_bridge.model import ImageData, ObjectType, PathObject, RoiKind
from qupath_bridge.qupath.javaio.descriptors import ClassSpec
from qupath_bridge.qupath.javaio.writer import JavaWriter
from qupath_bridge.qupath.qpdata import schema
from qupath_bridge.qupath.qpdata.reading import decode_image_data

from .content import full_text

__all__ = [
    "COLL_SER",
    "I32",
    "MAP",
    "QUPATH",
    "STANDARD",
    "STRING",
    "UNMODIFIABLE",
    "Part",
    "array",
    "array_list",
    "boolean",
    "box",
    "decode_object",
    "decode_objects",
    "hash_map",
    "hierarchy",
    "integer",
    "item",
    "make_file",
    "metadata",
    "null",
    "numbers",
    "numeric_list",
    "path_class",
    "plain",
    "ref",
    "root",
    "text",
    "vertices",
    "wkb",
    "written",
]

Part = Callable[[JavaWriter], None]

I32 = struct.Struct(">i").pack
QUPATH = "qupath.lib."
STRING, LIST, MAP = "Ljava/lang/String;", "Ljava/util/List;", "Ljava/util/Map;"

COLL_SER = ClassSpec("java.util.CollSer", 6309168927139932177, 3, (("tag", "I"),))
"""Java's own unmodifiable lists and maps."""

UNMODIFIABLE = ClassSpec(
    "java.util.Collections$UnmodifiableList",
    -283967356065247728,
    2,
    (("list", LIST),),
    ClassSpec(
        "java.util.Collections$UnmodifiableCollection",
        1820017752578914078,
        2,
        (("c", "Ljava/util/Collection;"),),
    ),
)


def null(w: JavaWriter) -> None:
    """Write null."""
    w.null()


def ref(key: str) -> Part:
    """Refer to the part with this key."""

    def write(w: JavaWriter) -> None:
        if not w.reference(("key", key)):
            raise KeyError(key)

    return write


def text(value: str | None) -> Part:
    """Write a text, or a reference to an equal earlier one."""
    return lambda w: w.text(value)


def plain(spec: ClassSpec, raw: bytes = b"", *contents: Part, key: str | None = None) -> Part:
    """Write an object: first its numbers, then its contents."""

    def write(w: JavaWriter) -> None:
        w.begin(spec, key and ("key", key))
        w.raw(raw)
        for content in contents:
            content(w)

    return write


def written(
    spec: ClassSpec, *contents: Part | bytes, raw: bytes = b"", key: str | None = None
) -> Part:
    """Write an object with an annotation, in which bytes are block data."""

    def write(w: JavaWriter) -> None:
        w.begin(spec, key and ("key", key))
        w.raw(raw)
        for content in contents:
            if isinstance(content, bytes):
                w.block(content)
            else:
                content(w)
        w.end()

    return write


def numbers(spec: ClassSpec, code: str, values: Sequence[float]) -> Part:
    """Write an array of numbers; ``code`` is their struct format."""
    raw = struct.pack(f">{len(values)}{code}", *values)
    return lambda w: w.array(spec, len(values), raw)


def array(*contents: Part, spec: ClassSpec = schema.OBJECTS) -> Part:
    """Write an array of objects."""

    def write(w: JavaWriter) -> None:
        w.array(spec, len(contents))
        for content in contents:
            content(w)

    return write


def integer(value: int) -> Part:
    """Write a new ``Integer``."""
    return plain(schema.INTEGER, I32(value))


def boolean(value: bool) -> Part:
    """Write a new ``Boolean``."""
    return plain(schema.BOOLEAN, bytes([value]))


def array_list(*contents: Part, key: str | None = None) -> Part:
    """Write an ``ArrayList``."""
    return written(schema.ARRAY_LIST, I32(9), *contents, raw=I32(len(contents)), key=key)


def hash_map(*contents: Part) -> Part:
    """Write a ``HashMap`` of alternating keys and values."""
    return written(schema.HASH_MAP, I32(16) + I32(len(contents) // 2), *contents, raw=bytes(8))


def metadata(**texts: str | None) -> Part:
    """Write a ``MetadataMap``."""
    keys, values = map(text, texts), map(text, texts.values())
    return written(schema.METADATA, integer(1), array(*keys), array(*values))


def box(
    x: float = 0,
    y: float = 0,
    x2: float = 4,
    y2: float = 4,
    *,
    z: int = 0,
    t: int = 0,
    c: int = -1,
    kind: RoiKind = RoiKind.RECTANGLE,
    key: str | None = None,
) -> Part:
    """Write a ROI that is stored as a box."""
    raw = struct.pack(">iiddddi", c, t, x, x2, y, y2, z)
    return plain(schema.ROI_CLASSES[kind], raw, null, key=key)


def vertices(
    points: Sequence[tuple[float, float]], kind: RoiKind = RoiKind.POLYGON, *, z: int = 0
) -> Part:
    """Write a ROI that is stored as float32 vertices."""
    nulls = {RoiKind.POLYGON: 2, RoiKind.POINTS: 1}.get(kind, 0)  # name and statistics
    columns = (numbers(schema.FLOATS, "f", [point[axis] for point in points]) for axis in (0, 1))
    raw = struct.pack(">iii", -1, 0, z)
    return plain(schema.ROI_CLASSES[kind], raw, *[null] * nulls, *columns)


def wkb(raw: bytes) -> Part:
    """Write a ROI that is stored as WKB."""
    plane = struct.pack(">iii", -1, 0, 0)
    stored = numbers(schema.BYTES, "B", raw)
    return plain(schema.ROI_CLASSES[RoiKind.GEOMETRY], plane, null, stored)


def path_class(
    name: str | None, parent: Part = null, color: Part = null, key: str | None = None
) -> Part:
    """Write a ``PathClass``."""
    return plain(schema.PATH_CLASS, b"", color, text(name), parent, key=key)


def numeric_list(
    names: Part,
    values: Sequence[float] | Part,
    *,
    code: str = "d",
    key: str | None = None,
) -> Part:
    """Write a ``DoubleList`` or ``FloatList``; ``values`` may be a part."""
    spec, of = schema.DOUBLE_LIST, schema.DOUBLES
    if code == "f":
        name = spec.name.replace("Double", "Float")
        spec, of = ClassSpec(name, 1, 2, (("values", "[F"),), spec.parent), schema.FLOATS
    stored = values if callable(values) else numbers(of, code, values)
    return plain(spec, b"\0", null, names, stored, key=key)


_UNLOCKED = boolean(False)


def item(
    kind: ObjectType = ObjectType.ANNOTATION,
    *,
    head: Sequence[Part] = (null, null),
    meta: Part | None = None,
    measured: Part = null,
    children: Sequence[Part] = (),
    count: int | None = None,
    locked: Part | None = _UNLOCKED,
    classified: Part = null,
    roi: Part | None = None,
    tail: bytes | None = None,
    after: Sequence[Part | bytes] = (),
    spec: ClassSpec | None = None,
    key: str | None = None,
) -> Part:
    """Write an object of the hierarchy, part by part.

    ``head`` is name and colour, ``count`` the stated number of children, ``tail`` the block data
    at its end, ``after`` the parts of a subclass.
    """
    parts: list[Part | bytes] = [*head, *([] if meta is None else [meta]), measured]
    parts += [I32(len(children) if count is None else count), *children]
    parts += [*([] if locked is None else [locked]), classified, roi or box()]
    parts += [struct.pack(">d", math.nan) if tail is None else tail, *after]
    return written(spec or schema.OBJECT_CLASSES[kind], *parts, key=key)


def root(*children: Part) -> Part:
    """Write the root of the hierarchy."""
    number = I32(len(children))
    return written(schema.OBJECT_CLASSES[ObjectType.ROOT], null, null, null, number, *children)


def hierarchy(*children: Part, grid: Part = null, top: Part | None = None) -> Part:
    """Write a hierarchy."""
    return plain(schema.HIERARCHY, b"", top or root(*children), grid)


STANDARD = (hash_map(), text("EOF"))
"""Items after a hierarchy."""


def make_file(*items: Part, header: bytes = b"Data file version 3", server: str = "{}") -> bytes:
    """Return a file of these items after header and server."""
    w = JavaWriter()
    w.block(struct.pack(">H", len(header)) + header)
    w.text(server)
    for each in items:
        each(w)
    return w.getvalue()


def decode_objects(*children: Part, **options: Any) -> ImageData:
    """Read a file with these objects in the fast and the step-by-step way, which must agree.

    Raises
    ------
    ProjectError
        If both refuse it.
    AssertionError
        If they differ.
    """
    data = make_file(hierarchy(*children), *STANDARD)
    try:
        slow = decode_image_data(data, fast=False, **options)
    except ProjectError:
        decode_image_data(data, **options)
        raise AssertionError("only the step-by-step way refuses the file") from None
    image = decode_image_data(data, **options)
    if full_text(image) != full_text(slow):
        raise AssertionError(f"{image} is not {slow}")
    return image


def decode_object(child: Part, **options: Any) -> PathObject:
    """Read a file with one object, and return it."""
    (found,) = decode_objects(child, **options).objects
    return found
