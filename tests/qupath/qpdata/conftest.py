"""Fixtures for tests of data files."""

import json
from pathlib import Path

import pytest

DUMP = Path(__file__).parents[2] / "qupath" / "dump_data.groovy"


@pytest.fixture
def as_qupath_reads(installation, tmp_path):
    """A function that lets a real QuPath read a data file, and returns what it found."""

    def dump(data):
        (tmp_path / "data.qpdata").write_bytes(data)
        installation.groovy(DUMP, [tmp_path / "dump.json", tmp_path / "data.qpdata"])
        return json.loads((tmp_path / "dump.json").read_text(encoding="utf-8"))

    return dump
