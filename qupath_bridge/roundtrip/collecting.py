"""Statements about the tiles of one slide: found in its data, and kept in files.

:func:`examine` reads and decides; nothing is written before :func:`keep`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from qupath_bridge.errors import OutputError
from qupath_bridge.frozen import FrozenDict, count
from qupath_bridge.model import PathObject
from qupath_bridge.patches.corrections import (
    Correction,
    latest_by_reviewer,
    latest_corrections,
    to_lines,
)
from qupath_bridge.patches.ids import tile_uuid
from qupath_bridge.pipeline.places import check_inside
from qupath_bridge.pipeline.records import timestamp
from qupath_bridge.sources.corrections import CORRECTIONS, ENDING, CorrectionFile, correction_files
from qupath_bridge.stores.local import LocalStore

from .run_words import local_time, run_words
from .runs import ProjectRuns
from .shown import (
    SHOWN,
    ShownAction,
    ShownEvent,
    Tables,
    changes_by_run,
    layers_of,
    next_key,
    read_events,
    store_event,
)
from .statements import Comparison, LastShown, compare, find_last_shown, shown_now
from .tile_tables import DataTiles, RunTiles

__all__ = [
    "Examination",
    "State",
    "dismiss",
    "examine",
    "keep",
    "keep_event",
    "keep_statements",
    "stored_files",
]


@dataclass(frozen=True, slots=True)
class State:
    """The tiles that a slide shows, with the run of each, and classes that are not the run's."""

    runs: Mapping[str, str] = field(default_factory=FrozenDict)
    classes: Mapping[str, str | None] = field(default_factory=FrozenDict)


@dataclass(frozen=True, slots=True)
class Examination:
    """The tiles of one slide: what is known of them, and what its data say that is new.

    Attributes
    ----------
    entry_id : str
    data : DataTiles
    last : LastShown
    newest : ShownEvent or None
        The newest event, whether it is in the data or not.
    keys : frozenset of str
        Of all events and collections.
    stored : tuple of Correction
        All that was collected, oldest first.
    standing : mapping of str to Correction
        The last statement about each tile, by its id, with those that are new.
    found : Comparison
        What is new.
    state : State
        What is shown from now on; tiles that are unsure stay as they were last shown.
    messages : tuple of str
        What a person should know, in sentences.
    """

    entry_id: str
    data: DataTiles
    tables: Tables
    last: LastShown = field(default_factory=LastShown)
    newest: ShownEvent | None = None
    keys: frozenset[str] = frozenset()
    stored: tuple[Correction, ...] = ()
    standing: Mapping[str, Correction] = field(default_factory=FrozenDict)
    found: Comparison = field(default_factory=Comparison)
    state: State = field(default_factory=State)
    messages: tuple[str, ...] = ()

    @property
    def unsure_missing(self) -> frozenset[str]:
        """Ids of tiles that are missing, and nobody can know why."""
        return frozenset(self.found.unsure.keys() - self.data.rows.keys())

    @property
    def unsure_classes(self) -> frozenset[str]:
        """Ids of tiles that have another class, and nobody can know why."""
        return frozenset(self.found.unsure.keys() & self.data.rows.keys())


def stored_files(runs: ProjectRuns, entry_id: str) -> tuple[CorrectionFile, ...]:
    """Return what was collected about a slide, in the project and beside its runs' patches."""
    beside = [place / CORRECTIONS for place in runs.places_beside(entry_id)]
    return correction_files(runs.project, entry_id, beside=beside)


def standing_of(entry_id: str, corrections: Iterable[Correction]) -> dict[str, Correction]:
    """Return the last statement about each box, by the id of its tile."""
    return {
        tile_uuid(entry_id, *box, *plane): said
        for (box, plane), said in latest_corrections(corrections).items()
    }


def examine(
    runs: ProjectRuns,
    entry_id: str,
    objects: Iterable[PathObject],
    *,
    reviewer: str | None = None,
    accept: bool = False,
) -> Examination:
    """Compare the tiles of a slide with what was last shown.

    Parameters
    ----------
    runs : ProjectRuns
    entry_id : str
    objects : iterable of PathObject
        Of the slide's data, of all types.
    reviewer : str, optional
        Who said what is new.
    accept : bool
        Take what is unsure for statements.

    Raises
    ------
    ProjectError, OutputError
        If a file of a run, an event or a file of corrections is damaged.
    """
    data = DataTiles.of(entry_id, objects, runs.slide_ids(entry_id))
    tables: Tables = partial(_table, runs, entry_id)
    events = _events(runs, entry_id)
    last = find_last_shown(events, data, tables)
    origins = data.origins(tables, runs.of_slide(entry_id))
    files = stored_files(runs, entry_id)
    stored = tuple(said for file in files for said in file.corrections)
    standing = _of_same_file(standing_of(entry_id, stored), {**last.state, **origins}, tables)
    spoken = _spoken(entry_id, stored, origins, tables) if data.said else FrozenDict()
    found = compare(
        data, origins, last, tables, standing, spoken, time=timestamp(), reviewer=reviewer
    )
    if accept:
        everything = FrozenDict({**found.statements, **found.unsure})
        found = Comparison(everything, earlier=found.earlier)
    shown, classes = shown_now(data, origins, last, tables, found.unsure)
    all_standing = standing_of(entry_id, (*stored, *found.new))
    return Examination(
        entry_id,
        data,
        tables,
        last,
        events[-1] if events else None,
        frozenset([*(event.key for event in events), *(file.key for file in files)]),
        stored,
        FrozenDict(all_standing),
        found,
        State(FrozenDict(shown), FrozenDict(classes)),
        (*_unrecorded(runs, data, origins, last, tables), *_messages(runs, data, last, found)),
    )


def _table(runs: ProjectRuns, entry_id: str, run_id: str) -> RunTiles | None:
    return runs.table(run_id, entry_id)


def _spoken(
    entry_id: str, stored: Iterable[Correction], origins: Mapping[str, str], tables: Tables
) -> Mapping[str, Mapping[str, Correction]]:
    """Return the last statement of each person about each tile, by id and name."""
    found = {}
    for (box, plane), said in latest_by_reviewer(stored).items():
        identity = tile_uuid(entry_id, *box, *plane)
        table = tables(origins[identity]) if identity in origins else None
        if table is not None:
            found[identity] = {
                who: each for who, each in said.items() if each.fingerprint == table.fingerprint
            }
    return FrozenDict(found)


def _of_same_file(
    standing: Mapping[str, Correction], shown: Mapping[str, str], tables: Tables
) -> dict[str, Correction]:
    """Return the statements about the slide file that the run of each tile read."""
    found = {}
    for identity, said in standing.items():
        table = tables(shown[identity]) if identity in shown else None
        if table is None or table.fingerprint == said.fingerprint:
            found[identity] = said
    return found


def _unrecorded(
    runs: ProjectRuns,
    data: DataTiles,
    origins: Mapping[str, str],
    last: LastShown,
    tables: Tables,
) -> Iterator[str]:
    """Say which tiles are missing of which nobody knows whether they were there."""
    if last.event is not None or last.unsaved:
        return
    for run in sorted(set(origins.values())):
        table = tables(run)
        if table is not None and (missing := len(table.rows.keys() - data.rows.keys())):
            yield (
                f"{count(missing, 'patch', 'patches')} of {run_words(run, runs.record(run))} "
                f"{'has' if missing == 1 else 'have'} no tile. Nobody knows whether they had one, "
                "since the tiles were not put in by qupath-bridge: nothing was rejected by that. "
                "Give a tile the class Ignore* to reject its patch."
            )


def _messages(
    runs: ProjectRuns, data: DataTiles, last: LastShown, found: Comparison
) -> Iterator[str]:
    for event in last.unsaved:
        if event.action == "show" and event.run_id is not None:
            yield (
                f"The patches of {run_words(event.run_id, runs.record(event.run_id))}, which were "
                f"shown on {local_time(event.time)}, are not in the saved data. Save the image "
                "to keep them there, unless they were removed."
            )
    if data.fresh:
        yield (
            f"{count(len(data.fresh), 'tile has', 'tiles have')} a new ID, as QuPath's question "
            "'Update IDs?' gives; name and box tell which patch it is."
        )
    if data.doubled:
        yield f"{count(data.doubled, 'tile is', 'tiles are')} there twice, with a new ID."
    if data.foreign:
        yield (
            f"{count(len(data.foreign), 'tile does', 'tiles do')} not fit this slide: it came "
            "with the copy of an image. What was done to it is not collected."
        )
    missing = len(found.unsure.keys() - data.rows.keys())
    if missing:
        yield f"{count(missing, 'tile is', 'tiles are')} missing; that can be an accident."
    if changed := len(found.unsure) - missing:
        yield (
            f"{count(changed, 'tile has', 'tiles have')} another class; that can be the work of "
            "a program."
        )


# --- what is kept -------------------------------------------------------------------------------


def keep_statements(runs: ProjectRuns, seen: Examination) -> Path | None:
    """Write what is new into a file of its own; return the folder, None if nothing is new.

    Raises
    ------
    OutputError
        If neither the project nor the output of a run can be written.
    """
    said = seen.found.new
    if not said:
        return None
    content = to_lines((seen.entry_id, correction) for correction in said)

    def write(place: Path) -> Path:
        folder = place / CORRECTIONS / seen.entry_id
        store, keys = LocalStore(folder), set(seen.keys)
        while not store.create(f"{(key := next_key(keys))}{ENDING}", content):
            keys.add(key)
        return folder

    return _in_a_place(runs, seen.entry_id, write)


def keep_event(
    runs: ProjectRuns,
    seen: Examination,
    action: ShownAction,
    state: State,
    *,
    run_id: str | None = None,
    rejected: int = 0,
) -> Path | None:
    """Write an event, unless the same is known to be shown; return its file.

    Parameters
    ----------
    state : State
        What is shown from now on.
    rejected : int
        Rejected tiles that were not put in.

    Raises
    ------
    OutputError
        As for :func:`keep_statements`.
    """
    added, removed = changes_by_run(seen.last.state, state.runs)
    event = ShownEvent(
        action, run_id, layers_of(state.runs, seen.tables), state.classes, added, removed, rejected
    )
    # What was collected is compared with the event that is in the data; the newest may not be.
    known = seen.last.event if action == "collect" else seen.newest
    if event.shows_as(known) or (known is None and not event.layers):
        return None

    def write(place: Path) -> Path:
        folder = place / SHOWN / seen.entry_id
        return folder / f"{store_event(folder, event, seen.keys).key}.json"

    return _in_a_place(runs, seen.entry_id, write)


def keep(runs: ProjectRuns, seen: Examination) -> Path | None:
    """Write what is new, and that it is known from now on; return the folder of the former."""
    folder = keep_statements(runs, seen)
    keep_event(runs, seen, "collect", seen.state)
    return folder


def dismiss(runs: ProjectRuns, seen: Examination) -> None:
    """Write what is new but not unsure, and that what is unsure means nothing."""
    keep_statements(runs, seen)
    origins = {i: run for i, run in seen.state.runs.items() if i in seen.data.rows}
    shown, classes = shown_now(seen.data, origins, seen.last, seen.tables, FrozenDict())
    keep_event(runs, seen, "dismiss", State(FrozenDict(shown), FrozenDict(classes)))


def _in_a_place(runs: ProjectRuns, entry_id: str, write: Callable[[Path], Path]) -> Path:
    """Write into the project; where that cannot be written, beside the newest run's patches."""
    project = runs.project
    try:
        if not project.folder.is_dir():
            raise OutputError(f"{project.folder} is not there any more.")
        check_inside(project.bridge_folder, project.folder)
        return write(project.bridge_folder)
    except OutputError:
        beside = next(iter(runs.places_beside(entry_id)), None)
        if beside is None:
            raise
        return write(beside)


def _events(runs: ProjectRuns, entry_id: str) -> tuple[ShownEvent, ...]:
    """Return the events of a slide, also those beside the patches; oldest first."""
    places = (runs.project.bridge_folder, *runs.places_beside(entry_id))
    events = {e.key: e for place in places for e in read_events(place / SHOWN / entry_id)}
    return tuple(events[key] for key in sorted(events))
