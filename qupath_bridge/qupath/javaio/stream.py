"""Bounded reader of Java Object Serialization streams: grammar only, no interpretation.

:meth:`JavaStream.skip` skips one content, and :meth:`JavaStream.read` builds plain nodes from it.
References stay :class:`Ref` nodes until :meth:`JavaStream.resolve` is called, so that node graphs
are trees for any file. Only the offset of each numbered content is stored; the target of a
reference is read again from there.

The bytes are not trusted: no recursion on their nesting, no allocation of a length that was not
compared with the remaining bytes, and no class is looked up by its name.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from .descriptors import ANNOTATION, OBJECT_STEP, ClassDesc, ReadStep
from .grammar import (
    ARRAY,
    BASE,
    BLOCK,
    CLASS,
    END,
    JAVA_ENUM,
    LONG_BLOCK,
    LONG_STRING,
    MAGIC,
    NOTED,
    NULL,
    OBJECT,
    REFERENCE,
    STRING,
    Grammar,
)

__all__ = ["BASE", "MAGIC", "JavaArray", "JavaObject", "JavaStream", "Node", "Ref"]

MAX_DEPTH = 500  # contents within contents, in one that is read
MAX_NODES = 200_000  # in one content that is read
MAX_PENDING = 1 << 17  # steps that wait while nested contents are skipped
MAX_SHARED = 1 << 20  # bytes of cached reference targets

_U16 = struct.Struct(">H").unpack_from
_I32 = struct.Struct(">i").unpack_from
_TEXTS = (STRING, LONG_STRING, REFERENCE)


@dataclass(frozen=True, slots=True)
class Ref:
    """A reference to content number ``handle``, counted from 0."""

    handle: int


@dataclass(slots=True, eq=False)
class JavaObject:
    """An object: field values by name, and the additional contents of its class, in order.

    ``contents`` has nodes and ``bytes`` (block data, whose boundaries have no meaning).
    ``constant`` is the name of an enum's constant, or of the class if this is a class.
    """

    desc: ClassDesc
    offset: int
    fields: dict[str, Node] = field(default_factory=dict)
    contents: list[Node] = field(default_factory=list)
    constant: str | None = None

    def data(self) -> bytes:
        """Return the object's block data, joined."""
        return b"".join(item for item in self.contents if isinstance(item, bytes))

    def nodes(self) -> list[Node]:
        """Return the contents that are not block data."""
        return [item for item in self.contents if not isinstance(item, bytes)]


@dataclass(slots=True, eq=False)
class JavaArray:
    """An array: ``items`` for objects; offset ``start`` and ``count`` of values for numbers."""

    desc: ClassDesc
    offset: int
    count: int
    start: int
    items: list[Node] = field(default_factory=list)


Node: TypeAlias = "bool | int | float | str | bytes | Ref | JavaObject | JavaArray | None"

_CLASS = ClassDesc("java.lang.Class", 0, (), -1)
_OPEN = Ref(-1)  # a composite was begun
_NEXT = Ref(-2)  # a composite waits for its next content


class _OpenNode:
    """An object or array that is partly read."""

    __slots__ = ("annotation", "left", "name", "node", "steps")

    def __init__(self, node: JavaObject | JavaArray, steps: Iterator[ReadStep], left: int) -> None:
        self.node = node
        self.steps = steps  # of an object, those still to do
        self.left = left  # of an array, items still to read
        self.name: str | None = None  # field that the next content belongs to
        self.annotation = False  # inside one

    def put(self, value: Node) -> None:
        """Add the next content."""
        if isinstance(self.node, JavaArray):
            self.node.items.append(value)
        elif self.name is not None:
            self.node.fields[self.name] = value
            self.name = None
        else:
            self.node.contents.append(value)


class JavaStream(Grammar):
    """Reader of one stream, from its beginning to its end.

    Parameters
    ----------
    data : bytes
        The whole file.
    path : path, optional
        Named in errors.

    Raises
    ------
    ProjectError
        By every method, if the bytes violate the grammar.
    """

    def __init__(self, data: bytes, path: Path | str | None = None) -> None:
        super().__init__(data, path)
        self._shared: dict[int, Node] = {}
        self._shared_size = 0  # bytes that they were read from
        self._again = 2 * self.size + (1 << 20)  # bytes that resolving may still read again
        self._block = 0  # bytes left of the current block of data

    # --- skipping ---------------------------------------------------------------------------

    def skip(self) -> None:
        """Skip one content."""
        self._check_block_end()
        self._skip([OBJECT_STEP], self.handles)

    def skip_remaining(self, desc: ClassDesc) -> None:
        """Skip the remaining content of an object after :meth:`open_object`."""
        self._skip(list(desc.skips), self.handles)

    def skip_bytes(self, count: int) -> None:
        """Skip the numbers in an object's fields."""
        self._skip([count], self.handles)

    def end_object(self) -> None:
        """Skip the remaining annotation of an object, including its end mark."""
        self.pos += self._block
        self._block = 0
        self._skip([ANNOTATION], self.handles)

    def _skip(self, pending: list[int], sink: array[int]) -> None:
        """Do the steps of ``pending``, last first; nested contents add more steps."""
        data, handles, descs, pos = self.data, self.handles, self._descs, self.pos
        references = self.references
        try:
            while pending:
                step = pending.pop()
                if step >= 0:
                    pos += step
                    continue
                tag = data[pos]
                if step == ANNOTATION:
                    while tag in (BLOCK, LONG_BLOCK):
                        start, count = self.block_at(pos)
                        pos = start + count
                        tag = data[pos]
                    if tag == END:
                        pos += 1
                        continue
                    pending.append(ANNOTATION)
                elif step < ANNOTATION - 1:  # several contents: one now, the others later
                    pending.append(step + 1)
                if tag == REFERENCE:
                    if not 0 <= _I32(data, pos + 1)[0] - BASE < len(handles):
                        self._reference(pos)
                    if references is not None:
                        references.append(pos << NOTED | len(handles))
                    pos += 5
                elif tag == NULL:
                    pos += 1
                elif tag == OBJECT:
                    if data[pos + 1] == REFERENCE:
                        desc, end = descs.get(_I32(data, pos + 2)[0] - BASE), pos + 6
                        if references is not None:
                            references.append(pos + 1 << NOTED | len(handles))
                    else:
                        desc, end = self.class_desc(pos + 1, sink)
                    pending += self.object_class(desc, pos).skips
                    if len(pending) > MAX_PENDING:
                        raise self.error("objects within objects, too deep", None, pos)
                    sink.append(pos)
                    pos = end
                elif tag == STRING:
                    sink.append(pos)
                    pos += 3 + _U16(data, pos + 1)[0]
                elif tag == ARRAY:
                    desc, end = self.class_desc(pos + 1, sink)
                    desc, count, start = self.array_at(end, desc, pos)
                    sink.append(pos)
                    pos = start + count * (desc.item_size or 0)
                    if count and not desc.item_size:
                        pending.append(ANNOTATION - count)
                else:
                    pos = self._skip_rare(pos, tag, sink)
        except (IndexError, struct.error):
            raise self.truncated() from None
        if pos > self.size:
            raise self.truncated()
        self.pos = pos

    def _skip_rare(self, pos: int, tag: int, sink: array[int]) -> int:
        if tag == LONG_STRING:
            return self._leaf(pos, sink, _TEXTS, "a text")
        if tag not in (CLASS, JAVA_ENUM):
            raise self._bad_tag(pos)
        desc, end = self.class_desc(pos + 1, sink)
        if desc is None:
            raise self.error("enum or class without a class", "one", pos)
        sink.append(pos)
        return end if tag == CLASS else self._leaf(end, sink, _TEXTS, "a constant's name")

    # --- reading ----------------------------------------------------------------------------

    def read(self) -> Node:
        """Read one content as nodes."""
        self._check_block_end()
        return self._read(self.handles, [])

    def open_object(self) -> tuple[int, ClassDesc]:
        """Read the beginning of an object; return its handle and class. Its content comes next."""
        self._check_block_end()
        if self.peek() != OBJECT:
            raise self.error(f"tag {self.peek():02X}", "an object")
        offset = self.pos
        desc, self.pos = self.class_desc(offset + 1, self.handles)
        desc = self.object_class(desc, offset)
        self.handles.append(offset)
        return len(self.handles) - 1, desc

    def read_rest(self, desc: ClassDesc, offset: int) -> JavaObject:
        """Read the remaining content of the object at ``offset`` after :meth:`open_object`."""
        node = JavaObject(desc, offset)
        self._read(self.handles, [_OpenNode(node, iter(desc.steps), 0)])
        return node

    def block(self, count: int) -> bytes:
        """Read ``count`` bytes of block data, across block boundaries."""
        parts = b""
        while len(parts) < count:
            if not self._block:
                if self.peek() not in (BLOCK, LONG_BLOCK):
                    raise self.error(f"tag {self.peek():02X}", f"{count} bytes of block data")
                self.pos, self._block = self.block_at(self.pos)
                continue
            take = min(count - len(parts), self._block)
            parts += self.data[self.pos : self.pos + take]
            self.pos += take
            self._block -= take
        return parts

    def resolve(self, node: Node) -> Node:
        """Return the target of a reference, or the node itself if it is not a reference."""
        if not isinstance(node, Ref):
            return node
        if node.handle not in self._shared:
            self._shared[node.handle] = self._read_again(node.handle)
        return self._shared[node.handle]

    def read_item(self) -> Node:
        """Read a content; of a reference to a text, that text."""
        node = self.read()
        if isinstance(node, Ref) and self.data[self.handles[node.handle]] in (STRING, LONG_STRING):
            return self.resolve(node)
        return node

    def extent(self, handle: int) -> tuple[int, int]:
        """Return the offsets of a content's first byte and after its last one."""
        start, (here, references) = self.handles[handle], (self.pos, self.references)
        if (desc := self._descs.get(handle)) is not None:
            return start, desc.end
        self.pos, self.references = start, None
        self._skip([OBJECT_STEP], array("Q"))
        end, self.pos, self.references = self.pos, here, references
        return start, end

    def class_of(self, ref: Ref) -> str | None:
        """Return the class of a reference's target; None if it is not an object or array."""
        offset = self.handles[ref.handle]
        if self.data[offset] not in (OBJECT, ARRAY):
            return None
        desc, _ = self.class_desc(offset + 1, array("Q"))
        return None if desc is None else desc.name

    def _check_block_end(self) -> None:
        if self._block:
            raise self.error("block data in place of an object", "an object")

    def _read_again(self, handle: int) -> Node:
        here, block, references = self.pos, self._block, self.references
        self._block, self.references = 0, None
        self._renumber(handle)
        self.pos = self.handles[handle]
        node = self._read(array("Q"), [])
        self.references = references
        count = self.pos - self.handles[handle]
        self._spend(count)
        self._shared_size += count
        if self._shared_size > MAX_SHARED:
            self._shared.clear()
            self._shared_size = count
        if self.pos > here:
            raise self.error("reference to an incomplete content", None, here)
        self.pos, self._block = here, block
        return node

    def _renumber(self, handle: int) -> None:
        """Set the own offset of each handle in an object that was skipped by its layout."""
        handles, offset = self.handles, self.handles[handle]
        if offset not in (handles[handle - 1], handles[(handle + 1) % len(handles)]):
            return
        while handle and handles[handle - 1] == offset:
            handle -= 1
        found = array(handles.typecode)
        self.pos = offset
        self._skip([OBJECT_STEP], found)
        self._spend(self.pos - offset)
        handles[handle : handle + len(found)] = found

    def _spend(self, count: int) -> None:
        self._again -= count
        if self._again < 0:
            raise self.error("the file refers to its own contents too often")

    def _read(self, sink: array[int], stack: list[_OpenNode]) -> Node:
        """Read one content, or the remaining content of the one object on the stack."""
        left = MAX_NODES
        node: Node = self._advance(stack[-1]) if stack else _NEXT
        while True:
            if node is _NEXT:
                node = self._open(stack, sink)
                left -= 1
                if not left or len(stack) > MAX_DEPTH:
                    raise self.error("objects within objects, too many or too deep")
            if node is _OPEN:
                node = self._advance(stack[-1])
                continue
            if stack and node is stack[-1].node:
                stack.pop()
            if not stack:
                return node
            stack[-1].put(node)
            node = self._advance(stack[-1])

    def _open(self, stack: list[_OpenNode], sink: array[int]) -> Node:
        """Read a leaf, or push an object or array."""
        pos, tag = self.pos, self.peek()
        if tag == NULL:
            self.pos = pos + 1
            return None
        if tag == REFERENCE:
            node = Ref(self._reference(pos))
            self.pos = pos + 5
            return node
        if tag in (STRING, LONG_STRING):
            sink.append(pos)
            start, count = self.string_at(pos)
            self.pos = start + count
            return self._decode(start, self.pos)
        if tag not in (OBJECT, ARRAY, JAVA_ENUM, CLASS):
            raise self._bad_tag(pos)
        desc, end = self.class_desc(pos + 1, sink)
        if tag == OBJECT:
            desc = self.object_class(desc, pos)
            stack.append(_OpenNode(JavaObject(desc, pos), iter(desc.steps), 0))
        elif tag == ARRAY:
            desc, count, start = self.array_at(end, desc, pos)
            array_node = JavaArray(desc, pos, count, start)
            end = start + count * (desc.item_size or 0)
            if desc.item_size:
                sink.append(pos)
                self.pos = end
                return array_node
            stack.append(_OpenNode(array_node, iter(()), count))
            end = start
        elif desc is None:
            raise self.error("enum or class without a class", "one", pos)
        else:
            sink.append(pos)
            self.pos = end
            if tag == CLASS:
                return JavaObject(_CLASS, pos, constant=desc.name)
            return JavaObject(desc, pos, constant=self._constant(sink))
        sink.append(pos)
        self.pos = end
        return _OPEN

    def _constant(self, sink: array[int]) -> str:
        if self.peek() not in _TEXTS:
            raise self.error(f"tag {self.peek():02X}", "a constant's name")
        text = self.resolve(self._open([], sink))
        if not isinstance(text, str):
            raise self.error("a reference", "one to a constant's name")
        return text

    def _advance(self, opened: _OpenNode) -> Node:
        """Read numbers and block data up to the next content of an object or array, or its end."""
        node = opened.node
        if isinstance(node, JavaArray):
            opened.left -= 1
            return _NEXT if opened.left >= 0 else node
        while True:
            if opened.annotation:
                if not self._read_blocks(node):
                    return _NEXT
                opened.annotation = False
            step = next(opened.steps, None)
            if step is None:
                return node
            if step.layout is not None:
                end = self.pos + step.layout.size
                if end > self.size:
                    raise self.truncated()
                values = step.layout.unpack_from(self.data, self.pos)
                node.fields.update(zip(step.names, values, strict=True))
                self.pos = end
            elif step.names:
                opened.name = step.names[0]
                return _NEXT
            else:
                opened.annotation = True

    def _read_blocks(self, node: JavaObject) -> bool:
        """Read block data up to a content; return True if the annotation ends instead."""
        while (tag := self.peek()) in (BLOCK, LONG_BLOCK):
            start, count = self.block_at(self.pos)
            self.pos = start + count
            node.contents.append(self.data[start : self.pos])
        if tag != END:
            return False
        self.pos += 1
        return True
