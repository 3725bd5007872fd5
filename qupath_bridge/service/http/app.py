"""The HTTP interface: each request calls one function of the service."""

from __future__ import annotations

import logging
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy import RowMapping

from qupath_bridge._version import __version__
from qupath_bridge.errors import BridgeError, MissingDependencyError, OutputError
from qupath_bridge.service.database.engine import DatabaseDownError
from qupath_bridge.service.jobs import ConflictError, NoSuchError
from qupath_bridge.service.opened import Service
from qupath_bridge.service.patches import find_patch, find_patches, read_picture
from qupath_bridge.service.queues import QueueDownError
from qupath_bridge.service.reports import Reports

from . import bodies
from .guards import Guard
from .metrics import MEDIA_TYPE, Metrics
from .web_page import add_page

__all__ = ["create_app"]

log = logging.getLogger("qupath_bridge.service")

DESCRIPTION = """\
Jobs export labelled patches from QuPath projects, as `qupath-bridge export` does. Send the token as
`Authorization: Bearer TOKEN`. Every error has the members `error` and `hint`, the next step.
"""

USUAL = 100
"""Entries of a page for those who do not say how many they want."""

AGAIN_SECONDS = 2
"""Seconds that clients wait where it is worth asking again."""

SERVERS = (
    (DatabaseDownError, "The database is away, has no time, or fails."),
    (QueueDownError, "The broker of the queue is away."),
)
"""Answers instead of messages that name a server, which is nobody else's concern."""

_Limit = Annotated[int | None, Query(ge=1, le=10_000, description="Most entries of the page.")]
_ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"model": bodies.Error, "description": "No token, or a wrong one."},
    429: {"model": bodies.Error, "description": "Too many requests."},
    503: {"model": bodies.Error, "description": "Something is away or full; ask again."},
}
_NO_SUCH: dict[int | str, dict[str, Any]] = {
    404: {"model": bodies.Error, "description": "No job or patch has this id."}
}
_CONFLICT: dict[int | str, dict[str, Any]] = {
    409: {"model": bodies.Error, "description": "The state of the job does not allow this."}
}
_REFUSED: dict[int | str, dict[str, Any]] = {
    422: {"model": bodies.Error, "description": "The request is refused; nothing was done."}
}


def create_app(service: Service) -> FastAPI:
    """Return the application that answers for a service."""
    app = FastAPI(
        title="qupath-bridge",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,  # its page would load scripts from another server
        redoc_url=None,
        responses=_ERRORS,
    )
    metrics = Metrics(service)
    app.middleware("http")(metrics.watch)
    app.add_middleware(Guard, settings=service.settings)
    _handle_errors(app)
    _add_jobs(app, service)
    _add_patches(app, service)
    _add_reports(app, Reports(service.settings, service.jobs))
    _add_state(app, service, metrics)
    add_page(app)
    return app


def _add_jobs(app: FastAPI, service: Service) -> None:
    jobs, most = service.jobs, service.settings.page_size

    @app.post("/jobs", status_code=201, responses={**_REFUSED, **_CONFLICT}, tags=["jobs"])
    def submit(new: bodies.NewJob) -> bodies.Job:
        """Accept a job. It is checked as the command line checks an export."""
        job_id = jobs.submit(new.sources, new.output, new.configuration, key=new.key)
        return bodies.Job.of(jobs.get(job_id))

    @app.get("/jobs", tags=["jobs"])
    def list_jobs(
        state: str | None = None, before: str | None = None, limit: _Limit = None
    ) -> bodies.JobPage:
        """List jobs, the newest first."""
        number = min(limit or USUAL, most)
        found = jobs.list(state=state, before=before, limit=number)
        more = found[-1].job_id if len(found) == number else None
        return bodies.JobPage(jobs=[bodies.Job.of(each) for each in found], next=more)

    @app.get("/jobs/{job_id}", responses=_NO_SUCH, tags=["jobs"])
    def get_job(job_id: str) -> bodies.JobDetail:
        """Return state, counts and failures of a job."""
        job = bodies.Job.of(jobs.get(job_id))
        failed = jobs.slides(job_id, state="failed", limit=most)
        return bodies.JobDetail(
            **job.model_dump(), failures=[bodies.Slide.of(each) for each in failed]
        )

    @app.get("/jobs/{job_id}/slides", responses=_NO_SUCH, tags=["jobs"])
    def list_slides(
        job_id: str, state: str | None = None, after: str = "", limit: _Limit = None
    ) -> bodies.SlidePage:
        """List the slides of a job; `state=failed` gives the failures, with the next step."""
        number = min(limit or USUAL, most)
        found = jobs.slides(job_id, state=state, after=after, limit=number)
        more = found[-1].slide_id if len(found) == number else None
        return bodies.SlidePage(slides=[bodies.Slide.of(each) for each in found], next=more)

    @app.post("/jobs/{job_id}/cancel", responses={**_NO_SUCH, **_CONFLICT}, tags=["jobs"])
    def cancel(job_id: str) -> bodies.Job:
        """Stop a job. What is committed stays."""
        return bodies.Job.of(jobs.cancel(job_id))

    @app.post("/jobs/{job_id}/retry", responses={**_NO_SUCH, **_CONFLICT}, tags=["jobs"])
    def retry(job_id: str) -> bodies.Job:
        """Do again what failed in a job that has ended."""
        return bodies.Job.of(jobs.retry(job_id))


def _add_patches(app: FastAPI, service: Service) -> None:
    most = service.settings.page_size

    @app.get("/jobs/{job_id}/patches", responses=_NO_SUCH, tags=["patches"])
    def list_patches(
        job_id: str,
        label: str | None = None,
        slide: str | None = None,
        after: Annotated[int, Query(ge=0)] = 0,
        limit: _Limit = None,
    ) -> bodies.PatchPage:
        """List committed patches of a job, also while it runs."""
        number = min(limit or USUAL, most)
        rows = find_patches(
            service.database, job_id, label=label, slide=slide, after=after, limit=number
        )
        more = rows[-1]["number"] if len(rows) == number else None
        return bodies.PatchPage(patches=[_patch(row) for row in rows], next=more)

    @app.get("/patches/{tile_uuid}", responses=_NO_SUCH, tags=["patches"])
    def get_patch(tile_uuid: str) -> bodies.PatchOrigin:
        """Return a patch by its tile id, and where it comes from."""
        row = find_patch(service.database, tile_uuid)
        names = (
            "details", "run_id", "output", "project", "slide_name", "slide_file", "slide_digest",
            "annotations",
        )  # fmt: skip
        return bodies.PatchOrigin(
            patch=_patch(row),
            image=f"/patches/{row['tile_uuid']}/image",
            **{name: row[name] for name in names},
        )

    @app.get(
        "/patches/{tile_uuid}/image",
        responses={**_NO_SUCH, 200: {"content": {"image/png": {}}}, **_REFUSED},
        response_class=Response,
        tags=["patches"],
    )
    def get_image(tile_uuid: str) -> Response:
        """Return the picture of a patch, if it is still the one that was written."""
        content, media_type = read_picture(find_patch(service.database, tile_uuid))
        return Response(content, media_type=media_type)


def _add_reports(app: FastAPI, reports: Reports) -> None:
    @app.get(
        "/jobs/{job_id}/report",
        responses={**_NO_SUCH, 200: {"content": {"text/html": {}}}},
        response_class=Response,
        tags=["jobs"],
    )
    def get_report(job_id: str) -> Response:
        """Return the report of a job, one HTML page, if it was made."""
        return Response(reports.read(job_id), media_type="text/html; charset=utf-8")

    @app.post(
        "/jobs/{job_id}/report",
        status_code=204,
        responses={**_NO_SUCH, **_CONFLICT, **_REFUSED},
        tags=["jobs"],
    )
    def make_report(job_id: str) -> None:
        """Make the report of a job that has ended. That reads its slides, and takes a while."""
        reports.make(job_id)


def _add_state(app: FastAPI, service: Service, metrics: Metrics) -> None:
    @app.get("/health", tags=["state"])
    def health() -> dict[str, str]:
        """Return `ok` if the database answers. It needs no token."""
        with service.database.read() as connection:
            service.database.now(connection)
            connection.exec_driver_sql("SELECT 1")
        return {"status": "ok", "version": __version__}

    @app.get("/metrics", response_class=Response, tags=["state"])
    def show_metrics() -> Response:
        """Return the numbers for Prometheus."""
        return Response(metrics.text(), media_type=MEDIA_TYPE)


def _patch(row: RowMapping) -> bodies.Patch:
    values = {name: row[name] for name in bodies.Patch.model_fields if name != "box"}
    return bodies.Patch(**values, box=(row["x"], row["y"], row["w"], row["h"]))


def _handle_errors(app: FastAPI) -> None:
    def answer(
        status: int, error: str, hint: str | None = None, headers: dict[str, str] | None = None
    ) -> JSONResponse:
        return JSONResponse({"error": error, "hint": hint}, status_code=status, headers=headers)

    @app.exception_handler(BridgeError)
    def refuse(_: Request, error: BridgeError) -> JSONResponse:
        if error.may_heal:
            log.error("%s", error)
            headers = {"retry-after": str(AGAIN_SECONDS)}
            for kind, words in SERVERS:
                if isinstance(error, kind):
                    hint = "Ask again in a moment; the log of the service says why."
                    return answer(503, words, hint, headers)
            return answer(503, error.message, error.hint, headers)
        statuses: tuple[tuple[type[BridgeError], int], ...] = (
            (NoSuchError, 404),
            (ConflictError, 409),
            (OutputError, 410),
            (MissingDependencyError, 501),
        )
        status = next((code for kind, code in statuses if isinstance(error, kind)), 422)
        return answer(status, error.message, error.hint)

    @app.exception_handler(RequestValidationError)
    def explain(_: Request, error: RequestValidationError) -> JSONResponse:
        # The values are not repeated: they may be large, or secret.
        faults = (f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        return answer(422, "; ".join(faults), "openapi.json describes all requests.")
