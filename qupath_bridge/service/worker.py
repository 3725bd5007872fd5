"""A worker: takes messages, carries out their steps in a child process, notes what came of it."""

from __future__ import annotations

import logging
import platform
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from qupath_bridge.errors import BridgeError, InterruptedRunError, OutputError
from qupath_bridge.patches.ids import run_id as new_id
from qupath_bridge.pipeline.cancel import Cancel

from .children import Child, ChildDiedError, ChildHungError, StepError
from .database import Database
from .database.engine import DatabaseDownError
from .database.indexing import index_run, index_slide
from .ledger import Busy, Claim, Ledger
from .logs import span
from .queues import DONE, Again, Dead, Message, Outcome, Queue
from .settings import ServiceSettings

__all__ = ["Worker"]

log = logging.getLogger("qupath_bridge.service")

RENEWALS = 4
"""Times that a lease is renewed before it would run out."""

SILENCE = 3
"""Leases after which something that nobody touched is put into the queue again."""


class Worker:
    """Works on the jobs of a service. One step at a time; start several for more.

    Parameters
    ----------
    settings : ServiceSettings
    database : Database
    queue : Queue
    child : Child, optional
        What carries out the steps; one with the limits of the settings when not given.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        database: Database,
        queue: Queue,
        child: Child | None = None,
    ) -> None:
        self.name = f"{platform.node()[:40]}-{new_id()}"
        self._settings = settings
        self._database = database
        self._queue = queue
        self._ledger = Ledger(database, self.name, settings.lease_seconds)
        self._child = child or Child(settings.task_seconds, settings.memory_mb)

    def run(self, stop: Cancel) -> None:
        """Work until ``stop`` is set. The slide at work then goes back to the queue."""
        ended = threading.Event()
        keeper = threading.Thread(
            target=self._recover, args=(ended,), name="qupath-bridge-recover", daemon=True
        )
        keeper.start()
        log.info("Worker %s begins", self.name)
        try:
            self._queue.consume(self.handle, stop)
        finally:
            ended.set()
            keeper.join()
            self._child.kill()

    def handle(self, message: Message, lost: Cancel) -> Outcome:
        """Do what a message asks for; what has been done already is not done again."""
        job_id, slide_id = message.job_id, message.slide_id
        with span(message.step, worker=self.name, job_id=job_id, slide_id=slide_id):
            if message.step == "prepare":
                return self._prepare(job_id, lost)
            if message.step == "slide":
                return self._slide(job_id, slide_id or "", lost)
            return self._finish(job_id, lost)

    def _prepare(self, job_id: str, lost: Cancel) -> Outcome:
        job = self._ledger.claim_job(job_id, {"queued": "preparing", "preparing": "preparing"})
        if isinstance(job, Busy):
            return Again(job.seconds, "another worker prepares it")
        if job is None:
            # It was prepared, and its worker may have died before all slides were in the queue.
            return self._publish_slides(job_id)
        values = {
            "job_id": job_id,
            "run_id": job.run_id,
            "request": job.request,
            "roots": list(self._settings.sources),
        }
        done = self._carry_out(job, "prepare", values, lost)
        if not isinstance(done, dict):
            return done
        if not self._ledger.begin_slides(
            job_id,
            done["run_id"],
            done["tasks"],
            done["names"],
            done["failures"],
            done["warnings"],
            done["committed"],
        ):
            return self._gave_up(job_id)
        return self._publish_slides(job_id)

    def _publish_slides(self, job_id: str) -> Outcome:
        for slide_id in self._ledger.open_slides(job_id):
            self._queue.publish(Message(job_id, "slide", slide_id))
        return self._publish_finish(job_id)

    def _publish_finish(self, job_id: str) -> Outcome:
        """Have a job finished if its last slide has ended."""
        if self._ledger.end_slides(job_id):
            self._queue.publish(Message(job_id, "finish"))
        return DONE

    def _slide(self, job_id: str, slide_id: str, lost: Cancel) -> Outcome:
        slide = self._ledger.claim_slide(job_id, slide_id)
        if isinstance(slide, Busy):
            return Again(slide.seconds, "another worker exports it")
        if slide is None:
            return self._publish_finish(job_id)
        if slide.attempts > self._settings.attempts:
            return self._fail_slide(
                slide, "The workers of this slide died.", "Is there enough memory?"
            )
        log.info("Job %s: slide %s, attempt %d", job_id, slide_id, slide.attempts)
        values = {"task": slide.task, "roots": list(self._settings.sources)}
        try:
            done = self._child.call(
                "slide", values, watch=self._watch_slide(job_id, slide_id, lost)
            )
        except (StepError, ChildDiedError, ChildHungError) as error:
            return self._slide_failed(slide, error.message, error.hint, may_heal=error.may_heal)
        if done is None:
            state = "waiting" if lost.is_set() else "cancelled"
            attempts = slide.attempts - (state == "waiting")  # a stop is nobody's fault
            self._ledger.leave_slide(job_id, slide_id, state, attempts=attempts)
            return Again(0.0, "stopped") if lost.is_set() else self._gave_up(job_id)
        failure = done["failure"]
        if failure is not None and done["may_heal"]:
            return self._slide_failed(slide, failure["error"], failure["hint"], may_heal=True)
        if failure is None:
            place, container = slide.task["output"], slide.task["config"]["container"]
            try:
                index_slide(self._database, place, container, slide_id)
            except OutputError as error:
                return self._slide_failed(slide, error.message, error.hint, may_heal=error.may_heal)
        self._ledger.leave_slide(
            job_id,
            slide_id,
            "failed" if failure else "done",
            written=done.get("written", 0),
            seconds=done.get("seconds", 0.0),
            failure=failure,
        )
        return self._publish_finish(job_id)

    def _slide_failed(
        self, slide: Claim, message: str, hint: str | None, *, may_heal: bool
    ) -> Outcome:
        """Try a slide again, or give it up."""
        if not may_heal or slide.attempts >= self._settings.attempts:
            return self._fail_slide(slide, message, hint)
        wait = self._settings.retry_seconds * 2 ** (slide.attempts - 1)
        log.warning("Job %s: slide %s: %s", slide.job_id, slide.slide_id, message)
        self._ledger.leave_slide(slide.job_id, slide.slide_id, "waiting")
        return Again(wait, message)

    def _fail_slide(self, slide: Claim, message: str, hint: str | None) -> Outcome:
        failure = {
            "entry_id": slide.entry_id,
            "slide_name": slide.slide_name,
            "error": message,
            "hint": hint,
            "slide_id": slide.slide_id,
            "project": slide.task["source"]["location"],
            "missing": None,
        }
        log.error("Job %s: slide %s failed: %s", slide.job_id, slide.slide_id, message)
        self._ledger.leave_slide(slide.job_id, slide.slide_id, "failed", failure=failure)
        self._publish_finish(slide.job_id)
        return Dead(message)

    def _finish(self, job_id: str, lost: Cancel) -> Outcome:
        states = {"finishing": "finishing", "cancelled": "cancelled"}
        job = self._ledger.claim_job(job_id, states)
        if isinstance(job, Busy):
            return Again(min(job.seconds, 1.0), "others still work on it")
        if job is None:
            return DONE
        values: dict[str, Any] = {"job_id": job_id, "request": job.request}
        if job.state == "cancelled":
            done = self._carry_out(job, "leave", values, lost)
            if isinstance(done, dict):
                self._ledger.leave_job(job_id)
                return DONE
            return done
        sources, failures = self._ledger.outcome_of(job_id)
        values |= {"sources": sources, "failures": failures}
        done = self._carry_out(job, "finish", values, lost)
        if not isinstance(done, dict):
            return done
        # Very many slides take longer than a lease.
        renew = self._watch(lambda: self._ledger.renew_job(job_id, "finishing"), lost)
        try:
            index_run(self._database, job.output, anew=False, go_on=renew)
        except InterruptedRunError:
            return self._stopped(job, lost)
        except OutputError as error:
            return self._job_failed(job, error)
        removed = done.pop("removed")
        warnings = [*job.warnings, *(each for each in done["warnings"] if each not in job.warnings)]
        if self._ledger.leave_job(job_id, "complete", removed, result=done, warnings=warnings):
            log.info("Job %s is complete", job_id)
        return DONE

    def _carry_out(
        self, job: Claim, step: str, values: Mapping[str, Any], lost: Cancel
    ) -> dict[str, Any] | Outcome:
        """Carry out a step of a whole job; return its result, or what becomes of the message."""
        job_id = job.job_id
        renew = self._watch(lambda: self._ledger.renew_job(job_id, job.state), lost)
        try:
            if job.attempts > self._settings.attempts:
                raise ChildDiedError(
                    "The workers of this job died.", hint="Is there enough memory?"
                )
            done = self._child.call(step, values, watch=lambda *_: renew())
        except (StepError, ChildDiedError, ChildHungError) as error:
            return self._job_failed(job, error)
        return self._stopped(job, lost) if done is None else done

    def _job_failed(self, job: Claim, error: BridgeError) -> Outcome:
        """Try a step of a whole job again, or give the job up."""
        job_id = job.job_id
        if error.may_heal and job.attempts < self._settings.attempts:
            self._ledger.leave_job(job_id)
            wait = self._settings.retry_seconds * 2 ** (job.attempts - 1)
            return Again(wait, error.message)
        log.error("Job %s failed: %s", job_id, error)
        if job.state != "cancelled" and not self._give_back(job):
            log.warning("The output of job %s is still held by it.", job_id)
        failed = None if job.state == "cancelled" else "failed"
        self._ledger.leave_job(job_id, failed, error=error.message, hint=error.hint)
        return Dead(error.message)

    def _give_back(self, job: Claim) -> bool:
        """Give the output of a job back that failed."""
        try:
            self._child.call("leave", {"job_id": job.job_id, "request": job.request})
        except (StepError, ChildDiedError, ChildHungError) as error:
            log.warning("Job %s: %s", job.job_id, error)
            return False
        return True

    def _stopped(self, job: Claim, lost: Cancel) -> Outcome:
        """Leave a job whose step was ended: by a stop of the worker, or as it is another's."""
        if lost.is_set():
            self._ledger.leave_job(job.job_id, attempts=job.attempts - 1)
            return Again(0.0, "stopped")
        return self._gave_up(job.job_id)

    def _gave_up(self, job_id: str) -> Outcome:
        """Leave a job that was cancelled, or that another worker has by now."""
        self._ledger.leave_job(job_id)
        return DONE

    def _watch_slide(self, job_id: str, slide_id: str, lost: Cancel) -> Callable[[int, int], bool]:
        seen = (0, 0)
        renew = self._watch(lambda: self._ledger.renew_slide(job_id, slide_id, *seen), lost)

        def watch(done: int, planned: int) -> bool:
            nonlocal seen
            seen = (done, planned)
            return renew()

        return watch

    def _watch(self, renew: Callable[[], bool], lost: Cancel) -> Callable[[], bool]:
        """Return what renews a lease in time, and says whether to go on.

        While the database is away the step goes on, until the lease would have run out.
        """
        lease = self._settings.lease_seconds
        renewed = time.monotonic()
        tried = renewed

        def look() -> bool:
            nonlocal renewed, tried
            now = time.monotonic()
            if lost.is_set():
                return False
            if now - tried < lease / RENEWALS:
                return True
            tried = now
            try:
                if not renew():
                    return False
            except DatabaseDownError as error:
                log.warning("A lease could not be renewed: %s", error.message)
                return now - renewed < lease
            renewed = now
            return True

        return look

    def _recover(self, ended: threading.Event) -> None:
        """Put into the queue again what nobody has touched for long while the queue was empty."""
        silence = SILENCE * self._settings.lease_seconds
        while not ended.wait(silence):
            try:
                if self._queue.waiting() == 0:
                    for message in self._ledger.abandoned(silence):
                        log.info("Job %s: %s is put into the queue again", message.job_id, message)
                        self._queue.publish(message)
            except Exception as error:  # noqa: BLE001  # queue or database are away; tried again
                log.warning("Nothing could be recovered now: %s", error)
