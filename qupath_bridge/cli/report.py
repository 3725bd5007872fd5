"""``report``."""

from __future__ import annotations

from pathlib import Path

from qupath_bridge import api

from .options import Given
from .output import print_json, show

__all__ = ["run_report"]


def run_report(out: str, file: Path | None, given: Given, *, as_json: bool) -> int:
    """Write the page of a run, and say where it is."""
    options = given.settings().options
    page = api.report(
        out, file, reader=options.reader, slide_map=options.slide_map,
        pseudonymise=options.pseudonymise,
    )  # fmt: skip
    if as_json:
        print_json({"schema_version": 1, "report": page})
    else:
        show(page)
    return 0
