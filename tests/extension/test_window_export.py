"""Exports from QuPath's real window: of several images, of what is not saved, of odd images."""

import json
from pathlib import Path

import pytest

import qupath_bridge as qb
from tests.support.bridge_window import (
    EMPTY,
    UNSCALED,
    drawn,
    export,
    open_export,
    open_project,
    planned,
)

pytestmark = [pytest.mark.qupath, pytest.mark.xdist_group("qupath window")]


def record(out):
    return json.loads((out / "run.json").read_text(encoding="utf-8"))


def test_several_images_are_chosen_and_told_apart(odd, desk):
    odd("1")
    open_export(desk, size=100)
    assert "/patches/1_" in desk.run("fx { node('out').text }")
    desk.run("fx { node('images').value = node('images').items[1]; node('export').fire() }; true")
    assert desk.run("fx { node('outcome').text }") == "Choose at least one image."
    desk.run(
        """
        javafx.application.Platform.runLater { node('choose-images').fire() }
        until(20) { titles().contains('Images to export') }"""
    )
    desk.shot("choose-images")
    desk.run(
        """
        fx {
            def pane = stage('Images to export').scene.root
            def boxes = pane.lookupAll('.check-box') as List
            boxes.find { it.text == 'the same, 同 ü (ID 2)' }.fire()
            boxes.find { it.text == 'image 3' }.fire()
            pane.lookupButton(javafx.scene.control.ButtonType.OK).fire()
        }"""
    )
    assert desk.run("fx { node('choose-images').text }") == "Choose… (2)"
    assert "/patches/chosen_" in desk.run("fx { node('out').text }")
    desk.run("fx { node('full-resolution').selected = true }; true")
    out = export(desk)
    desk.shot("several-images")
    assert [slide["entry_id"] for slide in record(out)["slides"]] == ["2", UNSCALED]
    names = {row["entry_id"] for row in qb.Run.load(out).table().to_pylist()}
    assert names == {"2", UNSCALED}
    assert len(list(out.rglob("*.png"))) == 2 * 16


def test_all_images_are_exported_at_full_resolution_of_the_open_one(odd, desk):
    """An image without annotations has no patches, and that is said of it."""
    odd("1")
    open_export(desk, size=100)
    desk.run(
        """
        fx { node('full-resolution').selected = true }
        fx { node('images').value = node('images').items[2] }
        true"""
    )
    out = export(desk)
    assert sorted(slide["entry_id"] for slide in record(out)["slides"]) == ["1", "2", "3", "4"]
    found = {row["entry_id"] for row in qb.Run.load(out).table().to_pylist()}
    assert found == {"1", "2", UNSCALED}


def test_an_image_without_a_pixel_size_is_exported_in_pixels(odd, desk):
    odd(UNSCALED)
    desk.run(
        """
        fx { item('export').fire() }
        until(60) { node('total')?.text?.contains('patches') }
        fx { node('size').text = '100' }
        until(60) { node('total').text == '16 patches' }"""
    )
    desk.shot("no-pixel-size")
    assert desk.run("fx { node('full-resolution').selected && node('mpp').disable }")
    assert "µm" not in desk.run("fx { node('notes').text }")
    out = export(desk)
    assert record(out)["config"]["mpp"] is None
    assert len(list(out.rglob("*.png"))) == 16
    desk.run(
        """
        fx { node('full-resolution').selected = false }
        until(30) { !node('total').text.contains('patches') }"""
    )
    desk.shot("no-pixel-size-refused")
    said = desk.run("fx { node('total').text + ' ' + node('notes').text }")
    assert "pixel" in said


def test_an_image_without_annotations_says_that_it_has_none(odd, desk):
    odd(EMPTY)
    desk.run(
        """
        fx { item('export').fire() }
        until(60) { node('total')?.text == '0 patches' }"""
    )
    desk.shot("no-annotations")
    assert "annotation" in desk.run("fx { node('notes').text }")


def test_annotations_of_the_screen_are_exported_without_saving_them(desk, project):
    before = (project / "data" / "1" / "data.qpdata").read_bytes()
    open_export(desk)
    saved = drawn(desk)
    try:
        desk.run(
            """
            def hierarchy = gui().imageData.hierarchy, total = fx { node('total').text }
            def live = hierarchy.annotationObjects.findAll { it.pathClass?.toString() == 'Keratin' }
            fx { hierarchy.removeObjects(live, true) }
            until(60) { node('total').opacity == 1 && node('total').text != total }
            fx { node('export').fire() }
            until(30) { titles().contains('Patch bridge') }"""
        )
        boxes = drawn(desk)
        folder = desk.run(
            """
            def folder = fx { node('out').text }
            def pane = fx { stage('Patch bridge').scene.root }
            fx { pane.lookupButton(pane.buttonTypes[1]).fire() }
            until(120) { node('show').visible }
            folder"""
        )
        assert desk.run("gui().imageData.changed")
    finally:
        open_project(desk, project / "project.qpproj", "1")  # what is saved is there again
    out = Path(folder)
    assert len(list(out.rglob("*.png"))) == len(boxes)
    keratin = [sum(label == "Keratin" for *_, label in each) for each in (saved, boxes)]
    assert keratin[0] > 10
    assert keratin[1] < 3  # what a person called so in a review
    assert {slide["annotations_origin"] for slide in record(out)["slides"]} == {"live"}
    assert (project / "data" / "1" / "data.qpdata").read_bytes() == before


def test_the_answer_of_the_tissue_test_follows(desk, project):
    open_export(desk)
    without = drawn(desk)
    first = desk.run(
        """
        texts = Collections.synchronizedList([])
        fx { node('total').textProperty().addListener({ p, o, n -> texts << n }
            as javafx.beans.value.ChangeListener) }
        fx { node('tissue').value = 'otsu' }
        def follows = { it.contains('follows') }
        until(60) { texts.any(follows) && !follows(node('total').text) }
        [texts, fx { node('tissue').converter.toString('otsu') }]"""
    )
    desk.shot("tissue")
    config = qb.ExportConfig(size=128, mpp=0.5, tissue="otsu")
    expected = planned(project, config)
    assert len(expected) < len(without)
    texts, words = first
    assert texts[0] == f"{len(without)} patches (tissue test follows)"
    assert drawn(desk) == expected
    assert desk.run("fx { node('total').text }") == f"{len(expected)} patches"
    assert words != "otsu"


def test_a_folder_without_a_path_goes_into_the_project(desk, project):
    open_export(desk)
    note = desk.run("fx { node('out').text = ' Übersicht, 组织 1 '; node('out-note').text }")
    desk.shot("relative-folder")
    place = project / "Übersicht, 组织 1"
    assert note == f"in the folder of the project: {place}"
    assert desk.run("fx { node('out-note').visible }")
    export(desk)
    assert len(list(place.rglob("*.png"))) > 100
    said = desk.run(
        """
        fx { node('out').text = ' '; node('export').fire() }
        fx { [node('outcome').text, node('out-note').text] }"""
    )
    assert said == ["Type the name of a folder for the patches."] * 2


def test_a_folder_that_cannot_be_written_is_named(desk, tmp_path):
    (tmp_path / "a file").touch()
    open_export(desk)
    place = json.dumps(str(tmp_path / "a file" / "patches"))
    texts = desk.run(
        f"""
        fx {{ node('out').text = {place}; node('export').fire() }}
        until(60) {{ titles().contains('Patch bridge') }}
        fx {{ stage('Patch bridge').scene.root.content.children*.text }}"""
    )
    desk.shot("unwritable")
    assert str(tmp_path / "a file" / "patches") in texts[0]
    assert "lock.json" not in texts[0]
    assert "another folder" in texts[1]


def test_scripts_are_opened_as_new_ones(desk):
    found = desk.run(
        """
        def menu = fx { items().find { it.text == 'Open scripts' } }
        fx { menu.items[1].fire() }
        until(20) { titles().contains('Script Editor') && gui().scriptEditor.currentText }
        def text = fx { gui().scriptEditor.currentText }
        [fx { menu.items*.text }, text]"""
    )
    desk.shot("scripts")
    root = Path(__file__).parents[2]
    script = (root / "groovy_scripts" / "export_patches.groovy").read_text(encoding="utf-8")
    assert found[0] == [
        "Check the set-up", "Export patches", "Show patches", "Remove patches",
        "Collect corrections",
    ]  # fmt: skip
    assert found[1] == script
