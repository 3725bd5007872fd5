"""Exports in processes of their own: waiting for them, killing them, and what they leave."""

import subprocess
import sys
import time

import psutil

from qupath_bridge.stores import open_store
from qupath_bridge.testing.projects import tree_hashes


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


def wait_until(condition, process=None, *, seconds=60, nap=0.01):
    """Wait until something is true, while a process works."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "nothing happened"
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(nap)


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
