"""``describe``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qupath_bridge import api

from .output import print_json, say, show

__all__ = ["run_describe"]


def run_describe(out: str, formats: Sequence[str], *, as_json: bool, **about: Any) -> int:
    """Describe a run, and say what was written."""
    made = api.describe(out, formats, **about)
    if as_json:
        print_json(
            {
                "schema_version": 1,
                "run_id": made.run_id,
                "files": list(made.files),
                "warnings": list(made.warnings),
            }
        )
        return 0
    for text in made.warnings:
        say(f"warning: {text}")
    show(f"{' and '.join(made.files)} written to {out}.")
    return 0
