"""Functions that show predictions of a model in QuPath, as measurements of the tiles of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from qupath_bridge.errors import OutputError, UsageError
from qupath_bridge.pipeline.recorded_runs import run_folders
from qupath_bridge.pipeline.records import RUN_FILE
from qupath_bridge.pipeline.run import Run
from qupath_bridge.qupath.files.finding import is_project_file
from qupath_bridge.roundtrip import provenance as _provenance
from qupath_bridge.roundtrip import write_back as _write_back
from qupath_bridge.roundtrip.predictions import Predictions, drop_predictions, put_predictions
from qupath_bridge.roundtrip.write_back import BACKUPS, WriteBack
from qupath_bridge.sources.base import Project
from qupath_bridge.stores import local_path

from .opening import (
    Place,
    find_project_file,
    names_at,
    opened_for_writing,
    refuse_stored,
    run_name,
)
from .tiles import editors

Target = Project | Run | Place
"""A project or the output of a run."""


def predictions(
    target: Target,
    table: Any,
    name: str,
    *,
    run: Run | Place | None = None,
    columns: Sequence[str] = (),
    add: Sequence[str] = (),
    hard: int | None = None,
    hard_by: str = "entropy",
    direct: bool = False,
    engine: str = "auto",
    qupath: Path | str | None = None,
    keep: int = BACKUPS,
    force: bool = False,
    pseudonymise: Place | None = None,
) -> Predictions:
    """Show numbers about the patches of a run in QuPath, as measurements of its tiles.

    The measurements are called ``qb pred NAME: COLUMN``. They are kept in the folder of the run in
    the project; QuPath gets them when the run is imported (script or menu), or with ``direct``.
    Only tiles of the run get them, and nothing else of a tile changes, above all not its class.
    The same name again replaces its measurements; another name is added beside.

    Parameters
    ----------
    target : Project, Run, path or URL
        A project, or the output of a run: then all its projects.
    table : path or table
        CSV or Parquet file, Arrow table or DataFrame: one row per patch, with ``patch_id`` or
        ``tile_uuid`` of the index, or both. Each other column of numbers is a measurement; a
        column of texts is one per class, 1 where the row has it, else 0. A number that is missing
        gives no measurement.
    name : str
        Of the predictions, as the model is called.
    run : Run, run id or output, optional
        Which run of a project; its newest when not given.
    columns : sequence of str
        Columns to take; all but those of the index when not given.
    add : sequence of str
        ``softmax``, ``rank``: measurements beside each number, among the patches of its slide.
    hard : int, optional
        So many patches of which the model is least certain get the measurement ``hard``, from 1,
        and are listed in a file. The review panel in QuPath walks through them.
    hard_by : str
        ``entropy`` or ``margin`` of class probabilities; or ``wrong``: the lowest probability of
        the patch's label, from columns that are named after labels.
    direct : bool
        Write the run with its predictions straight into QuPath's data, as :func:`write_back` does.
    engine, qupath, keep, force
        As for :func:`write_back`; only with ``direct``.
    pseudonymise : path, optional
        The key file of a run with pseudonyms.

    Raises
    ------
    UsageError
        If the table cannot be used; all faults of keys and numbers are listed.
    OutputError
        If there is no such run, a project cannot be written, or, with ``direct``, QuPath has or
        may have it open.
    """
    from qupath_bridge.roundtrip.prediction_table import read_predictions

    read = read_predictions(table, columns)
    with _opened(target, run, pseudonymise) as (projects, run_id):
        infos = [project.info for project in projects]
        done = put_predictions(infos, run_id, name, read, add=add, hard=hard, hard_by=hard_by)
        if not direct:
            return done
        written = []
        with editors(engine, qupath) as ((editor, *verifiers), warnings):
            for project in projects:
                result = _write_back.write_back(
                    project, run_id, editor, keep=keep, verifiers=verifiers, force=force
                )
                written.append(_warned(result, warnings))
    return dataclasses.replace(done, written=tuple(written))


def undo_predictions(
    target: Target,
    name: str,
    *,
    run: Run | Place | None = None,
    direct: bool = False,
    engine: str = "auto",
    qupath: Path | str | None = None,
    keep: int = BACKUPS,
    force: bool = False,
    pseudonymise: Place | None = None,
) -> Predictions:
    """Remove predictions from a run: its tiles lose these measurements, and nothing else.

    QuPath's data lose them when the run is imported again, or at once with ``direct``. Parameters
    and errors are those of :func:`predictions`.
    """
    with _opened(target, run, pseudonymise) as (projects, run_id):
        for project in projects:
            drop_predictions(project.info, run_id, name)
        written = []
        if direct:
            with editors(engine, qupath) as ((editor, *verifiers), warnings):
                for project in projects:
                    result = _write_back.unpredict(
                        project, run_id, name, editor, keep=keep, verifiers=verifiers, force=force
                    )
                    written.append(_warned(result, warnings))
    return Predictions(name=name, run_id=run_id, written=tuple(written))


def _warned(done: WriteBack, warnings: Sequence[str]) -> WriteBack:
    return dataclasses.replace(done, warnings=(*warnings, *done.warnings))


@contextmanager
def _opened(
    target: Target, run: Run | Place | None, key: Place | None
) -> Iterator[tuple[tuple[Project, ...], str]]:
    """Give the projects that are meant, which have the run, and its id."""
    names = names_at(key)
    with ExitStack() as stack:
        places: tuple[Project | Place, ...]
        if isinstance(target, Project) or not _is_output(target):
            places = (
                target if isinstance(target, Project) else find_project_file(Path(str(target))),
            )
        elif run is not None:
            raise UsageError(
                "A run is named twice: by its output, and by the option run.",
                hint="Name the project, or leave the option out.",
            )
        else:
            run = target if isinstance(target, Run) else Run.load(target)
            places = _projects_of(run, [names.reveal(p["path"]) for p in run.record["projects"]])
        opened = [stack.enter_context(opened_for_writing(place)) for place in places]
        if run is None:
            found = run_folders(opened[0].info)
            if not found:
                raise OutputError(
                    f"No run has been exported from {opened[0].info.folder} yet.",
                    hint="Export patches first.",
                )
            run = found[-1].name
        ids = {
            _provenance.ensure_provenance(project, run_name(run), names=names)[0]
            for project in opened
        }
        yield tuple(opened), ids.pop()


def _is_output(target: Run | Place) -> bool:
    """Return whether a target is an output, and not a project."""
    if isinstance(target, Run):
        return True
    folder = local_path(target)
    if folder is None:
        return not is_project_file(Path(target))
    return (folder / RUN_FILE).is_file()


def _projects_of(run: Run, paths: Sequence[str]) -> tuple[Path, ...]:
    """Return the projects of a run."""
    plain = [path for path in paths if not path.endswith(".qpproj")]
    if plain or not paths:
        raise UsageError(
            f"Run {run.run_id} in {run.place} is of slides without a QuPath project: there are no "
            "tiles that could show predictions.",
            hint="Make a project over the slides with `qupath-bridge project create`, and export "
            "from that.",
        )
    for path in paths:
        refuse_stored(path)
    gone = [path for path in paths if not Path(path).is_file()]
    if gone:
        raise OutputError(
            f"Run {run.run_id} in {run.place} was exported from {gone[0]}, which is not there.",
            hint=f"If the project moved, name it, with the option run: {run.place}.",
        )
    return tuple(Path(path) for path in paths)
