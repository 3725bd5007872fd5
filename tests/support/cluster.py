"""A whole service on this machine; each of its programs and servers can be killed."""

import random
import sys
import time
from pathlib import Path

from qupath_bridge.service.client import Client, ServiceError
from qupath_bridge.testing.services import Server

TOKEN = "a-long-random-token"


class Program(Server):
    """A program of the service, as an operator starts it."""

    def __init__(self, folder: Path, name: str, environment, *words: str) -> None:
        super().__init__(folder)
        self.name = name
        self._environment = dict(environment)
        self._words = words

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def prepare(self):
        pass

    def command(self):
        ports = ["--port", str(self.port)] if self._words == ("api",) else []
        return [sys.executable, "-m", "qupath_bridge", "-v", "service", *self._words, *ports]

    def environment(self):
        return self._environment

    def is_ready(self):
        return self._words != ("api",) or super().is_ready()


def kill_at_random(servers, kills, progress, seed, *, last=0.9):
    """Kill servers in turn, each when a random share of the work is done, and start them again.

    Parameters
    ----------
    servers : mapping of str to Server
    kills : int
    progress : callable
        Share of the work that is done; None while nobody can say.
    seed : int

    Returns
    -------
    list of (str, float)
        What was killed, and the share that was done then.
    """
    chance = random.Random(seed)
    names = [name for _ in range(kills) for name in chance.sample(sorted(servers), len(servers))]
    moments = sorted(chance.uniform(0.02, last) for _ in range(kills))
    done = []
    for name, moment in zip(names[:kills], moments, strict=True):
        while (share := progress()) is None or share < moment:
            time.sleep(0.05)
        servers[name].kill()
        done.append((name, share))
        time.sleep(chance.uniform(0, 1))
        servers[name].start()
    return done


def patient(ask, seconds=60.0):
    """Ask a service that may be away, until it answers."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except ServiceError:
            assert time.monotonic() < deadline, "the service does not come back"
            time.sleep(0.2)


def client_of(api):
    return Client(api.url, token=TOKEN, timeout=10)
