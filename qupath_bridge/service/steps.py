"""Steps of a job, as the child process of a worker does them, on plain JSON values.

Whatever a slide does to the process (crash, hang, use all memory) ends the child, not the worker.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from qupath_bridge.api.shared_runs import end_shared_run, leave_shared_run, start_shared_run
from qupath_bridge.errors import SlideError
from qupath_bridge.model import Slide, SourceRef
from qupath_bridge.outputs import open_output
from qupath_bridge.pipeline.opened import slide_of
from qupath_bridge.pipeline.plan import Failure
from qupath_bridge.pipeline.task import SlideTask, process_slide
from qupath_bridge.reporting.report import write_report

from .requests import JobRequest
from .roots import is_below

__all__ = ["STEPS"]

Report = Callable[[int, int], None]
"""Called with patches done and patches planned."""


def prepare(values: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Start the run of a job; return its tasks."""
    request = JobRequest.from_json(values["request"])
    roots = values["roots"]
    started = start_shared_run(
        request.sources,
        request.output,
        request.settings(),
        job=values["job_id"],
        run_id=values["run_id"],
        may_read=lambda slide: _may_read(slide, roots),
        command=("qupath-bridge", "service", "job", values["job_id"]),
    )
    return {
        "run_id": started.run_id,
        "tasks": [task.as_json() for task in started.tasks],
        "names": dict(started.names),
        "failures": [dataclasses.asdict(each) for each in started.failures],
        "warnings": list(started.warnings),
        "committed": sorted(started.committed),
    }


def export_slide(values: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Export one slide."""
    task = SlideTask.from_json(values["task"])
    slide = slide_of(task.source, task.entry_id)
    if not _may_read(slide, values["roots"]):  # a link may have changed since the survey
        error = SlideError("The slide file is in no folder that the service may read.")
        failure = dataclasses.asdict(Failure.of(slide, error, task.slide_id))
        return {"failure": failure, "may_heal": False}
    result = process_slide(task, progress=lambda _, done, planned: report(done, planned))
    return {
        "written": result.written,
        "seconds": result.seconds,
        "failure": result.failure and dataclasses.asdict(result.failure),
        "may_heal": result.may_heal,
    }


def finish(values: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Complete the run of a job."""
    request = JobRequest.from_json(values["request"])
    run, removed = end_shared_run(
        request.output,
        request.settings(),
        job=values["job_id"],
        sources=map(SourceRef.from_json, values["sources"]),
        failures=[Failure(**each) for each in values["failures"]],
    )
    return {
        "run_id": run.run_id,
        "run_digest": run.record["run_digest"],
        "written": run.written,
        "labels": run.label_counts(),
        "warnings": list(run.warnings),
        "removed": [dataclasses.asdict(each) for each in removed],
    }


def leave(values: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Give the output of a job back as it is."""
    request = JobRequest.from_json(values["request"])
    leave_shared_run(request.output, request.settings(), job=values["job_id"])
    return {}


def make_report(values: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Make the report of a run."""
    write_report(open_output(values["output"], values["container"]))
    return {}


STEPS: Mapping[str, Callable[[Mapping[str, Any], Report], dict[str, Any]]] = {
    "prepare": prepare,
    "slide": export_slide,
    "finish": finish,
    "leave": leave,
    "report": make_report,
}


def _may_read(slide: Slide, roots: list[str]) -> bool:
    """Return whether the file of a slide is below a root; one that was not found fails later."""
    return slide.path is None or is_below(slide.path, roots)
