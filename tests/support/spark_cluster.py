"""A standalone cluster of Spark on 127.0.0.1: a master and workers, each a process of its own."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from qupath_bridge.errors import MissingDependencyError
from qupath_bridge.runners import spark
from tests.support.waiting import wait_until

HERE = "127.0.0.1"
SECONDS = 120

QUICK = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""Options of Java that save time at its start."""


class SparkCluster:
    """A master and workers with one core each; executors are started for each application.

    Parameters
    ----------
    folder : Path
        For their files.
    workers : int
    loaded : Path, optional
        Folder on the path of Python of all executors.
    """

    def __init__(self, folder, workers=2, loaded=None):
        self._folder = folder
        self._processes = []
        self._home = spark_home()
        path = [str(loaded)] if loaded else []
        path += filter(None, [os.environ.get("PYTHONPATH")])
        self._environment = os.environ | {
            "SPARK_HOME": str(self._home),
            "SPARK_LOCAL_IP": HERE,
            "SPARK_LOCAL_DIRS": str(folder / "local"),
            "SPARK_DAEMON_MEMORY": "256m",
            "SPARK_DAEMON_JAVA_OPTS": QUICK,
            "PYTHONPATH": os.pathsep.join(path),
        }
        self._environment.pop("SPARK_MASTER", None)
        self._workers = workers

    def __enter__(self):
        try:
            master = self._start("master", "master", "--port", "0")
            self.address = self._said(master, r"Starting Spark master at (\S+)")
            for number in range(self._workers):
                folder = self._folder / f"worker{number}"
                self._start(
                    folder.name, "worker", "--cores", "1", "--memory", "1g",
                    "--work-dir", str(folder), self.address,
                )  # fmt: skip
            for number in range(self._workers):
                self._said(self._folder / f"worker{number}.log", "(Successfully) registered")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def _start(self, name, kind, *words):
        """Start a process, and return the file of what it says."""
        log = self._folder / f"{name}.log"
        command = [
            str(self._home / "bin" / "spark-class"),
            f"org.apache.spark.deploy.{kind}.{kind.title()}",
            "--host", HERE, "--webui-port", "0", *words,
        ]  # fmt: skip
        with log.open("wb") as file:
            self._processes.append(
                subprocess.Popen(
                    command,
                    stdout=file,
                    stderr=file,
                    env=self._environment,
                    start_new_session=True,
                )
            )
        return log

    def _said(self, log, pattern):
        """Wait until a process says something, and return a part of it."""
        wait_until(lambda: re.search(pattern, log.read_text()), seconds=SECONDS, nap=0.2)
        return re.search(pattern, log.read_text())[1]

    def executors(self):
        """Return the processes with Java that carry out tasks, for any application."""
        found = []
        for worker in self._processes[1:]:
            for child in psutil.Process(worker.pid).children(recursive=True):
                try:
                    if any("CoarseGrainedExecutorBackend" in word for word in child.cmdline()):
                        found.append(child)
                except psutil.Error:
                    continue
        return found

    def close(self):
        """End all processes, and what they started."""
        ended = []
        for process in reversed(self._processes):
            try:
                ended += psutil.Process(process.pid).children(recursive=True)
            except psutil.Error:
                continue
            process.kill()
            process.wait()
        for process in ended:
            try:
                process.kill()
            except psutil.Error:
                continue
        psutil.wait_procs(ended, timeout=10)


def pyspark_or_skip():
    """Return PySpark; skip the module that asks for it if PySpark or Java is missing."""
    pyspark = pytest.importorskip("pyspark", reason="PySpark is not installed")
    try:
        spark._require_java()
    except MissingDependencyError:
        pytest.skip("Java is not installed", allow_module_level=True)
    return pyspark


def spark_home():
    """Return the folder of the Spark that PySpark brings."""
    return Path(importlib.util.find_spec("pyspark").origin).parent


def client(**more):
    """Return the environment of a program that talks with a cluster on this machine."""
    return os.environ | {"SPARK_LOCAL_IP": HERE, "PYSPARK_PYTHON": sys.executable, **more}
