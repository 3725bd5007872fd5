"""``predictions``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from qupath_bridge import api
from qupath_bridge.errors import UsageError
from qupath_bridge.frozen import count

from .options import Given
from .output import print_json, print_table, say, show

__all__ = ["run_predictions"]

SHOWN = 20
"""Measurements that people are shown; --json has them all."""


def run_predictions(
    target: str,
    name: str,
    given: Given,
    *,
    table: Path | None,
    run: str | None,
    columns: Sequence[str],
    add: Sequence[str],
    hard: int | None,
    hard_by: str | None,
    undo: bool,
    direct: bool,
    force: bool,
    keep: int | None,
    as_json: bool,
) -> int:
    """Put predictions into a project, or take them out again, and say what QuPath shows."""
    of_table = table is not None or columns or add or hard is not None or hard_by is not None
    if undo == (table is not None) or (undo and of_table):
        raise UsageError(
            "Pass either --table, or --undo without --column, --add, --hard and --hard-by."
        )
    if hard_by is not None and hard is None:
        raise UsageError("--hard-by goes with --hard.")
    if not direct and (force or keep is not None or {"engine", "qupath"} & given.flags.keys()):
        raise UsageError("--force, --keep-backups, --engine and --qupath go with --direct.")
    options = given.settings().options
    how: dict[str, Any] = {
        "run": run, "direct": direct, "force": force, "pseudonymise": options.pseudonymise,
    }  # fmt: skip
    if direct:
        how |= {"engine": options.engine, "qupath": options.qupath}
        how |= {} if keep is None else {"keep": keep}
    if undo:
        done = api.undo_predictions(target, name, **how)
    else:
        done = api.predictions(
            target, table, name, columns=columns, add=add, hard=hard,
            hard_by=hard_by or "entropy", **how,
        )  # fmt: skip
    if as_json:
        print_json({"schema_version": 1, **_record(done)})
    else:
        _print(done, undo=undo)
    return 1 if done.failed else 0


def _record(done: api.Predictions) -> dict[str, Any]:
    return {
        "name": done.name,
        "run_id": done.run_id,
        "folders": [str(folder) for folder in done.folders],
        "measurements": [asdict(each) for each in done.measurements],
        "tiles": done.tiles,
        "without": done.without,
        "elsewhere": done.elsewhere,
        "left_out": list(done.left_out),
        "hard": [str(path) for path in done.hard],
        "written": [
            {
                "backup": None if each.backup is None else str(each.backup),
                "warnings": list(each.warnings),
                "entries": [asdict(entry) for entry in each.entries],
            }
            for each in done.written
        ],
    }


def _print(done: api.Predictions, *, undo: bool) -> None:
    if undo:
        show(f"{done.name} was removed from run {done.run_id}.")
    else:
        _print_legend(done)
    for path in done.hard:
        show(f"The hard patches: {path}")
    for written in done.written:
        _print_written(written)
    if not done.written:
        show(
            "In QuPath: Extensions > Patch bridge > Show patches of a run, or run "
            "import_provenance.groovy. Without QuPath: add --direct to this command."
        )
    elif not undo:
        show(
            "In QuPath: Measure > Show measurement maps. The key F fills the tiles, and N hides "
            "their names."
        )


def _print_legend(done: api.Predictions) -> None:
    rows = [
        (each.name, each.kind, each.patches, _number(each.minimum), _number(each.maximum))
        for each in done.measurements[:SHOWN]
    ]
    print_table(("measurement", "kind", "tiles", "from", "to"), rows)
    if len(done.measurements) > SHOWN:
        show(f"and {len(done.measurements) - SHOWN} more; --json lists all")
    show(f"{count(done.tiles, 'tile')} of run {done.run_id} with predictions {done.name}.")
    if done.without:
        show(f"{count(done.without, 'tile')} of the run without: the table has nothing of them.")
    if done.elsewhere:
        show(f"{count(done.elsewhere, 'row')} about slides of other projects of the run.")
    if done.left_out:
        show(f"left out: {', '.join(done.left_out)}; --column takes them.")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _print_written(written: api.WriteBack) -> None:
    for warning in written.warnings:
        say(f"warning: {warning}")
    rows = [(e.entry_id, e.slide_name, e.state, e.added, e.removed, e.measured)
            for e in written.entries]  # fmt: skip
    print_table(("entry", "slide", "state", "tiles added", "removed", "measured"), rows)
    for entry in written.entries:
        if entry.problem:
            say(f"error: {entry.slide_name}: {entry.problem}", logging.ERROR)
        for message in entry.messages:
            show(f"{entry.slide_name}: {message}")
        if entry.unmeasured:
            show(
                f"{entry.slide_name}: {count(entry.unmeasured, 'tile')} left as they are, since "
                "they are locked, or have a colour or description of their own."
            )
    if written.backup is not None:
        show(f"The data as they were: {written.backup}")
