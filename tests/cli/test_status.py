"""``status`` for a project with very many runs and slides: a page for people, all with --json."""

import json
from pathlib import Path

from qupath_bridge import api
from qupath_bridge.cli import main
from qupath_bridge.config import ExportConfig, RunOptions, Selection, Settings


def test_lists_are_limited_for_people(study, capsys, monkeypatch):
    reasons = tuple(f"reason {n}." for n in range(25))
    slides = [api.EntryStatus(f"{n}", f"slide {n}.svs", "current") for n in range(40)]
    slides[33] = api.EntryStatus("33", "slide 33.svs", "stale", reasons)
    settings = Settings(Selection(), ExportConfig(), RunOptions())
    runs = tuple(
        api.RunStatus(f"run {n:02}", "now", "out", True, Path("x"), tuple(slides), (), settings)
        for n in range(15)
    )
    monkeypatch.setattr(api, "status", lambda project, **_: runs)
    assert main(["status", str(study.project)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "5 older runs are left out; --json lists all."
    assert [line[:6] for line in lines if line.startswith("run ")] == [
        f"run {n:02}" for n in range(5, 15)
    ]
    assert len(lines) == 1 + 10 * (1 + 10 + 10 + 3)  # run, slides, reasons; "more" twice, the way
    first = lines[1:25]
    assert first[1] == "  slide 33.svs (entry 33): stale"  # what needs a look comes first
    assert first[12] == "    and 15 more reasons; --json lists all"
    assert first[22] == "  and 30 more slides; --json lists all"
    assert main(["status", str(study.project), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert len(record["runs"]) == 15
    assert [len(run["entries"]) for run in record["runs"]] == [40] * 15
    assert len(record["runs"][0]["entries"][33]["reasons"]) == 25
