"""Find slides by entry ID or name, and say what there is instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from qupath_bridge.errors import UsageError
from qupath_bridge.model import Slide

__all__ = ["ID", "NAME", "find_slides", "instead", "match_slides"]

ID, NAME = "id:", "name:"
"""Say that the text behind is an entry ID, or a name, where it could be both."""


def find_slides(slides: Iterable[Slide], text: str) -> tuple[Slide, ...]:
    """Return the slides whose entry ID or whose name is exactly this text.

    Parameters
    ----------
    text : str
        An entry ID or a name; ``id:...`` is an ID only and ``name:...`` a name only.

    Returns
    -------
    tuple of Slide
        Empty if there is none; several where slides share the name.

    Raises
    ------
    UsageError
        If it is the ID of one slide and the name of another.
    """
    by_id = [slide for slide in slides if slide.entry_id == text.removeprefix(ID)]
    by_name = [slide for slide in slides if slide.name == text.removeprefix(NAME)]
    if text.startswith(ID):
        return tuple(by_id)
    if text.startswith(NAME):
        return tuple(by_name)
    others = [slide for slide in by_name if slide.entry_id != text]
    if by_id and others:
        raise UsageError(
            f"{text!r} is the ID of the slide {by_id[0].name!r} and the name of the slide with "
            f"the ID {others[0].entry_id}.",
            hint=f"Write {ID}{text} or {NAME}{text}.",
        )
    return tuple(by_id or by_name)


def match_slides(slides: Sequence[Slide], pattern: str) -> tuple[Slide, ...]:
    """Return the slides that an ID, a name or a glob over names selects.

    What is exactly an ID or a name selects just that, also where it could be read as a glob.

    Raises
    ------
    UsageError
        As :func:`find_slides`.
    """
    exact = find_slides(slides, pattern)
    if exact or pattern.startswith(ID):
        return exact
    glob = pattern.removeprefix(NAME)
    return tuple(slide for slide in slides if fnmatchcase(slide.name, glob))


def instead(wanted: str, known: Sequence[str]) -> str:
    """Say what there is instead: the close matches, else the first few.

    >>> instead("patent", ["patient", "block"]), instead("x", [])
    ("; there is 'patient'", '')
    """
    once = list(dict.fromkeys(known))
    close = difflib.get_close_matches(wanted, once, n=3) or once[:5]
    return f"; there is {', '.join(map(repr, close))}" if close else ""
