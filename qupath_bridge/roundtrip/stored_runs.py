"""Runs of a project that are not in its folder on this machine: copies of them to look at.

They are in the folder of a project in object storage, or beside the patches, where a project could
not be written.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from qupath_bridge.errors import OutputError
from qupath_bridge.model import ProjectInfo
from qupath_bridge.parallel import ordered_map
from qupath_bridge.pipeline.recorded_runs import folder_beside
from qupath_bridge.pipeline.records import RUN_FILE
from qupath_bridge.pipeline.run import Run
from qupath_bridge.stores import Store, open_store
from qupath_bridge.stores.local import LocalStore
from qupath_bridge.urls import shown

__all__ = ["copied_runs"]


@contextmanager
def copied_runs(
    project: ProjectInfo, outs: Iterable[Path | str] = ()
) -> Iterator[Mapping[Path, Path]]:
    """Give copies of runs, oldest first: the folder of each, and where it was copied from.

    Parameters
    ----------
    project : ProjectInfo
        One in object storage has its runs copied; those of a folder of this machine are there.
    outs : iterable of Path or str
        Outputs with the provenance of further runs.

    Raises
    ------
    OutputError
        If an output has no provenance of the project, or a file cannot be copied.
    """
    places = {**_runs_of(project), **dict(_beside(project, out) for out in outs)}
    with tempfile.TemporaryDirectory(prefix="qupath-bridge-") as temporary:
        copies = {}
        for run_id in sorted(places):
            folder = Path(temporary) / run_id
            _copy(open_store(shown(places[run_id])), LocalStore(folder))
            copies[folder] = places[run_id]
        yield copies


def _runs_of(project: ProjectInfo) -> dict[str, Path]:
    """Return the folders of the runs in a project in object storage, by their ids."""
    if not project.is_stored:
        return {}
    root = project.bridge_folder / "runs"
    store = open_store(shown(root))
    found = [name.rstrip("/") for name in store.children() if name.endswith("/")]
    return {run_id: root / run_id for run_id in found if store.exists(f"{run_id}/{RUN_FILE}")}


def _beside(project: ProjectInfo, out: Path | str) -> tuple[str, Path]:
    """Return the id of the run in an output, and the folder of its provenance there."""
    run = Run.load(out)
    projects = run.record["projects"]
    if project.place not in [each["path"] for each in projects]:
        raise OutputError(
            f"Run {run.run_id} in {run.place} is not of {project.place}.",
            hint=f"It is of {', '.join(each['path'] for each in projects)}.",
        )
    folder = folder_beside(Path(run.place), projects, project.place)
    if not open_store(shown(folder)).exists(RUN_FILE):
        raise OutputError(
            f"Run {run.run_id} in {run.place} has no provenance of {project.place}.",
            hint="It is there where the project could not be written, and provenance was not "
            "switched off.",
        )
    return run.run_id, folder


def _copy(source: Store, target: LocalStore) -> None:
    def copy(name: str) -> None:
        target.put(name, source.get(name))

    deque(ordered_map(copy, source.list(), workers=source.at_once), maxlen=0)
