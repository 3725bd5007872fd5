"""Function that goes back from a patch or a file to where it came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qupath_bridge.errors import BridgeError, OutputError, UsageError
from qupath_bridge.outputs import open_output
from qupath_bridge.outputs.base import Output
from qupath_bridge.pipeline.pseudonyms import Names, check_key
from qupath_bridge.pipeline.run import Run
from qupath_bridge.roundtrip.runs import ProjectRuns
from qupath_bridge.sources.base import Project

from .opening import Place, find_project_file, names_at, opened_for_writing, output_of

if TYPE_CHECKING:
    from qupath_bridge.datasets.lineage import Lineage
    from qupath_bridge.datasets.lineage_runs import FoundPatch, KnownRun
    from qupath_bridge.datasets.lineage_subject import Subject

HINT = (
    "Name the output of the run with out, or its project with project: that also knows runs that "
    "were replaced."
)


def lineage(
    subject: Place,
    *,
    out: Run | Output | Place | None = None,
    project: Project | Place | None = None,
    pseudonymise: Place | None = None,
) -> Lineage:
    """Return the origin of a patch, or of what was made from the patches of a run.

    It goes back to the slide file and its fingerprint, the annotations and their classes, what
    people said about the patch, the run with its command and options, the folds of its splits, and
    what models say about it. Everything is read from what was stored; slides are not opened.

    Parameters
    ----------
    subject : path or str
        A patch file or mask, also a copy somewhere else; a patch id; the id of a tile in QuPath; a
        table with ``patch_id`` or ``tile_uuid``; a split, features, or predictions of a run; a
        folder that was converted from it; a JSON file with ``run_id``, or any file with one beside
        it (``model.pt.json`` beside ``model.pt``); or the output of a run.
    out : Run, Output, path or URL, optional
        The output to look in; the one in which the file is when not given.
    project : Project or path, optional
        The project to look in: in all its runs, the newest first. When not given, the one that
        the run recorded.
    pseudonymise : path, optional
        Key file of a run with pseudonyms; they are shown as they are when not given.

    Returns
    -------
    Lineage
        ``not_found`` says what could not be found, and where it was looked for.

    Raises
    ------
    UsageError
        If the file does not say from which run it is, and no place is named.
    OutputError
        If no run has it, or a record is damaged.
    ProjectError
        If there is no such project, or a record in it is damaged.

    Examples
    --------
    >>> found = lineage("patches/patches/1_a/Tumor/1_a_x0_y512.png")    # doctest: +SKIP
    >>> found.slides[0].path                                            # doctest: +SKIP
    '/slides/a.svs'
    >>> [region.class_path for region in found.patch.regions]           # doctest: +SKIP
    ['Tumor']
    """
    from qupath_bridge.datasets.lineage_subject import read_subject
    from qupath_bridge.datasets.lineage_tracing import trace

    asked = read_subject(str(subject), named=out is not None or project is not None)
    names = names_at(pseudonymise)
    with ExitStack() as stack:
        projects = _Projects(stack, project or asked.project, names)
        run, found, replaced_by = _find(asked, out, projects)
        check_key(run.record["pseudonyms"], names, needed=False)
        return trace(asked, run, found, projects.of, names, replaced_by=replaced_by)


class _Projects:
    """The projects of slides, opened when they are needed."""

    def __init__(self, stack: ExitStack, named: Project | Place | None, names: Names) -> None:
        self._stack = stack
        self._names = names
        self._opened: dict[str, ProjectRuns | None] = {}
        self.named = None if named is None else self._open(named)

    def of(self, facts: Mapping[str, Any]) -> ProjectRuns | None:
        """Return the runs of the project of a slide; None if it is not there."""
        if self.named is not None:
            return self.named
        place = self._names.reveal(facts["project"] or "")
        if place not in self._opened:
            there = place.endswith(".qpproj") and Path(place).is_file()
            self._opened[place] = self._open(place) if there else None
        return self._opened[place]

    def _open(self, place: Project | Place) -> ProjectRuns:
        file = place if isinstance(place, Project) else find_project_file(Path(place))
        return ProjectRuns(self._stack.enter_context(opened_for_writing(file)).info)


def _find(
    asked: Subject, out: Run | Output | Place | None, projects: _Projects
) -> tuple[KnownRun, tuple[FoundPatch, ...], str | None]:
    """Return the run that has what was asked, its patches, and the run that replaced it."""
    looked = []
    changed = None
    for run, replaced_by in _runs(asked, out, projects):
        looked.append(f"run {run.record['run_id']} in {run.place}")
        if asked.run_id not in (None, run.record["run_id"]):
            continue
        found = run.find(asked) if asked.is_patch else ()
        known = found or (not asked.is_patch and _knows(run, asked))
        if known and (not found or found[0].intact is not False):
            return run, found, replaced_by
        if known and changed is None:
            changed = run, found, replaced_by  # perhaps an earlier run wrote these bytes
    if changed is not None:
        return changed
    if not looked:
        made = "" if asked.run_id is None else f" was made from run {asked.run_id}, and"
        what = made or ("" if Path(asked.text).exists() else " is not a file, and")
        raise UsageError(f"{asked.text}{what} does not say where its run is.", hint=HINT)
    what = "" if asked.run_id is None else f", made from run {asked.run_id},"
    raise OutputError(
        f"{asked.text}{what} was not found in {', '.join(looked)}.",
        hint="A patch that was dropped, or one of another run? " + HINT,
    )


def _knows(run: KnownRun, asked: Subject) -> bool:
    """Return whether a run has any patch of a table; a subject that is not a table is the run."""
    from qupath_bridge.datasets.lineage_runs import known_keys

    return not asked.keys or any(known_keys(run, asked).values())


def _runs(
    asked: Subject, out: Run | Output | Place | None, projects: _Projects
) -> Iterator[tuple[KnownRun, str | None]]:
    """Yield the runs to look in, each with the run that replaced it."""
    from qupath_bridge.datasets.lineage_runs import OutputRun, open_recorded

    own = out if out is not None else asked.out
    first = None if own is None else OutputRun(output_of(own))
    if first is not None:
        yield first, None
    runs = projects.named
    if runs is None and first is not None:
        # What the output does not have can be of an earlier run, which the project still has.
        runs = next((found for facts in first.slides() if (found := projects.of(facts))), None)
    if runs is None:
        return
    for run_id in reversed(list(runs.folders)):
        if first is not None and run_id == first.record["run_id"]:
            continue
        run = open_recorded(runs, run_id)
        yield run, None if isinstance(run, OutputRun) else _holder(run.record)


def _holder(record: Mapping[str, Any]) -> str | None:
    """Return the run that the output of a run holds now; None if that is not known."""
    try:
        now = Run.load(open_output(record["out"])).run_id
    except BridgeError:
        return None
    return None if now == record["run_id"] else now
