"""The functions that users call, each a few lines over the parts."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qupath_bridge.errors import UsageError
from qupath_bridge.pipeline import export as _export
from qupath_bridge.pipeline import provenance as _provenance
from qupath_bridge.pipeline.plan import Failure, Plan, check_classes, plan
from qupath_bridge.pipeline.run import Progress, Run
from qupath_bridge.pipeline.status import status
from qupath_bridge.pipeline.verify import verify
from qupath_bridge.progress import watch
from qupath_bridge.project import open_project
from qupath_bridge.project.engine import Project
from qupath_bridge.runners.local import ThreadRunner

if TYPE_CHECKING:
    from qupath_bridge.pipeline.provenance import Provenance

__all__ = ["export", "open_project", "plan", "status", "verify", "write_provenance"]


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
    engine: dict[str, object] | None = None,
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
            engine=engine or {"name": "embedded"},
        )


def write_provenance(project: Project, run: Run) -> Provenance:
    """Lay a run's GeoJSON into ``<project>/qupath_bridge/runs/<run id>/``.

    Where the project cannot be written it goes to ``OUT/provenance/``; the result says so.
    """
    return _provenance.write_provenance(project.info, run)
