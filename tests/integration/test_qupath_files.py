"""What a real QuPath says of the projects and the GeoJSON that we write."""

import importlib.util
import json
import re
import shutil
import uuid
from pathlib import Path

import numpy as np
import pytest
import shapely

from qupath_bridge.model import Box, ObjectType, Plane
from qupath_bridge.qupath.geojson import Tile, dumps, feature_problems, load, tiles_geojson
from qupath_bridge.sources import open_project
from qupath_bridge.testing.contracts.source import REGIONS
from qupath_bridge.testing.projects import (
    Image,
    build_memory_project,
    build_project,
    cropped,
    flipped,
    rotated,
    tree_hashes,
)

pytestmark = pytest.mark.qupath

TESTS = Path(__file__).parents[1]

# Prints what PathIO makes of each file; an error for a file of which nothing comes in.
IMPORT = """
import com.google.gson.GsonBuilder
import qupath.lib.io.PathIO
Class.forName('qupath.lib.scripting.QP')  // sets up reading of JSON
def answer = args[1..-1].collectEntries { name ->
    try {
        [name, PathIO.readObjects(new File(name)).collect { o -> [
            id: o.getID().toString(), type: o.getClass().getSimpleName(), name: o.getName(),
            'class': o.getPathClass()?.toString(), color: o.getPathClass()?.getColor(),
            own: o.getColor(), locked: o.isLocked(), roi: o.getROI()?.getRoiName(),
            area: o.getROI()?.getArea(), z: o.getROI()?.getZ(), t: o.getROI()?.getT(),
            nucleus: o.isCell() ? o.getNucleusROI()?.getArea() : null,
            measurements: o.getMeasurementList().getMeasurementNames().collectEntries {
                [it, o.getMeasurementList().get(it).toString()] },
            metadata: new TreeMap(o.getUnmodifiableMetadataMap()),
        ] }]
    } catch (Throwable error) { [name, error.toString()] }
}
new File(args[0]).setText(new GsonBuilder().serializeNulls().create().toJson(answer), 'UTF-8')
"""

# Opens a project, puts its slides in place as QuPath's window does, and says what is there.
OPEN = """
import com.google.gson.GsonBuilder
import java.awt.image.BufferedImage
import java.nio.file.Paths
import qupath.lib.io.UriUpdater
import qupath.lib.projects.ProjectIO
Class.forName('qupath.lib.scripting.QP')
def project = ProjectIO.loadProject(new File(args[1]), BufferedImage)
def updater = UriUpdater.create(project.getImageList())
def missing = updater.countMissing()
def folder = { uri -> Paths.get(uri).getParent() }
updater.relative(folder(project.getPreviousURI()), folder(project.getURI()))
if (missing) updater.applyReplacements()
def images = project.getImageList().collect { entry ->
    def server = entry.getServerBuilder().build()
    def objects = entry.hasImageData() ? entry.readHierarchy().getAllObjects(false) : []
    def calibration = server.getPixelCalibration()
    def shown = [
        id: entry.getID(), name: entry.getImageName(), description: entry.getDescription(),
        metadata: new TreeMap(entry.getMetadata()), tags: entry.getTags() as List,
        width: server.getWidth(), height: server.getHeight(),
        calibrated: calibration.hasPixelSizeMicrons(),
        pixels: [calibration.getPixelWidth(), calibration.getPixelHeight()]*.doubleValue(),
        type: entry.hasImageData() ? entry.readImageData().getImageType().name() : null,
        objects: objects.collect { o -> [
            id: o.getID().toString(), type: o.getClass().getSimpleName(), name: o.getName(),
            'class': o.getPathClass()?.toString(), locked: o.isLocked(),
            roi: o.getROI().getRoiName(),
            area: o.getROI().getGeometry().getArea(), z: o.getROI().getZ(), t: o.getROI().getT(),
            parent: o.getParent().isRootObject() ? null : o.getParent().getID().toString(),
        ] }]
    server.close()
    shown
}
new File(args[0]).setText(new GsonBuilder().serializeNulls().create().toJson([
    version: project.getVersion(), missing: missing, images: images,
    metadata: new TreeMap(project.getMetadata()),
    classes: project.getPathClasses().collect { [it.toString(), it.getColor()] }]), 'UTF-8')
"""

TYPES = {
    ObjectType.ANNOTATION: "PathAnnotationObject",
    ObjectType.DETECTION: "PathDetectionObject",
    ObjectType.CELL: "PathCellObject",
    ObjectType.TILE: "PathTileObject",
}


@pytest.fixture(scope="module")
def ask(tmp_path_factory, installation):
    """A function that runs a script in QuPath and returns its answer."""
    folder = tmp_path_factory.mktemp("scripts")

    def ask(script, *arguments):
        source, answer = folder / "script.groovy", folder / "answer.json"
        source.write_text(script, encoding="utf-8")
        installation.groovy(source, [answer, *arguments], timeout=200)
        return json.loads(answer.read_text(encoding="utf-8"))

    ask.version = installation.version
    return ask


def unit_test_module(name):
    spec = importlib.util.spec_from_file_location(name, TESTS / "qupath" / "geojson" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- GeoJSON --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def faults():
    """Each fault that the gate refuses: the feature, and whether QuPath refuses the file."""
    unit = unit_test_module("test_geojson")
    return {name: (unit.mutated(*row[:2]), row[3]) for name, row in unit.FAULTS.items()}


def test_what_the_gate_refuses_is_what_qupath_refuses(ask, faults, tmp_path):
    neighbour = {
        **unit_test_module("test_geojson").GOOD,
        "id": "00000000-0000-4000-8000-00000000000f",
    }
    paths = {}
    for number, (name, (feature, _)) in enumerate(faults.items()):
        paths[name] = tmp_path / f"{number}.geojson"
        collection = {"type": "FeatureCollection", "features": [neighbour, feature]}
        paths[name].write_text(json.dumps(collection), encoding="utf-8")
    answers = ask(IMPORT, *paths.values())
    got = {
        name: "refuses" if isinstance(answers[str(path)], str) else "imports"
        for name, path in paths.items()
    }
    assert got == {name: expected for name, (_, expected) in faults.items()}


def test_what_the_gate_lets_pass_comes_in_as_it_is(ask, tmp_path):
    objects = build_memory_project([Image("a", REGIONS, size=(2000, 1000))]).slides[0].read(
        detections=True
    ).objects  # fmt: skip
    path = tmp_path / "objects.geojson"
    path.write_text(dumps(objects), encoding="utf-8")
    (answer,) = ask(IMPORT, path).values()
    assert len(answer) == len(objects)
    for read, written in zip(answer, objects, strict=True):
        assert read["id"] == written.id
        assert read["type"] == TYPES[written.object_type]
        assert read["name"] == written.name
        assert read["class"] == written.class_path
        assert read["own"] == written.color
        assert read["locked"] == written.locked or written.object_type != "annotation"
        assert read["roi"] == written.roi.kind
        assert (read["z"], read["t"]) == written.roi.plane
        if written.roi.has_area and read["roi"] != "Ellipse":
            assert read["area"] == pytest.approx(written.roi.geometry.area, rel=1e-6)
        assert read["nucleus"] == (25 if written.nucleus else None)
        assert {k: float(v) for k, v in read["measurements"].items()} == written.measurements
        described = {"ANNOTATION_DESCRIPTION": written.description} if written.description else {}
        assert read["metadata"] == {**written.metadata, **described}


# Reads the objects of a file, one per line, and says which shape each has then.
SHAPES = """
import com.google.gson.GsonBuilder
import qupath.lib.io.GsonTools
import qupath.lib.objects.PathObject
Class.forName('qupath.lib.scripting.QP')
def answer = new File(args[1]).readLines('UTF-8').collect { line ->
    try {
        def roi = GsonTools.getInstance().fromJson(line, PathObject).getROI()
        [roi.isEmpty() ? 'EMPTY' : roi.getGeometry().toText(), roi.getZ(), roi.getT(), roi.getC()]
    } catch (Throwable error) { error.toString() }
}
new File(args[0]).setText(new GsonBuilder().create().toJson(answer), 'UTF-8')
"""


def narrow_shapes(count):
    """Shapes that are narrow somewhere, with coordinates on the grid of 0.01 px."""
    random = np.random.default_rng(7)
    for number in range(count):
        corner = random.choice([0, 3.37, 1000, 70_000.5, 200_000.37, 1_000_000.01])
        size = random.choice([0.03, 0.3, 3, 300])
        narrow = random.choice([0.0, 0.004, 0.008, 0.01, 0.02, 0.05])
        points = random.random((4, 2)) * size
        start, end = points[:2]
        across = np.array([end[1] - start[1], start[0] - end[0]])
        across *= narrow / (np.hypot(*across) or 1)
        kind = number % 6
        if kind == 0:  # a sliver
            rings = [[start, end, end + across, start + across, start]]
        elif kind == 1:  # a spike on a body
            rings = [[points[2], start, end, start + across, points[3], points[2]]]
        elif kind == 2:  # a vertex close to an edge
            rings = [[[0, 0], [size, 0], [size / 2, narrow], [size, size], [0, size], [0, 0]]]
        elif kind == 3:  # a hole close to the border, or very narrow itself
            box, low = [[0, 0], [size, 0], [size, size], [0, size], [0, 0]], narrow
            hole = [[size / 9, low], [size / 2, low], [size / 2, size / 2], [size / 9, low]]
            rings = [box, hole]
        elif kind == 4:  # a triangle of any form
            rings = [[*points[:3], points[0]]]
        else:
            yield {"type": "LineString", "coordinates": grid([start, start + across], corner)}
            continue
        yield {"type": "Polygon", "coordinates": [grid(ring, corner) for ring in rings]}


def grid(points, corner):
    return np.round(np.asarray(points) + corner, 2).tolist()


def test_narrow_shapes_that_the_gate_lets_pass_come_in_as_they_are(ask, tmp_path):
    features = [
        {
            "type": "Feature", "id": str(uuid.UUID(int=number + (4 << 76) + (8 << 60))),
            "geometry": shape, "properties": {"objectType": "annotation"},
        }
        for number, shape in enumerate(narrow_shapes(6000))
    ]  # fmt: skip
    passed = [feature for feature in features if not feature_problems(feature)]
    refused = [feature for feature in features if feature_problems(feature)]
    path = tmp_path / "features.jsonl"
    path.write_text("\n".join(map(json.dumps, passed + refused)), encoding="utf-8")
    answers = ask(SHAPES, path)
    assert len(answers) == len(features)

    def is_changed(feature, answer):
        if isinstance(answer, str) or answer[0] == "EMPTY":
            return True
        meant, read = shapely.geometry.shape(feature["geometry"]), shapely.from_wkt(answer[0])
        size, now = (shape.area if meant.area else shape.length for shape in (meant, read))
        return abs(now - size) > 0.01 * size

    changed = [is_changed(*pair) for pair in zip(passed, answers, strict=False)]
    assert [f for f, is_bad in zip(passed, changed, strict=True) if is_bad] == []
    # It is not strict for its own sake: most of what it refuses is lost or changed, or not valid.
    valid = [
        is_changed(feature, answer)
        for feature, answer in zip(refused, answers[len(passed) :], strict=True)
        if shapely.geometry.shape(feature["geometry"]).is_valid
    ]
    assert len(passed) > 1500
    assert sum(valid) > 0.5 * len(valid) > 100


def test_tiles_come_in_as_they_are(ask, tmp_path):
    tiles = [
        Tile(
            id=f"00000000-0000-8000-8000-{number:012x}",
            box=Box(256 * number - 512, 7, 256, 300),
            plane=Plane(number % 3, number % 2),
            name=f"1_ä 组_x{number}",
            class_path=[None, "Tumor", "Tumor: Positive", "Region*"][number % 4],
            color=[None, (200, 0, 0), (1, 2, 3), (4, 5, 6)][number % 4],
            measurements={"qb: label share": number / 7, "qb: Tumor": 0.5},
            metadata={"qb.run": "r", "qb.path": "patches/ä.png"},
        )
        for number in range(2000)
    ]
    path = tmp_path / "1.geojson.gz"
    path.write_bytes(tiles_geojson(tiles))
    (answer,) = ask(IMPORT, path).values()
    assert len(answer) == 2000
    own = load(path)
    for read, tile, back in zip(answer, tiles, own, strict=True):
        assert read["type"] == "PathTileObject"
        assert (read["id"], read["name"], read["class"]) == (tile.id, tile.name, tile.class_path)
        assert (back.id, back.name, back.class_path) == (tile.id, tile.name, tile.class_path)
        assert read["roi"] == back.roi.kind == "Rectangle"
        assert read["area"] == back.roi.geometry.area == 256 * 300
        assert (read["z"], read["t"]) == back.roi.plane == tile.plane
        assert read["metadata"] == back.metadata == tile.metadata
        assert back.measurements == tile.measurements
        shares = {key: float(value) for key, value in read["measurements"].items()}
        assert shares == pytest.approx(tile.measurements, rel=1e-6)  # QuPath has 32 bits
    # A colour in the file counts for a class that QuPath does not know yet.
    assert {
        r["class"]: r["color"] & 0xFFFFFF for r in answer if r["class"] == "Tumor: Positive"
    } == {"Tumor: Positive": 0x010203}


# --- projects -------------------------------------------------------------------------------


@pytest.fixture
def moved(tmp_path):
    """A project with a slide beside it, carried away from where it was written."""
    old = tmp_path / "old"
    (old / "deep").mkdir(parents=True)
    slide = old / "deep" / "A b [1] ä.tiff"
    shutil.copy(TESTS / "data" / "slides" / "openslide-python_boxes.tiff", slide)
    images = [
        Image(
            slide,
            REGIONS,
            pixel_size=(0.5, 0.25),
            metadata={"patient": "P1"},
            tags=["t"],
            description="line 1\nline 2",
            entry_id=4,
        ),
        Image(slide, [("Tumor", shapely.box(0, 0, 9, 9))], name="r", wrappers=[rotated(90)]),
        Image(slide, name="c", wrappers=[rotated(270), cropped(5, 6, 100, 90)], pixel_size=None),
        Image(slide, name="never saved", args=["--no-crop"], saved=False),
    ]

    def build(*more):
        build_project(
            slide.parent / "study",
            [*images, *(Image(slide, wrappers=wrappers) for wrappers in more)],
            metadata={"site": "ä"},
            stored_at="/example/deep/study",
        )
        return Path(shutil.move(old, tmp_path / "new place")) / "deep" / "study" / "project.qpproj"

    return build


def server_files(folder):
    """Each server.json but for the slide's folder, in one spelling."""
    return {
        path.relative_to(folder).as_posix(): re.sub(
            'file:[^"]*/', "", json.dumps(json.loads(path.read_text("utf-8")))
        )
        for path in folder.glob("data/*/server.json")
    }


def test_qupath_opens_what_we_write(ask, moved):
    path = moved(*([[flipped("HORIZONTAL"), rotated(90)]] if ask.version >= "0.7" else []))
    before = tree_hashes(path.parent)
    ours = server_files(path.parent)
    answer = ask(OPEN, path)
    after = tree_hashes(path.parent)
    changed = {name for name in after if after[name] != before.get(name)}
    # Told of the slides' new place, QuPath writes these at once: the same, but for the place.
    assert changed == set(ours)
    assert server_files(path.parent) == ours

    project = open_project(path)
    assert project.problems == ()
    assert answer["missing"] == 1
    assert answer["metadata"] == project.info.metadata == {"site": "ä"}
    assert answer["classes"] == [[c.path, c.color] for c in project.info.classes]
    assert len(answer["images"]) == len(project.slides) == (5 if ask.version >= "0.7" else 4)
    for theirs, ours in zip(answer["images"], project.slides, strict=True):
        assert theirs["id"] == ours.entry_id
        assert theirs["name"] == ours.name
        assert theirs["description"] == ours.description
        assert theirs["metadata"] == ours.metadata
        assert theirs["tags"] == list(ours.tags)
        # QuPath made this size from the file and the chain of builders; ours is what we wrote.
        assert (theirs["width"], theirs["height"]) == (ours.width, ours.height)
        assert theirs["calibrated"] is (ours.pixel_size is not None)
        if ours.pixel_size:
            assert theirs["pixels"] == [ours.pixel_size.x, ours.pixel_size.y]
        data = ours.read(detections=True)
        assert theirs["type"] == data.image_type
        found = {each["id"]: each for each in theirs["objects"]}
        assert set(found) == {each.id for each in data.objects}
        for each in data.objects:
            same = found[each.id]
            assert same["type"] == TYPES[each.object_type]
            assert (same["name"], same["class"]) == (each.name, each.class_path)
            assert same["locked"] == each.locked or each.object_type != "annotation"
            assert same["roi"] == each.roi.kind
            assert (same["z"], same["t"]) == each.roi.plane
            assert same["parent"] == each.parent_id
            assert same["area"] == pytest.approx(each.roi.geometry.area, abs=0.01)
