"""Shared fixtures: a small study, two slides with regions, on disk."""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

import qupath_bridge as qb
from qupath_bridge.errors import MissingDependencyError
from qupath_bridge.qupath.jvm import installation as module
from qupath_bridge.qupath.jvm.installation import VARIABLES
from qupath_bridge.stores import staging
from qupath_bridge.stores.memory import MemoryStore
from qupath_bridge.testing.installation import real_qupath
from qupath_bridge.testing.projects import Image, Region, build_project
from qupath_bridge.testing.slides import write_slide

pytest.register_assert_rewrite("tests.support")

# Machines are shared and slow at times: how long an example takes says nothing about the code.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")

SIZE = (700, 500)


def keep_compiled_modules():
    """Keep what Python compiles where the machine says not to: hundreds of tests start a process.

    Nothing is written beside the sources then, but into the folder ``build`` of the checkout.
    """
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
        folder = Path(__file__).parents[1] / "build" / "compiled"
        os.environ.setdefault("PYTHONPYCACHEPREFIX", str(folder))
        sys.pycache_prefix = os.environ["PYTHONPYCACHEPREFIX"]
        sys.dont_write_bytecode = False


keep_compiled_modules()


def pytest_addoption(parser):
    parser.addoption("--soak", action="store_true", help="let tests marked soak try everything")


@pytest.fixture(scope="session")
def soak(pytestconfig):
    """Whether the long form of a test is wanted: all kills instead of a handful."""
    return pytestconfig.getoption("soak")


@pytest.hookimpl(tryfirst=True)  # pytest-xdist looks at the groups in the same hook
def pytest_collection_modifyitems(items):
    """Let one QuPath run at a time: each takes gigabytes, and some tests look for others."""
    for item in items:
        if item.get_closest_marker("qupath"):
            item.add_marker(pytest.mark.xdist_group("qupath"))


def pytest_terminal_summary(terminalreporter):
    """Say in one line how many tests were skipped, and why."""
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped:
        reasons = sorted({report.longrepr[2].removeprefix("Skipped: ") for report in skipped})
        terminalreporter.write_line(f"{len(skipped)} skipped: {' | '.join(reasons)}")


def texture(seed, size=SIZE):
    """Pixels that differ everywhere: smooth colours with noise on top."""
    width, height = size
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    waves = [np.sin(x / (31 + k + seed) + k) + np.cos(y / (23 + 2 * k)) for k in range(3)]
    noise = rng.integers(0, 40, (height, width, 3))
    return (np.stack(waves, -1) * 40 + 128 + noise).clip(0, 255).astype(np.uint8)


def write_slides(folder, names):
    """Write a small slide of 0.5 µm per pixel for each name into a new folder."""
    folder.mkdir()
    for number, name in enumerate(names, 1):
        write_slide(folder / f"{name}.tiff", texture(number, (256, 192)), mpp=0.5)


def regions(shift=0):
    return [
        Region("Tumor", f"POLYGON (({20 + shift} 20, 330 25, 300 240, 40 250, {20 + shift} 20))",
               name="first"),
        Region("Necrosis", "POLYGON ((100 100, 180 100, 180 180, 100 180, 100 100))", parent=0),
        Region("Stroma", "POLYGON ((350 30, 690 30, 690 480, 350 480, 350 30), "
                         "(450 150, 550 150, 550 260, 450 260, 450 150))"),
        Region("Ignore*", "POLYGON ((600 400, 660 400, 660 470, 600 470, 600 400))"),
        Region(None, "POLYGON ((20 300, 200 300, 200 480, 20 480, 20 300))"),
        Region("Tumor", "MULTIPOINT (5 5, 9 9)"),
    ]  # fmt: skip


@dataclass(frozen=True)
class Study:
    folder: Path
    project: Path
    slides: tuple[Path, ...]

    def redraw(self, *images):
        """Write the project again with other regions, as QuPath would after a change."""
        kept = self.folder / "kept"
        runs = self.project.parent / "qupath_bridge"
        if runs.exists():
            shutil.move(runs, kept)
        shutil.rmtree(self.project.parent)
        build_project(self.project.parent, list(images), classes=CLASSES)
        if kept.exists():
            shutil.move(kept, runs)


CLASSES = ["Tumor", "Necrosis", "Stroma", "Ignore*"]


def images(slides, shifts=(0, 0)):
    return [
        Image(slide, regions(shift), pixel_size=0.5)
        for slide, shift in zip(slides, shifts, strict=True)
    ]


@pytest.fixture(autouse=True)
def no_qupath(request, monkeypatch):
    """Let no test but those marked ``qupath`` depend on whether a QuPath is on the machine."""
    if request.node.get_closest_marker("qupath") is None:
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(module, "_PLACES", {})


@pytest.fixture(scope="session")
def installation():
    """A real QuPath; tests that need one are skipped where none is found."""
    try:
        return real_qupath()
    except MissingDependencyError as error:
        pytest.skip(f"a real QuPath is needed: {error}")


@pytest.fixture
def link():
    """A function that moves a file to another place and leaves a link to it."""

    def move(path, elsewhere):
        path.rename(elsewhere)
        try:
            path.symlink_to(elsewhere)
        except OSError:  # Windows gives the right to it to few
            pytest.skip("links cannot be made here")

    return move


@pytest.fixture(scope="session")
def draw():
    """Make the images of a study: ``draw.images(slides, shifts)``, ``draw.texture(seed)``."""
    return SimpleNamespace(images=images, texture=texture)


@pytest.fixture(scope="session")
def two_slides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    paths = []
    for number in (1, 2):
        path = folder / f"slide {number}.tiff"
        write_slide(path, texture(number), mpp=0.5, tile=64)
        paths.append(path)
    return tuple(paths)


@pytest.fixture
def study(tmp_path, two_slides):
    project = build_project(tmp_path / "study", images(two_slides), classes=CLASSES)
    return Study(tmp_path, project, two_slides)


@pytest.fixture
def local(tmp_path, two_slides, draw):
    """Folder with a project that was moved, and its slides beside it: what is put in a bucket."""
    folder = tmp_path / "local"
    slides = [folder / "slides" / path.name for path in two_slides]
    slides[0].parent.mkdir(parents=True)
    for path, slide in zip(two_slides, slides, strict=True):
        shutil.copy(path, slide)
    build_project(folder / "study", draw.images(slides), stored_at="/example/study")
    return folder


@pytest.fixture
def cache_folder(tmp_path, monkeypatch):
    """The folder of this test for copies of what is in a bucket; nothing has made it yet."""
    monkeypatch.setenv(staging.CACHE, str(tmp_path / "cache"))
    yield tmp_path / "cache"
    staging.use_cache()  # what a run of this test has chosen holds for the process


@pytest.fixture
def bucket(cache_folder):
    """A store in memory that stands for a bucket. Below ``services`` it is a URL on a server."""
    store = MemoryStore()
    yield store
    store.forget()


@pytest.fixture(scope="module")
def whole(tmp_path_factory, two_slides):
    """A run of ``LONG`` over the slides of a study, with threads, that nobody disturbed."""
    # Not at the top: before ``register_assert_rewrite``, its asserts would say less.
    from tests.support.run_processes import LONG

    folder = tmp_path_factory.mktemp("whole")
    project = build_project(folder / "study", images(two_slides))
    return qb.export(project, folder / "out", LONG, provenance=False)


@pytest.fixture
def redrawn(study, two_slides):
    """A function that moves the first region of the second image and saves the project."""

    def move(shift=15):
        study.redraw(*images(two_slides, (0, shift)))

    return move
