"""The request ``export``."""

import json
import re

import pytest

import qupath_bridge as qb
from qupath_bridge.errors import InterruptedRunError, OutputError, UsageError

OPTIONS = {"size": 100, "workers": 1}


class Stop:
    """A request to stop that comes after some looks."""

    def __init__(self, looks):
        self.looks = looks

    def is_set(self):
        self.looks -= 1
        return self.looks < 0


def rows(out):
    found = qb.Run.load(out).table().to_pylist()
    return [{k: v for k, v in row.items() if k != "run_id"} for row in found]


def test_export_is_the_one_of_the_command_line(ask, study):
    value = ask("export", entries=["1"], options=OPTIONS)
    expected = qb.export(
        study.project, study.folder / "out", qb.ExportConfig(size=100),
        selection=qb.Selection(entry=["id:1"]), workers=1,
    )  # fmt: skip

    folder = study.project.parent / "qupath_bridge"
    assert re.fullmatch(r"1_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", value["out"].rpartition("/")[2])
    assert value["out"].startswith(str(folder / "patches"))
    assert rows(value["out"]) == rows(expected.url)
    assert value["written"] == len(rows(value["out"])) == sum(value["labels"].values())
    (slide,) = value["slides"]
    assert (slide["entry"], slide["written"]) == ("1", value["written"])
    assert value["provenance"] == [str(folder / "runs" / value["run_id"])]
    assert value["in_project"]
    progress = [event for event in ask.events if event["event"] == "progress"]
    assert (progress[-1]["done"], progress[-1]["slides_done"]) == (value["written"], 1)


def test_a_project_that_cannot_be_written_has_nothing_to_show(ask, study, tmp_path):
    (study.project.parent / "qupath_bridge").write_text("a file")
    out = tmp_path / "out"
    value = ask("export", options={"size": 100, "workers": 1}, out=str(out))
    assert value["provenance"] == [str(out / "provenance")]
    assert not value["in_project"]


def test_all_slides_are_exported_if_none_is_named(ask):
    value = ask("export", options=OPTIONS)

    assert [slide["entry"] for slide in value["slides"]] == ["1", "2"]
    assert "/patches/all_" in value["out"]


def test_slides_can_be_added_one_by_one(ask, study):
    out = str(study.folder / "ä out, of 组织")
    ask("export", entries=["2"], out=out, options=OPTIONS, add=True)
    value = ask("export", entries=["1"], out=out, options=OPTIONS, add=True)

    assert sorted(slide["entry"] for slide in value["slides"]) == ["1", "2"]
    whole = ask("export", options=OPTIONS)
    assert rows(out) == rows(whole["out"])
    # Adding it again changes nothing.
    before = rows(out)
    ask("export", entries=["1"], out=out, add=True)
    assert rows(out) == before


def test_a_stopped_export_can_be_resumed_without_its_options(ask, study):
    from qupath_bridge.api.requests import carry_out

    request = {
        "protocol": 1, "command": "export", "project": str(study.project), "options": OPTIONS,
    }  # fmt: skip
    with pytest.raises(InterruptedRunError):
        carry_out(request, cancel=Stop(6))
    (stopped,) = ask("runs")["unfinished"]
    assert (stopped["slides"], stopped["entries"]) == (2, ("1", "2"))
    assert stopped["slides_done"] < 2

    value = ask("export", resume=True)

    assert value["out"] == stopped["out"]
    assert rows(value["out"]) == rows(ask("export", options=OPTIONS)["out"])
    assert ask("runs")["unfinished"] == []
    with pytest.raises(UsageError, match="no export to resume"):
        ask("export", resume=True)


def test_other_options_are_refused_on_resuming(ask, study):
    out = str(study.folder / "out")
    ask("export", out=out, options=OPTIONS)
    with pytest.raises(OutputError, match="other options: size was 100 and is 64"):
        ask("export", out=out, options={"size": 64}, resume=True)


def test_slides_that_fail_are_listed(ask, study):
    record = json.loads(study.project.read_text(encoding="utf-8"))
    text = json.dumps(record["images"][1]).replace("slide%202", "gone")
    record["images"][1] = json.loads(text)
    study.project.write_text(json.dumps(record), encoding="utf-8")

    value = ask("export", options=OPTIONS)

    (failure,) = value["failures"]
    assert (failure["entry"], failure["slide_name"]) == ("2", "slide 2.tiff")
    assert "was not found" in failure["error"]
    assert failure["hint"]


def test_annotations_on_screen_are_exported_and_frozen(ask, square):
    live = {"1": square(100, 100, 200)}
    value = ask("export", entries=["1"], options=OPTIONS, live=live)

    boxes = {tuple(row[f"{side}_qupath"] for side in "xywh") for row in rows(value["out"])}
    assert boxes == {(x, y, 100, 100) for x in (100, 200) for y in (100, 200)}
    # The file of QuPath is gone by now; resuming and verifying do not need it.
    assert qb.verify(value["out"]).ok
    assert value["corrections"] == {"applied": 0, "contested": 0, "unsure": 0}


def test_a_file_on_screen_that_is_not_there_is_named(ask, tmp_path):
    with pytest.raises(UsageError, match="annotations on screen cannot be read"):
        ask("export", entries=["1"], options=OPTIONS, live={"1": str(tmp_path / "no.geojson")})


def test_two_exports_in_one_second_have_two_folders(ask, monkeypatch):
    import datetime

    from qupath_bridge.api.requests import exporting

    class Now(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 2, 3, 4, 5)

    monkeypatch.setattr(exporting, "datetime", Now)
    outs = [ask("export", entries=["1"], options=OPTIONS)["out"] for _ in range(3)]
    assert [out.rpartition("/")[2] for out in outs] == [
        "1_2026-01-02_03-04-05", "1_2026-01-02_03-04-05-2", "1_2026-01-02_03-04-05-3",
    ]  # fmt: skip
