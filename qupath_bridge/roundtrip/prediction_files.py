"""Files of the predictions of a run, in its folder in the project.

``predictions/<name>/`` has a tile file per slide, as the run itself, and ``record.json``. That
comes last and names the files by their digests: what it does not name does not count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from qupath_bridge.errors import ProjectError
from qupath_bridge.patches.ids import slug
from qupath_bridge.pipeline.records import dump_json, load_record
from qupath_bridge.qupath.geojson import Tile, read_tiles, tiles_geojson
from qupath_bridge.schemas import PredictionRecord
from qupath_bridge.stores.local import LocalStore

from .prediction_names import predictions_of
from .tile_files import digest_of

__all__ = [
    "FOLDER",
    "HARD_FILE",
    "load_all",
    "prediction_folder",
    "read_predicted",
    "remove_predictions",
    "store_predictions",
    "with_predictions",
]

FOLDER = "predictions"
"""Folder of predictions in the folder of a run."""

RECORD = "record.json"
HARD_FILE = "hard.csv"
"""List of the hard patches, in the folder of predictions."""

_ENDING = ".geojson.gz"


def prediction_folder(run_folder: Path, name: str) -> Path:
    """Return the folder of predictions; names that differ by case alone have different ones."""
    return run_folder / FOLDER / f"{slug(name)}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def store_predictions(
    run_folder: Path,
    name: str,
    record: Callable[[], Mapping[str, Any]],
    slides: Iterable[tuple[str, Callable[[], Iterator[Tile]]]],
    hard: Callable[[], bytes] | None = None,
) -> Path:
    """Write predictions in the place of those of the same name; return their folder.

    Parameters
    ----------
    run_folder : Path
        Of the run in the project.
    name : str
    record : callable
        Returns the record without ``tiles``, when all tiles were yielded.
    slides : iterable of (str, callable)
        Entry IDs, and what yields the tiles of a slide, which have the predictions.
    hard : callable, optional
        Returns the list of hard patches, when all tiles were yielded.

    Raises
    ------
    OutputError
        If the project cannot be written; the former predictions are still there.
    """
    folder = prediction_folder(run_folder, name)
    store = LocalStore(folder)
    store.sweep()
    tiles = {}
    for entry_id, make in slides:
        made = make()
        first = next(made, None)
        if first is None:
            continue
        content = tiles_geojson(chain([first], made))
        tiles[entry_id] = hashlib.sha256(content).hexdigest()
        store.put(_file(entry_id, tiles[entry_id]), content)
    if hard is not None:
        store.put(HARD_FILE, hard())
    store.put(RECORD, dump_json({**record(), "tiles": tiles}), durable=True)
    keep = {RECORD, *(_file(entry, digest) for entry, digest in tiles.items())}
    keep |= {HARD_FILE} if hard is not None else set()
    for left in [name for name in store.list() if name not in keep]:
        store.delete(left)
    return folder


def remove_predictions(run_folder: Path, name: str) -> None:
    """Remove the files of predictions; the record goes first."""
    store = LocalStore(run_folder)
    folder = prediction_folder(run_folder, name).relative_to(run_folder).as_posix()
    store.delete(f"{folder}/{RECORD}")
    for left in list(store.list(f"{folder}/")):
        store.delete(left)


def load_all(run_folder: Path) -> tuple[dict[str, Any], ...]:
    """Return the records of the predictions of a run, by name.

    Raises
    ------
    OutputError
        If one is damaged.
    """
    places = sorted((run_folder / FOLDER).glob(f"*/{RECORD}"))
    hint = "Delete the folder of these predictions, and write them again from their table."
    records = [
        load_record(LocalStore(p.parent), RECORD, PredictionRecord, hint=hint) for p in places
    ]
    for path, record in zip(places, records, strict=True):
        if record["run_id"] != run_folder.name or path.parent != prediction_folder(
            run_folder, record["name"]
        ):
            raise ProjectError(
                f"This is the record of {record['name']!r} of run {record['run_id']}",
                path=path,
                hint=hint,
            )
    return tuple(sorted(records, key=lambda record: str(record["name"])))


def with_predictions(
    run_folder: Path, records: Sequence[Mapping[str, Any]], entry_id: str, tiles: Iterator[Tile]
) -> Iterator[Tile]:
    """Yield the tiles of a run with their predictions as measurements.

    Both stand in the same order: some tiles are in memory at a time.

    Raises
    ------
    ProjectError
        If a file of predictions is not the one that was written, or has other tiles than the run.
    """
    for record in records:
        if entry_id in record["tiles"]:
            tiles = _joined(tiles, run_folder, record, entry_id)
    return tiles


def read_predicted(run_folder: Path, record: Mapping[str, Any], entry_id: str) -> Iterator[Tile]:
    """Yield the tiles of a slide that have predictions of one name, with these.

    Raises
    ------
    ProjectError
        If their file is not the one that was written.
    """
    path, digest = _path(run_folder, record, entry_id), record["tiles"][entry_id]
    if problem := _problem(path, digest):
        raise ProjectError(problem, path=path, hint=_hint(path, record))
    yield from read_tiles(path)


def _path(run_folder: Path, record: Mapping[str, Any], entry_id: str) -> Path:
    folder = prediction_folder(run_folder, record["name"])
    return folder / _file(entry_id, record["tiles"][entry_id])


def _hint(path: Path, record: Mapping[str, Any]) -> str:
    return (
        f"Delete {path.parent}, and write the predictions {record['name']!r} again, from their "
        f"table {record['table']}: the command predictions does that."
    )


def _joined(
    tiles: Iterator[Tile], run_folder: Path, record: Mapping[str, Any], entry_id: str
) -> Iterator[Tile]:
    name, predicted = record["name"], read_predicted(run_folder, record, entry_id)
    coming = next(predicted, None)
    for tile in tiles:
        if coming is not None and coming.id == tile.id:
            more = predictions_of(coming.measurements, name)
            tile = tile._replace(measurements={**tile.measurements, **more})
            coming = next(predicted, None)
        yield tile
    if coming is not None:
        path = _path(run_folder, record, entry_id)
        problem = f"has the tile {coming.id}, which the run lacks"
        raise ProjectError(problem, path=path, hint=_hint(path, record))


def _file(entry_id: str, digest: str) -> str:
    return f"{entry_id}-{digest[:16]}{_ENDING}"


def _problem(path: Path, digest: str) -> str | None:
    try:
        found = digest_of(path)
    except FileNotFoundError:
        return "This file of predictions is not there any more"
    except OSError as error:
        return f"cannot be read, {error.strerror or error}"
    return None if found == digest else "This file was changed after the predictions were written"
