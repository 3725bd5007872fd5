"""The source paquo as a value: what travels to another process, and when Java is started there."""

import pickle
from pathlib import Path

import pytest
import shapely

from qupath_bridge.errors import MissingDependencyError, ProjectError
from qupath_bridge.qupath.jvm.installation import Installation
from qupath_bridge.sources import paquo
from qupath_bridge.sources.paquo import PaquoSource
from qupath_bridge.testing.projects import Image, build_project

QUPATH = Installation(Path("/q"), Path("/q/lib/app"), version="0.7.0")


@pytest.fixture
def started(monkeypatch):
    """The starts of Java, which fail; QuPath's list of slides is not asked for."""
    calls = []

    def start(installation, **options):
        calls.append((installation, options))
        raise MissingDependencyError("Java was started.")

    monkeypatch.setattr(paquo, "start", start)
    monkeypatch.setattr(paquo._Session, "open", lambda self, shown, path: [])
    return calls


@pytest.fixture
def project(tmp_path, started):
    images = [Image("a.svs", [("Tumor", shapely.box(0, 0, 9, 9))], size=(20, 10))] * 2
    path = build_project(tmp_path / "study", images)
    return PaquoSource(QUPATH, max_heap="3g", timeout=7).open(path)


def test_pickled_project_starts_java_when_a_slide_is_read(project, started):
    copy = pickle.loads(pickle.dumps(project))
    assert copy == project
    assert started == []
    with pytest.raises(MissingDependencyError, match="Java was started"):
        copy.slides[0].read()
    assert started == [(QUPATH, {"max_heap": "3g", "timeout": 7})]


def test_pickled_project_closes_its_own_java_only(project, started):
    copy = pickle.loads(pickle.dumps(project))
    copy.close()
    for slide in copy:
        with pytest.raises(ProjectError, match="is closed"):
            slide.read()
    with pytest.raises(MissingDependencyError, match="Java was started"):
        project.slides[0].read()


def test_pickled_copy_of_a_closed_project_is_open(project):
    project.close()
    copy = pickle.loads(pickle.dumps(project))
    with pytest.raises(ProjectError, match="is closed"):
        project.slides[0].read()
    with pytest.raises(MissingDependencyError, match="Java was started"):
        copy.slides[0].read()


def test_reference_names_the_qupath_that_is_used(project):
    assert (project.ref.engine, project.ref.qupath) == ("paquo", str(QUPATH.folder.absolute()))
