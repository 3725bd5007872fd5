"""``write-back``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from qupath_bridge import api
from qupath_bridge.config import ExportConfig
from qupath_bridge.errors import UsageError
from qupath_bridge.pipeline.select import select_slides
from qupath_bridge.roundtrip.provenance import Provenance, ensure_provenance, run_named
from qupath_bridge.roundtrip.write_back import WriteBack
from qupath_bridge.sources.base import Project

from .output import print_json, print_table, say

__all__ = ["run_write_back"]


def run_write_back(
    path: Path,
    run: str | None,
    undo: str | None,
    *,
    direct: bool,
    dry_run: bool,
    replace: bool,
    entry: Sequence[str],
    engine: str,
    qupath: Path | None,
    keep: int,
    as_json: bool,
) -> int:
    """Lay a run into a project, put its tiles into QuPath's data, or take them out."""
    if (run is None) == (undo is None):
        raise UsageError("Say exactly one of --run ID and --undo ID.")
    if undo is not None and (direct or replace):
        raise UsageError("--direct and --replace go with --run, not with --undo.")
    if run is not None and not direct and (replace or entry):
        raise UsageError("--replace and --entry go with --direct.")
    # What is to be written is decided by the files alone, so the reader of files will do.
    with api.open_project(path, engine="embedded") as project:
        if run is not None:
            run_id, laid = ensure_provenance(project, run, dry_run=dry_run)
            if not direct:
                return _print_laid(project, run_id, laid, dry_run=dry_run, as_json=as_json)
        slides = select_slides(project.slides, ExportConfig(entry=tuple(entry))) if entry else None
        if undo is not None:
            done = api.undo_write_back(
                project, run_named(project.info, undo), engine=engine, qupath=qupath,
                slides=slides, dry_run=dry_run, keep=keep,
            )  # fmt: skip
        else:
            done = api.write_back(
                project, run_id, engine=engine, qupath=qupath, slides=slides, replace=replace,
                dry_run=dry_run, keep=keep,
            )  # fmt: skip
    for warning in done.warnings:
        say(f"warning: {warning}")
    if as_json:
        print_json({"schema_version": 1, "project": str(project.info.path), **_record(done)})
    else:
        _print_done(path, done)
    return 1 if done.failed else 0


def _record(done: WriteBack) -> dict[str, object]:
    return {
        "action": done.action,
        "run_id": done.run_id,
        "engine": done.engine,
        "dry_run": done.dry_run,
        "backup": None if done.backup is None else str(done.backup),
        "pruned": [str(folder) for folder in done.pruned],
        "warnings": list(done.warnings),
        "entries": [asdict(each) for each in done.entries],
    }


def _print_done(path: Path, done: WriteBack) -> None:
    rows = [(e.entry_id, e.slide_name, e.state, e.added, e.removed) for e in done.entries]
    print_table(("entry", "image", "state", "tiles added", "removed"), rows)
    for entry in done.entries:
        if entry.problem:
            say(f"error: {entry.slide_name}: {entry.problem}")
    if done.dry_run:
        print("Nothing was changed.")
    elif done.backup is not None:
        print(f"The data as they were: {done.backup}")
        if done.action == "write":
            undo = ["qupath-bridge", "write-back", str(path), "--undo", done.run_id]
            print(f"Take the tiles out again: {shlex.join(undo)}")


def _print_laid(
    project: Project, run_id: str, laid: Provenance, *, dry_run: bool, as_json: bool
) -> int:
    """Say where a run lies and how QuPath imports it."""
    if as_json:
        print_json(
            {
                "schema_version": 1,
                "project": str(project.info.path),
                "action": "lay",
                "run_id": run_id,
                "folder": str(laid.folder),
                "warning": laid.warning,
                "dry_run": dry_run,
            }
        )
        return 1 if laid.warning else 0
    if laid.warning:
        say(f"warning: {laid.warning}")
        return 1
    print(f"{run_id} {'would lie' if dry_run else 'lies'} in {laid.folder}")
    print(
        "To see its tiles: open the project in QuPath, open import_provenance.groovy in the "
        "script editor, and choose Run > Run for project.\n"
        "Without QuPath: add --direct to this command."
    )
    return 0
