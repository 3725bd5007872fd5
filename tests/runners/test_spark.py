"""The runner ``spark``: on this machine, with two processes."""

import dataclasses
import os
import signal
import subprocess
import sys

import psutil
import pytest

import qupath_bridge as qb
from qupath_bridge import registry
from qupath_bridge.errors import (
    BridgeError,
    MissingDependencyError,
    UsageError,
)
from qupath_bridge.outputs import open_output
from qupath_bridge.runners import spark as module
from qupath_bridge.testing.contracts.runner import RunnerContract
from qupath_bridge.testing.projects import tree_hashes
from tests.support.run_processes import LONG, check_stopped, patches_of, start_export
from tests.support.spark_cluster import pyspark_or_skip, spark_home
from tests.support.waiting import wait_until

pyspark = pyspark_or_skip()

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("spark")]

SECONDS = 200

# Workers load this: a slide of this name ends the process that opens it.
POISON = """
import os
from qupath_bridge.pipeline import task
opened = task.open_reader
def open_reader(path, **options):
    return os._exit(9) if str(path).endswith("poison.tiff") else opened(path, **options)
task.open_reader = open_reader
"""


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    """A context that somebody else started; its workers load the poison."""
    folder = tmp_path_factory.mktemp("spark")
    (folder / "sitecustomize.py").write_text(POISON)
    with pytest.MonkeyPatch.context() as patch:
        before = os.environ.get("PYTHONPATH", "")
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(folder), before))))
        started = module._started("local[2]", None)
    yield started
    started.stop()


@pytest.fixture
def runner(context):
    return module.SparkRunner()


class TestSpark(RunnerContract):
    @pytest.fixture(autouse=True)
    def _context(self, context):
        self.context = context

    def make(self):
        return registry.load("runner", "spark")()

    def test_a_slide_that_ends_its_process_fails_alone(self, project, tmp_path):
        """As often as it is tried, another process takes its place."""
        (tmp_path / "2.tiff").rename(tmp_path / "poison.tiff")
        places = {str(tmp_path / "2.tiff"): str(tmp_path / "poison.tiff")}
        tasks = [
            task
            if task.entry_id != "3"
            else dataclasses.replace(
                task, source=dataclasses.replace(task.source, slide_map=places)
            )
            for task in self.tasks(project, tmp_path / "out")
        ]
        results = list(self.make().run(tasks))
        failed = [result for result in results if result.failure]
        assert [result.entry_id for result in failed] == ["3"]
        assert "died, twice" in failed[0].failure.error
        assert sum(result.written for result in results) == 12 * 4


def test_no_slide_is_at_work_after_a_run_was_stopped(study, tmp_path, context):
    """It stops by itself and removes its patches."""
    check_stopped(study, tmp_path / "out", "spark")
    assert context.statusTracker().getActiveJobsIds() == []


def test_another_master_than_that_of_the_process_is_refused(context):
    with pytest.raises(UsageError, match=r"uses Spark at local\[2\] already, and yarn was asked"):
        list(module.SparkRunner(argument="yarn").run([]))


def test_slides_are_not_carried_out_twice_at_once(context, monkeypatch):
    conf = pyspark.SparkConf(loadDefaults=False).set("spark.speculation", "true")
    monkeypatch.setattr(context, "getConf", lambda: conf)
    with pytest.raises(UsageError, match="two machines at once"):
        list(module.SparkRunner().run([]))


def test_a_worker_with_another_version_is_told(study, tmp_path, context, monkeypatch):
    """With both versions."""
    monkeypatch.setattr("qupath_bridge.runners.elsewhere.__version__", "0.0.1")
    with pytest.raises(MissingDependencyError, match=r"the run was started with 0\.0\.1"):
        qb.export(study.project, tmp_path / "out", LONG, runner="spark", provenance=False)


def test_the_index_is_a_table_of_spark(study, tmp_path, context):
    """Spark counts labels as we do."""
    from pyspark.sql import SparkSession

    run = qb.export(study.project, tmp_path / "out", LONG.replace(stride=50), provenance=False)
    session = SparkSession(context)
    rows = session.read.parquet(str(tmp_path / "out" / "index")).groupBy("label").count().collect()
    counts = {
        value["values"]: value["counts"]
        for value in run.table()["label"].value_counts().to_pylist()
    }
    assert {row["label"]: row["count"] for row in rows} == counts


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(MissingDependencyError, match=r"not on the PATH\. Install Java 17"):
        module._require_java()
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    with pytest.raises(MissingDependencyError, match="not in JAVA_HOME, /nowhere"):
        module._require_java()
    monkeypatch.setitem(sys.modules, "pyspark", None)
    with pytest.raises(MissingDependencyError, match=r"qupath-bridge\[spark\]"):
        module.SparkRunner()
    with pytest.raises(BridgeError):
        module.SparkRunner(argument="")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals like these")
def test_an_interrupt_ends_all_processes(study, tmp_path):
    """And while it works, nothing listens to other machines."""
    out = tmp_path / "out"
    process = start_export(study, out, "--runner", "spark", "--workers", "2", stride=6)
    children = []
    try:
        wait_until(lambda: patches_of(out) >= 50, process, seconds=SECONDS, nap=0.05)
        children = psutil.Process(process.pid).children(recursive=True)
        addresses = {
            each.laddr.ip.removeprefix("::ffff:")
            for one in (psutil.Process(process.pid), *children)
            for each in one.net_connections("inet")
            if each.status == psutil.CONN_LISTEN
        }
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=SECONDS)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 130, errors.decode()
    assert b"Traceback" not in errors
    assert addresses <= {"127.0.0.1", "::1"}
    assert children
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []
    assert list(open_output(out).unlisted()) == []


def test_a_program_of_spark_submit_uses_its_master(study, tmp_path):
    """And the bytes are those of threads."""
    program = tmp_path / "export_study.py"
    program.write_text(
        "import sys\n"
        "import qupath_bridge as qb\n"
        "from qupath_bridge.runners import spark\n"
        "started = spark._started\n"
        "def named(*words):\n"
        "    context = started(*words)\n"
        "    print('MASTER', context.master, flush=True)\n"
        "    return context\n"
        "spark._started = named\n"
        "qb.export(sys.argv[1], sys.argv[2], qb.ExportConfig(size=100), runner='spark')\n"
    )
    submit = [
        str(spark_home() / "bin" / "spark-submit"), "--master", "local[2]",
        "--conf", "spark.driver.bindAddress=127.0.0.1", str(program),
        str(study.project), str(tmp_path / "out"),
    ]  # fmt: skip
    done = subprocess.run(
        submit, capture_output=True, text=True, timeout=SECONDS,
        env=os.environ | {"PYSPARK_PYTHON": sys.executable},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "MASTER local[2]" in done.stdout
    threads = qb.export(study.project, tmp_path / "threads", qb.ExportConfig(size=100))
    left, right = (tree_hashes(tmp_path / name / "patches") for name in ("out", "threads"))
    assert left == right
    assert threads.written == len(right) > 0
