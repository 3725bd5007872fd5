"""Channels in a real QuPath: it reads again what is kept of it, and opens what we write."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import qupath_bridge as qb
from qupath_bridge.model import Plane
from tests.support.channel_images import Image, counts, words_of, write_imagej
from tests.support.channel_truth import FOLDER, VERSIONS, facts, pixels, read_values, unpacked
from tests.support.qupath_scripts import IMPORT

pytestmark = [pytest.mark.qupath, pytest.mark.slow, pytest.mark.timeout(900)]

MAKE = Path(__file__).parents[1] / "qupath" / "channels.groovy"
LIVE = ("ij-u16-c2-z3-t2.tif", "own stains")
LIVE_WITH_CONVERSIONS = ("channels as words", "to int16")  # QuPath 0.5 has none
LIVE_WITH_BIO_FORMATS = ("u16-c7-z3.ome.tif", "fluorescence.qptiff", "u16-rgb.ome.tif")
MARKERS = ("DAPI", "CD3", "CD8", "PanCK", "CD20", "Ki67", "FoxP3")

DRAW = """
import qupath.lib.objects.PathObjects
import qupath.lib.objects.classes.PathClass
import qupath.lib.regions.ImagePlane
import qupath.lib.roi.ROIs
import static qupath.lib.gui.scripting.QPEx.*
def server = getCurrentServer()
def names = server.getMetadata().getChannels()*.getName()
println "IMAGE ${server.getPixelType()} ${server.nZSlices()} ${names}"
setChannelNames(*args)
def roi = ROIs.createRectangleROI(0, 0, 64, 32, ImagePlane.getPlane(1, 0))
addObject(PathObjects.createAnnotationObject(roi, PathClass.fromString('Tumor')))
"""

SHOWN = """
def shown = getCurrentServer().getMetadata().getChannels().collect { [it.getName(), it.getColor()] }
println 'SHOWN ' + new com.google.gson.Gson().toJson(shown)
"""

OPEN = """
import com.google.gson.Gson
import qupath.lib.images.servers.ImageServers
import qupath.lib.regions.RegionRequest
def facts = new File(args[0]).listFiles().findAll { it.name.contains('.tif') }.collect { file ->
    def server = ImageServers.buildServer(file.toURI())
    def size = [server.getWidth(), server.getHeight()]
    def all = RegionRequest.createInstance(server.getPath(), 1.0, 0, 0, *size)
    def raster = server.readRegion(all).getRaster()
    [name: file.name, type: server.getPixelType().toString(),
     channels: server.getMetadata().getChannels()*.getName(),
     colors: server.getMetadata().getChannels()*.getColor(),
     mpp: server.getPixelCalibration().getAveragedPixelSizeMicrons(), size: size,
     bands: (0..<server.nChannels()).collect { raster.getSamples(0, 0, *size, it, (int[]) null) }]
}
println 'FACTS ' + new Gson().toJson(facts)
"""


@pytest.fixture
def bio_formats(installation):
    """Whether this QuPath has its extension for Bio-Formats."""
    return any("extension-bioformats" in jar.name for jar in installation.jars.iterdir())


@pytest.fixture
def is_old(installation):
    """Whether it is QuPath 0.5: it converts no types, and a script's channel names are not kept."""
    return installation.version.startswith("0.5")


def test_qupath_reads_what_is_kept_of_it(tmp_path, qupath, bio_formats, is_old):
    wanted = LIVE + (LIVE_WITH_BIO_FORMATS if bio_formats else ())
    wanted += () if is_old else LIVE_WITH_CONVERSIONS
    shutil.copytree(FOLDER / "images", tmp_path / "images")
    raw = tmp_path / "raw"
    qupath.script(MAKE, None, tmp_path, tmp_path / "project", raw, ",".join(wanted), image=None)
    made = json.loads((raw / "facts.json").read_text(encoding="utf-8"))
    assert {fact["name"] for fact in made} == set(wanted)
    for fact in made:
        kept = facts(VERSIONS[-1])[fact["name"]]
        for key in ("size", "planes", "type", "rgb", "channels", "pixel", "downsamples"):
            assert fact[key] == kept[key], (fact["name"], key)
        for reading, values in read_values(raw, fact).items():
            place, _, downsample = reading.partition("x")
            plane = tuple(map(int, place.split(",")))
            truth = pixels(VERSIONS[-1], fact["name"], plane, float(downsample))
            np.testing.assert_array_equal(values, truth, strict=True)
    with qb.open_project(tmp_path / "project", engine="embedded") as project:
        plans = qb.plan(project, qb.ExportConfig(size=32, format="npy"))
        assert plans.failures == ()
        assert {plan.slide.name for plan in plans} == set(wanted)


def test_qupath_opens_what_is_made_of_a_stack_of_channels(tmp_path, qupath, bio_formats, is_old):
    """A new project, tiles on their plane, and patches with their names, types and values."""
    stack = Image("seven.tif", words_of(counts(7, (3, 1), (96, 80))), write_imagej)
    stack.save(tmp_path)
    made = qb.create_project(tmp_path / "study", tmp_path / "seven.tif", classes=["Tumor"])
    draw = qupath.written("draw", DRAW)
    printed = qupath.script(draw, made.path, *MARKERS, image="seven.tif", save=True)
    names = ", ".join(f"Channel {number}" for number in range(1, 8))
    assert f"IMAGE UINT16 3 [{names}]" in printed
    printed = qupath.script(qupath.written("shown", SHOWN), made.path, image="seven.tif")
    (line,) = (text[6:] for text in printed.splitlines() if text.startswith("SHOWN "))
    shown, colors = zip(*json.loads(line), strict=True)
    assert is_old or shown == MARKERS

    config = qb.ExportConfig(size=16, plane=[(1, 0)], format="tiff")
    run = qb.export(made.path, tmp_path / "tiff", config)
    ome = qb.export(
        made.path, tmp_path / "ome", config.replace(format="ome-tiff"), provenance=False
    )
    assert run.written == ome.written == 8
    qupath.script(IMPORT, made.path, image="seven.tif", save=True)
    with qb.open_project(made.path, engine="embedded") as project:
        read = project["seven.tif"].read(detections=True).objects
        recorded = list(project["seven.tif"].channel_colors)
    assert recorded == ([] if is_old else [unpacked(color) for color in colors])
    tiles = [each for each in read if each.object_type == "tile"]
    assert {tile.roi.plane for tile in tiles} == {Plane(1, 0)}
    assert {tile.id for tile in tiles} == {row["tile_uuid"] for row in run.table().to_pylist()}

    opener = qupath.written("open", OPEN)
    for each in (run, ome) if bio_formats else (run,):
        rows = {Path(row["path"]).name: row for row in each.table().to_pylist()}
        folder = (each.out / next(iter(rows.values()))["path"]).parent
        printed = qupath.script(opener, None, folder, image=None)
        (line,) = (text[6:] for text in printed.splitlines() if text.startswith("FACTS "))
        opened = json.loads(line)
        assert len(opened) == len(rows)
        for patch in opened:
            row = rows[patch["name"]]
            assert (patch["type"], tuple(patch["channels"])) == ("UINT16", shown)
            assert is_old or patch["colors"] == list(colors)  # its default colours are others
            assert patch["mpp"] == pytest.approx(0.5)
            x, y = row["x_qupath"], row["y_qupath"]
            values = np.moveaxis(np.array(patch["bands"]).reshape(7, 16, 16), 0, -1)
            truth = stack.pixels[0, 1, y : y + 16, x : x + 16]
            np.testing.assert_array_equal(values, truth)
