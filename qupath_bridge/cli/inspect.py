"""``inspect``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qupath_bridge import api

from .options import Given
from .output import print_json, print_table, say, show

__all__ = ["run_inspect"]

SHOWN = 8
"""Values of a metadata key that are listed."""


def run_inspect(sources: Sequence[Path], given: Given, *, as_json: bool) -> int:
    """Show projects; 1 if no slide of them can be exported, else problems are only told."""
    found = api.inspect(sources, given.settings().options)
    code = 0 if any(each.readable for each in found) else 1
    if as_json:
        results = [
            {
                "schema_version": 1,
                "project": dict(each.project),
                "classes": list(each.classes),
                "entries": list(each.slides),
                "problems": list(each.problems),
            }
            for each in found
        ]
        print_json(results[0] if len(results) == 1 else {"projects": results})
        return code
    for each in found:
        _print(each)
    return code


def _print(found: api.Inspection) -> None:
    project = found.project
    version = "" if project["plain"] else f"  (QuPath {project['version'] or 'unknown'})"
    show(f"{project['path']}{version}")
    reason = f": {project['engine_reason']}" if project["engine_reason"] else ""
    show(f"read by the engine {project['engine']}{reason}")
    show()
    print_table(
        (
            "entry",
            "slide",
            "size",
            "pixels",
            "µm/px",
            "from",
            "objective",
            "annotations",
            "slide file",
        ),
        [
            (
                slide["entry_id"],
                slide["name"],
                "?" if slide["size"] is None else "{} x {}".format(*slide["size"]),
                slide["pixels"] or "?",
                "-" if slide["pixel_size"] is None else f"{slide['pixel_size']['x']:.4g}",
                "-" if slide["pixel_size"] is None else slide["pixel_size"]["origin"],
                "-" if slide["magnification"] is None else f"{slide['magnification']:g}x",
                "?" if slide["objects"] is None else slide["objects"].get("annotation", 0),
                slide["path"] or "not found",
            )
            for slide in found.slides
        ],
    )
    show()
    print_table(
        ("class", "colour", "annotations", "area px²"),
        [(c["name"], c["color"] or "-", c["count"], round(c["area_px2"])) for c in found.classes],
    )
    _print_channels(found)
    _print_selectors(found)
    for problem in found.problems:
        say(f"problem: {problem}")


def _print_channels(found: api.Inspection) -> None:
    """List the channels of slides that are not RGB, under QuPath's names and the file's own."""
    rows = []
    for slide in found.slides:
        known = slide["channels"]
        if known is None or known["is_rgb"]:
            continue
        own = known["file_names"]
        for number, (name, color) in enumerate(zip(known["names"], known["colors"], strict=True)):
            in_file = own[number] if len(own) == len(known["names"]) else ", ".join(own)
            rows.append((slide["entry_id"], number + 1, name, color, known["dtype"], in_file))
    if rows:
        show()
        print_table(("entry", "channel", "name", "colour", "type", "name in the file"), rows)


def _print_selectors(found: api.Inspection) -> None:
    """List what --where and --tag can select by."""
    keys = sorted({key for slide in found.slides for key in slide["metadata"]})
    tags = sorted({tag for slide in found.slides for tag in slide["tags"]})
    rows = []
    for key in keys:
        values = sorted({s["metadata"][key] for s in found.slides if key in s["metadata"]})
        more = f", and {len(values) - SHOWN} more" if len(values) > SHOWN else ""
        rows.append((key, ", ".join(values[:SHOWN]) + more))
    if rows:
        show()
        print_table(("metadata", "values"), rows)
    if tags:
        show()
        show(f"tags: {', '.join(tags)}")
