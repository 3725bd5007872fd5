"""A service on SQLite, and a project of small slides."""

from __future__ import annotations

from pathlib import Path

import pytest

from qupath_bridge.service.opened import open_service
from qupath_bridge.service.settings import ServiceSettings
from qupath_bridge.testing.projects import Image, Region, build_project
from qupath_bridge.testing.slides import marker_image, write_slide
from tests.support.bad_steps import FOLDER

SQUARE = "POLYGON ((0 0, 128 0, 128 96, 0 96, 0 0))"


@pytest.fixture
def project(tmp_path):
    """Three slides below the root ``study``, 12 patches of 32 pixels each."""
    study = tmp_path / "study"
    study.mkdir()
    slides = [
        write_slide(study / f"{n}.tiff", marker_image(128, 96 + n), mpp=0.5, tile=16)
        for n in range(3)
    ]
    images = [Image(slide, [Region("Tumor", SQUARE)]) for slide in slides]
    return build_project(study / "project", images)


@pytest.fixture
def settings(tmp_path):
    """Roots ``study`` and ``out``; short leases."""
    return ServiceSettings(
        database=f"sqlite:///{(tmp_path / 'service.sqlite').as_posix()}",
        sources=[str(tmp_path / "study")],
        outputs=[str(tmp_path / "out")],
        lease_seconds=6.0,
        retry_seconds=0.1,
        task_seconds=60.0,
    )


@pytest.fixture
def service(settings):
    with open_service(settings, migrates=True) as opened:
        yield opened


@pytest.fixture
def tokens(tmp_path, monkeypatch):
    """A folder whose files say which steps misbehave."""
    folder = tmp_path / "tokens"
    folder.mkdir()
    monkeypatch.setenv(FOLDER, str(folder))
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "support")
    return folder
