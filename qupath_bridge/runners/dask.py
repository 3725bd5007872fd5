"""Several slides at a time on the workers of a Dask scheduler: of this machine, or of a cluster."""

from __future__ import annotations

import contextlib
import logging
import signal
import time
import uuid
from collections.abc import Iterable, Iterator
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeAlias

from qupath_bridge._version import __version__
from qupath_bridge.errors import BridgeError, MissingDependencyError, UsageError
from qupath_bridge.parallel import available_cores
from qupath_bridge.pipeline.cancel import Cancel
from qupath_bridge.pipeline.task import SlideProgress, SlideResult, SlideTask

from .elsewhere import carry_out, other_version
from .spreading import Died, Done, Inbox, Report, spread

if TYPE_CHECKING:
    from distributed import Client, Future, Worker

__all__ = ["DaskRunner", "dask_setup"]

log = logging.getLogger("qupath_bridge")

LOOK = 0.1
"""Seconds between looks at slides that were asked to stop."""

GRACE = 60.0
"""Seconds that slides on a cluster have to stop; those of this machine are ended with it."""

GRACE_HERE = 3.0

HERE = "127.0.0.1"

LEAST = 4
"""Slides that wait where no worker is there yet: a cluster that adapts sees that it is needed."""


class DaskRunner:
    """Carries out tasks on Dask workers, with one thread for each slide.

    Tasks are sent to the workers, never pixels. All machines need the same version of this
    package, and see slides, project and output under the same paths.

    Parameters
    ----------
    workers : int, optional
        Number of processes on this machine, the number of cores when not given; with an address,
        the largest number of slides at work or waiting there, as many as it takes when not given.
    argument : str, optional
        Address of a scheduler (``tcp://``, ``tls://``); a cluster is started on this machine, for
        this run alone, when not given.

    Raises
    ------
    MissingDependencyError
        If Dask is not installed.
    """

    def __init__(self, workers: int | None = None, argument: str | None = None) -> None:
        try:
            import distributed  # noqa: F401
        except ImportError as error:
            raise MissingDependencyError(
                f"The runner 'dask' needs Dask's distributed, which cannot be imported: {error}.",
                hint="Install it with: pip install 'qupath-bridge[dask]'.",
            ) from error
        if argument == "":
            raise UsageError(
                "The runner dask got an empty address.",
                hint="Give dask:tcp://HOST:PORT, or dask alone for this machine.",
            )
        self.workers = workers
        self.address = argument

    def run(
        self,
        tasks: Iterable[SlideTask],
        *,
        progress: SlideProgress | None = None,
        cancel: Cancel | None = None,
    ) -> Iterator[SlideResult]:
        """Yield a result for each task, as they come."""
        inbox: Inbox = SimpleQueue()
        with self._client() as client:
            most, grace = (self.workers, GRACE) if self.address else (None, GRACE_HERE)
            engine = _Dask(client, inbox, most, grace)
            yield from spread(engine, inbox, tasks, progress, cancel)

    def _client(self) -> contextlib.AbstractContextManager[Client]:
        if self.address is None:
            return _here(self.workers or available_cores())
        return _at(self.address)


@contextlib.contextmanager
def _here(workers: int) -> Iterator[Client]:
    """Start a cluster on this machine; it takes orders from this process alone.

    A scheduler runs whatever it is sent. TLS with a key that only this process and its workers
    have keeps other users of the machine out, and its HTTP server has no page.
    """
    import dask
    from distributed import Client, LocalCluster
    from distributed.security import Security

    no_pages: dict[str, Any] = {
        "distributed.scheduler.http.routes": [],
        "distributed.worker.http.routes": [],
    }
    with dask.config.set(no_pages):
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host=HERE,
            protocol="tls://",
            security=Security.temporary(),
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
            preload=[__name__],
            scheduler_kwargs={
                # A slide whose process died is carried out again by `spread`, alone.
                "allowed_failures": 0,
                "dashboard_address": f"{HERE}:0",
            },
        )
    with cluster, Client(cluster, set_as_default=False) as client:
        yield client


@contextlib.contextmanager
def _at(address: str) -> Iterator[Client]:
    """Connect to a scheduler whose machines have this version of the package."""
    from distributed import Client

    try:
        client = Client(address, set_as_default=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"No Dask scheduler can be reached at {address}: {error}.",
            hint="Start one with `dask scheduler`, or leave the address out to use this machine.",
        ) from error
    with client:
        _check_versions(client)
        yield client


def _check_versions(client: Client) -> None:
    """Refuse a cluster with other versions now, not slide by slide."""
    name = "qupath-bridge"
    found = client.get_versions(packages=[name])
    places = {"The Dask scheduler": found["scheduler"]}
    places |= {f"The Dask worker {where}": what for where, what in found["workers"].items()}
    for place, what in places.items():
        there = what["packages"][name]
        if there != __version__:
            raise other_version(place, there, __version__)


class _Dask:
    """Orders on a scheduler: an engine of :func:`spread`."""

    def __init__(self, client: Client, inbox: Inbox, most: int | None, grace: float) -> None:
        self._client = client
        self._inbox = inbox
        self._most = most
        self._grace = grace
        self._orders: dict[int, Future] = {}
        self._at_work: dict[str, str] = {}
        self._without_workers = False
        self._topic = f"qupath-bridge-{uuid.uuid4().hex}"
        client.subscribe_topic(self._topic, self._heard)

    def room(self) -> int:
        """Return twice the number of threads, so that none waits for its next slide."""
        room = max(LEAST, 2 * self._threads())
        return room if self._most is None else min(room, self._most)

    def look(self) -> None:
        """Say it once when there is no worker."""
        without = not self._threads()
        if without and not self._without_workers:
            log.warning("The Dask scheduler has no worker; the run waits for one.")
        self._without_workers = without

    def _threads(self) -> int:
        return sum(self._workers().values())

    def _workers(self) -> dict[str, int]:
        """Return the number of threads of each worker, by address."""
        try:
            found: dict[str, int] = self._client.nthreads()
        except (OSError, RuntimeError) as error:
            raise _gone() from error
        return found

    def start(self, number: int, order: str) -> None:
        future = self._client.submit(
            _work, order, self._topic, key=f"{self._topic}-{number}", pure=False
        )
        self._orders[number] = future
        future.add_done_callback(lambda done: self._came(number, done))

    def stop(self) -> None:
        orders, self._orders = list(self._orders.values()), {}
        # A scheduler that is gone is why the run stops: its workers see it by themselves.
        with contextlib.suppress(BridgeError, OSError, RuntimeError):
            self._client.cancel(orders, force=True)
            self._wait_for_workers()

    def _wait_for_workers(self) -> None:
        """Wait until no slide is at work, for some time; say it if there are some then."""
        until = time.monotonic() + self._grace
        while time.monotonic() < until:
            time.sleep(LOOK)  # also for what started just now to be heard of
            there = self._workers()
            if not any(worker in there for worker in tuple(self._at_work.values())):
                return
        if self._grace > GRACE_HERE:
            names = ", ".join(sorted(set(self._at_work.values())))
            log.warning("Slides are still at work, and stop at their next patch, on: %s", names)

    def _heard(self, event: tuple[float, tuple[str, str, Any]]) -> None:
        """Take what a worker says; Dask's own thread calls it, in the order of what was said."""
        kind, key, said = event[1]
        if kind == "progress":
            self._inbox.put(Report(*said))
        elif kind == "begins":
            self._at_work[key] = said
        else:
            self._at_work.pop(key, None)

    def _came(self, number: int, future: Future) -> None:
        if self._orders.pop(number, None) is not None:
            self._at_work.pop(future.key, None)
            self._inbox.put(Done(number, _outcome(future)))
        future.release()


def _gone() -> BridgeError:
    return BridgeError(
        "The Dask scheduler gave the slides at work up, or cannot be reached any more.",
        hint="Resume the run to finish it.",
    )


def _outcome(future: Future) -> SlideResult | BaseException | Died:
    from distributed import KilledWorker

    if future.cancelled() or future.status == "lost":
        return _gone()
    error = future.exception()
    if error is None:
        result: SlideResult | Exception = future.result()
        return result
    return Died() if isinstance(error, KilledWorker) else error


_Said: TypeAlias = tuple[str, str, Any]


def _work(order: str, topic: str) -> SlideResult | Exception:
    """Carry out an order on a worker. What it says comes to the client before what it returns."""
    from distributed import get_worker

    worker = get_worker()
    key = str(worker.get_current_task())

    def say(kind: str, said: Any) -> None:
        message: _Said = (kind, key, said)
        worker.log_event(topic, message)

    def report(*values: Any) -> None:
        say("progress", values)

    say("begins", worker.address)
    try:
        return carry_out(order, progress=report, cancel=_GivenUp(worker, key))
    finally:
        say("ends", None)


class _GivenUp:
    """Cancel token of a slide at work: nobody waits for it any more.

    Also where the client died. A worker that leaves the cluster gives its slide up, too.
    """

    def __init__(self, worker: Worker, key: str) -> None:
        self._worker = worker
        self._key = key

    def is_set(self) -> bool:
        task = self._worker.state.tasks.get(self._key)
        leaves = self._worker.status.name in {"closing", "closed", "stopping", "failed"}
        return leaves or task is None or task.state == "cancelled"


def dask_setup(worker: Worker) -> None:
    """Prepare a process of this machine: the one that started it answers interrupts.

    Dask calls it when a worker starts with this module as its ``preload``.
    """
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
