"""The loop over an engine that has machines of its own, with one that does what it is told."""

import json
import pickle
from queue import SimpleQueue

import pytest

import qupath_bridge as qb
from qupath_bridge.errors import InterruptedRunError, MissingDependencyError, OutputError
from qupath_bridge.frozen import FrozenDict
from qupath_bridge.model import SourceRef
from qupath_bridge.pipeline.task import SlideResult, SlideTask
from qupath_bridge.runners import elsewhere
from qupath_bridge.runners.spreading import Died, Done, Report, spread


def task_of(name):
    return SlideTask(
        SourceRef("/study/project.qpproj", "embedded"), name, name, qb.ExportConfig(size=50),
        qb.RunOptions(workers=8), FrozenDict(), "file:///out", "run",
    )  # fmt: skip


class Planned:
    """An engine of which each slide ends as planned: the outcomes of its attempts by slide."""

    def __init__(self, outcomes, room=2):
        self.inbox = SimpleQueue()
        self.outcomes = {name: list(each) for name, each in outcomes.items()}
        self.size = room
        self.started = []
        self.stopped = 0
        self.looked = 0

    def room(self):
        return self.size

    def start(self, number, order):
        task = SlideTask.from_json(json.loads(order)["task"])
        assert task.options.workers == 1
        self.started.append(task.slide_id)
        self.inbox.put(Report(task.slide_id, 1, 2))
        outcomes = self.outcomes.get(task.slide_id)
        outcome = outcomes.pop(0) if outcomes else SlideResult(task.slide_id, task.slide_id, "")
        self.inbox.put(Done(number, outcome))

    def look(self):
        self.looked += 1
        self.inbox.put(Done(0, SlideResult("a", "a", "")))

    def stop(self):
        self.stopped += 1


def run(engine, names, progress=None, cancel=None):
    return spread(engine, engine.inbox, map(task_of, names), progress, cancel)


def test_each_slide_is_reported_and_has_a_result():
    engine, reports = Planned({}), []
    results = list(run(engine, "abc", progress=lambda *report: reports.append(report)))
    assert [result.slide_id for result in results] == ["a", "b", "c"]
    assert reports == [("a", 1, 2), ("b", 1, 2), ("c", 1, 2)]
    assert engine.stopped == 0


def test_a_slide_whose_process_died_is_carried_out_again_when_all_others_are_done():
    engine = Planned({"a": [Died()]})
    results = list(run(engine, "abcd"))
    assert engine.started == ["a", "b", "c", "d", "a"]
    assert [result.slide_id for result in results] == ["b", "c", "d", "a"]
    assert not any(result.failure for result in results)


def test_a_slide_that_ends_its_process_alone_fails_by_name():
    engine = Planned({"a": [Died(), Died()], "b": [Died()]})
    results = {result.slide_id: result for result in run(engine, "abc")}
    assert engine.started == ["a", "b", "c", "a", "b"]
    assert [name for name, result in results.items() if result.failure] == ["a"]
    assert "died, twice" in results["a"].failure.error
    assert results["a"].failure.project == "/study/project.qpproj"


def test_an_error_ends_the_run_and_stops_the_others():
    engine = Planned({"a": [OutputError("full")]})
    with pytest.raises(OutputError, match="full"):
        list(run(engine, "abc"))
    assert engine.stopped == 1


def test_a_run_that_is_closed_or_cancelled_stops_what_is_at_work():
    engine = Planned({})
    results = run(engine, "abcdefgh")
    next(results)
    results.close()
    assert (engine.stopped, len(engine.started)) == (1, 2)
    token = qb.CancelToken()
    token.cancel()
    with pytest.raises(InterruptedRunError):
        list(run(engine, "abc", cancel=token))
    assert engine.stopped == 2


def test_slides_are_taken_when_there_is_room():
    engine = Planned({}, room=3)
    results = run(engine, map(str, range(10**9)))
    for _ in range(5):
        next(results)
    assert len(engine.started) == 3 + 4
    results.close()


def test_an_engine_says_what_the_run_waits_for_while_nothing_comes(monkeypatch):
    monkeypatch.setattr(Planned, "start", lambda self, number, order: None)
    engine = Planned({})
    assert [result.slide_id for result in run(engine, "a")] == ["a"]
    assert engine.looked == 1


def test_a_worker_with_another_version_refuses_by_both_versions(monkeypatch):
    order = elsewhere.sent(task_of("a"))
    monkeypatch.setattr(elsewhere, "__version__", "0.0.1")
    error = elsewhere.carry_out(order)
    assert isinstance(error, MissingDependencyError)
    assert "qupath-bridge 0.0.1" in str(error)
    assert qb.__version__ in str(error)


@pytest.mark.parametrize("error", [OutputError("full", hint="Free space."), ZeroDivisionError("x")])
def test_an_error_comes_back_as_a_value_that_can_be_sent(error, monkeypatch):
    """What nobody expected is told with its traceback; its class may not be known elsewhere."""

    def fail(task, **options):
        raise error

    monkeypatch.setattr(elsewhere, "process_slide", fail)
    outcome = pickle.loads(pickle.dumps(elsewhere.carry_out(elsewhere.sent(task_of("a")))))
    if isinstance(error, OutputError):
        assert (type(outcome), str(outcome)) == (OutputError, "full Free space.")
    else:
        assert type(outcome) is RuntimeError
        assert str(outcome).startswith("a, on ")
        assert "in fail" in str(outcome)
        assert "ZeroDivisionError: x" in str(outcome)
