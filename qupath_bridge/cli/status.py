"""``status``."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from qupath_bridge import api

from .corrections import correction_lines, corrections_record
from .options import Given, with_flags, words_of
from .output import print_json, show

__all__ = ["run_status"]

Item = TypeVar("Item")

SHOWN = 10
"""Runs, slides, reasons and patch ids that are listed for people; --json has them all."""


def run_status(
    path: Path, given: Given, *, outs: Sequence[str], exit_code: bool, as_json: bool
) -> int:
    """Show the runs of a project and what a re-run of each would change."""
    options = given.settings().options
    with api.open_project(
        api.find_project_file(path),
        engine=options.engine,
        qupath=options.qupath,
        slide_map=options.slide_map,
        search=options.search,
        annotations=options.annotations,
        skip_bad_features=options.skip_bad_features,
    ) as project:
        runs = api.status(project, runs=outs)
        stored = project.info.is_stored  # nobody wrote there
        backups = [] if stored else [_backup(backup) for backup in api.stored_data(project)]
        corrections = api.Corrections() if stored else api.corrections(project)
    stale = any(run.state == "stale" for run in runs)
    code = 1 if _nothing_seen(runs) or (exit_code and stale) else 0
    if as_json:
        print_json(
            {
                "schema_version": 1,
                "project": project.info.shown,
                "runs": [
                    {
                        "run_id": run.run_id,
                        "state": run.state,
                        "finished": run.finished,
                        "out": run.out,
                        "out_found": run.out_found,
                        "predictions": list(run.predictions),
                        "superseded_by": run.superseded_by,
                        "problem": run.problem,
                        "entries": [asdict(entry) for entry in run.entries],
                    }
                    for run in runs
                ],
                "write_backs": backups,
                "corrections": corrections_record(corrections),
            }
        )
        return code
    if not runs:
        show(
            "The project is in object storage and has no run in its folder. --run OUT shows one "
            "that has its provenance beside the patches."
            if stored
            else "No run has been exported from this project yet."
        )
    for run in _last(runs, "older runs"):
        _print_run(run)
    for line in correction_lines(corrections):
        show(line)
    for backup in _last(backups, "older write-backs"):
        _print_backup(backup)
    return code


def _nothing_seen(runs: Sequence[api.RunStatus]) -> bool:
    """Return whether there are runs, and nothing of them can be compared with the project."""
    states = {entry.state for run in runs for entry in run.entries}
    return states == {"unknown"} if states else any(run.problem for run in runs)


def _last(items: Sequence[Item], what: str) -> Iterator[Item]:
    """Yield the last items, and print how many there are before them."""
    left_out = len(items) - SHOWN
    if left_out > 0:
        show(f"{left_out} {what} are left out; --json lists all.")
    yield from items[-SHOWN:]


def _first(items: Sequence[Item], what: str, indent: str) -> Iterator[Item]:
    """Yield the first items, and print how many there are behind them."""
    yield from items[:SHOWN]
    left_out = len(items) - SHOWN
    if left_out > 0:
        show(f"{indent}and {left_out} more {what}; --json lists all")


def _backup(found: tuple[api.Backup, Mapping[str, str]]) -> dict[str, Any]:
    backup, states = found
    return {
        "folder": str(backup.folder),
        "action": backup.action,
        "run_id": backup.run_id,
        "started": backup.started,
        "engine": backup.engine,
        "entries": [
            {
                "entry_id": change.entry_id,
                "slide_name": change.slide_name,
                "state": states[change.entry_id],
                "added": len(change.added),
                "removed": len(change.removed),
            }
            for change in backup.changes.values()
        ],
    }


def _print_backup(backup: Mapping[str, Any]) -> None:
    done = "written into QuPath's data" if backup["action"] == "write" else "removed again"
    show(f"{backup['run_id']}  {done}  {backup['started']} by the engine {backup['engine']}")
    show(f"  the data as they were: {backup['folder']}")
    for entry in _first(backup["entries"], "slides", "  "):
        show(
            f"  {entry['slide_name']} (entry {entry['entry_id']}): {entry['state']}, "
            f"{entry['added']} tiles added, {entry['removed']} removed"
        )


def _print_run(run: api.RunStatus) -> None:
    if run.problem:
        show(f"{run.run_id}  {run.state}: {run.problem}")
        return
    show(f"{run.run_id}  {run.state}  finished {run.finished}  {run.out}")
    if run.predictions:
        show(f"  predictions: {', '.join(run.predictions)}")
    if run.superseded_by:
        show(f"  the output folder holds a newer run, {run.superseded_by}")
        return
    if not run.out_found:
        show("  the output no longer exists")
    # What needs a look comes first.
    for entry in _first(sorted(run.entries, key=lambda e: e.state == "current"), "slides", "  "):
        show(f"  {entry.slide_name} (entry {entry.entry_id}): {entry.state}")
        for reason in _first(entry.reasons, "reasons", "    "):
            show(f"    {with_flags(reason)}")
        for words, patches in (
            ("new", entry.added),
            ("gone", entry.removed),
            ("labelled otherwise", entry.label_changed),
            ("with other pixels", entry.pixels_changed),
            ("contested, as the rule says something else now", entry.contested),
        ):
            if patches:
                more = f" and {len(patches) - SHOWN} more" if len(patches) > SHOWN else ""
                show(f"    {len(patches)} {words}: {', '.join(patches[:SHOWN])}{more}")
    if run.state == "stale" and run.settings is not None:
        command = ["qupath-bridge", "export", *run.projects, "--out", run.out]
        words = shlex.join([*command, *words_of(run.settings), "--update"])
        show(f"  bring it up to date: {words}")
