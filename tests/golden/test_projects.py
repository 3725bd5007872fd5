"""Projects that QuPath 0.2.3 to 0.7.0 wrote: what they say, and what QuPath itself says of them.

Shapes are compared with a reading of the exports that shares no code with ours.
"""

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import shapely

from qupath_bridge.model import ClassInfo, ObjectType, PixelSize, Plane
from qupath_bridge.qupath.geojson import load
from qupath_bridge.sources import open_project
from qupath_bridge.testing.projects import tree_hashes

DATA = Path(__file__).parents[1] / "data"
VERSIONS = ["0.2.3", "0.3.2", "0.4.4", "0.5.1", "0.6.0", "0.7.0"]
TRUTH = sorted((p.parent.name, p.name) for p in (DATA / "qupath-truth").glob("*/*"))


@pytest.fixture(params=VERSIONS)
def sample(request):
    return request.param, open_project(DATA / "qupath-samples" / f"v{request.param}" / "project")


def test_sample_projects_are_listed(sample):
    version, project = sample
    assert project.info.version == version
    assert [c.path for c in project.info.classes] == ["Tumor", "Stroma", "Tumor: Positive"]
    if version != "0.3.2":  # which stored grey for all three
        assert project.info.classes[0] == ClassInfo("Tumor", -13578071)
    assert [(s.entry_id, s.name, s.width, s.height) for s in project.slides] == [
        ("1", "slide 1.svs", 40000, 30000),
        ("2", "rotated (no data)", 30000, 40000),
        ("3", "cropped tma", 1000, 2000),
        ("4", "empty saved", 40000, 30000),
    ]
    first, rotated, cropped, _ = project.slides
    assert {s.uri for s in project.slides} == {"file:/mnt/slides/slide%201.svs"}
    assert first.description == "desc é"
    assert first.metadata == {"patient": "P1"}
    assert first.tags == (("tag1",) if version >= "0.6" else ())
    assert first.pixel_size == PixelSize(0.25, 0.2502, "project")
    assert rotated.pixel_size == PixelSize(0.2502, 0.25, "project")
    assert first.magnification == 40
    assert first.levels == ((1.0, 40000, 30000), (4.0, 10000, 7500), (16.0, 2500, 1875))
    assert first.builder.json["args"] == ("--series", "0")
    assert rotated.builder.json["rotation"] == "ROTATE_90"
    assert cropped.builder.json["region"]["x"] == 10
    # None of these slides exists; every slide says so, and the project has no problem by that.
    assert project.problems == ()
    assert all(slide.path is None and "slide 1.svs" in slide.tried[0] for slide in project)


def test_sample_projects_are_read(sample):
    _, project = sample
    full, unsaved, tma, empty = (s.read(detections=True) for s in project.slides)
    types = [o.object_type for o in full.objects]
    assert [types.count(t) for t in ("annotation", "tile", "detection", "cell")] == [12, 2, 2, 2]
    assert len(full.annotations) == len(project.slides[0].read().objects) == 12
    assert unsaved.objects == empty.objects == ()
    assert tma.tma_grid is not None
    assert (tma.tma_grid.width, tma.tma_grid.height) == (3, 2)
    cores = [tma.objects[index] for index in tma.tma_grid.cores]
    assert [core.name for core in cores] == ["A-1", "A-2", "A-3", "B-1", "B-2", "B-3"]
    assert [core.missing for core in cores] == [False, False, False, False, True, False]


# --- the samples' own exports ---------------------------------------------------------------


def exports(version):
    folder = DATA / "qupath-samples" / f"v{version}"
    return [p for p in sorted(folder.iterdir()) if p.name.startswith("objects.")]


def raw_features(path):
    """Features of a plain export, read without our code."""
    value = json.loads(path.read_text(encoding="utf-8"))
    return value["features"] if isinstance(value, dict) else value


def plain_class(raw):
    """The class path of a raw classification, of any version."""
    if not raw:
        return None
    if "names" in raw:
        return ": ".join(raw["names"])
    names = [raw["name"]]
    while "parentClass" in raw:
        raw = raw["parentClass"]
        names.insert(0, raw["name"])
    return ": ".join(names)


def plain_measurements(raw):
    pairs = raw.items() if isinstance(raw, dict) else ((m["name"], m["value"]) for m in raw or ())
    return {name: float(value) for name, value in pairs}


TYPES = {"PathAnnotationObject": "annotation", "PathTileObject": "tile"}
TYPES |= {"PathDetectionObject": "detection"}


def shape_distance(ours, theirs):
    """Area of the symmetric difference a vertex, or the largest distance of vertices."""
    if theirs.area > 0:
        ours, theirs = shapely.make_valid(ours), shapely.make_valid(theirs)
        difference = ours.symmetric_difference(theirs).area
        return difference / shapely.get_num_coordinates(theirs)
    pairs = shapely.get_coordinates(ours), shapely.get_coordinates(theirs)
    assert pairs[0].shape == pairs[1].shape
    return np.abs(pairs[0] - pairs[1]).max(initial=0)


@pytest.mark.parametrize(
    "path",
    [p for v in VERSIONS for p in exports(v) if p.suffix == ".geojson"],
    ids=lambda p: f"{p.parent.name}-{p.name}",
)
def test_sample_geojson_exports_are_read(path):
    objects, features = load(path), raw_features(path)
    assert len(objects) == len(features) == 15
    for each, raw in zip(objects, features, strict=True):
        properties = raw["properties"]
        kind = properties.get("objectType") or properties.get("object_type")
        assert each.object_type == (kind or TYPES[raw["id"]])
        assert each.class_path == plain_class(properties.get("classification"))
        assert each.name == properties.get("name")
        assert each.locked is properties.get("isLocked", False)
        assert each.measurements == pytest.approx(
            plain_measurements(properties.get("measurements")), nan_ok=True
        )
        plane = raw["geometry"].get("plane", {"c": -1, "z": 0, "t": 0})
        assert (each.roi.channel, each.roi.plane) == (plane["c"], Plane(plane["z"], plane["t"]))
        drawn = shapely.geometry.shape(
            {key: raw["geometry"][key] for key in ("type", "coordinates")}
        )
        assert shape_distance(each.roi.geometry, drawn) <= 0.01
        if path.parent.name >= "v0.4":
            assert (each.id, each.id_origin) == (raw["id"], "qupath")
        else:
            assert each.id_origin == "derived"


@pytest.mark.parametrize("version", VERSIONS)
def test_sample_geojson_exports_of_a_version_agree(version):
    first, *others = (load(path) for path in exports(version))
    for other in others:
        assert str(other) == str(first)


@pytest.mark.parametrize("version", VERSIONS)
def test_sample_data_files_equal_their_geojson_exports(version):
    """Objects read from data.qpdata equal QuPath's GeoJSON export of them."""
    slide = open_project(DATA / "qupath-samples" / f"v{version}" / "project").slides[0]
    objects = [o for o in slide.read(detections=True).objects if o.object_type != ObjectType.CELL]
    exported = load(exports(version)[-1])
    left = list(objects)
    for wanted in exported:
        found = next((o for o in left if same(o, wanted, with_id=version >= "0.4")), None)
        assert found is not None, wanted
        left.remove(found)
    # No QuPath up to 0.7 can export lines of several parts, so they are in no export.
    assert [o.roi.geometry.geom_type for o in left] == ["MultiLineString"]


def same(read, exported, *, with_id):
    def facts(item):
        keep = item.object_type, item.class_path, item.name, item.locked, item.roi.plane
        return (*keep, item.id) if with_id else keep

    if read.roi is None or facts(read) != facts(exported):
        return False
    if dict(read.measurements) != pytest.approx(dict(exported.measurements), rel=1e-6, nan_ok=True):
        return False
    ours, theirs = read.roi.geometry, exported.roi.geometry
    if ours.bounds != pytest.approx(theirs.bounds, abs=0.02):
        return False
    return shape_distance(ours, theirs) <= 0.01


# --- real projects --------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["0.6.0", "0.7.0"])
def real(request, tmp_path_factory):
    """A real project with files in the place of its slides, one folder above as it says."""
    folder = tmp_path_factory.mktemp("real")
    name = f"qupath-{request.param}-project"
    shutil.copytree(DATA / "real" / name, folder / name)
    for slide in ("CMU-1-Small-Region.svs", "tcga-cr-7395-01a-01-ts1.svs"):
        (folder / slide).write_bytes(b"")
    before = tree_hashes(folder)
    with open_project(folder / name) as project:
        yield request.param, folder, project
    assert tree_hashes(folder) == before


def test_real_projects_are_listed(real):
    version, folder, project = real
    assert (project.info.version, project.problems) == (version, ())
    assert project.info.uri.startswith("file:/mnt/path/")
    assert [s.path_origin for s in project.slides] == ["relative"] * 5
    assert {s.path for s in project.slides} == {
        folder / "CMU-1-Small-Region.svs", folder / "tcga-cr-7395-01a-01-ts1.svs",
    }  # fmt: skip
    assert [s.metadata["patient"] for s in project.slides] == ["P1", "P2", "P1", "P1", "P1"]
    assert project.slides[0].pixel_size == PixelSize(0.499, 0.499, "project")
    assert project.slides[1].pixel_size == PixelSize(0.5, 0.5, "project")
    assert project.slides[1].levels == ((1.0, 4443, 3567), (2.0, 2221, 1783))


@pytest.mark.parametrize(("version", "entry_id"), TRUTH)
def test_real_project_annotations_equal_qupaths(version, entry_id):
    slide = open_project(DATA / "real" / f"qupath-{version}-project")[entry_id]
    truth = DATA / "qupath-truth" / version / entry_id
    facts = json.loads((truth / "facts.json").read_text(encoding="utf-8"))
    assert slide.name == facts["name"]
    assert (slide.width, slide.height) == (facts["width"], facts["height"])
    assert slide.pixel_size == PixelSize(
        facts["pixel_width_um"], facts["pixel_height_um"], "project"
    )
    read = {a.id: a for a in slide.read().annotations}
    assert set(read) == {fact["id"] for fact in facts["annotations"]}
    for fact in facts["annotations"]:
        annotation = read[fact["id"]]
        assert annotation.class_path == fact.get("class")
        assert annotation.parent_id == fact.get("parent")
        assert annotation.roi.kind == fact["roi"]
        assert annotation.roi.geometry.centroid.coords[0] == pytest.approx(
            fact["centroid"], abs=0.02
        )

    text = gzip.decompress((truth / "annotations.geojson.gz").read_bytes())
    features = json.loads(text)
    features = features["features"] if isinstance(features, dict) else features
    assert len(features) == len(read)
    exported = {a.id: a for a in load(truth / "annotations.geojson.gz")}
    for raw in features:
        ours, theirs = read[raw["id"]], exported[raw["id"]]
        drawn = shapely.geometry.shape(
            {key: raw["geometry"][key] for key in ("type", "coordinates")}
        )
        assert shape_distance(ours.roi.geometry, drawn) <= 0.01
        assert ours.roi.geometry.area == pytest.approx(drawn.area, rel=1e-4)
        assert ours.roi.kind == theirs.roi.kind
        for key in ("class_path", "name", "locked", "description", "object_type"):
            assert getattr(ours, key) == getattr(theirs, key), key
