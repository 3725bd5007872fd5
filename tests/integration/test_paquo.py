"""The engine of QuPath's own classes: its child process, and that both engines say the same."""

import gc
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import shapely

from qupath_bridge.errors import MissingDataError, MissingDependencyError, OutputError, ProjectError
from qupath_bridge.model import Box, ImageData, ObjectType, Plane
from qupath_bridge.qupath.editing import Editor
from qupath_bridge.qupath.geojson.tiles import Tile
from qupath_bridge.qupath.jvm.process import Child, EngineDiedError, probe, start
from qupath_bridge.roundtrip.comparing import differences, take_inventory, tile_hashes
from qupath_bridge.sources import paquo as paquo_engine
from qupath_bridge.sources.embedded import EmbeddedSource
from qupath_bridge.sources.paquo import HEAP_VARIABLE, PaquoSource
from qupath_bridge.testing.contracts.source import CLASSES, images
from qupath_bridge.testing.projects import Image, Region, build_project, tree_hashes

ROOT = Path(__file__).parents[2]
PROJECTS = sorted(
    path.parent
    for folder in (
        "tests/data/channels",
        "tests/data/qupath-samples",
        "tests/data/qupath-truth",
        "example_projects",
    )
    for path in (ROOT / folder).rglob("*.qpproj")
)


# --- the two lists of images ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, []),
        ({"tags": None}, []),  # QuPath < 0.6 knows none
        ({"tags": []}, ["Slide 1 (a): its tags is [] for QuPath."]),
        ({"metadata": {}}, ["Slide 1 (a): its metadata is {} for QuPath."]),
        ({"id": "2"}, ["alone", "alone"]),
    ],
)
def test_what_qupath_sees_otherwise(change, said):
    slide = SimpleNamespace(
        entry_id="1", name="a", description=None, metadata={"k": "v"}, tags=("seen",)
    )
    seen = {"id": "1", "description": "", "metadata": {"k": "v"}, "tags": ["seen"], **change}
    found = list(paquo_engine._disagreements(SimpleNamespace(slides=[slide]), [seen]))
    assert [text in told for text, told in zip(said, found, strict=True)] == [True] * len(said)


# --- the child, with programs that stand for it -------------------------------------------------


def stand_in(code):
    return (sys.executable, "-c", code)


def started(code, **options):
    return start(SimpleNamespace(folder=Path("/no/QuPath")), command=stand_in(code), **options)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys; sys.stderr.write('first\\nno Java here\\n'); sys.exit(3)",
         r"exit status 3; its last line of output was 'no Java here'"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", r"signal 11 \(SIGSEGV\)"),
        ("print('[main] INFO not a message', flush=True); input()", r"ended with exit status"),
        ("import sys; sys.stdout.buffer.write(b'\\0\\0\\0\\x09'); sys.exit(0)", "exit status 0"),
    ],
)  # fmt: skip
def test_a_child_that_ends_at_once(code, said):
    with pytest.raises(MissingDependencyError, match=said) as caught:
        started(code)
    assert str(Path("/no/QuPath")) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_child_that_says_nothing():
    begin = time.monotonic()
    with pytest.raises(MissingDependencyError, match=r"did not answer within 0.3 s"):
        started("import time; time.sleep(60)", start_timeout=0.3)
    assert time.monotonic() - begin < 5


def test_a_program_that_is_none(tmp_path):
    with pytest.raises(MissingDependencyError, match="could not be started"):
        start(SimpleNamespace(folder=tmp_path), command=(str(tmp_path / "nothing"),))


def test_a_folder_without_a_qupath(tmp_path):
    with pytest.raises(MissingDependencyError, match="Java does not start"):
        probe(SimpleNamespace(folder=tmp_path))


def test_a_child_is_given_back():
    child = Child(stand_in("import sys; sys.stdin.read()"), dict(os.environ), 5)
    pid = child.pid
    assert child.usable
    del child
    gc.collect()
    assert is_gone(pid)


def is_gone(pid):
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


# --- the child with Java ------------------------------------------------------------------------


@pytest.mark.qupath
def test_what_a_probe_says(installation):
    told = probe(installation.installation)
    assert told.qupath == installation.installation.version
    assert all(getattr(told, field.name) for field in fields(told))


@pytest.fixture
def engine(installation):
    engine = PaquoSource(installation.installation)
    yield engine
    engine.close()


@pytest.fixture
def project(tmp_path):
    slide = tmp_path / "slides" / "A slide ä.tiff"
    slide.parent.mkdir()
    slide.write_bytes(b"no pixels")
    return build_project(tmp_path / "project é", images(slide), CLASSES)


def the_child(project):
    return project._close.__self__._child


@pytest.mark.qupath
def test_closing_a_project_ends_its_child(engine, project):
    with engine.open(project) as opened:
        assert opened.qupath_version == engine.installation.version
        pid = the_child(opened).pid
        assert not is_gone_now(pid)
    assert is_gone(pid)
    with pytest.raises(ProjectError, match="is closed"):
        opened.slides[0].read()


def is_gone_now(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.qupath
def test_a_child_that_is_killed(engine, project):
    with engine.open(project) as opened:
        once = opened.slides[0].read()
        child = the_child(opened)
        os.kill(child.pid, signal.SIGSTOP)  # so that it is killed while it reads
        threading.Timer(0.5, os.kill, (child.pid, signal.SIGKILL)).start()
        with pytest.raises(EngineDiedError, match=r"signal 9 .*slide 3.*engine embedded") as got:
            opened.slides[0].read()
        assert got.value.path == project.parent / "data" / "3" / "data.qpdata"
        assert opened.slides[0].read() == once  # a new child
        assert the_child(opened).pid != child.pid


@pytest.mark.qupath
def test_a_child_that_hangs(installation, project):
    with PaquoSource(installation.installation, timeout=10).open(project) as opened:
        child = the_child(opened)
        child.timeout = 0.5
        os.kill(child.pid, signal.SIGSTOP)
        with pytest.raises(EngineDiedError, match="did not answer within 0.5 s"):
            opened.slides[0].read()
        assert is_gone(child.pid)


@pytest.mark.qupath
def test_the_child_dies_with_its_parent(installation, project):
    code = (
        "import os, sys\nfrom qupath_bridge.sources.paquo import PaquoSource\n"
        "from qupath_bridge.qupath.jvm.installation import find_qupath\n"
        "engine = PaquoSource(find_qupath({'QUPATH_BRIDGE_QUPATH': sys.argv[1]}))\n"
        "opened = engine.open(sys.argv[2])\n"
        "print(opened._close.__self__._child.pid, flush=True)\nos.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(installation.installation.folder), str(project)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert is_gone(int(done.stdout))


@pytest.mark.qupath
def test_little_memory_is_one_error(installation, tmp_path, monkeypatch):
    cells = [
        Region(None, shapely.box(i, 0, i + 9, 9), object_type=ObjectType.CELL,
               measurements={f"m{k}": k for k in range(30)})
        for i in range(20_000)
    ]  # fmt: skip
    path = build_project(tmp_path / "p", [Image("a.svs", cells, size=(30_000, 10))])
    monkeypatch.setenv(HEAP_VARIABLE, "16m")
    opened = PaquoSource(installation.installation).open(path)
    with opened, pytest.raises(ProjectError, match="slide 1"):
        opened.slides[0].read(detections=True)


# --- the same as the embedded engine ------------------------------------------------------------


def comparable(image):
    """NaN differs from itself; a word does not."""
    if isinstance(image, ProjectError):
        return str(type(image))
    objects = tuple(
        replace(
            each,
            measurements={
                name: "NaN" if math.isnan(value) else value
                for name, value in each.measurements.items()
            },
        )
        for each in image.objects
    )
    return replace(image, objects=objects)


@pytest.fixture(params=PROJECTS, ids=lambda path: str(path.relative_to(ROOT)))
def where(request, installation):
    """The folder of a project that this QuPath opens."""
    older = tuple(map(int, installation.version.split(".")[:2])) < (0, 6)
    if older and "channels" in request.param.parts:
        pytest.skip("QuPath >= 0.6 is needed: older ones do not know the step typeConvert")
    return request.param


@pytest.mark.qupath
def test_all_is_read_alike(engine, where, tmp_path):
    folder = shutil.copytree(where, tmp_path / "project")
    before = tree_hashes(folder)
    ours = EmbeddedSource().open(folder)
    with engine.open(folder) as theirs:
        assert theirs.info == ours.info
        assert theirs.slides == ours.slides
        assert theirs.problems == ours.problems
        for mine, other in zip(ours.slides, theirs.slides, strict=True):
            for detections in (False, True):
                wanted = mine.read(detections=detections)
                assert comparable(other.read(detections=detections)) == comparable(wanted)
    assert tree_hashes(folder) == before


@pytest.mark.qupath
def test_class_names_and_missing_data_are_read_alike(engine, tmp_path):
    names = ["Tumeur\N{NO-BREAK SPACE}", "Tumeur", "\N{FIGURE SPACE}x: y\N{NEXT LINE}"]
    image = Image("a.svs", [(name, shapely.box(0, 0, 9, 9)) for name in names], size=(20, 10))
    path = build_project(tmp_path / "study", [image, image], names)
    # A name with spaces around, as QuPath < 0.3 kept it: equally long, so that it fits.
    data = path.parent / "data/1/data.qpdata"
    raw = data.read_bytes()
    assert raw.count(b"\0\x06Tumeur") == 1
    data.write_bytes(raw.replace(b"\0\x06Tumeur", b"\0\x06 Tume "))
    shutil.rmtree(path.parent / "data/2")
    for source in (engine, EmbeddedSource()):
        with source.open(path) as opened:
            read = [each.class_path for each in opened["1"].read().annotations]
            assert read == [names[0], "Tume", names[2]]
            assert [each.path for each in opened.info.classes] == names
            with pytest.raises(MissingDataError, match="Copy the folder data/2"):
                opened["2"].read()


@pytest.mark.qupath
def test_classes_of_one_image_keep_their_colours(engine, tmp_path):
    """Though QuPath has one colour for a class in all images that it has open."""
    path = build_project(
        tmp_path / "p",
        [
            Image("a.svs", [("Tumor", shapely.box(0, 0, 9, 9))], size=(10, 10)),
            Image("b.svs", [("Tumor", shapely.box(0, 0, 9, 9))], size=(10, 10)),
        ],
        ["Tumor"],
    )
    data = path.parent / "data" / "2" / "data.qpdata"
    content = data.read_bytes()
    red = (-3670016 + (1 << 32)).to_bytes(4, "big")  # the colour of Tumor
    assert content.count(red) == 1
    data.write_bytes(content.replace(red, (0xFF0000FF).to_bytes(4, "big")))
    os.utime(data, (1, 1))
    with engine.open(path) as project:
        colors = [slide.read().annotations[0].class_color for slide in project.slides]
    assert colors == [-3670016, 0xFF0000FF - (1 << 32)]


@pytest.mark.qupath
def test_a_project_without_classifiers_is_left_as_it_is(engine, project):
    """QuPath would make the folder."""
    shutil.rmtree(project.parent / "classifiers")
    with engine.open(project) as opened:
        assert len(opened.slides) == 5
    assert not (project.parent / "classifiers").exists()


@pytest.mark.qupath
def test_a_project_that_qupath_refuses(engine, project):
    text = project.read_text("utf-8").replace('"createTimestamp"', '"createdAt"')
    project.write_text(text, "utf-8")
    EmbeddedSource().open(project)
    with pytest.raises(ProjectError, match="QuPath cannot read it") as caught:
        engine.open(project)
    assert caught.value.path == project


@pytest.mark.qupath
@pytest.mark.parametrize("part", [0, 0.3, 0.6, 0.999])
def test_a_file_that_is_cut_off(engine, project, part):
    data = project.parent / "data" / "3" / "data.qpdata"
    content = data.read_bytes()
    data.write_bytes(content[: int(part * len(content))])
    begin = time.monotonic()
    with engine.open(project) as opened:
        with pytest.raises(ProjectError, match=r"QuPath cannot read it \(slide 3\)") as caught:
            opened.slides[0].read()
        assert caught.value.path == data
        assert len(opened.slides[1].read().objects) == 1  # the same child goes on
    assert time.monotonic() - begin < 20


@pytest.mark.qupath
def test_only_the_end_mark_is_missing(engine, project):
    data = project.parent / "data" / "7" / "data.qpdata"
    data.write_bytes(data.read_bytes().removesuffix(b"t\0\3EOF"))
    ours = EmbeddedSource().open(project).slides[1].read()
    assert any("end mark" in problem for problem in ours.problems)
    with engine.open(project) as opened:
        assert opened.slides[1].read() == ours


@pytest.mark.qupath
def test_a_backup_in_the_place_of_a_file(engine, project):
    data = project.parent / "data" / "7" / "data.qpdata"
    data.rename(data.with_name("data.qpdata.bkp"))
    ours = EmbeddedSource().open(project).slides[1].read()
    assert ours.problems
    with engine.open(project) as opened:
        assert opened.slides[1].read() == ours


@pytest.mark.qupath
def test_fewer_annotations_than_counted(engine, project):
    one, other = (project.parent / "data" / number / "data.qpdata" for number in "37")
    summary = one.with_name("summary.json")
    text = summary.read_text().replace('"Annotations": 10', '"Annotations": 11')
    text = text.replace('"Annotations":10', '"Annotations":11')
    summary.write_text(text)
    for each in (EmbeddedSource(), engine):
        with each.open(project) as opened, pytest.raises(ProjectError, match="saved 11"):
            opened.slides[0].read()
    assert other.exists()


@pytest.mark.qupath
def test_a_file_that_changes_while_it_is_read(engine, project, monkeypatch):
    digests = iter(range(100))
    monkeypatch.setattr(paquo_engine, "file_digest", lambda path: f"{next(digests)}")
    with engine.open(project) as opened, pytest.raises(ProjectError, match="was changed while"):
        opened.slides[0].read()


# --- writing ------------------------------------------------------------------------------------


def tiles(count=4):
    return [
        Tile(
            str(uuid.UUID(int=i + 1)),
            Box(i, 5, 256, 128),
            Plane(i % 2, 0),
            f"tile é {i}",
            "Tumor: X" if i % 2 else None,
            (1, 2, 3) if i % 2 else None,
            {"a": 0.01, "NaN is left out": math.nan, "b": 1e300} if i else {},
            {"key": "é 中"} if i else {},
        )
        for i in range(count)
    ]


def kept(each):
    """Those measurements that are stored."""
    numbers = {name: v for name, v in each.measurements.items() if math.isfinite(v)}
    return each._replace(measurements=numbers)


@pytest.mark.qupath
def test_it_is_an_editor(engine):
    assert isinstance(engine, Editor)


@pytest.mark.qupath
def test_nothing_but_tiles_changes(engine, where, tmp_path):
    folder = shutil.copytree(where, tmp_path / "project")
    for slide in EmbeddedSource().open(folder).slides:
        source = folder / "data" / slide.entry_id / "data.qpdata"
        source = source if source.exists() else None
        before = slide.read(detections=True)
        if source is None:
            before = ImageData(image_type="UNSET")
        there = tree_hashes(folder)
        gone = [o.id for o in before.objects if o.object_type is ObjectType.TILE]
        others = [o.id for o in before.objects if o.object_type is not ObjectType.TILE]
        target = tmp_path / f"new {slide.entry_id} é.qpdata"
        engine.edit(source, target, slide=slide, remove=gone + others[:1], add=tiles())
        assert tree_hashes(folder) == there
        for reader in (EmbeddedSource(), engine):
            after = reader.read_file(target, entry_id=slide.entry_id)
            found = differences(
                take_inventory(before), take_inventory(after), removed=gone,
                added=tile_hashes(kept(each) for each in tiles()),
            )  # fmt: skip
            assert not list(found), reader.name
            assert after.qupath_version == engine.installation.version
        colours = {o.class_path: o.class_color for o in before.objects}
        assert all(
            o.class_color == colours[o.class_path] for o in after.objects if o.id in set(others)
        )


@pytest.mark.qupath
def test_what_lies_below_a_removed_tile_moves_up(engine, tmp_path):
    box = shapely.box(0, 0, 9, 9)
    path = build_project(
        tmp_path / "p",
        [
            Image(
                "gone.svs",
                [
                    Region("A", box),
                    Region(None, box, object_type=ObjectType.TILE, parent=0),
                    Region(None, box, object_type=ObjectType.TILE, parent=1),
                    Region("B", box, parent=2),
                    Region("C", box, parent=0),
                    Region(None, box, object_type=ObjectType.TILE),
                    Region("D", box, parent=5),
                    Region("E", box),
                ],
                size=(10, 10),
            )
        ],
    )
    (slide,) = EmbeddedSource().open(path).slides
    before = slide.read(detections=True)
    gone = [o.id for o in before.objects if o.object_type is ObjectType.TILE]
    target = tmp_path / "new.qpdata"
    engine.edit(path.parent / "data/1/data.qpdata", target, slide=slide, remove=gone)
    after = engine.read_file(target, entry_id="1")
    shown = [(o.class_path, o.parent) for o in after.objects]
    assert shown == [("A", -1), ("B", 0), ("C", 0), ("D", -1), ("E", -1)]


@pytest.mark.qupath
def test_the_server_is_kept_word_for_word(engine, project, tmp_path):
    slide = EmbeddedSource().open(project)["7"]
    source, target = project.parent / "data/7/data.qpdata", tmp_path / "new.qpdata"
    engine.edit(source, target, slide=slide, add=tiles())

    def server(path):
        content = path.read_bytes()
        start = content.index(b'{"')
        length = int.from_bytes(content[start - 2 : start], "big")
        return content[start : start + length].partition(b'"server":')[2]

    assert server(source)[:500] == server(target)[:500]


@pytest.mark.qupath
def test_a_target_that_cannot_be(engine, project, tmp_path):
    slide = EmbeddedSource().open(project)["7"]
    source, target = project.parent / "data/7/data.qpdata", tmp_path / "new.qpdata"
    with pytest.raises(OutputError, match="cannot be written"):
        engine.edit(source, tmp_path / "no folder" / "x.qpdata", slide=slide)
    target.write_bytes(b"mine")
    with pytest.raises(OutputError, match="cannot be written"):
        engine.edit(source, target, slide=slide)
    assert target.read_bytes() == b"mine"


@pytest.mark.qupath
def test_a_failure_leaves_no_file(engine, project, tmp_path):
    slide = EmbeddedSource().open(project)["7"]
    target = tmp_path / "new.qpdata"
    bad = tiles(1)[0]._replace(class_path="a: ")
    with pytest.raises(OutputError, match="QuPath cannot write it"):
        engine.edit(None, target, slide=slide, add=[bad])
    assert not target.exists()
    engine.edit(None, target, slide=slide, add=tiles(1))
    assert target.exists()
