"""Printing of results and errors: stdout is the result, stderr is for people."""

from __future__ import annotations

import json
import logging
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from qupath_bridge.frozen import CONTROLS, escape_controls

from .options import with_flags
from .streams import print_to_people

__all__ = [
    "is_quiet",
    "json_text",
    "message",
    "print_json",
    "print_json_line",
    "print_table",
    "reset_level",
    "say",
    "set_level",
    "show",
    "table",
]


WIDEST = 100
"""Characters of a table's cell; longer texts are cut."""


LIBRARY = logging.getLogger("qupath_bridge")
RESULT = logging.getLogger("qupath_bridge.cli")
"""Warnings and errors that belong to the result of a command."""


class _Format(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return message(f"{record.levelname.lower()}: {super().format(record)}")


def set_level(verbosity: int) -> None:
    """Choose what stderr shows.

    Parameters
    ----------
    verbosity : int
        -1 errors only; 0 also the warnings of the result; 1 also what the library does; 2 all.
    """
    reset_level()
    handler = logging.StreamHandler()
    handler.setFormatter(_Format())
    LIBRARY.addHandler(handler)
    # Slides that fail and their warnings are part of the result, which is printed anyway.
    levels = {-1: logging.ERROR, 0: logging.ERROR, 1: logging.INFO}
    LIBRARY.setLevel(levels.get(verbosity, logging.DEBUG))
    RESULT.setLevel(logging.ERROR if verbosity < 0 else logging.WARNING)


def reset_level() -> None:
    """Undo :func:`set_level`, for a program that goes on afterwards."""
    for handler in list(LIBRARY.handlers):
        if isinstance(handler.formatter, _Format):
            LIBRARY.removeHandler(handler)
    for logger in (LIBRARY, RESULT):
        logger.setLevel(logging.NOTSET)


def is_quiet() -> bool:
    """Return whether only errors are wanted."""
    return not RESULT.isEnabledFor(logging.WARNING)


def say(text: str = "", level: int = logging.WARNING) -> None:
    """Print a line for people on stderr, unless they want less."""
    if RESULT.isEnabledFor(level):
        print_to_people(message(with_flags(text)))


def show(text: str = "") -> None:
    """Print one line of the result for people."""
    print(escape_controls(with_flags(text)))


def message(text: str) -> str:
    """Return a text of several lines so that none but the first begins at the margin.

    Line breaks in names from files so never look like another message.
    """
    first, *more = (escape_controls(line) for line in text.split("\n"))
    return "\n".join([first, *(line if line[:2] in ("", "  ") else f"  {line}" for line in more)])


def print_json(value: Any) -> None:
    """Print one JSON object, the whole result of a command."""
    print(json_text(value, indent=2))


def print_json_line(value: Any) -> None:
    """Print one JSON object in one line, at once."""
    print(json_text(value), flush=True)


def json_text(value: Any, indent: int | None = None) -> str:
    r"""Return JSON with the signs escaped that :func:`escape_controls` escapes.

    >>> print(json_text({"name": "é\x9b31m\u202e"}))
    {"name": "é\u009b31m\u202e"}
    """
    text = json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False, default=str)
    # Such signs are inside of texts only, but for the line breaks of an indented value.
    lines = text.split("\n")
    return "\n".join(CONTROLS.sub(lambda sign: f"\\u{ord(sign[0]):04x}", line) for line in lines)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    r"""Return lines of a plain table; numbers stand to the right.

    >>> print("\n".join(table(("label", "patches"), [("Tumor", 12), ("Stroma", 7)])))
    label   patches
    Tumor        12
    Stroma        7

    Names that look the same and are not have their invisible signs escaped.

    >>> print("\n".join(table(("label", "patches"), [("Tumor", 12), ("Tumor\xa0", 7)])))
    label      patches
    Tumor           12
    Tumor\xa0        7
    """
    rows = list(rows)
    shown = [[escape_controls(str(cell)) for cell in row] for row in (header, *rows)]
    columns = [_told_apart(column) for column in zip(*shown, strict=True)]
    cells = [[_clipped(cell) for cell in row] for row in zip(*columns, strict=True)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    right = [all(isinstance(row[i], int | float) for row in rows) for i in range(len(header))]
    return [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    ]


def _told_apart(column: Sequence[str]) -> list[str]:
    """Return the texts of a column; of those that look alike, invisible signs are escaped."""
    alike: dict[str, set[str]] = {}
    for text in column:
        alike.setdefault(_appearance(text), set()).add(text)
    return [_visible(text) if len(alike[_appearance(text)]) > 1 else text for text in column]


_UNSEEN = {"Zs", "Cf", "Mn"}
"""Kinds of signs, by Unicode's names of them: spaces, joiners, accents that stand alone."""


def _appearance(text: str) -> str:
    """Return what a person sees of a text: composed letters, and spaces that are all alike."""
    signs = (" " if sign.isspace() else sign for sign in unicodedata.normalize("NFC", text))
    return "".join(sign for sign in signs if unicodedata.category(sign) != "Cf").strip()


def _visible(text: str) -> str:
    """Escape the signs that nobody sees or tells from others."""
    return "".join(
        ascii(sign)[1:-1] if unicodedata.category(sign) in _UNSEEN and sign != " " else sign
        for sign in text
    )


def _clipped(text: str) -> str:
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a plain table on stdout."""
    print("\n".join(table(header, rows)))
