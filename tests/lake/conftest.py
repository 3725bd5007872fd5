"""A lake: two runs below one root, of two projects whose folders have one name."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

import qupath_bridge as qb
from qupath_bridge.testing.projects import build_project

CLASSES = ["Tumor", "Necrosis", "Stroma", "Ignore*"]


@dataclass(frozen=True)
class Lake:
    """``first`` and ``second`` are outputs; the second holds its patches in Parquet files."""

    root: Path
    first: Path
    second: Path


def make_lake(folder, draw, slides):
    root = folder / "lake"
    places = {"folder": root / "first", "parquet": root / "more" / "second"}
    for shift, (container, out) in enumerate(places.items()):
        study = folder / container / "study"
        project = build_project(study, draw.images(slides, (0, 15 * shift)), classes=CLASSES)
        config = qb.ExportConfig(size=64, mpp=0.5, container=container)
        run = qb.export(project, out, config, workers=1, provenance=False)
        assert not run.failures
    return Lake(root, *places.values())


@pytest.fixture(scope="session")
def shared_lake(tmp_path_factory, draw, two_slides):
    """A lake that tests only read."""
    return make_lake(tmp_path_factory.mktemp("shared"), draw, two_slides)


@pytest.fixture
def lake(tmp_path, shared_lake):
    """A lake of its own."""
    shutil.copytree(shared_lake.root, tmp_path / "lake")
    return Lake(*(tmp_path / place.relative_to(shared_lake.root.parent) for place in (
        shared_lake.root, shared_lake.first, shared_lake.second)))  # fmt: skip
