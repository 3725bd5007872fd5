"""``project create``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from qupath_bridge import api
from qupath_bridge.frozen import count

from .options import Given
from .output import print_json, say, show

__all__ = ["run_create"]


def run_create(
    folder: Path, slides: Sequence[Path], classes: Sequence[str], given: Given, *, as_json: bool
) -> int:
    """Make a project over slides; 1 if some of them cannot be read, the others are in it."""
    names = [name.strip() for text in classes for name in text.split(",") if name.strip()]
    made = api.create_project(folder, slides, classes=names, options=given.settings().options)
    if as_json:
        print_json(
            {
                "schema_version": 1,
                "project": str(made.path),
                "slides": made.slides,
                "failures": [
                    {"entry_id": f.entry_id, "slide_name": f.slide_name, "error": f.error}
                    for f in made.failures
                ],
            }
        )
    else:
        for line in api.failure_lines(made.failures):
            say(f"failed: {line}", logging.ERROR)
        show(f"{count(made.slides, 'slide')} in {made.path}")
    return 1 if made.failures else 0
