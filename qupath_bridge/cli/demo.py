"""``demo``: the whole loop on a real slide."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from qupath_bridge import api
from qupath_bridge.config import ExportConfig, RunOptions
from qupath_bridge.errors import OutputError

from .output import print_json, print_table, show

__all__ = ["example_project", "run_demo"]


def example_project() -> Path:
    """Return the folder of the example project: in the package, or beside it in a checkout."""
    packaged = Path(str(resources.files("qupath_bridge"))) / "_examples" / "skin"
    checkout = Path(__file__).parents[2] / "example_projects" / "skin"
    for folder in (packaged, checkout):
        if (folder / "project.qpproj").is_file():
            return folder
    raise OutputError(
        "The example project is not part of this installation.",
        hint="Install qupath-bridge again, or run the demo from a checkout.",
    )


def run_demo(folder: Path, *, as_json: bool) -> int:
    """Copy the example project, export it, check the result, and say what to try next."""
    source = example_project()
    if folder.exists() and any(folder.iterdir()):
        raise OutputError(f"{folder} is not empty.", hint="Name a new folder, or remove it first.")
    project_folder, out = folder / "project", folder / "patches"
    api.copy_project(source, project_folder)
    config = ExportConfig(size=128, mpp=0.5, edge="pad")
    options = RunOptions(preview=folder / "plan.png")
    run = api.export(project_folder, out, config, options=options, command=["demo"])
    result = api.verify(run)
    labels, reasons = run.label_counts(), run.dropped_counts()
    (provenance,) = run.provenance
    if provenance.is_relative_to(project_folder.absolute()):
        provenance = project_folder / provenance.relative_to(project_folder.absolute())
    if as_json:
        print_json(
            {
                "schema_version": 1,
                "project": str(project_folder),
                "out": str(out),
                "preview": str(folder / "plan.png"),
                "provenance": str(provenance),
                "run_id": run.run_id,
                "labels": dict(sorted(labels.items())),
                "dropped": dict(reasons),
                "verified": result.ok,
            }
        )
        return 0 if result.ok and not run.failures else 1
    show("Regions drawn on a real H&E slide became labelled patches of 128 pixels at 0.5 µm.")
    show()
    print_table(("label", "patches"), sorted(labels.items()))
    show()
    print_table(("not written because", "patches"), [(r, n) for r, n in reasons.items() if n])
    show()
    show(
        f"{run.written} patches written, {result.files} checked against the index and "
        f"{result.pixels} against the slide: {'all fine' if result.ok else 'PROBLEMS FOUND'}."
    )
    show()
    print_table(
        ("what", "where"),
        [
            ("the picture of the plan", folder / "plan.png"),
            ("the QuPath project", project_folder / "project.qpproj"),
            ("the patches", out / "patches"),
            ("the index, one row per patch", out / "index.csv"),
            ("what QuPath imports", provenance),
        ],
    )
    show()
    show("Three things to try next:")
    show(f"  1. See the patches in QuPath: open {project_folder / 'project.qpproj'},")
    show("     and run groovy_scripts/import_provenance.groovy in its script editor.")
    show(f"  2. Change the rule: qupath-bridge plan {project_folder} --mpp 0.5 --rule centre")
    show("  3. Move a region in QuPath, save, and ask what that changes:")
    show(f"     qupath-bridge status {project_folder}")
    return 0 if result.ok and not run.failures else 1
