"""The request ``export``: write patches of a project, and say what came of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain, count
from pathlib import Path
from typing import Any

from pydantic import Field

from qupath_bridge.api.exporting import export as export_run
from qupath_bridge.config import ExportConfig, RunOptions, Selection, Settings
from qupath_bridge.errors import BridgeError, InterruptedRunError, OutputError, UsageError
from qupath_bridge.outputs import open_output
from qupath_bridge.pipeline.cancel import Cancel
from qupath_bridge.pipeline.progress import listener
from qupath_bridge.pipeline.records import RUN_FILE, load_record
from qupath_bridge.pipeline.run import Run
from qupath_bridge.schemas import RunRecord
from qupath_bridge.urls import shown

from .opened import live_folder, open_request_project, request_settings, slide_of
from .protocol import Emit, ProjectRequest, Text

__all__ = ["ExportRequest", "Unfinished", "export", "unfinished"]

PATCHES = "patches"
"""Folder of the outputs that nobody named, in our folder of a project."""


class ExportRequest(ProjectRequest):
    """Ask for an export.

    Attributes
    ----------
    entries : list of str or None
        Entry IDs; None is all slides.
    out : str or None
        Output; None is a new folder in ``<project>/qupath_bridge/patches``, or with ``resume`` the
        one there that was stopped last.
    options : dict or None
        By the names of a configuration file; None with ``resume`` or ``add`` is those of the run.
    live : dict of str to str
        GeoJSON files with the annotations that QuPath shows, by entry ID.
    resume : bool
        Whether a run that was stopped is finished.
    add : bool
        Whether the slides that the output has stay in it, so that slides can be added one by one.
    """

    entries: list[Text] | None = None
    out: Text | None = None
    options: dict[str, Any] | None = None
    live: dict[str, Text] = Field(default_factory=dict)
    resume: bool = False
    add: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Unfinished:
    """A run that was stopped, and can be resumed.

    Attributes
    ----------
    out : str
    started : str
        ISO 8601, UTC.
    slides, slides_done : int
    entries : tuple of str
    """

    out: str
    started: str
    slides: int
    slides_done: int
    entries: tuple[str, ...]


def export(request: ExportRequest, emit: Emit, cancel: Cancel | None = None) -> Mapping[str, Any]:
    """Export, and return counts, warnings and failures."""
    with open_request_project(request.project) as project:
        for entry in request.entries or ():
            slide_of(project, entry)
        folder = project.info.bridge_folder
    out = request.out or _default_out(folder, request)
    try:
        with live_folder(request.live) as on_screen:
            settings = _settings(request, out).replace(**on_screen)
            if settings.options.corrections == "auto" and not request.resume:
                settings = settings.replace(reviewer=request.reviewer)
            run = export_run(
                request.project, out, settings.config,
                selection=settings.selection, options=settings.options,
                on_progress=listener(emit), cancel=cancel,
                command=["qupath-bridge", "request", "export"],
            )  # fmt: skip
    except KeyboardInterrupt:
        raise InterruptedRunError("The export was stopped; it can be resumed.") from None
    value = _value(run, folder)
    for text in value["warnings"]:
        emit({"event": "warning", "text": text})
    return value


def unfinished(folder: Path, places: Sequence[str] = ()) -> tuple[Unfinished, ...]:
    """Return the runs of a project that were stopped, oldest first.

    Parameters
    ----------
    folder : Path
        Our folder in the project.
    places : sequence of str
        Outputs to look at besides those in the project.
    """
    root = folder / PATCHES
    inside = sorted(path.parent for path in root.glob(f"*/{RUN_FILE}"))
    found = [_unfinished(str(place)) for place in (*inside, *places)]
    return tuple(sorted((each for each in found if each), key=lambda each: each.started))


def _unfinished(place: str) -> Unfinished | None:
    try:
        output = open_output(place)
        record = load_record(output, RUN_FILE, RunRecord)
        done = len(list(output.slides()))
    except BridgeError:
        return None  # whoever exports into it is told
    if record["state"] != "running":
        return None
    entries = tuple(slide["entry_id"] for slide in record["slides"])
    return Unfinished(place, record["started"], len(entries), done, entries)


def _default_out(folder: Path, request: ExportRequest) -> str:
    if request.resume:
        stopped = unfinished(folder)
        if not stopped:
            raise UsageError("There is no export to resume.", hint="Start a new one.")
        return stopped[-1].out
    one = request.entries is not None and len(request.entries) == 1
    name = request.entries[0] if one and request.entries else "all"
    time = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")  # noqa: DTZ005  # for people: local time
    root = folder / PATCHES
    names = (f"{name}_{time}{ending}" for ending in chain([""], map("-{}".format, count(2))))
    return str(next(root / each for each in names if not (root / each).exists()))


def _settings(request: ExportRequest, out: str) -> Settings:
    """Return the options of an export; those of the run in the output where it goes on."""
    record = _record(out) if request.resume or request.add else None
    how: dict[str, Any] = {"resume": True} if request.resume else {}
    if request.add and record is not None and not request.resume:
        how = {"update": True}
    if request.options is None and record is not None:
        selection = Selection.parse(record["selection"])
        options = RunOptions(engine="embedded").replace(**how)
        settings = Settings(selection, ExportConfig.parse(record["config"]), options)
    else:
        settings = request_settings(request.options or {}, **how)
    entries = request.entries
    if entries is None:
        return settings
    if request.add and record is not None:
        known = [slide["entry_id"] for slide in record["slides"]]
        entries = list(dict.fromkeys([*known, *entries]))
    return settings.replace(entry=[f"id:{entry}" for entry in entries])


def _record(out: str) -> Mapping[str, Any] | None:
    try:
        output = open_output(out)
    except OutputError:
        return None  # there is no run; the export says what else is there
    return load_record(output, RUN_FILE, RunRecord)


def _value(run: Run, folder: Path) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "out": run.place,
        "written": run.written,
        "labels": dict(sorted(run.label_counts().items())),
        "reasons": {reason: n for reason, n in run.dropped_counts().items() if n},
        "slides": list(_slides(run)),
        "warnings": [
            *run.warnings,
            *(f"{slide['slide_name']}: {text}" for slide in run for text in slide["warnings"]),
        ],
        "failures": [
            {
                "entry": failure.entry_id,
                "slide_name": failure.slide_name,
                "error": failure.error,
                "hint": failure.hint,
            }
            for failure in run.failures
        ],
        "provenance": [shown(place) for place in run.provenance],
        "in_project": all(place.is_relative_to(folder) for place in run.provenance),
        "corrections": _corrections(run),
    }


def _corrections(run: Run) -> dict[str, Any]:
    """Return how many corrections took part."""
    reports = [slide["corrections"] for slide in run]
    kinds = ("corrected", "confirmed", "rejected")
    return {
        "applied": sum(report[kind] for report in reports for kind in kinds),
        "contested": sum(report["contested"] for report in reports),
        "unsure": run.unsure,
    }


def _slides(run: Run) -> Iterator[dict[str, Any]]:
    for slide in run:
        yield {
            "entry": slide["entry_id"],
            "slide_name": slide["slide_name"],
            "written": slide["written"],
            "labels": slide["by_label"],
            "reasons": {reason: n for reason, n in slide["dropped"].items() if n},
        }
