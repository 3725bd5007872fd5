"""Helpers of immutable values: dictionaries that do not change, and ``repr`` of one line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, NoReturn, TypeVar

__all__ = [
    "CONTROLS",
    "MAX_LINE",
    "FrozenDict",
    "OneLine",
    "count",
    "escape_controls",
    "freeze",
    "one_line",
    "shorten",
    "thaw",
]

Key = TypeVar("Key")
Value = TypeVar("Value")

MAX_LINE = 200
"""Characters that the ``repr`` of a value has at most."""


class FrozenDict(dict[Key, Value]):
    """A dictionary that refuses every change, and so can be hashed, shared and pickled.

    >>> frozen = FrozenDict({"a": 1})
    >>> frozen == {"a": 1}, hash(frozen) == hash(FrozenDict(a=1))
    (True, True)
    >>> frozen["b"] = 2
    Traceback (most recent call last):
    ...
    TypeError: a FrozenDict cannot be changed; make a dict of it first
    """

    __slots__ = ()

    def _refuse(self, *arguments: Any, **values: Any) -> NoReturn:
        raise TypeError("a FrozenDict cannot be changed; make a dict of it first")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[type[FrozenDict[Key, Value]], tuple[dict[Key, Value]]]:
        return type(self), (dict(self),)


def freeze(value: Any) -> Any:
    """Return JSON values that do not change: objects as FrozenDict, arrays as tuples.

    >>> freeze({"a": [1, {"b": []}]})
    {'a': (1, {'b': ()})}
    """
    if isinstance(value, Mapping):
        return FrozenDict({key: freeze(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return tuple(freeze(item) for item in value)
    return value


def thaw(value: Any) -> Any:
    """Return JSON values as dictionaries and lists of their own, the reverse of :func:`freeze`."""
    if isinstance(value, Mapping):
        return {key: thaw(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [thaw(item) for item in value]
    return value


def shorten(text: str, end: str = "") -> str:
    """Return a text of at most :data:`MAX_LINE` characters; ``end`` closes one that was cut.

    >>> len(shorten("a" * 500, ")")), shorten("short")
    (200, 'short')
    """
    return text if len(text) <= MAX_LINE else f"{text[: MAX_LINE - 1 - len(end)]}…{end}"


CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Signs that a terminal obeys rather than shows."""


def escape_controls(text: str) -> str:
    r"""Return a text in which control characters, line breaks and changes of direction are escaped.

    For names from files: what a terminal shows of them must not be taken for something else.

    >>> print(escape_controls("slide\x1b[2J\n"))
    slide\x1b[2J\x0a
    """

    def escaped(sign: re.Match[str]) -> str:
        code = ord(sign[0])
        return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"

    return CONTROLS.sub(escaped, text)


def count(number: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun.

    >>> count(1, "slide"), count(2, "slide"), count(0, "class", "classes")
    ('1 slide', '2 slides', '0 classes')
    """
    return f"{number} {one if number == 1 else many or one + 's'}"


def one_line(kind: str, /, *facts: str | None, **values: Any) -> str:
    r"""Return the ``repr`` of a value: its type, facts in words, and values that are not None.

    >>> one_line("Slide", "2000 x 1000 px", None, id="1", name="A\n")
    "Slide(2000 x 1000 px, id='1', name='A\\n')"
    """
    parts = [fact for fact in facts if fact]
    parts += [f"{key}={value!r}" for key, value in values.items() if value is not None]
    return shorten(f"{kind}({' '.join(', '.join(parts).split())})", ")")


class OneLine:
    """Gives a dataclass (``repr=False``) the ``repr`` of one line: what differs from its defaults.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True, repr=False)
    ... class Point(OneLine):
    ...     x: int
    ...     y: int = 0
    >>> Point(1), Point(0, 2)
    (Point(x=1), Point(x=0, y=2))
    """

    __slots__ = ()

    def __repr__(self) -> str:
        values = {
            field.name: getattr(self, field.name)
            for field in fields(self)  # type: ignore[arg-type]  # it is for dataclasses
            if field.repr and getattr(self, field.name) != field.default
        }
        return one_line(type(self).__name__, **values)
