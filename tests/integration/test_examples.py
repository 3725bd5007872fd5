"""The example projects: what is committed, what it says, and that it follows the tissue."""

import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import openslide
import pytest
import shapely
from PIL import Image, ImageDraw

from qupath_bridge.model import RoiKind
from qupath_bridge.sources import open_project

EXAMPLES = Path(__file__).parents[2] / "example_projects"
SLIDE = EXAMPLES / "skin" / "CMU-1-Small-Region.svs"
PLEX = EXAMPLES / "plex" / "plex.ome.tif"
PROJECTS = ("skin", "rotated", "plex")
FEATURES = json.loads((EXAMPLES / "demo_regions.json").read_text(encoding="utf-8"))["features"]
AREAS = [feature for feature in FEATURES if feature["geometry"]["type"] == "Polygon"]
NAMES = [feature["properties"]["name"] for feature in FEATURES]
WIDTH, HEIGHT = 2220, 2967


def class_of(feature):
    return feature["properties"].get("classification", {}).get("name")


def shape_of(feature):
    return shapely.geometry.shape(feature["geometry"])


def packed(red, green, blue):
    return int(np.uint32(0xFF000000 | red << 16 | green << 8 | blue).astype(np.int32))


def named(name):
    return next(shape_of(feature) for feature in FEATURES if feature["properties"]["name"] == name)


def united(class_path):
    return shapely.union_all([shape_of(each) for each in AREAS if class_of(each) == class_path])


def files_below(folder):
    made = [folder / "project.qpproj"]
    made += [path for part in ("data", "classifiers") for path in (folder / part).rglob("*")]
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in made if path.is_file()
    }


@pytest.fixture(scope="module")
def build():
    spec = importlib.util.spec_from_file_location("build_examples", EXAMPLES / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pixels():
    with openslide.OpenSlide(str(SLIDE)) as slide:
        assert slide.dimensions == (WIDTH, HEIGHT)
        return np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))


def pixels_in(pixels, polygon):
    """Return the pixels of an image whose centres lie in a polygon, shape (N, 3)."""
    mask = Image.new("1", (pixels.shape[1], pixels.shape[0]))
    draw = ImageDraw.Draw(mask)
    for part in getattr(polygon, "geoms", [polygon]):
        draw.polygon(list(part.exterior.coords), fill=1)
    for part in getattr(polygon, "geoms", [polygon]):
        for hole in part.interiors:
            draw.polygon(list(hole.coords), fill=0)
    return pixels[np.asarray(mask)]


# --- what is committed ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROJECTS)
def test_a_rebuild_gives_the_committed_bytes(build, name, tmp_path):
    build.install(name, tmp_path / "elsewhere" / name)
    assert files_below(tmp_path / "elsewhere" / name) == files_below(EXAMPLES / name)


def test_a_rebuild_replaces_what_was_there(build, tmp_path):
    folder = tmp_path / "skin"
    build.install("skin", folder)
    (folder / "README.md").write_text("kept", encoding="utf-8")
    (folder / "data" / "1" / "left over").write_text("gone", encoding="utf-8")
    (folder / "project.qpproj").write_text("changed", encoding="utf-8")
    build.install("skin", folder)
    assert files_below(folder) == files_below(EXAMPLES / "skin")
    assert (folder / "README.md").read_text(encoding="utf-8") == "kept"


@pytest.mark.parametrize(("slide", "licence"), [(SLIDE, "CC0"), (PLEX, "GPL-3.0-or-later")])
def test_the_slide_is_the_one_that_its_readme_names(slide, licence):
    readme = (slide.parent / "README.md").read_text(encoding="utf-8")
    assert hashlib.sha256(slide.read_bytes()).hexdigest() in readme
    assert licence in readme


def test_no_file_names_a_place_of_the_machine_that_made_it():
    places = set()
    for name in PROJECTS:
        for content in files_below(EXAMPLES / name).values():
            places |= set(re.findall(rb"file:[ -~]*?\.(?:svs|tif|qpproj)", content))
            assert str(EXAMPLES).encode() not in content
    assert places == {
        b"file:/qupath-bridge/example_projects/skin/CMU-1-Small-Region.svs",
        b"file:/qupath-bridge/example_projects/skin/project.qpproj",
        b"file:/qupath-bridge/example_projects/rotated/project.qpproj",
        b"file:/qupath-bridge/example_projects/plex/plex.ome.tif",
        b"file:/qupath-bridge/example_projects/plex/project.qpproj",
    }


# --- what the regions are ------------------------------------------------------------------------


@pytest.mark.parametrize("feature", AREAS, ids=lambda each: each["properties"]["name"])
def test_each_region_is_valid_smooth_and_inside_the_image(feature):
    polygon = shape_of(feature)
    assert polygon.is_valid
    assert polygon.is_simple
    assert shapely.box(0, 0, WIDTH, HEIGHT).covers(polygon)
    corners = np.asarray(polygon.exterior.coords)
    assert 15 < len(corners) <= 300
    assert np.array_equal(corners, np.round(corners, 2))
    # No staircase of pixels: hardly a side is along an axis, the image's edge aside.
    sides = np.diff(corners, axis=0)
    inside = (corners[1:, 1] < HEIGHT) | (corners[:-1, 1] < HEIGHT)
    assert np.mean(np.any(sides[inside] == 0, axis=1)) < 0.1


def test_regions_are_of_every_kind_that_the_labels_tell_apart():
    classes = {class_of(feature) for feature in FEATURES}
    assert classes == {
        "Epithelium", "Stroma", "Keratin", "Immune cells", "Region*", "Ignore*", None
    }  # fmt: skip
    assert len(set(NAMES)) == len(NAMES)
    assert len({feature["id"] for feature in FEATURES}) == len(FEATURES)
    assert {each["geometry"]["type"] for each in FEATURES} == {"Polygon", "MultiPoint"}
    pearl, epithelium = named("Horn pearl"), named("Follicle, main epithelium")
    assert epithelium.contains(pearl)
    assert epithelium.area > pearl.area
    assert len(named("Dermis, right").interiors) == 2
    epidermis, papilla = named("Epidermis, pigmented"), named("Dermal papilla")
    assert len(epidermis.interiors) == 1
    assert shapely.Polygon(epidermis.interiors[0]).contains(papilla)
    assert named("Dermis, left").covers(named("Counted nuclei"))


def test_every_labelled_region_lies_in_the_context():
    context = united("Region*")
    for feature in AREAS:
        if class_of(feature) in {"Epithelium", "Stroma", "Keratin", "Immune cells"}:
            polygon = shape_of(feature)
            assert polygon.intersection(context).area > 0.99 * polygon.area


def test_regions_of_different_classes_overlap_only_where_one_is_nested():
    epithelium, stroma = united("Epithelium"), united("Stroma")
    assert epithelium.intersection(stroma).area < 0.005 * epithelium.area
    plug = named("Keratin plug")
    assert epithelium.intersection(plug).area < 0.02 * plug.area
    assert epithelium.intersection(united("Immune cells")).area < 100


def test_the_regions_follow_the_tissue(pixels):
    epithelium = united("Epithelium") - united("Keratin") - united("Ignore*")
    stroma = united("Stroma") - united("Immune cells")
    mean = {
        "epithelium": pixels_in(pixels, epithelium).mean(axis=0),
        "stroma": pixels_in(pixels, stroma).mean(axis=0),
        "pearl": pixels_in(pixels, named("Horn pearl")).mean(axis=0),
        "infiltrate": pixels_in(pixels, united("Immune cells")).mean(axis=0),
    }
    # H&E: collagen is pink (much red), epithelium violet, horn darkest, nuclei take red away.
    assert mean["stroma"][0] > mean["epithelium"][0] + 60
    assert mean["pearl"][1] < mean["epithelium"][1]
    assert mean["epithelium"][0] < mean["infiltrate"][0] < mean["stroma"][0] - 10
    for hole in named("Dermis, right").interiors:
        vessel = pixels_in(pixels, shapely.Polygon(hole)).mean(axis=0)
        assert vessel.min() > mean["stroma"].mean()
    # Red falls by far where the border of stroma and epithelium is crossed, on all of its length.
    border = epithelium.buffer(15).intersection(stroma.buffer(15))
    outside = pixels_in(pixels, border - epithelium).mean(axis=0)
    inside = pixels_in(pixels, border & epithelium).mean(axis=0)
    assert outside[0] > inside[0] + 40
    # What is left outside the context is mostly glass.
    glass = pixels_in(pixels, shapely.box(0, 0, WIDTH, HEIGHT) - united("Region*"))
    assert np.mean(glass.min(axis=1) > 220) > 0.85


def test_the_points_lie_on_dark_nuclei(pixels):
    for point in named("Counted nuclei").geoms:
        x, y = int(point.x), int(point.y)
        assert pixels[y - 2 : y + 3, x - 2 : x + 3, 0].mean() < 90


# --- what is read from the projects --------------------------------------------------------------


@pytest.fixture(params=["skin", "rotated"])
def moved(request, tmp_path):
    """Open an example in a copy somewhere else, in a folder with odd letters."""
    copy = tmp_path / "a päthologist's slides"
    shutil.copytree(EXAMPLES, copy)
    return open_project(copy / request.param)


def test_the_slide_is_found_relative_to_the_project(moved):
    assert moved.problems == ()
    for slide in moved.slides:
        assert slide.path == moved.info.folder.parent / "skin" / SLIDE.name
        assert slide.path_origin == "relative"


def test_the_project_says_what_the_regions_say():
    project = open_project(EXAMPLES / "skin")
    (slide,) = project.slides
    assert (slide.name, slide.width, slide.height) == (SLIDE.name, WIDTH, HEIGHT)
    assert (slide.pixel_size.x, slide.pixel_size.y) == (0.499, 0.499)
    assert slide.magnification == 20
    assert slide.metadata["patient"] == "P1"
    assert "CC0" in slide.description
    image = slide.read()
    assert image.image_type == "BRIGHTFIELD_H_E"
    assert image.problems == ()
    assert [each.name for each in image.annotations] == NAMES
    for feature, read in zip(FEATURES, image.annotations, strict=True):
        said = feature["properties"]
        assert read.id == feature["id"]
        assert read.id_origin == "qupath"
        assert read.class_path == class_of(feature)
        assert read.locked == said.get("isLocked", False)
        assert read.description == said["metadata"]["ANNOTATION_DESCRIPTION"]
        if read.class_path:
            assert read.class_color == packed(*said["classification"]["color"])
        shape = shape_of(feature)
        assert read.roi.geometry.geom_type == shape.geom_type
        assert read.roi.geometry.equals_exact(shape, 0.005)
    colors = {info.path: info.color for info in project.info.classes}
    assert colors == {a.class_path: a.class_color for a in image.annotations if a.class_path}


def test_the_rotated_project_has_a_turned_image_a_derived_class_and_a_name_twice():
    project = open_project(EXAMPLES / "rotated")
    turned, reader_a, reader_b = project.slides
    assert (turned.width, turned.height) == (HEIGHT, WIDTH)
    assert reader_a.name == reader_b.name != turned.name
    assert {slide.metadata["patient"] for slide in project.slides} == {"P1"}
    classes = {slide.entry_id: {a.class_path for a in slide.read().annotations}
               for slide in project.slides}  # fmt: skip
    assert "Epithelium: Pigmented" in classes[turned.entry_id]
    assert "Epithelium: Pigmented" in {info.path for info in project.info.classes}
    assert classes[reader_a.entry_id] == {"Epithelium", "Keratin"}
    assert classes[reader_b.entry_id] == {"Stroma", "Immune cells"}
    ids = [each.id for slide in project.slides for each in slide.read().annotations]
    assert len(set(ids)) == len(ids)
    assert not set(ids) & {feature["id"] for feature in FEATURES}


def test_the_turned_regions_hold_the_same_pixels(pixels):
    """Pillow turns the slide, so that no formula of ours is compared with itself."""
    turned = np.asarray(Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_270))
    annotations = open_project(EXAMPLES / "rotated").slides[0].read().annotations
    assert [each.name for each in annotations] == NAMES
    for feature, read in zip(FEATURES, annotations, strict=True):
        shape = shape_of(feature)
        if read.roi.kind is RoiKind.POINTS:
            before = [pixels[int(point.y), int(point.x)] for point in shape.geoms]
            after = [turned[int(p.y), int(p.x)] for p in read.roi.geometry.geoms]
            assert np.abs(np.mean(before, axis=0) - np.mean(after, axis=0)).max() < 15
            continue
        assert read.roi.geometry.area == pytest.approx(shape.area, rel=1e-4)
        means = (
            pixels_in(pixels, shape).mean(axis=0),
            pixels_in(turned, read.roi.geometry).mean(axis=0),
        )
        assert np.abs(means[0] - means[1]).max() < 1.5, feature["properties"]["name"]


# --- what QuPath itself says ---------------------------------------------------------------------

GROOVY = """
import qupath.lib.io.UriUpdater
import qupath.lib.projects.ProjectIO
import qupath.lib.regions.RegionRequest
import java.awt.image.BufferedImage

def file = new File(args[0])
def project = ProjectIO.loadProject(file, BufferedImage)
// What QuPath does when a user opens a project that was moved (ProjectCommands.promptToCheckURIs).
def previous = new File(project.getPreviousURI().getPath()).getParentFile().toPath()
def updater = UriUpdater.create(project.getImageList())
updater.relative(previous, file.getParentFile().toPath())
updater.applyReplacements()
def entries = project.getImageList().collect { entry ->
    def server = entry.getServerBuilder().build()
    def objects = entry.readHierarchy().getAnnotationObjects().collect { each ->
        def roi = each.getROI()
        def facts = [
            id: each.getID().toString(), name: each.getName(), locked: each.isLocked(),
            class: each.getPathClass()?.toString(), color: each.getPathClass()?.getColor(),
            description: each.getDescription(), points: roi.getNumPoints(),
            area: roi.getArea(), x: roi.getBoundsX(), y: roi.getBoundsY(),
            valid: roi.isPoint() || roi.getGeometry().isValid()]
        int x = roi.getBoundsX(), y = roi.getBoundsY()
        int w = Math.min(64, server.getWidth() - x), h = Math.min(64, server.getHeight() - y)
        def request = RegionRequest.createInstance(server.getPath(), 1, x, y, w, h)
        def pixels = server.readRegion(request)
        long sum = 0
        pixels.getRGB(0, 0, w, h, null, 0, w).each { v ->
            sum += ((v >> 16) & 255) + ((v >> 8) & 255) + (v & 255) }
        facts.corner = [x, y, w, h]
        facts.mean = sum / (3.0d * w * h)
        facts
    }
    def made = [name: entry.getImageName(), metadata: entry.getMetadata(), width: server.getWidth(),
                height: server.getHeight(), uris: entry.getURIs().collect { it.toString() },
                mpp: server.getPixelCalibration().getAveragedPixelSizeMicrons(), objects: objects,
                type: entry.readImageData().getImageType().toString()]
    server.close()
    made
}
def json = new com.google.gson.GsonBuilder().serializeNulls().create().toJson(
    [missing: updater.countMissing(), entries: entries,
     classes: project.getPathClasses().collect { it.toString() }])
new File(args[1]).setText(json, "UTF-8")
"""


@pytest.mark.qupath
@pytest.mark.parametrize("name", ["skin", "rotated"])
def test_qupath_opens_the_project_and_finds_the_slide(name, tmp_path, pixels, installation):
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    script, answer = tmp_path / "look.groovy", tmp_path / "answer.json"
    script.write_text(GROOVY, encoding="utf-8")
    project = tmp_path / "examples" / name / "project.qpproj"
    assert installation.launcher is not None, "the QuPath that is found has no launcher"
    arguments = ["--args", str(project), "--args", str(answer), str(script)]
    command = [str(installation.launcher), "script", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert answer.exists(), done.stdout + done.stderr
    said = json.loads(answer.read_text(encoding="utf-8"))

    read = open_project(EXAMPLES / name)
    assert said["missing"] == 0
    assert len(said["entries"]) == len(read.slides)
    for entry, slide in zip(said["entries"], read.slides, strict=True):
        shown = pixels
        if slide.width == HEIGHT:
            shown = np.asarray(Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_270))
        (uri,) = entry["uris"]
        assert Path(uri.removeprefix("file:")) == tmp_path / "examples" / "skin" / SLIDE.name
        assert (entry["name"], entry["metadata"]) == (slide.name, dict(slide.metadata))
        assert (entry["width"], entry["height"]) == (slide.width, slide.height)
        assert entry["mpp"] == pytest.approx(0.499)
        objects = {each["id"]: each for each in entry["objects"]}
        annotations = slide.read().annotations
        assert set(objects) == {each.id for each in annotations}
        for each in annotations:
            seen = objects[each.id]
            assert seen["valid"]
            assert (seen["name"], seen["class"]) == (each.name, each.class_path)
            assert seen["description"] == each.description
            assert seen["locked"] == each.locked
            assert seen["color"] == each.class_color
            assert seen["area"] == pytest.approx(each.roi.geometry.area, rel=1e-4, abs=0.01)
            x, y, w, h = seen["corner"]
            assert seen["mean"] == pytest.approx(shown[y : y + h, x : x + w].mean(), abs=1e-6)
