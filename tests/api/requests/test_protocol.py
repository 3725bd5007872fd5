"""Form of requests, and what is said of one that is not as it should be."""

import json

import pytest

from qupath_bridge._version import __version__
from qupath_bridge.api.requests import answer, carry_out
from qupath_bridge.errors import UsageError


def written(folder, **fields):
    path = folder / "request.json"
    fields = {"protocol": 1, "result": str(folder / "ä result.json"), **fields}
    path.write_text(json.dumps(fields), encoding="utf-8")
    return path


def result(folder):
    return json.loads((folder / "ä result.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"protocol": 2, "command": "check"}, f"protocol 2, and qupath-bridge {__version__}"),
        ({"protocol": 1, "command": "chek"}, "called 'chek'. Did you mean check"),
        ({"protocol": 1, "command": ["a"]}, "No request is called"),
        ({"protocol": 1, "command": "runs"}, "project: field required"),
        ({"protocol": 1, "command": "runs", "project": ""}, "project: string should have"),
        ({"protocol": 1, "command": "check", "projct": "x"}, "projct: extra inputs"),
        ({"protocol": 1, "command": "runs", "project": "x", "stale": 1}, "stale: input should"),
    ],
)
def test_faults_of_a_request_are_named(fields, problem):
    with pytest.raises(UsageError) as caught:
        carry_out(fields)
    assert problem in str(caught.value)


def test_check_names_version_and_parts():
    value = carry_out({"protocol": 1, "command": "check"})

    assert value["version"] == __version__
    assert {"png", "jpeg"} <= set(value["parts"]["encoder"])
    assert {"folder", "tar"} <= set(value["parts"]["container"])
    assert "memory" not in value["parts"]["container"]
    assert value["parts"]["tissue"][:3] == ["saturation", "otsu", "double-pass"]
    assert not {"qupath", "mask"} & set(value["parts"]["tissue"])  # they need an argument
    assert value["problems"] == []
    json.dumps(value, allow_nan=False)


def test_the_outcome_is_told_and_written(tmp_path):
    events = []
    assert answer(written(tmp_path, command="check"), events.append) == 0
    assert events == [{"event": "result", "file": str(tmp_path / "ä result.json")}]
    assert result(tmp_path)["ok"] is True
    assert result(tmp_path)["value"]["version"] == __version__

    events.clear()
    request = written(tmp_path, command="runs", project=str(tmp_path / "no.qpproj"))
    assert answer(request, events.append) == 4
    (event,) = events
    assert (event["event"], event["kind"], event["details"]) == ("error", "ProjectError", None)
    assert result(tmp_path) == {
        "protocol": 1, "ok": False,
        "error": {key: value for key, value in event.items() if key != "event"},
    }  # fmt: skip


def test_an_error_is_one_line_also_with_several_faults(tmp_path, study):
    events = []
    request = written(
        tmp_path, command="preview", project=str(study.project), entry="1",
        options={"size": 0, "strid": 1},
    )  # fmt: skip
    assert answer(request, events.append) == 3
    assert events[0]["message"] == (
        "strid: no such option; did you mean stride?; "
        "size: should be greater than or equal to 1, not 0"
    )


def test_an_unexpected_error_has_details(tmp_path, monkeypatch):
    from qupath_bridge.api.requests import answering

    def fail(request, emit, cancel):
        raise RuntimeError("boom")

    model, _ = answering._COMMANDS["check"]
    monkeypatch.setattr(answering, "_COMMANDS", {"check": (model, fail)})
    events = []
    assert answer(written(tmp_path, command="check"), events.append) == 1
    assert events[0]["message"].endswith("RuntimeError: boom")
    assert "Traceback" in events[0]["details"]


@pytest.mark.parametrize("text", ["{", "[]", '{"protocol": NaN}', "", "\xff"])
def test_a_file_that_is_no_request_is_refused(tmp_path, text):
    path = tmp_path / "request.json"
    path.write_text(text, encoding="latin-1")
    events = []
    assert answer(path, events.append) == 2
    assert events[0]["event"] == "error"
    events.clear()
    assert answer(tmp_path / "none", events.append) == 2


def test_a_result_that_cannot_be_written_is_an_error(tmp_path):
    events = []
    request = written(tmp_path, command="check", result=str(tmp_path / "no" / "result.json"))
    assert answer(request, events.append) == 5
    assert "there is no folder" in events[0]["message"]
