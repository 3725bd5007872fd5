"""Base of all servers: start, wait until ready, stop, kill and start again."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar, Self

import psutil

__all__ = ["HOST", "Server", "ServerError", "free_port", "is_listening"]

HOST = "127.0.0.1"

_PORTS = range(20_000, 32_000)
"""Below the ports that Linux gives to outgoing connections.

A client that tries again and again while a server is down could otherwise be given the port of the
server, and connect to itself: then the server cannot come back.
"""

_END = 10.0
"""Seconds that a server has to end when it is asked to."""


class ServerError(RuntimeError):
    """A server did not start; the message has the end of its log."""


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nothing listens."""
    for port in random.sample(_PORTS, 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise ServerError(f"No free port from {_PORTS.start} to {_PORTS.stop} on {HOST}.")


def is_listening(port: int) -> bool:
    """Return whether a server answers on a port of 127.0.0.1."""
    with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False


class Server(ABC):
    """One server, its data folder and its port, which stay the same when it is started again.

    Use it in a ``with`` block, or call `start` and `stop`.

    Parameters
    ----------
    folder : Path
        A new folder for its data, configuration and log. Its parents must be open to the user of
        the server, see `give_to`.

    Raises
    ------
    MissingDependencyError
        If the server is not installed.
    """

    name: ClassVar[str]
    user: ClassVar[str | None] = None
    """User that root becomes for this server; all others start it as themselves."""
    patience: ClassVar[float] = 60.0
    """Seconds after which a server that is not ready has failed."""
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "log.txt"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_prepared = False

    @property
    @abstractmethod
    def url(self) -> str:
        """Address for clients."""

    @abstractmethod
    def prepare(self) -> None:
        """Make data folder and configuration, once before the first start."""

    @abstractmethod
    def command(self) -> Sequence[str]:
        """Return the program and its arguments; it stays in the foreground."""

    def environment(self) -> Mapping[str, str]:
        """Return the variables that the program needs besides those of this process."""
        return {}

    def is_ready(self) -> bool:
        """Return whether clients are served."""
        return is_listening(self.port)

    def start(self) -> Self:
        """Start the server, and wait until it serves.

        Raises
        ------
        ServerError
            If it ends, or is not ready in time.
        """
        self.launch()
        self.wait_until_ready()
        return self

    def launch(self) -> None:
        """Start the server without waiting for it.

        The server ends with the thread that calls this (on Linux): nothing is left behind by a
        process that was killed. So call it in a thread that lives as long as the server.
        """
        if not self._is_prepared:
            self.prepare()
            self._is_prepared = True
        self._process = self.spawn(self.command())

    def spawn(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start a program as the user of the server; it writes to the log and ends with us."""
        with self.log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 (a list, no shell)
                [*_as_user(self._becomes), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={**os.environ, **self.environment()},
                start_new_session=True,  # Ctrl-C goes to us, and we stop them in order
            )

    def run(self, command: Sequence[str]) -> None:
        """Run a program as the user of the server until it ends.

        Raises
        ------
        ServerError
            If it fails.
        """
        if self.spawn(command).wait(self.patience):
            raise self._failure(f"{command[0]} failed")

    def wait_until_ready(self) -> None:
        """Wait until clients are served.

        Raises
        ------
        ServerError
            If the server ended, or is not ready in time.
        """
        if self._process is None:
            raise ServerError(f"{self.name} was not started: call launch() before.")
        deadline = time.monotonic() + self.patience
        while not self.is_ready():
            status = self._process.poll()
            if status is not None:
                raise self._failure(f"ended with status {status}")
            if time.monotonic() > deadline:
                self.kill()
                raise self._failure(f"was not ready after {self.patience:g} seconds")
            time.sleep(0.05)

    @property
    def is_running(self) -> bool:
        """Return whether its process lives."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Ask the server to end, and kill what is left of it after some seconds."""
        if self._process is not None:
            with suppress(psutil.NoSuchProcess):
                root = psutil.Process(self._process.pid)
                tree = [root, *root.children(recursive=True)]
                self._process.send_signal(self.stop_signal)
                _, alive = psutil.wait_procs(tree, timeout=_END)
                _kill(alive)
            self._process.wait()
            self._process = None

    def kill(self) -> None:
        """Kill the server and all its processes at once (SIGKILL); `start` brings it back."""
        if self._process is not None:
            with suppress(psutil.NoSuchProcess):
                root = psutil.Process(self._process.pid)
                root.suspend()  # so that it starts no process that we do not see
                _kill([root, *root.children(recursive=True)])
            self._process.wait()
            self._process = None

    def log_tail(self, lines: int = 40) -> str:
        """Return the end of what the server said."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @contextmanager
    def down(self) -> Iterator[None]:
        """Kill the server while the block runs, and start it again behind it."""
        self.kill()
        try:
            yield
        finally:
            self.start()

    def give_to(self, *paths: Path) -> None:
        """Let the user of the server own these paths.

        That user must pass the folders above. Those that are closed are opened for passing through
        if they are temporary.

        Raises
        ------
        ServerError
            If another folder is closed.
        """
        if self._becomes is None:
            return
        for path in paths:
            shutil.chown(path, self._becomes, self._becomes)
        temporary = Path(tempfile.gettempdir())
        for parent in [self.folder, *self.folder.parents]:
            mode = parent.stat().st_mode
            if mode & stat.S_IXOTH or parent.owner() == self._becomes:
                continue
            if not parent.is_relative_to(temporary):
                raise ServerError(
                    f"The user {self._becomes} of {self.name} cannot pass {parent}: choose a "
                    f"folder in {temporary}."
                )
            parent.chmod(mode | stat.S_IXGRP | stat.S_IXOTH)

    @property
    def _becomes(self) -> str | None:
        return self.user if hasattr(os, "geteuid") and os.geteuid() == 0 else None

    def _failure(self, what: str) -> ServerError:
        return ServerError(f"{self.name} {what}. The end of {self.log}:\n{self.log_tail()}")


def _as_user(user: str | None) -> list[str]:
    """Return what to write before a command, so that it runs as a user and ends with its parent."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return []
    ids = [f"--reuid={user}", f"--regid={user}", "--init-groups"] if user else []
    return [setpriv, *ids, "--pdeathsig=KILL", "--"]


def _kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=_END)
