"""``write-back``."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from qupath_bridge import api
from qupath_bridge.errors import InterruptedRunError, UsageError
from qupath_bridge.frozen import count

from .options import Given
from .output import print_json, print_table, say, show

__all__ = ["run_write_back"]


def run_write_back(
    path: Path,
    run: str | None,
    undo: str | None,
    given: Given,
    *,
    direct: bool,
    dry_run: bool,
    replace: bool,
    discard_corrections: bool,
    force: bool,
    keep: int,
    as_json: bool,
) -> int:
    """Write a run into its project, its tiles into QuPath's data, or remove them again."""
    if (run is None) == (undo is None):
        raise UsageError("Pass exactly one of --run or --undo.")
    if undo is not None and (
        direct or replace or discard_corrections or "pseudonymise" in given.flags
    ):
        raise UsageError(
            "--direct, --replace, --discard-corrections and --pseudonymise go with --run, not with "
            "--undo."
        )
    of_direct = given.flags.keys() - {"pseudonymise"}
    if run is not None and not direct and (replace or discard_corrections or force or of_direct):
        raise UsageError(
            "--replace, --discard-corrections, --force, --entry, --engine and --qupath go with "
            "--direct."
        )
    settings = given.settings()
    selection = settings.selection if settings.selection.entry else None
    engine, qupath = settings.options.engine, settings.options.qupath
    key = settings.options.pseudonymise
    with api.open_project(api.find_project_file(path), engine="embedded") as project:
        if run is not None and not direct:
            run_id, written = api.ensure_provenance(project, run, dry_run=dry_run, pseudonymise=key)
            return _print_written(project, run_id, written, dry_run=dry_run, as_json=as_json)
        if undo is not None:
            done = api.undo_write_back(
                project, undo, engine=engine, qupath=qupath, selection=selection,
                dry_run=dry_run, keep=keep, force=force,
            )  # fmt: skip
        else:
            try:
                done = api.write_back(
                    project, run or "", engine=engine, qupath=qupath, selection=selection,
                    replace=replace, discard_corrections=discard_corrections, dry_run=dry_run,
                    keep=keep, force=force, pseudonymise=key,
                )  # fmt: skip
            except InterruptedRunError as error:
                command = _undo_command(path, run or "")
                raise InterruptedRunError(
                    error.message, hint=f"Run it again to finish. Remove the tiles: {command}"
                ) from error
    for warning in done.warnings:
        say(f"warning: {warning}")
    if as_json:
        print_json({"schema_version": 1, "project": str(project.info.path), **_record(done)})
    else:
        _print_done(path, done)
    return 1 if done.failed else 0


def _record(done: api.WriteBack) -> dict[str, object]:
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


def _print_done(path: Path, done: api.WriteBack) -> None:
    rows = [(e.entry_id, e.slide_name, e.state, e.added, e.removed) for e in done.entries]
    print_table(("entry", "slide", "state", "tiles added", "removed"), rows)
    for entry in done.entries:
        if entry.problem:
            say(f"error: {entry.slide_name}: {entry.problem}", logging.ERROR)
        for line in _said_lines(entry):
            show(f"{entry.slide_name}: {line}")
        for run, number in entry.other_runs.items():
            show(f"{entry.slide_name}: {number} tiles of run {run} stay; they may overlap.")
    if done.dry_run:
        show("Nothing was changed.")
    elif done.backup is not None:
        show(f"The data as they were: {done.backup}")
        if done.action == "write":
            show(f"Remove the tiles again: {_undo_command(path, done.run_id)}")


def _said_lines(entry: api.EntryChange) -> Iterator[str]:
    """Yield what people said about the tiles of a slide, and what came of it."""
    yield from entry.messages
    if entry.collected:
        yield f"Stored {count(entry.collected, 'statement')} about patches."
    if entry.corrected:
        yield (
            f"{entry.corrected} tiles keep the class that somebody gave them. "
            "--discard-corrections shows the run's."
        )
    if entry.rejected:
        yield f"{entry.rejected} rejected tiles stay out. --discard-corrections shows them again."
    if entry.restored:
        yield f"{entry.restored} tiles that were missing were put back."


def _undo_command(path: Path, run: str) -> str:
    return shlex.join(["qupath-bridge", "write-back", str(path), "--undo", run])


def _print_written(
    project: api.Project, run_id: str, written: api.Provenance, *, dry_run: bool, as_json: bool
) -> int:
    """Say where a run was written and how QuPath imports it."""
    if as_json:
        print_json(
            {
                "schema_version": 1,
                "project": str(project.info.path),
                "action": "write",
                "run_id": run_id,
                "folder": str(written.folder),
                "warning": written.warning,
                "dry_run": dry_run,
            }
        )
        return 1 if written.warning else 0
    if written.warning:
        say(f"warning: {written.warning}")
        return 1
    show(f"{run_id} {'would be written to' if dry_run else 'is in'} {written.folder}")
    show(
        "To see its tiles: open the project in QuPath, open import_provenance.groovy in the "
        "script editor, and choose Run > Run for project."
    )
    show("Without QuPath: add --direct to this command.")
    return 0
