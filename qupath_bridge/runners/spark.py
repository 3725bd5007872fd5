"""Several slides at a time on Apache Spark: of this machine, or of a cluster."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from qupath_bridge.errors import BridgeError, MissingDependencyError, UsageError
from qupath_bridge.parallel import available_cores
from qupath_bridge.pipeline.cancel import Cancel
from qupath_bridge.pipeline.task import SlideProgress, SlideResult, SlideTask

from .elsewhere import carry_out, portable
from .listening import Listener, Place, line_to
from .spreading import Died, Done, Inbox, spread

if TYPE_CHECKING:
    from pyspark import SparkConf, SparkContext

__all__ = ["SparkRunner"]

log = logging.getLogger("qupath_bridge")

LOOK = 0.1
"""Seconds between looks at slides that were asked to stop."""

GRACE = 60.0
"""Seconds that slides on a cluster have to stop before Spark ends them."""

GRACE_HERE = 3.0

PATIENCE = 20.0
"""Seconds without an executor until the run says that it waits for one."""

HERE = "127.0.0.1"

JAVA = (
    "Install Java 17 or newer, such as Debian's default-jre-headless, or name the folder of one "
    "with JAVA_HOME."
)

_DIED = ("Python worker exited unexpectedly", "ExecutorLostFailure", "ExecutorDeadException")
"""Words of Spark for a process that died, also where a slide waited for it."""


class SparkRunner:
    """Carries out tasks as jobs of Spark, one per slide and with one thread each.

    Tasks are sent to the workers, never pixels. All machines need the same version of this
    package, and see slides, project and output under the same paths.

    Parameters
    ----------
    workers : int, optional
        Number of processes on this machine, the number of cores when not given; on a cluster, the
        largest number of slides at work or waiting there, as many as it takes when not given.
    argument : str, optional
        Master (``spark://HOST:PORT``, ``yarn``, ``local[2]``). When not given: the context of this
        process or the master that ``spark-submit`` names, else this machine.

    Raises
    ------
    MissingDependencyError
        If PySpark or Java is not installed.
    """

    def __init__(self, workers: int | None = None, argument: str | None = None) -> None:
        try:
            import pyspark  # noqa: F401
        except ImportError as error:
            raise MissingDependencyError(
                f"The runner 'spark' needs PySpark, which cannot be imported: {error}.",
                hint="Install it with: pip install 'qupath-bridge[spark]'.",
            ) from error
        if argument == "":
            raise UsageError(
                "The runner spark got an empty master.",
                hint="Give spark:spark://HOST:PORT, or spark alone for this machine.",
            )
        self.workers = workers
        self.master = argument

    def run(
        self,
        tasks: Iterable[SlideTask],
        *,
        progress: SlideProgress | None = None,
        cancel: Cancel | None = None,
    ) -> Iterator[SlideResult]:
        """Yield a result for each task, as they come."""
        inbox: Inbox = SimpleQueue()
        with _context(self.master, self.workers) as context:
            here = context.master.startswith("local")
            host = HERE if here else context.getConf().get("spark.driver.host", HERE)
            listener = Listener(inbox, HERE if here else "", host or HERE)
            with contextlib.closing(listener):
                most, grace = (None, GRACE_HERE) if here else (self.workers, GRACE)
                engine = (_Spark if here else _Cluster)(context, inbox, listener, most, grace)
                yield from spread(engine, inbox, tasks, progress, cancel)


@contextlib.contextmanager
def _context(master: str | None, workers: int | None) -> Iterator[SparkContext]:
    """Use the context of this process, or start one for this run."""
    from pyspark import SparkContext

    active = SparkContext._active_spark_context
    if active is None:
        context = _started(master, workers)
    elif master in {None, active.master}:
        context = active
    else:
        raise UsageError(
            f"This process uses Spark at {active.master} already, and {master} was asked for.",
            hint="Stop its context first, or use the runner spark without a master.",
        )
    try:
        if context.getConf().get("spark.speculation", "false") == "true":
            raise UsageError(
                "Spark may carry out a slide on two machines at once (spark.speculation).",
                hint="Set spark.speculation to false.",
            )
        yield context
    finally:
        if active is None:
            context.stop()


def _started(master: str | None, workers: int | None) -> SparkContext:
    """Start a context; an interrupt stays what it is in this process."""
    from pyspark import SparkContext

    with _handler_kept(), tempfile.TemporaryDirectory() as folder:
        said = Path(folder, "stderr")
        try:
            if SparkContext._gateway is None:
                # With spark-submit there is a Java already, and its settings are read from it.
                gateway = None if _SUBMITTED in os.environ else _java(said)
                SparkContext._ensure_initialized(gateway=gateway)
            conf = _settings(master, workers)
            with _same_python(conf):
                return SparkContext(conf=conf)
        except BridgeError:
            raise
        except Exception as error:
            # Java, Py4J and PySpark have errors of many kinds here.
            words = said.read_text("utf-8", "replace")[-2000:] if said.exists() else ""
            reason = str(error).partition("\n\tat ")[0]
            raise UsageError(
                f"Spark did not start{f' at {master}' if master else ''}: {reason} {words}".strip(),
                hint="Is the master there, and Java 17 or newer?",
            ) from error


_SUBMITTED = "PYSPARK_GATEWAY_PORT"
"""Variable that ``spark-submit`` sets for its programs."""


def _settings(master: str | None, workers: int | None) -> SparkConf:
    from pyspark import SparkConf

    conf = SparkConf().setAppName("qupath-bridge")
    if master is not None:
        conf.setMaster(master)
    elif _SUBMITTED not in os.environ:
        conf.setMaster(f"local[{workers or available_cores()}]")
    if _is_here(conf):
        for key, value in _HERE.items():
            conf.set(key, value)
    # A slide whose process died is carried out again by `spread`, alone.
    conf.setIfMissing("spark.task.maxFailures", "1")
    conf.setIfMissing("spark.ui.showConsoleProgress", "false")
    conf.setIfMissing("spark.log.level", "OFF")
    return conf


def _is_here(conf: SparkConf) -> bool:
    return str(conf.get("spark.master")).startswith("local")


_HERE = {
    "spark.driver.host": HERE,
    "spark.driver.bindAddress": HERE,
    "spark.ui.enabled": "false",
    # Spark makes a key that only this run has: other users of the machine are kept out.
    "spark.authenticate": "true",
}


def _require_java() -> None:
    home = os.environ.get("JAVA_HOME")
    if not (Path(home, "bin").is_dir() if home else shutil.which("java")):
        place = f"not in JAVA_HOME, {home}" if home else "not on the PATH"
        raise MissingDependencyError(f"Spark needs Java, which is {place}.", hint=JAVA)


def _java(said: Path) -> Any:
    """Start Java, with what it says in a file."""
    from pyspark.java_gateway import launch_gateway

    _require_java()
    with said.open("wb") as file:
        return launch_gateway(popen_kwargs={"stderr": file})


@contextlib.contextmanager
def _handler_kept() -> Iterator[None]:
    """Keep the handler of interrupts, which a context replaces."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)


@contextlib.contextmanager
def _same_python(conf: SparkConf) -> Iterator[None]:
    """Let workers of this machine use this Python: a context takes it from the environment."""
    name = "PYSPARK_PYTHON"
    if not _is_here(conf) or name in os.environ:
        yield
        return
    os.environ[name] = sys.executable
    try:
        yield
    finally:
        del os.environ[name]


class _Spark:
    """Orders as jobs, each started by a thread of its own: an engine of :func:`spread`."""

    def __init__(
        self,
        context: SparkContext,
        inbox: Inbox,
        listener: Listener,
        most: int | None,
        grace: float,
    ) -> None:
        self._context = context
        self._inbox = inbox
        self._listener = listener
        self._most = most
        self._grace = grace
        self._group = f"qupath-bridge-{secrets.token_hex(8)}"
        self._threads: list[threading.Thread] = []

    def room(self) -> int:
        """Return twice the number of cores, so that none waits for its next slide."""
        room = max(1, 2 * int(self._context.defaultParallelism))
        return room if self._most is None else min(room, self._most)

    def start(self, number: int, order: str) -> None:
        from pyspark import InheritableThread

        self._threads = [thread for thread in self._threads if thread.is_alive()]
        thread = InheritableThread(target=self._carry_out, args=(number, order), daemon=True)
        self._threads.append(thread)
        thread.start()

    def look(self) -> None:
        """Say nothing: the processes of this machine are always there."""

    def stop(self) -> None:
        """Ask slides at work to stop; Spark ends those that do not."""
        self._listener.stop()
        if not self._wait(self._grace):
            self._context.cancelJobGroup(self._group)
            self._wait(GRACE)

    def _wait(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while alive := any(thread.is_alive() for thread in self._threads):
            if time.monotonic() > until:
                break
            time.sleep(LOOK)
        return not alive

    def _carry_out(self, number: int, order: str) -> None:
        outcome: SlideResult | BaseException | Died
        words = (number, order, self._listener.place)
        try:
            self._context.setJobGroup(self._group, f"slide {number}", interruptOnCancel=True)
            (outcome,) = self._context.parallelize([words], 1).map(_work).collect()
        except Exception as error:  # noqa: BLE001  # of Py4J and PySpark; it is told to the run
            self._listener.give_up(number)
            outcome = self._problem(number, error)
        self._inbox.put(Done(number, outcome))

    def _problem(self, number: int, error: Exception) -> BaseException | Died:
        """Return what the end of a job without a result means."""
        words = str(error)
        if self._context._jsc is None or self._context._jsc.sc().isStopped():
            return BridgeError("Spark was stopped.", hint="Resume the run to finish it.")
        if self._listener.broke_off(number) or any(word in words for word in _DIED):
            return Died()
        if "PYTHON_VERSION_MISMATCH" in words or "ModuleNotFoundError" in words:
            lines = (line for line in words.splitlines() if "Error: " in line)
            return MissingDependencyError(
                f"A Spark worker cannot carry out slides: {next(lines, words)[:500]}",
                hint="Install the same versions of Python and qupath-bridge on all machines, and "
                "name that Python with PYSPARK_PYTHON.",
            )
        return BridgeError(f"Spark could not carry out a slide: {words[:2000]}")


class _Cluster(_Spark):
    """Orders on a cluster, which may have no executor for them."""

    _without_since: float | None = None
    _told = False

    def look(self) -> None:
        """Say it once when there has been no executor for some time."""
        if self._executors():
            self._without_since, self._told = None, False
        elif self._without_since is None:
            self._without_since = time.monotonic()
        elif not self._told and time.monotonic() - self._without_since > PATIENCE:
            memory = self._context.getConf().get("spark.executor.memory", "1g")
            log.warning(
                "Spark at %s has started no executor yet; the run waits for one. Is there a "
                "worker with a free core and %s of memory (spark.executor.memory)?",
                self._context.master, memory,
            )  # fmt: skip
            self._told = True

    def _executors(self) -> int:
        """Return how many executors there are; one also where nobody knows."""
        from py4j.protocol import Py4JError

        with contextlib.suppress(Py4JError):  # somebody stops Spark, which the orders tell
            if self._context._jsc is not None:
                return int(self._context._jsc.sc().getExecutorMemoryStatus().size()) - 1
        return 1


def _work(words: tuple[int, str, Place]) -> SlideResult | Exception:
    """Carry out an order on a worker. What it reports comes to the run before what it returns."""
    number, order, place = words
    try:
        with line_to(Place(*place), number) as line:
            return carry_out(order, progress=line.report, cancel=line)
    except BridgeError as error:
        return portable(error)
