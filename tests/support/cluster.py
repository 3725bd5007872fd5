"""A whole service on this machine; each of its programs and servers can be killed."""

import random
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import qupath_bridge as qb
from qupath_bridge.service.client import Client, ServiceError
from qupath_bridge.service.database import Database
from qupath_bridge.service.database.migrating import migrate
from qupath_bridge.stores import open_store
from qupath_bridge.testing.projects import Image, Region, build_project
from qupath_bridge.testing.services import Server
from qupath_bridge.testing.slides import write_slide

TOKEN = "a-long-random-token"
SIDE = 64
SQUARE = f"POLYGON ((0 0, {SIDE} 0, {SIDE} {SIDE}, 0 {SIDE}, 0 0))"
CONFIGURATION = {"size": 32}


@dataclass(frozen=True)
class Study:
    """A project of small slides with 4 patches each, and its run by one undisturbed call."""

    folder: Path
    project: Path
    slides: tuple[Path, ...]
    alone: qb.Run

    def in_bucket(self, url):
        """Return a project of the same slides, copied to a URL."""
        store = open_store(url)
        for slide in self.slides:
            store.put(slide.name, slide.read_bytes())
        places = [f"{url}/{slide.name}" for slide in self.slides]
        return build_project(self.folder / f"of {url.rpartition('/')[2]}", _images(places))


def make_study(folder: Path, slides: int) -> Study:
    places = []
    for number in range(slides):
        pixels = np.random.default_rng(number).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
        places.append(write_slide(folder / f"{number:03}.tiff", pixels, mpp=0.5, tile=64))
    project = build_project(folder / "project", _images(places))
    alone = qb.export(project, folder / "alone", qb.ExportConfig(**CONFIGURATION))
    return Study(folder, project, tuple(places), alone)


def _images(places):
    return [Image(place, [Region("Tumor", SQUARE)], size=(SIDE, SIDE)) for place in places]


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


@contextmanager
def programs_of(folder: Path, environment, *, workers=2, queue="celery"):
    """API and workers of a service, by name."""
    database = Database(environment["QUPATH_BRIDGE_DATABASE"])
    migrate(database)
    database.close()
    settings = {
        "QUPATH_BRIDGE_QUEUE": queue,
        "QUPATH_BRIDGE_TOKEN": TOKEN,
        "QUPATH_BRIDGE_LEASE_SECONDS": "4",
        "QUPATH_BRIDGE_RETRY_SECONDS": "0.2",
        "QUPATH_BRIDGE_REQUESTS_PER_MINUTE": "100000",
        **environment,
    }
    words = {"API": "api", **{f"worker {number + 1}": "worker" for number in range(workers)}}
    programs = {
        name: Program(folder / name.replace(" ", "-"), name, settings, word)
        for name, word in words.items()
    }
    with ExitStack() as stack:
        for program in programs.values():
            program.launch()
            stack.callback(program.stop)
        for program in programs.values():
            program.wait_until_ready()
        yield programs


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
