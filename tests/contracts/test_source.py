"""The sources that ship, held by one contract; and how one is chosen."""

import builtins
import gc
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import shapely

from qupath_bridge import registry
from qupath_bridge.errors import (
    MissingDataError,
    MissingDependencyError,
    ProjectError,
    UsageError,
)
from qupath_bridge.model import PixelSize
from qupath_bridge.qupath.jvm.installation import Candidate, Installation
from qupath_bridge.sources import entries, get_source, open_project, open_source
from qupath_bridge.sources.auto import AutoSource
from qupath_bridge.sources.base import Source
from qupath_bridge.sources.embedded import EmbeddedSource
from qupath_bridge.sources.entries import read_entry
from qupath_bridge.sources.memory import MemorySource, memory_project, memory_slide
from qupath_bridge.testing.contracts.source import ProjectFileContract, SourceContract
from qupath_bridge.testing.projects import Image, build_memory_project, build_project


class TestEmbedded(ProjectFileContract):
    def make(self, folder, images, classes):
        return EmbeddedSource(), build_project(folder, images, classes)


class TestAuto(ProjectFileContract):
    """Without a QuPath: it reads as the source embedded does."""

    def make(self, folder, images, classes):
        return _Auto(), build_project(folder, images, classes)


class _Auto(AutoSource):
    name = "embedded"  # what the project says of who read it


class TestAutoWithPaquo(ProjectFileContract):
    """With a stand-in for the source paquo: what joins the two readers is a value too."""

    def make(self, folder, images, classes):
        source = AutoSource(candidates=[FOUND], paquo=lambda found: _StandIn())
        source.name = "embedded"
        return source, build_project(folder, images, classes)


class _StandIn(EmbeddedSource):
    pass


FOUND = Candidate("usual place", Path("/q"), Installation(Path("/q"), Path("/q/lib/app")))


class TestMemory(SourceContract):
    def make(self, folder, images, classes):
        self.kept = build_memory_project(images, classes, path=folder / "project.qpproj")
        return MemorySource(), self.kept.ref.location


# --- choosing -------------------------------------------------------------------------------


def test_names_of_sources():
    assert set(registry.names("source")) >= {"auto", "embedded", "paquo", "memory"}
    for name in ("auto", "embedded", "memory"):
        assert get_source(name).name == name
        assert isinstance(get_source(name, "/no/qupath"), Source)


def test_paquo_needs_a_qupath(tmp_path):
    with pytest.raises(MissingDependencyError, match="no QuPath is found"):
        open_project(tmp_path, engine="paquo")


def test_an_unknown_source():
    with pytest.raises(UsageError, match=r"No source is called 'x'.*embedded, paquo"):
        get_source("x")


def test_registered_source_is_used(tmp_path, monkeypatch):
    made = []

    class Own(EmbeddedSource):
        name = "own"

        def __init__(self, *, qupath=None):
            made.append(qupath)

    monkeypatch.setattr(registry, "_registered", {})
    registry.register("source", "own", Own)
    path = build_project(tmp_path / "study", [Image("a.svs", size=(20, 10))])
    project = open_project(path, engine="own", qupath="/some/where")
    assert (project.engine, made) == ("own", ["/some/where"])
    assert open_source(project.ref) == project


# --- projects in memory ---------------------------------------------------------------------


def elsewhere(code, value):
    """Run code in a process of its own; it finds ``value``, pickled, on its standard input."""
    start = "import pickle, sys\nvalue = pickle.load(sys.stdin.buffer)\n"
    done = subprocess.run(
        [sys.executable, "-c", start + code],
        input=pickle.dumps(value), capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


OPEN = """
from qupath_bridge.errors import UsageError
from qupath_bridge.sources import open_source
try:
    open_source(value)
except UsageError as error:
    print(error)
"""


def test_memory_project_cannot_be_opened_by_another_process():
    project = memory_project([memory_slide("1", "a")])
    assert open_source(project.ref) is project
    said = elsewhere(OPEN, project.ref)
    assert "this project is in memory and cannot be opened by another process" in said


@pytest.mark.parametrize("kind", ["embedded", "memory"])
def test_slide_is_read_in_another_process(tmp_path, kind):
    image = Image("a.svs", [("Tumor", shapely.box(0, 0, 9, 9))], size=(20, 10))
    project = (
        build_memory_project([image])
        if kind == "memory"
        else open_project(build_project(tmp_path / "study", [image]))
    )
    code = "print(value.name, value.project.source.engine, value.read().annotations[0].class_path)"
    assert elsewhere(code, project.slides[0]) == f"a.svs {kind} Tumor"


def test_memory_project_lives_as_long_as_its_slides():
    location = (slide := memory_project([memory_slide("1", "a")]).slides[0]).project.source.location
    gc.collect()
    assert MemorySource().open(location).slides[0] is slide
    del slide
    gc.collect()
    with pytest.raises(UsageError, match="is in memory"):
        MemorySource().open(location)


def test_two_memory_projects_have_two_locations():
    one, other = (memory_project([memory_slide("1", "a")]) for _ in range(2))
    assert one.ref.location != other.ref.location
    assert open_source(other.ref) is other


# --- lookup and display ---------------------------------------------------------------------


def test_lookup_says_when_an_id_is_also_a_name():
    project = memory_project(
        [memory_slide("1", "a"), memory_slide("2", "1"), memory_slide("3", "3")]
    )
    with pytest.raises(UsageError, match=r"'1' is the ID of the slide 'a' .*id:1 or name:1"):
        project["1"]
    assert project["id:1"].name == "a"
    assert project["name:1"].entry_id == "2"
    assert project[1].name == "a"
    assert project["3"].name == "3"
    with pytest.raises(UsageError, match="has the ID or name 'id:3x'"):
        project["id:3x"]


def test_html_of_a_project_is_a_short_table(tmp_path):
    (tmp_path / "a.svs").write_bytes(b"")
    slides = [
        memory_slide(f"{i}", f"<b>{i}</b>", path=tmp_path / "a.svs" if i else None,
                     size=(2000, 1000), pixel_size=PixelSize(0.25, 0.25, "project"))
        for i in range(23)
    ]  # fmt: skip
    html = memory_project(slides, name="<script>")._repr_html_()
    assert html.count("<tr>") == 21  # with the head
    assert "and 3 more" in html
    assert "<td>2000 × 1000</td><td>0.25</td><td>found</td>" in html
    assert "<td>not found</td>" in html
    assert "&lt;b&gt;1&lt;/b&gt;" in html
    assert "<b>" not in html and "<script>" not in html
    assert "more" not in memory_project(slides[:3])._repr_html_()


# --- slides that moved ----------------------------------------------------------------------


@pytest.fixture
def moved(tmp_path):
    """A project and its slide, each carried to another place."""
    slide = tmp_path / "old" / "slides" / "a b.svs"
    slide.parent.mkdir(parents=True)
    slide.write_bytes(b"")
    build_project(tmp_path / "old" / "study", [Image(slide, size=(20, 10))])
    return tmp_path


def opened(path, **options):
    project = open_project(path, **options)
    return project, project.slides[0]


def test_relative_to_where_the_project_was(moved):
    (moved / "old").rename(moved / "new")
    project, slide = opened(moved / "new" / "study")
    assert (slide.path, slide.path_origin) == (moved / "new/slides/a b.svs", "relative")
    assert project.problems == ()


def test_a_project_that_says_where_it_was_saved_can_be_anywhere(tmp_path):
    slide = tmp_path / "somewhere" / "a b.svs"
    slide.parent.mkdir(parents=True)
    slide.write_bytes(b"")
    folder = slide.parent / "deep" / "study"
    path = build_project(folder, [Image(slide, size=(20, 10))], stored_at="/example/deep/study")
    assert "somewhere" not in path.read_text(encoding="utf-8")
    assert opened(path)[1].path == slide
    slide.parent.rename(tmp_path / "elsewhere")
    assert opened(tmp_path / "elsewhere/deep/study")[1].path == tmp_path / "elsewhere/a b.svs"


def test_mapped_and_searched(moved):
    (moved / "old" / "slides").rename(moved / "old" / "pictures")
    project, slide = opened(moved / "old" / "study")
    assert slide.path is None
    assert slide.path_origin is None
    # Nobody may ask for this slide: the project has no problem.
    assert project.problems == ()
    assert f"as stored: {moved / 'old' / 'slides' / 'a b.svs'}" in slide.tried

    old, new = str(moved / "old" / "slides"), str(moved / "old" / "pictures")
    _, slide = opened(moved / "old" / "study", slide_map={old: new})
    assert (slide.path, slide.path_origin) == (moved / "old/pictures/a b.svs", "mapped")
    _, slide = opened(moved / "old" / "study", search=[str(moved)])
    assert (slide.path, slide.path_origin) == (moved / "old/pictures/a b.svs", "searched")

    other = moved / "other" / "a b.svs"
    other.parent.mkdir()
    other.write_bytes(b"")
    _, slide = opened(moved / "old" / "study", search=[moved])
    assert slide.path is None
    assert "found 2 files" in slide.tried[-1]


def test_a_slide_beside_the_project_file_is_found(moved):
    """As in a copied folder, whose project file names the place of the original."""
    (moved / "old/slides/a b.svs").rename(moved / "old/study/a b.svs")
    _, slide = opened(moved / "old" / "study")
    assert (slide.path, slide.path_origin) == (moved / "old/study/a b.svs", "beside")


def test_a_slide_map_wins_over_a_stored_place_that_exists(moved):
    other = moved / "mine" / "a b.svs"
    other.parent.mkdir()
    other.write_bytes(b"")
    old = str(moved / "old" / "slides")
    project, slide = opened(moved / "old/study", slide_map={old: str(other.parent)})
    assert (slide.path, slide.path_origin) == (other, "mapped")
    assert project.problems == ()


def test_a_slide_map_that_fits_no_slide_is_told(moved):
    maps = {"/no/such": "/x", str(moved): str(moved)}
    project, slide = opened(moved / "old/study", slide_map=maps)
    (problem,) = project.problems
    assert problem == (
        f"No slide of {moved / 'old/study/project.qpproj'} fits the option slide_map /no/such=/x."
    )
    assert slide.path_origin == "mapped"


@pytest.mark.parametrize("engine", ["embedded", "auto"])
def test_a_folder_to_search_that_does_not_exist_is_refused(moved, engine):
    with pytest.raises(UsageError, match="nowhere"):
        open_project(moved / "old/study", engine=engine, search=[moved / "nowhere"])


def test_an_image_without_a_file(tmp_path):
    path = build_project(tmp_path / "study", [Image("a.svs", size=(20, 10))])
    raw = json.loads(path.read_text(encoding="utf-8"))
    del raw["images"][0]["serverBuilder"]
    path.write_text(json.dumps(raw), encoding="utf-8")
    project, slide = opened(path)
    assert (slide.uri, slide.path, slide.tried) == (None, None, ())
    assert project.problems == ()


@pytest.mark.parametrize(
    ("server", "size"),
    [
        ({"width": 30, "height": 10}, (30, 10)),
        ({"width": 0, "height": 10}, (None, None)),
        ({"width": "30", "height": 10}, (None, None)),
        ({}, (None, None)),
        (None, (None, None)),
    ],
)
def test_size_of_a_saved_slide_that_the_project_lacks_is_in_its_summary(tmp_path, server, size):
    path = build_project(tmp_path / "study", [Image("a.svs", size=(20, 10))] * 2)
    raw = json.loads(path.read_text(encoding="utf-8"))
    del raw["images"][0]["serverBuilder"]["metadata"]
    path.write_text(json.dumps(raw), encoding="utf-8")
    summary = tmp_path / "study/data/1/summary.json"
    stated = json.loads(summary.read_text(encoding="utf-8"))
    assert stated["server"]["width"] == 20
    summary.write_text(json.dumps({**stated, "server": server}), encoding="utf-8")
    project, slide = opened(path)
    assert (slide.width, slide.height) == size
    assert (project["2"].width, project["2"].height) == (20, 10)


# --- what is read and when ------------------------------------------------------------------


def test_listing_a_thousand_images_opens_no_data(tmp_path, monkeypatch):
    slide = tmp_path / "a.svs"
    slide.write_bytes(b"")
    images = [Image(slide, [("Tumor", shapely.box(0, 0, 9, 9))], size=(20, 10))] * 1000
    path = build_project(tmp_path / "study", images)
    asked = []

    def watch(module):
        real = module.open

        def watched(file, *args, **kwargs):
            if not isinstance(file, int):
                asked.append(os.fspath(file))
            return real(file, *args, **kwargs)

        monkeypatch.setattr(module, "open", watched)

    for module in (os, io, builtins):  # pathlib uses that of io
        watch(module)
    project = open_project(path)
    assert len(project.slides) == 1000
    assert all(each.path == slide for each in project.slides)
    read = sorted(Path(each).relative_to(path.parent).as_posix() for each in asked)
    assert read == ["classifiers/classes.json", "data/metadata.json", "project.qpproj"]
    assert len(project.slides[999].read().annotations) == 1
    assert Path(asked[-2]).parent.name == Path(asked[-1]).parent.name == "1000"


@pytest.fixture
def entry(tmp_path, monkeypatch):
    """The folder of an entry with two annotations."""
    monkeypatch.setattr(entries, "PAUSES", (0.001,))
    regions = [("Tumor", shapely.box(0, 0, 9, 9)), (None, shapely.box(0, 0, 5, 5))]
    path = build_project(tmp_path / "study", [Image("a.svs", regions, size=(20, 10))])
    return path.parent / "data" / "1"


def test_never_saved_is_empty(entry):
    for name in ("data.qpdata", "summary.json"):
        (entry / name).unlink()
    assert read_entry(entry, "1").objects == ()


@pytest.mark.parametrize("whole", [False, True], ids=["data/1", "data"])
def test_a_folder_of_data_that_is_missing_is_never_an_empty_slide(entry, whole):
    missing = entry.parent if whole else entry
    shutil.rmtree(missing)
    with pytest.raises(MissingDataError, match="is missing") as caught:
        read_entry(entry, "1")
    assert caught.value.path == missing
    assert caught.value.whole_project is whole
    assert ("Copy the folder data from" if whole else "Copy the folder data/1 from") in str(
        caught.value
    )
    assert caught.value.__cause__ is not caught.value
    assert pickle.loads(pickle.dumps(caught.value)).whole_project is whole
    project, slide = opened(entry.parents[1])
    assert len(project.problems) == (1 if whole else 0)
    with pytest.raises(MissingDataError):
        slide.read()


def test_no_data_but_a_backup(entry):
    (entry / "data.qpdata").rename(entry / "data.qpdata.bkp")
    data = read_entry(entry, "1")
    assert len(data.annotations) == 2
    (problem,) = data.problems
    assert "is missing; QuPath's backup data.qpdata.bkp was read" in problem


def test_a_backup_beside_good_data_is_told(entry):
    assert read_entry(entry, "1").problems == ()
    (entry / "data.qpdata.bkp").write_bytes(b"")
    data = read_entry(entry, "1")
    assert len(data.annotations) == 2
    assert "QuPath is saving" in data.problems[0]


@pytest.mark.parametrize("size", [0, 3, 400, -1])
def test_unreadable_is_never_empty(entry, size):
    path = entry / "data.qpdata"
    whole = path.read_bytes()
    path.write_bytes(whole[:size])
    with pytest.raises(ProjectError) as caught:
        read_entry(entry, "1")
    assert caught.value.path == path
    assert "data.qpdata.bkp is there" not in str(caught.value)
    (entry / "data.qpdata.bkp").write_bytes(whole)
    with pytest.raises(ProjectError, match=r"data\.qpdata\.bkp is there"):
        read_entry(entry, "1")


def test_data_in_the_making_are_read_when_done(entry, monkeypatch):
    path = entry / "data.qpdata"
    whole = path.read_bytes()
    path.rename(entry / "data.qpdata.bkp")
    path.write_bytes(whole[:100])

    def finish(_):
        path.write_bytes(whole)
        (entry / "data.qpdata.bkp").unlink(missing_ok=True)

    monkeypatch.setattr(entries.time, "sleep", finish)
    data = read_entry(entry, "1")
    assert len(data.annotations) == 2
    assert data.problems == ()


def test_data_that_are_gone_though_there_were_annotations(entry):
    (entry / "data.qpdata").unlink()
    with pytest.raises(ProjectError, match=r"saved 2 annotations here, but only 0 were found"):
        read_entry(entry, "1")
    (entry / "summary.json").unlink()
    assert read_entry(entry, "1").objects == ()


def test_a_link_to_data_that_are_not_there(entry, tmp_path, link):
    link(entry / "data.qpdata", tmp_path / "elsewhere.qpdata")
    assert len(read_entry(entry, "1").annotations) == 2
    (tmp_path / "elsewhere.qpdata").unlink()
    (entry / "summary.json").unlink()
    with pytest.raises(ProjectError, match=r"a link to .*elsewhere.qpdata, which does not exist"):
        read_entry(entry, "1")


def set_count(entry, count):
    path = entry / "summary.json"
    raw = json.loads(path.read_text(encoding="utf-8"))
    raw["hierarchy"]["objectTypeCounts"]["Annotations"] = count
    path.write_text(json.dumps(raw), encoding="utf-8")


def test_fewer_annotations_than_qupath_counted(entry):
    set_count(entry, 3)
    with pytest.raises(ProjectError, match="saved 3 annotations here, but only 2 were found"):
        read_entry(entry, "1")


@pytest.mark.parametrize("count", [0, 1, 2])
def test_as_many_or_more_are_no_fault(entry, count):
    set_count(entry, count)
    assert read_entry(entry, "1").problems == ()


def test_a_count_of_another_state_of_the_file_says_nothing(entry):
    set_count(entry, 3)
    os.utime(entry / "data.qpdata")  # written by others since
    data = read_entry(entry, "1")
    assert len(data.annotations) == 2
    assert data.problems == ()


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"timestamp": 1, "hierarchy": {}}', "5"])
def test_a_broken_count_is_only_told(entry, text):
    (entry / "summary.json").write_text(text, encoding="utf-8")
    data = read_entry(entry, "1")
    assert len(data.annotations) == 2
    assert "summary.json cannot be used" in data.problems[0]


def test_memory_projects_have_what_they_are_given(tmp_path):
    slide = memory_slide("1", "a", path=tmp_path / "a.svs", size=(20, 10))
    project = memory_project([slide], name="study")
    assert project.info.name == "study"
    assert project.slides[0].uri == (tmp_path / "a.svs").as_uri()
    assert project.slides[0].builder.json["uri"] == project.slides[0].uri
    assert (project.slides[0].width, project.slides[0].height) == (20, 10)
    with pytest.raises(ProjectError, match="no project in memory"):
        MemorySource().open(Path("other"))
