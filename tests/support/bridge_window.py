"""What tests do in the windows of the extension."""

import json
from collections import Counter
from pathlib import Path

import qupath_bridge as qb

__all__ = [
    "EMPTY",
    "TWINS",
    "UNSCALED",
    "classes",
    "clear",
    "drawn",
    "export",
    "labels_in_order",
    "open_export",
    "open_project",
    "planned",
    "show_tiles",
]

TWINS, UNSCALED, EMPTY = ("1", "2"), "3", "4"
"""Images of the odd project: of one name, without a pixel size, without annotations."""


def clear(window):
    window.run(
        """
        fx { close() }
        def hierarchy = gui().imageData.hierarchy
        fx { hierarchy.removeObjects(hierarchy.tileObjects, true) }
        true"""
    )


def open_export(window, size=128):
    window.run(
        f"""
        fx {{ item('export').fire() }}
        until(60) {{ node('total')?.text?.contains('patches') }}
        fx {{ node('size').text = '{size}' }}
        until(60) {{ node('total').opacity < 1 }}
        until(60) {{ node('total').opacity == 1 }}"""
    )


def export(window):
    """Press Export, wait for the end, and return the folder of the patches."""
    folder = window.run(
        """
        def folder = fx { node('out').text }
        fx { node('export').fire() }
        until(120) { node('show').visible }
        folder"""
    )
    return Path(folder)


def show_tiles(window):
    window.run(
        """
        fx { item('show').fire() }
        until(60) { node('run-action') != null && !node('run-action').disable }
        fx { node('run-action').fire() }
        until(60) { gui().imageData.hierarchy.tileObjects }
        fx { close() }
        true"""
    )


def drawn(window):
    """Return the boxes of the preview, as Python's plan has them, with their labels."""
    boxes = window.run(
        """
        def overlay = gui().viewer.customOverlayLayers.find {
            it.class.simpleName == 'PatchOverlay' }
        def field = overlay.class.getDeclaredField('boxes'); field.accessible = true
        def boxes = field.get(overlay), found = []
        def add = { x, y, w, h, label -> found << [x, y, w, h, boxes.labels()[label]] }
        boxes.visit(0, 0, 1e6, 1e6, add.asType(Class.forName(
            'qupath.ext.patchbridge.export.PatchBoxes$Visitor', true, overlay.class.classLoader)))
        found"""
    )
    return sorted((*map(int, box), label) for *box, label in boxes)


def planned(project, config):
    """Return what the library plans: boxes with their labels."""
    with qb.open_project(project / "project.qpproj", engine="embedded") as opened:
        plan = qb.plan(opened.slides[0], config)
    table = plan.table
    return sorted(
        (*map(int, table.boxes[row]), table.labels_of(row)[0]) for row in range(len(table))
    )


def classes(window):
    """Return the number of tiles by class and mark."""
    found = window.run(
        """
        gui().imageData.hierarchy.tileObjects.collect {
            [it.pathClass.toString(), it.measurementList.get('qb: reviewed') == 1] }"""
    )
    return Counter((name, mark) for name, mark in found)


def labels_in_order(window, before):
    """Return the rule's labels of the first three patches, as one reads."""
    return window.run(
        """
        def tiles = gui().imageData.hierarchy.tileObjects.sort(false) { a, b ->
            a.ROI.boundsY <=> b.ROI.boundsY ?: a.ROI.boundsX <=> b.ROI.boundsX }
        tiles.take(3).collect { tile ->
            tile.measurements.findAll { it.key.startsWith('qb: ') && !(it.key in
                ['qb: label share', 'qb: margin', 'qb: reviewed']) }
                .max { it.value }.key.substring(4) }"""
    )


def open_project(window, file, entry):
    """Open a project, and the image of it with an entry ID; what is not saved is dropped."""
    window.run(
        f"""
        qupath.lib.gui.prefs.PathPrefs.imageTypeSettingProperty().set(
            qupath.lib.gui.prefs.PathPrefs.ImageTypeSetting.NONE)
        def file = new File({json.dumps(str(file), ensure_ascii=False)})
        fx {{
            close()
            gui().imageData?.changed = false
            gui().viewer.setImageData(null)  // QuPath does not open again what is open
            def same = gui().project?.path == file.toPath()
            if (!same)
                gui().project = qupath.lib.projects.ProjectIO.loadProject(
                    file, java.awt.image.BufferedImage)
            gui().openImageEntry(gui().project.imageList.find {{ it.ID == '{entry}' }})
        }}
        until(60) {{ gui().project.getEntry(gui().imageData)?.ID == '{entry}' }}"""
    )
