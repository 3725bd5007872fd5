"""The runner ``dask``: a scheduler that is there, and one that is started for the run."""

import dataclasses
import json
import os
import signal
import subprocess
import sys

import psutil
import pytest

import qupath_bridge as qb
from qupath_bridge import registry
from qupath_bridge.errors import (
    BridgeError,
    MissingDependencyError,
    UsageError,
)
from qupath_bridge.outputs import open_output
from qupath_bridge.testing.contracts.runner import RunnerContract
from tests.support.run_processes import (
    LONG,
    assert_same_run,
    check_stopped,
    patches_of,
    start_export,
    workers_of,
)
from tests.support.waiting import wait_until

distributed = pytest.importorskip("distributed", reason="Dask is not installed")
dask = pytest.importorskip("dask")

from qupath_bridge.runners import dask as module  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("dask")]

SECONDS = 120

# Workers load this: a slide of one of these names ends the process that opens it, or takes memory.
POISON = """
import os, time
from qupath_bridge.pipeline import task
from qupath_bridge.readers import open_reader as opened
def open_reader(path, **options):
    if str(path).endswith("poison.tiff"):
        os._exit(9)
    held = []
    while str(path).endswith("large.tiff"):
        held.append(bytearray(32 << 20))
        held[-1][::4096] = bytes(len(held[-1][::4096])).replace(b"\\0", b"1")
        time.sleep(0.02)
    return opened(path, **options)
task.open_reader = open_reader
"""


def somebody_elses(**options):
    """Return a cluster on this machine that is not the run's own."""
    return distributed.LocalCluster(
        threads_per_worker=1, host="127.0.0.1", dashboard_address=None, silence_logs=50,
        scheduler_kwargs={"allowed_failures": 0, "dashboard_address": "127.0.0.1:0"}, **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def poison(tmp_path_factory):
    """A file that workers load."""
    path = tmp_path_factory.mktemp("dask") / "poison.py"
    path.write_text(POISON)
    return str(path)


@pytest.fixture(scope="module")
def cluster(poison):
    """A scheduler and two workers that somebody else started, in a folder of theirs."""
    with somebody_elses(n_workers=2, preload=[poison]) as cluster:
        yield cluster


class TestDask(RunnerContract):
    @pytest.fixture(autouse=True)
    def _at(self, cluster):
        self.address = cluster.scheduler_address

    def make(self):
        return registry.load("runner", "dask")(argument=self.address)

    def test_a_slide_that_ends_its_worker_fails_alone(self, project, tmp_path):
        """As often as it is tried, its worker is started again."""
        (tmp_path / "2.tiff").rename(tmp_path / "poison.tiff")
        tasks = [
            task if task.entry_id != "3" else self.moved(task, tmp_path)
            for task in self.tasks(project, tmp_path / "out")
        ]
        results = list(self.make().run(tasks))
        failed = [result for result in results if result.failure]
        assert [result.entry_id for result in failed] == ["3"]
        assert "died, twice" in failed[0].failure.error
        assert sum(result.written for result in results) == 12 * 4

    def test_a_slide_that_takes_all_memory_fails_alone(self, project, tmp_path, poison):
        """Dask ends the worker that is over its limit, and starts another."""
        (tmp_path / "2.tiff").rename(tmp_path / "large.tiff")
        tasks = [
            task if task.entry_id != "3" else self.moved(task, tmp_path, "large.tiff")
            for task in self.tasks(project, tmp_path / "out")
        ]
        with somebody_elses(n_workers=1, memory_limit="900MB", preload=[poison]) as cluster:
            runner = registry.load("runner", "dask")(argument=cluster.scheduler_address)
            results = list(runner.run(tasks))
        failed = [result for result in results if result.failure]
        assert [result.entry_id for result in failed] == ["3"]
        assert "died, twice" in failed[0].failure.error
        assert "memory" in failed[0].failure.hint
        assert sum(result.written for result in results) == 12 * 4

    def moved(self, task, folder, name="poison.tiff"):
        places = {str(folder / "2.tiff"): str(folder / name)}
        source = dataclasses.replace(task.source, slide_map=places)
        return dataclasses.replace(task, source=source)


@pytest.mark.skipif(os.name == "nt", reason="Windows ends processes in another way")
def test_a_worker_that_is_killed_costs_nothing_but_time(study, tmp_path, whole):
    """And until the run ends, nothing of it listens to other machines."""
    killed, seen, addresses = [], [], set()
    others = set(workers_of(os.getpid()))

    def listen(progress):
        seen.append(progress)
        if not killed and progress.done > 100:
            workers = set(workers_of(os.getpid())) - others
            for process in (psutil.Process(), *workers):
                for each in process.net_connections("inet"):
                    if each.status == psutil.CONN_LISTEN:
                        addresses.add(each.laddr.ip)
            killed.append(workers.pop())
            killed[0].kill()

    run = qb.export(
        study.project, tmp_path / "out", LONG, runner="dask", workers=2, provenance=False,
        on_progress=listen,
    )  # fmt: skip
    assert len(killed) == 1
    assert addresses == {"127.0.0.1"}
    assert run.failures == ()
    assert (seen[-1].slides_done, seen[-1].done) == (2, run.written)
    assert_same_run(run, whole)
    assert set(workers_of(os.getpid())) <= others


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals like these")
def test_an_interrupt_ends_all_processes(study, tmp_path, whole):
    """Ctrl-C of a terminal goes to all processes at once."""
    out = tmp_path / "out"
    process = start_export(study, out, "--runner", "dask", "--workers", "2")
    try:
        wait_until(lambda: patches_of(out) > 50, process, seconds=SECONDS)
        workers = workers_of(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=SECONDS)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130, errors.decode()
    assert b"Traceback" not in errors
    assert workers
    _, alive = psutil.wait_procs(workers, timeout=5)
    assert alive == []
    # Slides at work stopped by themselves and removed their patches.
    assert list(open_output(out).unlisted()) == []
    assert_same_run(qb.export(study.project, out, LONG, resume=True, provenance=False), whole)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals like these")
def test_workers_of_a_cluster_give_up_what_nobody_waits_for(study, tmp_path, cluster):
    """The command is killed; the cluster stays, and its workers do not work for nothing."""
    out = tmp_path / "out"
    process = start_export(study, out, "--runner", f"dask:{cluster.scheduler_address}", stride=6)
    try:
        wait_until(lambda: patches_of(out) > 50, process, seconds=SECONDS)
    finally:
        process.kill()
        process.communicate()
    # Who gives a slide up lists its files, and the sweep of the next run removes them.
    wait_until(
        lambda: any((out / "leftovers").rglob("*.json")) or open_output(out).slides(),
        seconds=SECONDS,
    )
    assert open_output(out).slides() == []
    open_output(out).sweep()
    assert patches_of(out) == 0
    with distributed.Client(cluster, set_as_default=False) as client:
        assert len(client.nthreads()) == 2


def test_no_slide_is_at_work_after_a_run_was_stopped(study, tmp_path, cluster):
    """Its lock is gone then, and another run may write there."""
    check_stopped(study, tmp_path / "out", f"dask:{cluster.scheduler_address}")


def test_a_cluster_with_another_version_is_refused(cluster, study, tmp_path, monkeypatch):
    """Before the first slide, with the place and both versions."""
    monkeypatch.setattr(module, "__version__", "0.0.1")
    runner = module.DaskRunner(argument=cluster.scheduler_address)
    with pytest.raises(
        MissingDependencyError, match=r"The Dask scheduler has qupath-bridge .*0\.0\.1"
    ):
        list(runner.run([]))


def test_a_scheduler_that_is_not_there_is_named():
    import dask

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "0.5s"}),
        pytest.raises(UsageError, match="No Dask scheduler can be reached at tcp://127.0.0.1:9"),
    ):
        list(module.DaskRunner(argument="tcp://127.0.0.1:9").run([]))
    with pytest.raises(UsageError, match="empty address"):
        module.DaskRunner(argument="")


def test_the_command_that_installs_dask_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingDependencyError, match=r"qupath-bridge\[dask\]"):
        module.DaskRunner()


@pytest.mark.skipif(os.name == "nt", reason="Windows ends processes in another way")
def test_a_worker_without_a_nanny_is_not_started_again(study, tmp_path, whole):
    """The other one does its slide."""
    with somebody_elses(n_workers=0) as cluster:
        words = ["-m", "distributed.cli.dask_worker", cluster.scheduler_address, "--no-nanny"]
        more = ["--nthreads", "1", "--no-dashboard", "--local-directory", str(tmp_path)]
        workers = [
            subprocess.Popen([sys.executable, *words, *more], stderr=subprocess.DEVNULL)
            for _ in range(2)
        ]
        try:

            def listen(progress):
                if workers[0].poll() is None and progress.done > 100:
                    workers[0].kill()
                    workers[0].wait()

            run = qb.export(
                study.project, tmp_path / "out", LONG, provenance=False, on_progress=listen,
                runner=f"dask:{cluster.scheduler_address}",
            )  # fmt: skip
            assert workers[0].poll() is not None
            assert workers[1].poll() is None
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
    assert run.failures == ()
    assert_same_run(run, whole)


def test_a_cluster_that_adapts_gets_workers_when_they_are_needed(study, tmp_path, whole):
    """None are there before, and none a while after."""
    with somebody_elses(n_workers=0) as cluster:
        cluster.adapt(minimum=0, maximum=2, interval="200ms", wait_count=2)
        assert cluster.scheduler_info["workers"] == {}
        run = qb.export(
            study.project, tmp_path / "out", LONG, provenance=False,
            runner=f"dask:{cluster.scheduler_address}",
        )  # fmt: skip
        wait_until(lambda: not cluster.scheduler_info["workers"], seconds=SECONDS)
    assert_same_run(run, whole)


def test_a_scheduler_that_dies_ends_the_run_with_the_next_step(study, tmp_path, whole):
    """What is committed stays, and the rest is done by a run that is resumed."""
    out = tmp_path / "out"
    words = ["-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    where = tmp_path / "scheduler.json"
    more = ["--no-dashboard", "--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(where)]
    scheduler = subprocess.Popen([sys.executable, *words, *more], stderr=subprocess.DEVNULL)
    wait_until(where.exists, scheduler, seconds=SECONDS)
    address = json.loads(where.read_text())["address"]
    worker = subprocess.Popen(
        [
            sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1",
            "--no-dashboard", "--local-directory", str(tmp_path), "--death-timeout", "2",
        ],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def listen(progress):
        if progress.done > 100:
            scheduler.kill()

    try:
        with (
            dask.config.set({"distributed.comm.timeouts.connect": "3s"}),
            pytest.raises(BridgeError, match="Dask scheduler") as caught,
        ):
            qb.export(
                study.project, out, LONG, provenance=False, runner=f"dask:{address}",
                on_progress=listen,
            )  # fmt: skip
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.wait()
    assert "Resume" in caught.value.hint
    assert_same_run(qb.export(study.project, out, LONG, resume=True, provenance=False), whole)


# A program that imports Dask, and an output that fails for a reason that cannot be sent.
BESIDE_DASK = """
import sys, threading
import qupath_bridge as qb
from qupath_bridge.errors import OutputError
from qupath_bridge.pipeline import task
class Locked(Exception):
    def __init__(self):
        self.lock = threading.Lock()
import distributed  # it looks at all errors that are there
def full(path, **options):
    try:
        raise Locked
    except Locked as error:
        raise OutputError("The disk is full.") from error
task.open_reader = full
if __name__ == "__main__":
    try:
        qb.export(sys.argv[1], sys.argv[2], qb.ExportConfig(size=64), runner="processes", workers=1)
    except OutputError as error:
        print(error, *error.__notes__)
"""


def test_processes_of_a_program_that_imports_dask_tell_what_went_wrong(study, tmp_path):
    """Dask changes how all errors of a process are sent."""
    program = tmp_path / "program.py"
    program.write_text(BESIDE_DASK)
    words = [sys.executable, str(program), str(study.project), str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS)
    assert done.stdout.startswith("The disk is full. On "), done.stderr
    assert "raise Locked" in done.stdout
