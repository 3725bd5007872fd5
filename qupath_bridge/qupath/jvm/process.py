"""Starts the child process in which Java runs, and talks to it.

The JVM takes over signals, logs to standard output, does not work after a fork and ends the
process when it crashes. So it never runs in this process, but in a child that answers over a pipe.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any, Protocol

from qupath_bridge.errors import MissingDependencyError, ProjectError

from .messages import Message, read_message, write_message

__all__ = [
    "HEAP",
    "TIMEOUT",
    "Child",
    "ChildGoneError",
    "EngineDiedError",
    "Probe",
    "RefusedError",
    "probe",
    "start",
]

HEAP = "1g"
"""Java heap of the child, as ``-Xmx`` takes it."""
TIMEOUT = 600.0
"""Seconds that one reply may take, unless another timeout is given."""
START_TIMEOUT = 60.0

_COMMAND = (sys.executable, "-P", "-m", "qupath_bridge.qupath.jvm.child")
_LOG_LINES = 50
_QUEUE_SIZE = 2  # messages that wait to be read; each holds a batch of objects
_END_TIMEOUT = 5.0  # seconds that a child has to end by itself


class _Folder(Protocol):
    """The part of an installation that is needed here."""

    @property
    def folder(self) -> Path: ...


@dataclass(frozen=True, slots=True)
class Probe:
    """Versions and architectures, as reported by a child."""

    qupath: str
    java: str
    jpype: str
    paquo: str
    jvm_architecture: str
    python_architecture: str


class EngineDiedError(ProjectError):
    """The child process with QuPath's classes ended, or was killed, during its work.

    No part of the image was returned. The next reading starts a new child.
    """


class RefusedError(Exception):
    """The child still runs, but refused a question; the text says why."""


class ChildGoneError(Exception):
    """The child ended or did not answer in time; the text has its last line of output."""


class Child:
    """A running child.

    Parameters
    ----------
    command : sequence of str
    environment : mapping of str to str
    timeout : float
        Seconds for each reply. A child that needs longer is killed.

    Raises
    ------
    ChildGoneError
        By every method that sends or receives, if the child ended or was killed.
    """

    def __init__(
        self, command: tuple[str, ...], environment: Mapping[str, str], timeout: float
    ) -> None:
        self.timeout = timeout
        self._errors: deque[str] = deque(maxlen=_LOG_LINES)
        self._replies: queue.Queue[Message | None] = queue.Queue(_QUEUE_SIZE)
        # Ctrl+C in a terminal goes to a whole process group: the child gets its own.
        new_group: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
            new_group = {"creationflags": flags}
        try:
            self._process = subprocess.Popen(  # noqa: S603 (a list, no shell, our own program)
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(environment),
                **new_group,
            )
        except OSError as error:
            raise ChildGoneError(f"could not be started: {error.strerror or error}") from error
        # The threads hold the pipes and not this object, so that it is freed when it is no
        # longer used; its child ends with it.
        self._stop = threading.Event()
        self._threads = (
            threading.Thread(
                target=_collect_lines, args=(self._process.stderr, self._errors), daemon=True
            ),
            threading.Thread(
                target=_collect_messages,
                args=(self._process.stdout, self._replies, self._stop),
                daemon=True,
            ),
        )
        for thread in self._threads:
            thread.start()
        self._finalizer = weakref.finalize(
            self, _end, self._process, self._threads, self._replies, self._stop
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def usable(self) -> bool:
        """True if the child still runs, as far as is known."""
        return self._finalizer.alive and self._process.poll() is None

    def ask(self, header: Mapping[str, Any], body: bytes = b"") -> Message:
        """Send a question and return the answer, which is one message.

        Raises
        ------
        RefusedError
            If the child refuses the question.
        ChildGoneError
        """
        self.send(header, body)
        return self.reply()

    def ask_many(self, header: Mapping[str, Any], body: bytes = b"") -> Iterator[Message]:
        """Send a question and yield the messages of the answer, up to one without ``more``."""
        self.send(header, body)
        while True:
            message = self.reply()
            yield message
            if not message.header.get("more"):
                return

    def send(self, header: Mapping[str, Any], body: bytes = b"") -> None:
        """Send a message."""
        assert self._process.stdin is not None  # noqa: S101 (it is a pipe)
        try:
            write_message(self._process.stdin, Message(dict(header), body))
        except (OSError, ValueError):  # a broken or closed pipe
            raise self._close_with_error() from None

    def reply(self) -> Message:
        """Wait for the next message."""
        try:
            message = self._replies.get(timeout=self.timeout)
        except queue.Empty:
            self.close(kill=True)
            raise ChildGoneError(
                f"did not answer within {self.timeout:g} s and was killed{self._last_line()}"
            ) from None
        if message is None:
            raise self._close_with_error()
        if "refused" in message.header:
            raise RefusedError(message.header["refused"])
        return message

    def close(self, *, kill: bool = False) -> None:
        """End the child; with ``kill``, at once, without waiting for it to end by itself."""
        if kill:
            self._process.kill()
        self._finalizer()

    def _close_with_error(self) -> ChildGoneError:
        self.close()
        return ChildGoneError(f"{_status(self._process.returncode)}{self._last_line()}")

    def _last_line(self) -> str:
        lines = [line for line in self._errors if line.strip()]
        return f"; its last line of output was {lines[-1]!r}" if lines else ""


def _status(code: int) -> str:
    if code >= 0:
        return f"ended with exit status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    return f"was killed by signal {-code} ({name})"


def _collect_lines(stream: IO[bytes], lines: deque[str]) -> None:
    with stream:
        for line in stream:
            lines.append(line.decode("utf-8", "replace").rstrip())


def _collect_messages(
    stream: IO[bytes], replies: queue.Queue[Message | None], stop: threading.Event
) -> None:
    with stream:
        while not stop.is_set():
            try:
                message = read_message(stream)
            except (EOFError, OSError, ValueError):  # not a message: the child died within one
                message = None
            replies.put(message)
            if message is None:
                return


def _end(
    process: subprocess.Popen[bytes],
    threads: tuple[threading.Thread, ...],
    replies: queue.Queue[Message | None],
    stop: threading.Event,
) -> None:
    """End a child: it ends by itself when its input ends, otherwise it is killed."""
    stop.set()
    assert process.stdin is not None  # noqa: S101 (it is a pipe)
    with suppress(OSError):  # data still in the buffer has no reader
        process.stdin.close()
    try:
        process.wait(_END_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    while any(thread.is_alive() for thread in threads):
        with suppress(queue.Empty):  # a thread may wait for room in the queue
            replies.get(timeout=0.05)
    replies.put(None)


def start(
    installation: _Folder,
    *,
    max_heap: str = HEAP,
    timeout: float = TIMEOUT,
    start_timeout: float = START_TIMEOUT,
    command: tuple[str, ...] = _COMMAND,
) -> tuple[Child, Probe]:
    """Start a child with the classes of a QuPath, and wait until Java runs in it.

    Parameters
    ----------
    installation : Installation
        Where QuPath is.
    max_heap : str
        Most memory for Java's objects, as ``-Xmx`` takes it.
    timeout, start_timeout : float
        Seconds for each reply, and for the first one.
    command : tuple of str
        The child's program; another one in tests.

    Raises
    ------
    MissingDependencyError
        If Java cannot be started, crashes, or does not answer in time.
    """
    folder = installation.folder
    try:
        child = Child(command, _environment(folder, max_heap), start_timeout)
        try:
            answer = child.ask({"do": "hello"}).header
            result = Probe(**{field.name: str(answer[field.name]) for field in fields(Probe)})
        except BaseException:
            child.close(kill=True)
            raise
    except (ChildGoneError, RefusedError, KeyError) as error:
        ended = isinstance(error, ChildGoneError)
        problem = f"its process {error}" if ended else f"Java does not start: {error}"
        raise MissingDependencyError(
            f"QuPath in {folder} cannot be used through paquo: {problem}.",
            hint="`qupath-bridge doctor` shows what was found; the engine 'embedded' needs no "
            "QuPath.",
        ) from error
    child.timeout = timeout
    return child, result


def probe(installation: _Folder, *, timeout: float = START_TIMEOUT) -> Probe:
    """Start Java with the classes of a QuPath, ask for versions, and end it again.

    Parameters
    ----------
    installation : Installation
        Where QuPath is.
    timeout : float
        Seconds that it may take.

    Raises
    ------
    MissingDependencyError
        If Java cannot be started, crashes (the signal is named), or does not answer in time.
    """
    child, result = start(installation, start_timeout=timeout)
    child.close()
    return result


def _environment(folder: Path, max_heap: str) -> dict[str, str]:
    options = [
        f"-Xmx{max_heap}",
        # One thread collects, as no other works at the same time. Other than the serial collector
        # this one gives up where little memory is free, in place of collecting for minutes.
        "-XX:+UseParallelGC",
        "-XX:ParallelGCThreads=1",
        "-XX:GCTimeLimit=90",
        "-XX:GCHeapFreeLimit=5",
        "-Djava.awt.headless=true",
        "--enable-native-access=ALL-UNNAMED",  # as JPype needs it, from Java 24 on with a warning
    ]
    environment = {
        **os.environ,
        "PAQUO_QUPATH_DIR": str(folder),
        "PAQUO_JAVA_OPTS": json.dumps(options),
        "PYTHONIOENCODING": "utf-8",
    }
    if sys.platform == "linux":  # Java takes the encoding of file names from the locale
        environment["LC_ALL"] = "C.UTF-8"
    return environment
