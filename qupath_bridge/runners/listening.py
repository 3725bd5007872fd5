"""A line from each slide at work to the run: what it did, and whether anybody waits for it."""

from __future__ import annotations

import contextlib
import hmac
import json
import platform
import secrets
import select
import socket
import socketserver
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

from qupath_bridge.errors import BridgeError

from .spreading import Inbox, Report

__all__ = ["Line", "Listener", "Place", "line_to"]

LONGEST = 65536
"""Bytes of a message; a slide's name is the only text of one."""

WAIT = 30.0
"""Seconds to reach the run, and for its last answer."""


class Place(NamedTuple):
    """Address at which a run listens, and the word by which it knows its own slides."""

    host: str
    port: int
    token: str


class Listener:
    """Hears the slides at work, and puts what they report into the inbox of a run.

    A message is a line of JSON: first the token and the number of the order, then a list per
    report, and an empty list at the end, which is answered. So all reports of a slide are in the
    inbox before its result comes.

    Parameters
    ----------
    inbox : SimpleQueue
    bind : str
        Address of this machine to listen at.
    host : str
        Its name for those that call.
    """

    def __init__(self, inbox: Inbox, bind: str, host: str) -> None:
        self._inbox = inbox
        self._token = secrets.token_hex(32)
        self._lines: dict[int, socket.socket] = {}
        self._begun: set[int] = set()
        self._given_up: set[int] = set()
        self._open = True
        self._lock = threading.Lock()
        self._server = _Server((bind, 0), self._handler())
        self.place = Place(host, self._server.server_address[1], self._token)
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()

    def _handler(self) -> type[socketserver.StreamRequestHandler]:
        hear = self._hear

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError, ValueError):  # a line that broke, or no line
                    hear(self.connection, iter(lambda: self.rfile.readline(LONGEST), b""))

        return Handler

    def _hear(self, connection: socket.socket, lines: Iterator[bytes]) -> None:
        token, number = json.loads(next(lines, b"[null, 0]"))
        if not isinstance(token, str) or not hmac.compare_digest(token, self._token):
            return
        with self._lock:
            if not self._open or number in self._given_up:
                return
            before, self._lines[number] = self._lines.get(number), connection
            self._begun.add(number)
        if before is not None:
            _end(before)  # an engine that lost a worker has another one do its work
        try:
            for line in lines:
                if not (report := json.loads(line)):
                    self._begun.discard(number)
                    connection.sendall(b"\n")
                    return
                self._inbox.put(Report(*report))
        finally:
            with self._lock:
                if self._lines.get(number) is connection:
                    del self._lines[number]

    def broke_off(self, number: int) -> bool:
        """Return whether a slide began to work and did not come to its end."""
        return number in self._begun

    def give_up(self, number: int) -> None:
        """End the line of a slide that an engine lost: it may be at work where nobody sees it."""
        with self._lock:
            self._given_up.add(number)
            line = self._lines.get(number)
        if line is not None:
            _end(line)

    def stop(self) -> None:
        """End all lines: who notices stops, and who calls from now on has no line."""
        with self._lock:
            self._open = False
            lines = list(self._lines.values())
        for line in lines:
            _end(line)

    def close(self) -> None:
        """Stop, and listen no more."""
        self.stop()
        self._server.shutdown()
        self._server.server_close()


def _end(line: socket.socket) -> None:
    with contextlib.suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128


class Line:
    """The line of a slide at work. It is its cancel token, too: it is set when the line ends."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._broken = False

    def report(self, *values: Any) -> None:
        """Send a report; a line that ended is noticed by :meth:`is_set`."""
        try:
            self._connection.sendall(json.dumps(values).encode() + b"\n")
        except OSError:
            self._broken = True

    def is_set(self) -> bool:
        """Return whether nobody waits for this slide any more, also where the run died."""
        if not self._broken:
            # The run says nothing before the end: what can be read is the end of the line.
            self._broken = bool(select.select([self._connection], [], [], 0)[0])
        return self._broken


@contextlib.contextmanager
def line_to(place: Place, number: int) -> Iterator[Line]:
    """Call the run for an order; leave when it has heard everything.

    Raises
    ------
    BridgeError
        If the run cannot be reached.
    """
    try:
        connection = socket.create_connection(place[:2], timeout=WAIT)
    except OSError as error:
        raise BridgeError(
            f"The worker on {platform.node()} cannot reach the run at {place.host}:{place.port}: "
            f"{error}.",
            hint="Workers call the run at a free port: let the network pass that.",
        ) from error
    with connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        line = Line(connection)
        line.report(place.token, number)
        yield line
        line.report()
        with contextlib.suppress(OSError):
            connection.recv(1)
