"""project.qpproj, classes.json and metadata.json: what is read and what is refused."""

import json
import sys
import time
from pathlib import Path

import pytest

from qupath_bridge.errors import ProjectError
from qupath_bridge.frozen import FrozenDict
from qupath_bridge.model import ClassInfo, PixelSize
from qupath_bridge.qupath.files import qpproj
from qupath_bridge.qupath.files.builders import image_metadata, rotated_builder, uri_builder
from qupath_bridge.qupath.files.finding import find_project_file
from qupath_bridge.qupath.files.qpproj import read_project
from qupath_bridge.regular_files import MAX_RECORD_BYTES

BUILDER = uri_builder(
    "file:/s/My%20slide.svs",
    image_metadata(
        "My slide.svs",
        400,
        300,
        pixel_size=(0.25, 0.2502),
        levels=[(1, 400, 300), (4, 100, 75)],
        magnification=40,
        size_z=3,
        size_t=2,
    ),
)


def entry(entry_id=1, **keys):
    return {"serverBuilder": BUILDER, "entryID": entry_id, "imageName": "A.svs", **keys}


def project(*entries, **keys):
    head = {"version": "0.7.0", "createTimestamp": 1, "modifyTimestamp": 1, "lastID": 9}
    return {**head, **keys, "images": list(entries)}


@pytest.fixture
def write(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(qpproj, "_PAUSES", (0.001, 0.001))

    def write(value, name="project.qpproj"):
        path = tmp_path / "study" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_project_entry_has_all_values(write):
    path = write(
        project(
            entry(
                7,
                imageName="Gewebe ä 组",
                randomizedName="never shown",
                description="line 1\nline 2",
                metadata={"patient": "P1", "number": 5},
                tags=["a", "b c"],
                unknown={"x": 1},
            ),
            uri="file:/old/study/project.qpproj",
            unknown=[1],
        )
    )
    file = read_project(path)
    assert file.problems == ()
    assert file.info.path == path
    assert file.info.name == "study"
    assert (file.info.version, file.info.uri) == ("0.7.0", "file:/old/study/project.qpproj")
    (slide,) = file.slides
    assert slide.project is file.info
    assert (slide.entry_id, slide.name) == ("7", "Gewebe ä 组")
    assert slide.description == "line 1\nline 2"
    assert slide.metadata == {"patient": "P1", "number": "5"}
    assert slide.tags == ("a", "b c")
    assert slide.uri == "file:/s/My%20slide.svs"
    assert slide.path is None
    assert (slide.width, slide.height) == (400, 300)
    assert (slide.size_z, slide.size_t) == (3, 2)
    assert slide.pixel_size == PixelSize(0.25, 0.2502, "project")
    assert slide.magnification == 40.0
    assert slide.levels == ((1.0, 400, 300), (4.0, 100, 75))
    assert slide.channels == ("Red", "Green", "Blue")
    assert (slide.pixel_type, slide.is_rgb) == ("UINT8", True)


def test_project_metadata_of_the_outermost_builder_counts(write):
    (slide,) = read_project(
        write(project(entry(serverBuilder=rotated_builder(BUILDER, 90))))
    ).slides
    assert (slide.width, slide.height) == (300, 400)
    assert slide.pixel_size == PixelSize(0.2502, 0.25, "project")
    assert slide.uri == "file:/s/My%20slide.svs"


def test_project_wrappers_without_metadata_have_no_size(write):
    wrapped = {"builderType": "rotated", "builder": BUILDER, "rotation": "ROTATE_90"}
    (slide,) = read_project(write(project(entry(serverBuilder=wrapped)))).slides
    assert slide.width is None and slide.height is None
    assert slide.pixel_size is None
    assert (slide.size_z, slide.size_t, slide.levels, slide.channels) == (1, 1, (), ())
    assert slide.uri == "file:/s/My%20slide.svs"


def test_server_builder_is_unchanged_and_read_only(write):
    (slide,) = read_project(write(project(entry(serverBuilder={**BUILDER, "args": ["-x"]})))).slides
    builder = slide.builder.json
    assert builder["args"] == ("-x",)
    with pytest.raises(TypeError):
        builder["uri"] = "x"
    with pytest.raises(TypeError):
        builder["metadata"]["pixelCalibration"]["pixelWidth"]["value"] = 1
    assert isinstance(builder["metadata"]["levels"][0], FrozenDict)


@pytest.mark.parametrize(
    ("entry_keys", "name"),
    [
        ({"imageName": "x"}, "x"),
        ({"imageName": None}, "My slide.svs"),
        ({"imageName": ""}, "My slide.svs"),
        ({"imageName": "", "serverBuilder": uri_builder("file:/s/b%20c.svs")}, "b c.svs"),
        ({"imageName": "", "serverBuilder": None}, "image 1"),
    ],
)
def test_image_name(write, entry_keys, name):
    (slide,) = read_project(write(project(entry(**entry_keys)))).slides
    assert slide.name == name


def calibrated(x, y):
    metadata = json.loads(json.dumps(BUILDER["metadata"]))
    metadata["pixelCalibration"].update(pixelWidth=x, pixelHeight=y)
    return {**BUILDER, "metadata": metadata}


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        ({"value": 0.5, "unit": "µm"}, {"value": 0.4, "unit": "um"}, (0.5, 0.4)),
        ({"value": 1, "unit": "\u03bcm"}, {"value": 1.0, "unit": "µm"}, (1.0, 1.0)),
        ({"value": 0.5, "unit": "px"}, {"value": 0.5, "unit": "px"}, None),
        ({"value": 0.5, "unit": "µm"}, {"value": 0.5, "unit": "px"}, None),
        ({"value": 0.0, "unit": "µm"}, {"value": 0.5, "unit": "µm"}, None),
        ({"value": float("nan"), "unit": "µm"}, {"value": 0.5, "unit": "µm"}, None),
        ({"value": float("inf"), "unit": "µm"}, {"value": 0.5, "unit": "µm"}, None),
        ({"unit": "µm"}, {"value": 0.5, "unit": "µm"}, None),
        ({"value": 0.5}, {"value": 0.5, "unit": "µm"}, None),
    ],
)
def test_project_pixel_size(write, x, y, expected):
    (slide,) = read_project(write(project(entry(serverBuilder=calibrated(x, y))))).slides
    assert slide.pixel_size == (expected and PixelSize(*expected, "project"))


def test_project_pixel_size_without_calibration(write):
    metadata = {key: v for key, v in BUILDER["metadata"].items() if key != "pixelCalibration"}
    (slide,) = read_project(
        write(project(entry(serverBuilder={**BUILDER, "metadata": metadata})))
    ).slides
    assert slide.pixel_size is None
    assert slide.width == 400


def test_project_json_with_bare_nan_is_accepted(write):
    text = json.dumps(project(entry())).replace('"magnification": 40.0', '"magnification": NaN')
    assert "NaN" in text
    (slide,) = read_project(write(text)).slides
    assert slide.magnification is None


def test_project_classes(write):
    path = write(project())
    assert read_project(path).info.classes == ()
    write(
        {
            "pathClasses": [
                {"name": "Tumor", "color": -3670016},
                {"name": "Tumor:Positive"},
                {"name": "Region*", "color": None},
                {"name": "Unclassified", "color": 1},
                {"name": "Tumor", "color": 5},
            ]
        },
        "classifiers/classes.json",
    )
    assert read_project(path).info.classes == (
        ClassInfo("Tumor", 5),  # the last one sets it, as in QuPath
        ClassInfo("Tumor: Positive", None),
        ClassInfo("Region*", None),
    )


def test_project_metadata(write):
    path = write(project())
    assert read_project(path).info.metadata == {}
    write({"site": "Lübeck"}, "data/metadata.json")
    assert read_project(path).info.metadata == {"site": "Lübeck"}
    for bad in ("[1]", "{"):
        write(bad, "data/metadata.json")
        file = read_project(path)
        assert file.info.metadata == {}
        assert "metadata.json" in file.problems[0]


@pytest.mark.parametrize(
    ("version", "known"),
    [
        *((version, True) for version in ("0.2.3", "0.7.0", "0.5.1-SNAPSHOT", "v0.3.2")),
        *((version, False) for version in ("0.8.0", "1.0.0", "0.1.2", "nightly", None)),
    ],
)
def test_project_versions_that_are_not_tested_are_reported(write, version, known):
    file = read_project(write(project(version=version)))
    assert (file.problems == ()) is known
    if not known:
        assert "0.2.3 to 0.7.0 are tested" in file.problems[0]


REFUSED = {
    "no object": ([1], "the file"),
    "no QuPath project": ({"images": []}, 'expected a key "version"'),
    "milestone": (project(version="v0.2.0-m2"), "v0.2.0-m2"),
    "images no list": ({**project(), "images": {}}, "images: "),
    "entry no object": (project(5), "images[0]: "),
    "id missing": (project({"imageName": "x"}), "images[0].entryID: "),
    "id a path": (project(entry("../../x")), "images[0].entryID: "),
    "id a text": (project(entry("1")), "images[0].entryID: "),
    "id a fraction": (project(entry(1.5)), "images[0].entryID: "),
    "id a truth": (project(entry(True)), "images[0].entryID: "),
    "id twice": (project(entry(3), entry(4), entry(3)), "same entryID: 3"),
    "name a list": (project(entry(imageName=["x"])), "images[0].imageName: "),
    "metadata nested": (project(entry(metadata={"a": {}})), "images[0].metadata.a: "),
    "tags no list": (project(entry(tags="x")), "images[0].tags: "),
    "builder a text": (project(entry(serverBuilder="x")), "images[0].serverBuilder: "),
    "builder without type": (
        project(entry(), entry(2, serverBuilder={"uri": "file:/x"})),
        "images[1].serverBuilder.builderType: ",
    ),
    "width a text": (
        project(entry(serverBuilder={**BUILDER, "metadata": {"width": "4", "height": 3}})),
        "images[0].serverBuilder.metadata.width: ",
    ),
    "width zero": (
        project(entry(serverBuilder={**BUILDER, "metadata": {"width": 0, "height": 3}})),
        "images[0].serverBuilder.metadata.width: ",
    ),
    "level without size": (
        project(
            entry(
                serverBuilder={
                    **BUILDER,
                    "metadata": {"width": 1, "height": 3, "levels": [{"downsample": 1.0}]},
                }
            )
        ),
        "images[0].serverBuilder.metadata.levels[0].width: ",
    ),
    "broken": ('{"version": "0.7.0", "images": [', "cannot be read as JSON"),
    "empty": ("", "cannot be read as JSON"),
    "a number of 5,000 digits": ('{"lastID": ' + "1" * 5000 + "}", "cannot be read as JSON"),
}


@pytest.mark.parametrize(("value", "place"), REFUSED.values(), ids=REFUSED)
def test_project_errors_name_file_and_place(write, value, place):
    path = write(value)
    with pytest.raises(ProjectError) as caught:
        read_project(path)
    assert place in caught.value.message
    assert caught.value.path == path
    assert str(path) in str(caught.value)


def test_project_errors_count_further_faults(write):
    with pytest.raises(ProjectError, match=r"images\[0\]\.entryID.*\(and 1 more\)"):
        read_project(write(project({"imageName": []})))


@pytest.mark.parametrize("levels", [70, 3000, 100_000])
def test_project_json_nested_too_deeply_is_refused(write, levels):
    builder = '{"builderType":"rotated","builder":' * levels + "{}" + "}" * levels
    text = json.dumps(project(entry(serverBuilder="HERE"))).replace('"HERE"', builder)
    with pytest.raises(ProjectError, match="nested"):
        read_project(write(text))


def test_project_json_that_is_not_utf8_is_refused(write):
    path = write("")
    path.write_bytes(b'{"version": "\xff"}')
    with pytest.raises(ProjectError, match="cannot be read as JSON"):
        read_project(path)


def test_project_json_that_is_too_large_is_refused(write):
    path = write(project())
    with path.open("r+b") as file:
        file.truncate(MAX_RECORD_BYTES + 1)  # sparse: no disk is filled
    with pytest.raises(ProjectError, match=f"more than {MAX_RECORD_BYTES}"):
        read_project(path)


def test_project_json_with_a_byte_order_mark_is_read(write):
    path = write(project(entry()))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_project(path).slides) == 1


def test_project_file_being_written_is_read_when_complete(write, monkeypatch):
    path = write(json.dumps(project(entry()))[:-20])
    whole = json.dumps(project(entry()))
    monkeypatch.setattr(time, "sleep", lambda _: path.write_text(whole, encoding="utf-8"))
    assert len(read_project(path).slides) == 1


def test_project_file_is_awaited_while_only_the_backup_exists(write, monkeypatch):
    path = write(project(entry()))
    backup = path.with_name("project.qpproj.backup")
    path.rename(backup)
    with pytest.raises(ProjectError, match=r"no such file") as caught:
        read_project(path)
    assert str(backup) in (caught.value.hint or "")
    monkeypatch.setattr(time, "sleep", lambda _: write(project(entry())))
    assert len(read_project(path).slides) == 1


def test_missing_project_file_is_reported_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("waited"))
    with pytest.raises(ProjectError, match="no such file"):
        read_project(tmp_path / "project.qpproj")


@pytest.mark.parametrize("name", ["nonexist", "project.qpproj", "a/b.svs"])
def test_place_where_nothing_is_is_told_as_such(tmp_path, name):
    place = tmp_path / name
    with pytest.raises(ProjectError) as caught:
        find_project_file(place)
    assert caught.value.message == f"{place}: no such file or folder."
    assert "a .qpproj file, a slide, a table of slides" in caught.value.hint


def test_project_file_that_qupath_is_saving_is_found(write):
    path = write(project())
    path.rename(path.with_name(f"{path.name}.backup"))
    assert find_project_file(path) == path


def test_find_project_file(tmp_path, write):
    with pytest.raises(ProjectError, match="no project file"):
        find_project_file(tmp_path)
    one = write(project())
    assert find_project_file(one) == one
    assert find_project_file(one.parent) == one
    write(project(), "part.qpproj")
    with pytest.raises(ProjectError, match=r"2 project files.*part\.qpproj, project\.qpproj"):
        find_project_file(one.parent)
    assert read_project(one.with_name("part.qpproj")).info.name == "part"


def calls_to_read(path):
    """Return how many functions a reading calls, which no other work on the machine changes."""
    calls = 0

    def count(coordinates, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        read_project(path)
    finally:
        sys.setprofile(before)
    return calls


def test_project_reading_time_is_linear_in_entries(write):
    entries = [entry(n, serverBuilder=rotated_builder(BUILDER, 90)) for n in range(1, 1001)]
    some = write(project(*entries[:100]), "some.qpproj")
    every = write(project(*entries), "every.qpproj")
    calls_to_read(some)  # fills caches
    assert calls_to_read(every) < 11 * calls_to_read(some)
    assert len(read_project(every).slides) == 1000
