"""Records that somebody changed: each command that reads one does its work or says what is wrong.

Thousands of damaged copies of each kind of file. Whatever is in them: an exit status that is
documented, a message that names the file, no traceback, no hang, no gigabytes, no file touched that
is not of the run, and the other runs of the project still shown.
"""

import hashlib
import json
import random
import re
import shutil
import time

import numpy as np
import psutil
import pytest

from qupath_bridge.cli import main
from qupath_bridge.qupath.files import qpproj
from qupath_bridge.qupath.geojson import read_tiles
from qupath_bridge.qupath.qpdata.splice import splice_tiles
from qupath_bridge.testing.projects import Image, Region, build_project
from qupath_bridge.testing.slides import write_slide
from tests.support.mutations import (
    mutate_gzip_json,
    mutate_json,
    mutate_parquet,
    mutate_toml,
)
from tests.support.run_folders import record_tiles

STATUSES = {0, 1, 2, 3, 4, 5}
"""Exit statuses that a damaged file may give: nothing is missing, and nobody interrupts."""

SECONDS = 20
MEGABYTES = 500
CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")

SETTINGS = """\
[patches]
size = 32
stride = 32
mpp = 0.5
edge = "drop"
[regions]
rule = "area"
[labels]
background = "other"
[labels.map]
Stroma = "S"
[tissue]
tissue = "none"
[files]
format = "png"
[running]
workers = 1
"""

FEATURES = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "id": "8a0d7e48-0b6c-4b1e-9f43-0d1c1b2a3c4d",
            "geometry": {
                "type": "Polygon",
                "coordinates": [[[4, 4], [90, 5], [80, 70], [6, 60], [4, 4]]],
                "plane": {"c": -1, "z": 0, "t": 0},
            },
            "properties": {
                "objectType": "annotation",
                "name": "first",
                "classification": {"name": "Tumor", "color": [200, 0, 0]},
                "isLocked": True,
                "measurements": {"Area": 12.5},
                "metadata": {"a": "b"},
            },
        },
        {
            "type": "Feature",
            "geometry": {"type": "MultiPoint", "coordinates": [[5, 5], [9, 9]]},
            "properties": {"classification": {"names": ["Stroma", "Sub"], "colorRGB": -3670016}},
        },
    ],
}


def build(folder):
    """Make a project with two runs, one of them written into QuPath's data."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    slides = []
    for number in (1, 2):
        slides.append(folder / f"slide {number}.tiff")
        write_slide(slides[-1], rng.integers(0, 255, (80, 96, 3), dtype=np.uint8), mpp=0.5, tile=64)
    regions = [
        Region("Tumor", "POLYGON ((4 4, 90 5, 80 70, 6 60, 4 4))", name="first"),
        Region("Stroma", "POLYGON ((10 10, 40 10, 40 40, 10 40, 10 10))"),
    ]
    images = [Image(slide, regions, pixel_size=0.5) for slide in slides]
    project = build_project(folder / "study", images, classes=["Tumor", "Stroma"])
    for name, size in (("other", "48"), ("out", "32")):
        words = ["--size", size, "--progress", "none", "--workers", "1"]
        assert main(["export", str(project), "--out", str(folder / name), *words]) == 0
    # Forced: whether a QuPath runs on this machine says nothing about damaged records.
    write_back = ["write-back", str(project), "--run", str(folder / "out"), "--direct", "--force"]
    assert main(write_back) == 0
    correct(project.parent)
    assert main(["corrections", str(project), "--collect"]) == 0
    (folder / "keep.txt").write_text("mine")
    (folder / "study" / "keep.txt").write_text("mine")
    (folder / "settings.toml").write_text(SETTINGS)
    (folder / "drawn").mkdir()
    (folder / "drawn" / "slide 1.geojson").write_text(json.dumps(FEATURES))


def correct(project):
    """Give a tile of the first image another class, as a person does in QuPath."""
    runs = sorted((project / "qupath_bridge" / "runs").iterdir())
    tile = next(read_tiles(runs[-1] / "1.geojson.gz"))
    data = project / "data" / "1" / "data.qpdata"
    other = tile._replace(class_path="Other")
    data.write_bytes(splice_tiles(data.read_bytes(), remove={tile.id}, add=[other]))


class Bench:
    """A project that is made again after each command that changed it."""

    def __init__(self, folder):
        self.pristine, self.at = folder / "pristine", folder / "at"
        build(self.at)
        shutil.copytree(self.at, self.pristine)
        self.before = self.snapshot()
        self.runs = {
            name: json.loads((self.at / name / "run.json").read_bytes())["run_id"]
            for name in ("other", "out")
        }

    def snapshot(self):
        """Return size and time of change of each file: what a command did is a difference."""
        found = {}
        for path in self.at.rglob("*"):
            state = path.lstat()
            if path.is_file() and path.suffix != ".lock":
                found[path.relative_to(self.at).as_posix()] = (state.st_size, state.st_mtime_ns)
        return found

    def restore(self):
        now = self.snapshot()
        for name in now.keys() - self.before.keys():
            (self.at / name).unlink()
        for name, state in self.before.items():
            if now.get(name) != state:
                (self.at / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(self.pristine / name, self.at / name)

    def find(self, pattern):
        (path, *_) = sorted(self.at.glob(pattern.format(**self.runs)))
        return path


PROJECT, OUT = "{at}/study/project.qpproj", "{at}/out"
INSPECT = ("inspect", PROJECT)
PLAN = ("plan", PROJECT, "--size", "32")
STATUS = ("status", PROJECT, "--json")
VERIFY = ("verify", OUT)
RESUME = (
    "export", PROJECT, "--out", OUT, "--size", "32", "--resume", "--workers", "1",
    "--progress", "none",
)  # fmt: skip
SHOW = ("write-back", PROJECT, "--run", OUT, "--dry-run")
WRITE = ("write-back", PROJECT, "--run", "{out}", "--direct", "--dry-run")
UNDO = ("write-back", PROJECT, "--undo", "{out}", "--dry-run")
CLEAN = ("clean", OUT)
SAID = ("corrections", PROJECT, "--json")
SETTINGS_FILE = "{at}/settings.toml"
DRAWN = "{at}/drawn/slide 1.geojson"

RUN = "study/qupath_bridge/runs/{out}"
RECORDED = "tiles.geojson.gz with its digest"
"""A tile file that the run seems to have written so: its digest fits."""

KINDS = {
    "project.qpproj": ("study/project.qpproj", mutate_json, [INSPECT, PLAN, STATUS, WRITE]),
    "server.json": ("study/data/1/server.json", mutate_json, [INSPECT]),
    "summary.json": ("study/data/1/summary.json", mutate_json, [INSPECT, PLAN]),
    "classes.json": ("study/classifiers/classes.json", mutate_json, [INSPECT, PLAN]),
    "metadata.json": ("study/data/metadata.json", mutate_json, [INSPECT, PLAN]),
    "annotations": (
        "drawn/slide 1.geojson",
        mutate_json,
        [
            ("plan", PROJECT, "--size", "32", "--entry", "1", "--annotations", DRAWN),
            ("inspect", "{at}/slide 1.tiff", "--annotations", DRAWN),
            ("inspect", "{at}/slide 1.tiff", "--annotations", DRAWN, "--skip-bad-features"),
        ],
    ),
    "tiles.geojson.gz": (f"{RUN}/1.geojson.gz", mutate_gzip_json, [STATUS, WRITE, UNDO]),
    RECORDED: (f"{RUN}/1.geojson.gz", mutate_gzip_json, [STATUS, WRITE, UNDO]),
    "run.json": ("out/run.json", mutate_json, [VERIFY, RESUME, SHOW, CLEAN, STATUS]),
    "run.json of the project": (f"{RUN}/run.json", mutate_json, [STATUS, WRITE, UNDO, RESUME]),
    "report.json": ("out/report.json", mutate_json, [VERIFY, RESUME, SHOW]),
    "facts": (f"{RUN}/1.json", mutate_json, [STATUS, WRITE, UNDO]),
    "partition": ("out/index/*/part-0.parquet", mutate_parquet, [VERIFY, RESUME, SHOW, STATUS]),
    "record.json": ("study/qupath_bridge/backups/*/record.json", mutate_json, [STATUS, UNDO]),
    "change": ("study/qupath_bridge/backups/*/1.json", mutate_json, [STATUS, UNDO]),
    "event": ("study/qupath_bridge/shown/1/*.json", mutate_json, [STATUS, WRITE, UNDO, SAID]),
    "statements": (
        "study/qupath_bridge/corrections/1/*.jsonl", mutate_json, [STATUS, WRITE, UNDO, SAID, PLAN],
    ),
    "settings.toml": (
        "settings.toml",
        mutate_toml,
        [
            ("config", "check", SETTINGS_FILE),
            ("config", "show", "--config", SETTINGS_FILE),
            ("plan", PROJECT, "--config", SETTINGS_FILE, "--workers", "1"),
        ],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return Bench(tmp_path_factory.mktemp("damaged"))


def peak():
    """Return the most memory that this process had so far, MB."""
    try:
        import resource
    except ImportError:  # Windows
        return psutil.Process().memory_info().peak_wset / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def allowed(command, name):
    """Return whether a command may change a file."""
    if command[0] == "export":
        return name.startswith(("out/", "study/qupath_bridge/runs/"))
    return command[0] == "clean" and name.startswith("out/")


def faults(bench, capsys, path, command, base):
    """Run a command and yield everything that it did not keep to."""
    words = [word.format(at=bench.at, **bench.runs) for word in command]
    damaged = bench.snapshot()
    began = time.perf_counter()
    status = main(words)
    seconds = time.perf_counter() - began
    out, errors = capsys.readouterr()
    if status not in STATUSES:
        yield f"exit status {status}"
    if "Something went wrong" in errors or "Traceback" in errors + out:
        yield errors
    if seconds > SECONDS:
        yield f"{seconds:.0f} seconds"
    if peak() - base > MEGABYTES:
        yield f"{peak() - base:.0f} MB more"
    if CONTROLS.search(out + errors):
        yield f"control characters: {CONTROLS.search(out + errors)!r}"
    names = [path.name, path.parent.name, "slide 1.tiff", "slide 2.tiff"]
    names += ["slide-1.tiff", "slide-2.tiff", bench.runs["out"], str(bench.at / "out")]
    if status and not any(name in out + errors for name in names):
        yield f"names no file: {out + errors}"
    after = bench.snapshot()
    for name in sorted(after.keys() | damaged.keys()):
        if after.get(name) != damaged.get(name) and not allowed(command, name):
            yield f"{name} was changed"
    for name in bench.before:
        if name.startswith("out/patches/") and name not in after and command[0] != "export":
            yield f"{name} was deleted"
    if command == STATUS and path.name != "project.qpproj":
        answer = json.loads(out)
        if "runs" not in answer:
            yield f"no run is shown: {out}"
            return
        shown = {run["run_id"]: run["state"] for run in answer["runs"]}
        # Every run would apply statements: nobody knows what it gives if they cannot be read.
        wanted = {"current", "unknown"} if path.suffix == ".jsonl" else {"current"}
        if shown.get(bench.runs["other"]) not in wanted:
            yield f"the other run is not shown: {shown}"


def try_damaged(bench, capsys, kind, numbers):
    """Damage a file often and return the faults, each with its seed and a command."""
    pattern, mutate, commands = KINDS[kind]
    path = bench.find(pattern)
    content, base, found = path.read_bytes(), peak(), []
    for number in numbers:
        rng = random.Random(f"{kind} {number}")
        path.write_bytes(mutate(rng, content))
        if kind == RECORDED:
            record_tiles(path.parent)
        command = commands[number % len(commands)]
        capsys.readouterr()
        found += [
            f"{kind} {number}, {' '.join(command[:2])}: {text[:600]}"
            for text in faults(bench, capsys, path, command, base)
        ]
        bench.restore()
    return found


CASES = 2000
"""Damaged copies of each kind of file."""

TOGETHER = 100
"""Damaged copies that one test tries: few enough for its time limit on a busy machine."""


def pytest_generate_tests(metafunc):
    if "numbers" in metafunc.fixturenames:
        whole = [range(i, i + TOGETHER) for i in range(0, CASES, TOGETHER)]
        tried = whole if metafunc.config.getoption("soak") else [range(25)]
        cases = [(kind, numbers) for numbers in tried for kind in KINDS]
        names = [f"{kind}-{numbers.start}" for kind, numbers in cases]
        metafunc.parametrize(("kind", "numbers"), cases, ids=names)


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(900)
def test_damaged_records_are_read_or_refused(bench, capsys, kind, numbers, monkeypatch):
    monkeypatch.setattr(qpproj, "_PAUSES", ())  # QuPath is not saving
    found = try_damaged(bench, capsys, kind, numbers)
    assert not found, "\n".join(found[:40])


def test_the_damage_is_the_same_each_time():
    """A seed that is reported gives the same case again."""
    data = json.dumps(FEATURES).encode()
    cases = [[mutate_json(random.Random(n), data) for n in range(40)] for _ in range(2)]
    assert cases[0] == cases[1]
    assert len({hashlib.sha256(case).digest() for case in cases[0]}) > 35
