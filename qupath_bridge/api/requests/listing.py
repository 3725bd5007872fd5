"""The request ``runs``: the runs of a project, and those that were stopped."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qupath_bridge.errors import BridgeError
from qupath_bridge.outputs import open_output
from qupath_bridge.pipeline.cancel import Cancel
from qupath_bridge.pipeline.records import check_named, load_record
from qupath_bridge.roundtrip.run_words import settings_words
from qupath_bridge.roundtrip.runs import ProjectRuns
from qupath_bridge.roundtrip.status import status
from qupath_bridge.schemas import SlideFacts
from qupath_bridge.stores.local import LocalStore

from .exporting import unfinished
from .opened import open_request_project
from .protocol import Emit, ProjectRequest, Text

__all__ = ["RunsRequest", "runs"]


class RunsRequest(ProjectRequest):
    """Ask for the runs of a project.

    Attributes
    ----------
    entry : str or None
        Only runs that exported this slide; counts are then those of the slide.
    stale : bool
        Whether each run is compared with the project of today, which plans all its slides.
    out : str or None
        An output besides those in the project, in which a stopped run may be.
    """

    entry: Text | None = None
    stale: bool = False
    out: Text | None = None


def runs(request: RunsRequest, emit: Emit, cancel: Cancel | None = None) -> Mapping[str, Any]:
    """Return the runs, newest first, and the runs that can be resumed, oldest first.

    A run whose record is damaged does not hide the others: a message says what to do.
    """
    with open_request_project(request.project) as project:
        known = ProjectRuns(project.info)
        states = {run.run_id: run.state for run in status(project)} if request.stale else {}
        folder = project.info.bridge_folder
    asked = [
        run_id
        for run_id in reversed(tuple(known.folders))
        if request.entry is None or known.has(run_id, request.entry)
    ]
    found = [
        _run(known, run_id, request.entry, states.get(run_id))
        for run_id in asked
        if known.record(run_id)
    ]
    problems = [problem for run_id in asked if (problem := known.problem(run_id))]
    places = [] if request.out is None else [request.out]
    stopped = [dataclasses.asdict(each) for each in unfinished(folder, places)]
    return {"runs": found, "unfinished": stopped, "messages": problems}


def _run(known: ProjectRuns, run_id: str, entry: str | None, state: str | None) -> dict[str, Any]:
    record, folder = known.record(run_id), known.folders[run_id]
    slides = [slide for slide in record["slides"] if slide["project"] == record["project"]]
    wanted = [slide for slide in slides if entry in (None, slide["entry_id"])]
    labels: Counter[str] = Counter()
    for slide in wanted:
        labels.update(_labels(folder, slide["entry_id"]))
    return {
        "run_id": run_id,
        "started": record["started"],
        "out": record["out"],
        "out_exists": _exists(record["out"]),
        "settings": settings_words(record["config"]),
        "options": dict(record["config"]),
        "labels": dict(sorted(labels.items())),
        "slides": len(slides),
        "entries": [slide["entry_id"] for slide in slides],
        "stale": None if state in (None, "unknown", "unreadable") else state != "current",
    }


def _labels(folder: Path, entry_id: str) -> Mapping[str, int]:
    """Return the patches of a slide by label; none if it failed in the run."""
    name = f"{entry_id}.json"
    try:
        facts = load_record(LocalStore(folder), name, SlideFacts)
        check_named(facts, entry_id=entry_id, path=folder / name)
    except BridgeError:
        return {}
    labels: Mapping[str, int] = facts["counts"]["by_label"]
    return labels


def _exists(out: str) -> bool:
    try:
        open_output(out)
    except BridgeError:
        return False
    return True
