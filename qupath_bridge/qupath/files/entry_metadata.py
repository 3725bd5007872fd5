"""Changes of the metadata of images in the text of a project file; nothing else is touched.

The rest keeps its bytes: numbers, order, indentation, and keys that no QuPath knows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["set_entry_metadata"]

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder(strict=False)

_Span = tuple[int, int]


def set_entry_metadata(text: str, key: str, values: Mapping[str, str | None]) -> str:
    """Return the text of a project file with one metadata key of images set or removed.

    Parameters
    ----------
    text : str
        Content of a ``.qpproj`` file.
    key : str
        The metadata key.
    values : mapping of str to str or None
        Entry ID to the new value; None removes the key. Other entries stay as they are, and so
        do IDs that the project does not have.

    Raises
    ------
    ValueError
        If the text is not that of a project file.

    Examples
    --------
    >>> text = '{"images": [{"entryID": 1, "metadata": {"k": "v", "a": "b"}}]}'
    >>> set_entry_metadata(text, "k", {"1": None}).split()
    ['{"images":', '[{"entryID":', '1,', '"metadata":', '{', '"a":', '"b"', '}}]}']
    """
    pieces, end = [], 0
    for start, stop, new in sorted(_replacements(text, key, values)):
        pieces += [text[end:start], new]
        end = stop
    return "".join([*pieces, text[end:]])


def _replacements(
    text: str, key: str, values: Mapping[str, str | None]
) -> Iterator[tuple[int, int, str]]:
    start = _SPACE.match(text, 1 if text.startswith("\ufeff") else 0).end()  # type: ignore[union-attr]
    images = dict(_members(text, start)).get("images")
    for begin, _ in _elements(text, images[0]) if images else ():
        members = dict(_members(text, begin))
        if "entryID" not in members:
            continue
        entry_id = str(_value(text, members["entryID"]))
        if entry_id not in values:
            continue
        there = members.get("metadata")
        metadata = (_value(text, there) if there else None) or {}
        changed = {name: value for name, value in metadata.items() if name != key}
        new = values[entry_id]
        if new is not None:
            changed[key] = new
        if changed == metadata:
            continue
        member = there or members["entryID"]
        line = text.rfind("\n", 0, member[0]) + 1
        indent = text[line : _SPACE.match(text, line).end()]  # type: ignore[union-attr]
        written = json.dumps(changed, ensure_ascii=False, indent=2).replace("\n", f"\n{indent}")
        if there:
            yield *there, written
        else:
            yield member[1], member[1], f',\n{indent}"metadata": {written}'


def _value(text: str, span: _Span) -> Any:
    return json.loads(text[slice(*span)], strict=False)


def _members(text: str, start: int) -> Iterator[tuple[str, _Span]]:
    """Yield the keys of an object that begins at ``start``, and where their values are."""
    for at in _items(text, start, ("{", "}")):
        name, end = _DECODER.raw_decode(text, at)
        colon = _skip(text, end)
        if not isinstance(name, str) or text[colon : colon + 1] != ":":
            raise ValueError(f"no member at character {at}")
        value = _skip(text, colon + 1)
        stop = _DECODER.raw_decode(text, value)[1]
        yield name, (value, stop)


def _elements(text: str, start: int) -> Iterator[_Span]:
    for at in _items(text, start, ("[", "]")):
        yield at, _DECODER.raw_decode(text, at)[1]


def _items(text: str, start: int, brackets: tuple[str, str]) -> Iterator[int]:
    """Yield where each item of an object or an array begins."""
    opening, closing = brackets
    if text[start : start + 1] != opening:
        raise ValueError(f"no {opening} at character {start}")
    at = _skip(text, start + 1)
    while text[at : at + 1] != closing:
        yield at
        at = _skip(text, _DECODER.raw_decode(text, at)[1])
        if opening == "{":
            at = _skip(text, _DECODER.raw_decode(text, _skip(text, at + 1))[1])
        if text[at : at + 1] not in (",", closing):
            raise ValueError(f"no , or {closing} at character {at}")
        if text[at] == ",":
            at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    return _SPACE.match(text, at).end()  # type: ignore[union-attr]  # matches nothing too
