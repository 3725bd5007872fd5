"""What goes back into the QuPath project: one folder a run, one GeoJSON file an image.

Only ``<project>/qupath_bridge/`` is written. QuPath reads it through the import script; nothing
of QuPath's own files is touched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qupath_bridge.errors import OutputError
from qupath_bridge.model import Box, Plane, ProjectInfo
from qupath_bridge.outputs import index
from qupath_bridge.pipeline import records
from qupath_bridge.pipeline.output_check import BRIDGE_FOLDER
from qupath_bridge.pipeline.run import Run
from qupath_bridge.qupath.files.classes import class_colors, label_color
from qupath_bridge.qupath.geojson import Tile, tiles_geojson
from qupath_bridge.sources.base import Project
from qupath_bridge.stores.local import LocalStore

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Provenance", "ensure_provenance", "run_named", "runs_of", "write_provenance"]


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a run's provenance lies: in the project, or beside the patches with the reason why."""

    folder: Path
    warning: str | None = None


def write_provenance(project: ProjectInfo, run: Run) -> Provenance:
    """Lay a run's folder into its project.

    ``<project>/qupath_bridge/runs/<run id>/`` gets a copy of ``run.json`` with the place of the
    output, and a ``<entry id>.geojson.gz`` with the tiles of each image. Where the project
    cannot be written, the same goes to ``OUT/provenance/`` with a warning.

    Raises
    ------
    OutputError
        If neither place can be written.
    """
    place = project.folder / BRIDGE_FOLDER / "runs" / run.run_id
    try:
        _write(LocalStore(place), project, run)
    except OutputError as error:
        fallback = run.out / "provenance"
        _write(LocalStore(fallback), project, run)
        return Provenance(
            fallback,
            f"The project cannot be written ({error.message}); the provenance is in {fallback}. "
            "Import its files into QuPath by hand.",
        )
    return Provenance(place)


def _write(store: LocalStore, project: ProjectInfo, run: Run) -> None:
    colors = class_colors(project.classes)
    out = LocalStore(run.out)
    for slide_id in index.list_partitions(out):
        table = index.read_partition(out, slide_id)
        if table is not None and table.num_rows:
            entry_id = table.column("entry_id")[0].as_py()
            store.put(f"{entry_id}.geojson.gz", tiles_geojson(_tiles(table, colors)))
    # The record comes last: a folder without one is not a run.
    record = {**run.record, "out": str(run.out.resolve())}
    store.put(records.RUN_FILE, records.dump_json(record), durable=True)


def _tiles(table: pa.Table, colors: Mapping[str, tuple[int, int, int]]) -> Iterator[Tile]:
    rows = (row for batch in table.to_batches(4096) for row in batch.to_pylist())
    for row in rows:
        label = row["label"]
        # Several labels become one class of several names, as QuPath does for multiplexing.
        names = [label] if isinstance(label, str) else (label or [])
        path = ": ".join(names) or None
        yield Tile(
            id=row["tile_uuid"],
            box=Box(row["x_qupath"], row["y_qupath"], row["w_qupath"], row["h_qupath"]),
            plane=Plane(row["z"], row["t"]),
            name=row["patch_id"],
            class_path=path,
            color=None if path is None else label_color(path, colors),
            measurements=_measurements(row),
            metadata={
                "qb.run": row["run_id"],
                "qb.path": row["path"],
                "qb.digest": row["digest"],
            },
        )


def _measurements(row: Mapping[str, Any]) -> dict[str, float]:
    named = {
        "qb: label share": row["label_share"],
        "qb: margin": row["margin"],
        **{f"qb: {label}": share for label, share in row["shares"] or ()},
    }
    return {name: value for name, value in named.items() if value is not None}


def ensure_provenance(
    project: Project, run: str, *, dry_run: bool = False
) -> tuple[str, Provenance]:
    """Make sure that a run lies in its project.

    Parameters
    ----------
    project : Project
    run : str
        Id of a run that the project knows, or the output folder of one.
    dry_run : bool
        Write nothing; the answer says where it would lie.

    Returns
    -------
    str
        The id.
    Provenance

    Raises
    ------
    OutputError
        If there is no such run, or it was exported from another project.
    """
    known = {folder.name: folder for folder in runs_of(project.info)}
    run_id = run_named(project.info, run)
    if run_id in known:
        return run_id, Provenance(known[run_id])
    finished = Run.load(run)
    _check_of_project(project, finished)
    if dry_run:
        return run_id, Provenance(project.info.folder / BRIDGE_FOLDER / "runs" / run_id)
    return run_id, write_provenance(project.info, finished)


def _check_of_project(project: Project, run: Run) -> None:
    """Refuse a run of other images: entry IDs are small numbers, which every project has."""
    slides = {slide.entry_id: slide for slide in project.slides}
    there = [old for old in run.record["slides"] if old["entry_id"] in slides]
    for old in there:
        slide = slides[old["entry_id"]]
        same_size = slide.width is None or [slide.width, slide.height] == old["coordinates"]["size"]
        if not same_size or (slide.uri != old["uri"] and slide.name != old["slide_name"]):
            raise OutputError(
                f"The run in {run.out} is of another image {old['entry_id']}: {old['slide_name']}, "
                f"which is {slide.name} in {project.info.path}.",
                hint="Name the project that it was exported from.",
            )
    if not there:
        raise OutputError(
            f"The run in {run.out} has no image that is in {project.info.path}.",
            hint="Name the project that it was exported from.",
        )


def run_named(project: ProjectInfo, run: str) -> str:
    """Return the id of a run that is named by it, or by its output folder.

    Raises
    ------
    OutputError
        If the project knows no such run, and that is no output folder either.
    """
    known = [folder.name for folder in runs_of(project)]
    if run in known:
        return run
    if not (Path(run) / records.RUN_FILE).is_file():
        raise OutputError(
            f"{project.folder} knows no run {run!r}, and that is no output folder either.",
            hint=f"Its runs are: {', '.join(known) or 'none'}.",
        )
    return Run.load(run).run_id


def runs_of(project: ProjectInfo) -> list[Path]:
    """Return the folders of the runs that a project knows of, oldest first."""
    root = project.folder / BRIDGE_FOLDER / "runs"
    folders = sorted(root.iterdir()) if root.is_dir() else []
    return [folder for folder in folders if (folder / records.RUN_FILE).is_file()]
