"""Functions that write tiles of a run into the project, and into QuPath's data."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from qupath_bridge.config import Selection
from qupath_bridge.errors import MissingDependencyError, UsageError
from qupath_bridge.outputs.base import Output
from qupath_bridge.pipeline import verify as _verify
from qupath_bridge.pipeline.run import Run
from qupath_bridge.qupath.editing import Editor
from qupath_bridge.qupath.jvm.installation import find_installations
from qupath_bridge.roundtrip import provenance as _provenance
from qupath_bridge.roundtrip import write_back as _write_back
from qupath_bridge.roundtrip.provenance import Provenance
from qupath_bridge.roundtrip.write_back import BACKUPS, WriteBack
from qupath_bridge.sources import get_source
from qupath_bridge.sources.auto import choose
from qupath_bridge.sources.base import Project

from .opening import Place, names_at, opened_for_writing, run_name
from .planning import select


def ensure_provenance(
    project: Project | Place,
    run: Run | Place,
    *,
    dry_run: bool = False,
    pseudonymise: Place | None = None,
) -> tuple[str, Provenance]:
    """Write a run into its project unless it is there; return its id and place.

    ``pseudonymise`` is the key file of a run with pseudonyms.
    """
    names = names_at(pseudonymise)
    with opened_for_writing(project) as opened:
        return _provenance.ensure_provenance(opened, run_name(run), dry_run=dry_run, names=names)


def write_provenance(
    project: Project | Place, run: Run | Output | Place, *, pseudonymise: Place | None = None
) -> Provenance:
    """Write a run's GeoJSON to ``<project>/qupath_bridge/runs/<run id>/``.

    Where the project cannot be written it goes to ``OUT/provenance/``; the result says so.
    ``pseudonymise`` is the key file of a run with pseudonyms.

    Raises
    ------
    OutputError
        If neither place can be written, or the run was exported from another project.
    """
    finished = run if isinstance(run, Run) else Run.load(run)
    _verify.check_intact(finished.open())
    names = names_at(pseudonymise)
    with opened_for_writing(project) as opened:
        recorded = _provenance.recorded_project(opened, finished, names)
        return _provenance.write_provenance(opened.info, finished, recorded, names=names)


def write_back(
    project: Project | Place,
    run: Run | str | Path,
    *,
    engine: str = "auto",
    qupath: Path | str | None = None,
    selection: Selection | None = None,
    replace: bool = False,
    discard_corrections: bool = False,
    dry_run: bool = False,
    keep: int = BACKUPS,
    force: bool = False,
    pseudonymise: Place | None = None,
) -> WriteBack:
    """Write the tiles of a run straight into QuPath's data; QuPath has to be closed.

    Parameters
    ----------
    project : Project or path
    run : Run, run id, or output
    engine : str
        What writes: ``paquo``, ``embedded``, or ``auto``. What was written is read back with both,
        where a QuPath is installed.
    qupath : path, optional
        Its folder; the newest that is found when not given.
    selection : Selection, optional
        Which slides; all of the run when not given.
    replace : bool
        Also remove the tiles of all other runs.
    discard_corrections : bool
        Also replace tiles that a person gave another class in QuPath; else they are left alone.
    dry_run : bool
        Say what would change, and change nothing.
    keep : int
        Backups to keep, 0 for all.
    force : bool
        Write also if a QuPath is running that may have the project open.
    pseudonymise : path, optional
        The key file of a run with pseudonyms; only for one that is not in the project yet.

    Returns
    -------
    WriteBack
        Slides that failed are in it, each with the reason and the data that it has now.

    Raises
    ------
    OutputError
        If QuPath has the project open or may have it open, another write-back is running, or
        there is no such run.
    InterruptedRunError
        If it was interrupted; the message says what was written, and how to undo it.
    """
    with (
        opened_for_writing(project) as opened,
        editors(engine, qupath) as ((editor, *verifiers), warnings),
    ):
        run_id, _ = _provenance.ensure_provenance(
            opened, run_name(run), dry_run=dry_run, names=names_at(pseudonymise)
        )
        slides = None if selection is None else select(opened, selection)
        done = _write_back.write_back(
            opened, run_id, editor, slides=slides, replace=replace,
            discard_corrections=discard_corrections, dry_run=dry_run, keep=keep,
            verifiers=verifiers, force=force,
        )  # fmt: skip
    return dataclasses.replace(done, warnings=(*warnings, *done.warnings))


def undo_write_back(
    project: Project | Place,
    run: Run | str | Path,
    *,
    engine: str = "auto",
    qupath: Path | str | None = None,
    selection: Selection | None = None,
    dry_run: bool = False,
    keep: int = BACKUPS,
    force: bool = False,
) -> WriteBack:
    """Remove the tiles of a run from QuPath's data again; see :func:`write_back`.

    Data that nobody touched since get their old bytes. In others the tiles of the run go, those
    that they replaced come back, and every other object stays as it is now. The run is found by
    its backups and tiles too, so that its output is not needed.
    """
    with (
        opened_for_writing(project) as opened,
        editors(engine, qupath) as ((editor, *verifiers), warnings),
    ):
        slides = None if selection is None else select(opened, selection)
        run_id = _provenance.find_run_to_undo(opened.info, run_name(run))
        done = _write_back.undo(
            opened, run_id, editor, slides=slides, dry_run=dry_run, keep=keep,
            verifiers=verifiers, force=force,
        )  # fmt: skip
    return dataclasses.replace(done, warnings=(*warnings, *done.warnings))


@contextmanager
def editors(
    engine: str, qupath: Path | str | None
) -> Iterator[tuple[Sequence[Editor], tuple[str, ...]]]:
    """Give the editor that was asked for, then the others that can read what it made.

    ``auto`` takes QuPath's own classes where they can be used. What is written is read back by
    both engines in that case, whichever of them wrote. A QuPath that nobody asked for and that
    does not start is a warning.
    """
    choice = choose(find_installations(configured=qupath))
    first = choice.name if engine == "auto" else engine
    names = [first]
    if first == "paquo" or (first == "embedded" and choice.name == "paquo"):
        names.append("embedded" if first == "paquo" else "paquo")
    ready: list[Editor] = []
    warnings: tuple[str, ...] = ()
    try:
        for name in names:
            editor = get_source(name, qupath=qupath)
            if not isinstance(editor, Editor):
                raise UsageError(f"The engine {name!r} cannot write.", hint="Use 'embedded'.")
            try:
                editor.start()
            except MissingDependencyError as error:
                if name == engine:
                    raise
                warnings = (*warnings, f"QuPath could not be used: {error}")
                continue
            ready.append(editor)
        yield ready, warnings
    finally:
        for each in ready:
            each.close()
