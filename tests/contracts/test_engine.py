"""The engines that ship, held by one contract; and how one is chosen."""

import builtins
import io
import json
import os
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import shapely

import qupath_bridge.sources
from qupath_bridge.errors import MissingDependencyError, ProjectError, UsageError
from qupath_bridge.sources import embedded, engine_names, get_engine, open_project
from qupath_bridge.sources.embedded import EmbeddedEngine, read_entry
from qupath_bridge.sources.memory import MemoryEngine, memory_project, memory_slide
from qupath_bridge.testing.contracts.engine import EngineContract
from qupath_bridge.testing.projects import Image, build_memory_project, build_project


class TestEmbedded(EngineContract):
    def make(self, folder, images, classes):
        return EmbeddedEngine(), build_project(folder, images, classes)


class TestMemory(EngineContract):
    def make(self, folder, images, classes):
        path = folder / "project.qpproj"
        return MemoryEngine([build_memory_project(images, classes, path=path)]), path


# --- choosing -------------------------------------------------------------------------------


def test_names():
    assert engine_names() == ("auto", "embedded", "paquo")
    assert get_engine("embedded").name == "embedded"


def test_paquo_needs_a_qupath(tmp_path):
    with pytest.raises(MissingDependencyError, match="no QuPath is found"):
        open_project(tmp_path, engine="paquo")


def test_an_unknown_engine():
    with pytest.raises(UsageError, match=r"no engine 'x'.*embedded, paquo"):
        get_engine("x")


def test_other_packages_bring_engines(monkeypatch):
    def points(*, group, name=None):
        assert group == "qupath_bridge.engines"
        found = [
            EntryPoint("mine", "qupath_bridge.sources.embedded:EmbeddedEngine", group),
            EntryPoint("broken", "no_such_package:Engine", group),
        ]
        return [each for each in found if name in {None, each.name}]

    monkeypatch.setattr(qupath_bridge.sources, "entry_points", points)
    assert engine_names() == ("auto", "broken", "embedded", "mine", "paquo")
    assert isinstance(get_engine("mine"), EmbeddedEngine)
    with pytest.raises(MissingDependencyError, match="'broken' cannot be loaded"):
        get_engine("broken")


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
    (problem,) = project.problems
    assert "Image 1 (a b.svs): the slide file was not found" in problem
    assert str(moved / "old" / "slides" / "a b.svs") in problem

    old, new = str(moved / "old" / "slides"), str(moved / "old" / "pictures")
    _, slide = opened(moved / "old" / "study", slide_map={old: new})
    assert (slide.path, slide.path_origin) == (moved / "old/pictures/a b.svs", "mapped")
    _, slide = opened(moved / "old" / "study", search=[str(moved)])
    assert (slide.path, slide.path_origin) == (moved / "old/pictures/a b.svs", "searched")

    other = moved / "other" / "a b.svs"
    other.parent.mkdir()
    other.write_bytes(b"")
    project, slide = opened(moved / "old" / "study", search=[moved])
    assert slide.path is None
    assert "there are 2" in project.problems[0]


def test_an_image_without_a_file(tmp_path):
    path = build_project(tmp_path / "study", [Image("a.svs", size=(20, 10))])
    raw = json.loads(path.read_text(encoding="utf-8"))
    del raw["images"][0]["serverBuilder"]
    path.write_text(json.dumps(raw), encoding="utf-8")
    project, slide = opened(path)
    assert (slide.uri, slide.path, slide.tried) == (None, None, ())
    assert "names no file" in project.problems[0]


# --- what is read and when ------------------------------------------------------------------


def test_listing_a_thousand_images_opens_no_data(tmp_path, monkeypatch):
    slide = tmp_path / "a.svs"
    slide.write_bytes(b"")
    images = [Image(slide, [("Tumor", shapely.box(0, 0, 9, 9))], size=(20, 10))] * 1000
    path = build_project(tmp_path / "study", images)
    asked = []
    real_open = io.open

    def watched(file, *args, **kwargs):
        asked.append(os.fspath(file))
        return real_open(file, *args, **kwargs)

    monkeypatch.setattr(io, "open", watched)  # what pathlib uses
    monkeypatch.setattr(builtins, "open", watched)
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
    monkeypatch.setattr(embedded, "_PAUSES", (0.001,))
    regions = [("Tumor", shapely.box(0, 0, 9, 9)), (None, shapely.box(0, 0, 5, 5))]
    path = build_project(tmp_path / "study", [Image("a.svs", regions, size=(20, 10))])
    return path.parent / "data" / "1"


def test_never_saved_is_empty(tmp_path):
    assert read_entry(tmp_path / "none", "1").objects == ()


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

    monkeypatch.setattr(embedded.time, "sleep", finish)
    data = read_entry(entry, "1")
    assert len(data.annotations) == 2
    assert data.problems == ()


def test_data_that_are_gone_though_there_were_annotations(entry):
    (entry / "data.qpdata").unlink()
    with pytest.raises(ProjectError, match=r"saved 2 annotations here, of which 0 are there"):
        read_entry(entry, "1")
    (entry / "summary.json").unlink()
    assert read_entry(entry, "1").objects == ()


def test_a_link_to_data_that_are_not_there(entry, tmp_path, link):
    link(entry / "data.qpdata", tmp_path / "elsewhere.qpdata")
    assert len(read_entry(entry, "1").annotations) == 2
    (tmp_path / "elsewhere.qpdata").unlink()
    (entry / "summary.json").unlink()
    with pytest.raises(ProjectError, match=r"a link to .*elsewhere.qpdata, which is not there"):
        read_entry(entry, "1")


def set_count(entry, count):
    path = entry / "summary.json"
    raw = json.loads(path.read_text(encoding="utf-8"))
    raw["hierarchy"]["objectTypeCounts"]["Annotations"] = count
    path.write_text(json.dumps(raw), encoding="utf-8")


def test_fewer_annotations_than_qupath_counted(entry):
    set_count(entry, 3)
    with pytest.raises(ProjectError, match="saved 3 annotations here, of which 2 are there"):
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
        MemoryEngine([project]).open(Path("other"))
