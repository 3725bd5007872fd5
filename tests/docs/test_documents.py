"""Every command and every Python block of README and docs runs, in the order in which it stands."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from qupath_bridge.cli import main

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


def blocks(document):
    return BLOCK.findall(document.read_text(encoding="utf-8"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_and_code_run(document, tmp_path, monkeypatch, capsys):
    shutil.copytree(ROOT / "example_projects" / "skin", tmp_path / "study")
    monkeypatch.chdir(tmp_path)
    for kind, text in blocks(document):
        if kind == "python":
            exec(compile(text, document.name, "exec"), {"__name__": document.stem})
            continue
        for line in text.splitlines():
            assert line.startswith("$ "), f"{document.name}: {line!r} is no command"
            run_command(line[2:].split())


def run_command(words):
    if words[0] == "make":
        # Whole installations: that the target is there is what can be seen from here.
        subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, check=True, capture_output=True)
    elif words[0] == "pip":
        assert words == ["pip", "install", "."]
        assert (ROOT / "pyproject.toml").is_file()
    else:
        assert words[0] == "qupath-bridge", words
        assert main(words[1:]) == 0, words


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for target in LINK.findall(document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_the_index_columns_are_all_explained():
    from qupath_bridge.outputs import index

    text = (ROOT / "docs" / "provenance.md").read_text(encoding="utf-8")
    missing = [name for name in index.COLUMN_NAMES if f"`{name}`" not in text]
    assert not missing
