"""Convert a finished run to the layout of another tool."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qupath_bridge.errors import OutputError, UsageError
from qupath_bridge.frozen import OneLine
from qupath_bridge.outputs.base import Output
from qupath_bridge.pipeline.records import load_finished
from qupath_bridge.stores import local_path
from qupath_bridge.stores.new_folder import whole_folder

from .layouts import LAYOUTS, find_layout
from .layouts.base import RunRows, Written

__all__ = ["RECORD", "Converted", "convert"]

RECORD = "convert.json"
"""File that says which run a folder was made from."""
SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, repr=False)
class Converted(OneLine):
    """A run in the layout of another tool.

    Attributes
    ----------
    layout : str
    folder : Path
    patches, slides : int
        Numbers of those that are in it.
    left_out : mapping of str to int
        Patches that are not in it, by the reason.
    warnings : tuple of str
    """

    layout: str
    folder: Path
    patches: int
    slides: int
    left_out: Mapping[str, int]
    warnings: tuple[str, ...]


def convert(output: Output, folder: Path, to: str, options: Mapping[str, Any]) -> Converted:
    """Write a run into a new folder, in the layout of another tool: whole or not at all.

    Parameters
    ----------
    output : Output
        Of a finished run, which stays as it is.
    folder : Path
        New or empty; outside of the run.
    to : str
        Name of the layout.
    options : mapping
        Values of the options that are given; None for one that is not.

    Raises
    ------
    UsageError
        If there is no such layout, if it does not use an option, or if it cannot hold the patches.
    OutputError
        If there is no finished run; if the folder is not empty or cannot be written.
    """
    layout = find_layout(to)
    given = {name: value for name, value in options.items() if value is not None}
    if unused := sorted(given.keys() - set(layout.options)):
        users = sorted(name for name, each in LAYOUTS.items() if set(unused) <= set(each.options))
        raise UsageError(
            f"The layout {to!r} does not use {', '.join(unused)}.",
            hint=f"Leave it out, or convert to {' or '.join(users)}." if users else "Leave it out.",
        )
    if missing := [name for name in layout.needed if name not in given]:
        raise UsageError(
            f"The layout {to!r} needs {', '.join(missing)}.",
            hint="Features come from an encoder: one file per slide, docs/other-tools.md.",
        )
    _check_outside(output, folder)
    folder = folder.absolute()
    record = load_finished(output)
    write = layout.load()
    with whole_folder(folder) as new:
        written: Written = write(RunRows(output, record), new, **given)
        about = {
            "schema_version": SCHEMA_VERSION,
            "layout": to,
            "run_id": record["run_id"],
            "run_digest": record["run_digest"],
            "patches": written.patches,
            "slides": written.slides,
            "left_out": dict(written.left_out),
            **written.record,
        }
        text = json.dumps(about, indent=2, ensure_ascii=False)
        (new / RECORD).write_text(f"{text}\n", encoding="utf-8")
    return Converted(
        to, folder, written.patches, written.slides, written.left_out, written.warnings
    )


def _check_outside(output: Output, folder: Path) -> None:
    """Refuse a URL, and a folder among the files of the run."""
    if local_path(folder) is None:
        raise OutputError(
            f"{folder.as_posix()} is not a folder of this machine.", hint="Name a new folder."
        )
    place = local_path(output.url)
    if place is not None and folder.resolve().is_relative_to(place.resolve()):
        raise OutputError(
            f"{folder} is inside the output of the run.", hint="Name a folder outside of it."
        )
