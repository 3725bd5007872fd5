"""Values of nodes in a ``.qpdata`` stream: texts, numbers, lists, maps, classes, measurements.

Every function checks the kind of its node, because a reference may have any target.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

from qupath_bridge.qupath.files.classes import class_path, strip_name
from qupath_bridge.qupath.javaio.grammar import ARRAY, OBJECT
from qupath_bridge.qupath.javaio.stream import JavaArray, JavaObject, JavaStream, Node, Ref

from .measurements import Measurements, Names

__all__ = ["PathClass", "Values"]

MAX_CLASS_CHAIN = 64
MAX_METADATA = 10_000  # keys of one object
MAX_PLAIN = 100_000  # values in all properties and workflow steps that are shown
MAX_SHOWN = 1 << 17  # bytes of one of them
MAX_DEPTH = 8  # of lists and maps in them
MAX_NAMES = 4096  # lists of names that are kept for sharing

_LISTS = {
    "java.util.ArrayList",
    "java.util.LinkedList",
    "java.util.HashSet",
    "java.util.LinkedHashSet",
    "java.util.Collections$EmptyList",
}
_LIST_VIEWS = {  # lists around a list: the field that holds it
    "java.util.Collections$UnmodifiableList": "list",
    "java.util.Collections$UnmodifiableRandomAccessList": "list",
    "java.util.Collections$SynchronizedList": "list",
    "java.util.Arrays$ArrayList": "a",
}
_MAPS = {
    "java.util.HashMap",
    "java.util.LinkedHashMap",
    "java.util.TreeMap",
    "java.util.Collections$EmptyMap",
}
_MAP_VIEWS = {
    "java.util.Collections$UnmodifiableMap": "m",
    "java.util.Collections$SynchronizedMap": "m",
}
_BOXES = {
    f"java.lang.{name}"
    for name in ("Boolean", "Byte", "Double", "Float", "Integer", "Long", "Short")
}
_MEASUREMENTS = "qupath.lib.measurements."
_NUMERIC_LIST = f"{_MEASUREMENTS}NumericMeasurementList$AbstractNumericMeasurementList"
_ITEM_CODES = {"[F": "f", "[D": "d"}


_NONE: Mapping[str, float] = Measurements(Names(()), array("d"))


class PathClass(NamedTuple):
    """A QuPath class: its whole path and its own colour, packed ARGB."""

    path: str
    color: int | None


class Values:
    """Reads values from nodes of one stream.

    Raises
    ------
    ProjectError
        By every method, if a node has another kind than expected.
    """

    def __init__(self, stream: JavaStream) -> None:
        self.stream = stream
        self._classes: dict[int, PathClass | None] = {}
        self._names: dict[int, Names] = {}
        self._equal_names: dict[tuple[str, ...], Names] = {}
        self._lists: dict[int, Mapping[str, float]] = {}
        self._plain_left = MAX_PLAIN

    def wrong(self, node: Node, expected: str) -> NoReturn:
        """Raise the error for a node of another kind than expected."""
        found = node.desc.name if isinstance(node, JavaObject | JavaArray) else repr(node)[:60]
        offset = node.offset if isinstance(node, JavaObject | JavaArray) else None
        raise self.stream.error(f"found {found}", expected, offset)

    # --- texts and numbers ------------------------------------------------------------------

    def text(self, node: Node, what: str = "a text") -> str | None:
        """Return a text, or None for null."""
        value = self.stream.resolve(node)
        if value is not None and not isinstance(value, str):
            self.wrong(value, what)
        return value

    def named(self, node: Node, what: str) -> str:
        """Return a text; refuse null."""
        value = self.text(node, what)
        if value is None:
            self.wrong(value, what)
        return value

    def boxed(self, node: Node, name: str) -> Any:
        """Return the value in a ``java.lang`` box of this name; None for any other node."""
        value = self.stream.resolve(node)
        if isinstance(value, JavaObject) and value.desc.name == f"java.lang.{name}":
            return value.fields.get("value")
        return None

    def number(self, node: JavaObject, name: str) -> Any:
        """Return the number in a field."""
        value = node.fields.get(name)
        if not isinstance(value, int | float):
            self.wrong(node, f"a number named {name!r} in it")
        return value

    def numbers(self, node: Node, *classes: str) -> JavaArray:
        """Return an array of numbers of one of these classes (``[F``, ``[D``, ``[B``).

        It must not be a reference: an array that many objects share could cost far more than its
        bytes. QuPath never shares arrays.
        """
        if isinstance(node, Ref):
            self.wrong(node, "an array of its own")
        if not isinstance(node, JavaArray) or node.desc.name not in classes:
            self.wrong(node, "an array of numbers")
        return node

    def floats(self, name: str, start: int, count: int) -> array[float]:
        """Return values of an array of class ``[F`` or ``[D``, in their own precision."""
        values: array[float] = array(_ITEM_CODES[name])
        values.frombytes(self.stream.data[start : start + count * values.itemsize])
        if sys.byteorder == "little":
            values.byteswap()
        return values

    # --- collections ------------------------------------------------------------------------

    def items(self, node: Node) -> list[Node] | None:
        """Return the items of a list or set; None for any other node."""
        for _ in range(MAX_DEPTH):
            value = self.stream.resolve(node)
            if isinstance(value, JavaArray):
                return None if value.desc.item_size else value.items
            if not isinstance(value, JavaObject):
                return None
            name = value.desc.name
            if name in _LIST_VIEWS:
                node = value.fields.get(_LIST_VIEWS[name])
            elif name == "java.util.CollSer":
                return value.nodes() if self.number(value, "tag") & 0xFF in (1, 2, 4) else None
            elif name == "java.util.Collections$SingletonList":
                return [value.fields.get("element")]
            else:
                return value.nodes() if name in _LISTS else None
        return None

    def pairs(self, node: Node) -> list[tuple[Node, Node]] | None:
        """Return keys and values of a map; None for any other node."""
        for _ in range(MAX_DEPTH):
            value = self.stream.resolve(node)
            if not isinstance(value, JavaObject):
                return None
            name = value.desc.name
            if name == "java.util.Collections$SingletonMap":
                return [(value.fields.get("k"), value.fields.get("v"))]
            if name in _MAP_VIEWS:
                node = value.fields.get(_MAP_VIEWS[name])
            elif name in _MAPS or (
                name == "java.util.CollSer" and self.number(value, "tag") & 0xFF == 3
            ):
                nodes = value.nodes()
                if len(nodes) % 2:
                    self.wrong(value, "a value for each key")
                return list(zip(nodes[::2], nodes[1::2], strict=True))
            else:
                return None
        return None

    def plain(self, node: Node, depth: int = MAX_DEPTH) -> Any:
        """Return a value as text, number, list or dict; for others, ``{"class": name}``.

        Limited in depth and size: for larger values, only the class is returned.
        """
        self._plain_left -= 1
        if isinstance(node, Ref):
            name = self.stream.class_of(node)
            if name is not None and not name.startswith("java."):
                return {"class": name}
        value = self.stream.resolve(node)
        if value is None or isinstance(value, str | int | float):
            return value
        if isinstance(value, JavaObject) and value.constant is not None:
            return value.constant
        if isinstance(value, JavaObject) and value.desc.name in _BOXES:
            return value.fields.get("value")
        if depth and self._plain_left > 0:
            if (pairs := self.pairs(value)) is not None:
                return {
                    str(self.plain(key, 0)): self.plain(item, depth - 1)
                    for key, item in pairs[: max(self._plain_left, 0)]
                }
            if (items := self.items(value)) is not None:
                return [self.plain(item, depth - 1) for item in items[: max(self._plain_left, 0)]]
        return {"class": value.desc.name if isinstance(value, JavaObject | JavaArray) else "?"}

    def shown(self) -> Any:
        """Read the next content as :meth:`plain`, if it is small and not an object of QuPath."""
        stream = self.stream
        start, tag = stream.pos, stream.peek()
        if tag == OBJECT:
            handle, desc = stream.open_object()
            stream.skip_remaining(desc)
            if stream.pos - start > MAX_SHOWN or not desc.name.startswith("java."):
                return {"class": desc.name}
            return self.plain(Ref(handle))
        if tag == ARRAY:
            stream.skip()
            return {"class": "array"}
        return self.plain(stream.read())

    # --- QuPath's own -----------------------------------------------------------------------

    def metadata(self, node: JavaObject) -> dict[str, str]:
        """Return the texts of a ``MetadataMap``."""
        nodes = node.nodes()
        keys, texts = nodes[1:3] if len(nodes) > 2 else (None, None)
        if not isinstance(keys, JavaArray) or not isinstance(texts, JavaArray):
            self.wrong(node, "keys and texts of its own in it")
        if len(keys.items) != len(texts.items) or len(keys.items) > MAX_METADATA:
            self.wrong(node, f"as many texts as keys, at most {MAX_METADATA}")
        found = {}
        for key, item in zip(keys.items, texts.items, strict=True):
            text = self.text(item, "a metadata text")
            if text is not None:
                found[self.named(key, "a metadata key")] = text
        return found

    def path_class(self, node: Node) -> PathClass | None:
        """Return a class; None for null and for a class without a name."""
        names: list[str] = []
        color: int | None = None
        current = self.stream.resolve(node)
        while current is not None:
            if not isinstance(current, JavaObject) or not current.desc.name.endswith(".PathClass"):
                self.wrong(current, "a QuPath class")
            if len(names) == MAX_CLASS_CHAIN:
                self.wrong(current, "a class with fewer parents")
            name = self.text(current.fields.get("name"), "a class name")
            if name is None:
                break
            if not names:
                color = self.boxed(current.fields.get("colorRGB"), "Integer")
            names.append(strip_name(name))
            current = self.stream.resolve(current.fields.get("parentClass"))
        return PathClass(class_path(reversed(names)), color) if names else None

    def shared_class(self, node: Node) -> PathClass | None:
        """Return :meth:`path_class`, cached by reference."""
        if not isinstance(node, Ref):
            return self.path_class(node)
        if node.handle not in self._classes:
            self._classes[node.handle] = self.path_class(node)
        return self._classes[node.handle]

    def measurements(self, node: Node) -> Mapping[str, float]:
        """Return measurements by name; for equal names the first counts."""
        if isinstance(node, Ref):
            if node.handle not in self._lists:
                self._lists[node.handle] = self._measurements(self.stream.resolve(node))
            return self._lists[node.handle]
        return self._measurements(node)

    def _measurements(self, node: Node) -> Mapping[str, float]:
        if node is None:
            return _NONE
        if not isinstance(node, JavaObject):
            self.wrong(node, "a list of measurements")
        if node.desc.name == f"{_MEASUREMENTS}DefaultMeasurementList":
            names, values = self._measurement_objects(node)
        elif _NUMERIC_LIST in node.desc.lineage:
            names = self._shared_names(node.fields.get("names"), node)
            stored = self.numbers(node.fields.get("values"), "[F", "[D")
            if len(names.names) > stored.count:
                self.wrong(node, f"{len(names.names)} values, as many as it has names")
            values = self.floats(stored.desc.name, stored.start, len(names.names))
        else:
            self.wrong(node, "a list of measurements")
        return Measurements(names, values) if values else _NONE

    def _measurement_objects(self, node: JavaObject) -> tuple[Names, array[float]]:
        names: list[str] = []
        values = array("d")
        items = node.fields.get("list")
        if not isinstance(items, JavaObject) or items.desc.name != "java.util.ArrayList":
            self.wrong(node, "a list of its own in it")
        for item in items.nodes():
            value = self.stream.resolve(item)
            if not isinstance(value, JavaObject):
                self.wrong(value, "a measurement")
            names.append(self.named(value.fields.get("name"), "the name of a measurement"))
            values.append(float(self.number(value, "value")))
        return self._equal(tuple(names)), values

    def _shared_names(self, node: Node, owner: JavaObject) -> Names:
        handle = node.handle if isinstance(node, Ref) else None
        if handle is not None and handle in self._names:
            return self._names[handle]
        items = self.items(node)
        if items is None:
            self.wrong(owner, "a list of names in it")
        names = self._equal(tuple(self.named(item, "a measurement's name") for item in items))
        if handle is not None and len(self._names) < MAX_NAMES:
            self._names[handle] = names
        return names

    def _equal(self, names: tuple[str, ...]) -> Names:
        if len(self._equal_names) >= MAX_NAMES:
            self._equal_names.clear()
        return self._equal_names.setdefault(names, Names(names))
