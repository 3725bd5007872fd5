"""Projects that we make over plain slides, opened, changed and saved by QuPath itself."""

import json
import shutil

import pytest

import qupath_bridge as qb
from qupath_bridge.cli import main
from qupath_bridge.model import Box
from qupath_bridge.qupath.geojson import read_tiles
from tests.support import channel_truth
from tests.support.qupath_scripts import IMPORT

from .test_new_projects import DATA

pytestmark = [pytest.mark.qupath, pytest.mark.slow]

LOOK = """
import qupath.lib.images.servers.ImageServerBuilder
import qupath.lib.images.servers.ImageServers
import qupath.lib.io.GsonTools
def gson = GsonTools.getInstance(false)
def type = ImageServerBuilder.ServerBuilder
for (entry in getProject().getImageList()) {
    def data = entry.readImageData()
    def server = data.getServer()
    def stored = entry.getServerBuilder()
    def fresh = ImageServers.getImageSupport(stored.getURIs()[0]).getBuilders()[0].build()
    println 'ENTRY ' + gson.toJson([
        id: entry.getID(), name: entry.getImageName(), metadata: entry.getMetadataMap(),
        size: [server.getWidth(), server.getHeight()],
        same: gson.toJson(server.getBuilder(), type) == gson.toJson(fresh.getBuilder(), type),
        mpp: server.getPixelCalibration().getAveragedPixelSizeMicrons(),
        pixel: server.readRegion(1.0, 3, 5, 1, 1).getRGB(0, 0) & 0xFFFFFF])
    entry.saveImageData(data)
}
getProject().syncChanges()
"""

CORRECT = """
import qupath.lib.objects.classes.PathClass
import static qupath.lib.gui.scripting.QPEx.*
def tile = getCurrentHierarchy().getTileObjects().find { it.getID().toString() == args[0] }
tile.setPathClass(PathClass.fromString(args[1]))
fireHierarchyUpdate()
println 'changed ' + getCurrentHierarchy().getTileObjects().size()
"""
NAMES = (
    "openslide-python_boxes.tiff", "openslide-python_small.svs", "tcga-cr-7395-01a-01-ts1.svs",
)  # fmt: skip


@pytest.fixture
def slides(tmp_path):
    """Real slides in a folder of their own, and a table of them."""
    (tmp_path / "slides").mkdir()
    for name in NAMES:
        shutil.copy(DATA / "slides" / name, tmp_path / "slides" / name)
    lines = [f"slides/{name},{number:03}" for number, name in enumerate(NAMES)]
    (tmp_path / "table.csv").write_text("\n".join(["path,patient", *lines]))
    return tmp_path


def test_new_project_opens_in_qupath_as_its_own_import(slides, qupath):
    made = qb.create_project(slides / "study", slides / "table.csv", classes=["Tumor", "Fat"])
    plain = {slide.name: slide for slide in qb.open_project(slides / "slides")}
    before = json.loads(made.path.read_bytes())
    script = qupath.written("look", LOOK)
    printed = qupath.script(script, made.path, image=NAMES[0])
    lines = [line[6:] for line in printed.splitlines() if line.startswith("ENTRY ")]
    entries = [json.loads(line) for line in lines]
    assert [entry["name"] for entry in entries] == list(NAMES)
    for number, entry in enumerate(entries):
        assert entry["same"], entry["name"]
        assert entry["id"] == plain[entry["name"]].entry_id
        assert entry["metadata"] == {"patient": f"{number:03}"}
        with qb.open_reader(plain[entry["name"]].path) as reader:
            assert entry["size"] == list(reader.size)
            pixel = reader.read(Box(3, 5, 1, 1), (1, 1))[0][0, 0]
            assert entry["pixel"] == int.from_bytes(bytes(pixel.tolist()), "big")
    after = json.loads(made.path.read_bytes())
    assert [image["serverBuilder"] for image in after["images"]] == [
        image["serverBuilder"] for image in before["images"]
    ]
    assert after["lastID"] == before["lastID"]
    with qb.open_project(made.path, engine="embedded") as project:
        assert project.problems == ()
        assert [slide.read().problems for slide in project] == [()] * len(NAMES)


def test_patches_of_plain_slides_are_corrected_in_qupath(slides, qupath):
    out, folder = slides / "out", slides / "study"
    words = ["--size", "512", "--out", str(out), "--label-from", "metadata:patient"]
    source = [str(slides / "table.csv"), "--entry", "tcga*", "--create-project", str(folder)]
    assert main(["export", *source, *words]) == 0
    project = folder / "project.qpproj"
    run = qb.Run.load(out)
    (slide,) = run
    tiles = list(
        read_tiles(folder / "qupath_bridge/runs" / run.run_id / f"{slide['entry_id']}.geojson.gz")
    )
    assert len(tiles) == run.written > 10
    qupath.script(IMPORT, project, image="tcga-cr-7395-01a-01-ts1.svs", save=True)
    correct = qupath.written("correct", CORRECT)
    printed = qupath.script(
        correct, project, tiles[4].id, "000", image="tcga-cr-7395-01a-01-ts1.svs", save=True
    )
    assert f"changed {len(tiles)}" in printed
    assert main(["export", str(project), *words, "--update"]) == 0
    rows = qb.Run.load(out).table().to_pylist()
    assert [
        (row["tile_uuid"], row["label"], row["rule_label"])
        for row in rows
        if row["label_source"] == "corrected"
    ] == [(tiles[4].id, "000", "002")]


CHANNELS = """
import qupath.lib.io.GsonTools
for (entry in getProject().getImageList()) {
    def server = entry.readImageData().getServer()
    println 'ENTRY ' + GsonTools.getInstance(false).toJson([
        name: entry.getImageName(), size: [server.getWidth(), server.getHeight()],
        planes: [server.nZSlices(), server.nTimepoints()], type: server.getPixelType().toString(),
        channels: server.getMetadata().getChannels().collect { [it.getName(), it.getColor()] }])
}
"""
IMAGES = ("ij-u16-c2-z3-t2.tif", "ij-f32-c3.tif", "ij-u8-c3.tif", "ij-u8-c1.tif", "ij-rgb.tif")


def test_new_project_of_channels_has_those_that_qupath_finds_in_the_files(tmp_path, qupath):
    """As it does in a project of its own: names, colours, types and planes."""
    (tmp_path / "slides").mkdir()
    for name in IMAGES:
        shutil.copy(channel_truth.FOLDER / "images" / name, tmp_path / "slides" / name)
    made = qb.create_project(tmp_path / "study", tmp_path / "slides")
    printed = qupath.script(qupath.written("channels", CHANNELS), made.path, image=IMAGES[0])
    lines = [line[6:] for line in printed.splitlines() if line.startswith("ENTRY ")]
    known = channel_truth.facts("0.7.0")
    found = {entry["name"]: entry for entry in map(json.loads, lines)}
    assert found == {
        name: {key: known[name][key] for key in ("name", "size", "planes", "type", "channels")}
        for name in IMAGES
    }
    with qb.open_project(made.path, engine="embedded") as project:
        for plan in qb.plan(project.slides, qb.ExportConfig(size=32, format="tiff", labels=False)):
            fact = found[plan.slide.name]
            assert plan.channels == tuple(name for name, _ in fact["channels"])
            assert plan.dtype == fact["type"].lower()
