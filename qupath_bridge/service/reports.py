"""The report of a job: the page that ``qupath-bridge report`` makes, in the output of its run."""

from __future__ import annotations

import threading

from qupath_bridge.outputs import open_output
from qupath_bridge.reporting.report import read_report

from .children import Child
from .jobs import ENDED, ConflictError, Jobs, JobState, NoSuchError
from .requests import JobRequest
from .settings import ServiceSettings

__all__ = ["Reports"]


class Reports:
    """The reports of the jobs of a service.

    Making one reads the slides again. A child process does that, within the limits of a slide, and
    one report at a time: what a slide does to a process never happens to the API.

    Parameters
    ----------
    settings : ServiceSettings
    jobs : Jobs
    """

    def __init__(self, settings: ServiceSettings, jobs: Jobs) -> None:
        self._jobs = jobs
        self._settings = settings
        self._making = threading.Lock()

    def read(self, job_id: str) -> bytes:
        """Return the report of a job, an HTML page.

        Raises
        ------
        NoSuchError
            If there is no such job, or its report was not made by this version of the program.
        OutputError
            If the output cannot be read.
        """
        job = self._jobs.get(job_id)
        page = read_report(open_output(job.output, _container(job)))
        if page is None:
            raise NoSuchError(f"Job {job_id} has no report yet.", hint="POST makes it.")
        return page

    def make(self, job_id: str) -> None:
        """Make the report of a job that has ended; it replaces the one before.

        Raises
        ------
        NoSuchError
        ConflictError
            If the job has not ended, or another report is being made.
        StepError, ChildDiedError, ChildHungError
            If it cannot be made.
        """
        job = self._jobs.get(job_id)
        if job.state not in ENDED:
            raise ConflictError(
                f"Job {job_id} is {job.state}; its report is made when it has ended.",
                hint="Ask again then.",
            )
        if not self._making.acquire(blocking=False):
            raise ConflictError(
                "Another report is being made.", hint="Ask again when it is done, in some minutes."
            )
        child = Child(self._settings.task_seconds, self._settings.memory_mb)
        try:
            child.call("report", {"output": job.output, "container": _container(job)})
        finally:
            child.kill()
            self._making.release()


def _container(job: JobState) -> str:
    return JobRequest.from_json(job.request).settings().config.container
