"""Writer of Java Object Serialization streams, as Java itself writes them."""

from __future__ import annotations

import struct
from collections.abc import Hashable

from .descriptors import ClassSpec, encode_text
from .grammar import (
    ARRAY,
    BASE,
    BLOCK,
    CLASSDESC,
    END,
    JAVA_ENUM,
    LONG_STRING,
    MAGIC,
    NULL,
    OBJECT,
    REFERENCE,
    STRING,
)

__all__ = ["JavaWriter"]

_NULL = bytes([NULL])
_U16, _I32, _I64 = struct.Struct(">H"), struct.Struct(">i"), struct.Struct(">q")


class JavaWriter:
    """Writes contents one after the other, in the layout of their classes.

    Texts, class descriptors and contents with a ``key`` are written once, then referred to.

    Parameters
    ----------
    preceding : int, optional
        Write a part of a stream with this number of contents before it.
    """

    def __init__(self, preceding: int | None = None) -> None:
        self._out = bytearray(MAGIC if preceding is None else b"")
        self._count = preceding or 0  # handles given
        self._known: dict[Hashable, bytes] = {}
        self._descs: dict[str, bytes] = {}

    @property
    def count(self) -> int:
        """Number of numbered contents, including those before this part."""
        return self._count

    def getvalue(self) -> bytes:
        """Return the written bytes."""
        return bytes(self._out)

    def _number(self) -> bytes:
        """Assign the next handle; return a reference to it."""
        self._count += 1
        return bytes([REFERENCE]) + _I32.pack(BASE + self._count - 1)

    def raw(self, data: bytes, contents: int = 0) -> None:
        """Write bytes unchanged, with this number of numbered contents in them."""
        self._out += data
        self._count += contents

    def null(self) -> None:
        """Write null."""
        self._out += _NULL

    def block(self, data: bytes) -> None:
        """Write up to 255 bytes of block data."""
        self._out += bytes([BLOCK, len(data)]) + data

    def end(self) -> None:
        """End the annotation of an object."""
        self._out.append(END)

    def reference(self, key: Hashable) -> bool:
        """Write a reference to the content with this key; return False if there is none."""
        known = self._known.get(key)
        if known is None:
            return False
        self._out += known
        return True

    def reference_to(self, key: Hashable) -> bytes:
        """Return a reference to the content with this key, or to a text."""
        return self._known[key]

    def reference_to_class(self, spec: ClassSpec) -> bytes:
        """Return a reference to a class descriptor."""
        return self._descs[spec.name]

    def text(self, text: str | None, *, once: bool = False) -> None:
        """Write a text or null; ``once`` for a text that is not used again."""
        if text is None:
            self.null()
            return
        if self.reference(text):
            return
        raw = encode_text(text)
        if once:
            self._count += 1
        else:
            self._known[text] = self._number()
        if len(raw) > 0xFFFF:
            self._out += bytes([LONG_STRING]) + _I64.pack(len(raw)) + raw
        else:
            self._out += bytes([STRING]) + _U16.pack(len(raw)) + raw

    def begin(self, spec: ClassSpec, key: Hashable = None) -> None:
        """Write the beginning of an object; its fields and annotation come next."""
        self._out.append(OBJECT)
        self._desc(spec)
        reference = self._number()
        if key is not None:
            self._known[key] = reference

    def array(self, spec: ClassSpec, count: int, data: bytes = b"") -> None:
        """Write an array of numbers, or the beginning of one of objects, which come next."""
        self._out.append(ARRAY)
        self._desc(spec)
        self._number()
        self._out += _I32.pack(count) + data

    def enum(self, spec: ClassSpec, constant: str) -> None:
        """Write a constant of an enum."""
        self._out.append(JAVA_ENUM)
        self._desc(spec)
        self._number()
        self.text(constant)

    def _desc(self, spec: ClassSpec | None) -> None:
        while spec is not None:
            if (known := self._descs.get(spec.name)) is not None:
                self._out += known
                return
            self._out.append(CLASSDESC)
            self._utf(spec.name)
            self._out += _I64.pack(spec.suid)
            self._descs[spec.name] = self._number()
            self._out += bytes([spec.flags]) + _U16.pack(len(spec.fields))
            for name, signature in spec.fields:
                self._out += signature[0].encode()
                self._utf(name)
                if signature[0] in "[L":
                    self.text(signature)
            self._out.append(END)
            spec = spec.parent
        self.null()

    def _utf(self, text: str) -> None:
        raw = encode_text(text)
        self._out += _U16.pack(len(raw)) + raw
