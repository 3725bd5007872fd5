"""The functions that users call, each a few lines over the parts."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from qupath_bridge.pipeline import export as _export
from qupath_bridge.pipeline.plan import Failure, Plan, check_classes, plan
from qupath_bridge.pipeline.progress import watch
from qupath_bridge.pipeline.run import Progress, Run
from qupath_bridge.pipeline.verify import verify
from qupath_bridge.qupath.editing import Editor
from qupath_bridge.qupath.jvm.installation import find_installations
from qupath_bridge.roundtrip import provenance as _provenance
from qupath_bridge.roundtrip import write_back as _write_back
from qupath_bridge.roundtrip.status import status
from qupath_bridge.roundtrip.write_back import KEPT
from qupath_bridge.runners.local import ThreadRunner
from qupath_bridge.sources.auto import choose
from qupath_bridge.sources.base import Project

from .errors import MissingDependencyError, UsageError
from .sources import get_engine, open_project

if TYPE_CHECKING:
    from qupath_bridge.roundtrip.provenance import Provenance
    from qupath_bridge.roundtrip.write_back import WriteBack

    from .model import Slide

__all__ = [
    "export",
    "open_project",
    "plan",
    "status",
    "undo_write_back",
    "verify",
    "write_back",
    "write_provenance",
]


def export(
    plans: Sequence[Plan],
    out: Path | str,
    *,
    failures: Sequence[Failure] = (),
    workers: int | None = None,
    resume: bool = False,
    update: bool = False,
    progress: bool | str | Callable[[Progress], None] = False,
    command: Sequence[str] | None = None,
    engine: Mapping[str, object] | None = None,
) -> Run:
    """Write the patches of plans into a folder, with index, record and report.

    Parameters
    ----------
    plans : sequence of Plan
        All made with one configuration, one per image.
    out : path
        A new or empty folder; made when it does not exist.
    failures : sequence of Failure
        Images that could not be planned; they go into the report.
    workers : int, optional
        Threads; the number of cores when not given. The output does not depend on it.
    resume, update : bool
        What to do with a folder that holds a run: finish it, or bring it up to date.
    progress : bool, str or callable
        True for a bar on stderr, ``"auto"`` for one where stderr is a terminal, ``"jsonl"`` for
        JSON lines; or a function that takes :class:`Progress` values.
    command, engine : optional
        For ``run.json``; of the engine it is ``project.engine_record``.

    Raises
    ------
    ConfigError
        If the configuration names a class that is nowhere in the images or the project.
    OutputError
        If the folder is refused or cannot be written.
    InterruptedRunError
        If it is stopped; what is committed stays, and ``resume=True`` goes on.
    """
    if not plans:
        raise UsageError("There is nothing to export: no image was planned.")
    if resume or update:
        config = plans[0].config.replace(resume=resume, update=update)
        plans = [dataclasses.replace(one, config=config) for one in plans]
    if not failures:
        check_classes(plans, plans[0].config)
    with watch(progress, sum(len(one) for one in plans)) as on_progress:
        return _export.export(
            plans,
            out,
            failures=failures,
            runner=ThreadRunner(workers or plans[0].config.workers),
            on_progress=on_progress,
            command=sys.argv if command is None else command,
            engine=engine or {"name": None},
        )


def write_provenance(project: Project, run: Run) -> Provenance:
    """Lay a run's GeoJSON into ``<project>/qupath_bridge/runs/<run id>/``.

    Where the project cannot be written it goes to ``OUT/provenance/``; the result says so.
    """
    return _provenance.write_provenance(project.info, run)


def write_back(
    project: Project,
    run_id: str,
    *,
    engine: str = "auto",
    qupath: Path | str | None = None,
    slides: Sequence[Slide] | None = None,
    replace: bool = False,
    dry_run: bool = False,
    keep: int = KEPT,
) -> WriteBack:
    """Put the tiles of a run straight into QuPath's data; QuPath has to be closed.

    Parameters
    ----------
    project : Project
    run_id : str
        A run that the project knows.
    engine : str
        Who writes: ``paquo``, ``embedded``, or ``auto``. What was written is read back with both,
        where a QuPath is installed.
    qupath : path, optional
        Its folder; the newest that is found when not given.
    slides : sequence of Slide, optional
        Which images; all of the run when not given.
    replace : bool
        Also take away the tiles of all other runs, and those that were changed in QuPath.
    dry_run : bool
        Say what would change, and change nothing.
    keep : int
        Backups to keep, 0 for all.

    Returns
    -------
    WriteBack
        Images that failed are in it, each with the reason and the data that it has now.

    Raises
    ------
    OutputError
        If QuPath has the project open, another write-back is at work, or there is no such run.
    """
    with _editors(engine, qupath) as ((editor, *verifiers), warnings):
        done = _write_back.write_back(
            project, run_id, editor, slides=slides, replace=replace, dry_run=dry_run, keep=keep,
            verifiers=verifiers,
        )  # fmt: skip
    return dataclasses.replace(done, warnings=(*warnings, *done.warnings))


def undo_write_back(
    project: Project,
    run_id: str,
    *,
    engine: str = "auto",
    qupath: Path | str | None = None,
    slides: Sequence[Slide] | None = None,
    dry_run: bool = False,
    keep: int = KEPT,
) -> WriteBack:
    """Take the tiles of a run out of QuPath's data again; see :func:`write_back`.

    Data that nobody touched since get their old bytes. In others the tiles of the run go, those
    that they replaced come back, and every other object stays as it is now.
    """
    with _editors(engine, qupath) as ((editor, *verifiers), warnings):
        done = _write_back.undo(
            project, run_id, editor, slides=slides, dry_run=dry_run, keep=keep, verifiers=verifiers
        )
    return dataclasses.replace(done, warnings=(*warnings, *done.warnings))


@contextmanager
def _editors(
    engine: str, qupath: Path | str | None
) -> Iterator[tuple[Sequence[Editor], tuple[str, ...]]]:
    """Give the editor that was asked for, then the others that can look at what it made.

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
            editor = get_engine(name, qupath=qupath)
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
