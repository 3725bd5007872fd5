"""The extension's jar, as ``make extension`` builds it, and the windows of a QuPath that has it."""

import json
import shutil
import stat
import sys
from pathlib import Path

import pytest

import qupath_bridge as qb
from qupath_bridge.testing.projects import Image, build_project
from qupath_bridge.testing.slides import write_slide
from tests.support.bridge_window import (
    EMPTY,
    TWINS,
    UNSCALED,
    clear,
    export,
    open_export,
    open_project,
)
from tests.support.qupath_window import QuPathWindow

ROOT = Path(__file__).parents[2]
IMAGE = "CMU-1-Small-Region.svs"


@pytest.fixture(scope="session")
def extension_jar():
    """The jar of this version."""
    jar = ROOT / "build" / f"qupath-extension-patch-bridge-{qb.__version__}.jar"
    if not jar.is_file():
        pytest.skip("no jar of the extension: make extension builds it")
    return jar


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    """A copy of the example, in a folder with a name that breaks what can break."""
    folder = tmp_path_factory.mktemp("Müller, 组织 & co")
    return Path(shutil.copytree(ROOT / "example_projects" / "skin", folder / "a project"))


@pytest.fixture(scope="session")
def python(tmp_path_factory):
    """A Python that has this qupath_bridge."""
    program = tmp_path_factory.mktemp("an environment, 环境 ü") / "python"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


@pytest.fixture(scope="session")
def start_window(installation, extension_jar, python, tmp_path_factory):
    """A function that starts a QuPath on an image of a project; ``close`` ends it."""
    if shutil.which("Xvfb") is None:
        pytest.skip("Xvfb is not installed: a virtual display for QuPath's window")

    def start(project, image=IMAGE):
        folder = tmp_path_factory.mktemp("qupath")
        home = folder / "bridge"
        home.mkdir()
        environ = {"QUPATH_BRIDGE_HOME": str(home)}
        found = installation.installation
        window = QuPathWindow(
            found, extension_jar, project / "project.qpproj", image, folder, environ
        )
        window.python = python
        window.set_up = home / "setup.json"
        set_up(window)
        return window

    return start


@pytest.fixture(scope="session")
def window(start_window, project):
    window = start_window(project)
    yield window
    window.close()


def set_up(window):
    """Make the Python of the tests the one that is set up."""
    text = json.dumps({"python": str(window.python), "version": qb.__version__})
    window.set_up.write_text(text, encoding="utf-8")


@pytest.fixture
def desk(window):
    """The window with a Python that is set up, no tiles, and nothing open beside it."""
    set_up(window)
    clear(window)
    yield window
    clear(window)


@pytest.fixture
def exported(desk):
    """The window after an export of patches of 128 pixels; the id of the run and its folder."""
    open_export(desk)
    out = export(desk)
    desk.run("fx { close() }; true")
    return out


@pytest.fixture(scope="session")
def odd_project(tmp_path_factory, draw):
    """Two images of one name, one without a pixel size, and one without annotations."""
    folder = tmp_path_factory.mktemp("Übung, 组织")
    tumor = [("Tumor", "POLYGON ((0 0, 400 0, 400 400, 0 400, 0 0))")]
    images = []
    for number in range(1, 5):
        mpp = None if str(number) == UNSCALED else 0.5
        name = "the same, 同 ü" if str(number) in TWINS else f"image {number}"
        path = folder / f"slide, {number} ü.tiff"
        write_slide(path, draw.texture(number), mpp=mpp, tile=64)
        shapes = [] if str(number) == EMPTY else tumor
        images.append(Image(path, shapes, name=name, pixel_size=mpp))
    return build_project(folder / "a project, 项目", images, classes=["Tumor", "Stroma"])


@pytest.fixture
def odd(desk, project, odd_project):
    """A function that opens one of the odd images; the example is opened again at the end."""
    yield lambda entry: open_project(desk, odd_project, entry)
    open_project(desk, project / "project.qpproj", "1")
