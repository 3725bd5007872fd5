"""``convert``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from qupath_bridge import api
from qupath_bridge.frozen import count

from .output import print_json, say, show

__all__ = ["run_convert"]


def run_convert(out: str, folder: Path, to: str, *, as_json: bool, **options: Any) -> int:
    """Convert a run, and say what is in the new folder and what is not."""
    made = api.convert(out, folder, to, **options)
    if as_json:
        print_json({"schema_version": 1, **asdict(made), "folder": str(made.folder)})
        return 0
    for text in made.warnings:
        say(f"warning: {text}")
    for reason, number in made.left_out.items():
        show(f"left out: {count(number, 'patch', 'patches')} {reason}.")
    patches = count(made.patches, "patch", "patches")
    show(f"{patches} of {count(made.slides, 'slide')} written to {folder}.")
    return 0
