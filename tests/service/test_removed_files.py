"""Somebody removes what slides of a job have written, before the job is finished."""

import shutil

import pytest

import qupath_bridge as qb
from qupath_bridge.pipeline.cancel import CancelToken
from qupath_bridge.service.queues import DONE, Message
from qupath_bridge.service.worker import Worker
from tests.service.test_worker import alone, assert_same, job, out
from tests.support.service import ended, working

__all__ = ["alone", "job", "out"]

pytestmark = pytest.mark.slow


@pytest.fixture
def exported(service, job):
    """A job whose slides are all done; it waits to be finished."""
    worker = Worker(service.settings, service.database, service.queue)
    for step in ("prepare", "slide"):
        slides = worker._ledger.open_slides(job) if step == "slide" else [None]
        for slide in slides:
            assert worker.handle(Message(job, step, slide), CancelToken()) == DONE
    worker._child.kill()
    assert service.jobs.get(job).state == "finishing"
    return job


@pytest.mark.parametrize("what", ["a patch", "the rows of a slide", "all rows"])
def test_a_slide_fails_and_a_retry_does_it_again(service, exported, out, alone, what):
    lost = 3 if what == "all rows" else 1
    if what == "a patch":
        (out / "patches/1_0.tiff/Tumor/1_0.tiff_x0_y0.png").unlink()
    else:
        shutil.rmtree(out / "index" / ("" if lost == 3 else "slide_id=1_0.tiff"))
    with working(service):
        state = ended(service, exported)
    assert state.state == "complete"
    kept = {} if lost == 3 else {"done": 2}
    assert (state.slides, state.written) == ({**kept, "failed": lost}, 36 - 12 * lost)
    first = next(iter(service.jobs.slides(exported, state="failed")))
    assert (first.slide_name, first.written) == ("0.tiff", 0)
    assert "0.tiff" in first.failure["error"]
    assert "were removed while the run was at work" in first.failure["error"]
    assert "Retry the job" in first.failure["hint"]
    run = qb.Run.load(out)
    assert len(run.failures) == lost
    assert run.written == state.written
    assert qb.verify(out).ok == (what == "a patch")  # else there are patches that no rows list
    service.jobs.retry(exported)
    with working(service):
        state = ended(service, exported)
    assert (state.slides, state.written) == ({"done": 3}, 36)
    assert_same(out, alone, state)
    assert qb.verify(out).ok


def test_a_retry_finds_that_everything_is_gone(service, exported, out, alone):
    shutil.rmtree(out)
    with working(service, service.settings.replace(attempts=1)):
        state = ended(service, exported)
        assert (state.state, state.slides) == ("failed", {"done": 3})
        assert "run.json was removed" in state.error
        assert "Retry the job" in state.hint
        service.jobs.retry(exported)
        state = ended(service, exported)
    assert (state.state, state.slides, state.written) == ("complete", {"done": 3}, 36)
    assert_same(out, alone, state)
