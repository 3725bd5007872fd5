"""The command line: parse, call, print."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence

__all__ = ["main", "program"]

NEW_OBJECTS = 50_000
"""New objects between two looks for garbage; with Python's 700 the start of a process looks some
hundred times, and finds none."""


def program() -> int:
    """Run ``qupath-bridge`` as a process of its own, and return its exit status."""
    gc.set_threshold(NEW_OBJECTS)
    if sys.argv[1:2] == ["export"] and not {"-h", "--help"}.intersection(sys.argv):
        from qupath_bridge.quick_arrow import import_arrow

        import_arrow()  # an export needs it, and its start is what people wait for most often
    try:
        return main()
    finally:
        gc.freeze()  # the memory goes back as a whole: no last look through all that was loaded


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``qupath-bridge`` and return its exit status.

    0 ok · 1 some slides failed · 2 usage · 3 configuration · 4 project unreadable · 5 output
    refused · 6 something not installed · 130 interrupted.
    """
    from .app import run

    return run(list(sys.argv[1:] if arguments is None else arguments))
