"""Leases, and the changes of state that workers make, each in one transaction.

A job (while it is prepared or finished) and a slide are leased to one worker at a time, whatever
the queue delivers. A worker that lost its lease changes nothing any more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from .database import Database
from .database.models import Job, JobSlide
from .queues import Message

__all__ = ["Busy", "Claim", "Ledger"]

OPEN = ("waiting", "working")
"""States of a slide that somebody has to work on."""

STOPPING = 1.0
"""Seconds after which to look again whether the workers of a cancelled job have stopped."""

Claim = sa.Row[Any]
"""The row of a job or slide that is leased."""


@dataclass(frozen=True, slots=True)
class Busy:
    """Another worker has it, or what has to come before is not there."""

    seconds: float


class Ledger:
    """The leases of one worker.

    Parameters
    ----------
    database : Database
    owner : str
        Name of the worker, another one for each start.
    lease_seconds : float
    """

    def __init__(self, database: Database, owner: str, lease_seconds: float) -> None:
        self._database = database
        self._owner = owner
        self._lease = lease_seconds

    def claim_job(self, job_id: str, states: Mapping[str, str]) -> Claim | Busy | None:
        """Lease a job that is in one of some states, and move it to the state behind each.

        Returns
        -------
        Claim, Busy or None
            None if the job is in another state, or is not there.
        """
        with self._database.write() as connection:
            now = self._database.now(connection)
            job = connection.execute(
                sa.select(Job.__table__).where(Job.job_id == job_id).with_for_update()
            ).first()
            if job is None or job.state not in states:
                return None
            wait = (job.leased_until or 0.0) - now
            if job.state in ("queued", "cancelled"):
                wait = max(wait, _busiest(connection, job_id, now))
                wait = min(wait, STOPPING)
            if wait > 0:
                return Busy(wait)
            connection.execute(
                sa.update(Job)
                .where(Job.job_id == job_id)
                .values(
                    state=states[job.state], owner=self._owner, attempts=job.attempts + 1,
                    leased_until=now + self._lease, changed=now,
                )
            )  # fmt: skip
            return connection.execute(sa.select(Job.__table__).where(Job.job_id == job_id)).one()

    def renew_job(self, job_id: str, state: str) -> bool:
        """Keep a job for longer; return False if it is another's, or in another state by now."""
        with self._database.write() as connection:
            now = self._database.now(connection)
            renewed = connection.execute(
                sa.update(Job)
                .where(Job.job_id == job_id, Job.owner == self._owner, Job.state == state)
                .values(leased_until=now + self._lease)
            )
        return renewed.rowcount == 1

    def leave_job(
        self,
        job_id: str,
        state: str | None = None,
        removed: Sequence[Mapping[str, Any]] = (),
        **values: Any,
    ) -> bool:
        """Give a job back, with other values; ``state`` is its state from now on.

        ``removed`` are failures of slides whose files somebody removed after they were done.

        Returns
        -------
        bool
            False if it was cancelled, or is not this worker's any more; nothing has changed
            then but the lease.
        """
        mine = (Job.job_id == job_id, Job.owner == self._owner)
        with self._database.write() as connection:
            now = self._database.now(connection)
            changes = {**values, "changed": now, **({"state": state} if state else {})}
            at_work = [Job.state.in_(("preparing", "finishing"))] if state else []
            changed = connection.execute(sa.update(Job).where(*mine, *at_work).values(**changes))
            connection.execute(sa.update(Job).where(*mine).values(owner=None, leased_until=None))
            for failure in removed if changed.rowcount == 1 else ():
                connection.execute(
                    sa.update(JobSlide)
                    .where(JobSlide.job_id == job_id, JobSlide.slide_id == failure["slide_id"])
                    .values(state="failed", failure=dict(failure), written=0, changed=now)
                )
        return changed.rowcount == 1

    def begin_slides(
        self,
        job_id: str,
        run_id: str,
        tasks: Sequence[Mapping[str, Any]],
        names: Mapping[str, str],
        failures: Sequence[Mapping[str, Any]],
        warnings: Sequence[str],
        committed: Collection[str],
    ) -> bool:
        """Move a job that was prepared to ``running``, with its slides.

        Slides that an earlier attempt of the job has done, with the same task, stay done if they
        are in the output still: ``committed`` has the ids of those.

        Returns
        -------
        bool
            False if the job is not this worker's any more.
        """
        with self._database.write() as connection:
            now = self._database.now(connection)
            moved = connection.execute(
                sa.update(Job)
                .where(Job.job_id == job_id, Job.owner == self._owner, Job.state == "preparing")
                .values(
                    state="running", run_id=run_id, warnings=list(warnings), attempts=0,
                    error=None, hint=None, owner=None, leased_until=None, changed=now,
                )
            )  # fmt: skip
            if moved.rowcount != 1:
                return False
            known = {
                row.slide_id: row.task
                for row in connection.execute(
                    sa.select(JobSlide.slide_id, JobSlide.task).where(
                        JobSlide.job_id == job_id, JobSlide.state == "done"
                    )
                )
            }
            done = {
                task["slide_id"]
                for task in tasks
                if task["slide_id"] in committed and _same(known.get(task["slide_id"]), task)
            }
            connection.execute(
                sa.delete(JobSlide).where(
                    JobSlide.job_id == job_id, JobSlide.slide_id.not_in(done or {""})
                )
            )
            rows = [
                _row(job_id, task, names[task["slide_id"]], now)
                for task in tasks
                if task["slide_id"] not in done
            ]
            rows += [
                {
                    **_row(job_id, {"entry_id": each["entry_id"]}, each["slide_name"], now),
                    "slide_id": each["slide_id"],
                    "state": "failed",
                    "failure": dict(each),
                }
                for each in failures
            ]
            if rows:
                connection.execute(sa.insert(JobSlide), rows)
        return True

    def open_slides(self, job_id: str) -> list[str]:
        """Return the slides of a running job that are not done."""
        with self._database.read() as connection:
            query = (
                sa.select(JobSlide.slide_id)
                .join(Job, Job.job_id == JobSlide.job_id)
                .where(JobSlide.job_id == job_id, Job.state == "running", JobSlide.state.in_(OPEN))
                .order_by(JobSlide.slide_id)
            )
            return list(connection.scalars(query))

    def claim_slide(self, job_id: str, slide_id: str) -> Claim | Busy | None:
        """Lease a slide of a running job; None if there is nothing to do on it."""
        mine = (JobSlide.job_id == job_id, JobSlide.slide_id == slide_id)
        with self._database.write() as connection:
            now = self._database.now(connection)
            row = connection.execute(
                sa.select(JobSlide.__table__).where(*mine).with_for_update()
            ).first()
            state = connection.scalar(sa.select(Job.state).where(Job.job_id == job_id))
            if row is None or state != "running" or row.state not in OPEN:
                return None
            if (row.leased_until or 0.0) > now:
                return Busy(row.leased_until - now)
            connection.execute(
                sa.update(JobSlide)
                .where(*mine)
                .values(
                    state="working", owner=self._owner, leased_until=now + self._lease,
                    attempts=row.attempts + 1, done=0, planned=0, changed=now,
                )
            )  # fmt: skip
            return connection.execute(sa.select(JobSlide.__table__).where(*mine)).one()

    def renew_slide(self, job_id: str, slide_id: str, done: int, planned: int) -> bool:
        """Keep a slide for longer, and note how far it is.

        Returns
        -------
        bool
            False if the slide is another's by now, or its job does not run any more.
        """
        with self._database.write() as connection:
            now = self._database.now(connection)
            renewed = connection.execute(
                sa.update(JobSlide)
                .where(
                    JobSlide.job_id == job_id,
                    JobSlide.slide_id == slide_id,
                    JobSlide.owner == self._owner,
                )
                .values(leased_until=now + self._lease, done=done, planned=planned)
            )
            state = connection.scalar(sa.select(Job.state).where(Job.job_id == job_id))
        return renewed.rowcount == 1 and state == "running"

    def leave_slide(self, job_id: str, slide_id: str, state: str, **values: Any) -> bool:
        """Give a slide back, in another state and with other values.

        Returns
        -------
        bool
            False if it is not this worker's any more; nothing has changed then.
        """
        with self._database.write() as connection:
            left = connection.execute(
                sa.update(JobSlide)
                .where(
                    JobSlide.job_id == job_id,
                    JobSlide.slide_id == slide_id,
                    JobSlide.owner == self._owner,
                )
                .values(
                    state=state, owner=None, leased_until=None,
                    changed=self._database.now(connection), **values,
                )
            )  # fmt: skip
        return left.rowcount == 1

    def end_slides(self, job_id: str) -> bool:
        """Move a running job whose last slide has ended to ``finishing``.

        Returns
        -------
        bool
            Whether the job waits to be finished: by this call, or by an earlier one.
        """
        with self._database.write() as connection:
            # The lock lets one worker count at a time: two that end the last two slides at once
            # would each see the other's slide at work.
            state = connection.scalar(
                sa.select(Job.state).where(Job.job_id == job_id).with_for_update()
            )
            if state == "running":
                left = connection.scalar(
                    sa.select(sa.func.count()).where(
                        JobSlide.job_id == job_id, JobSlide.state.in_(OPEN)
                    )
                )
                if left:
                    return False
                connection.execute(
                    sa.update(Job)
                    .where(Job.job_id == job_id)
                    .values(
                        state="finishing", attempts=0, owner=None, leased_until=None,
                        changed=self._database.now(connection),
                    )
                )  # fmt: skip
            return state in ("running", "finishing")

    def outcome_of(self, job_id: str) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
        """Return the sources of all slides of a job, and the failures."""
        with self._database.read() as connection:
            rows = connection.execute(
                sa.select(JobSlide.task, JobSlide.failure)
                .where(JobSlide.job_id == job_id)
                .order_by(JobSlide.slide_id)
            ).all()
        sources = [row.task["source"] for row in rows if "source" in row.task]
        return sources, [row.failure for row in rows if row.failure]

    def abandoned(self, silence: float) -> list[Message]:
        """Return a message for everything that nobody has touched for some seconds.

        Whoever publishes them does no harm: what is done is not done again.
        """
        found: list[Message] = []
        with self._database.write() as connection:
            now = self._database.now(connection)
            stale = (Job.changed < now - silence, sa.func.coalesce(Job.leased_until, 0.0) < now)
            for step, states in (("prepare", ("queued", "preparing")), ("finish", ("finishing",))):
                rows = connection.scalars(
                    sa.update(Job)
                    .where(Job.state.in_(states), *stale)
                    .values(changed=now)
                    .returning(Job.job_id)
                )
                found += [Message(job_id, step) for job_id in rows]  # type: ignore[arg-type]
            slides = connection.execute(
                sa.update(JobSlide)
                .where(
                    JobSlide.state.in_(OPEN),
                    JobSlide.changed < now - silence,
                    sa.func.coalesce(JobSlide.leased_until, 0.0) < now,
                    JobSlide.job_id.in_(sa.select(Job.job_id).where(Job.state == "running")),
                )
                .values(changed=now)
                .returning(JobSlide.job_id, JobSlide.slide_id)
            )
            found += [Message(row.job_id, "slide", row.slide_id) for row in slides]
            idle = connection.scalars(
                sa.select(Job.job_id).where(
                    Job.state == "running",
                    Job.changed < now - silence,
                    ~sa.exists().where(JobSlide.job_id == Job.job_id, JobSlide.state.in_(OPEN)),
                )
            ).all()
        # Its last slide ended, and the worker died before it could say so.
        found += [Message(job_id, "finish") for job_id in idle if self.end_slides(job_id)]
        return found


def _busiest(connection: sa.Connection, job_id: str, now: float) -> float:
    """Return the seconds until no slide of a job is leased any more, at most."""
    until = connection.scalar(
        sa.select(sa.func.max(JobSlide.leased_until)).where(JobSlide.job_id == job_id)
    )
    return max(0.0, (until or 0.0) - now)


def _same(before: Mapping[str, Any] | None, task: Mapping[str, Any]) -> bool:
    """Return whether a slide was done with the same task, however the run was started."""

    def plain(values: Mapping[str, Any]) -> dict[str, Any]:
        options = {**values["options"], "resume": False}
        return {**values, "options": options}

    return before is not None and plain(before) == plain(task)


def _row(job_id: str, task: Mapping[str, Any], name: str, now: float) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "slide_id": task.get("slide_id"),
        "entry_id": task["entry_id"],
        "slide_name": name,
        "task": dict(task),
        "state": "waiting",
        "attempts": 0,
        "done": 0,
        "planned": 0,
        "written": 0,
        "seconds": 0.0,
        "failure": None,
        "changed": now,
    }
