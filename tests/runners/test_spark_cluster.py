"""The runner ``spark`` on a cluster: a master, two workers, and an executor on each of them."""

import os
import re
import subprocess
import sys

import psutil
import pytest

import qupath_bridge as qb
from qupath_bridge.outputs import open_output
from qupath_bridge.testing.slides import marker_image, write_slide
from tests.support.run_processes import (
    LONG,
    assert_same_run,
    check_stopped,
    patches_of,
    start_export,
)
from tests.support.spark_cluster import (
    HERE,
    QUICK,
    SparkCluster,
    client,
    pyspark_or_skip,
    spark_home,
)
from tests.support.waiting import wait_until

pyspark = pyspark_or_skip()

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("spark"),
    pytest.mark.skipif(os.name == "nt", reason="Windows has no signals like these"),
]

SECONDS = 120

# Executors load this: a slide of this name kills the executor that opens it, as the system does
# where memory runs out.
POISON = """
import os, psutil, signal
from qupath_bridge.pipeline import task
opened = task.open_reader
def open_reader(path, **options):
    if str(path).endswith("poison.tiff"):
        executor = psutil.Process(os.getppid()).parent()
        assert "CoarseGrainedExecutorBackend" in " ".join(executor.cmdline())
        executor.kill()
        signal.pause()
    return opened(path, **options)
task.open_reader = open_reader
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A cluster whose executors load the poison."""
    folder = tmp_path_factory.mktemp("cluster")
    loaded = folder / "loaded"
    loaded.mkdir()
    (loaded / "sitecustomize.py").write_text(POISON)
    with SparkCluster(folder, loaded=loaded) as started:
        yield started


@pytest.fixture(scope="module")
def context(cluster):
    """A context of this process at the cluster, with two executors."""
    conf = pyspark.SparkConf().setAll(
        [
            ("spark.driver.host", HERE), ("spark.driver.bindAddress", HERE),
            ("spark.ui.enabled", "false"), ("spark.task.maxFailures", "1"),
            ("spark.log.level", "OFF"), ("spark.ui.showConsoleProgress", "false"),
            ("spark.executor.extraJavaOptions", QUICK),
        ]
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        started = pyspark.SparkContext(cluster.address, "tests", conf=conf)
        yield started
        started.stop()


@pytest.mark.soak
def test_a_process_that_is_killed_costs_nothing_but_time(
    study, tmp_path, whole, cluster, context, soak
):
    """An executor, or the Python below it."""
    for which in ("executor", "python") if soak else ("executor",):
        wait_until(lambda: len(cluster.executors()) == 2, seconds=SECONDS)
        killed, seen = [], []

        def listen(progress, which=which, killed=killed, seen=seen):
            seen.append(progress)
            if not killed and progress.done > 100:
                below = {one: one.children(recursive=True) for one in cluster.executors()}
                executor = next(one for one in below if below[one])
                killed.append(executor if which == "executor" else below[executor][-1])
                killed[0].kill()

        out = tmp_path / which
        run = qb.export(
            study.project, out, LONG, runner="spark", provenance=False, on_progress=listen
        )
        assert len(killed) == 1
        assert run.failures == ()
        assert (seen[-1].slides_done, seen[-1].done) == (2, run.written)
        assert_same_run(run, whole)
        assert list(open_output(out).unlisted()) == []


def test_a_slide_that_kills_its_executor_fails_alone(tmp_path, cluster, context):
    """As often as it is tried, another executor takes its place."""
    folder = tmp_path / "slides"
    folder.mkdir()
    for number, name in enumerate(("a", "b", "poison", "c", "d")):
        write_slide(folder / f"{name}.tiff", marker_image(128, 96 + number), mpp=0.5, tile=16)
    config = qb.ExportConfig(size=32, labels=False)
    run = qb.export(folder, tmp_path / "out", config, runner="spark", provenance=False)
    (failure,) = run.failures
    assert failure.slide_name.endswith("_poison.tiff")
    assert "died, twice" in failure.error
    assert run.written == 12 * 4
    assert len(open_output(tmp_path / "out").slides()) == 4


def test_no_slide_is_at_work_after_a_run_was_stopped(study, tmp_path, context):
    """Workers hear it over their line, and remove their patches."""
    check_stopped(study, tmp_path / "out", "spark")
    assert context.statusTracker().getActiveJobsIds() == []


def test_the_driver_dies(study, tmp_path, whole, cluster, context):
    """Its slides stop, and the run is resumed, here with threads."""
    context.stop()  # its executors have the cores of the cluster
    out = tmp_path / "out"
    process = start_export(study, out, "--runner", f"spark:{cluster.address}", env=client())
    try:
        wait_until(lambda: patches_of(out) > 20, process, seconds=SECONDS)
        executors = cluster.executors()
    finally:
        process.kill()
        process.communicate()
    assert len(executors) == 2
    _, alive = psutil.wait_procs(executors, timeout=SECONDS)
    assert alive == []
    assert len(open_output(out).slides()) < 2
    run = qb.export(study.project, out, LONG, resume=True, provenance=False)
    assert_same_run(run, whole)


def test_a_cluster_without_room_for_an_executor_is_told(study, tmp_path, cluster, context):
    """Spark waits for ever, and so does the run."""
    context.stop()
    program = tmp_path / "export_study.py"
    program.write_text(
        "import sys\n"
        "import qupath_bridge as qb\n"
        "from qupath_bridge.runners import spark\n"
        "spark.PATIENCE = 0.5\n"
        "qb.export(sys.argv[1], sys.argv[2], qb.ExportConfig(size=100), runner='spark')\n"
    )
    command = [
        str(spark_home() / "bin" / "spark-submit"), "--master", cluster.address,
        "--conf", "spark.executor.memory=64g", str(program), str(study.project),
        str(tmp_path / "out"),
    ]  # fmt: skip
    said = tmp_path / "said"
    with said.open("wb") as file:
        process = subprocess.Popen(command, stderr=file, stdout=file, env=client())
    try:
        wait_until(lambda: "has started no executor" in said.read_text(), process, seconds=SECONDS)
    finally:
        process.kill()
        process.wait()
    assert re.search(r"a worker with a free core and 64g of memory", said.read_text())
