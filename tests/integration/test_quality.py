"""Quality measures in whole runs."""

import dataclasses
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

import qupath_bridge as qb
from qupath_bridge.config import quality
from qupath_bridge.errors import ConfigError
from qupath_bridge.outputs import open_output
from tests.support.cohort import write_hospitals

CONFIG = qb.ExportConfig(size=50, edge="pad", min_share=0.4)


def export(study, out, config, **options):
    return qb.export(study.project, out, config, provenance=False, command=["test"], **options)


def measured(out, slide_id, name):
    """Values of kept and of dropped patches."""
    output = open_output(out)
    kept, dropped = output.rows(slide_id).table(), output.dropped(slide_id)
    parts = [kept, *([] if dropped is None else [dropped])]
    return [np.array(part.column(name).to_pylist()) for part in parts]


def test_a_preset_records_measures_without_dropping(study, tmp_path):
    plain = export(study, tmp_path / "plain", CONFIG)
    run = export(study, tmp_path / "out", CONFIG.replace(qc=["standard", "sharpness"]))
    assert run.written == plain.written
    assert run.dropped_counts()["quality"] == 0
    names = [name for name in run.table().column_names if name.startswith("qc_")]
    assert names == ["qc_blank", "qc_dark", "qc_focus", "qc_pen", "qc_sharpness"]
    assert (
        run.table()
        .drop_columns([*names, "run_id", "slide_id"])
        .equals(plain.table().drop_columns(["run_id", "slide_id"]))
    )
    assert qb.verify(run).ok


def test_limits_drop_on_both_sides_and_are_summarised(study, tmp_path):
    whole = export(study, tmp_path / "whole", CONFIG.replace(qc=["saturation"]))
    values = np.sort([row["qc_saturation"] for row in whole.table().to_pylist()])
    low, high = float(values[10]), float(values[-21])
    limits = {"qc_min": {"saturation": low}, "qc_max": {"saturation": high}}
    run = export(study, tmp_path / "out", CONFIG.replace(**limits), workers=2)
    assert run.dropped_counts()["quality"] == 10 + 20
    output = open_output(tmp_path / "out")
    for slide in run:
        kept, dropped = measured(tmp_path / "out", slide["slide_id"], "qc_saturation")
        assert ((kept >= low) & (kept <= high)).all()
        assert ((dropped < low) | (dropped > high)).all()
        every = np.concatenate([kept, dropped])
        marks = np.percentile(every, [5, 50, 95])
        expected = dict(zip(("p5", "median", "p95"), marks.tolist(), strict=True))
        found = dict(slide["quality"]["saturation"])
        assert found.pop("patches") == len(every)
        assert found == pytest.approx(expected, abs=1e-6)
        rows = pq.read_table(tmp_path / "out" / "index" / f"slide_id={slide['slide_id']}")
        facts = json.loads(rows.schema.metadata[b"qupath_bridge.facts"])
        assert facts["quality"] == slide["quality"]
    assert qb.verify(run).ok
    again = export(study, tmp_path / "out", CONFIG.replace(**limits), resume=True)
    assert again.record["rows"] == run.record["rows"]
    assert output.dropped(run.report["slides"][0]["slide_id"]) is not None


def test_the_preset_clean_has_the_documented_limits(study, tmp_path):
    whole = export(study, tmp_path / "whole", CONFIG.replace(qc=["standard"])).table().to_pylist()
    good = {
        row["patch_id"]
        for row in whole
        if row["qc_focus"] >= 0.05
        and row["qc_blank"] <= 0.9
        and row["qc_dark"] <= 0.3
        and row["qc_pen"] <= 0.05
    }
    run = export(study, tmp_path / "clean", CONFIG.replace(qc=["clean"]))
    assert {row["patch_id"] for row in run.table().to_pylist()} == good
    loose = CONFIG.replace(qc=["clean"], qc_max={"pen": 1, "dark": 1}, qc_min={"focus": 0})
    assert export(study, tmp_path / "loose", loose).written > run.written


def test_the_limits_of_a_preset_are_in_the_digest(study, monkeypatch):
    """A version with other limits makes other patches."""

    def digest():
        with qb.open_project(study.project) as project:
            return qb.plan(project, CONFIG.replace(qc=["clean"]))[0].digest

    before = digest()
    assert digest() == before
    other = dataclasses.replace(quality.PRESETS["clean"], most={"pen": 0.1})
    monkeypatch.setattr(quality, "PRESETS", {"clean": other})
    assert digest() != before


def test_verify_finds_outliers_that_were_edited(study, tmp_path):
    run = export(study, tmp_path / "out", CONFIG.replace(qc=["blank"]))
    path = tmp_path / "out" / "report.json"
    report = json.loads(path.read_text())
    assert report["quality_outliers"] == []
    slide = report["slides"][0]["slide_id"]
    report["quality_outliers"] = [
        {"slide_id": slide, "measure": "blank", "median": 1.0, "cohort": 0.0, "distance": 9.0}
    ]
    path.write_text(json.dumps(report))
    (finding,) = qb.verify(run).findings
    assert "outliers" in finding.problem


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"qc": ["focsu"]}, "qc: qc names no quality measure: 'focsu'; known: "),
        ({"qc": ["focsu"]}, "standard, clean"),
        ({"qc_max": {"standard": 1}}, "qc_max: qc_max names no quality measure: 'standard'"),
        ({"qc": ["clean"], "qc_min": {"pen": 0.5}}, "leaves no patch: pen is at least 0.5 and at"),
    ],
)
def test_wrong_measures_and_limits_are_named(options, words):
    with pytest.raises(ConfigError) as caught:
        CONFIG.replace(**options)
    assert words in str(caught.value)


def test_a_colour_cast_of_the_scanner_hardly_changes_the_measures(tmp_path):
    """Of five hospitals that scanned one slide; with glass as it is, dark rises by 0.2."""
    (tmp_path / "slides").mkdir()
    slides = write_hospitals(tmp_path / "slides", place=(600, 1900), side=1024)
    config = qb.ExportConfig(size=256, qc=["blank", "dark", "pen"])
    run = qb.export(tmp_path / "slides", tmp_path / "out", config, workers=1)
    means = {}
    for slide in run:
        rows = [row for row in run.table().to_pylist() if row["slide_id"] == slide["slide_id"]]
        values = [[row[f"qc_{name}"] for name in config.qc] for row in rows]
        means[slide["slide_name"]] = np.mean(values, axis=0)
    expected = means[slides["north"].name]
    assert expected[0] > 0.05
    for name, found in means.items():
        assert np.abs(found - expected).max() < 0.05, name
    assert qb.verify(run).ok
