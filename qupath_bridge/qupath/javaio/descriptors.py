"""Class descriptors and texts of Java streams.

A descriptor is the layout of an object's bytes. It comes from the file alone: fields are in the
order in which the file lists them.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

__all__ = [
    "ANNOTATION",
    "BLOCK_DATA",
    "ENUM",
    "EXTERNALIZABLE",
    "ITEM_SIZES",
    "OBJECT_STEP",
    "SERIALIZABLE",
    "WRITE_METHOD",
    "ClassDesc",
    "ClassSpec",
    "Field",
    "ReadStep",
    "decode_text",
    "encode_text",
]

WRITE_METHOD, SERIALIZABLE, EXTERNALIZABLE, BLOCK_DATA, ENUM = 1, 2, 4, 8, 16
"""Flags of a class descriptor."""

ITEM_SIZES = {"B": 1, "C": 2, "D": 8, "F": 4, "I": 4, "J": 8, "S": 2, "Z": 1}
"""Bytes of a primitive value, by type code."""

OBJECT_STEP, ANNOTATION = -1, -2
"""Steps of :attr:`ClassDesc.skips` besides numbers of bytes: one content; contents up to the end
of block data."""

_FORMATS = {"B": "b", "C": "H", "D": "d", "F": "f", "I": "i", "J": "q", "S": "h", "Z": "?"}
_ASTRAL = re.compile("[\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a class: its type code (``B C D F I J S Z``, ``[`` or ``L``) and its name."""

    code: str
    name: str


@dataclass(frozen=True, slots=True)
class ReadStep:
    """One step of reading an object: consecutive numbers, one content, or an annotation.

    ``layout`` is set for numbers, one per name; a content has one name, an annotation has none.
    """

    layout: struct.Struct | None
    names: tuple[str, ...]


@dataclass(slots=True, eq=False)
class ClassDesc:
    """Class of a Java stream, as described in the file.

    Attributes
    ----------
    name : str
    flags : int
    fields : tuple of Field
        In the file's order.
    handle : int
        Counted from 0.
    parent : ClassDesc or None
        The super class.
    lineage : tuple of str
        Names of the class and its super classes, the class itself first.
    steps : tuple of ReadStep
        Steps that read an object of the class, from the topmost super class down.
    skips : tuple of int
        Steps that skip such an object, last first: a number of bytes, ``OBJECT_STEP`` or
        ``ANNOTATION``.
    item_size : int or None
        For arrays: bytes of one item, 0 if the items are contents; None for other classes.
    end : int
        Offset of the first byte after the descriptor and its super classes.
    """

    name: str
    flags: int
    fields: tuple[Field, ...]
    handle: int
    parent: ClassDesc | None = None
    lineage: tuple[str, ...] = ()
    steps: tuple[ReadStep, ...] = field(default=(), repr=False)
    skips: tuple[int, ...] = field(default=(), repr=False)
    item_size: int | None = None
    end: int = 0

    @property
    def readable(self) -> bool:
        """True if the file determines the length of an object of this class."""
        return bool(self.flags & SERIALIZABLE) or self.flags & (EXTERNALIZABLE | BLOCK_DATA) == (
            EXTERNALIZABLE | BLOCK_DATA
        )

    def link(self, parent: ClassDesc | None) -> None:
        """Set the super class, which completes the steps that read objects of this class."""
        self.parent = parent
        self.lineage = (self.name, *(parent.lineage if parent else ()))
        if self.name.startswith("["):
            self.item_size = ITEM_SIZES.get(self.name[1:], 0)
        if self.flags & EXTERNALIZABLE:
            self.steps = (ReadStep(None, ()),)
        else:
            self.steps = (*(parent.steps if parent else ()), *self._make_steps())
        self.skips = tuple(_skip(step) for step in reversed(self.steps))

    def _make_steps(self) -> list[ReadStep]:
        steps: list[ReadStep] = []
        numbers: list[Field] = []
        for item in self.fields:
            if item.code in _FORMATS:
                numbers.append(item)
                continue
            steps += _numbers(numbers)
            numbers = []
            steps.append(ReadStep(None, (item.name,)))
        steps += _numbers(numbers)
        if self.flags & WRITE_METHOD:
            steps.append(ReadStep(None, ()))
        return steps


def _numbers(fields: list[Field]) -> list[ReadStep]:
    if not fields:
        return []
    layout = struct.Struct(">" + "".join(_FORMATS[item.code] for item in fields))
    return [ReadStep(layout, tuple(item.name for item in fields))]


def _skip(step: ReadStep) -> int:
    if step.layout is not None:
        return step.layout.size
    return OBJECT_STEP if step.names else ANNOTATION


@dataclass(frozen=True, slots=True)
class ClassSpec:
    """A class descriptor to write.

    ``fields`` are names and type signatures, in the order of the stream: numbers first, both
    groups sorted by name.
    """

    name: str
    suid: int = 1
    flags: int = SERIALIZABLE
    fields: tuple[tuple[str, str], ...] = ()
    parent: ClassSpec | None = None


def decode_text(raw: bytes) -> str:
    r"""Decode modified UTF-8: NUL is ``C0 80``, characters above U+FFFF are two surrogates.

    A surrogate without its partner becomes U+FFFD.

    Raises
    ------
    ValueError
        If the bytes are not modified UTF-8.

    Examples
    --------
    >>> decode_text(bytes.fromhex("c080 eda0bd edb880"))
    '\x00😀'
    """
    if raw.isascii():
        return raw.decode("ascii")
    if max(raw) >= 0xF0:
        raise ValueError("not modified UTF-8: a sequence of four bytes")
    text = raw.replace(b"\xc0\x80", b"\x00").decode("utf-8", "surrogatepass")
    if 0xED not in raw:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def encode_text(text: str) -> bytes:
    r"""Encode as modified UTF-8, the inverse of :func:`decode_text`.

    >>> decode_text(encode_text("é 中 😀 \x00")) == "é 中 😀 \x00"
    True
    """
    if text.isascii() and "\0" not in text:
        return text.encode("ascii")
    paired = _ASTRAL.sub(_surrogates, text)
    return paired.encode("utf-8", "surrogatepass").replace(b"\x00", b"\xc0\x80")


def _surrogates(match: re.Match[str]) -> str:
    code = ord(match.group()) - 0x10000
    return chr(0xD800 + (code >> 10)) + chr(0xDC00 + (code & 0x3FF))
