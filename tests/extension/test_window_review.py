"""Review and removal of patches in QuPath's real window, with the keys of a real keyboard."""

from collections import Counter

import pyarrow as pa
import pytest

import qupath_bridge as qb
from tests.support.bridge_window import classes, export, open_export, show_tiles

pytestmark = [pytest.mark.qupath, pytest.mark.xdist_group("qupath window")]

CLICK = """
    robot = fx { new javafx.scene.robot.Robot() }
    def box = fx { gui().viewer.view.localToScreen(gui().viewer.view.boundsInLocal) }
    fx { robot.mouseMove(box.minX + box.width * 0.8, box.minY + box.height * 0.6) }
    fx { robot.mouseClick(javafx.scene.input.MouseButton.PRIMARY) }
    until(10) { gui().stage.focused && gui().stage.scene.focusOwner == gui().viewer.view }
    def type = { KeyCode... codes ->
        fx { codes.each { robot.keyPress(it) }; codes.reverse().each { robot.keyRelease(it) } } }
    def counter = { text -> until(10) { node('counter').text.endsWith(text) } }
"""
"""Groovy: the window of QuPath gets the focus, as by a click on the tissue."""


@pytest.fixture
def review(exported, desk):
    """The window with a review of patches, and the focus in the image."""
    show_tiles(desk)
    desk.run(
        """
        fx { item('review').fire() }
        until(10) { node('counter')?.text?.startsWith('Patch 1 of') }
        true"""
    )
    return desk


def test_keys_work_over_the_image(review):
    before = Counter(classes(review))
    titles = review.run(
        f"""
        {CLICK}
        first = fx {{ gui().viewer.selectedObject.pathClass.toString() }}
        type(KeyCode.DIGIT3); counter(', 1 reviewed')
        second = fx {{ gui().viewer.selectedObject.pathClass.toString() }}
        type(KeyCode.DELETE); counter(', 2 reviewed')
        third = fx {{ gui().viewer.selectedObject.pathClass.toString() }}
        type(KeyCode.ENTER); counter(', 3 reviewed')
        Thread.sleep(300)  // a question of QuPath would be there by now
        [first, second, third, fx {{ titles() }}]"""
    )
    review.shot("review-over-image")
    *labels, shown = titles
    assert [title for title in shown if not title.startswith("QuPath")] == ["Review patches"]
    expected = Counter(before)
    expected.subtract([(label, False) for label in labels])
    expected.update([("Keratin", True), ("Ignore*", True), (labels[2], True)])
    assert classes(review) == +expected
    # Both are undone in the order in which they were said.
    review.run(
        f"""
        {CLICK}
        type(KeyCode.CONTROL, KeyCode.Z); counter(', 2 reviewed')
        type(KeyCode.CONTROL, KeyCode.Z); counter(', 1 reviewed')
        true"""
    )
    expected.update([(labels[1], False), (labels[2], False)])
    expected.subtract([("Ignore*", True), (labels[2], True)])
    assert classes(review) == +expected


def test_keys_are_qupaths_again_where_they_should_be(review):
    """While an annotation is selected, and after the panel is closed."""
    tiles = sum(classes(review).values())
    named = review.run(
        f"""
        {CLICK}
        def hierarchy = gui().imageData.hierarchy
        def extra = qupath.lib.objects.PathObjects.createAnnotationObject(
            qupath.lib.roi.ROIs.createRectangleROI(10, 10, 20, 20,
                qupath.lib.regions.ImagePlane.defaultPlane))
        fx {{ hierarchy.addObject(extra); gui().viewer.setSelectedObject(extra) }}
        type(KeyCode.DIGIT2)
        type(KeyCode.DELETE)
        until(10) {{ !hierarchy.annotationObjects.contains(extra) }}
        fx {{ node('counter').text }}"""
    )
    assert named.endswith(", 0 reviewed")
    assert sum(classes(review).values()) == tiles
    review.run(
        f"""
        def tile = gui().imageData.hierarchy.tileObjects.find {{ it.pathClass }}
        def name = tile.pathClass.toString()
        fx {{ stage('Review patches').close(); gui().viewer.setSelectedObject(tile) }}
        {CLICK.replace("def counter", "counter")}
        type(KeyCode.DIGIT3); type(KeyCode.DIGIT2); type(KeyCode.DIGIT1)  // channels, in QuPath
        Thread.sleep(300)
        assert tile.pathClass.toString() == name
        true"""
    )
    assert not any(mark for _, mark in classes(review))


def test_a_patch_that_is_selected_in_the_image_is_the_one_that_the_panel_means(review):
    said = review.run(
        """
        def tiles = gui().imageData.hierarchy.tileObjects.sort(false) { a, b ->
            a.ROI.boundsY <=> b.ROI.boundsY ?: a.ROI.boundsX <=> b.ROI.boundsX }
        fx { gui().viewer.setSelectedObject(tiles[40]) }
        def first = fx { [node('counter').text, node('current').text] }
        fx { press('Review patches', KeyCode.DELETE) }
        [first, tiles[40].pathClass.toString(), fx { node('counter').text }]"""
    )
    (counter, current), after, then = said
    assert counter.startswith("Patch 41 of ")
    assert current != "Ignore*"
    assert after == "Ignore*"
    assert then.startswith("Patch 42 of ")


def test_what_is_not_reviewed_yet_comes_by_itself(review):
    numbers = review.run(
        """
        fx { press('Review patches', KeyCode.ENTER); press('Review patches', KeyCode.ENTER) }
        fx { node('order').value = node('order').items.find {
            node('order').converter.toString(it) == 'Not reviewed yet' } }
        until(10) { node('counter').text.startsWith('Patch 1 of') }
        [gui().imageData.hierarchy.tileObjects.size(), fx { node('counter').text }]"""
    )
    assert numbers[1] == f"Patch 1 of {numbers[0] - 2}, 0 reviewed"


def test_the_hard_patches_of_a_model_come_first(exported, desk):
    """The panel walks through those that the predictions numbered, in their order."""
    rows = qb.read_index(exported).to_pylist()
    sure = {row["patch_id"]: 0.9 for row in rows}
    hard = [row["tile_uuid"] for row in rows[5:8]]
    sure.update(zip((row["patch_id"] for row in rows[5:8]), (0.51, 0.6, 0.7), strict=True))
    table = pa.table({"patch_id": [*sure], "Epithelium": [*sure.values()]})
    found = qb.predictions(exported, table, "cnn", hard=3)
    assert [each.name for each in found.measurements][-1] == "qb pred cnn: hard"
    show_tiles(desk)
    walked = desk.run(
        """
        fx { item('review').fire() }
        until(10) { node('counter')?.text?.startsWith('Patch 1 of') }
        fx { node('order').value = node('order').items.find {
            node('order').converter.toString(it) == 'Hard ones of cnn first' } }
        until(10) { node('counter').text == 'Patch 1 of 3, 0 reviewed' }
        def seen = []
        3.times {
            seen << fx { gui().viewer.selectedObject.ID.toString() }
            fx { press('Review patches', KeyCode.ENTER) }
        }
        until(10) { node('counter').text.endsWith(', 3 reviewed') }
        seen"""
    )
    desk.shot("review-hard")
    assert walked == hard


def test_only_runs_that_the_image_shows_can_be_removed(exported, desk):
    open_export(desk, size=64)
    export(desk)
    desk.run("fx { close() }; true")
    both = desk.run(
        """
        fx { item('show').fire() }
        until(60) { node('run-action') != null && !node('run-action').disable }
        def runs = fx { node('runs').items.take(2).collect { [it.id(), it.settings()] } }
        fx { node('runs').selectionModel.select(1); node('run-action').fire() }
        until(60) { gui().imageData.hierarchy.tileObjects }
        until(60) { node('outcome').text != 'Working…' }
        def said = fx { node('outcome').text }
        fx { close() }
        [runs, said]"""
    )
    (newer, older), said = both
    assert (newer[1], older[1]) == ("64 px, 0.5 µm/px", "128 px, 0.5 µm/px")
    assert "the run of 2" in said and older[0] not in said
    listed = desk.run(
        """
        fx { item('remove').fire() }
        until(60) { node('run-action') != null && !node('run-action').disable }
        fx { node('runs').items.collect { [it.id(), it.counts()] } }"""
    )
    desk.shot("remove")
    says_run = desk.run("gui().imageData.hierarchy.tileObjects.every { it.metadata['qb.run'] }")
    counts = Counter(name for name, _ in classes(desk).elements())
    words = ", ".join(f"{counts[name]} {name}" for name in sorted(counts))
    if says_run:
        assert listed == [[older[0], words]]
    else:  # QuPath 0.5
        assert older[0] in dict(listed)
    placeholder = desk.run(
        f"""
        fx {{ node('runs').selectionModel.select(node('runs').items.find {{
            it.id() == '{older[0]}' }}) }}
        fx {{ node('run-action').fire() }}
        until(60) {{ !gui().imageData.hierarchy.tileObjects }}
        until(60) {{ node('runs').items.isEmpty() }}
        fx {{ node('runs').placeholder.text }}"""
    )
    assert placeholder == "This image shows no patches."


def test_a_window_that_is_open_comes_to_the_front(desk):
    desk.run("fx { item('export').fire(); item('show').fire(); item('export').fire() }; true")
    places = desk.run(
        """
        fx { stages().findAll { it != gui().stage }.collect { [it.title, it.x, it.y] } }"""
    )
    assert [title for title, *_ in places] == ["Export patches", "Show patches of a run"]
    assert len({y for _, _, y in places}) == 2
