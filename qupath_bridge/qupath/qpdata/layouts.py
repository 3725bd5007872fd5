"""Fast skipping of detections by their layout.

A whole-slide image has 100,000 cells and more, and most have the same layout: the same classes and
texts of the same lengths at the same places; only numbers and arrays differ. From an object that
was skipped step by step, patterns are made for the bytes between its arrays; the next objects that
match are skipped with a few matches each. Exactly those match that the step-by-step way would
accept, with the same handles; all others are skipped step by step.
"""

from __future__ import annotations

import re
import struct
import sys
from array import array
from collections import Counter
from dataclasses import dataclass, field

from qupath_bridge.model import ObjectType
from qupath_bridge.qupath.javaio.descriptors import ANNOTATION, OBJECT_STEP
from qupath_bridge.qupath.javaio.grammar import (
    ARRAY,
    BASE,
    BLOCK,
    END,
    LONG_BLOCK,
    NULL,
    OBJECT,
    REFERENCE,
    STRING,
)
from qupath_bridge.qupath.javaio.stream import JavaStream

__all__ = ["Layouts"]

MAX_LAYOUTS = 16  # that are tried
MAX_LEARNED = 256  # in one file
MAX_FIXED = 4096  # bytes of an object besides its arrays
MAX_PARTS = 32
MAX_REFERENCES = 4096  # groups of them that are remembered

_I32 = struct.Struct(">i").unpack_from
_FIRST = BASE.to_bytes(4, "big")


@dataclass(slots=True, eq=False)
class _Layout:
    """The layout of one kind of object.

    ``parts`` are patterns, each with the item size of the array after it, 0 for the last.
    ``handles`` is the number of handles of such an object.
    """

    kind: ObjectType
    parts: tuple[tuple[re.Pattern[bytes], int], ...]
    handles: int
    references: set[tuple[bytes, ...]] = field(default_factory=set)

    def end(self, data: bytes, pos: int, limit: bytes) -> int:
        """Return the offset after an object at ``pos``, 0 if it has another layout.

        ``limit`` is the first handle after those of earlier contents.
        """
        known = self.references
        try:
            for pattern, size in self.parts:
                match = pattern.match(data, pos)
                if match is None:
                    return 0
                groups = match.groups()
                if groups and groups not in known:
                    if min(groups) < _FIRST or max(groups) >= limit:
                        return 0
                    if len(known) < MAX_REFERENCES:
                        known.add(groups)
                pos = match.end()
                if size:
                    count = _I32(data, pos)[0]
                    if count < 0:
                        return 0
                    pos += 4 + count * size
        except struct.error:
            return 0
        return pos


class Layouts:
    """The layouts found in one stream."""

    def __init__(self, stream: JavaStream) -> None:
        self._stream = stream
        self._layouts: list[_Layout] = []  # the one that matched last comes first
        self._left = MAX_LEARNED

    def skip(self, most: int, counts: Counter[ObjectType]) -> int:
        """Skip up to ``most`` objects of known layouts; return their number.

        They are added to ``counts``. All handles of an object get the offset of its first byte;
        the stream finds their own offsets when a reference needs them.
        """
        stream, layouts = self._stream, self._layouts
        if not layouts:
            return 0
        data, handles, pos, done = stream.data, stream.handles, stream.pos, 0
        width = handles.itemsize
        limit = (BASE + len(handles)).to_bytes(4, "big")
        while done < most:
            for layout in layouts:
                end = layout.end(data, pos, limit)
                if end:
                    break
            else:
                break
            if layout is not layouts[0]:
                layouts.remove(layout)
                layouts.insert(0, layout)
            handles.frombytes(pos.to_bytes(width, sys.byteorder) * layout.handles)
            counts[layout.kind] += 1
            pos = end
            done += 1
        stream.pos = pos
        return done

    def learn(self, offset: int, body: int, handle: int, kind: ObjectType) -> None:
        """Add the layout of the object that was just skipped.

        Parameters
        ----------
        offset, handle : int
            Of the object; it has no children.
        body : int
            Offset after the number of its children.
        kind : ObjectType
        """
        if not self._left:
            return
        self._left -= 1
        parts = _make_parts(self._stream, offset, body)
        if parts is not None:
            handles = len(self._stream.handles) - handle
            self._layouts.insert(0, _Layout(kind, parts, handles))
            del self._layouts[MAX_LAYOUTS:]


def _make_parts(
    stream: JavaStream, offset: int, body: int
) -> tuple[tuple[re.Pattern[bytes], int], ...] | None:
    """Return the patterns of an object that was skipped; None if its layout cannot be reused.

    Up to ``body`` block data must be the same: it contains the number of children.
    """
    data = stream.data
    parts: list[tuple[re.Pattern[bytes], int]] = []
    pattern: list[bytes] = []
    fixed = 0
    pending, pos = [OBJECT_STEP], offset
    while pending:
        step, start = pending.pop(), pos
        if step >= 0:
            pattern.append(b".{%d}" % step)
            pos += step
            fixed += step
            continue
        tag = data[pos]
        if step == ANNOTATION:
            if tag == END:
                pattern.append(re.escape(data[pos : pos + 1]))
                pos += 1
                continue
            pending.append(ANNOTATION)
            if tag in (BLOCK, LONG_BLOCK):
                begin, count = stream.block_at(pos)
                pos = begin + count
                fixed_end = pos if start < body else begin
                pattern.append(re.escape(data[start:fixed_end]) + b".{%d}" % (pos - fixed_end))
                fixed += pos - start
                continue
        elif step < ANNOTATION - 1:
            pending.append(step + 1)
        if tag == REFERENCE:
            pattern.append(b"q(.{4})")
            pos += 5
        elif tag == NULL:
            pattern.append(b"p")
            pos += 1
        elif tag == STRING:
            begin, count = stream.string_at(pos)
            pattern.append(re.escape(data[pos:begin]) + b".{%d}" % count)
            pos = begin + count
        elif tag in (OBJECT, ARRAY) and data[pos + 1] == REFERENCE:
            desc, pos = stream.class_desc(pos + 1, array("Q"))
            pattern.append(re.escape(data[start:pos]))
            if tag == OBJECT:
                pending += stream.object_class(desc, start).skips
            else:
                desc, count, begin = stream.array_at(pos, desc, start)
                if desc.item_size:
                    parts.append((re.compile(b"".join(pattern), re.DOTALL), desc.item_size))
                    pattern = []
                    pos = begin + count * desc.item_size
                    continue
                pattern.append(re.escape(data[pos:begin]))
                pos = begin
                if count:
                    pending.append(ANNOTATION - count)
        else:
            return None
        fixed += pos - start
        if fixed > MAX_FIXED or len(parts) > MAX_PARTS:
            return None
    parts.append((re.compile(b"".join(pattern), re.DOTALL), 0))
    return tuple(parts)
