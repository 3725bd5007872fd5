"""A package that is installed adds parts: they are listed, and used in the normal path."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

from qupath_bridge.codecs import decode
from qupath_bridge.testing.projects import Image, Region, build_project
from qupath_bridge.testing.slides import marker_image

ROOT = Path(__file__).parents[2]
PIXELS = marker_image(400, 300)
PARTS = {
    "reader": "ppm",
    "encoder": "bmp",
    "tissue": "dark",
    "quality": "brightness",
    "stain": "gain",
    "output": "zip",
    "runner": "inline",
}


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """The environment of a process in which the example package is installed."""
    folder = tmp_path_factory.mktemp("site")
    runpy.run_path(str(ROOT / "tests" / "example_plugin" / "install.py"))["install"](folder)
    paths = [str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


@pytest.fixture
def python(environment, tmp_path):
    """A function that runs Python code in that environment, and returns what it prints."""

    def run(code, *arguments):
        command = [sys.executable, "-c", code, *map(str, arguments)]
        done = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def command(python):
    """A function that runs the command line in that environment."""
    code = "import sys; from qupath_bridge.cli import main; sys.exit(main(sys.argv[1:]))"
    return lambda *arguments: python(code, *arguments)


@pytest.fixture
def slide(tmp_path):
    path = tmp_path / "a.ppm"
    height, width, _ = PIXELS.shape
    path.write_bytes(b"P6\n# mpp 0.5\n%d %d\n255\n" % (width, height) + PIXELS.tobytes())
    return path


@pytest.fixture
def project(tmp_path, slide):
    region = Region("Tumor", "POLYGON ((0 0, 400 0, 400 300, 0 300, 0 0))")
    image = Image(slide, [region], size=(400, 300), pixel_size=0.5)
    return build_project(tmp_path / "study", [image])


LIST = """
import json
from qupath_bridge import registry
print(json.dumps({kind: [(part.name, part.origin) for part in registry.parts(kind)]
                  for kind in registry.KINDS}))
"""


def test_parts_of_an_installed_package_are_listed(python):
    found = json.loads(python(LIST))
    for kind, name in PARTS.items():
        assert [name, "qb-example"] in found[kind]
        assert found[kind][-1][0] == name  # built-in ones come first


def test_parts_of_an_installed_package_can_be_loaded(python):
    python(
        "import sys; from qupath_bridge import registry\n"
        "for pair in sys.argv[1:]: registry.load(*pair.split(':'))",
        *[f"{kind}:{name}" for kind, name in PARTS.items()],
    )


OPEN = """
import sys
from qupath_bridge.model import Box
from qupath_bridge.readers import open_reader
with open_reader(sys.argv[1]) as reader:
    pixels, mask = reader.read(Box(100, 50, 40, 30), (40, 30))
    print(type(reader).__name__, reader.pixel_size, mask, pixels.tobytes().hex())
"""


def test_the_reader_auto_takes_a_dedicated_reader(python, slide):
    assert python(OPEN, slide).split() == [
        "PpmReader",
        *("(0.5,", "0.5)"),
        "None",
        PIXELS[50:80, 100:140].tobytes().hex(),
    ]


def patches(output):
    """Return the patches of a run by the corner that their name ends with, from its ZIP files."""
    found = {}
    for path in (output / "patches").glob("*.zip"):
        with ZipFile(path) as archive:
            for name in archive.namelist():
                place = Path(name).stem.split("_")[-2:]
                found[tuple(int(part[1:]) for part in place)] = decode(archive.read(name))
    return found


def check_patches(output):
    found = patches(output)
    assert sorted(found) == [(x, y) for x in (0, 100, 200, 300) for y in (0, 100, 200)]
    for (x, y), pixels in found.items():
        np.testing.assert_array_equal(pixels, PIXELS[y : y + 100, x : x + 100])


def test_export_uses_reader_output_and_tissue_of_a_package(command, project, tmp_path):
    output = tmp_path / "out"
    options = ("--container", "zip", "--tissue", "dark:255", "--format", "png", "--size", 100)
    command("export", project, "--out", output, *options)
    check_patches(output)
    command("verify", output)
    command("export", project, "--out", output, *options, "--resume")
    check_patches(output)


def test_export_asks_the_tissue_method_with_its_argument(command, project, tmp_path):
    output = tmp_path / "out"
    options = ("--container", "zip", "--tissue", "dark:0", "--format", "png", "--size", 100)
    command("export", project, "--out", output, *options)
    assert patches(output) == {}


def test_export_uses_the_encoder_of_a_package(command, project, tmp_path):
    output = tmp_path / "out"
    command("export", project, "--out", output, "--format", "bmp", "--size", 100)
    files = sorted((output / "patches").rglob("*.bmp"))
    assert len(files) == 12
    assert all(file.read_bytes()[:2] == b"BM" for file in files)
    command("verify", output)


def test_export_uses_the_runner_of_a_package(command, project, tmp_path):
    output = tmp_path / "out"
    command(
        "export",
        project,
        "--out",
        output,
        "--container",
        "zip",
        "--runner",
        "inline",
        "--size",
        100,
    )
    check_patches(output)
    assert json.loads((output / "run.json").read_text())["options"]["runner"] == "inline"


def test_processes_use_the_parts_of_a_package(command, project, tmp_path):
    """Each process finds the installed package by itself."""
    options = ("--container", "zip", "--tissue", "dark:255", "--size", 100)
    for runner in ("threads", "processes"):
        command("export", project, "--out", tmp_path / runner, *options, "--runner", runner)
        check_patches(tmp_path / runner)
    digests = [json.loads((tmp_path / name / "run.json").read_text())["run_digest"]
               for name in ("threads", "processes")]  # fmt: skip
    assert digests[0] == digests[1]


def test_a_plan_names_the_version_of_each_part_of_a_package(command, project, tmp_path):
    """Another version of a part makes a slide again."""
    command("export", project, "--out", tmp_path / "out", "--tissue", "dark:255", "--size", 100)
    (facts,) = (project.parent / "qupath_bridge" / "runs").glob("*/1.json")
    parts = json.loads(facts.read_text())["parts"]
    assert "qb-example 1.0" in parts["reader"] + parts["tissue"], parts


API = """
import sys
import qupath_bridge as qb
config = qb.ExportConfig(size=100, container="zip", tissue="dark:255")
with qb.open_project(sys.argv[1]) as project:
    qb.export(qb.plan(project, config), sys.argv[2])
"""


def test_the_api_uses_the_parts_of_a_package(python, project, tmp_path):
    output = tmp_path / "out"
    python(API, project, output)
    check_patches(output)


def test_an_unknown_container_is_refused_with_the_names_of_the_package(
    environment, project, tmp_path
):
    code = "import sys; from qupath_bridge.cli import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["export", str(project), "--out", str(tmp_path / "out"), "--container", "no-such"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "--container" in done.stderr
    assert "known: folder, tar, h5, zarr, parquet, memory, zip" in done.stderr
