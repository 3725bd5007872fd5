"""All runners write the same bytes."""

import pytest

import qupath_bridge as qb
from qupath_bridge.testing.projects import tree_hashes

NEEDS = {"dask": "distributed", "spark": "pyspark"}
# What says when and how a run was made; rows of the index, with the id of the run, are compared.
RECORDS = ("run.json", "report.json", "index/")


@pytest.mark.slow
@pytest.mark.parametrize("container", ["folder", "tar"])
def test_all_runners_write_the_same_bytes(study, tmp_path, container):
    config = qb.ExportConfig(size=64, edge="pad", min_share=0.1, container=container, masks="both")
    runs = {}
    for runner in ("threads", "processes", "dask", "spark"):
        if runner in NEEDS:
            pytest.importorskip(NEEDS[runner], reason=f"{NEEDS[runner]} is not installed")
        runs[runner] = qb.export(
            study.project, tmp_path / runner, config, runner=runner, workers=2, provenance=False
        )
    threads = runs.pop("threads")
    assert threads.record["run_digest"] is not None
    table = threads.table().drop_columns(["run_id"])
    assert table.num_rows > 20
    files = files_of(threads)
    assert len(files) > (40 if container == "folder" else 3)  # tar: two shards, CSV, classes
    for runner, run in runs.items():
        assert run.record["run_digest"] == threads.record["run_digest"], runner
        assert run.table().drop_columns(["run_id"]).equals(table), runner
        assert files_of(run) == files, runner


def files_of(run):
    """All files with their digests, but for records; the CSV file without the id of the run."""
    table = run.out / "index.csv"
    table.write_text(table.read_text("utf-8").replace(run.record["run_id"], "RUN"), "utf-8")
    return {
        name: digest
        for name, digest in tree_hashes(run.out).items()
        if not name.startswith(RECORDS)
    }
