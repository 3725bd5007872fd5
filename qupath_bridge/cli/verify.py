"""``verify``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from qupath_bridge.config import ExportConfig
from qupath_bridge.pipeline.verify import verify

from .output import print_json, print_table, say

__all__ = ["run_verify"]


def run_verify(out: Path, pixels: int | None, slide_map: Sequence[str], *, as_json: bool) -> int:
    """Check an output folder; 0 when nothing was found, else 1."""
    places = ExportConfig.parse({"slide_map": list(slide_map)}).slide_map
    result = verify(out, pixels=pixels, find_slide=lambda slide: _moved(slide, places))
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
            ("what", "where", "problem"), [tuple(asdict(f).values()) for f in result.findings]
        )
    print(
        f"{result.files} files checked, {result.pixels} of them against the slides: "
        + ("all as they should be." if result.ok else f"{len(result.findings)} problems.")
    )
    if any(finding.kind == "slide" for finding in result.findings):
        say("Slides that moved are found with --slide-map OLD=NEW.")
    return 0 if result.ok else 1


def _moved(slide: Mapping[str, Any], places: Mapping[str, str]) -> Path | None:
    """Return where a slide is now, by the user's map of old to new places."""
    for old, new in places.items():
        rest = slide["path"].removeprefix(old)
        # /data/a is no beginning of /data/ab/slide.svs.
        if rest != slide["path"] and (old[-1] in "/\\" or rest[:1] in {"", "/", "\\"}):
            return Path(new + rest)
    return None
