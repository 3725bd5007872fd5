"""``verify`` and ``clean``."""

from __future__ import annotations

from dataclasses import asdict

from qupath_bridge import api

from .options import Given
from .output import print_json, print_table, say, show

__all__ = ["run_clean", "run_verify"]


def run_verify(out: str, pixels: int | None, given: Given, *, as_json: bool) -> int:
    """Check an output; 0 when nothing was found, else 1."""
    options = given.settings().options
    result = api.verify(
        out, pixels=pixels, reader=options.reader, slide_map=options.slide_map,
        pseudonymise=options.pseudonymise,
    )  # fmt: skip
    if as_json:
        print_json(
            {
                "schema_version": 1,
                "files": result.files,
                "pixels": result.pixels,
                "findings": [asdict(finding) for finding in result.findings],
            }
        )
        return 0 if result.ok else 1
    if result.findings:
        print_table(
            ("kind", "where", "problem"), [tuple(asdict(f).values()) for f in result.findings]
        )
    show(
        f"{result.files} patches checked, {result.pixels} of them against the slides: "
        + ("no problem found." if result.ok else f"{len(result.findings)} problems.")
    )
    if any(finding.kind == "slide" for finding in result.findings):
        say("Slides that moved are found with --slide-map OLD=NEW.")
    return 0 if result.ok else 1


def run_clean(out: str, given: Given, *, as_json: bool) -> int:
    """Remove what abandoned runs left."""
    removed = api.clean(out, break_lock=given.settings().options.break_lock)
    if as_json:
        print_json({"schema_version": 1, "removed": removed})
    else:
        show(f"{removed} files of abandoned runs removed.")
    return 0
