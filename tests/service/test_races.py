"""Several API processes and workers with one database: whoever comes second finds what is true.

Each thread has a service of its own, as each process has.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

import pytest

from qupath_bridge.service.jobs import ConflictError
from qupath_bridge.service.ledger import Ledger
from qupath_bridge.service.opened import open_service

ROUNDS = 10


@pytest.fixture
def two(service, settings):
    """Two services on one database."""
    with ExitStack() as stack:
        yield [stack.enter_context(open_service(settings)) for _ in range(2)]


def at_once(*calls):
    """Call functions at the same time; return their results, or the errors of the jobs."""
    ready = threading.Barrier(len(calls))

    def run(call):
        ready.wait()
        try:
            return call()
        except ConflictError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


def begun(service, project, place, slides=("1",)):
    """Submit a job, and give it slides that wait, as a worker does; return it and its ledger."""
    job = service.jobs.submit([str(project)], str(place), {"size": 32})
    ledger = Ledger(service.database, f"worker of {job}", 60)
    claim = ledger.claim_job(job, {"queued": "preparing"})
    tasks = [{"options": {}, "slide_id": each, "entry_id": each} for each in slides]
    names = {each: f"{each}.tiff" for each in slides}
    assert ledger.begin_slides(job, claim.run_id, tasks, names, [], [], ())
    return job, ledger


def test_a_key_is_one_job_in_two_processes(two, project, tmp_path):
    for number in range(ROUNDS):
        key = f"key {number}"
        request = ([str(project)], str(tmp_path / "out" / key), {"size": 32})
        first, second = at_once(*(partial(each.jobs.submit, *request, key=key) for each in two))
        assert first == second
    assert len(two[0].jobs.list()) == ROUNDS
    assert two[0].queue.waiting() == ROUNDS  # one message each


def test_a_key_with_two_requests_is_one_job_and_a_refusal(two, project, tmp_path):
    for number in range(ROUNDS):
        key = f"key {number}"
        place = str(tmp_path / "out" / key)
        found = at_once(
            *(
                partial(each.jobs.submit, [str(project)], place, {"size": size}, key=key)
                for each, size in zip(two, (32, 64), strict=True)
            )
        )
        assert sorted(type(each).__name__ for each in found) == ["ConflictError", "str"]


def test_a_job_is_cancelled_or_complete_and_not_both(two, project, tmp_path):
    """It is finished while somebody cancels it."""
    for number in range(ROUNDS):
        job, ledger = begun(two[0], project, tmp_path / "out" / str(number))
        assert ledger.claim_slide(job, "1")
        ledger.leave_slide(job, "1", "done", written=1)
        finished, cancelled = at_once(
            partial(finish, ledger, job), partial(two[1].jobs.cancel, job)
        )
        assert two[0].jobs.get(job).state == ("complete" if finished else "cancelled")
        assert isinstance(cancelled, ConflictError) == finished


def finish(ledger, job):
    """Do what a worker notes at the end of a job; return whether the job is complete."""
    if not ledger.end_slides(job):
        return False
    claim = ledger.claim_job(job, {"finishing": "finishing"})
    return claim is not None and ledger.leave_job(job, "complete")


def test_who_lost_a_job_changes_none_of_its_slides(two, project, tmp_path):
    """A slow worker finds files removed that the retry of the job has written again."""
    job, ledger = begun(two[0], project, tmp_path / "out" / "run")
    assert ledger.claim_slide(job, "1")
    ledger.leave_slide(job, "1", "done", written=1)
    assert ledger.end_slides(job)
    assert ledger.claim_job(job, {"finishing": "finishing"})
    removed = [{"slide_id": "1", "error": "The files were removed."}]
    late = Ledger(two[1].database, "a late worker", 60)
    assert not late.leave_job(job, "complete", removed)
    (slide,) = two[1].jobs.slides(job)
    assert (slide.state, slide.written) == ("done", 1)
    assert ledger.leave_job(job, "complete", removed)
    (slide,) = two[1].jobs.slides(job)
    assert (slide.state, slide.written, slide.failure) == ("failed", 0, removed[0])


def test_a_slide_has_one_worker(two, project, tmp_path):
    slides = [str(number) for number in range(ROUNDS)]
    job, _ = begun(two[0], project, tmp_path / "out" / "run", slides)
    ledgers = [Ledger(each.database, f"worker {n}", 60) for n, each in enumerate(two)]
    for slide in slides:
        found = at_once(*(partial(each.claim_slide, job, slide) for each in ledgers))
        assert sorted(type(each).__name__ for each in found) == ["Busy", "Row"]


def test_a_cancel_leaves_no_slide_behind(two, project, tmp_path):
    """The slide is cancelled, or its worker has it and sees that the job does not run any more."""
    for number in range(ROUNDS):
        job, ledger = begun(two[0], project, tmp_path / "out" / str(number))
        claimed, state = at_once(
            partial(ledger.claim_slide, job, "1"), partial(two[1].jobs.cancel, job)
        )
        assert state.state == "cancelled"
        assert two[0].jobs.get(job).slides == ({"working": 1} if claimed else {"cancelled": 1})
        assert not (claimed and ledger.renew_slide(job, "1", 0, 0))
