"""A relay between clients and a server of this machine, that does what networks do.

A server that keeps everything in its memory cannot be killed without losing it; its relay can.
"""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

from qupath_bridge.testing.services.server import HOST, free_port

PIECE = 1 << 16


class Relay:
    """Passes each connection on to a server; is started and killed as one.

    Parameters
    ----------
    port : int
        Of the server.

    Attributes
    ----------
    port : int
        Of the relay. It stays the same when the relay is killed and started again.
    swallows : bytes or None
        What no client may say: a connection where one does is silent from then on, and stays open.
    lets_through : int
        Bytes of the answer to it that still arrive.
    swallowed : int
        Connections that fell silent.
    answer : callable
        What it answers itself to what a client says, before it cuts the connection; None passes it
        on to the server.
    """

    def __init__(self, port: int) -> None:
        self.port = free_port()
        self.swallows: bytes | None = None
        self.lets_through = 0
        self.swallowed = 0
        self.answer: Callable[[bytes], bytes | None] = lambda data: None
        self._target = port
        self._listener: socket.socket | None = None
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()

    def start(self):
        """Take connections."""
        self._listener = socket.create_server((HOST, self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        return self

    def kill(self) -> None:
        """End all connections, and refuse new ones. Idempotent."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # what accept() waits for
            listener.close()
        self._cut()

    def to(self, port: int) -> None:
        """Pass connections on to another server from now on."""
        self._target = port
        self._cut()

    def say(self, data: bytes) -> None:
        """Say something to every client, as if the server had said it."""
        with self._lock:
            for client, _ in self._pairs:
                client.sendall(data)

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """Be away while the block runs."""
        self.kill()
        try:
            yield
        finally:
            self.start()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.kill()

    def _cut(self) -> None:
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for each in (end for pair in pairs for end in pair):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection((HOST, self._target))
            except OSError:
                client.close()
                continue
            with self._lock:
                self._pairs.add((client, server))
            threading.Thread(target=self._serve, args=(client, server), daemon=True).start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        """Pass on what both say until one ends."""
        left: list[int] = []  # bytes to the client before silence, once it has begun
        back = threading.Thread(target=_pass_on, args=(server, client, left), daemon=True)
        back.start()
        _pass_on(client, server, left, self)
        back.join()
        with self._lock:
            self._pairs.discard((client, server))
        client.close()
        server.close()

    def swallow(self, data: bytes) -> bool:
        """Return whether this is what no client may say."""
        found = self.swallows is not None and self.swallows in data
        self.swallowed += found
        return found


def _pass_on(
    source: socket.socket, sink: socket.socket, left: list[int], relay: Relay | None = None
) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(PIECE):
            if relay is not None and not left and relay.swallow(data):
                left.append(relay.lets_through)
                if not relay.lets_through:
                    continue
            elif relay is not None and (answer := relay.answer(data)) is not None:
                source.sendall(answer)
                break
            elif left:
                data = b"" if relay is not None else data[: left[0]]
                left[0] -= len(data)
            sink.sendall(data)
    for each in (source, sink):  # the other direction ends, too
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
