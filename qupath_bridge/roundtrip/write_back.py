"""Write tiles directly into a project's data, and remove them again, without opening QuPath.

Slides are changed one after the other, each whole or not at all; see :mod:`.slide_change`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import filelock

from qupath_bridge.errors import InterruptedRunError, OutputError
from qupath_bridge.frozen import OneLine, count, one_line
from qupath_bridge.model import BRIDGE_FOLDER, PathObject, Slide
from qupath_bridge.pipeline.places import check_inside
from qupath_bridge.qupath.editing import Editor
from qupath_bridge.qupath.gc_pause import gc_paused
from qupath_bridge.sources.base import Project

from .backups import DATA_FILE, Action, Backup, backups_of, prune
from .edits import Protection, TileEdit, write_edit
from .file_state import FileState, contains
from .prediction_names import PREDICTED
from .run_pointers import set_run_pointers
from .running_qupath import Process, find_qupath
from .runs import ProjectRuns
from .slide_change import EntryChange, Planner, Session, change_slide
from .undoing import History, undo_edit, unpredict_edit

__all__ = ["BACKUPS", "EntryChange", "WriteBack", "backups", "undo", "unpredict", "write_back"]

BACKUPS = 10
"""Default number of backups that are left."""


@dataclass(frozen=True, slots=True, repr=False)
class WriteBack(OneLine):
    """The result of a write-back, or of undoing one."""

    action: Action
    run_id: str
    engine: str
    dry_run: bool
    entries: tuple[EntryChange, ...]
    backup: Path | None = None
    pruned: tuple[Path, ...] = ()
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        failed = sum(entry.state == "failed" for entry in self.entries)
        return one_line(
            "WriteBack",
            f"{self.action} {self.run_id!r} by {self.engine}",
            count(len(self.entries), "slide"),
            f"{failed} failed" if failed else None,
            "dry run" if self.dry_run else None,
        )

    @property
    def failed(self) -> bool:
        """True if a slide failed."""
        return any(entry.state == "failed" for entry in self.entries)


@dataclass(frozen=True, slots=True)
class _Options:
    """Options of a write-back or an undo; the parameters of :func:`write_back`.

    ``pointers`` is false where images show the runs that they showed.
    """

    dry_run: bool
    keep: int
    verifiers: Sequence[Editor]
    running: Sequence[Process] | None
    force: bool
    replace: bool = False
    pointers: bool = True


def write_back(
    project: Project,
    run_id: str,
    editor: Editor,
    *,
    slides: Sequence[Slide] | None = None,
    replace: bool = False,
    discard_corrections: bool = False,
    dry_run: bool = False,
    keep: int = BACKUPS,
    verifiers: Sequence[Editor] = (),
    running: Sequence[Process] | None = None,
    force: bool = False,
) -> WriteBack:
    """Write the tiles of a run into the data of its slides.

    Only tiles of ours are ever removed: those of the run itself and of its earlier versions (the
    same output, or the same settings), those at the place of a new one, or those of all runs with
    ``replace``. What people said about tiles is stored first, and kept: tiles have the class that
    a person gave them, and rejected ones stay out. Doing it twice changes nothing the second time.

    Parameters
    ----------
    project : Project
        Opened by any engine.
    run_id : str
        A run that the project knows.
    editor : Editor
        Makes the changed copies.
    slides : sequence of Slide, optional
        Slides to write; all of the run when not given.
    replace : bool
        Also remove the tiles of all other runs.
    discard_corrections : bool
        Show the run's classes, and rejected tiles; what people said stays in its files.
    dry_run : bool
        Report what would change. Nothing is written in the project, not even a lock.
    keep : int
        Backups that are left, 0 for all.
    verifiers : sequence of Editor
        Other editors that read each copy back as well.
    running : sequence of Process, optional
        QuPath processes; those of this machine when not given.
    force : bool
        Write also if a QuPath is running that may have the project open. One that certainly has
        it open is refused anyway.

    Raises
    ------
    OutputError
        If QuPath has, or may have, the project open, another write-back is running, or there is
        no such run.
    InterruptedRunError
        If it was interrupted; the message says which slides were written, and how to undo that.
    """
    runs = ProjectRuns(project.info)
    if run_id not in runs.folders:
        raise _no_run(project, runs, run_id)
    chosen = project.slides if slides is None else slides
    wanted = [slide for slide in chosen if runs.has(run_id, slide.entry_id)]
    if not wanted:
        raise OutputError(
            f"The run {run_id} has no tiles of "
            + ("any slide of this project." if slides is None else "these slides."),
            hint="Name the project and the slides that it was exported from.",
        )

    def plan(
        slide: Slide, shown: Mapping[str, PathObject], protection: Protection, _: History
    ) -> TileEdit:
        if discard_corrections:
            protection = protection.discarded()
        return write_edit(runs, run_id, slide.entry_id, shown, protection, replace=replace)

    options = _Options(dry_run, keep, verifiers, running, force, replace)
    return _change_all(project, runs, run_id, "write", editor, wanted, plan, options)


def undo(
    project: Project,
    run_id: str,
    editor: Editor,
    *,
    slides: Sequence[Slide] | None = None,
    dry_run: bool = False,
    keep: int = BACKUPS,
    verifiers: Sequence[Editor] = (),
    running: Sequence[Process] | None = None,
    force: bool = False,
) -> WriteBack:
    """Remove the tiles of a run again, and restore those that they replaced.

    The result is as if the run had never been written, whatever was written or undone since.
    Where nobody else changed the data file, it gets its old bytes. In other files the tiles of the
    run are removed and those that they replaced come back, with the class that a person gave them;
    every other object stays as it is now. What people said is stored first.
    Neither the run's folder nor its output is needed: its backups and the tiles themselves are
    enough, also in copies that QuPath made of an image.

    Parameters and errors are those of :func:`write_back`.
    """
    runs = ProjectRuns(project.info)
    folder = project.info.folder
    known = {i for b in backups_of(folder) if b.run_id == run_id for i in b.changes}
    wanted = [
        slide
        for slide in (project.slides if slides is None else slides)
        if slide.entry_id in known
        or runs.has(run_id, slide.entry_id)
        or contains(folder / "data" / slide.entry_id / DATA_FILE, run_id.encode())
    ]
    if not wanted and run_id not in runs.folders:
        raise _no_run(project, runs, run_id)

    def plan(
        _: Slide, shown: Mapping[str, PathObject], protection: Protection, history: History
    ) -> TileEdit:
        return undo_edit(runs, run_id, shown, protection, history)

    options = _Options(dry_run, keep, verifiers, running, force)
    return _change_all(project, runs, run_id, "undo", editor, wanted, plan, options)


def unpredict(
    project: Project,
    run_id: str,
    name: str,
    editor: Editor,
    *,
    keep: int = BACKUPS,
    verifiers: Sequence[Editor] = (),
    running: Sequence[Process] | None = None,
    force: bool = False,
) -> WriteBack:
    """Take predictions from the tiles of a run in the data of its slides; nothing else changes.

    Parameters and errors are those of :func:`write_back`.
    """
    runs = ProjectRuns(project.info)
    if run_id not in runs.folders:
        raise _no_run(project, runs, run_id)
    folder, sign = project.info.folder / "data", PREDICTED.encode()
    slides = [s for s in project.slides if contains(folder / s.entry_id / DATA_FILE, sign)]

    def plan(
        _: Slide, shown: Mapping[str, PathObject], protection: Protection, __: History
    ) -> TileEdit:
        return unpredict_edit(run_id, name, shown, protection)

    options = _Options(False, keep, verifiers, running, force, pointers=False)
    return _change_all(project, runs, run_id, "write", editor, slides, plan, options)


def backups(folder: Path) -> Iterator[tuple[Backup, dict[str, str]]]:
    """Yield the backups of a project's data, oldest first, and the state of each change.

    The change of a slide is ``in place``, ``not written`` (it was interrupted, or undone since), or
    its data were ``changed since``.
    """
    now = lru_cache(maxsize=None)(lambda entry: FileState.of(folder / "data" / entry / DATA_FILE))
    for backup in backups_of(folder):
        states = {entry: backup.state(entry, now(entry).digest) for entry in backup.changes}
        yield backup, states


def _no_run(project: Project, runs: ProjectRuns, run_id: str) -> OutputError:
    return OutputError(
        f"No run {run_id} in {project.info.folder}.",
        hint=f"Its runs are: {', '.join(runs.folders) or 'none'}. If the run is not in the "
        "project, pass its output folder.",
    )


def _change_all(
    project: Project,
    runs: ProjectRuns,
    run_id: str,
    action: Action,
    editor: Editor,
    slides: Sequence[Slide],
    plan: Planner,
    options: _Options,
) -> WriteBack:
    """Change slides one after the other, then the project's entries that point to runs."""
    folder, dry_run = project.info.folder, options.dry_run
    check_inside(folder / BRIDGE_FOLDER / "backups", folder)
    state = FileState.of(project.info.path)
    warnings = list(_check_qupath(project, options))
    entries: list[EntryChange] = []
    pruned: list[Path] = []
    with _locked(folder, dry_run), gc_paused():
        session = Session(
            project=project,
            runs=runs,
            run_id=run_id,
            editor=editor,
            verifiers=options.verifiers,
            dry_run=dry_run,
            backup=Backup.new(
                folder,
                action,
                run_id,
                editor.name,
                out=str(runs.record(run_id).get("out", "")),
                replace=options.replace,
            ),
            earlier=tuple(backups_of(folder)),
            project_state=state,
        )
        try:
            entries.extend(change_slide(session, slide, plan) for slide in slides)
        except KeyboardInterrupt as error:
            raise _interrupted(session, slides, action, run_id) from error
        if not dry_run:
            try:
                if options.pointers:
                    set_run_pointers(project, state, run_id, action, session.shown_runs)
            except OutputError as error:
                warnings.append(str(error))
            try:
                pruned = prune(folder, options.keep)
            except OutputError as error:
                warnings.append(f"Old backups are still there: {error}")
    return WriteBack(
        action=action,
        run_id=run_id,
        engine=editor.name,
        dry_run=dry_run,
        entries=tuple(entries),
        backup=session.backup.folder if session.stored else None,
        pruned=tuple(pruned),
        warnings=tuple(warnings),
    )


def _interrupted(
    session: Session, slides: Iterable[Slide], action: Action, run_id: str
) -> InterruptedRunError:
    """Return the error that says which slides were changed before an interrupt."""
    done = []
    for slide in slides:
        change = session.stored.get(slide.entry_id)
        if change and FileState.of(session.data_file(slide)).digest == change.after:
            done.append(f"{slide.name} (ID {slide.entry_id})")
    words = "written" if action == "write" else "undone"
    if not done:
        return InterruptedRunError(f"Stopped; no slide was {words}.")
    return InterruptedRunError(
        f"Stopped; {count(len(done), 'slide was', 'slides were')} {words}: {', '.join(done)}.",
        hint=f"Do it again to finish, or undo run {run_id} to remove its tiles."
        if action == "write"
        else "Do it again to finish.",
    )


def _check_qupath(project: Project, options: _Options) -> Iterator[str]:
    """Refuse a project that QuPath has, or may have, open; yield a warning about others."""
    folder = project.info.folder
    slides = [slide.path for slide in project.slides if slide.path is not None]
    # What QuPath writes when it saves or shows an image, and this library never does.
    written = [project.info.path.with_name(f"{project.info.path.name}.backup")]
    for slide in project.slides:
        data = folder / "data" / slide.entry_id
        written += [data / "summary.json", data / "thumbnail.jpg"]
    for process in find_qupath(folder, slides, options.running, written):
        if process.state == "open":
            raise OutputError(
                f"QuPath (process {process.pid}) has {folder} open: {process.reason}. "
                "Nothing was changed.",
                hint="Close the project in QuPath, or import the patches there.",
            )
        if process.state == "unclear" and not options.force:
            raise OutputError(
                f"QuPath is running (process {process.pid}) and may have {folder} open: "
                f"{process.reason}. Nothing was changed.",
                hint="Close QuPath, or import the patches there. If it surely shows another "
                "project, use the option force.",
            )
        yield (
            f"QuPath is running (process {process.pid}; {process.reason}). If it has this project "
            "open, choose File > Reload data there before you save anything."
        )


@contextmanager
def _locked(folder: Path, dry_run: bool) -> Iterator[None]:
    """Lock the project for other write-backs; the system unlocks it when the process ends."""
    if dry_run:
        yield
        return
    path = folder / BRIDGE_FOLDER / "write-back.lock"
    try:
        path.parent.mkdir(exist_ok=True)
        lock = filelock.FileLock(path, timeout=0)
        lock.acquire()
    except filelock.Timeout as error:
        raise OutputError(
            f"Another write-back is running in {folder}. Nothing was changed.",
            hint="Wait until it has finished.",
        ) from error
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror or error}. Nothing was changed.",
            hint="Fix the permissions of the project's folder.",
        ) from error
    try:
        yield
    finally:
        lock.release()
