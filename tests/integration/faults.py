"""Ends a process, or fails its disk, at each step in which it writes something.

A step is a file opened for writing, each write (before it, in its middle and behind it), each sync,
rename, removal, new folder and lock. ``deaths`` lets a call die at each of them in one process:
after that step nothing it still tries changes the disk, as if the process had been killed.
``python faults.py ACTION STEP PROJECT RUN`` kills a real one.
"""

import builtins
import contextlib
import errno
import io
import itertools
import os
import signal
import sys
from pathlib import Path


class Death(BaseException):
    """Stands for the end of the process: no ``except Exception`` handles it."""


class Steps:
    """Counts steps, and does something at one of them."""

    def __init__(self, at=0, action=None):
        self.at = at
        self.action = action
        self.count = 0
        self.names = []
        self.dead = False

    def step(self, name):
        if self.dead:  # what cleans up behind a failure does not run in a killed process
            raise Death(name)
        self.count += 1
        self.names.append(name)
        if self.count == self.at:
            self.dead = self.action is die
            self.action(name)


class Writer:
    """A binary file whose writes are cut in two."""

    def __init__(self, file, steps):
        self.file = file
        self.steps = steps

    def write(self, data):
        data = bytes(data)
        self.steps.step("write")
        self.file.write(data[: len(data) // 2])
        self.file.flush()
        self.steps.step("half a write")
        self.file.write(data[len(data) // 2 :])
        self.file.flush()
        self.steps.step("written")
        return len(data)

    def writelines(self, pieces):
        for piece in pieces:
            self.write(piece)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)


def in_halves(write, steps):
    """Return ``os.write``, cut in two."""

    def written(handle, data):
        steps.step("write")
        half = write(handle, data[: len(data) // 2])
        steps.step("half a write")
        count = half + write(handle, data[half:])
        steps.step("written")
        return count

    return written


@contextlib.contextmanager
def injected(steps):
    """Let everything that writes below report its steps."""
    real_open, real = io.open, {}

    def opened(file, mode="r", *args, **kwargs):
        writes = set(mode) & set("wxa+")
        if writes:
            steps.step(f"open {mode}")
        handle = real_open(file, mode, *args, **kwargs)
        return Writer(handle, steps) if writes and "b" in mode and "+" not in mode else handle

    def wrapped(name):
        def call(*args, **kwargs):
            if name != "open" or changes_disk(*args):
                steps.step(name)
            return real[name](*args, **kwargs)

        return call

    names = (
        "fsync",
        "replace",
        "rename",
        "link",
        "unlink",
        "rmdir",
        "mkdir",
        "chmod",
        "chown",
        "open",
        "write",
    )
    io.open = builtins.open = opened
    for name in names:
        real[name] = getattr(os, name)
        setattr(os, name, wrapped(name))
    os.write = in_halves(real["write"], steps)
    try:
        yield steps
    finally:
        io.open = builtins.open = real_open
        for name in names:
            setattr(os, name, real[name])


def changes_disk(path, flags, *_):
    """Whether a call of os.open is for writing, or for the sync of a folder."""
    return flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) or Path(path).is_dir()


def die(name):
    raise Death(name)


def deaths(call, places=None):
    """Run ``call`` once per place, dying there; yield the steps after each death.

    Without ``places`` it dies one step later each time, until a run reaches its end.
    """
    for at in itertools.count(1) if places is None else places:
        steps = Steps(at, die)
        with contextlib.suppress(Death), injected(steps):
            call()
        if not steps.dead:
            return
        yield steps


def steps_of(call):
    """Run ``call`` to its end and return the names of its steps, in order."""
    with injected(Steps()) as steps:
        call()
    return steps.names


def one_of_each_kind(names):
    """Return a place per kind of step: the middle one of its kind."""
    places = {}
    for place, name in enumerate(names, 1):
        places.setdefault(name, []).append(place)
    return sorted(each[len(each) // 2] for each in places.values())


def kill(name):
    os.kill(os.getpid(), signal.SIGKILL)


def fail_with(number):
    def fail(name):
        raise OSError(number, os.strerror(number))

    return fail


FULL, READ_ONLY = errno.ENOSPC, errno.EACCES


def main(action, at, project, run_id):
    import qupath_bridge as qb

    with qb.open_project(project, engine="embedded") as opened:
        call = qb.write_back if action == "write" else qb.undo_write_back
        steps = Steps(int(at), kill)
        with injected(steps):
            done = call(opened, run_id, engine="embedded", force=True)
    assert not done.failed, done
    print(steps.count)


if __name__ == "__main__":
    main(*sys.argv[1:])
