"""The notebook of first patches runs from beginning to end, and shows what it promises."""

import shutil
from pathlib import Path

import pytest

from tests.support.notebooks import execute, outputs

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "first-patches.ipynb"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The notebook after it ran in a copy of what it needs."""
    folder = tmp_path_factory.mktemp("notebook")
    shutil.copytree(ROOT / "example_projects" / "skin", folder / "example_projects" / "skin")
    (folder / "examples").mkdir()
    return execute(NOTEBOOK, folder / "examples"), folder / "examples" / "first-patches"


def html(notebook, beginning):
    (output,) = outputs(notebook, beginning)
    return output.data["text/html"]


def printed(notebook, beginning):
    return "".join(output.text for output in outputs(notebook, beginning))


def test_notebook_shows_project_plans_and_run_as_html(executed):
    notebook, _ = executed
    assert "CMU-1-Small-Region.svs" in html(notebook, "project =")
    for plan in (html(notebook, "plan ="), html(notebook, "qb.plan(")):
        assert "Epithelium" in plan
        assert 'src="data:image/png;base64,' in plan
    assert html(notebook, "plan =") != html(notebook, "qb.plan(")
    assert "Keratin" in html(notebook, "plans =")


def test_notebook_exports_verifies_and_has_nothing_stale(executed):
    notebook, work = executed
    told, result = outputs(notebook, "checked =")
    assert told.text == "111 files, 111 read again from the slide\n"
    assert result.data["text/plain"] == "'no problem found'"
    assert len(list((work / "patches" / "patches").rglob("*.png"))) == 111
    (patch,) = (o for o in outputs(notebook, "Image(") if o.output_type == "execute_result")
    assert "image/png" in patch.data
    assert "1.geojson.gz" in printed(notebook, "for folder in")
    (state,) = outputs(notebook, "(status,) =")
    assert state.data["text/plain"] == "'current'"
