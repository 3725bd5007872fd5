"""Files of corrections: a union of immutable files, in the order of their collection."""

from dataclasses import replace
from pathlib import Path

import pytest

from qupath_bridge.errors import ProjectError
from qupath_bridge.model import Box, ProjectInfo
from qupath_bridge.patches.corrections import Correction, to_lines
from qupath_bridge.sources.corrections import correction_files, corrections_folder, read_corrections

SAID = Correction("corrected", Box(0, 0, 8, 8), "A", "B", "R", "A", "f", "2026-01-01T00:00:00.000Z")
OTHER = replace(SAID, kind="rejected", box=Box(8, 0, 8, 8), after=None)
LATER = replace(SAID, after="C", reviewer="Ann")


@pytest.fixture
def project(tmp_path):
    return ProjectInfo(tmp_path / "study" / "project.qpproj", "study", "0.7.0")


def put(folder, entry_id, key, *corrections, said_of=None):
    path = Path(folder, entry_id, f"{key}.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(to_lines((said_of or entry_id, each) for each in corrections))
    return path


def test_files_are_a_union_in_the_order_of_their_names(project, tmp_path):
    here, there = corrections_folder(project), tmp_path / "OUT" / "provenance" / "corrections"
    assert here == tmp_path / "study" / "qupath_bridge" / "corrections"
    put(here, "3", "02", LATER)
    put(there, "3", "01", SAID, OTHER)
    put(there, "3", "02", LATER)  # a copy of the same file counts once
    put(here, "4", "00", OTHER)  # another slide
    (here / "3" / "notes.txt").write_text("mine", encoding="utf-8")
    assert read_corrections(project, "3", beside=[there]) == (SAID, OTHER, LATER)
    assert read_corrections(project, "3") == (LATER,)
    assert [file.key for file in correction_files(project, "3", beside=[there])] == ["01", "02"]
    assert read_corrections(project, "5", beside=[there, tmp_path / "nothing"]) == ()


def test_a_damaged_file_is_named_with_its_line(project):
    path = put(corrections_folder(project), "3", "01", SAID)
    path.write_bytes(path.read_bytes() + b'{"kind": "corrected"}\n')
    with pytest.raises(ProjectError, match="line 2") as caught:
        read_corrections(project, "3")
    assert path.name in str(caught.value)


def test_the_corrections_of_another_slide_are_refused(project):
    put(corrections_folder(project), "3", "01", SAID, said_of="4")
    with pytest.raises(ProjectError, match="line 1 is of the slide 4, not of 3"):
        read_corrections(project, "3")
