"""What becomes of an export when QuPath ends in the middle of it."""

import json
import os
import shutil
import signal
from pathlib import Path

import psutil
import pytest

import qupath_bridge as qb
from qupath_bridge.api.requests import carry_out
from tests.support.bridge_window import open_export

pytestmark = [pytest.mark.qupath, pytest.mark.slow, pytest.mark.xdist_group("qupath window")]

ROOT = Path(__file__).parents[2]
PATIENCE = 30  # seconds: the export has some to end, and this machine may be busy


def close(window):
    """Close QuPath's window, as its button does."""
    window.run(
        """
        def close = javafx.stage.WindowEvent.WINDOW_CLOSE_REQUEST
        javafx.application.Platform.runLater {
            gui().stage.fireEvent(new javafx.stage.WindowEvent(gui().stage, close)) }
        true"""
    )


def load(out):
    return json.loads((out / "run.json").read_text(encoding="utf-8"))


def kill(window):
    os.kill(window.run("ProcessHandle.current().pid()"), signal.SIGKILL)


@pytest.mark.parametrize("end", [close, kill])
def test_an_export_ends_with_qupath_and_can_be_resumed(end, start_window, tmp_path):
    place = tmp_path / "a project, 项目 ü"
    project = Path(shutil.copytree(ROOT / "example_projects" / "skin", place))
    window = start_window(project)
    try:
        open_export(window)
        folder, children = window.run(
            """
            def folder = fx { node('out').text }
            fx { node('size').text = '8'; node('full-resolution').selected = true }
            fx { node('export').fire() }
            until(100) { node('progress').text ==~ /[1-9].* per second.*/ }
            [folder, ProcessHandle.current().descendants().map { it.pid() }.toList()]"""
        )
        qupath = psutil.Process(window.run("ProcessHandle.current().pid()"))
        window.shot("running")
        out = Path(folder)
        running = [psutil.Process(int(pid)) for pid in children]
        assert any("qupath_bridge" in process.cmdline() for process in running)
        end(window)
        psutil.wait_procs([qupath], timeout=100)
        assert not qupath.is_running() or qupath.status() == psutil.STATUS_ZOMBIE
        _, left = psutil.wait_procs(running, timeout=PATIENCE)
        # Nobody waits for them where the system has no process that adopts orphans.
        assert all(process.status() == psutil.STATUS_ZOMBIE for process in left)
    finally:
        window.close()
    record = load(out)
    assert record["state"] == "running"
    request = {"protocol": 1, "command": "export", "project": str(project / "project.qpproj")}
    carry_out({**request, "out": folder, "resume": True})  # as the window's Resume does
    assert load(out)["state"] == "complete"
    config = qb.ExportConfig.parse(record["config"])
    assert config.size == 8
    with qb.open_project(project / "project.qpproj", engine="embedded") as opened:
        assert qb.Run.load(out).table().num_rows == len(qb.plan(opened.slides[0], config))
