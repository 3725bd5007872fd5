"""The request ``runs``."""

from qupath_bridge.config import ExportConfig
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
