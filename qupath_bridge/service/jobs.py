"""Jobs as people see them: submit, list, look at, cancel, and try again.

States of a job: ``queued`` → ``preparing`` → ``running`` → ``finishing`` → ``complete``; ``failed``
if it could not be prepared or finished; ``cancelled``. A slide that fails does not make its job
fail: a complete job lists its failures, as a run does. States of a slide: ``waiting``,
``working``, ``done``, ``failed``, ``cancelled``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from qupath_bridge.errors import UsageError
from qupath_bridge.patches.ids import run_id as new_id
from qupath_bridge.stores import open_store

from .database import Database
from .database.models import Job, JobSlide
from .queues import Message, Queue, QueueDownError
from .requests import JobRequest, check_request
from .settings import ServiceSettings

__all__ = ["ENDED", "ConflictError", "JobState", "Jobs", "NoSuchError", "SlideState", "no_such_job"]

log = logging.getLogger("qupath_bridge.service")

ENDED = ("complete", "failed", "cancelled")
"""States in which nobody works on a job any more."""

UNSTARTED = ("queued", "preparing")

MAX_KEY = 200


SHOWN = (
    JobSlide.slide_id, JobSlide.slide_name, JobSlide.state, JobSlide.attempts, JobSlide.done,
    JobSlide.planned, JobSlide.written, JobSlide.seconds, JobSlide.failure,
)  # fmt: skip
"""Columns of a slide in a list, in the order of `SlideState`; the task of a slide is long."""


class NoSuchError(UsageError):
    """No job or patch has this id."""


class ConflictError(UsageError):
    """The job is in a state that does not allow this, or the key belongs to another request."""


@dataclass(frozen=True, slots=True)
class SlideState:
    """The state of a slide of a job.

    ``failure`` has ``error``, ``hint`` (the next step) and what else is known of it.
    """

    slide_id: str
    slide_name: str
    state: str
    attempts: int
    done: int
    planned: int
    written: int
    seconds: float
    failure: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class JobState:
    """The state of a job.

    Attributes
    ----------
    job_id, state, output, run_id : str
    url : str
        Of the output, under which its run is indexed.
    request : mapping
    slides : mapping of str to int
        Number of slides by state.
    written : int
        Patches that are committed.
    warnings : tuple of str
    error, hint : str or None
        Why it failed, and what to do next.
    result : mapping
        What the finished run says: ``run_digest``, ``labels``.
    created, changed : float
        Seconds since 1970.
    """

    job_id: str
    state: str
    output: str
    url: str
    run_id: str
    request: Mapping[str, Any]
    slides: Mapping[str, int]
    written: int
    warnings: tuple[str, ...]
    error: str | None
    hint: str | None
    result: Mapping[str, Any]
    created: float
    changed: float


class Jobs:
    """The jobs of a service.

    Parameters
    ----------
    settings : ServiceSettings
    database : Database
    queue : Queue
    """

    def __init__(self, settings: ServiceSettings, database: Database, queue: Queue) -> None:
        self._settings = settings
        self._database = database
        self._queue = queue

    def submit(
        self,
        sources: Sequence[str],
        output: str,
        configuration: Mapping[str, Any],
        *,
        key: str | None = None,
    ) -> str:
        """Accept a job; return its id.

        Parameters
        ----------
        sources, output, configuration
            As :func:`qupath_bridge.export` takes them; places are absolute and below the roots.
        key : str, optional
            The same request with the same key is one job, however often it is sent.

        Raises
        ------
        UsageError, ConfigError
            If it is refused.
        MissingDependencyError
            If its output is in a store that cannot be imported.
        ConflictError
            If the key belongs to another request.
        """
        if key is not None and not 0 < len(key) <= MAX_KEY:
            raise UsageError(f"A key has 1 to {MAX_KEY} characters.")
        request = check_request(self._settings, sources, output, configuration)
        url = open_store(request.output).url
        job_id = new_id()
        try:
            with self._database.write() as connection:
                if key is not None and (known := _by_key(connection, key, request)):
                    return known
                now = self._database.now(connection)
                connection.execute(
                    sa.insert(Job).values(
                        job_id=job_id, key=key, state="queued", request=request.as_json(),
                        output=request.output, url=url, run_id=new_id(), result={}, warnings=[],
                        attempts=0, created=now, changed=now,
                    )
                )  # fmt: skip
        except IntegrityError:  # the same key, at the same time
            with self._database.read() as connection:
                known = _by_key(connection, key or "", request)
            if known is None:
                raise
            return known
        self._publish(Message(job_id, "prepare"))
        return job_id

    def get(self, job_id: str) -> JobState:
        """Return the state of a job.

        Raises
        ------
        NoSuchError
        """
        with self._database.read() as connection:
            rows = connection.execute(sa.select(Job.__table__).where(Job.job_id == job_id)).all()
            if not rows:
                raise no_such_job(job_id)
            return _states(connection, rows)[0]

    def list(
        self, *, state: str | None = None, before: str | None = None, limit: int = 100
    ) -> tuple[JobState, ...]:
        """Return jobs, the newest first.

        Parameters
        ----------
        state : str, optional
            Only those in this state.
        before : str, optional
            Only jobs that are older than the one with this id: the next page.
        limit : int
        """
        query = sa.select(Job.__table__).order_by(Job.job_id.desc()).limit(limit)
        if state is not None:
            query = query.where(Job.state == state)
        if before is not None:
            query = query.where(Job.job_id < before)
        with self._database.read() as connection:
            return _states(connection, connection.execute(query).all())

    def slides(
        self, job_id: str, *, state: str | None = None, after: str = "", limit: int = 100
    ) -> tuple[SlideState, ...]:
        """Return slides of a job by their ids; ``after`` is the last id of the page before.

        Raises
        ------
        NoSuchError
        """
        query = (
            sa.select(*SHOWN)
            .where(JobSlide.job_id == job_id, JobSlide.slide_id > after)
            .order_by(JobSlide.slide_id)
            .limit(limit)
        )
        if state is not None:
            query = query.where(JobSlide.state == state)
        with self._database.read() as connection:
            if connection.scalar(sa.select(Job.job_id).where(Job.job_id == job_id)) is None:
                raise no_such_job(job_id)
            rows = connection.execute(query).all()
        return tuple(SlideState(*row) for row in rows)

    def cancel(self, job_id: str) -> JobState:
        """Stop a job. What is committed stays; a job that is cancelled already stays so.

        Raises
        ------
        NoSuchError
        ConflictError
            If it has ended, or is being finished.
        """
        with self._database.write() as connection:
            job = _locked(connection, job_id)
            if job.state not in (*UNSTARTED, "running", "cancelled"):
                raise ConflictError(f"Job {job_id} is {job.state}, and cannot be cancelled.")
            now = self._database.now(connection)
            connection.execute(
                sa.update(Job)
                .where(Job.job_id == job_id)
                .values(state="cancelled", changed=now, attempts=0)
            )
            connection.execute(
                sa.update(JobSlide)
                .where(JobSlide.job_id == job_id, JobSlide.state == "waiting")
                .values(state="cancelled", changed=now)
            )
        self._queue.cancel(job_id)
        self._publish(Message(job_id, "finish"))  # gives the output back
        return self.get(job_id)

    def retry(self, job_id: str) -> JobState:
        """Do again what failed in a job that has ended; what is committed stays as it is.

        A job that was cancelled while workers were at it begins when they have stopped.

        Raises
        ------
        NoSuchError
        ConflictError
            If it has not ended, or nothing of it failed.
        """
        with self._database.write() as connection:
            job = _locked(connection, job_id)
            if job.state not in ENDED:
                raise ConflictError(f"Job {job_id} is {job.state}; only what has ended is retried.")
            failed = _counts(connection, [job_id]).get(job_id, {})
            if job.state == "complete" and not failed.get("failed"):
                raise ConflictError(f"Nothing of job {job_id} failed.")
            connection.execute(
                sa.update(Job)
                .where(Job.job_id == job_id)
                .values(
                    state="queued", error=None, hint=None, attempts=0,
                    changed=self._database.now(connection),
                )
            )  # fmt: skip
        self._publish(Message(job_id, "prepare"))
        return self.get(job_id)

    def _publish(self, message: Message) -> None:
        """Tell workers of a change that the database has already.

        A broker that is away, or a crash before this, leaves a job that a worker finds
        (`Ledger.abandoned`).
        """
        try:
            self._queue.publish(message)
        except QueueDownError as error:
            log.warning("Job %s waits until a worker finds it: %s", message.job_id, error.message)


def no_such_job(job_id: str) -> NoSuchError:
    """Return the error about a job that nobody knows."""
    return NoSuchError(f"No job {job_id!r}.", hint="`qupath-bridge jobs list` lists them.")


def _locked(connection: sa.Connection, job_id: str) -> sa.Row[Any]:
    """Return the row of a job, which nobody else changes until the transaction ends."""
    row = connection.execute(
        sa.select(Job.__table__).where(Job.job_id == job_id).with_for_update()
    ).first()
    if row is None:
        raise no_such_job(job_id)
    return row


def _by_key(connection: sa.Connection, key: str, request: JobRequest) -> str | None:
    """Return the job of a key.

    Raises
    ------
    ConflictError
        If it is another request's.
    """
    row = connection.execute(sa.select(Job.job_id, Job.request).where(Job.key == key)).first()
    if row is None:
        return None
    if row.request != request.as_json():
        raise ConflictError(
            f"The key {key!r} belongs to job {row.job_id}, which was asked for differently.",
            hint="Use another key for another request.",
        )
    return str(row.job_id)


def _states(connection: sa.Connection, rows: Sequence[sa.Row[Any]]) -> tuple[JobState, ...]:
    counts = _counts(connection, [row.job_id for row in rows])
    return tuple(
        JobState(
            row.job_id, row.state, row.output, row.url, row.run_id, row.request,
            {state: number for state, (number, _) in counts.get(row.job_id, {}).items()},
            sum(written for _, written in counts.get(row.job_id, {}).values()),
            tuple(row.warnings), row.error, row.hint, row.result, row.created, row.changed,
        )
        for row in rows
    )  # fmt: skip


def _counts(connection: sa.Connection, ids: Sequence[str]) -> dict[str, dict[str, tuple[int, int]]]:
    """Return the number of slides, and of their patches, by job and state."""
    found: dict[str, dict[str, tuple[int, int]]] = {}
    query = (
        sa.select(JobSlide.job_id, JobSlide.state, sa.func.count(), sa.func.sum(JobSlide.written))
        .where(JobSlide.job_id.in_(ids))
        .group_by(JobSlide.job_id, JobSlide.state)
    )
    for job_id, state, number, written in connection.execute(query):
        found.setdefault(job_id, {})[state] = (number, int(written))
    return found
