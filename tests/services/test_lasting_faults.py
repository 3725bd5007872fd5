"""What an object store does for longer than one request is sent again: away, refusing, emptied."""

from pathlib import Path

import pytest
import sqlalchemy as sa

import qupath_bridge as qb
from qupath_bridge.pipeline.cancel import CancelToken
from qupath_bridge.service.database.models import Job
from qupath_bridge.service.queues import DONE, Message
from qupath_bridge.service.settings import ServiceSettings
from qupath_bridge.service.worker import Worker
from qupath_bridge.stores import open_store, staging
from tests.service.conftest import service
from tests.support import impatient_steps
from tests.support.cluster import CONFIGURATION, make_study
from tests.support.run_content import patch_files
from tests.support.service import ended, wait_for, working
from tests.support.small_disk import small_disk

__all__ = ["service"]

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("services")]

STEPS = impatient_steps.__name__.rpartition(".")[2]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("study"), 2)


@pytest.fixture
def slides(bucket):
    """URL of the slides: another one for each test, which all have one study."""
    return f"{bucket}/{bucket.removeprefix('s3://')}"


@pytest.fixture
def project(study, slides, relay, monkeypatch):
    """A project whose slides are in the bucket, behind the relay."""
    project = study.in_bucket(slides)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{relay.port}")
    monkeypatch.syspath_prepend(Path(impatient_steps.__file__).parent)  # for processes of workers
    return project


@pytest.fixture
def settings(study, bucket, slides, tmp_path):
    return ServiceSettings(
        database=f"sqlite:///{(tmp_path / 'service.sqlite').as_posix()}",
        sources=[str(study.folder), slides],
        outputs=[str(tmp_path / "out"), f"{bucket}/out"],
        lease_seconds=30.0,
        retry_seconds=0.1,
    )


def submit(service, project, out):
    return service.jobs.submit([str(project)], str(out), CONFIGURATION)


def patient(service):
    return service.settings.replace(attempts=50)


def check_same(service, study, job, out):
    """The run is the undisturbed one; return the slides of the job."""
    state = service.jobs.get(job)
    assert (state.state, state.slides, state.error) == ("complete", {"done": 2}, None)
    assert state.result["run_digest"] == study.alone.record["run_digest"]
    assert patch_files(out) == patch_files(study.alone.out)
    return list(service.jobs.slides(job))


def refusing(condition, status, code):
    """Return what a relay answers to requests for which something holds, as S3 does."""
    body = f"<Error><Code>{code}</Code></Error>".encode()

    def answer(said):
        if not condition(said):
            return None
        head = f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + (b"" if said.startswith(b"HEAD") else body)

    return answer


def check_failed(service, job, error, attempts):
    """Every slide failed, after some attempts, by name and with the next step."""
    state = service.jobs.get(job)
    assert (state.state, state.slides) == ("complete", {"failed": 2})
    for slide in service.jobs.slides(job):
        assert error in slide.failure["error"]
        assert slide.slide_name in slide.failure["error"]
        assert "AWS_ACCESS_KEY_ID" in slide.failure["hint"]
        assert slide.attempts == attempts


def tried_again(service, job):
    """Return whether slides wait for another attempt; those of a retry begin anew."""
    return any(s.attempts > 1 and s.state != "failed" for s in service.jobs.slides(job))


def ask(service, query):
    with service.database.read() as connection:
        return connection.scalar(query)


def test_slides_are_tried_again_while_their_store_is_away(service, study, project, relay, tmp_path):
    out = tmp_path / "out" / "job"
    relay.kill()
    job = submit(service, project, out)
    with working(service, service.settings.replace(attempts=2), steps=STEPS):
        ended(service, job)
    check_failed(service, job, "the service cannot be reached", attempts=2)
    assert len(list(service.queue.dead_letters())) == 2
    service.jobs.retry(job)
    with working(service, patient(service), steps=STEPS):
        wait_for(lambda: tried_again(service, job))
        relay.start()
        ended(service, job)
    slides = check_same(service, study, job, out)
    assert max(slide.attempts for slide in slides) > 1


def test_a_job_is_prepared_again_while_the_store_of_its_output_is_away(
    service, study, project, bucket, relay
):
    """An output that is refused is not tried again: somebody has to name another one."""
    out = f"{bucket}/out/job"
    attempts = sa.select(Job.attempts)
    relay.kill()
    job = submit(service, study.project, out)
    with working(service, patient(service), steps=STEPS):
        wait_for(lambda: ask(service, attempts) > 1)
        relay.start()
        ended(service, job)
    check_same(service, study, job, out)


def test_a_new_token_heals_what_an_expired_one_broke(
    service, study, project, relay, tmp_path, monkeypatch
):
    out = tmp_path / "out" / "job"
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token-of-yesterday")
    relay.answer = refusing(lambda said: b"token-of-yesterday" in said, "400 No", "ExpiredToken")
    job = submit(service, project, out)
    with working(service, service.settings.replace(attempts=2)):
        ended(service, job)
    check_failed(service, job, "the credentials have expired", attempts=2)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token-of-today")
    service.jobs.retry(job)
    with working(service):  # it is started again, with the new token
        ended(service, job)
    check_same(service, study, job, out)


@pytest.mark.parametrize(
    ("code", "error"),
    [("AccessDenied", "access is denied"), ("InvalidAccessKeyId", "access key is not known")],
)
def test_slides_that_may_not_be_read_fail_at_once(service, project, relay, tmp_path, code, error):
    relay.answer = refusing(lambda said: b"HTTP/1.1" in said, "403 No", code)
    job = submit(service, project, tmp_path / "out" / "job")
    with working(service, patient(service)):
        ended(service, job)
    check_failed(service, job, error, attempts=1)


def test_a_slide_that_is_removed_after_the_survey_fails_alone(
    service, study, project, slides, tmp_path
):
    job = submit(service, project, tmp_path / "out" / "job")
    worker = Worker(service.settings, service.database, service.queue)
    assert worker.handle(Message(job, "prepare"), CancelToken()) == DONE
    worker._child.kill()
    gone = study.slides[0].name
    open_store(slides).delete(gone)
    with working(service, patient(service)):
        state = ended(service, job)
    assert (state.state, state.slides) == ("complete", {"done": 1, "failed": 1})
    (failed,) = service.jobs.slides(job, state="failed")
    assert (failed.slide_name, failed.attempts) == (gone, 1)
    assert failed.failure["error"] == f"{slides}/{gone} cannot be read: it does not exist."
    (failure,) = qb.Run.load(tmp_path / "out" / "job").failures
    assert failure.slide_name == gone
    open_store(slides).put(gone, study.slides[0].read_bytes())
    service.jobs.retry(job)
    with working(service):
        ended(service, job)
    check_same(service, study, job, tmp_path / "out" / "job")


def test_slides_are_tried_again_while_the_disk_of_their_cache_is_full(
    service, study, project, tmp_path, monkeypatch
):
    out = tmp_path / "out" / "job"
    job = submit(service, project, out)
    with small_disk(tmp_path / "small") as disk:
        monkeypatch.setenv(staging.CACHE, str(tmp_path / "small" / "cache"))
        disk.leave(4096)
        with working(service, service.settings.replace(attempts=2)):
            ended(service, job)
        for slide in service.jobs.slides(job):
            assert (slide.state, slide.attempts) == ("failed", 2)
            assert "the disk of the cache" in slide.failure["error"]
            assert "Free disk space" in slide.failure["hint"]
        service.jobs.retry(job)
        with working(service, patient(service)):
            wait_for(lambda: tried_again(service, job))
            disk.free()
            ended(service, job)
    check_same(service, study, job, out)
