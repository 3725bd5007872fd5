"""The code in docs/extending.md is that of the example package."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "tests" / "example_plugin"
TEXT = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
SNIPPET = re.compile(r"^`(\S+)`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SNIPPETS = dict(SNIPPET.findall(TEXT))


@pytest.mark.parametrize("name", SNIPPETS)
def test_snippets_of_extending_are_the_files_of_the_example_package(name):
    assert SNIPPETS[name] == (PACKAGE / name).read_text(encoding="utf-8"), (
        f"docs/extending.md shows another {name} than tests/example_plugin"
    )


def test_extending_shows_every_part_of_the_example_package():
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    references = [ref for points in project["entry-points"].values() for ref in points.values()]
    modules = {f"{reference.partition(':')[0].replace('.', '/')}.py" for reference in references}
    assert modules == {name for name in SNIPPETS if name.endswith(".py")}


def test_extending_has_a_section_for_every_kind_of_part():
    from qupath_bridge import registry

    sections = re.findall(r"^## (\w+)$", TEXT, re.MULTILINE)
    assert [kind.capitalize() for kind in registry.KINDS if kind != "model"] == sections


@pytest.mark.parametrize("place", sorted(set(re.findall(r"`(qupath_bridge/\S+?)`", TEXT))))
def test_files_that_extending_names_exist(place):
    assert (ROOT / place).exists()
