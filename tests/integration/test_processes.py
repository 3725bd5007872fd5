"""Processes of a run: workers that die, interrupts, and who may write to an output."""

import json
import os
import platform
import signal
import threading
import time

import psutil
import pytest

import qupath_bridge as qb
from qupath_bridge.errors import OutputError
from qupath_bridge.outputs import open_output
from qupath_bridge.runners.processes import _interrupts_held
from qupath_bridge.testing.projects import tree_hashes
from tests.support.run_processes import (
    LONG,
    assert_same_run,
    patches_of,
    start_export,
    workers_of,
)
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no signals like these")

SECONDS = 60
AT_ONCE = 10
"""Seconds within which a run ends that is asked to; an idle machine needs about two."""


@pytest.fixture
def start():
    """A function that starts an export; what is left of it ends with the test."""
    started = []

    def begin(*arguments, **options):
        started.append(start_export(*arguments, **options))
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def resume(study, out):
    """Run an export that was cut off to its end."""
    return qb.export(study.project, out, LONG, resume=True, provenance=False)


def wait_for_patches(out, process, count=1):
    """Wait until some patches are there and the run is still at work."""
    wait_until(lambda: patches_of(out) >= count, process)


def assert_gone(processes, seconds):
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    alive = [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]
    assert alive == []


# --- workers -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_nothing_but_time(study, tmp_path, whole):
    """Its slide is carried out again, and the others that the pool lost with it."""
    killed, seen = [], []

    def listen(progress):
        seen.append(progress)
        if not killed and progress.done > 100:
            worker = workers_of(os.getpid())[0]
            worker.kill()
            killed.append(worker)

    run = qb.export(
        study.project, tmp_path / "out", LONG, runner="processes", workers=2,
        provenance=False, on_progress=listen,
    )  # fmt: skip
    assert len(killed) == 1
    assert run.failures == ()
    assert (seen[-1].slides_done, seen[-1].done) == (2, run.written)
    assert_same_run(run, whole)
    assert workers_of(os.getpid()) == []


# --- interrupts ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("whole_group", [False, True], ids=["to the command", "to all processes"])
def test_an_interrupt_ends_all_processes(study, tmp_path, start, number, whole_group, whole):
    """Ctrl-C of a terminal goes to all processes at once, and ``kill`` to one."""
    out = tmp_path / "out"
    process = start(study, out, "--runner", "processes", "--workers", "2")
    wait_for_patches(out, process, 50)
    workers = workers_of(process.pid)
    assert len(workers) == 2
    began = time.monotonic()
    if whole_group:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    _, errors = process.communicate(timeout=SECONDS)
    assert time.monotonic() - began < AT_ONCE
    assert process.returncode == 130, errors.decode()
    assert_gone(workers, 1)
    assert b"Traceback" not in errors
    assert b"resume" in errors
    assert open_output(out).holder() is None
    # Slides at work stopped by themselves and took their patches away.
    assert list(open_output(out).unlisted()) == []
    assert list(out.rglob(".qb-tmp-*")) == []
    assert_same_run(resume(study, out), whole)


def test_an_interrupt_waits_until_a_process_is_started():
    """Another thread may get the signal; the main thread is interrupted all the same."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    ended = threading.Event()
    other = threading.Thread(target=ended.wait)
    other.start()
    steps = []
    try:
        with pytest.raises(KeyboardInterrupt), _interrupts_held():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
            steps.append("started")
        assert steps == ["started"]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        with _interrupts_held():
            steps.append("nothing came")
    finally:
        ended.set()
        other.join()
        signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0, 0.1, 0.3, 0.6])
def test_an_interrupt_while_processes_start(study, tmp_path, start, seconds):
    """They have not said yet that they leave interrupts to the command."""
    out = tmp_path / "out"
    process = start(study, out, "--runner", "processes", "--workers", "2")
    wait_until(lambda: workers_of(process.pid), process)
    time.sleep(seconds)
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=SECONDS)
    assert time.monotonic() - began < AT_ONCE
    assert process.returncode == 130, errors.decode()
    assert b"Traceback" not in errors
    assert open_output(out).holder() is None


@pytest.mark.slow
def test_an_interrupt_while_a_slide_is_carried_out_alone(study, tmp_path, start):
    """After a worker died, its slide has a pool of its own, which ends as well."""
    out = tmp_path / "out"
    process = start(study, out, "--runner", "processes", "--workers", "2", stride=6)
    wait_for_patches(out, process, 50)
    first = workers_of(process.pid)
    first[0].kill()
    wait_until(lambda: set(workers_of(process.pid)).isdisjoint(first), process)
    wait_until(lambda: len(workers_of(process.pid)) == 1, process)
    (worker,) = workers_of(process.pid)
    wait_until(lambda: worker.cpu_times().user > 0.5, process)
    time.sleep(1)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=SECONDS)
    assert time.monotonic() - began < AT_ONCE
    assert process.returncode == 130, errors.decode()
    assert_gone([worker], 1)


@pytest.mark.slow
def test_workers_end_with_a_command_that_is_killed(study, tmp_path, start, whole):
    out = tmp_path / "out"
    process = start(study, out, "--runner", "processes", "--workers", "2")
    wait_for_patches(out, process, 50)
    workers = workers_of(process.pid)
    process.kill()
    assert_gone(workers, 5)
    assert_same_run(resume(study, out), whole)


# --- one run at a time ---------------------------------------------------------------------------


def stand_still(process, out):
    """Stop a process, and return what the output has once none of its threads writes any more."""
    process.send_signal(signal.SIGSTOP)
    time.sleep(0.5)  # the threads of a process do not stop at once
    before = tree_hashes(out)
    time.sleep(0.2)
    assert tree_hashes(out) == before
    return before


@pytest.mark.slow
def test_an_output_belongs_to_the_process_that_writes_to_it(study, tmp_path, start, whole):
    """Others are told run, process and host; when it was killed, a resumed run takes over."""
    out = tmp_path / "out"
    process = start(study, out, "--workers", "1")
    wait_for_patches(out, process)
    before = stand_still(process, out)
    run_id = json.loads((out / "run.json").read_bytes())["run_id"]
    for mode in ("--resume", "--update"):
        second = start(study, out, mode)
        _, errors = second.communicate(timeout=SECONDS)
        assert second.returncode == 5
        said = errors.decode()
        assert f"is in use by run {run_id}: process {process.pid} on {platform.node()}" in said
        assert "with --break-lock" in said
    with pytest.raises(OutputError, match=f"in use by run {run_id}: process {process.pid} on"):
        qb.clean(out)
    assert tree_hashes(out) == before
    process.kill()
    process.wait()
    run = resume(study, out)
    assert run.run_id == run_id
    assert open_output(out).holder() is None
    assert_same_run(run, whole)


@pytest.mark.slow
def test_a_broken_lock_is_taken_over(study, tmp_path, start, whole):
    """A process that only seems to be at work: it stands still, and somebody says so."""
    out = tmp_path / "out"
    process = start(study, out, "--workers", "1")
    wait_for_patches(out, process)
    stand_still(process, out)
    assert qb.clean(out, break_lock=True) > 0
    assert open_output(out).holder() is None
    process.kill()
    assert_same_run(resume(study, out), whole)
