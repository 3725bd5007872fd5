"""Two processes at one slide of one run, as where a queue delivers it twice."""

import json
import os
import subprocess
import sys

import qupath_bridge as qb
from qupath_bridge.api.shared_runs import end_shared_run, start_shared_run
from qupath_bridge.config import Settings
from qupath_bridge.patches.ids import run_id

WORKER = """
import json, sys, threading
from qupath_bridge.errors import InterruptedRunError
from qupath_bridge.pipeline.task import SlideTask, process_slide
task = SlideTask.from_json(json.loads(sys.argv[1]))
stop_after = int(sys.argv[2])
cancel, calls = threading.Event(), 0
def progress(slide_id, done, planned):
    global calls
    calls += 1
    if stop_after and calls == stop_after:
        cancel.set()
sys.stdin.readline()
try:
    result = process_slide(task, progress=progress, cancel=cancel)
    print(json.dumps([result.written, result.failure and result.failure.error]))
except InterruptedRunError:
    print(json.dumps("given up"))
"""


def at_once(task, stops):
    """Let one process per number of ``stops`` do a task; each gives up after as many batches."""
    words = [sys.executable, "-c", WORKER, json.dumps(task.as_json())]
    workers = [
        subprocess.Popen(
            [*words, str(stop)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=dict(os.environ),
        )
        for stop in stops
    ]  # fmt: skip
    for worker in workers:  # all have imported what they need, more or less
        worker.stdin.write("\n")
        worker.stdin.flush()
    answers = [json.loads(worker.communicate(timeout=120)[0]) for worker in workers]
    assert all(worker.returncode == 0 for worker in workers)
    return answers


def check_two_workers(project, out, expected, config):
    """Export a project with two processes per slide, and compare with an undisturbed run."""
    settings = Settings(qb.Selection(), config, qb.RunOptions(workers=1))
    started = start_shared_run([str(project)], str(out), settings, job="J", run_id=run_id())
    answers = []
    for task, stops in zip(started.tasks, ((1, 0), (0, 0)), strict=True):
        answers += at_once(task, stops)
    given_up = [answer for answer in answers if answer == "given up"]
    sources = [task.source for task in started.tasks]
    run, _ = end_shared_run(str(out), settings, job="J", sources=sources, failures=())
    assert qb.verify(run).ok

    def rows(place):
        return qb.read_index(place).drop_columns(["run_id"]).to_pylist()

    assert rows(out) == rows(expected)
    assert list(run.open().unlisted()) == []
    assert not list(run.open().store.list("leftovers/"))
    return given_up
