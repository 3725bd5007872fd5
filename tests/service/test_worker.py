"""A job from its submission to its end, as one run of the command line, whatever dies."""

import filecmp
import shutil
import time

import pytest
import sqlalchemy as sa

import qupath_bridge as qb
from qupath_bridge.errors import OutputError
from qupath_bridge.outputs import open_output
from qupath_bridge.pipeline.cancel import CancelToken
from qupath_bridge.service import worker as worker_module
from qupath_bridge.service.children import StepError
from qupath_bridge.service.database.indexing import index_run
from qupath_bridge.service.database.models import Correction, IndexedRun, JobSlide, Patch
from qupath_bridge.service.jobs import ConflictError
from qupath_bridge.service.queues import DONE, Again, Message
from qupath_bridge.service.worker import Worker
from tests.support.service import BAD_STEPS, ended, in_state, wait_for, working

CONFIGURATION = {"size": 32}
NEVER = CancelToken()


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out" / "job"


@pytest.fixture
def job(service, project, out):
    return service.jobs.submit([str(project)], str(out), CONFIGURATION)


@pytest.fixture
def alone(project, tmp_path):
    """The same run, made by one call."""
    return qb.export(project, tmp_path / "alone", qb.ExportConfig(size=32))


def test_a_job_writes_what_an_export_writes(service, job, out, alone):
    with working(service):
        state = ended(service, job)
    assert state.state == "complete", state
    assert (state.slides, state.written, state.error) == ({"done": 3}, 36, None)
    assert state.result["labels"] == {"Tumor": 36}
    assert_same(out, alone, state)
    assert qb.verify(out).ok
    assert len(list((alone.provenance[0].parent).iterdir())) == 2  # the run of the job, too
    assert service.queue.waiting() == 0


def assert_same(out, alone, state):
    """Every byte of a patch, and the digest of the run."""
    assert state.result["run_digest"] == alone.record["run_digest"]
    ours = {path.relative_to(out) for path in out.rglob("*.png")}
    theirs = {path.relative_to(alone.out) for path in alone.out.rglob("*.png")}
    assert ours == theirs
    assert len(ours) == 36
    names = sorted(map(str, ours))
    assert filecmp.cmpfiles(out, alone.out, names, shallow=False)[0] == names
    assert open_output(out).holder() is None


@pytest.mark.parametrize(
    ("kind", "steps"),
    [
        ("crash", ["prepare", "1", "2", "finish"]),
        ("memory", ["1"]),
        ("hang", ["2"]),
        ("full", ["1", "1", "finish"]),
    ],
)
def test_what_can_heal_is_done_again(service, job, out, alone, tokens, kind, steps):
    (tokens / kind).write_text("\n".join(steps))
    limits = service.settings.replace(task_seconds=10.0 if kind == "hang" else 60.0, memory_mb=4096)
    with working(service, limits, steps=BAD_STEPS):
        state = ended(service, job)
    if kind == "memory":  # an error of the program: it is not tried again
        assert [s.slide_name for s in service.jobs.slides(job, state="failed")] == ["0.tiff"]
        service.jobs.retry(job)
        with working(service):
            state = ended(service, job)
    assert (tokens / kind).read_text() == ""
    assert state.state == "complete", state
    assert state.slides == {"done": 3}
    assert_same(out, alone, state)


@pytest.mark.parametrize(
    ("kind", "error"), [("crash", "died (signal SIGKILL)"), ("hang", "longer")]
)
def test_a_slide_that_ends_every_process_fails_alone(service, job, out, tokens, kind, error):
    (tokens / kind).write_text("\n".join(["2"] * 10))
    limits = service.settings.replace(task_seconds=10.0 if kind == "hang" else 60.0, attempts=2)
    with working(service, limits, steps=BAD_STEPS):
        state = ended(service, job)
    assert (state.state, state.slides) == ("complete", {"done": 2, "failed": 1})
    (failed,) = service.jobs.slides(job, state="failed")
    assert (failed.slide_name, failed.attempts) == ("1.tiff", 2)
    assert error in failed.failure["error"]
    assert failed.failure["hint"]
    assert [letter.message.slide_id for letter in service.queue.dead_letters()] == [failed.slide_id]
    run = qb.Run.load(out)
    assert [failure.slide_name for failure in run.failures] == ["1.tiff"]
    (tokens / kind).write_text("")
    service.jobs.retry(job)
    with working(service):
        state = ended(service, job)
    assert (state.slides, state.written) == ({"done": 3}, 36)
    assert qb.Run.load(out).failures == ()
    assert qb.verify(out).ok


def test_a_slide_that_cannot_be_read_is_not_tried_again(service, project, out):
    (project.parent.parent / "1.tiff").write_bytes(b"no slide")
    job = service.jobs.submit([str(project)], str(out), CONFIGURATION)
    with working(service):
        state = ended(service, job)
    assert (state.state, state.slides) == ("complete", {"done": 2, "failed": 1})
    (failed,) = service.jobs.slides(job, state="failed")
    assert (failed.attempts, failed.slide_name) == (1, "1.tiff")
    assert list(service.queue.dead_letters()) == []


def test_a_slide_outside_the_roots_is_not_read(service, project, settings, tmp_path, out):
    study = tmp_path / "study"
    shutil.move(study / "0.tiff", tmp_path / "secret.tiff")
    (study / "0.tiff").symlink_to(tmp_path / "secret.tiff")
    job = service.jobs.submit([str(project)], str(out), CONFIGURATION)
    with working(service):
        state = ended(service, job)
    assert state.slides == {"done": 2, "failed": 1}
    (failed,) = service.jobs.slides(job, state="failed")
    assert "no folder that the service may read" in failed.failure["error"]
    assert "secret" not in str(failed.failure)


def test_a_job_that_is_refused_says_why(service, project, out):
    out.mkdir(parents=True)
    (out / "mine.txt").write_text("not a run")
    job = service.jobs.submit([str(project)], str(out), CONFIGURATION)
    with working(service):
        state = ended(service, job)
    assert state.state == "failed"
    assert "is not a run" in state.error
    assert state.hint == "Name a new folder."
    assert sorted(path.name for path in out.iterdir()) == ["mine.txt"]
    (out / "mine.txt").unlink()
    service.jobs.retry(job)
    with working(service):
        assert ended(service, job).state == "complete"


def test_two_jobs_never_share_an_output(service, project, job, out):
    worker = Worker(service.settings, service.database, service.queue)
    assert worker.handle(Message(job, "prepare"), NEVER) == DONE
    other = service.jobs.submit([str(project)], str(out), {**CONFIGURATION, "update": True})
    worker.handle(Message(other, "prepare"), NEVER)
    worker._child.kill()
    assert service.jobs.get(other).state == "failed"
    assert f"job {job} of a service" in service.jobs.get(other).error
    with pytest.raises(OutputError, match=f"job {job} of a service"):
        qb.export(project, out, qb.ExportConfig(size=32), resume=True)
    with working(service):
        assert ended(service, job).state == "complete"


def test_messages_that_come_twice_change_nothing(service, job, out, alone):
    """In any order, also after the job has ended."""
    with working(service):
        in_state(service, job, "running")
        slides = [slide.slide_id for slide in service.jobs.slides(job)]
        again = [Message(job, "finish"), Message(job, "prepare")]
        again += [Message(job, "slide", each) for each in slides]
        for message in again * 2:
            service.queue.publish(message)
        state = ended(service, job)
        for message in again:
            service.queue.publish(message)
        service.queue.publish(Message("nobody", "slide", "1"))
        wait_for(lambda: service.queue.waiting() == 0)
    assert service.jobs.get(job) == state
    assert [slide.attempts for slide in service.jobs.slides(job)] == [1, 1, 1]
    assert_same(out, alone, state)


def test_a_leased_slide_is_left_to_its_worker(service, job):
    first = Worker(service.settings, service.database, service.queue)
    second = Worker(service.settings, service.database, service.queue)
    assert first.handle(Message(job, "prepare"), NEVER) == DONE
    slide = service.jobs.slides(job)[0].slide_id
    assert first._ledger.claim_slide(job, slide)
    outcome = second.handle(Message(job, "slide", slide), NEVER)
    first._child.kill()
    assert isinstance(outcome, Again)
    assert 0 < outcome.seconds <= service.settings.lease_seconds
    assert not second._ledger.leave_slide(job, slide, "done")
    assert service.jobs.slides(job)[0].state == "working"


def test_cancel_stops_the_slide_at_work_and_gives_the_output_back(service, job, out, tokens):
    (tokens / "hang").write_text("1 2 3")
    with working(service, steps=BAD_STEPS):
        wait_for(lambda: service.jobs.get(job).slides.get("working"))
        service.jobs.cancel(job)
        wait_for(lambda: open_output(out).holder() is None)
        wait_for(lambda: not service.jobs.get(job).slides.get("working"))
    state = service.jobs.get(job)
    assert (state.state, state.slides) == ("cancelled", {"cancelled": 3})
    service.jobs.cancel(job)
    (tokens / "hang").write_text("")
    service.jobs.retry(job)
    with working(service):
        state = ended(service, job)
    assert (state.state, state.written) == ("complete", 36)
    with pytest.raises(ConflictError, match="complete"):
        service.jobs.cancel(job)
    with pytest.raises(ConflictError, match="Nothing of job"):
        service.jobs.retry(job)


@pytest.mark.parametrize("steps", ["prepare", "1 2 3"])
def test_a_job_is_retried_while_it_is_still_being_stopped(service, job, out, alone, tokens, steps):
    (tokens / "hang").write_text(steps)
    with working(service, steps=BAD_STEPS):
        wait_for(lambda: service.jobs.get(job).slides.get("working") or steps == "prepare")
        in_state(service, job, "preparing" if steps == "prepare" else "running")
        (tokens / "hang").write_text("")
        service.jobs.cancel(job)
        assert service.jobs.retry(job).state == "queued"
        state = ended(service, job)
    assert_same(out, alone, state)


def test_a_job_that_is_retried_waits_for_those_who_stop(service, job):
    worker = Worker(service.settings, service.database, service.queue)
    assert worker.handle(Message(job, "prepare"), NEVER) == DONE
    slide = service.jobs.slides(job)[0].slide_id
    assert worker._ledger.claim_slide(job, slide)
    service.jobs.cancel(job)
    service.jobs.retry(job)
    outcome = worker.handle(Message(job, "prepare"), NEVER)
    assert isinstance(outcome, Again)
    assert 0 < outcome.seconds <= 1
    worker._ledger.leave_slide(job, slide, "cancelled")
    assert worker.handle(Message(job, "prepare"), NEVER) == DONE
    worker._child.kill()
    assert service.jobs.get(job).slides == {"waiting": 3}


def test_a_stopped_worker_gives_its_slide_back(service, job, out, alone, tokens):
    (tokens / "hang").write_text("1 2 3")
    with working(service, steps=BAD_STEPS):
        wait_for(lambda: service.jobs.get(job).slides.get("working"))
    slides = service.jobs.slides(job)
    assert {slide.state for slide in slides} == {"waiting"}
    assert [slide.attempts for slide in slides] == [0, 0, 0]  # a stop is nobody's fault
    with working(service):
        state = ended(service, job)
    assert_same(out, alone, state)


@pytest.fixture
def lose(service, job):
    """A function that loses every message of the job."""
    return lambda: service.queue.cancel(job)


def test_what_the_queue_lost_is_found_again(service, job, out, alone, lose):
    """The broker may lose everything: the database knows what is left to do."""
    for step in ("prepare", "slide"):
        lose()
        assert service.queue.waiting() == 0
        if step == "slide":
            worker = Worker(service.settings, service.database, service.queue)
            worker.handle(Message(job, "prepare"), NEVER)
            worker._child.kill()
            lose()
    quick = service.settings.replace(lease_seconds=0.5)
    with working(service, quick):
        state = ended(service, job)
    assert_same(out, alone, state)


def test_the_database_is_an_index_of_what_was_committed(service, job, out):
    with working(service):
        ended(service, job)
    table = qb.Run.load(out).table().to_pylist()
    with service.database.read() as connection:
        rows = connection.execute(
            sa.select(Patch.__table__).order_by(Patch.slide_id, Patch.patch_id)
        ).all()
        assert connection.scalar(sa.select(sa.func.count()).select_from(IndexedRun)) == 1
        assert connection.scalar(sa.select(sa.func.count()).select_from(Correction)) == 0
        assert connection.scalar(sa.select(sa.func.sum(JobSlide.written))) == len(rows)
    # The end of the job left them as they were: whoever reads them page by page misses none.
    assert sorted(row.number for row in rows) == list(range(1, 37))
    expected = sorted(table, key=lambda row: (row["slide_id"], row["patch_id"]))
    assert [(r.tile_uuid, r.label, r.path, r.digest, r.shares) for r in rows] == [
        (e["tile_uuid"], e["label"], e["path"], e["digest"], dict(e["shares"])) for e in expected
    ]


def test_a_run_that_is_indexed_is_not_written_again(service, job, out, monkeypatch):
    """At the end of a job: others could not write meanwhile, on SQLite."""
    with working(service):
        ended(service, job)
    written, write = [], type(service.database).write

    def counted(database, **options):
        written.append(options)
        return write(database, **options)

    monkeypatch.setattr(type(service.database), "write", counted)
    assert index_run(service.database, str(out), anew=False) == 36
    assert len(written) == 2  # the record before, the artifacts after
    assert index_run(service.database, str(out)) == 36
    assert len(written) == 2 + 2 + 3


def test_a_finish_that_comes_again_leaves_the_next_run_alone(service, job, out):
    """Its own job gave the output back, and another one has it by now."""
    worker = Worker(service.settings, service.database, service.queue)
    assert worker.handle(Message(job, "prepare"), NEVER) == DONE
    for slide in worker._ledger.open_slides(job):
        assert worker.handle(Message(job, "slide", slide), NEVER) == DONE
    claim = worker._ledger.claim_job(job, {"finishing": "finishing"})
    sources, _ = worker._ledger.outcome_of(job)
    request = {"job_id": job, "request": claim.request, "sources": sources, "failures": []}
    first, again = (worker._child.call("finish", request) for _ in range(2))
    assert first["run_digest"] == again["run_digest"]
    output, before = open_output(out), (out / "run.json").read_bytes()
    assert output.holder() is None
    output.hold("01J00000000000000000000000", "next job")
    with pytest.raises(StepError, match="next job"):
        worker._child.call("finish", request)
    assert (out / "run.json").read_bytes() == before
    assert output.holder().job == "next job"
    worker._child.kill()


def test_a_job_is_kept_while_its_run_is_indexed_for_longer_than_a_lease(
    service, job, out, alone, monkeypatch
):
    """Two workers that take it from each other would never finish it."""
    short = service.settings.replace(lease_seconds=2.0)
    first, second = (Worker(short, service.database, service.queue) for _ in range(2))
    assert first.handle(Message(job, "prepare"), NEVER) == DONE
    for slide in first._ledger.open_slides(job):
        assert first.handle(Message(job, "slide", slide), NEVER) == DONE
    outcomes = []

    def slow(database, place, *, anew, go_on):
        def slower():
            time.sleep(1.0)
            kept = go_on()
            outcomes.append(second.handle(Message(job, "finish"), NEVER))
            return kept

        return index_run(database, place, anew=anew, go_on=slower)

    monkeypatch.setattr(worker_module, "index_run", slow)
    assert first.handle(Message(job, "finish"), NEVER) == DONE
    assert [type(outcome) for outcome in outcomes] == [Again] * 3
    assert_same(out, alone, service.jobs.get(job))
    first._child.kill()
    second._child.kill()


@pytest.mark.parametrize("broken", ["index_slide", "index_run"])
def test_an_output_that_is_away_while_it_is_indexed(service, job, out, alone, monkeypatch, broken):
    """It is tried again, and said what is wrong."""
    index, away = getattr(worker_module, broken), [True] * 4

    def ask(*arguments, **named):
        if away and away.pop():
            raise OutputError("The share cannot be reached.", hint="Mount it.", may_heal=True)
        return index(*arguments, **named)

    monkeypatch.setattr(worker_module, broken, ask)
    with working(service, service.settings.replace(attempts=2)):
        state = ended(service, job)
    if broken == "index_run":
        assert (state.state, state.error, state.hint) == (
            "failed",
            "The share cannot be reached.",
            "Mount it.",
        )
    else:
        failed = list(service.jobs.slides(job, state="failed"))
        assert {each.failure["error"] for each in failed} == {"The share cannot be reached."}
        assert {each.attempts for each in failed} == {2}
    away.clear()
    service.jobs.retry(job)
    with working(service):
        state = ended(service, job)
    assert (state.state, state.slides) == ("complete", {"done": 3})
    assert_same(out, alone, state)
