"""How results and errors are printed: stdout is the result, stderr is for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["print_json", "print_table", "say", "table"]


WIDEST = 100
"""Characters of a table's cell; longer texts are cut."""


def say(text: str = "") -> None:
    """Print a line for people, on stderr."""
    print(text, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Print one JSON object, the whole result of a command."""
    json.dump(value, sys.stdout, ensure_ascii=False, indent=2, allow_nan=False, default=str)
    sys.stdout.write("\n")


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    r"""Return lines of a plain table; numbers stand to the right.

    >>> print("\n".join(table(("label", "patches"), [("Tumor", 12), ("Stroma", 7)])))
    label   patches
    Tumor        12
    Stroma        7
    """
    rows = list(rows)
    cells = [[_clipped(str(cell)) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    right = [all(isinstance(row[i], int | float) for row in rows) for i in range(len(header))]
    return [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    ]


def _clipped(text: str) -> str:
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a plain table on stdout."""
    print("\n".join(table(header, rows)))
