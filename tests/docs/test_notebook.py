"""The notebook of examples/ runs from its first cell to its last, and shows what it promises."""

import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "first-patches.ipynb"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The notebook after it ran in a copy of what it needs."""
    folder = tmp_path_factory.mktemp("notebook")
    shutil.copytree(ROOT / "example_projects" / "skin", folder / "example_projects" / "skin")
    (folder / "examples").mkdir()
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder / "examples")}},
    )
    client.execute()
    return notebook, folder / "examples" / "first-patches"


def outputs(notebook, beginning):
    """Return the outputs of the one code cell that has a line with this beginning."""
    (cell,) = (
        cell
        for cell in notebook.cells
        if cell.cell_type == "code"
        and any(line.startswith(beginning) for line in cell.source.splitlines())
    )
    return cell.outputs


def html(notebook, beginning):
    (output,) = outputs(notebook, beginning)
    return output.data["text/html"]


def printed(notebook, beginning):
    return "".join(output.text for output in outputs(notebook, beginning))


def test_notebook_is_stored_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)


def test_notebook_runs_without_errors_and_warnings(executed):
    notebook, _ = executed
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output


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
