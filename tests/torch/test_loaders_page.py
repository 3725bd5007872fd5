"""Every block of docs/loaders.md runs, with the library that it needs."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from qupath_bridge.cli import main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "loaders.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(console|python)( \w+)?\n(.*?)^```", re.MULTILINE | re.DOTALL)
NEEDS = {"torch": ("torch", "webdataset"), "tensorflow": ("tensorflow",)}


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves shards open
@pytest.mark.parametrize("library", NEEDS)
def test_blocks_of_the_page_run(library, tmp_path, monkeypatch):
    for name in NEEDS[library]:
        pytest.importorskip(name, reason=f"{name} is not installed")
    shutil.copytree(ROOT / "example_projects" / "skin", tmp_path / "study")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "loaders"}
    ran = 0
    for kind, needed, text in BLOCK.findall(PAGE):
        if kind == "console":
            for line in text.splitlines():
                assert main(shlex.split(line.removeprefix("$ "))[1:]) == 0, line
        elif not needed or needed.strip() == library:
            exec(compile(text, "loaders.md", "exec"), names)
            ran += bool(needed)
    assert ran == {"torch": 4, "tensorflow": 2}[library]
