"""Notebooks of examples/: stored without outputs, run from the first cell to the last."""

import nbformat
from nbclient import NotebookClient

__all__ = ["execute", "outputs", "read", "sources"]


def read(path):
    """Return a notebook, which has to be stored as if it had never run."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    return notebook


def sources(notebook, kind):
    """Return the texts of all cells of a kind."""
    return [cell.source for cell in notebook.cells if cell.cell_type == kind]


def execute(path, folder, seconds=120):
    """Run a notebook in a folder, and return it with its outputs, which have no warnings."""
    notebook = read(path)
    NotebookClient(
        notebook,
        timeout=seconds,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    ).execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output
    return notebook


def outputs(notebook, beginning):
    """Return the outputs of the one code cell that has a line with this beginning."""
    (cell,) = (
        cell
        for cell in notebook.cells
        if cell.cell_type == "code"
        and any(line.startswith(beginning) for line in cell.source.splitlines())
    )
    return cell.outputs
