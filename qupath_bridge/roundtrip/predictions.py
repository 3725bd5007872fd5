"""Predictions of a model: numbers about patches, which QuPath shows as measurements of our tiles.

They are kept in the folder of their run in the project. Import and write-back put them on the
tiles; they never change what a tile is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qupath_bridge.errors import OutputError, UsageError
from qupath_bridge.frozen import OneLine, count
from qupath_bridge.model import ProjectInfo
from qupath_bridge.outputs.csv_file import csv_text
from qupath_bridge.patches.ids import slide_of_patch
from qupath_bridge.pipeline.places import check_inside
from qupath_bridge.pipeline.records import RUN_SCHEMA_VERSION, timestamp
from qupath_bridge.qupath.geojson import Tile
from qupath_bridge.sources.table_files import listed

from .prediction_files import (
    HARD_FILE,
    prediction_folder,
    remove_predictions,
    store_predictions,
)
from .prediction_measurements import (
    MAX_MEASUREMENTS,
    Column,
    Hard,
    check_columns,
    columns_of,
    find_hard,
    hard_column,
)
from .prediction_names import check_name
from .prediction_table import PredictionTable
from .run_words import run_words
from .runs import ProjectRuns
from .write_back import WriteBack

__all__ = ["Measurement", "Predictions", "drop_predictions", "put_predictions"]


@dataclass(frozen=True, slots=True, repr=False)
class Measurement(OneLine):
    """A measurement of predictions, as a legend has it.

    Attributes
    ----------
    name : str
        As QuPath lists it.
    column : str
        Column of the table.
    kind : str
        ``raw``, the number of the table; ``softmax`` or ``rank`` of it in the slide; ``class``: 1
        where the table has this class, else 0; ``hard``: the place among the hard patches.
    patches : int
        Tiles that have it.
    minimum, maximum : float or None
        None if no tile has it.
    """

    name: str
    column: str
    kind: str
    patches: int
    minimum: float | None
    maximum: float | None


@dataclass(frozen=True, slots=True, repr=False)
class Predictions(OneLine):
    """Predictions that were put into projects, or taken out.

    Attributes
    ----------
    name, run_id : str
    folders : tuple of Path
        Where they are kept, one folder per project.
    measurements : tuple of Measurement
    tiles : int
        Tiles that have a prediction.
    without : int
        Tiles of the run that have none.
    elsewhere : int
        Rows about slides of other projects of the run.
    left_out : tuple of str
        Columns that were not taken, with the reason.
    hard : tuple of Path
        Lists of the hard patches, one file per project.
    written : tuple of WriteBack
        What was written straight into QuPath's data.
    """

    name: str
    run_id: str
    folders: tuple[Path, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    tiles: int = 0
    without: int = 0
    elsewhere: int = 0
    left_out: tuple[str, ...] = ()
    hard: tuple[Path, ...] = ()
    written: tuple[WriteBack, ...] = ()

    @property
    def failed(self) -> bool:
        """True if a slide could not be written."""
        return any(done.failed for done in self.written)


@dataclass(slots=True)
class _Found:
    """The tiles of the rows of a table, in arrays.

    ``slide`` and ``order`` number slides and tiles as they come; -1 for a row without a tile.
    """

    slide: NDArray[np.int64]
    order: NDArray[np.int64]
    labels: list[str | None]
    slides: int = 0
    tiles: int = 0
    faults: list[str] = field(default_factory=list)


def put_predictions(
    projects: Sequence[ProjectInfo],
    run_id: str,
    name: str,
    table: PredictionTable,
    *,
    add: Collection[str] = (),
    hard: int | None = None,
    hard_by: str = "entropy",
) -> Predictions:
    """Put predictions about the patches of a run into its folder in each project.

    Those of the same name are replaced. Nothing is written before the whole table was checked.

    Parameters
    ----------
    projects : sequence of ProjectInfo
        All have the run.
    run_id, name : str
    table : PredictionTable
    add : collection of str
        ``softmax``, ``rank``: measurements beside each number.
    hard : int, optional
        How many hard patches are numbered and listed.
    hard_by : str
        What makes a patch hard; see :func:`find_hard`.

    Raises
    ------
    UsageError
        If keys are not those of patches of the run, each once; all such faults are listed. If
        there would be too many measurements, or names that QuPath cannot show.
    OutputError
        If a project cannot be written, or a file of the run is damaged.
    """
    check_name(name)
    if hard is not None and hard < 1:
        raise UsageError(f"{hard} hard patches cannot be listed.", hint="Give a number from 1.")
    every = [ProjectRuns(project) for project in projects]
    found, elsewhere = _find(every, run_id, table)
    columns = columns_of(table, name, found.slide, add)
    hardest = None
    if hard is not None:
        labels = every[0].record(run_id)["labels"]
        hardest = find_hard(table, hard, hard_by, labels, found.labels, found.order)
        columns.append(hard_column(name, len(table), hardest))
        check_columns([column.measurement for column in columns])
    for runs in every:
        _check_number(runs, run_id, name, len(columns))
    taken = found.order >= 0
    legend = tuple(_legend(column, taken) for column in columns)
    record = _record(table, run_id, name, legend, hardest)
    folders = [_store(runs, run_id, table, columns, record, hardest) for runs in every]
    values = np.column_stack([column.values for column in columns])
    tiles = int((taken & ~np.isnan(values).all(axis=1)).sum())
    return Predictions(
        name=name,
        run_id=run_id,
        folders=tuple(folders),
        measurements=legend,
        tiles=tiles,
        without=found.tiles - tiles,
        elsewhere=elsewhere,
        left_out=table.left_out,
        hard=tuple(folder / HARD_FILE for folder in folders) if hardest else (),
    )


def drop_predictions(project: ProjectInfo, run_id: str, name: str) -> None:
    """Remove predictions from the folder of a run.

    Raises
    ------
    UsageError
        If the run has none of this name.
    OutputError
        If the project cannot be written.
    """
    runs = ProjectRuns(project)
    names = [record["name"] for record in runs.predictions(run_id)]
    if name not in names:
        raise UsageError(
            f"{run_words(run_id, runs.record(run_id)).capitalize()} has no predictions {name!r} in "
            f"{project.folder}.",
            hint=f"It has {', '.join(names) or 'none'}.",
        )
    check_inside(prediction_folder(runs.folders[run_id], name), project.folder)
    remove_predictions(runs.folders[run_id], name)


# --- finding tiles --------------------------------------------------------------------------------


def _entries(runs: ProjectRuns, run_id: str) -> list[str]:
    """Return the entry IDs of the slides of a run in a project."""
    record = runs.record(run_id)
    return [
        slide["entry_id"]
        for slide in record["slides"]
        if slide["project"] == record["project"] and runs.has(run_id, slide["entry_id"])
    ]


def _find(every: Sequence[ProjectRuns], run_id: str, table: PredictionTable) -> tuple[_Found, int]:
    """Return the tiles of the rows, and the number of rows about slides of other projects."""
    number = len(table)
    found = _Found(np.full(number, -1), np.full(number, -1), [None] * number)
    for runs in every:
        if problem := runs.problem(run_id):
            raise OutputError(problem)
        for entry_id in _entries(runs, run_id):
            _find_in_slide(found, runs.written_tiles(run_id, entry_id), table)
            found.slides += 1
    others = _other_slides(every, run_id)
    elsewhere = 0
    for key, row in table.rows.items():
        if found.order[row] >= 0:
            continue
        if table.key == "patch_id" and slide_of_patch(key) in others:
            elsewhere += 1
        else:
            found.faults.append(f"row {row + 1}: {key} is not a patch of the run")
    if found.faults:
        raise UsageError(
            listed(f"{table.source} cannot be used", found.faults),
            hint=f"{run_words(run_id, every[0].record(run_id)).capitalize()}, {run_id}, has "
            f"{count(found.tiles, 'patch', 'patches')} here. Take {table.key} from its index, or "
            "name another run.",
        )
    if elsewhere == number:
        raise UsageError(
            f"{table.source}: no row is about a slide of {every[0].project.folder}.",
            hint="Name the project whose slides the table is about, or the output of the run.",
        )
    return found, elsewhere


def _find_in_slide(found: _Found, tiles: Iterator[Tile], table: PredictionTable) -> None:
    for tile in tiles:
        key = tile.name if table.key == "patch_id" else tile.id
        row = table.rows.get(key)
        if row is not None:
            if found.order[row] >= 0:
                found.faults.append(
                    f"row {row + 1}: {key} is a patch of several projects; use patch_id"
                )
            if table.other is not None and table.other[row] != tile.id:
                found.faults.append(
                    f"row {row + 1}: the tile of {key} is {tile.id}, not {table.other[row]}"
                )
            found.slide[row], found.order[row] = found.slides, found.tiles
            found.labels[row] = tile.class_path
        found.tiles += 1


def _other_slides(every: Sequence[ProjectRuns], run_id: str) -> set[str]:
    """Return the ids of the slides of a run that are in other projects than these."""
    here = {runs.record(run_id)["project"] for runs in every}
    return {
        slide["slide_id"]
        for slide in every[0].record(run_id)["slides"]
        if slide["project"] not in here and slide["slide_id"] is not None
    }


# --- writing --------------------------------------------------------------------------------------


def _check_number(runs: ProjectRuns, run_id: str, name: str, new: int) -> None:
    others = {r["name"]: len(r["measurements"]) for r in runs.predictions(run_id)}
    others.pop(name, None)
    total = new + sum(others.values())
    if total > MAX_MEASUREMENTS:
        more = f", with those of {', '.join(others)}" if others else ""
        raise UsageError(
            f"The run would have {total} measurements of predictions{more}; "
            f"{MAX_MEASUREMENTS} can be shown.",
            hint="Take fewer columns, or remove other predictions first.",
        )


def _legend(column: Column, taken: NDArray[np.bool_]) -> Measurement:
    values = column.values[taken & ~np.isnan(column.values)]
    return Measurement(
        column.measurement,
        column.column,
        column.kind,
        len(values),
        float(values.min()) if len(values) else None,
        float(values.max()) if len(values) else None,
    )


def _record(
    table: PredictionTable,
    run_id: str,
    name: str,
    legend: Sequence[Measurement],
    hard: Hard | None,
) -> Mapping[str, Any]:
    return {
        "schema_version": RUN_SCHEMA_VERSION,
        "name": name,
        "run_id": run_id,
        "time": timestamp(),
        "table": table.source,
        "table_digest": table.digest,
        "key": table.key,
        "rows": len(table),
        "measurements": [asdict(each) for each in legend],
        "hard_by": None if hard is None else hard.by,
        "carried_from": None,
    }


def _store(
    runs: ProjectRuns,
    run_id: str,
    table: PredictionTable,
    columns: Sequence[Column],
    record: Mapping[str, Any],
    hard: Hard | None,
) -> Path:
    """Write the predictions into one project; return their folder."""
    folder = runs.folders[run_id]
    check_inside(prediction_folder(folder, record["name"]), runs.project.folder)
    names = [column.measurement for column in columns]
    values = np.column_stack([column.values for column in columns])
    hard_tiles: dict[int, Tile] = {}
    hard_rows = frozenset(hard.rows if hard else ())

    def tiles_of(entry_id: str) -> Callable[[], Iterator[Tile]]:
        def tiles() -> Iterator[Tile]:
            for tile in runs.written_tiles(run_id, entry_id):
                row = table.rows.get(tile.name if table.key == "patch_id" else tile.id)
                if row is None:
                    continue
                if row in hard_rows:
                    hard_tiles[row] = tile
                pairs = zip(names, values[row].tolist(), strict=True)
                numbers = {name: value for name, value in pairs if value == value}
                if numbers:
                    yield tile._replace(measurements={**tile.measurements, **numbers})

        return tiles

    slides = [(entry_id, tiles_of(entry_id)) for entry_id in _entries(runs, run_id)]
    listing = None if hard is None else lambda: _hard_list(hard, hard_tiles)
    return store_predictions(folder, record["name"], lambda: record, slides, listing)


def _hard_list(hard: Hard, tiles: Mapping[int, Tile]) -> bytes:
    """Return the hard patches of one project as CSV, hardest first."""
    rows = [
        (str(place), tile.name, tile.id, tile.class_path or "", repr(score))
        for place, (row, score) in enumerate(zip(hard.rows, hard.scores, strict=True), 1)
        if (tile := tiles.get(row)) is not None
    ]
    names = ("place", "patch_id", "tile_uuid", "label", hard.by)
    texts = list(zip(*rows, strict=True)) or [()] * len(names)
    return csv_text(dict(zip(names, texts, strict=True)))
