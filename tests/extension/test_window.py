"""The extension in QuPath's real window, on a virtual display."""

import gzip
import json
from collections import Counter

import pytest

import qupath_bridge as qb
from qupath_bridge.errors import InterruptedRunError
from qupath_bridge.outputs.index import list_partitions, read_partition
from qupath_bridge.patches.ids import TILE_ID_BEGINNING
from qupath_bridge.stores.local import LocalStore
from tests.support.bridge_window import (
    classes,
    clear,
    drawn,
    export,
    labels_in_order,
    open_export,
    planned,
    show_tiles,
)

pytestmark = [pytest.mark.qupath, pytest.mark.xdist_group("qupath window")]

CONFIG = qb.ExportConfig(size=128, mpp=0.5)
REVIEW = "Review patches"


def test_the_menu_is_in_place(desk):
    names = desk.run("fx { items().collect { it.text } }")
    assert [name for name in names if name] == [
        "Set up…", "Export patches…", "Show patches of a run…", "Remove patches…",
        "Review patches", "Corrections…", "Open scripts",
    ]  # fmt: skip
    assert not any(desk.run("fx { items().collect { it.disable } }"))
    desk.run(
        """
        fx { gui().overlayOptions.showNames = false }
        fx { gui().getMenu('Extensions', false).show() }
        until(10) {
            def item = javafx.stage.Window.windows.collectMany {
                it.scene.root.lookupAll('.menu-item') as List
            }.find { it.lookup('.label')?.text == 'Patch bridge' }
            if (item == null) return false
            def box = item.localToScreen(item.boundsInLocal)
            def robot = new javafx.scene.robot.Robot()
            robot.mouseMove(box.centerX, box.centerY)
            robot.mouseClick(javafx.scene.input.MouseButton.PRIMARY)
            true
        }"""
    )
    desk.shot("menu")
    desk.run("fx { gui().getMenu('Extensions', false).hide() }; true")


def test_set_up_takes_a_python_and_keeps_it(desk):
    desk.set_up.unlink()
    desk.run("fx { item('export').fire() }; true")
    text = desk.run("fx { node('total').text + ' ' + node('notes').text }")
    assert text == (
        "No Python is set up yet. Open Extensions > Patch bridge > Set up… "
        "and let it make one, or choose one."
    )
    assert desk.run("fx { node('export').disable }")
    desk.run("fx { close(); item('set-up').fire() }; true")
    assert desk.run("fx { node('state').text }") == "No Python is set up yet."
    python = json.dumps(str(desk.python), ensure_ascii=False)
    said = desk.run(
        f"""
        fx {{ node('choose').selected = true; node('python').text = {python} }}
        fx {{ node('start').fire() }}
        until(90) {{ node('state').text.startsWith('Ready') ? node('state').text : null }}"""
    )
    desk.shot("set-up")
    assert said.splitlines() == [
        f"Ready: qupath-bridge {qb.__version__} in {desk.python}",
        "You can close this window.",
    ]
    kept = json.loads(desk.set_up.read_text(encoding="utf-8"))
    assert kept == {"python": str(desk.python), "version": qb.__version__}


def test_the_preview_draws_what_the_library_plans(desk, project):
    open_export(desk)
    desk.shot("preview")
    expected = planned(project, CONFIG)
    assert len(expected) > 100
    assert drawn(desk) == expected
    assert desk.run("fx { node('total').text }") == f"{len(expected)} patches"
    assert desk.run("gui().imageData.hierarchy.tileObjects.size()") == 0
    desk.run("fx { close() }; true")
    assert desk.run("gui().viewer.customOverlayLayers.size()") == 0


def test_the_preview_follows_classes_and_annotations(desk, project):
    open_export(desk)
    desk.run(
        """
        fx { node('classes').children.find { it.text.startsWith('Keratin') }.fire() }
        until(30) { node('total').opacity < 1 }
        until(30) { node('total').opacity == 1 }"""
    )
    assert drawn(desk) == planned(project, CONFIG.replace(exclude=["Keratin"]))
    labels = {label for *_, label in drawn(desk)}
    assert "Keratin" not in labels and "Stroma" in labels
    counts = desk.run(
        """
        def hierarchy = gui().imageData.hierarchy, counts
        stroma = hierarchy.annotationObjects.findAll { it.pathClass?.toString() == 'Stroma' }
        fx { hierarchy.removeObjects(stroma, true) }
        try {
            until(30) {
                !node('labels').children.any { it.hasProperty('text') && it.text == 'Stroma' } }
            counts = fx { node('classes').children*.text }
        } finally {
            fx { hierarchy.addObjects(stroma) }
        }
        counts"""
    )
    assert "Stroma (0)" in counts
    assert "Stroma (0)" not in desk.run("fx { node('classes').children*.text }")
    assert desk.run("fx { node('size').text = 'x'; node('export').disable }")


def test_the_export_writes_patches_and_a_line_of_history(exported, desk, project):
    index = [
        row
        for partition in list_partitions(LocalStore(exported))
        for row in read_partition(LocalStore(exported), partition).to_pylist()
    ]
    assert len(index) == len(planned(project, CONFIG))
    assert len(list(exported.rglob("*.png"))) == len(index)
    line = desk.run("gui().imageData.historyWorkflow.steps.last().script")
    assert line.startswith("qupath.ext.patchbridge.PatchBridge.exportPatches('")
    assert line.endswith("""'{"size":128,"mpp":0.5,"rule":"majority"}')""")


def test_the_tiles_are_those_of_the_run(exported, desk, project):
    show_tiles(desk)
    desk.shot("tiles")
    run_id = json.loads((exported / "run.json").read_text(encoding="utf-8"))["run_id"]
    (file,) = (project / "qupath_bridge" / "runs" / run_id).glob("*.geojson.gz")
    with gzip.open(file) as stream:
        features = json.load(stream)["features"]
    expected = {each["id"]: each["properties"]["classification"]["name"] for each in features}
    tiles = desk.run(
        "gui().imageData.hierarchy.tileObjects.collectEntries {"
        " [it.getID().toString(), it.pathClass.toString()] }"
    )
    assert tiles == expected
    assert all(each.startswith(TILE_ID_BEGINNING) for each in tiles)
    assert desk.run("gui().overlayOptions.fillDetections")
    desk.run(
        """
        fx { item('remove').fire() }
        until(60) { node('run-action') != null && !node('run-action').disable }
        fx { node('run-action').fire() }
        until(60) { !gui().imageData.hierarchy.tileObjects }"""
    )
    assert not desk.run("gui().overlayOptions.fillDetections")
    assert desk.run("gui().imageData.hierarchy.annotationObjects.size()") > 10


def test_the_line_of_history_runs_as_a_script(exported, desk):
    show_tiles(desk)
    line = desk.run("gui().imageData.historyWorkflow.steps.last().script")
    clear(desk)
    desk.run(f"gui().runScript(null, {json.dumps(line)}); true")
    assert sum(classes(desk).values()) > 100


def test_keys_of_the_review_give_classes_and_marks(exported, desk):
    show_tiles(desk)
    before = classes(desk)
    desk.run(
        f"""
        fx {{ item('review').fire() }}
        until(10) {{ node('counter')?.text?.startsWith('Patch 1 of') }}
        fx {{ press('{REVIEW}', KeyCode.ENTER) }}
        fx {{ press('{REVIEW}', KeyCode.DIGIT3) }}
        fx {{ press('{REVIEW}', KeyCode.DELETE) }}
        true"""
    )
    desk.shot("review")
    after = classes(desk)
    first, second, third = labels_in_order(desk, before)
    assert after[first, True] >= 1
    assert after["Ignore*", True] == 1
    assert sum(n for (_, mark), n in after.items() if mark) == 3
    expected = Counter(before)
    expected.subtract([(first, False), (second, False), (third, False)])
    expected.update([(first, True), ("Keratin", True), ("Ignore*", True)])
    assert +expected == after
    assert desk.run("fx { node('counter').text }").endswith(", 3 reviewed")
    desk.run("fx { node('undo').fire() }; true")
    assert classes(desk)["Ignore*", True] == 0
    assert desk.run("gui().imageData.changed")
    assert not desk.run("gui().overlayOptions.fillDetections")
    desk.run("fx { close() }; true")
    assert desk.run("gui().overlayOptions.fillDetections")


def test_annotations_that_are_not_saved_are_asked_for(desk, project):
    open_export(desk)
    desk.run(
        """
        def hierarchy = gui().imageData.hierarchy
        def one = hierarchy.annotationObjects.find { it.pathClass?.toString() == 'Stroma' }
        fx { one.name = 'changed by hand'; hierarchy.fireHierarchyChangedEvent(gui()) }
        until(30) { node('total').opacity < 1 }
        until(30) { node('total').opacity == 1 }
        fx { node('export').fire() }
        until(30) { titles().contains('Patch bridge') }"""
    )
    desk.shot("unsaved")
    buttons = desk.run("fx { stage('Patch bridge').scene.root.buttonTypes*.text }")
    assert buttons == ["Save and export", "Export what is on screen", "Cancel"]
    desk.run(
        """
        def pane = fx { stage('Patch bridge').scene.root }
        fx { pane.lookupButton(pane.buttonTypes[0]).fire() }
        until(120) { node('show').visible }"""
    )
    with qb.open_project(project / "project.qpproj", engine="embedded") as opened:
        names = {each.name for each in opened.slides[0].read().annotations}
    assert "changed by hand" in names


def test_an_error_is_one_sentence_with_its_cure(desk):
    desk.set_up.write_text(json.dumps({"python": "/no/such/python", "version": "0"}))
    desk.run(
        """
        fx { item('show').fire() }
        until(30) { titles().contains('Patch bridge') }"""
    )
    desk.shot("error")
    texts = desk.run(
        """
        fx { stage('Patch bridge').scene.root.content.children*.text +
            stage('Patch bridge').scene.root.buttonTypes*.text }"""
    )
    assert texts[0] == "There is no Python at /no/such/python"
    assert "Set up…" in texts[1]
    assert "Copy details" in texts


def test_cancel_ends_python_within_five_seconds(desk, tmp_path):
    slow = tmp_path / "python"
    real = desk.python.read_text(encoding="utf-8")
    slow.write_text(
        real.replace("#!/bin/sh\n", f"#!/bin/sh\necho $$ > '{tmp_path}/pid'\nsleep 60\n")
    )
    slow.chmod(0o755)
    open_export(desk)
    desk.set_up.write_text(json.dumps({"python": str(slow), "version": qb.__version__}))
    milliseconds = desk.run(
        f"""
        fx {{ node('export').fire() }}
        def pid = new File('{tmp_path}/pid')
        until(30) {{ pid.exists() && pid.text.trim() }}
        def process = ProcessHandle.of(pid.text.trim() as long).get()
        def start = System.currentTimeMillis()
        fx {{ node('cancel').fire() }}
        until(30) {{ !node('export').disable }}
        until(30) {{ !process.isAlive() }}
        System.currentTimeMillis() - start"""
    )
    assert milliseconds < 5000
    assert desk.run("fx { node('outcome').text }") == "Stopped."
    assert not desk.run("fx { titles().contains('Patch bridge') }")


def test_images_are_chosen_in_a_list(desk):
    open_export(desk)
    desk.run("fx { node('images').value = node('images').items[1]; node('export').fire() }; true")
    assert desk.run("fx { node('outcome').text }") == "Choose at least one image."
    desk.run(
        """
        javafx.application.Platform.runLater { node('choose-images').fire() }
        until(20) { titles().contains('Images to export') }
        fx {
            def pane = stage('Images to export').scene.root
            pane.lookupAll('.check-box').find { it.text == 'CMU-1-Small-Region.svs' }.fire()
            pane.lookupButton(javafx.scene.control.ButtonType.OK).fire()
        }"""
    )
    assert desk.run("fx { node('choose-images').text }") == "Choose… (1)"
    assert len(list(export(desk).rglob("*.png"))) > 100


class CancelSoon:
    """Is set when it is asked for the second time."""

    def __init__(self):
        self.asked = 0

    def is_set(self):
        self.asked += 1
        return self.asked > 1


def test_an_export_that_was_stopped_earlier_can_be_finished(desk, project):
    out = project / "qupath_bridge" / "patches" / "stopped"
    with pytest.raises(InterruptedRunError):
        qb.export(project / "project.qpproj", out, CONFIG, cancel=CancelSoon())
    assert json.loads((out / "run.json").read_text(encoding="utf-8"))["state"] == "running"
    said = desk.run(
        """
        fx { item('export').fire() }
        until(60) { node('resume')?.visible ? node('outcome').text : null }"""
    )
    assert said.endswith(" was stopped: 0 of 1 images are done.")
    desk.shot("resume")
    said = desk.run(
        """
        fx { node('resume').fire() }
        until(120) { node('show').visible ? node('outcome').text : null }"""
    )
    number = len(planned(project, CONFIG))
    assert said.splitlines()[0] == f"{number} patches written to {out}"
    assert json.loads((out / "run.json").read_text(encoding="utf-8"))["state"] == "complete"
    assert len(list(out.rglob("*.png"))) == number


def test_corrections_go_the_whole_way_round(exported, desk, project):
    show_tiles(desk)
    before = Counter({name: number for (name, _), number in classes(desk).items()})
    third = labels_in_order(desk, before)[2]
    desk.run(
        f"""
        fx {{ item('review').fire() }}
        until(10) {{ node('counter')?.text?.startsWith('Patch 1 of') }}
        fx {{ node('reviewer').text = 'Dr. Übel' }}
        fx {{ press('{REVIEW}', KeyCode.ENTER) }}
        fx {{ press('{REVIEW}', KeyCode.DIGIT3) }}
        fx {{ press('{REVIEW}', KeyCode.DELETE) }}
        fx {{ close(); item('corrections').fire() }}
        until(60) {{ !node('collect').disable && node('slides').placeholder.text.startsWith('No') }}
        fx {{ node('collect').fire() }}
        until(120) {{ node('items').items.size() == 3 }}
        fx {{ node('slides').selectionModel.selectFirst() }}
        true"""
    )
    desk.shot("corrections")
    items = desk.run(
        "fx { node('items').items.collect { [it.kind(), it.after(), it.reviewer()] } }"
    )
    assert sorted(items) == [
        ["confirmed", labels_in_order(desk, before)[0], "Dr. Übel"],
        ["corrected", "Keratin", "Dr. Übel"],
        ["rejected", "Ignore*", "Dr. Übel"],
    ]
    desk.run("fx { close() }; true")
    open_export(desk)
    out = export(desk)
    said = desk.run("fx { node('outcome').text }")
    desk.shot("exported")
    rows = [
        row
        for partition in list_partitions(LocalStore(out))
        for row in read_partition(LocalStore(out), partition).to_pylist()
    ]
    assert len(rows) == sum(before.values()) - 1
    corrected = [row for row in rows if row["label_source"] == "corrected"]
    assert [row["label"] for row in corrected] == ["Keratin"]
    assert third in before
    assert "3 statements of people about patches were applied." in said
