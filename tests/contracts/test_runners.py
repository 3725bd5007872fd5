import dataclasses
import os
import pickle
import threading

import pytest

import qupath_bridge as qb
from qupath_bridge import registry
from qupath_bridge.errors import InterruptedRunError, OutputError, UsageError
from qupath_bridge.outputs import open_output
from qupath_bridge.parallel import available_cores, ordered_map
from qupath_bridge.pipeline.task import SlideTask, process_slide
from qupath_bridge.runners.processes import ProcessRunner
from qupath_bridge.runners.threads import ThreadRunner
from qupath_bridge.testing.contracts.runner import RunnerContract


class TestOneThread(RunnerContract):
    def make(self):
        return ThreadRunner(1)


class TestEightThreads(RunnerContract):
    def make(self):
        return ThreadRunner(8)


@pytest.mark.slow
class TestTwoProcesses(RunnerContract):
    def make(self):
        return ProcessRunner(2)

    def test_a_process_that_dies_fails_its_slide_alone(self, project, tmp_path):
        tasks = list(self.tasks(project, tmp_path / "out"))
        results = list(self.make().run([*tasks[:2], Deadly.of(tasks[2]), *tasks[3:]]))
        failed = [result for result in results if result.failure]
        assert [result.entry_id for result in failed] == ["3"]
        assert "died" in failed[0].failure.error
        assert sum(result.written for result in results) == 12 * 4


class Deadly(SlideTask):
    """A task that ends the process that reads it."""

    __slots__ = ()

    @classmethod
    def of(cls, task):
        return cls(**{name: getattr(task, name) for name in SlideTask.__slots__})

    @property
    def __dict__(self):  # dataclasses.replace makes another one of its class
        return {}

    def __reduce__(self):
        return os._exit, (9,)


def test_all_cores_are_used_when_nothing_is_said():
    assert ThreadRunner().workers == available_cores() >= 1
    assert ProcessRunner().workers == available_cores()


@pytest.mark.parametrize("listens", [False, True])
def test_a_slide_that_is_done_is_not_waited_for(study, tmp_path, monkeypatch, listens):
    """However seldom the run looks whether somebody stopped it."""
    monkeypatch.setattr("qupath_bridge.runners.threads.LOOK", 3600)
    heard, runs = [], []

    def export():
        listener = heard.append if listens else None
        config = qb.ExportConfig(size=50)
        runs.append(qb.export(study.project, tmp_path / "out", config, on_progress=listener))

    thread = threading.Thread(target=export, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert not listens or heard[-1].done == runs[0].written


@pytest.mark.parametrize("runner", [ThreadRunner, ProcessRunner])
def test_a_runner_refuses_an_argument(runner):
    with pytest.raises(UsageError, match="takes no argument"):
        runner(argument="x")


def test_a_machine_without_affinity_counts_cores(monkeypatch):
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    assert available_cores() >= 1
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert available_cores() == 1


def test_tasks_are_json_and_pickle(study):
    with qb.open_project(study.project) as project:
        source = project.info.source
    task = SlideTask(
        source, "1", "1_slide", qb.ExportConfig(size=50, map={"A": "B"}), qb.RunOptions(workers=2),
        registry_labels(), str(study.folder / "out"), "run", "digest",
    )  # fmt: skip
    assert pickle.loads(pickle.dumps(task)) == task
    assert SlideTask.from_json(task.as_json()) == task


def test_a_task_of_another_run_is_refused_while_an_output_is_in_use(study, tmp_path):
    """A worker that outlived its run does not write into the next one."""
    with qb.open_project(study.project) as project:
        source = project.info.source
    task = SlideTask(
        source, "1", "1_slide", qb.ExportConfig(size=50), qb.RunOptions(), registry_labels(),
        str(tmp_path / "out"), "OLD",
    )  # fmt: skip
    output = open_output(tmp_path / "out", "folder")
    with output.lock("NEW"):
        with pytest.raises(OutputError, match="in use by run NEW"):
            process_slide(task)
        assert output.slides() == []
        assert process_slide(dataclasses.replace(task, run_id="NEW")).failure is None
    assert output.slides() == ["1_slide"]


def test_a_cancelled_task_opens_no_slide(study, tmp_path, monkeypatch):
    with qb.open_project(study.project) as project:
        source = project.info.source
    task = SlideTask(
        source, "1", "1_slide", qb.ExportConfig(size=50), qb.RunOptions(), registry_labels(),
        str(tmp_path / "out"), "run",
    )  # fmt: skip
    token = qb.CancelToken()
    token.cancel()
    monkeypatch.setattr("qupath_bridge.pipeline.task.open_reader", lambda *_, **__: 1 / 0)
    with pytest.raises(InterruptedRunError, match="slide 1.tiff"):
        process_slide(task, cancel=token)
    assert not (tmp_path / "out").exists()


def registry_labels():
    from qupath_bridge.frozen import FrozenDict

    return FrozenDict({name: name for name in ("Tumor", "Necrosis", "Stroma")})


def test_processes_refuse_by_name_what_lives_in_this_process(study, tmp_path):
    from qupath_bridge.codecs.png import PngEncoder

    registry.register("encoder", "mine", PngEncoder)
    config = qb.ExportConfig(size=50, format="mine")
    with pytest.raises(UsageError, match="encoder 'mine' exists in this process only"):
        qb.export(study.project, tmp_path / "out", config, runner="processes", workers=1)
    with pytest.raises(UsageError, match="output 'memory' exists in this process only"):
        qb.export(
            study.project, "memory://refused", qb.ExportConfig(size=50, container="memory"),
            runner="processes", workers=1, provenance=False,
        )  # fmt: skip


# --- threads inside a slide ----------------------------------------------------------------------


def numbers(task, items, workers=3, stop=None):
    return ordered_map(task, items, workers=workers, stop=stop)


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_ordered_map_gives_results_in_order(workers):
    assert list(numbers(lambda n: n * n, range(40), workers)) == [n * n for n in range(40)]


@pytest.mark.parametrize("workers", [1, 3])
def test_ordered_map_raises_the_first_error_in_its_place(workers):
    started, got = [], []

    def task(number):
        started.append(number)
        if number == 3:
            raise ValueError("three")
        return number

    def consume():
        for result in numbers(task, range(1000), workers):
            got.append(result)  # noqa: PERF402  # what came before the error is looked at

    with pytest.raises(ValueError, match="three"):
        consume()
    assert got == [0, 1, 2]
    assert len(started) < 1000


def test_ordered_map_waits_for_tasks_when_it_is_closed():
    running = []
    stop = threading.Event()

    def task(number):
        running.append(number)
        if number:
            stop.wait(0.2)
        running.remove(number)
        return number

    results = numbers(task, range(100), 3, stop)
    assert next(results) == 0
    results.close()
    assert running == []
    assert stop.is_set()


def test_ordered_map_hands_out_few_tasks_more_than_threads():
    started = []
    results = numbers(started.append, range(1000))
    next(results)
    results.close()
    assert len(started) <= 2 * 3 + 4
