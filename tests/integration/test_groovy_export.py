"""The script that exports from QuPath: one image, several, stopped, and with faults."""

import json
import shutil
import sys

import pytest

from qupath_bridge.cli import main
from qupath_bridge.testing.projects import Image, build_project
from qupath_bridge.testing.slides import write_slide
from tests.support.qupath_scripts import (
    CHECK,
    COLLECT,
    EXPORT,
    IMPORT,
    objects,
    result,
    results,
    rows,
    write_program,
)

# Each starts QuPath several times, on machines that may be busy.
pytestmark = [pytest.mark.qupath, pytest.mark.slow, pytest.mark.timeout(900)]

WITHOUT_SIGNALS = pytest.mark.skipif(
    sys.platform == "win32", reason="a script cannot be a program on Windows"
)

COMPARE = """
import qupath.lib.objects.PathObjects
import qupath.lib.objects.classes.PathClass
import qupath.lib.roi.ROIs
import qupath.lib.regions.ImagePlane
import static qupath.lib.gui.scripting.QPEx.*
def export = new GroovyShell(getClass().getClassLoader()).parse(new File(args[0]))
def shown = getCurrentHierarchy(), entry = getProjectEntry()
def texts = { export.texts(export.drawn(it)) }
def say = { println "${it}: ${texts(shown) == texts(entry.readHierarchy())}" }
def roi = ROIs.createRectangleROI(3, 4, 50, 60, ImagePlane.getDefaultPlane())
def first = getAnnotationObjects().find { it.getROI().isArea() && it.getPathClass() != null }
def was = first.getPathClass(), place = first.getROI()
say('opened')
shown.addObject(PathObjects.createTileObject(roi, null, null))
say('tile')
first.setPathClass(PathClass.fromString('Other'))
say('class')
first.setPathClass(was)
say('class back')
first.setROI(place.translate(0, 1))
say('moved')
first.setROI(place)
say('moved back')
shown.addObject(PathObjects.createAnnotationObject(roi))
say('drawn')
"""

INTERRUPT = """
def script = new File(args[0]), pid = new File(args[1]), main = Thread.currentThread()
Thread.start {
    while (!pid.exists() || !pid.text) Thread.sleep(50)
    Thread.sleep(1000)
    main.interrupt()
}
binding.setVariable('args', args.drop(2))
long began = 0
Thread.start { while (!pid.exists() || !pid.text) Thread.sleep(50); began = System.nanoTime() }
try { evaluate(script) } catch (InterruptedException error) { println 'stopped' }
def alive = { number ->  // nobody may reap what has ended
    def state = new File("/proc/${number}/stat")
    def dead = state.exists() && state.text.contains(') Z ')
    !dead && ProcessHandle.of(number as long).map { it.isAlive() }.orElse(false)
}
def numbers = pid.text.trim().split(' ') as List
while (numbers.any(alive) && System.nanoTime() - began < 20e9) Thread.sleep(20)
println 'seconds: ' + (System.nanoTime() - began) / 1e9
numbers.each { println 'alive: ' + alive(it) }
"""

STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import signal, time\\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\\ntime.sleep(300)"])
for _ in range(500_000):
    sys.stderr.write("y" * 99 + "\\n")
sys.stdout.write("z" * 50_000_000)
sys.stdout.flush()
with open({pid!r}, "w") as file:
    file.write(f"{{os.getpid()}} {{child.pid}}")
time.sleep(300)
"""


def expected_rows(study, *options):
    out = study.folder / "expected"
    assert main(["export", str(study.project), "--out", str(out), "--workers", "1", *options]) == 0
    return plain(rows(out))


def plain(found):
    return [{key: value for key, value in row.items() if key != "run_id"} for row in found]


def outputs(study):
    return sorted((study.project.parent / "qupath_bridge" / "patches").iterdir())


def test_an_export_from_qupath_is_the_one_of_the_command_line(qupath, study):
    output = qupath.script(
        EXPORT, study.project, "size=100", "workers=1", "exclude=Stroma", "exclude=Necrosis"
    )

    (out,) = outputs(study)
    assert out.name.startswith("1_")
    made = plain(rows(out))
    assert made == expected_rows(
        study, "--size", "100", "--entry", "id:1", "--exclude", "Stroma", "--exclude", "Necrosis"
    )
    assert f"{len(made)} patches in {out}" in output
    found = result(study, "export_patches")
    assert (found["ok"], found["written"], found["out"]) == (True, len(made), str(out))


@pytest.fixture
def chinese(tmp_path, draw, two_slides):
    """A study with two images of one name, one without pixel size, one without annotations."""
    folder = tmp_path / "Gewebe, ä 组织 x"
    (folder / "slides, 1").mkdir(parents=True)
    (folder / "slides, 2").mkdir()
    paths = [folder / f"slides, {number}" / "Probe ö, 组织.tiff" for number in (1, 2)]
    for number, path in enumerate(paths):
        shutil.copy(two_slides[number], path)
    bare = folder / "bare ü.tiff"
    write_slide(bare, draw.texture(3), mpp=None, tile=64)
    first, second = draw.images(paths)
    images = [first, second, Image(bare, [], pixel_size=None)]
    project = build_project(folder / "study, ß", images, classes=["Tumor", "Stroma"])

    class Study:
        pass

    Study.project, Study.folder = project, folder
    return Study


def test_every_image_is_in_one_dataset_and_has_a_result(qupath, chinese):
    """Names are equal, a pixel size is missing, nothing is drawn, and paths are hard to quote."""
    out = chinese.folder / "aus, ä 组织"
    done = qupath.run(EXPORT, chinese.project, "size=100", "workers=1", f"out={out}", image=None)

    assert done.status == 0
    made = plain(rows(out))
    assert made == expected_rows(chinese, "--size", "100")
    assert {row["entry_id"] for row in made} == {"1", "2"}
    found = results(chinese, "export_patches")
    assert {i: (each["ok"], each["written"]) for i, each in found.items()} == {
        i: (True, sum(row["entry_id"] == i for row in made)) for i in ("1", "2", "3")
    }
    assert len(list((chinese.project.parent / "qupath_bridge" / "runs").iterdir())) == 2

    # With µm per pixel the image without pixel size fails, and is not silent about it.
    done = qupath.run(EXPORT, chinese.project, "size=100", "mpp=0.5", "workers=1", image=None)
    found = results(chinese, "export_patches")
    assert {i: each["ok"] for i, each in found.items()} == {"1": True, "2": True, "3": False}
    assert "pixel size" in found["3"]["error"]
    assert done.last_line.startswith("qupath-bridge: bare ü.tiff: ")
    assert "pixel size" in done.last_line


def test_some_images_of_a_project_are_one_dataset(qupath, chinese):
    """As "Run for project" with two of three images: QuPath runs the script for each of them."""
    done = qupath.run(EXPORT, chinese.project, "size=100", "workers=1", image="Probe ö, 组织.tiff")

    assert done.status == 0, done.err
    (out,) = outputs(chinese)
    made = plain(rows(out))
    assert made == expected_rows(chinese, "--size", "100", "--entry", "id:1", "--entry", "id:2")
    assert results(chinese, "export_patches").keys() == {"1", "2"}


def test_unsaved_annotations_are_seen(qupath, study):
    output = qupath.script(qupath.written("compare", COMPARE), study.project, EXPORT)

    said = dict(
        line.split(": ") for line in output.splitlines() if line.endswith(("true", "false"))
    )
    assert said == {
        "opened": "true",
        "tile": "true",
        "class": "false",
        "class back": "true",
        "moved": "false",
        "moved back": "true",
        "drawn": "false",
    }


def test_a_failing_export_says_why_in_the_last_line(qupath, study):
    done = qupath.run(EXPORT, study.project, "size=0", "workrs=3")

    sentence = "workrs: no such option; did you mean workers?"
    assert done.status == 1
    assert sentence in done.last_line
    assert "forum" not in done.out + done.err
    found = result(study, "export_patches")
    assert found["ok"] is False
    assert sentence in found["error"]


@pytest.mark.parametrize("fault", ["folder", "environment", "nothing", "other", "old", "text"])
@WITHOUT_SIGNALS
def test_a_wrong_python_is_named_with_its_cure(qupath, study, tmp_path, fault):
    folder = tmp_path / "env ä"
    program = folder / "bin" / "python"
    program.parent.mkdir(parents=True)
    pip = f'Run: "{program}" -m pip install --upgrade qupath-bridge'
    own = {"QUPATH_BRIDGE_PYTHON": str(program), "PATH": "/usr/bin:/bin"}
    if fault == "folder":
        own["QUPATH_BRIDGE_PYTHON"] = str(folder / "bin")
        expected = "is a folder. Write the path of the Python that has qupath-bridge in its place."
    elif fault == "environment":
        write_program(program, "")
        own["QUPATH_BRIDGE_PYTHON"] = str(folder)
        expected = f"is a folder. Write {program} in its place."
    elif fault == "nothing":
        own["QUPATH_BRIDGE_PYTHON"] = ""
        expected = "No Python with qupath-bridge was found. Install it"
    elif fault == "other":
        write_program(program, "import sys; sys.exit('python: No module named qupath_bridge')")
        expected = f"{program} is a Python without qupath-bridge. {pip}"
    elif fault == "old":
        event = {"event": "start", "protocol": 7, "version": "9.9"}
        write_program(program, f"print({json.dumps(event)!r}.replace(': ', ':'))")
        expected = f"{program} has qupath-bridge 9.9, which does not fit this script. {pip}"
    else:
        program.write_text("no program", encoding="utf-8")
        expected = f"{program} cannot be started."

    # A copy of the script: beside the one of the checkout can be a .venv with the package.
    alone = tmp_path / "scripts" / CHECK.name
    alone.parent.mkdir()
    shutil.copy(CHECK, alone)
    done = qupath.run(alone, study.project, environment=own)

    assert done.status == 1
    assert done.last_line.startswith("qupath-bridge: ")
    assert expected in done.last_line


def test_the_setup_file_names_python(qupath, study, tmp_path):
    (tmp_path / "setup.json").write_text(
        json.dumps({"python": str(qupath.python), "version": "0"}), encoding="utf-8"
    )
    output = qupath.script(
        CHECK, None, image=None,
        environment={"QUPATH_BRIDGE_PYTHON": "", "QUPATH_BRIDGE_HOME": str(tmp_path)},
    )  # fmt: skip

    assert "qupath-bridge: qupath-bridge 0.1.0 is ready." in output
    assert "container: folder, tar" in output


@WITHOUT_SIGNALS
def test_python_is_found_beside_the_scripts(qupath, tmp_path):
    folder = tmp_path / "scripts ä"
    folder.mkdir()
    shutil.copy(CHECK, folder)
    beside = tmp_path / ".venv" / "bin" / "python"
    beside.parent.mkdir(parents=True)
    shutil.copy(qupath.python, beside)
    output = qupath.script(
        folder / CHECK.name, None, image=None, environment={"QUPATH_BRIDGE_PYTHON": ""}
    )

    assert "is ready" in output


@WITHOUT_SIGNALS
def test_a_stopped_export_leaves_no_process_whatever_it_prints(qupath, study, tmp_path):
    program, pid = tmp_path / "stubborn", tmp_path / "pid"
    write_program(program, STUBBORN.format(pid=str(pid)))

    done = qupath.run(
        qupath.written("interrupt", INTERRUPT), study.project, EXPORT, pid,
        environment={"QUPATH_BRIDGE_PYTHON": str(program)},
    )  # fmt: skip

    lines = done.out.splitlines()
    assert [line for line in lines if line.startswith(("stopped", "alive"))] == [
        "stopped", "alive: false", "alive: false",
    ]  # fmt: skip
    (seconds,) = (float(line[9:]) for line in lines if line.startswith("seconds: "))
    assert seconds < 1 + 5
    assert result(study, "export_patches")["error"] == (
        "Stopped; an export can be resumed. Run the script again."
    )


SLOW = """
import os, signal, sys, time
import qupath_bridge.pipeline.task as task
real = task.process_slide
def slow(job, **more):
    if job.entry_id == "2":
        with open({pid!r}, "w") as file:
            file.write(str(os.getpid()))
        {then}
    return real(job, **more)
task.process_slide = slow
import qupath_bridge.runners.threads as threads
if hasattr(threads, "process_slide"):
    threads.process_slide = slow
from qupath_bridge.cli import main
sys.exit(main(sys.argv[4:]))
"""


@pytest.fixture
def slow(qupath, tmp_path):
    """A function that makes a Python to which something happens at the second image."""

    def make(then):
        program, inner = tmp_path / "python slow", tmp_path / "slow.py"
        inner.write_text(SLOW.format(pid=str(tmp_path / "pid"), then=then), encoding="utf-8")
        text = qupath.python.read_text("utf-8").partition("\n")[2]
        write_program(program, text.replace("*sys.argv[1:]", f"{str(inner)!r}, *sys.argv"))
        return {"QUPATH_BRIDGE_PYTHON": str(program)}

    return make


ALL_OF_50 = ("size=50", "workers=1", "allImages=true")


def resume(qupath, study):
    """Resume an export that ended with the first image, and compare it with an undisturbed one."""
    (out,) = outputs(study)
    assert json.loads((out / "run.json").read_text("utf-8"))["state"] == "running"

    output = qupath.script(EXPORT, study.project, *ALL_OF_50, "resume=yes")

    assert f"An export was stopped: 1 of 2 images are done in {out}. It is resumed." in output
    assert outputs(study) == [out]
    assert plain(rows(out)) == expected_rows(study, "--size", "50")


@WITHOUT_SIGNALS
def test_a_stopped_export_is_resumed(qupath, study, tmp_path, slow):
    done = qupath.run(
        qupath.written("interrupt", INTERRUPT), study.project, EXPORT, tmp_path / "pid",
        *ALL_OF_50, environment=slow("time.sleep(10)"),
    )  # fmt: skip
    assert "stopped" in done.out.splitlines(), done.out + done.err

    resume(qupath, study)


@WITHOUT_SIGNALS
def test_an_export_of_which_python_is_killed_is_resumed(qupath, study, slow):
    program = slow("os.kill(os.getpid(), signal.SIGKILL)")
    done = qupath.run(EXPORT, study.project, *ALL_OF_50, environment=program)

    assert done.status == 1
    assert done.last_line == (
        "qupath-bridge: slide 1.tiff: qupath-bridge ended without an answer; the details say why. "
        "An export can be resumed."
    )
    assert result(study, "export_patches")["ok"] is False

    resume(qupath, study)


@WITHOUT_SIGNALS
def test_ten_seconds_without_a_word_are_no_fault(qupath, study, slow):
    qupath.script(EXPORT, study.project, *ALL_OF_50, environment=slow("time.sleep(10)"))

    (out,) = outputs(study)
    assert plain(rows(out)) == expected_rows(study, "--size", "50")
    assert {i: each["ok"] for i, each in results(study, "export_patches").items()} == {
        "1": True, "2": True,
    }  # fmt: skip


def test_a_project_that_cannot_be_written_is_named(qupath, study):
    """As on a share that is read-only: a file stands where our folder belongs."""
    (study.project.parent / "qupath_bridge").write_text("x", encoding="utf-8")
    out = study.folder / "out"

    done = qupath.run(EXPORT, study.project, "size=100", "workers=1", f"out={out}")

    assert len(rows(out)) > 0
    assert done.status == 0
    assert "qupath-bridge: warning: The project cannot be written" in done.out
    assert "the provenance is in" in done.out
    assert "results/export_patches/1.json cannot be written" in done.out


CORRECT = """
import qupath.lib.objects.classes.PathClass
import static qupath.lib.gui.scripting.QPEx.*
def tiles = getTileObjects().sort { it.getName() }
tiles[0].setPathClass(PathClass.fromString('Necrosis'))
removeObjects([tiles[1]], true)
println 'changed: ' + tiles[0].getID() + ' ' + tiles[1].getID()
"""


def test_the_round_trip_of_a_pathologist(qupath, study):
    """Export, look, give a tile another class, delete one, collect, and export again."""
    qupath.script(EXPORT, study.project, "size=100", "workers=1", image=None)
    qupath.script(IMPORT, study.project, image=None, save=True)
    (first,) = outputs(study)
    for entry in ("1", "2"):
        expected = {
            row["tile_uuid"]: (row["label"], row["patch_id"])
            for row in rows(first)
            if row["entry_id"] == entry
        }
        tiles = objects(study, entry)[1]
        assert {i: (tile.class_path, tile.name) for i, tile in tiles.items()} == expected

    output = qupath.script(qupath.written("correct", CORRECT), study.project, save=True)
    said = next(line for line in output.splitlines() if line.startswith("changed: "))
    changed, deleted = said.split()[1:]
    output = qupath.script(COLLECT, study.project, "reviewer=A. Ä")

    assert "slide 1.tiff: 1 corrected, 0 confirmed, 1 rejected" in output
    found = result(study, "collect_corrections")
    assert (found["ok"], found["corrected"], found["rejected"]) == (True, 1, 1)
    assert {item["reviewer"] for item in found["items"]} == {"A. Ä"}
    qupath.script(EXPORT, study.project, "size=100", "workers=1", image=None)
    second = outputs(study)[-1]
    before = {row["tile_uuid"]: row["label"] for row in rows(first)}
    after = {row["tile_uuid"]: row["label"] for row in rows(second)}
    assert after == {**{i: v for i, v in before.items() if i != deleted}, changed: "Necrosis"}

    # The import keeps what was said, and QuPath shows what the index lists.
    qupath.script(IMPORT, study.project, save=True)
    shown = {i: tile.class_path for i, tile in objects(study)[1].items()}
    assert shown == {r["tile_uuid"]: r["label"] for r in rows(second) if r["entry_id"] == "1"}
