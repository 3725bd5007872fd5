"""``compact``."""

from __future__ import annotations

from dataclasses import asdict

from qupath_bridge import api
from qupath_bridge.frozen import count

from .output import print_json, show

__all__ = ["run_compact"]


def run_compact(
    root: str, out: str, *, by: str, file_size: str, images: bool, as_json: bool
) -> int:
    """Copy the patches of all runs below a root into few files, and say how many."""
    keys = [name for name in by.split(",") if name]
    made = api.compact(root, out, by=keys, file_size=file_size, images=images)
    if as_json:
        print_json({"schema_version": 1, **asdict(made)})
        return 0
    there = f", {made.reused} of them there already" if made.reused else ""
    show(
        f"{count(made.rows, 'row', 'rows')} of {count(len(made.runs), 'run', 'runs')} in "
        f"{count(made.files, 'file', 'files')}{there}: {made.place}/data/{made.version}"
    )
    return 0
