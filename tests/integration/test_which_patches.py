"""Exports of fewer patches, of patches around objects, and of one picture per region."""

import json

import pytest

import qupath_bridge as qb


def export(source, out, config, **options):
    return qb.export(source, out, config, provenance=False, command=["test"], **options)


def values(table):
    """The rows of a run, without what is the run's own."""
    return sorted(table.drop_columns(["run_id"]).to_pylist(), key=lambda row: row["patch_id"])


def test_a_sample_is_the_same_in_every_run(study, tmp_path):
    config = qb.ExportConfig(
        size=50, edge="pad", min_share=0.1, max_per_label=3, max_per_slide=5, seed=7
    )
    one = export(study.project, tmp_path / "one", config, workers=1)
    other = export(study.project, tmp_path / "other", config, workers=3)
    rows = values(one.table())
    assert rows == values(other.table())
    with qb.open_project(study.project) as project:
        last = export(qb.plan([*project][-1:], config), tmp_path / "last", config)
        whole = qb.plan(project, config.replace(max_per_label=None, max_per_slide=None, seed=0))
    assert values(last.table()) == [r for r in rows if r["slide_id"] == rows[-1]["slide_id"]]

    report = json.loads((tmp_path / "one" / "report.json").read_text())
    for slide, plan in zip(report["slides"], whole, strict=True):
        kept = [row for row in rows if row["slide_id"] == slide["slide_id"]]
        assert len(kept) == min(5, sum(min(3, n) for n in plan.label_counts().values()))
        assert slide["dropped"]["not_sampled"] == len(plan) - len(kept) > 0
    record = json.loads((tmp_path / "one" / "run.json").read_text())
    assert record["config"]["max_per_label"] == 3
    assert (record["config"]["sample"], record["config"]["seed"]) == ("random", 7)


@pytest.mark.slow
def test_a_sample_is_the_same_in_processes(study, tmp_path):
    config = qb.ExportConfig(size=50, edge="pad", min_share=0.1, max_per_label=3, sample="grid")
    threads = export(study.project, tmp_path / "threads", config)
    processes = export(study.project, tmp_path / "processes", config, runner="processes", workers=2)
    assert values(threads.table()) == values(processes.table())
