"""Write tiles directly into a project's data, and remove them again, without opening QuPath.

For each slide: read the data file, make a changed copy beside it, read the copy back and compare
it, keep the old file, and rename the copy over it. Whatever fails or is killed, a slide has its old
data or its new data.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import filelock

from qupath_bridge.errors import BridgeError, OutputError, ProjectError
from qupath_bridge.frozen import OneLine, count, one_line
from qupath_bridge.model import ImageData, Slide
from qupath_bridge.pipeline.places import BRIDGE_FOLDER, check_inside
from qupath_bridge.qupath.editing import Editor
from qupath_bridge.qupath.gc_pause import gc_paused
from qupath_bridge.qupath.qpdata.reading import MAX_BYTES
from qupath_bridge.regular_files import read_regular
from qupath_bridge.sources.base import Project, check_link
from qupath_bridge.stores.local import LocalStore

from .backups import DATA_FILE, Action, Backup, Change, backups_of, content_digest, prune
from .comparing import Inventory, differences, take_inventory
from .edits import TileEdit, run_tiles, tile_file, undo_edit, write_edit
from .provenance import run_folders
from .running_qupath import Process, occupants

__all__ = ["KEPT", "EntryChange", "WriteBack", "backups", "undo", "write_back"]

KEPT = 10
"""Default number of backups that are kept."""

_SHOWN = 3  # differences that an error lists


@dataclass(frozen=True, slots=True, repr=False)
class EntryChange(OneLine):
    """Change of one slide that was made, or would be.

    Attributes
    ----------
    state : str
        ``written``, ``unchanged`` (nothing to do) or ``failed``; ``would change`` in a dry run.
    added, removed : int
        Tiles.
    problem : str or None
        Reason of a failure, and whether the slide has its old or its new data.
    """

    entry_id: str
    slide_name: str
    state: Literal["written", "unchanged", "failed", "would change"]
    added: int = 0
    removed: int = 0
    problem: str | None = None


@dataclass(frozen=True, slots=True, repr=False)
class WriteBack:
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


_Planner = Callable[[Slide, ImageData, Inventory], TileEdit]


@dataclass(slots=True)
class _Session:
    """The common values of all slides of one call; ``backup`` grows with each slide."""

    project: Project
    editor: Editor
    verifiers: Sequence[Editor]
    dry_run: bool
    backup: Backup
    project_digest: str | None

    def data_file(self, slide: Slide) -> Path:
        """Return the data file of a slide."""
        return self.project.info.folder / "data" / slide.entry_id / DATA_FILE


def write_back(
    project: Project,
    run_id: str,
    editor: Editor,
    *,
    slides: Sequence[Slide] | None = None,
    replace: bool = False,
    dry_run: bool = False,
    keep: int = KEPT,
    verifiers: Sequence[Editor] = (),
    running: Sequence[Process] | None = None,
) -> WriteBack:
    """Write the tiles of a run into the data of its slides.

    Only tiles of ours are ever removed: those of the run itself, or of all runs with ``replace``.
    Doing it twice changes nothing the second time.

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
        Also remove the tiles of all other runs, and those of this run that somebody changed in
        QuPath, which are refused otherwise.
    dry_run : bool
        Report what would change. Nothing is written in the project, not even a lock.
    keep : int
        Backups that are kept, 0 for all.
    verifiers : sequence of Editor
        Other editors that read each copy back as well.
    running : sequence of Process, optional
        QuPath processes; those of this machine when not given.

    Raises
    ------
    OutputError
        If QuPath has the project open, another write-back is running, or there is no such run.
    """
    folder = _run_folder(project, run_id)
    wanted = _slides_of_run(project, folder, slides)

    def edit(slide: Slide, image: ImageData, inventory: Inventory) -> TileEdit:
        tiles = run_tiles(folder, slide)
        return write_edit(run_id, tiles, image, inventory.shown(), replace=replace)

    return _run_all(
        project, run_id, "write", editor, wanted, edit,
        dry_run=dry_run, keep=keep, verifiers=verifiers, running=running,
    )  # fmt: skip


def undo(
    project: Project,
    run_id: str,
    editor: Editor,
    *,
    slides: Sequence[Slide] | None = None,
    dry_run: bool = False,
    keep: int = KEPT,
    verifiers: Sequence[Editor] = (),
    running: Sequence[Process] | None = None,
) -> WriteBack:
    """Remove the tiles of a run again, and restore those that they replaced.

    A data file that nobody changed since gets its old bytes. In other files the tiles of the run
    are removed and those that they replaced come back; every other object stays as it is now.

    Parameters and errors are those of :func:`write_back`.
    """
    written = [b for b in backups_of(project.info.folder) if b.run_id == run_id]
    known = {entry_id for backup in written for entry_id in backup.changes}
    folder = project.info.folder / BRIDGE_FOLDER / "runs" / run_id
    if not written:
        _run_folder(project, run_id)
    wanted = [
        slide
        for slide in (project.slides if slides is None else slides)
        if slide.entry_id in known or tile_file(folder, slide).is_file()
    ]

    def edit(slide: Slide, image: ImageData, inventory: Inventory) -> TileEdit:
        # A change that was interrupted before it counted has nothing to undo.
        done = [
            backup
            for backup in written
            if slide.entry_id in backup.changes
            and backup.state(slide.entry_id, image.digest) != "not written"
        ]
        last = done[-1] if done and done[-1].action == "write" else None
        return undo_edit(project, run_id, editor, slide, image, last)

    return _run_all(
        project, run_id, "undo", editor, wanted, edit,
        dry_run=dry_run, keep=keep, verifiers=verifiers, running=running,
    )  # fmt: skip


def backups(folder: Path) -> Iterator[tuple[Backup, dict[str, str]]]:
    """Yield the backups of a project's data, oldest first, and the state of each change.

    The change of a slide is ``in place``, ``not written`` (it was interrupted, or undone since), or
    its data were ``changed since``.
    """
    for backup in backups_of(folder):
        yield (
            backup,
            {
                entry_id: backup.state(entry_id, _digest(folder / "data" / entry_id / DATA_FILE))
                for entry_id in backup.changes
            },
        )


# --- which run, which slides ----------------------------------------------------------------------


def _run_folder(project: Project, run_id: str) -> Path:
    folders = {folder.name: folder for folder in run_folders(project.info)}
    if run_id not in folders:
        there = ", ".join(folders) or "none"
        raise OutputError(
            f"No run {run_id} in {project.info.folder}.",
            hint=f"Its runs are: {there}. If the run is not in the project, pass its output "
            "folder.",
        )
    return folders[run_id]


def _slides_of_run(project: Project, folder: Path, slides: Sequence[Slide] | None) -> list[Slide]:
    chosen = project.slides if slides is None else slides
    wanted = [slide for slide in chosen if tile_file(folder, slide).is_file()]
    if not wanted:
        raise OutputError(
            f"The run {folder.name} has no tiles of "
            + ("any slide of this project." if slides is None else "these slides.")
        )
    return wanted


# --- doing it ------------------------------------------------------------------------------------


def _run_all(
    project: Project,
    run_id: str,
    action: Action,
    editor: Editor,
    slides: Sequence[Slide],
    edit: _Planner,
    *,
    dry_run: bool,
    keep: int,
    verifiers: Sequence[Editor],
    running: Sequence[Process] | None,
) -> WriteBack:
    folder = project.info.folder
    session = _Session(
        project=project,
        editor=editor,
        verifiers=verifiers,
        dry_run=dry_run,
        backup=Backup.new(folder, action, run_id, editor.name),
        project_digest=_digest(project.info.path),
    )
    check_inside(folder / BRIDGE_FOLDER / "backups", folder)
    warnings = _check_unoccupied(project, running)
    with _locked(folder, dry_run), gc_paused():
        entries = tuple(_process_image(session, slide, edit) for slide in slides)
        pruned: list[Path] = []
        if not dry_run:
            try:
                pruned = prune(folder, keep)
            except OutputError as error:
                warnings = (*warnings, f"Old backups are still there: {error}")
    return WriteBack(
        action=action,
        run_id=run_id,
        engine=editor.name,
        dry_run=dry_run,
        entries=entries,
        backup=session.backup.folder if session.backup.changes else None,
        pruned=tuple(pruned),
        warnings=warnings,
    )


def _process_image(session: _Session, slide: Slide, plan: _Planner) -> EntryChange:
    """Carry out the edit of one slide; its failure does not stop the others."""
    path = session.data_file(slide)
    before = None
    try:
        _check_in_place(path)
        check_inside(path, session.project.info.folder)
        before = _digest(path)
        image = ImageData(image_type="UNSET")  # as QuPath makes it for a slide that it never saved
        if before is not None:
            image = session.editor.read_file(path, entry_id=slide.entry_id)
        inventory = take_inventory(image)
        edit = plan(slide, image, inventory)
        if edit.empty:
            return EntryChange(slide.entry_id, slide.name, "unchanged")
        del image  # the changed copy is read as a whole too
        _apply_edit(session, slide, edit, inventory, before)
    except (BridgeError, OSError) as error:
        problem = f"{error} {_state(session, slide, before)}"
        return EntryChange(slide.entry_id, slide.name, "failed", problem=problem)
    state: Literal["written", "would change"] = "would change" if session.dry_run else "written"
    return EntryChange(slide.entry_id, slide.name, state, len(edit.coming), len(edit.remove))


def _apply_edit(
    session: _Session, slide: Slide, edit: TileEdit, inventory: Inventory, before: str | None
) -> None:
    """Make the changed copy, check it, keep the old file, and put the copy in its place."""
    path = session.data_file(slide)

    def unchanged() -> None:
        _check_unchanged(session, path, before)

    def keep(after: str | None) -> None:
        removed = tuple(sorted(edit.remove))
        change = Change(slide.entry_id, slide.name, before, after, removed, edit.coming)
        session.backup = session.backup.keep(change, path.read_bytes() if before else None)

    restored = edit.restore.content(slide.entry_id) if edit.restore else None
    if edit.restore and restored is None:  # there was no file before the run was written
        if not session.dry_run:
            keep(None)
            unchanged()
            LocalStore(path.parent).delete(DATA_FILE)
        return
    with _copy(session, path, unchanged) as copy:
        if restored is not None:
            copy.write_bytes(restored)
        else:
            source = None if before is None else path
            session.editor.edit(source, copy, slide=slide, remove=edit.remove, add=edit.add)
            _verify_copy(session, slide, edit, inventory, copy)
        if not session.dry_run:
            keep(_digest(copy))


@contextmanager
def _copy(session: _Session, path: Path, last_check: Callable[[], None]) -> Iterator[Path]:
    """Give a place for the changed copy: beside the file; for a dry run in another folder."""
    if session.dry_run:
        with tempfile.TemporaryDirectory(prefix="qupath-bridge-") as folder:
            yield Path(folder, DATA_FILE)
        return
    if path.parent.is_dir():
        LocalStore(path.parent).sweep()
    # A link to another file of the project stays; QuPath would replace it.
    target = path.resolve() if path.is_symlink() else path
    with LocalStore(target.parent).staged(target.name, durable=True, last_check=last_check) as copy:
        yield copy


def _verify_copy(
    session: _Session, slide: Slide, edit: TileEdit, inventory: Inventory, copy: Path
) -> None:
    """Read a changed copy with every engine, and compare it with what it should be."""
    for editor in (session.editor, *session.verifiers):
        after = take_inventory(editor.read_file(copy, entry_id=slide.entry_id))
        faults = differences(inventory, after, removed=edit.remove, added=edit.hashes)
        problems = list(islice(faults, _SHOWN))
        if problems:
            raise OutputError(
                f"The changed copy of {session.data_file(slide)}, read by the engine "
                f"{editor.name}, failed verification: {'; '.join(problems)}.",
                hint="Import the patches in QuPath instead, and report this.",
            )


# --- what may prevent a change -------------------------------------------------------------------


def _check_unoccupied(project: Project, running: Sequence[Process] | None) -> tuple[str, ...]:
    """Refuse a project that QuPath has open; return a warning if that is unknown."""
    slides = [slide.path for slide in project.slides if slide.path is not None]
    found = occupants(project.info.folder, slides, running)
    for each in found:
        if each.evidence is not None:
            raise OutputError(
                f"QuPath (process {each.pid}) has {project.info.folder} open: {each.evidence}. "
                "Nothing was changed.",
                hint="Close the project in QuPath, or import the patches there.",
            )
    if not found:
        return ()
    pids = ", ".join(str(each.pid) for each in found)
    return (
        f"QuPath is running (process {pids}), and its project is unknown. If it has this one open, "
        "choose File > Reload data there before you save anything.",
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


def _check_in_place(path: Path) -> None:
    check_link(path)
    backup = path.with_name(f"{path.name}.bkp")
    if backup.exists():
        raise OutputError(
            f"{backup} exists: QuPath is saving this slide, or was interrupted while it did.",
            hint="Open the image in QuPath, check it, and save it.",
        )


def _check_unchanged(session: _Session, path: Path, before: str | None) -> None:
    """Refuse if anybody else wrote since the files were read."""
    _check_in_place(path)
    if _digest(path) != before:
        raise OutputError(
            f"{path} was changed by somebody else since it was read.",
            hint="Close the image in QuPath and try again.",
        )
    project = session.project.info.path
    if _digest(project) != session.project_digest:
        raise OutputError(
            f"{project} was changed by somebody else since it was read.",
            hint="Close the project in QuPath and try again.",
        )


def _digest(path: Path) -> str | None:
    """Return the digest of a file; None if there is no file."""
    try:
        return content_digest(read_regular(path, MAX_BYTES))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ProjectError(f"cannot be read, {error.strerror or error}", path=path) from error


def _state(session: _Session, slide: Slide, before: str | None) -> str:
    """Say which data a slide has after a failure."""
    change = session.backup.changes.get(slide.entry_id)
    try:
        now = _digest(session.data_file(slide))
    except ProjectError:
        return "It is unknown which data the slide has now."
    if now == before:
        return "The slide has its old data."
    if change is not None and now == change.after:
        return "The slide has its new data."
    return "The slide has the data that somebody else wrote."
