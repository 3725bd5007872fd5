"""The request ``preview``: what an export would write."""

import json

import pytest

import qupath_bridge as qb
from qupath_bridge.errors import ConfigError, OutputError, UsageError

OPTIONS = {"size": 50, "stride": 30, "map": {"Stroma": "Tumor"}, "edge": "pad"}


def boxes_of(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    flat = content["boxes"]
    rows = [flat[at : at + 5] for at in range(0, len(flat), 5)]
    return [(*row[:4], content["labels"][row[4]] if row[4] >= 0 else None) for row in rows]


@pytest.mark.parametrize("more", [{}, {"rule": "any"}, {"labels": False}])
def test_boxes_are_the_patches_that_an_export_writes(ask, study, tmp_path, more):
    options = {**OPTIONS, **more}
    place = tmp_path / "boxes ä.json"
    value = ask("preview", entry="1", options=options, boxes=str(place))

    run = qb.export(
        study.project, study.folder / "out", qb.ExportConfig(**options),
        selection=qb.Selection(entry=["id:1"]), engine="embedded", workers=1,
    )  # fmt: skip
    written = run.table().to_pylist()
    expected = [
        (
            *(row[f"{side}_qupath"] for side in "xywh"),
            row["label"] if isinstance(row["label"], str | None) else ": ".join(row["label"]),
        )
        for row in written
    ]
    assert boxes_of(place) == expected
    assert value["total"] == len(expected) > 0
    assert value["reasons"] == {name: n for name, n in run.dropped_counts().items() if n}
    counts = {label: each["count"] for label, each in value["labels"].items()}
    labels = [row[-1] for row in expected if row[-1] is not None]
    assert counts == {label: labels.count(label) for label in set(labels)}


def test_colours_are_those_of_the_project(ask):
    value = ask("preview", entry="1", options={"size": 50})

    # As a new project of QuPath has them.
    assert value["labels"]["Tumor"]["color"] == [200, 0, 0]
    assert value["labels"]["Stroma"]["color"] == [150, 200, 150]


def test_annotations_on_screen_stand_for_the_saved_ones(ask, square):
    live = {"1": square(100, 100, 200)}
    value = ask("preview", entry="1", options={"size": 100}, live=live)

    assert {label: each["count"] for label, each in value["labels"].items()} == {"Tumor": 4}
    assert ask("preview", entry="2", options={"size": 100}, live=live)["labels"].keys() > {"Tumor"}


def test_tissue_test_is_made_if_it_is_wanted(ask):
    options = {"size": 50, "tissue": "otsu", "min_tissue": 1}
    assert "no_tissue" in ask("preview", entry="1", options=options)["reasons"]
    assert "no_tissue" not in ask("preview", entry="1", options=options, tissue=False)["reasons"]


def test_faults_name_the_option(ask, tmp_path):
    with pytest.raises(ConfigError, match="sise: no such option; did you mean size"):
        ask("preview", entry="1", options={"sise": 3})
    with pytest.raises(UsageError, match="no image with the ID 7"):
        ask("preview", entry="7")
    with pytest.raises(OutputError, match="the folder does not exist"):
        ask("preview", entry="1", options={"size": 50}, boxes=str(tmp_path / "no" / "boxes.json"))
