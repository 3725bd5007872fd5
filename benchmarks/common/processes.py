"""Whole processes: how long they take, how much memory they hold with all their children."""

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

LOOK = 0.02  # seconds between two looks at the memory
COMPILED = {
    "PYTHONDONTWRITEBYTECODE": "",
    "PYTHONPYCACHEPREFIX": str(Path(__file__).parents[2] / "build" / "compiled"),
}
"""An installed program is compiled; what is measured here is, too, also where the machine says that
nothing compiled is kept."""


@dataclass(frozen=True)
class Taken:
    """What a process took: wall time, processor time, and the most memory of the whole tree."""

    seconds: float
    cpu_seconds: float
    mib: float | None
    output: str


class CommandError(Exception):
    """A command ended with an error; the text is the end of what it wrote."""


def run(command, *, memory=False, environment=None, cwd=None):
    """Run a command to its end.

    The memory is the sum of the proportional shares (PSS on Linux, RSS elsewhere) of the process
    and all its children. Looking costs time: do not use the time of such a run.
    """
    before = os.times()
    began = time.perf_counter()
    process = subprocess.Popen(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, **COMPILED, "NO_COLOR": "1", "COLUMNS": "200", **(environment or {})},
    )
    peak = _Peak(process.pid) if memory else None
    output, errors = process.communicate()
    seconds = time.perf_counter() - began
    after = os.times()
    mib = peak.end() if peak else None
    if process.returncode:
        text = (errors or output).strip()[-600:]
        raise CommandError(f"{' '.join(map(str, command[:4]))} …: {text}")
    spent = (after.children_user + after.children_system) - (
        before.children_user + before.children_system
    )
    return Taken(seconds, spent, mib, output)


def bridge(*words, memory=False):
    """Run a command of qupath-bridge."""
    return run([sys.executable, "-m", "qupath_bridge", *words], memory=memory)


class _Peak:
    def __init__(self, pid):
        self._pid = pid
        self._most = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self):
        while not self._stop.wait(LOOK):
            self._most = max(self._most, tree_bytes(self._pid))

    def end(self):
        self._stop.set()
        self._thread.join()
        return self._most / (1 << 20)


def tree_bytes(pid):
    """Return the memory of a process and its children, bytes; 0 when it is gone."""
    try:
        root = psutil.Process(pid)
        return sum(map(_bytes_of, [root, *root.children(recursive=True)]))
    except psutil.Error:
        return 0


def _bytes_of(process):
    try:
        full = process.memory_full_info()
        return getattr(full, "pss", full.rss)
    except psutil.Error:
        return 0


def in_turn(works, repeats):
    """Call each work once, then each again, and so on; return all results by name.

    Parameters
    ----------
    works : dict of str to callable
    repeats : int, or dict of str to int
        How often; a work that is slow may be called less often than others.
    """
    times = repeats if isinstance(repeats, dict) else dict.fromkeys(works, repeats)
    results = {name: [] for name in works}
    for number in range(max(times.values())):
        for name, work in works.items():
            if number < times[name]:
                results[name].append(work())
    return results
