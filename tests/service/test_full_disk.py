"""The disk of an output is full while a job is at work: what is true is said, nothing hangs."""

import pytest

import qupath_bridge as qb
from tests.service.test_worker import CONFIGURATION, alone, assert_same
from tests.support.service import ended, wait_for, working
from tests.support.small_disk import small_disk

__all__ = ["alone"]

pytestmark = pytest.mark.slow


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "out") as disk:
        yield disk


@pytest.mark.parametrize("kilobytes", [0, 8, 120, 240])
def test_a_retry_finishes_the_job_when_there_is_room(
    service, project, tmp_path, disk, alone, kilobytes
):
    """It is full before the run, its records, some slides, and the end."""
    out = tmp_path / "out" / "job"
    disk.leave(kilobytes << 10)
    job = service.jobs.submit([str(project)], str(out), CONFIGURATION)
    with working(service, service.settings.replace(attempts=2)):
        state = ended(service, job)
        assert state.state == "failed"
        assert "No space left" in state.error
        assert "Free disk space" in state.hint
        assert sum(state.slides.values()) == (0 if kilobytes < 10 else 3)
        for slide in service.jobs.slides(job, state="failed"):
            assert slide.attempts == 2
            assert "No space left" in slide.failure["error"] or "free" in slide.failure["error"]
            assert "Free disk space" in slide.failure["hint"]
        disk.free()
        service.jobs.retry(job)
        state = ended(service, job)
    assert (state.state, state.slides, state.error) == ("complete", {"done": 3}, None)
    assert_same(out, alone, state)
    assert qb.verify(out).ok


def test_a_job_goes_on_by_itself_when_there_is_room_in_time(
    service, project, tmp_path, disk, alone
):
    out = tmp_path / "out" / "job"
    disk.leave(120 << 10)
    job = service.jobs.submit([str(project)], str(out), CONFIGURATION)
    with working(service, service.settings.replace(attempts=50)):
        wait_for(lambda: any(slide.attempts > 1 for slide in service.jobs.slides(job)))
        disk.free()
        state = ended(service, job)
    assert (state.state, state.slides) == ("complete", {"done": 3})
    assert_same(out, alone, state)
