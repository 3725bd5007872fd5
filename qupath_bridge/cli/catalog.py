"""``catalog``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from qupath_bridge import api
from qupath_bridge.errors import UsageError
from qupath_bridge.frozen import count

from .output import print_json, print_table, say, show

__all__ = ["run_catalog"]

KEYS = ("label", "slide", "digest", "run")


def run_catalog(root: str, find: Sequence[str], *, as_json: bool) -> int:
    """Print the runs below a root, or the patches that were looked for; 1 if a place is damaged."""
    wanted = _criteria(find)
    lake = api.catalog(root)
    damaged = lake.damaged
    if wanted:
        found = lake.find(**wanted)
        damaged += found.damaged
        patches = found.table().to_pylist() if "digest" in wanted else None
        if as_json:
            print_json(_found_record(found, damaged, patches))
        else:
            _show_found(found, patches)
    elif as_json:
        print_json(_record(lake))
    else:
        _show_runs(lake)
    for copy in () if wanted else lake.copies:
        for reason in copy.stale:
            say(f"The copy {copy.place} is stale: {reason}.")
    for each in damaged:
        say(f"{each.place} was left out: {each.problem}")
    return 1 if damaged else 0


def _criteria(find: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in find]
    for text, (key, _, value) in zip(find, pairs, strict=True):
        if key not in KEYS or not value:
            raise UsageError(
                f"--find {text!r} is not KEY=VALUE with a known key.",
                hint=f"Known keys: {', '.join(KEYS)}; for example --find label=Tumor.",
            )
    wanted = {key: value for key, _, value in pairs}
    if len(wanted) < len(pairs):
        raise UsageError(
            "--find has a key twice.", hint="Ask once per value; all keys have to hold together."
        )
    return wanted


def _record(lake: api.Catalog) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "root": lake.root,
        "runs": [
            {**asdict(run), "patches": run.patches, "labels": run.labels} for run in lake.runs
        ],
        "copies": [asdict(copy) for copy in lake.copies],
        "damaged": [asdict(each) for each in lake.damaged],
    }


def _found_record(
    found: api.Found, damaged: Sequence[Any], patches: Sequence[Mapping[str, Any]] | None
) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "patches": found.patches,
        "slides": [asdict(slide) for slide in found.slides],
        "damaged": [asdict(each) for each in damaged],
        **({} if patches is None else {"rows": patches}),
    }


def _show_runs(lake: api.Catalog) -> None:
    print_table(
        ("run", "state", "slides", "patches", "labels", "settings", "date", "place"),
        [
            (
                run.run_id,
                run.state,
                len(run.slides),
                "?" if run.patches is None else run.patches,
                ", ".join(f"{label} {number}" for label, number in run.labels.items()) or "-",
                run.config_digest.rpartition(":")[2][:12],
                (run.finished or run.started)[:19],
                run.place,
            )
            for run in lake.runs
        ],
    )
    for copy in lake.copies:
        state = "stale" if copy.stale else "current"
        show(f"copy {copy.version}, {state}, {count(copy.rows, 'row', 'rows')}, in {copy.place}")


def _show_found(found: api.Found, patches: Sequence[Mapping[str, Any]] | None) -> None:
    if patches is not None:
        for row in patches:
            show(f"{row['patch_id']}  {row['place']}  {row['path']}")
    else:
        header = ("run", "slide", "patches", "place")
        rows = [(s.run_id, s.slide_name, s.patches, s.place) for s in found.slides]
        print_table(header, rows)
    slides = count(len(found.slides), "slide", "slides")
    show(f"{count(found.patches, 'patch', 'patches')} of {slides}.")
