"""A child process that carries out steps, and that nothing keeps alive beyond its limits."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

from qupath_bridge.errors import BridgeError

__all__ = ["Child", "ChildDiedError", "ChildHungError", "StepError"]

STEPS_MODULE = "qupath_bridge.service.steps"

LOOK = 0.1
"""Seconds between looks at a child that says nothing."""

START_SECONDS = 300.0
"""Longest time in which a new process has to become ready: its imports may come over a network."""

REPORT = 0.5
"""Least seconds between two reports of progress."""


class StepError(BridgeError):
    """A step failed in the child."""


class ChildDiedError(BridgeError):
    """The child ended in the middle of a step."""


class ChildHungError(BridgeError):
    """The child was ended because a step took longer than it may."""


class Child:
    """Carries out one step after the other in a process of its own.

    A process that died is started anew. Not for several threads.

    Parameters
    ----------
    seconds : float
        Longest time of a step, from when its process is ready.
    memory_mb : int, optional
        Address space of the process, in MiB; ignored where the system cannot limit it.
    steps : str
        Name of the module whose ``STEPS`` it carries out.
    """

    def __init__(
        self, seconds: float, memory_mb: int | None = None, *, steps: str = STEPS_MODULE
    ) -> None:
        self._steps = steps
        self._seconds = seconds
        self._memory_mb = memory_mb
        self._context = multiprocessing.get_context("spawn")
        self._process: Any = None
        self._pipe: Connection | None = None
        self._is_ready = False

    def call(
        self,
        step: str,
        values: Mapping[str, Any],
        *,
        watch: Callable[[int, int], bool] = lambda done, planned: True,
    ) -> dict[str, Any] | None:
        """Carry out a step.

        Parameters
        ----------
        step : str
            Name of a step.
        values : mapping
            What it needs, as JSON values.
        watch : callable
            Called several times per second with patches done and planned; the child is killed
            when it returns False.

        Returns
        -------
        dict or None
            The result; None if ``watch`` ended it.

        Raises
        ------
        StepError
            If the step failed.
        ChildDiedError, ChildHungError
            If its process ended, or took too long.
        """
        pipe = self._started()
        limit = self._seconds if self._is_ready else START_SECONDS
        deadline = time.monotonic() + limit
        done, planned = 0, 0
        try:
            pipe.send((step, dict(values)))
            while True:
                while pipe.poll(LOOK):
                    kind, answer = pipe.recv()
                    if kind == "ready":
                        self._is_ready, limit = True, self._seconds
                        deadline = time.monotonic() + limit
                        continue
                    if kind == "done":
                        return dict(answer)
                    if kind == "failed":
                        raise StepError(**answer)
                    done, planned = answer
                if not watch(done, planned):
                    self.kill()
                    return None
                if time.monotonic() > deadline:
                    what = "It" if self._is_ready else "The start of its process"
                    self.kill()
                    raise ChildHungError(
                        f"{what} took longer than {limit:,.0f} seconds, and was ended.",
                        hint="Is the slide file on a drive that does not answer? Allow more time "
                        "with the setting task_seconds.",
                        may_heal=True,
                    )
        except (EOFError, OSError):
            code = self._end_code()
            raise ChildDiedError(
                f"The process that worked on it died ({_reason(code)}).",
                hint="Is there enough memory? Is the slide file damaged?",
                may_heal=True,
            ) from None

    def kill(self) -> None:
        """End the process at once, and wait until it is gone. Idempotent."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None
        self._is_ready = False

    def _started(self) -> Connection:
        """Return the pipe to a process that lives."""
        if self._process is not None and not self._process.is_alive():
            self.kill()
        if self._pipe is None:
            self._pipe, other = self._context.Pipe()
            self._process = self._context.Process(
                target=_serve,
                args=(other, self._memory_mb, self._steps),
                name="qupath-bridge-step",
                daemon=True,
            )
            self._process.start()
            other.close()
        return self._pipe

    def _end_code(self) -> int | None:
        self._process.join(timeout=10)
        code: int | None = self._process.exitcode
        self.kill()
        return code


def _reason(code: int | None) -> str:
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return f"signal {signal.Signals(-code).name}"
    return f"exit status {code}"


def _serve(pipe: Connection, memory_mb: int | None, module: str) -> None:
    """Carry out steps until the pipe is closed. Runs in the child."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the worker ends it
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _limit_memory(memory_mb)
    steps = import_module(module).STEPS
    pipe.send(("ready", None))
    while True:
        try:
            step, values = pipe.recv()
        except EOFError:
            return
        pipe.send(_answer(steps[step], values, pipe))


def _answer(step: Callable[..., Any], values: Any, pipe: Connection) -> tuple[str, Any]:
    last = 0.0

    def report(done: int, planned: int) -> None:
        nonlocal last
        if time.monotonic() - last >= REPORT or done == planned:
            pipe.send(("progress", (done, planned)))
            last = time.monotonic()

    try:
        return "done", step(values, report)
    except BridgeError as error:
        message, hint, may_heal = error.message, error.hint, error.may_heal
    except Exception as error:  # noqa: BLE001  # the worker reports it
        message, may_heal = f"{type(error).__name__}: {error}", False
        hint = f"This is a fault of the program. {traceback.format_exc(limit=-3)}"
    return "failed", {"message": message, "hint": hint, "may_heal": may_heal}


def _end_with(parent: Any) -> None:
    """End this process when its worker has ended; committed slides stay."""
    parent.join()
    os._exit(1)


def _limit_memory(memory_mb: int | None) -> None:
    if memory_mb is None or sys.platform == "win32":
        return
    import resource

    limit = memory_mb << 20
    with contextlib.suppress(ValueError, OSError):  # macOS has no such limit
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
