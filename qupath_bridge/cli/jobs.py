"""``jobs``."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qupath_bridge.frozen import count

from .options import Given
from .output import print_json, print_table, say, show
from .service import needs_service

if TYPE_CHECKING:
    from qupath_bridge.config import Settings
    from qupath_bridge.service.client import Client

__all__ = ["run_change", "run_list", "run_show", "run_submit"]

FAILED = "failed"


@contextmanager
def _client(url: str | None) -> Iterator[Client]:
    with needs_service():
        from qupath_bridge.service.client import Client
    with Client(url) as client:
        yield client


def run_submit(
    sources: Sequence[str],
    out: str,
    given: Given,
    *,
    key: str | None,
    wait: bool,
    url: str | None,
    as_json: bool,
) -> int:
    """Ask for a job; with ``wait``, 1 if anything of it failed."""
    settings = given.settings()
    places = [_absolute(source) for source in sources]
    with _client(url) as client:
        job = client.submit(places, _absolute(out), _configuration(settings), key=key)
        if wait:
            client.wait(job["job_id"])
            job = client.job(job["job_id"])
    if as_json:
        print_json({"schema_version": 1, **job})
    elif wait:
        _print_job(job)
    else:
        show(job["job_id"])
    return _status(job) if wait else 0


def run_list(state: str | None, url: str | None, *, as_json: bool) -> int:
    """List jobs."""
    with _client(url) as client:
        jobs = list(client.jobs(state=state))
    if as_json:
        print_json({"schema_version": 1, "jobs": jobs})
    elif jobs:
        rows = [
            (job["job_id"], job["state"], _slides(job), job["written"], job["output"])
            for job in jobs
        ]
        print_table(("job", "state", "slides", "patches", "output"), rows)
    else:
        show("No jobs.")
    return 0


def run_show(job_id: str, url: str | None, *, as_json: bool) -> int:
    """Show a job; 1 if anything of it failed."""
    with _client(url) as client:
        job = client.job(job_id)
    if as_json:
        print_json({"schema_version": 1, **job})
    else:
        _print_job(job)
    return _status(job)


def run_change(action: str, job_id: str, url: str | None, *, as_json: bool) -> int:
    """Cancel a job, or do again what failed."""
    with _client(url) as client:
        job = client.cancel(job_id) if action == "cancel" else client.retry(job_id)
    if as_json:
        print_json({"schema_version": 1, **job})
    else:
        show(f"Job {job['job_id']} is {job['state']}.")
    return 0


def _configuration(settings: Settings) -> dict[str, Any]:
    """Return the options that were given, as a service takes them: paths are absolute."""
    values: dict[str, Any] = {}
    for model in (settings.selection, settings.config, settings.options):
        paths = {
            name: str(value.absolute())
            for name in model.model_fields_set
            if isinstance(value := getattr(model, name), Path)
        }
        values |= {**model.model_dump(mode="json", exclude_unset=True), **paths}
    return values


def _absolute(place: str) -> str:
    """Return the absolute path of a place; a URL stays as it is."""
    return place if "://" in place else str(Path(place).absolute())


def _status(job: Mapping[str, Any]) -> int:
    return 1 if job["state"] == FAILED or job["slides"].get(FAILED) else 0


def _slides(job: Mapping[str, Any]) -> str:
    """Return the slides of a job that have ended, of all."""
    ended = sum(job["slides"].get(state, 0) for state in ("done", FAILED, "cancelled"))
    return f"{ended} of {sum(job['slides'].values())}"


def _print_job(job: Mapping[str, Any]) -> None:
    since = datetime.fromtimestamp(job["created"], UTC).isoformat(timespec="seconds")
    states = ", ".join(f"{number} {state}" for state, number in sorted(job["slides"].items()))
    rows = [
        ("job", job["job_id"]),
        ("state", job["state"]),
        ("since", since),
        ("slides", states or "-"),
        ("patches", job["written"]),
        ("output", job["output"]),
    ]
    print_table(("what", "value"), rows)
    if job["labels"]:
        show()
        print_table(("label", "patches"), list(job["labels"].items()))
    for warning in job["warnings"]:
        say(f"warning: {warning}")
    for slide in job.get("failures", ()):
        say(f"failed: {slide['slide_name']}: {slide['error']} {slide['hint'] or ''}", logging.ERROR)
    if job["error"]:
        say(f"failed: {job['error']} {job['hint'] or ''}", logging.ERROR)
    left = job["slides"].get(FAILED, 0) - len(job.get("failures", ()))
    if left > 0:
        say(f"{count(left, 'more slide')} failed.", logging.ERROR)
