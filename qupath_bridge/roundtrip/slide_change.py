"""The change of the data file of one slide, whole or not at all.

Read the data file, make a changed copy beside it, read the copy back and compare it, store the old
file, and rename the copy over it. Whatever fails or is killed, a slide has its old data or its new
data.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal

from qupath_bridge.errors import BridgeError, MissingDataError, OutputError, ProjectError
from qupath_bridge.frozen import FrozenDict, OneLine
from qupath_bridge.model import ImageData, PathObject, Slide
from qupath_bridge.pipeline.places import check_inside
from qupath_bridge.qupath.editing import Editor
from qupath_bridge.qupath.files.classes import class_colors
from qupath_bridge.qupath.qpdata.reading import MAX_BYTES
from qupath_bridge.regular_files import read_regular
from qupath_bridge.sources.base import Project, check_link, missing_data
from qupath_bridge.stores.local import LocalStore

from .backups import DATA_FILE, Backup, Change, content_digest
from .collecting import Examination, examine, keep_event, keep_statements
from .comparing import Inventory, differences, take_inventory
from .edits import Protection, TileEdit, state_after
from .file_state import FileState, check_same_file, check_unchanged
from .runs import ProjectRuns, our_tiles, run_of
from .tile_files import RUN_KEY
from .undoing import History

__all__ = ["EntryChange", "Planner", "Session", "change_slide"]

_SHOWN = 3  # differences that an error lists
_CLOSE_IMAGE = "Close the image in QuPath and try again."
_CLOSE_PROJECT = "Close the project in QuPath and try again."

State = Literal["written", "unchanged", "failed", "would change"]


@dataclass(frozen=True, slots=True, repr=False)
class EntryChange(OneLine):
    """Change of one slide that was made, or would be.

    Attributes
    ----------
    state : str
        ``written``, ``unchanged`` (nothing to do) or ``failed``; ``would change`` in a dry run.
    added, removed : int
        Tiles.
    measured : int
        Tiles that are as they were but for their predictions.
    unmeasured : int
        Tiles that kept their predictions, as they are locked or have a colour or text of their own.
    corrected, rejected : int
        Tiles that show the class that a person gave them, and tiles that a person rejected.
    restored : int
        Added tiles that were missing, nobody can know why.
    collected : int
        Statements of persons that were found in the data, and stored.
    other_runs : mapping of str to int
        How many tiles of which other runs stay; they may overlap the new ones.
    messages : tuple of str
        What was found in the data, in sentences.
    problem : str or None
        Reason of a failure, and whether the slide has its old or its new data.
    """

    entry_id: str
    slide_name: str
    state: State
    added: int = 0
    removed: int = 0
    measured: int = 0
    unmeasured: int = 0
    corrected: int = 0
    rejected: int = 0
    restored: int = 0
    collected: int = 0
    other_runs: Mapping[str, int] = field(default_factory=FrozenDict)
    messages: tuple[str, ...] = ()
    problem: str | None = None


Planner = Callable[[Slide, Mapping[str, PathObject], Protection, History], TileEdit]
"""Decides about a slide from our tiles in its data, what people said, and the changes before."""


@dataclass(slots=True)
class Session:
    """The common values of all slides of one call; ``stored`` grows with each slide."""

    project: Project
    runs: ProjectRuns
    run_id: str
    editor: Editor
    verifiers: Sequence[Editor]
    dry_run: bool
    backup: Backup
    earlier: tuple[Backup, ...]
    project_state: FileState
    stored: dict[str, Change] = field(default_factory=dict)
    shown_runs: dict[str, frozenset[str]] = field(default_factory=dict)

    @property
    def colors(self) -> dict[str, tuple[int, int, int]]:
        """Colours of the classes of the project."""
        return class_colors(self.project.info.classes)

    def data_file(self, slide: Slide) -> Path:
        """Return the data file of a slide."""
        return self.project.info.folder / "data" / slide.entry_id / DATA_FILE


def change_slide(session: Session, slide: Slide, plan: Planner) -> EntryChange:
    """Carry out the edit of one slide; its failure does not stop the others."""
    path = session.data_file(slide)
    before = event = None
    try:
        _check_in_place(path)
        check_inside(path, session.project.info.folder)
        if not path.parent.is_dir():  # it was not copied: a new file would hide that
            raise missing_data(path.parent.absolute(), reading=False)
        before = FileState.of(path)
        image = ImageData(image_type="UNSET")  # as QuPath makes it for a slide that it never saved
        if before.digest is not None:
            image = session.editor.read_file(path, entry_id=slide.entry_id)
        history = History.of(session.earlier, slide.entry_id, before.digest, session.editor)
        shown, seen = our_tiles(image), _examine(session, slide, image)
        protection = Protection() if seen is None else Protection.of(seen, session.colors)
        edit = plan(slide, shown, protection, history)
        inventory = take_inventory(image)
        del image  # the changed copy is read as a whole too
        event = _keep(session, seen, edit)
        if not edit.empty:
            _apply_edit(session, slide, edit, inventory, before, history)
        elif edit.replaced_before and not session.dry_run:
            _store(session, slide, before, before.digest, edit)
    except MissingDataError as error:
        return EntryChange(slide.entry_id, slide.name, "failed", problem=str(error))
    except (BridgeError, OSError) as error:
        problem = f"{error} {_data_now(session, slide, before, event)}"
        return EntryChange(slide.entry_id, slide.name, "failed", problem=problem)
    remaining = [run_of(tile) for i, tile in shown.items() if i not in edit.remove]
    remaining += [tile.metadata.get(RUN_KEY) for tile in edit.add]
    session.shown_runs[slide.entry_id] = frozenset(run for run in remaining if run)
    return _result(session, slide, edit, seen)


def _result(
    session: Session, slide: Slide, edit: TileEdit, seen: Examination | None
) -> EntryChange:
    state: State = "would change" if session.dry_run else "written"
    return EntryChange(
        slide.entry_id,
        slide.name,
        "unchanged" if edit.empty else state,
        added=edit.new,
        removed=edit.gone,
        measured=len(edit.measured),
        unmeasured=len(edit.unmeasured),
        corrected=len(edit.corrected),
        rejected=len(edit.rejected),
        restored=len(edit.restored),
        collected=0 if seen is None else len(seen.found.new),
        other_runs=edit.others,
        messages=() if seen is None else seen.messages,
    )


def _examine(session: Session, slide: Slide, image: ImageData) -> Examination | None:
    """Return what people said about the tiles; None if that cannot be known any more.

    A run is taken out also if its folder is damaged.
    """
    try:
        return examine(session.runs, slide.entry_id, image.objects)
    except BridgeError:
        if session.backup.action == "undo":
            return None
        raise


def _keep(session: Session, seen: Examination | None, edit: TileEdit) -> Path | None:
    """Store what people said, and what is shown from now on; return the file of the latter.

    This comes first: data that lack what an event says are taken for data that were not saved.
    """
    if seen is None or session.dry_run:
        return None
    keep_statements(session.runs, seen)
    return keep_event(
        session.runs,
        seen,
        "show" if session.backup.action == "write" else "remove",
        state_after(seen, edit),
        run_id=session.run_id,
        rejected=len(edit.rejected),
    )


def _apply_edit(
    session: Session,
    slide: Slide,
    edit: TileEdit,
    inventory: Inventory,
    before: FileState,
    history: History,
) -> None:
    """Make the changed copy, check it, store the old file, and put the copy in its place."""
    path = session.data_file(slide)
    equal = _equal_backup(edit, inventory, before.digest, history)
    restored = None if equal is None else equal.content(slide.entry_id)

    def last_check() -> None:
        _last_check(session, path, before)

    if equal is not None and restored is None:  # there was no file before the run was written
        if not session.dry_run:
            _store(session, slide, before, None, edit)
            last_check()
            LocalStore(path.parent).delete(DATA_FILE)
        return
    with _copy(session, path, last_check) as copy:
        if restored is not None:
            copy.write_bytes(restored)
        else:
            source = None if before.digest is None else path
            session.editor.edit(source, copy, slide=slide, remove=edit.remove, add=edit.add)
            _verify_copy(session, slide, edit, inventory, copy)
        if not session.dry_run:
            _store(session, slide, before, FileState.of(copy).digest, edit)


def _equal_backup(
    edit: TileEdit, inventory: Inventory, now: str | None, history: History
) -> Backup | None:
    """Return the backup whose file is what the edit gives; None if there is none.

    It has to be one of the states that led to the data of now without anybody else, so that only
    tiles can differ.
    """
    target = {i: value for i, value in inventory.shown().items() if i not in edit.remove}
    target.update(edit.hashes)
    ids = set(inventory.tiles)
    for backup in history.states_before(now):
        change = backup.changes[history.entry_id]
        ids = (ids - set(change.added)) | set(change.removed)
        if ids == target.keys():
            image = history.image_before(backup)
            if (take_inventory(image).shown() if image else {}) == target:
                return backup
    return None


def _store(
    session: Session, slide: Slide, before: FileState, after: str | None, edit: TileEdit
) -> None:
    """Store the old file and the change that is about to be made."""
    path = session.data_file(slide)
    recorded = [each for each in session.earlier if slide.entry_id in each.changes]
    if recorded and recorded[-1].state(slide.entry_id, before.digest) == "not written":
        recorded[-1].drop(slide.entry_id)  # a kill came between this record and the rename
    change = Change(
        slide.entry_id,
        slide.name,
        before.digest,
        after,
        removed=tuple(sorted(edit.remove)),
        added=tuple(edit.hashes),
    )
    content = None
    if before.digest not in (None, after):
        content = read_regular(path, MAX_BYTES)
        if content_digest(content) != before.digest:
            check_unchanged(path, before, hint=_CLOSE_IMAGE)
    session.backup.store(change, content, permissions=path)
    session.stored[slide.entry_id] = change


@contextmanager
def _copy(session: Session, path: Path, last_check: Callable[[], None]) -> Iterator[Path]:
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
    session: Session, slide: Slide, edit: TileEdit, inventory: Inventory, copy: Path
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


def _check_in_place(path: Path) -> None:
    check_link(path)
    backup = path.with_name(f"{path.name}.bkp")
    if backup.exists():
        raise OutputError(
            f"{backup} exists: QuPath is saving this slide, or was interrupted while it did.",
            hint="Open the image in QuPath, check it, and save it.",
        )


def _last_check(session: Session, path: Path, before: FileState) -> None:
    """Refuse if anybody else wrote since the files were read; right before the rename.

    The data file comes last, and its facts last of all: reading takes a while.
    """
    check_unchanged(
        session.project.info.path, session.project_state, hint=_CLOSE_PROJECT, reread=False
    )
    now = check_unchanged(path, before, hint=_CLOSE_IMAGE)
    _check_in_place(path)
    check_same_file(path, now, hint=_CLOSE_IMAGE)


def _data_now(session: Session, slide: Slide, before: FileState | None, event: Path | None) -> str:
    """Say which data a slide has after a failure; forget a change that was not made."""
    change = session.stored.get(slide.entry_id)
    try:
        now = FileState.of(session.data_file(slide)).digest
    except ProjectError:
        return "It is unknown which data the slide has now."
    if before is None:
        return "The slide has its old data."  # they could not be read, and nothing was written
    if change is not None and now == change.after != before.digest:
        return "The slide has its new data."
    if change is not None:
        with suppress(BridgeError):
            session.backup.drop(slide.entry_id)
        del session.stored[slide.entry_id]
    if event is not None:
        with suppress(OSError):
            event.unlink()
    if now == before.digest:
        return "The slide has its old data."
    return "The slide has the data that somebody else wrote."
