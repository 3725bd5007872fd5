"""Exports in processes of their own: waiting for them, killing them, and what they leave."""

import subprocess
import sys

import psutil
import pytest

import qupath_bridge as qb
from qupath_bridge.errors import InterruptedRunError
from qupath_bridge.outputs import open_output
from qupath_bridge.stores import open_store
from qupath_bridge.testing.projects import tree_hashes
from tests.support.waiting import wait_until

LONG = qb.ExportConfig(size=100, stride=12, edge="pad", min_share=0.1)
"""Many patches that overlap, so that a run takes some time, and little of it to be planned."""

# Whoever started the tests in the background had them ignore interrupts, and so their children.
MAIN = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from qupath_bridge.cli import main; sys.exit(main(sys.argv[1:]))"
)


def workers_of(pid):
    """Return the worker processes below a process: each of them carries out slides."""
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        try:
            if any("spawn_main" in word for word in child.cmdline()):
                found.append(child)
        except psutil.Error:
            continue
    return found


def start_export(study, out, *words, stride=12, env=None):
    """Start a run of ``LONG`` in a process group of its own."""
    return subprocess.Popen(
        [
            sys.executable, "-c", MAIN, "export", str(study.project), "--out", str(out),
            "--size", "100", "--stride", str(stride), "--edge", "pad", "--min-share", "0.1",
            "--no-provenance", *words,
        ],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, env=env,
    )  # fmt: skip


def patches_of(out):
    """Return the number of patches in a folder."""
    return sum(1 for _ in out.glob("patches/*/*/*.png"))


def check_stopped(study, out, runner):
    """Stop a run at work, and check that it leaves nothing: no slide is at work any more."""
    token = qb.CancelToken()

    def listen(progress):
        if progress.done > 100:
            token.cancel()

    with pytest.raises(InterruptedRunError):
        qb.export(
            study.project, out, LONG.replace(stride=6), provenance=False, on_progress=listen,
            cancel=token, runner=runner,
        )  # fmt: skip
    assert patches_of(out) == 0
    assert open_output(out).slides() == []


def kill_at_work(words, out, count=3):
    """Start a command, and kill it once it has written some files of patches to its output."""
    store = open_store(out)
    process = subprocess.Popen(
        [sys.executable, "-m", "qupath_bridge", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        wait_until(lambda: len(list(store.list("patches/"))) >= count, process, nap=0.005)
    finally:
        process.kill()
        process.communicate(timeout=60)


def assert_same_run(left, right):
    """Check that two runs have the same bytes, and the same digest of what they were made of."""
    assert left.record["run_digest"] == right.record["run_digest"]
    assert tree_hashes(left.out / "patches") == tree_hashes(right.out / "patches")
    assert left.table().drop_columns(["run_id"]).equals(right.table().drop_columns(["run_id"]))
