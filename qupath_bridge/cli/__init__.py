"""The command line: parse, call, print."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``qupath-bridge`` and return its exit status.

    0 ok · 1 some slides failed · 2 usage · 3 configuration · 4 project unreadable · 5 output
    refused · 6 something not installed · 130 interrupted.
    """
    from .app import run

    return run(list(sys.argv[1:] if arguments is None else arguments))
