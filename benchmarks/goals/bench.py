"""What the goals measure with: places, studies, and exports by the command line."""

import shutil
import tempfile
import time
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

from benchmarks.common.machine import memory_folder
from benchmarks.common.processes import Taken, bridge, in_turn
from benchmarks.common.studies import make_study


class Bench:
    """Settings of one run, and what several goals share.

    Parameters
    ----------
    folder : path
        Where slides and environments of other programs are kept between runs.
    side : int
        Of the reference slide, pixels.
    repeats : int
        How often each work is done; the best time counts.
    peer_patches : int
        Patches that slow programs make.
    clock : str
        What counts where one thread works: ``wall``, or ``cpu`` on a machine where other programs
        are at work.
    """

    def __init__(self, folder, side, repeats=3, peer_patches=400, clock="wall"):
        self.folder = Path(folder)
        self.side = side
        self.repeats = repeats
        self.peer_patches = peer_patches
        self.clock = clock
        self.folder.mkdir(parents=True, exist_ok=True)
        self.memory = Path(tempfile.mkdtemp(prefix="bench-", dir=memory_folder()))
        self.disk = Path(tempfile.mkdtemp(prefix="out-", dir=self.folder))
        self.study = cache(self._study)

    def close(self):
        """Remove all that was exported."""
        shutil.rmtree(self.memory, ignore_errors=True)
        shutil.rmtree(self.disk, ignore_errors=True)

    def _study(self, side=None, share=None):
        options = {} if share is None else {"share": share}
        return make_study(self.folder / "studies", side or self.side, **options)

    def full(self, side):
        """Return a study of tissue alone, with about as many patches as the one of a side."""
        return self.study(max(512, round(side * 0.53 / 256) * 256), 1.0)

    @cached_property
    def options(self):
        """Return the help of ``export``, in which options are looked up."""
        return bridge("export", "--help").output

    def has(self, option):
        """Return whether ``export`` knows an option."""
        return option in self.options

    def export(self, study, *words, place=None, keep=None, memory=False):
        """Export a study once by the command line, remove the output, and return what it took.

        Parameters
        ----------
        place : path, optional
            Folder for the output; the one in memory when not given.
        keep : callable, optional
            Called with the output before it is removed.
        """
        return self.run_export(study.project, *words, place=place, keep=keep, memory=memory)

    def run_export(self, project, *words, place=None, keep=None, memory=False):
        """Export a project once, as :meth:`export` does a study."""
        out = Path(tempfile.mkdtemp(dir=place or self.memory)) / "out"
        runs = project.parent / "qupath_bridge"
        try:
            taken = bridge(
                "export", project, "--out", out, "--runner", "threads",
                "--progress", "none", *words, memory=memory,
            )  # fmt: skip
            if keep:
                keep(out)
        finally:
            shutil.rmtree(out.parent, ignore_errors=True)
            shutil.rmtree(runs, ignore_errors=True)
        return taken

    def best(self, works, repeats=None):
        """Call works in turn, and return the least :class:`Spent` of each by name.

        A work may return what a process took; then that counts. The least is taken because other
        programs on the machine can only add time.
        """
        timed = {name: _timed(work) for name, work in works.items()}
        results = in_turn(timed, self.repeats if repeats is None else repeats)
        return {name: self._least(spent) for name, spent in results.items()}

    def _least(self, tries):
        wall, cpu = (min(each) for each in zip(*tries, strict=True))
        return Spent(wall, cpu, {"wall": wall, "cpu": cpu}[self.clock])


class Spent(NamedTuple):
    """Seconds by the clock, seconds of the processors, and those of both that count."""

    wall: float
    cpu: float
    counted: float


def _timed(work):
    def call():
        wall, cpu = time.perf_counter(), time.process_time()
        taken = work()
        if isinstance(taken, Taken):
            return taken.seconds, taken.cpu_seconds
        return time.perf_counter() - wall, time.process_time() - cpu

    return call
