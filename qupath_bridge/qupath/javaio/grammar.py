"""Elements of Java's stream grammar: tags, lengths, texts, class descriptors.

Every value is checked before it is used: a length against the remaining bytes, a reference
against the contents read so far. Errors name the file, the offset and the expected content.
"""

from __future__ import annotations

import struct
from array import array
from pathlib import Path

from qupath_bridge.errors import ProjectError

from .descriptors import SERIALIZABLE, ClassDesc, Field, decode_text

__all__ = ["BASE", "MAGIC", "NOTED", "Grammar"]

MAGIC = b"\xac\xed\x00\x05"
BASE = 0x7E0000
"""Number of the first handle."""

NOTED = 31
"""Bits of a number of contents in :attr:`Grammar.references`."""

NULL, REFERENCE, CLASSDESC, OBJECT, STRING, ARRAY, CLASS = range(0x70, 0x77)
BLOCK, END, RESET, LONG_BLOCK, EXCEPTION, LONG_STRING, PROXY, JAVA_ENUM = range(0x77, 0x7F)

MAX_CLASSES = 4096
MAX_SUPER = 32
MAX_FIELDS = 1024
MAX_STEPS = 1 << 17  # of all classes together

_U16 = struct.Struct(">H").unpack_from
_I32 = struct.Struct(">i").unpack_from
_I64 = struct.Struct(">q").unpack_from


class Grammar:
    """A stream's bytes, the position in them, and the classes and handles read so far.

    Parameters
    ----------
    data : bytes
        The whole file.
    path : path, optional
        Named in errors.

    Attributes
    ----------
    pos : int
        Offset of the next byte.
    handles : array of int
        Offset of each numbered content, numbered from 0. For objects that were skipped by their
        layout, all contents of an object have the offset of its first byte.
    references : array of int or None
        If set, each reference is recorded when it is first read: its offset, shifted by
        :data:`NOTED` bits, and the number of contents before it.

    Raises
    ------
    ProjectError
        By every method, if the bytes violate the grammar.

    Notes
    -----
    ``sink`` collects the offsets of numbered contents: :attr:`handles` when bytes are read for
    the first time, a temporary array when they are read again.
    """

    def __init__(self, data: bytes, path: Path | str | None = None) -> None:
        self.data = data
        self.size = len(data)
        self.path = path
        self.pos = 0
        self.handles = array("I" if self.size < 1 << 32 else "Q")
        self._descs: dict[int, ClassDesc] = {}
        self._desc_at: dict[int, ClassDesc] = {}
        self._steps = 0
        self.references: array[int] | None = None
        if data[:4] != MAGIC:
            raise self.error("not a Java object stream", "AC ED 00 05", 0)
        self.pos = 4

    def error(
        self, problem: str, expected: str | None = None, offset: int | None = None
    ) -> ProjectError:
        """Return the error to raise for the bytes at ``offset`` (the current one if None)."""
        at = min(self.pos if offset is None else offset, self.size)
        return ProjectError(problem, path=self.path, offset=at, expected=expected)

    def truncated(self) -> ProjectError:
        """Return the error for missing bytes."""
        return self.error("the file ends too early", "more bytes", self.size)

    @property
    def at_end(self) -> bool:
        """True if all bytes are read."""
        return self.pos >= self.size

    def peek(self) -> int:
        """Return the tag at the current position."""
        if self.pos >= self.size:
            raise self.truncated()
        return self.data[self.pos]

    # --- class descriptors and references ---------------------------------------------------

    def _reference(self, pos: int) -> int:
        """Return the handle, counted from 0, of a REFERENCE at ``pos``."""
        if pos + 5 > self.size:
            raise self.truncated()
        handle: int = _I32(self.data, pos + 1)[0] - BASE
        if not 0 <= handle < len(self.handles):
            raise self.error("reference to an unknown content", None, pos)
        if self.references is not None:
            self.references.append(pos << NOTED | len(self.handles))
        return handle

    def desc_of(self, handle: int) -> ClassDesc | None:
        """Return the class descriptor with this handle; None for other contents."""
        return self._descs.get(handle)

    def class_desc(self, pos: int, sink: array[int]) -> tuple[ClassDesc | None, int]:
        """Read a class descriptor; return it and the offset after it."""
        chain: list[ClassDesc] = []
        start = pos
        while True:
            if pos >= self.size:
                raise self.truncated()
            tag = self.data[pos]
            if tag == REFERENCE:
                parent = self._descs.get(self._reference(pos))
                if parent is None or parent in chain:
                    raise self.error("not a class descriptor", "one", pos)
                pos += 5
                break
            if tag == NULL:
                parent, pos = None, pos + 1
                break
            if (known := self._desc_at.get(pos)) is not None:  # numbered when it was first met
                parent, pos = known, known.end
                break
            if tag not in (CLASSDESC, PROXY):
                raise self.error(f"tag {tag:02X}", "a class descriptor", pos)
            if len(chain) == MAX_SUPER or len(self._descs) == MAX_CLASSES:
                raise self.error("too many classes", None, pos)
            desc, pos = self._read_desc(pos, tag, sink)
            chain.append(desc)
        for desc in reversed(chain):
            self._link(desc, parent, start)
            desc.end, parent = pos, desc
        return parent, pos

    def _link(self, desc: ClassDesc, parent: ClassDesc | None, offset: int) -> None:
        if parent is not None and len(parent.lineage) >= MAX_SUPER:
            raise self.error("too many super classes", None, offset)
        steps = len(desc.fields) + 1 + (len(parent.steps) if parent else 0)
        self._steps += steps
        if self._steps > MAX_STEPS:
            raise self.error("too many fields", None, offset)
        desc.link(parent)

    def _read_desc(self, pos: int, tag: int, sink: array[int]) -> tuple[ClassDesc, int]:
        if sink is not self.handles:
            raise self.error("reference to an incomplete content", None, pos)
        offset, handle = pos, len(self.handles)
        fields: list[Field] = []
        pos += 1
        if tag == PROXY:
            sink.append(offset)
            name, flags = "(proxy)", SERIALIZABLE
            count = self._int(pos)
            pos += 4
            if not 0 <= count <= MAX_FIELDS:
                raise self.error(f"{count} interfaces", "a smaller number", pos - 4)
            for _ in range(count):
                _, pos = self._utf(pos)
        else:
            name, pos = self._utf(pos)
            sink.append(offset)
            if pos + 11 > self.size:
                raise self.truncated()
            flags, count = self.data[pos + 8], _U16(self.data, pos + 9)[0]
            if count > MAX_FIELDS:
                raise self.error(f"class {name!r} with {count} fields", "fewer", pos + 9)
            pos += 11
            for _ in range(count):
                item, pos = self._field(pos, sink)
                fields.append(item)
        pos = self._class_annotation(pos, sink)
        desc = ClassDesc(name, flags, tuple(fields), handle)
        self._descs[handle] = self._desc_at[offset] = desc
        return desc, pos

    def _field(self, pos: int, sink: array[int]) -> tuple[Field, int]:
        if pos >= self.size:
            raise self.truncated()
        code = chr(self.data[pos])
        if code not in "BCDFIJSZ[L":
            raise self.error(f"field type {code!r}", "one of B C D F I J S Z [ L", pos)
        name, pos = self._utf(pos + 1)
        if code in "[L":
            pos = self._leaf(pos, sink, (STRING, LONG_STRING, REFERENCE), "a type signature")
        return Field(code, name), pos

    def _class_annotation(self, pos: int, sink: array[int]) -> int:
        """Skip the annotation of a class descriptor, which is empty or has only leaves."""
        while True:
            if pos >= self.size:
                raise self.truncated()
            tag = self.data[pos]
            if tag == END:
                return pos + 1
            if tag in (BLOCK, LONG_BLOCK):
                start, count = self.block_at(pos)
                pos = start + count
            else:
                allowed = (STRING, LONG_STRING, REFERENCE, NULL)
                pos = self._leaf(pos, sink, allowed, "the end of a class annotation")

    def _leaf(self, pos: int, sink: array[int], allowed: tuple[int, ...], expected: str) -> int:
        if pos >= self.size:
            raise self.truncated()
        tag = self.data[pos]
        if tag not in allowed:
            raise self.error(f"tag {tag:02X}", expected, pos)
        if tag == NULL:
            return pos + 1
        if tag == REFERENCE:
            self._reference(pos)
            return pos + 5
        sink.append(pos)
        start, count = self.string_at(pos)
        return start + count

    # --- small pieces -----------------------------------------------------------------------

    def _int(self, pos: int) -> int:
        if pos + 4 > self.size:
            raise self.truncated()
        value: int = _I32(self.data, pos)[0]
        return value

    def _utf(self, pos: int) -> tuple[str, int]:
        if pos + 2 > self.size:
            raise self.truncated()
        end = pos + 2 + _U16(self.data, pos)[0]
        return self._decode(pos + 2, end), end

    def _decode(self, start: int, end: int) -> str:
        if end > self.size:
            raise self.truncated()
        try:
            return decode_text(self.data[start:end])
        except ValueError:
            raise self.error("text that cannot be decoded", "modified UTF-8", start) from None

    def string_at(self, pos: int) -> tuple[int, int]:
        """Return start and length in bytes of the text of a (LONG)STRING at ``pos``."""
        width = 2 if self.data[pos] == STRING else 8
        start = pos + 1 + width
        if start > self.size:
            raise self.truncated()
        count: int = (_U16 if width == 2 else _I64)(self.data, pos + 1)[0]
        if not 0 <= count <= self.size - start:
            raise self.error(f"a text of {count} bytes", "no more than remain", pos)
        return start, count

    def block_at(self, pos: int) -> tuple[int, int]:
        """Return start and length of the block of data at ``pos``."""
        start = pos + (2 if self.data[pos] == BLOCK else 5)
        if start > self.size:
            raise self.truncated()
        count = self.data[pos + 1] if start == pos + 2 else self._int(pos + 1)
        if not 0 <= count <= self.size - start:
            raise self.error(f"a block of {count} bytes", "no more than remain", pos)
        return start, count

    def array_at(self, pos: int, desc: ClassDesc | None, tag: int) -> tuple[ClassDesc, int, int]:
        """Return class, item count and first item's offset of an array; ``pos`` is its length."""
        if desc is None or desc.item_size is None:
            raise self.error("array without an array class", "one", tag)
        count = self._int(pos)
        if not 0 <= count * (desc.item_size or 1) <= self.size - pos - 4:
            raise self.error(f"an array of {count} values", "no more than remain", tag)
        return desc, count, pos + 4

    def object_class(self, desc: ClassDesc | None, tag: int) -> ClassDesc:
        """Return the class of an object at ``tag``; refuse one of unknown length."""
        if desc is None or desc.item_size is not None or not desc.readable:
            name = "none" if desc is None else desc.name
            raise self.error(f"object of class {name}", "a class whose length is known", tag)
        return desc

    def _bad_tag(self, pos: int) -> ProjectError:
        tag = self.data[pos]
        if tag == EXCEPTION:
            return self.error("QuPath failed while it wrote this file", None, pos)
        if tag == RESET:
            return self.error("a reset of the stream, which QuPath never writes", None, pos)
        return self.error(f"tag {tag:02X}", "an object, array, text, reference or null", pos)
