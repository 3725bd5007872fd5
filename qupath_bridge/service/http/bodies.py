"""Forms of requests and answers, with examples for the description of the API."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from qupath_bridge.service.jobs import JobState, SlideState

__all__ = [
    "Error",
    "Job",
    "JobDetail",
    "JobPage",
    "NewJob",
    "Patch",
    "PatchOrigin",
    "PatchPage",
    "Slide",
    "SlidePage",
]

_ID = "01KB2M8Q6C7V3D1W9R5T0ZXNHE"
_JOB: dict[str, Any] = {
    "job_id": _ID,
    "state": "running",
    "output": "/data/runs/study-7",
    "run_id": "01KB2M8Q6D4N8PK2S6F0G1YJMA",
    "sources": ["/data/studies/7/project.qpproj"],
    "slides": {"done": 118, "working": 2, "waiting": 79, "failed": 1},
    "written": 52_311,
    "warnings": [],
    "error": None,
    "hint": None,
    "labels": {},
    "run_digest": None,
    "created": 1_795_000_000.0,
    "changed": 1_795_000_041.5,
}
_SLIDE: dict[str, Any] = {
    "slide_id": "12_S-0012",
    "slide_name": "S-0012.svs",
    "state": "failed",
    "attempts": 1,
    "done": 0,
    "planned": 0,
    "written": 0,
    "seconds": 0.0,
    "error": "S-0012.svs: the slide file /data/slides/S-0012.svs was not found.",
    "hint": "Correct the path in QuPath.",
}
_PATCH: dict[str, Any] = {
    "number": 4711,
    "tile_uuid": "6a9ad4de-2a8f-8c55-9e0c-0d53c8a1f6d2",
    "patch_id": "12_S-0012_x2048_y4096",
    "slide_id": "12_S-0012",
    "label": "Tumor",
    "labels": ["Tumor"],
    "label_source": "rule",
    "box": [2048, 4096, 512, 512],
    "z": 0,
    "t": 0,
    "mpp": 0.5,
    "path": "patches/12_S-0012/Tumor/12_S-0012_x2048_y4096.png",
    "digest": "xxh3_128:0123456789abcdef0123456789abcdef",
    "shares": {"Tumor": 0.83, "Stroma": 0.17},
}


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Error(_Body):
    """An error, and what to do next."""

    error: str
    hint: str | None = None


class NewJob(_Body):
    """A job to be done: what `qupath-bridge export` is given."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "sources": ["/data/studies/7/project.qpproj"],
                    "output": "/data/runs/study-7",
                    "configuration": {"size": 256, "mpp": 0.5, "tissue": "otsu"},
                    "key": "study-7-2026-11-27",
                }
            ]
        },
    )

    sources: list[str] = Field(
        min_length=1, max_length=10_000, description="Projects or slides, absolute paths."
    )
    output: str = Field(min_length=1, max_length=4_000, description="New folder, or a URL.")
    configuration: dict[str, Any] = Field(
        default_factory=dict, description="Options, as in a configuration file."
    )
    key: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="The same request with the same key is one job, however often it is sent.",
    )


class Job(_Body):
    """The state of a job."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_JOB]})

    job_id: str
    state: str = Field(
        description="queued, preparing, running, finishing; complete, failed, cancelled."
    )
    output: str
    run_id: str
    sources: list[str]
    slides: dict[str, int] = Field(description="Number of slides by state.")
    written: int = Field(description="Patches that are committed.")
    warnings: list[str]
    error: str | None
    hint: str | None = Field(description="What to do next about the error.")
    labels: dict[str, int] = Field(description="Patches by label, of a complete job.")
    run_digest: str | None
    created: float = Field(description="Seconds since 1970.")
    changed: float

    @classmethod
    def of(cls, state: JobState) -> Job:
        """Return what is shown of a job."""
        return cls(
            job_id=state.job_id,
            state=state.state,
            output=state.output,
            run_id=state.run_id,
            sources=list(state.request["sources"]),
            slides=dict(state.slides),
            written=state.written,
            warnings=list(state.warnings),
            error=state.error,
            hint=state.hint,
            labels=dict(state.result.get("labels", {})),
            run_digest=state.result.get("run_digest"),
            created=state.created,
            changed=state.changed,
        )


class Slide(_Body):
    """The state of a slide of a job."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_SLIDE]})

    slide_id: str
    slide_name: str
    state: str = Field(description="waiting, working; done, failed, cancelled.")
    attempts: int
    done: int = Field(description="Patches that this attempt has looked at.")
    planned: int
    written: int
    seconds: float
    error: str | None
    hint: str | None

    @classmethod
    def of(cls, state: SlideState) -> Slide:
        """Return what is shown of a slide."""
        values = dataclasses.asdict(state)
        failure: Mapping[str, Any] = values.pop("failure") or {}
        return cls(**values, error=failure.get("error"), hint=failure.get("hint"))


class JobDetail(Job):
    """The state of a job, and what went wrong."""

    failures: list[Slide] = Field(
        description="Slides that failed, with the next step: the first page of "
        "`/jobs/{job_id}/slides?state=failed`."
    )


class JobPage(_Body):
    """Some jobs, the newest first."""

    jobs: list[Job]
    next: str | None = Field(description="Value of `before` for the next page.")


class SlidePage(_Body):
    """Some slides of a job, by their ids."""

    slides: list[Slide]
    next: str | None = Field(description="Value of `after` for the next page.")


class Patch(_Body):
    """A patch that a run committed."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_PATCH]})

    number: int
    tile_uuid: str
    patch_id: str
    slide_id: str
    label: str | None
    labels: list[str]
    label_source: str | None
    box: tuple[int, int, int, int] = Field(description="x, y, width, height in QuPath pixels.")
    z: int
    t: int
    mpp: float | None = Field(description="µm per pixel of the patch.")
    path: str = Field(description="File in the output.")
    digest: str
    shares: dict[str, float]


class PatchPage(_Body):
    """Some patches of a job."""

    patches: list[Patch]
    next: int | None = Field(description="Value of `after` for the next page.")


class PatchOrigin(_Body):
    """A patch and where it comes from."""

    patch: Patch
    details: dict[str, Any] = Field(description="The other columns of the index.")
    run_id: str
    output: str
    project: str | None
    slide_name: str
    slide_file: str | None
    slide_digest: str | None
    annotations: str | None = Field(description="Digest of the annotations of the slide.")
    image: str = Field(description="Where the picture is.")
