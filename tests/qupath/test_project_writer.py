"""New projects: what is written, where, and what is refused."""

import json
import os
from pathlib import Path

import pytest
import shapely

from qupath_bridge.errors import OutputError, UsageError
from qupath_bridge.frozen import freeze, thaw
from qupath_bridge.model import ClassInfo, ImageData, ObjectType, PathObject
from qupath_bridge.qupath.files.builders import (
    affine_builder,
    builder_uris,
    cropped_builder,
    flipped_builder,
    image_metadata,
    rotated_builder,
    uri_builder,
)
from qupath_bridge.qupath.project_writer import (
    CREATED,
    NewEntry,
    copy_project,
    create_project,
    stored_uri,
)
from qupath_bridge.qupath.rois import make_roi
from qupath_bridge.sources import open_project
from qupath_bridge.testing.projects import (
    Image,
    Region,
    affine,
    build_memory_project,
    build_project,
    cropped,
    flipped,
    rotated,
    tree_hashes,
)

METADATA = image_metadata(
    "a.svs",
    400,
    300,
    pixel_size=(0.25, 0.5),
    levels=[(1, 400, 300), (4, 100, 75)],
    magnification=40,
)
BUILDER = uri_builder("file:/s/a.svs", METADATA, args=["--no-crop"])


def annotation(**values):
    defaults = {
        "id": "00000000-0000-4000-8000-000000000001",
        "object_type": ObjectType.ANNOTATION,
        "class_path": "Tumor",
        "roi": make_roi(shapely.box(0, 0, 9, 9)),
    }
    return PathObject(**{**defaults, **values})


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_create_project_writes_the_files_of_qupath(tmp_path):
    entries = [
        NewEntry("é", BUILDER, ImageData((annotation(),), image_type="OTHER"), description="d"),
        NewEntry("new", BUILDER, metadata={"patient": "P1"}, tags=["t"]),
    ]
    path = create_project(tmp_path / "new" / "study", entries, [ClassInfo("Tumor", -1)])
    folder = path.parent
    assert path == tmp_path / "new" / "study" / "project.qpproj"
    assert sorted(tree_hashes(folder)) == [
        "classifiers/classes.json",
        "data/1/data.qpdata",
        "data/1/server.json",
        "data/1/summary.json",
        "data/2/server.json",
        "data/metadata.json",
        "project.qpproj",
    ]
    project = read(path)
    assert list(project) == [
        "version", "createTimestamp", "modifyTimestamp", "uri", "lastID", "images",
    ]  # fmt: skip
    assert project["version"] == "0.7.0"
    assert project["createTimestamp"] == project["modifyTimestamp"] == CREATED
    assert project["lastID"] == 2
    first, second = project["images"]
    assert first == {
        "serverBuilder": BUILDER,
        "entryID": 1,
        "imageName": "é",
        "description": "d",
        "metadata": {},
        "tags": [],
    }
    assert "description" not in second
    assert (second["metadata"], second["tags"]) == ({"patient": "P1"}, ["t"])
    assert "é" in path.read_text(encoding="utf-8")  # not escaped, as QuPath writes it
    assert read(folder / "data/1/server.json") == BUILDER
    assert read(folder / "data/metadata.json") == {}
    assert read(folder / "classifiers/classes.json") == {
        "pathClasses": [{"name": "Tumor", "color": -1}]
    }


def test_create_project_summary_counts_as_qupath(tmp_path):
    objects = (
        annotation(),
        annotation(id="00000000-0000-4000-8000-000000000002", class_path=None, parent=0),
        annotation(
            id="00000000-0000-4000-8000-000000000003",
            object_type=ObjectType.TILE,
            class_path="A: B",
        ),
        annotation(
            id="00000000-0000-4000-8000-000000000004",
            object_type=ObjectType.DETECTION,
            class_path=None,
        ),
    )
    path = create_project(tmp_path / "p", [NewEntry("a", BUILDER, ImageData(objects))])
    folder = path.parent / "data" / "1"
    assert read(folder / "summary.json") == {
        "timestamp": CREATED,
        "imageType": "UNSET",
        "server": {"width": 400, "height": 300, "sizeC": 3, "sizeZ": 1, "sizeT": 1},
        "hierarchy": {
            "nObjects": 5,
            "objectTypeCounts": {"Root objects": 1, "Annotations": 2, "Tiles": 1, "Detections": 1},
            "annotationClassificationCounts": {"Tumor": 1, "Unclassified": 1},
            "detectionClassificationCounts": {"A: B": 1, "Unclassified": 1},
        },
    }
    # Equal times say that the count is of this very file.
    assert (folder / "data.qpdata").stat().st_mtime_ns == CREATED * 1_000_000


def test_create_project_states_where_it_was_saved(tmp_path):
    path = create_project(tmp_path / "my study", [NewEntry("a", BUILDER, ImageData())])
    assert read(path)["uri"] == stored_uri(path, path.parent)
    assert read(path)["uri"].endswith("/my%20study/project.qpproj")
    data = open_project(path).slides[0].read()
    assert data.properties["PROJECT_ENTRY_ID"] == f"{path.as_posix()}::1"

    path = create_project(
        tmp_path / "other", [NewEntry("a", BUILDER, ImageData())], stored_at="/example/study/"
    )
    assert read(path)["uri"] == "file:/example/study/project.qpproj"
    data = open_project(path).slides[0].read()
    assert data.properties["PROJECT_ENTRY_ID"] == "/example/study/project.qpproj::1"


def test_copy_of_a_project_names_its_real_place(tmp_path):
    """Slides in its folder are those of the copy; others stay where they are."""
    study = tmp_path / "study é"
    inside, outside = tmp_path / "made" / "in it" / "a b.svs", tmp_path / "other.svs"
    images = [Image(path, size=(20, 10)) for path in (inside, outside, tmp_path / "gone.svs")]
    build_project(tmp_path / "made", images, stored_at="/example/made")
    for path in (inside, outside):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "made").rename(study)
    before = tree_hashes(study)

    path = copy_project(study, tmp_path / "copy ü")
    assert path == tmp_path / "copy ü" / "project.qpproj"
    raw = read(path)
    place = f"file:{tmp_path}/copy%20%C3%BC"
    assert raw["uri"] == f"{place}/project.qpproj"
    assert [image["serverBuilder"]["uri"] for image in raw["images"]] == [
        f"{place}/in%20it/a%20b.svs", f"file:{tmp_path}/other.svs", "file:/example/gone.svs",
    ]  # fmt: skip
    server = read(path.parent / "data/1/server.json")
    assert server["uri"] == f"{place}/in%20it/a%20b.svs"
    with open_project(path, engine="embedded") as project:
        assert [slide.path_origin for slide in project] == ["as stored"] * 2 + [None]
        assert project.slides[0].read() is not None
    assert tree_hashes(study) == before
    with pytest.raises(OutputError, match="copy"):
        copy_project(study, tmp_path / "copy ü")


@pytest.mark.parametrize(
    ("slide", "stored_at", "uri"),
    [
        ("study/p/a b.svs", "/x/p", "file:/x/p/a%20b.svs"),
        ("study/a[1].svs", "/x/p", "file:/x/a%5B1%5D.svs"),
        ("ä#?%.svs", "/x/p", "file:/%C3%A4%23%3F%25.svs"),
        ("a.svs", "C:/x/p", "file:/C:/a.svs"),
    ],
)
def test_stored_uri_of_slides_relative_to_a_project(tmp_path, slide, stored_at, uri):
    assert stored_uri(tmp_path / slide, tmp_path / "study" / "p", stored_at) == uri


def test_stored_uri_refuses_a_slide_on_another_drive(monkeypatch):
    def fails(path, start):
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr(os.path, "relpath", fails)
    with pytest.raises(UsageError, match="cannot be placed relative"):
        stored_uri("a.svs", "p", "/x")


def test_create_project_of_the_same_values_writes_the_same_bytes(tmp_path):
    images = [
        Image("/s/a.svs", [Region("Tumor", shapely.box(0, 0, 9, 9))], size=(20, 10)),
        Image("/s/b.svs", size=(20, 10), wrappers=[rotated(90)], pixel_size=None),
    ]
    first = build_project(tmp_path / "1", images, stored_at="/x").parent
    second = build_project(tmp_path / "2", images, stored_at="/x").parent
    assert tree_hashes(first) == tree_hashes(second)
    assert all(str(tmp_path) not in p.read_text("utf-8") for p in first.rglob("*.json"))


def test_create_project_assigns_missing_entry_ids(tmp_path):
    entries = [NewEntry("a", BUILDER, entry_id=i) for i in (None, 5, None, 2)]
    path = create_project(tmp_path / "p", entries)
    assert [each["entryID"] for each in read(path)["images"]] == [6, 5, 7, 2]
    assert read(path)["lastID"] == 7
    with pytest.raises(UsageError, match="Two images have the same entry ID"):
        create_project(tmp_path / "q", [NewEntry("a", BUILDER, entry_id=5)] * 2)
    assert not (tmp_path / "q").exists()


def test_create_project_refuses_a_folder_that_is_not_empty(tmp_path):
    folder = tmp_path / "p"
    folder.mkdir()
    (folder / "note.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match="is not empty"):
        create_project(folder, [])
    assert tree_hashes(folder).keys() == {"note.txt"}
    with pytest.raises(OutputError, match="is not empty"):
        create_project(folder / "note.txt", [])
    (folder / "note.txt").unlink()
    create_project(folder, [])
    with pytest.raises(OutputError, match="is not empty"):
        create_project(folder, [])


@pytest.mark.parametrize(
    ("entry", "classes", "error"),
    [
        (NewEntry("a", BUILDER, ImageData((annotation(class_path="A: "),))), (), OutputError),
        (NewEntry("a", BUILDER), (ClassInfo("A\nB"),), UsageError),
        (NewEntry("a", BUILDER), (ClassInfo("A:B"), ClassInfo("C")), UsageError),
    ],
)
def test_create_project_writes_nothing_if_an_entry_is_invalid(tmp_path, entry, classes, error):
    with pytest.raises(error):
        create_project(tmp_path / "p", [NewEntry("good", BUILDER, ImageData()), entry], classes)
    assert not (tmp_path / "p").exists()


def test_create_project_leaves_no_project_after_a_failed_write(tmp_path, monkeypatch):
    from qupath_bridge.qupath import project_writer as writer

    real = writer.LocalStore.put
    left = iter(range(2))

    def put(self, name, data, **options):
        if next(left, None) is None:
            raise OutputError("the disk is full")
        real(self, name, data, **options)

    monkeypatch.setattr(writer.LocalStore, "put", put)
    with pytest.raises(OutputError, match="the disk is full"):
        create_project(tmp_path / "p", [NewEntry("a", BUILDER, ImageData())])
    assert not (tmp_path / "p" / "project.qpproj").exists()


# --- builders -------------------------------------------------------------------------------


def test_image_metadata_of_a_builder():
    assert METADATA["pixelCalibration"]["pixelWidth"] == {"value": 0.25, "unit": "µm"}
    assert METADATA["pixelCalibration"]["pixelHeight"] == {"value": 0.5, "unit": "µm"}
    assert METADATA["magnification"] == 40.0
    bare = image_metadata("a", 4, 3)
    assert bare["pixelCalibration"]["pixelWidth"] == {"value": 1.0, "unit": "px"}
    assert bare["levels"] == [{"downsample": 1.0, "width": 4, "height": 3}]
    assert "magnification" not in bare
    assert image_metadata("a", 4, 3, pixel_size=2)["pixelCalibration"]["pixelHeight"]["value"] == 2


@pytest.mark.parametrize(
    ("builder", "size", "pixel_size", "levels"),
    [
        (rotated_builder(BUILDER, 90), (300, 400), (0.5, 0.25), [(4, 75, 100)]),
        (rotated_builder(BUILDER, 180), (400, 300), (0.25, 0.5), [(4, 100, 75)]),
        (rotated_builder(BUILDER, 270), (300, 400), (0.5, 0.25), [(4, 75, 100)]),
        (flipped_builder(BUILDER, "BOTH"), (400, 300), (0.25, 0.5), [(4, 100, 75)]),
        (cropped_builder(BUILDER, 1, 2, 50, 31), (50, 31), (0.25, 0.5), [(4, 12, 7)]),
        (
            affine_builder(BUILDER, (1, 0, 0, 1, -5, -6), 90, 80),
            (90, 80),
            (0.25, 0.5),
            [(4, 22, 20)],
        ),
        (
            cropped_builder(rotated_builder(BUILDER, 90), 0, 0, 8, 9),
            (8, 9),
            (0.5, 0.25),
            [(4, 2, 2)],
        ),
    ],
)
def test_builders_that_wrap_state_the_resulting_size(builder, size, pixel_size, levels):
    metadata = builder["metadata"]
    calibration = metadata["pixelCalibration"]
    assert (metadata["width"], metadata["height"]) == size
    assert tuple(calibration[f"pixel{s}"]["value"] for s in ("Width", "Height")) == pixel_size
    shown = [(v["downsample"], v["width"], v["height"]) for v in metadata["levels"]]
    assert shown == [(1, *size), *levels]
    inner = builder["builder"]
    assert list(builder_uris(builder)) == ["file:/s/a.svs"]
    while "builder" in inner:
        inner = inner["builder"]
    assert inner == BUILDER


def test_builders_that_wrap_have_qupaths_keys():
    assert flipped_builder(BUILDER, "VERTICAL")["flip"] == "VERTICAL"
    assert rotated_builder(BUILDER, 270)["rotation"] == "ROTATE_270"
    assert cropped_builder(BUILDER, 1, 2, 3, 4)["region"] == {
        "x": 1, "y": 2, "width": 3, "height": 4, "z": 0, "t": 0,
    }  # fmt: skip
    assert affine_builder(BUILDER, (1, 2, 3, 4, 5, 6), 7, 8)["transform"] == {
        "m00": 1.0, "m10": 2.0, "m01": 3.0, "m11": 4.0, "m02": 5.0, "m12": 6.0,
    }  # fmt: skip


def test_builders_that_wrap_need_a_size():
    bare = uri_builder("file:/s/a.svs", provider=None)
    assert bare == {"builderType": "uri", "uri": "file:/s/a.svs", "args": []}
    with pytest.raises(UsageError, match="without metadata"):
        rotated_builder(bare, 90)


def test_builders_are_frozen_and_thawed():
    builder = rotated_builder(BUILDER, 90)
    frozen = freeze(builder)
    assert frozen["builder"]["args"] == ("--no-crop",)
    assert thaw(frozen) == builder
    assert json.loads(json.dumps(thaw(frozen))) == builder


def test_builder_uris_of_several_files():
    parts = {
        "builderType": "z_concatenated",
        "builders": [{"builderType": "uri", "uri": "1"}, {"builderType": "uri", "uri": "2"}],
    }
    sparse = {
        "builderType": "sparse",
        "regions": [{"resolutions": [{"downsample": 1, "serverBuilder": {"uri": "3"}}]}],
    }
    merged = {"builderType": "channels", "builder": parts, "channels": [sparse, {"uri": 4}]}
    assert list(builder_uris(freeze(merged))) == ["1", "2", "3"]


# --- the builders of test projects ----------------------------------------------------------


def test_synthetic_project_on_disk_equals_the_one_in_memory(tmp_path):
    images = [
        Image(
            "/s/a.svs",
            [
                Region("Tumor", "POLYGON ((0 0, 9 0, 9 9, 0 0))", plane=(1, 2), name="n"),
                (None, shapely.box(0, 0, 5, 5)),
            ],
            size=(200, 100),
            wrappers=[flipped("HORIZONTAL"), rotated(270), cropped(1, 2, 50, 60)],
        ),
        Image("/s/a.svs", [], size=(9, 9), wrappers=[affine((1, 0, 0, 1, 2, 3), 7, 8)]),
    ]
    on_disk = open_project(build_project(tmp_path / "p", images))
    in_memory = build_memory_project(images)
    assert on_disk.info.classes == in_memory.info.classes
    for ours, theirs in zip(on_disk.slides, in_memory.slides, strict=True):
        for key in ("entry_id", "name", "uri", "width", "height", "pixel_size", "levels"):
            assert getattr(ours, key) == getattr(theirs, key), key
        assert thaw(ours.builder.json) == thaw(theirs.builder.json)
        assert [drawn(o) for o in ours.read().objects] == [drawn(o) for o in theirs.read().objects]


def drawn(item):
    return item.id, item.roi.kind, item.roi.plane, shapely.normalize(item.roi.geometry)


def test_synthetic_project_reads_the_size_of_a_slide(tmp_path):
    import numpy as np

    from qupath_bridge.testing.slides import write_slide

    pixels = np.full((48, 80, 3), 200, np.uint8)
    plain = write_slide(tmp_path / "a.tiff", pixels, tile=16)
    ome = write_slide(tmp_path / "b.ome.tif", pixels, tile=16, ome=True)
    for slide in (plain, ome):
        project = open_project(build_project(tmp_path / slide.stem, [Image(slide)]))
        assert (project.slides[0].width, project.slides[0].height) == (80, 48)
        assert project.slides[0].path == Path(slide)


def test_synthetic_project_children_follow_their_parents(tmp_path):
    box = shapely.box(0, 0, 5, 5)
    regions = [
        Region("a", box, parent=2),
        Region("b", box),
        Region("c", box),
        Region("d", box, parent=0),
    ]
    path = build_project(tmp_path / "p", [Image("/s/a.svs", regions, size=(9, 9))])
    objects = open_project(path).slides[0].read().objects
    assert [(o.class_path, o.parent) for o in objects] == [("b", -1), ("c", -1), ("a", 1), ("d", 2)]
