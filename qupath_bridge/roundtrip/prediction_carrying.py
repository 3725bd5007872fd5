"""Predictions that a new run takes over from its earlier version: those of unchanged patches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from qupath_bridge.model import ProjectInfo
from qupath_bridge.qupath.geojson import Tile

from .prediction_files import load_all, read_predicted, remove_predictions, store_predictions
from .prediction_names import predictions_of
from .runs import ProjectRuns

__all__ = ["carry_predictions"]

DIGEST_KEY = "qb.digest"
"""Metadata of a tile: the digest of its patch."""


def carry_predictions(project: ProjectInfo, run_id: str) -> tuple[str, ...]:
    """Give a run the predictions of its newest earlier version, for patches with the same bytes.

    A prediction is about the pixels of a patch: it holds also if the label changed. What the run
    has of a name already stays.

    Returns
    -------
    tuple of str
        Names of the predictions that were taken over.

    Raises
    ------
    OutputError, ProjectError
        If a file of the earlier version is damaged, or the project cannot be written.
    """
    runs = ProjectRuns(project)
    before = max(runs.earlier_versions(run_id), default=None)
    if before is None:
        return ()
    own = {record["name"] for record in load_all(runs.folders[run_id])}
    records = [each for each in runs.predictions(before) if each["name"] not in own]
    return tuple(name for each in records if (name := _carry(runs, run_id, before, each)))


class _Tally:
    """Counts tiles and the range of each measurement."""

    def __init__(self) -> None:
        self.tiles = 0
        self.numbers: dict[str, tuple[int, float, float]] = {}

    def add(self, numbers: Mapping[str, float]) -> None:
        self.tiles += 1
        for name, value in numbers.items():
            patches, least, most = self.numbers.get(name, (0, value, value))
            self.numbers[name] = patches + 1, min(least, value), max(most, value)

    def legend(self, before: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return the measurements of a record with the numbers of now."""
        lines = []
        for each in before:
            patches, least, most = self.numbers.get(each["name"], (0, None, None))
            lines.append({**each, "patches": patches, "minimum": least, "maximum": most})
        return lines


def _carry(runs: ProjectRuns, run_id: str, before: str, record: Mapping[str, Any]) -> str | None:
    """Take one name over; return it, or None if no patch is the same."""
    name, tally = str(record["name"]), _Tally()

    def tiles_of(entry_id: str) -> Callable[[], Iterator[Tile]]:
        def tiles() -> Iterator[Tile]:
            predicted = {
                tile.id: (tile.metadata.get(DIGEST_KEY), predictions_of(tile.measurements, name))
                for tile in read_predicted(runs.folders[before], record, entry_id)
            }
            for tile in runs.written_tiles(run_id, entry_id):
                digest, numbers = predicted.get(tile.id, (None, {}))
                if digest is not None and digest == tile.metadata.get(DIGEST_KEY):
                    tally.add(numbers)
                    yield tile._replace(measurements={**tile.measurements, **numbers})

        return tiles

    slides = [
        (entry_id, tiles_of(entry_id)) for entry_id in record["tiles"] if runs.has(run_id, entry_id)
    ]

    def new() -> Mapping[str, Any]:
        legend = tally.legend(record["measurements"])
        return {**record, "run_id": run_id, "carried_from": before, "measurements": legend}

    store_predictions(runs.folders[run_id], name, new, slides)
    if tally.tiles:
        return name
    remove_predictions(runs.folders[run_id], name)
    return None
