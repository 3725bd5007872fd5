"""Start all servers that are installed, say where they are, and stop them at Ctrl-C."""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path

from qupath_bridge.errors import MissingDependencyError

from .moto import Moto
from .postgresql import PostgreSQL
from .rabbitmq import RabbitMQ
from .server import Server


def main() -> int:
    """Run until Ctrl-C or SIGTERM; return 1 if nothing is installed."""
    # Both end the same way: by an exception that stops the servers on its way out. A program that
    # a shell starts in the background would ignore Ctrl-C.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="qupath-bridge-") as folder:
        servers: list[Server] = []
        for kind in (PostgreSQL, RabbitMQ, Moto):
            try:
                servers.append(kind(Path(folder) / kind.name))
            except MissingDependencyError as error:
                print(error, file=sys.stderr)
        if not servers:
            return 1
        try:
            for server in servers:  # all at once, and then wait for all
                server.launch()
            for server in servers:
                server.wait_until_ready()
                print(f"{server.name:12} {server.url}", flush=True)
            print("Ctrl-C stops them.", flush=True)
            while True:
                signal.pause()
        except KeyboardInterrupt:
            return 0
        finally:
            for server in reversed(servers):
                server.stop()


if __name__ == "__main__":
    sys.exit(main())
