"""The request ``runs``."""

import shutil

import pytest

from qupath_bridge.config import ExportConfig
from qupath_bridge.errors import OutputError
from qupath_bridge.testing.projects import tree_hashes


def test_runs_are_listed_with_settings_and_counts(ask):
    first = ask("export", options={"size": 100, "workers": 1})
    second = ask(
        "export", entries=["2"],
        options={"size": 64, "within": "Tumor", "map": {"Necrosis": "Dead"}, "workers": 1},
    )  # fmt: skip

    both = ask("runs")["runs"]
    assert [run["run_id"] for run in both] == [second["run_id"], first["run_id"]]
    assert all(ExportConfig.parse(run["options"]) for run in both)
    assert [run["options"]["size"] for run in both] == [64, 100]
    assert [run["settings"] for run in both] == [
        "64 px, full resolution, within Tumor, map Necrosis=Dead",
        "100 px, full resolution",
    ]
    assert both[1]["labels"] == first["labels"]
    assert [run["entries"] for run in both] == [["2"], ["1", "2"]]
    assert [run["out"] for run in both] == [second["out"], first["out"]]
    assert all(run["out_exists"] and run["stale"] is None for run in both)

    (only,) = ask("runs", entry="1")["runs"]
    counted = next(slide for slide in first["slides"] if slide["entry"] == "1")
    assert (only["run_id"], only["labels"]) == (first["run_id"], counted["labels"])


def test_stale_runs_are_told_if_asked(ask, redrawn):
    ask("export", options={"size": 100, "workers": 1})
    assert [run["stale"] for run in ask("runs", stale=True)["runs"]] == [False]
    redrawn()
    assert [run["stale"] for run in ask("runs", stale=True)["runs"]] == [True]


def test_nothing_is_written(ask, study):
    ask("export", options={"size": 100, "workers": 1})
    before = tree_hashes(study.project.parent)
    ask("runs", stale=True)
    ask("preview", entry="1")
    assert tree_hashes(study.project.parent) == before


@pytest.fixture
def shown_run(ask, tmp_path):
    """A function that shows the tiles of a run in an image of which it knows nothing."""
    return lambda run_id: ask(
        "tiles", action="show", entry="1", run=run_id, add=str(tmp_path / f"{run_id}.geojson.gz")
    )


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"slides": 5}'])
def test_a_damaged_record_hides_no_other_run(ask, study, shown_run, damage):
    damaged = ask("export", options={"size": 100, "workers": 1})["run_id"]
    whole = ask("export", options={"size": 64, "workers": 1})["run_id"]
    record = study.project.parent / "qupath_bridge" / "runs" / damaged / "run.json"
    record.write_text(damage)

    for stale in (False, True):
        answer = ask("runs", stale=stale)
        assert [run["run_id"] for run in answer["runs"]] == [whole]
        (message,) = answer["messages"]
        assert damaged in message
        assert f"Delete {record.parent}" in message
    assert shown_run(whole)["added"]


def test_what_was_said_about_a_damaged_run_is_not_overwritten(ask, study, shown_run):
    """What the image shows was compared with nothing: a correction would be lost."""
    damaged = ask("export", options={"size": 100, "workers": 1})["run_id"]
    whole = ask("export", options={"size": 64, "workers": 1})["run_id"]
    shown_run(damaged)
    folder = study.project.parent / "qupath_bridge" / "runs" / damaged
    (folder / "run.json").write_text("{")
    with pytest.raises(OutputError, match="Delete .*the command write-back does that"):
        shown_run(whole)
    shutil.rmtree(folder)  # as the message says
    assert shown_run(whole)["added"]
