"""Scripts from the editor of QuPath's real window, and a project that cannot be written."""

import json
import shutil
from pathlib import Path

import pytest

import qupath_bridge as qb
from tests.support.bridge_window import open_export, open_project

pytestmark = [pytest.mark.qupath, pytest.mark.xdist_group("qupath window")]

SCRIPTS = Path(__file__).parents[2] / "groovy_scripts"


def test_run_for_project_makes_one_dataset_of_the_chosen_images(odd, desk, odd_project, tmp_path):
    odd("1")
    text = (SCRIPTS / "export_patches.groovy").read_text(encoding="utf-8")
    script = tmp_path / "export.groovy"
    script.write_text(text.replace("[size: 256]", "[size: 100]"), encoding="utf-8")
    desk.run(
        f"""
        def text = new File({json.dumps(str(script))}).getText('UTF-8')
        fx {{ gui().scriptEditor.showScript('export', text) }}
        until(20) {{ titles().contains('Script Editor') }}
        fx {{
            def bar = stage('Script Editor').scene.root.lookup('.menu-bar')
            def all = bar.menus*.items.flatten()
            def item = all.find {{ it.text == 'Run for project' }}
            javafx.application.Platform.runLater {{ item.fire() }}
        }}
        until(20) {{ titles().contains('Select project images') }}"""
    )
    desk.shot("run-for-project")
    desk.run(
        """
        fx {
            def pane = stage('Select project images').scene.root
            def view = pane.content instanceof org.controlsfx.control.ListSelectionView ?
                pane.content : pane.lookup('.list-selection-view')
            def chosen = view.sourceItems.findAll { it.ID in ['2', '3'] }
            view.targetItems.addAll(chosen)
            view.sourceItems.removeAll(chosen)
            javafx.application.Platform.runLater {
                pane.lookupButton(javafx.scene.control.ButtonType.OK).fire() }
        }
        def results = gui().project.path.parent.resolve('qupath_bridge/results/export_patches')
        until(120) { ['2', '3'].every { results.resolve(it + '.json').toFile().exists() } }
        until(60) { !titles().contains('Batch script') }"""
    )
    desk.shot("run-for-project-done")

    results = odd_project.parent / "qupath_bridge" / "results" / "export_patches"
    answers = [json.loads((results / f"{entry}.json").read_text("utf-8")) for entry in "23"]
    assert all(answer["ok"] for answer in answers)
    (out,) = {answer["out"] for answer in answers}
    rows = qb.Run.load(out).table().to_pylist()
    wanted = set()
    with qb.open_project(odd_project, engine="embedded") as opened:
        for slide in opened.slides:
            if slide.entry_id in {"2", "3"}:
                boxes = qb.plan(slide, qb.ExportConfig(size=100)).table.boxes.tolist()
                wanted |= {(slide.entry_id, *box) for box in boxes}
    places = ("x_qupath", "y_qupath", "w_qupath", "h_qupath")
    found = {(row["entry_id"], *(row[name] for name in places)) for row in rows}
    assert found == wanted
    assert not (results / "1.json").exists()


def test_a_project_that_cannot_be_written_keeps_nothing_back(desk, project, tmp_path):
    """As on a share that is read-only: a file stands where our folder belongs."""
    copy = shutil.copytree(project, tmp_path / "a share", ignore=shutil.ignore_patterns("qupath_*"))
    (copy / "qupath_bridge").write_text("x", encoding="utf-8")
    out = tmp_path / "patches"
    try:
        open_project(desk, copy / "project.qpproj", "1")
        open_export(desk)
        desk.run(
            f"""
            fx {{ node('out').text = {json.dumps(str(out))}; node('export').fire() }}
            until(120) {{ node('outcome').text.contains('written') }}"""
        )
        said, wide = desk.run(
            "fx { [node('outcome').text, stage('Export patches').width > gui().stage.width] }"
        )
        desk.shot("read-only")
        assert "cannot be written" in said
        assert str(out) in said
        assert not wide
        assert not desk.run("fx { node('show').visible }")  # the project has nothing to show
        assert len(qb.Run.load(out).table()) > 100
        assert list((out / "provenance").rglob("*.geojson.gz"))
    finally:
        open_project(desk, project / "project.qpproj", "1")
