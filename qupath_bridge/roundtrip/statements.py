"""Comparison of a slide's tiles with what was last shown: what a person said, what is unsure.

Pure functions on tables. A statement is what one person did to one tile. What looks like an
accident, or like the work of a program, is unsure: it is listed and waits for a decision.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from qupath_bridge.frozen import FrozenDict
from qupath_bridge.patches.corrections import Correction, CorrectionKind

from .shown import ShownEvent, Tables, state_of
from .tile_tables import DataTiles, RunTiles

__all__ = [
    "MAX_CHANGED",
    "MAX_MISSING",
    "Comparison",
    "LastShown",
    "compare",
    "find_last_shown",
    "shown_now",
]

MAX_MISSING = (20, 0.05)
"""Missing tiles that are rejections: at most so many, or this share of those shown."""

MAX_CHANGED = (50, 0.2)
"""Tiles of another class, without the mark of the review panel, that are statements."""


@dataclass(frozen=True, slots=True)
class LastShown:
    """The tiles that the data of a slide showed when they were last saved, as far as is known.

    Attributes
    ----------
    state : mapping of str to str
        Run of each tile.
    classes : mapping of str to str or None
        Tiles that showed another class than their run's.
    event : ShownEvent or None
        The event that said so; None if there is none.
    unsaved : tuple of ShownEvent
        Later events of which nothing is in the data, oldest first.
    """

    state: Mapping[str, str] = field(default_factory=FrozenDict)
    classes: Mapping[str, str | None] = field(default_factory=FrozenDict)
    event: ShownEvent | None = None
    unsaved: tuple[ShownEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """The differences between a slide's tiles and what was last shown.

    Attributes
    ----------
    statements : mapping of str to Correction
        New ones, by the id of the tile: the last word about each.
    unsure : mapping of str to Correction
        What they would be if somebody accepted them.
    earlier : tuple of Correction
        New ones of other people about the same tiles, who spoke before.
    """

    statements: Mapping[str, Correction] = FrozenDict()
    unsure: Mapping[str, Correction] = FrozenDict()
    earlier: tuple[Correction, ...] = ()

    @property
    def new(self) -> tuple[Correction, ...]:
        """New statements that are sure, in the order in which they are kept."""
        return (*self.earlier, *self.statements.values())


def find_last_shown(events: Sequence[ShownEvent], data: DataTiles, tables: Tables) -> LastShown:
    """Return what the newest event says of which anything is in the data.

    An image can be closed without saving after an import. Nothing of such an event is in the
    data; the event before it holds then.

    Parameters
    ----------
    events : sequence of ShownEvent
        Of the slide, oldest first.
    data : DataTiles
        The saved data.
    tables : callable
    """
    states: dict[int, dict[str, str]] = {-1: {}}

    def state(index: int) -> dict[str, str]:
        if index not in states:
            states[index] = state_of(events[index], tables)
        return states[index]

    for index in range(len(events) - 1, -1, -1):
        event = events[index]
        if _is_saved(event, state(index), state(index - 1), data, tables):
            return LastShown(state(index), event.classes, event, tuple(events[index + 1 :]))
        states.pop(index + 1, None)
    return LastShown(unsaved=tuple(events))


def _is_saved(
    event: ShownEvent,
    state: Mapping[str, str],
    before: Mapping[str, str],
    data: DataTiles,
    tables: Tables,
) -> bool:
    """Return whether anything of an event is in the data."""

    def is_there(ids: Iterable[str], runs: Mapping[str, str]) -> bool:
        known = ((i, tables(runs[i])) for i in ids)
        return any(table is not None and data.shows(i, table) for i, table in known)

    if event.action in {"collect", "dismiss"}:  # read from data, so that they were in some
        return not state or is_there(state, state)
    came = [i for i, run in state.items() if before.get(i) != run]
    if came:
        return is_there(came, state)
    return not is_there((i for i, run in before.items() if state.get(i) != run), before)


def compare(
    data: DataTiles,
    origins: Mapping[str, str],
    last: LastShown,
    tables: Tables,
    standing: Mapping[str, Correction],
    spoken: Mapping[str, Mapping[str, Correction]] = FrozenDict(),
    *,
    time: str,
    reviewer: str | None = None,
) -> Comparison:
    """Return what the tiles of a slide say that is not known yet.

    Parameters
    ----------
    data : DataTiles
    origins : mapping of str to str
        Run of each tile; see :meth:`DataTiles.origins`.
    last : LastShown
    tables : callable
        Returns what a run wrote for the slide.
    standing : mapping of str to Correction
        The last statement about each tile; withdrawn ones are left out.
    spoken : mapping of str to mapping of str to Correction
        The last statement of each person about each tile, by id and name.
    time : str
        When it is collected.
    reviewer : str, optional
        Who said it, where a tile does not name the person.
    """
    found: dict[str, Correction] = {}
    earlier: list[Correction] = []
    for identity, run in origins.items():
        table = _known(tables, run)
        change = _change(identity, table, data, last, standing.get(identity), reviewer)
        words = _words(
            identity, table, data, last, change, spoken.get(identity, FrozenDict()), reviewer
        )
        made = [_correction(identity, table, word, time) for word in words]
        if made:
            found[identity] = made.pop()
            earlier += made
    missing = {}
    for identity, table in _missing(data, last, tables, standing, reviewer):
        before = last.classes.get(identity, table.class_of(identity))
        word = _Word("rejected", before, None, reviewer)
        missing[identity] = _correction(identity, table, word, time)
    shown = len(last.state) if last.event is not None else len(data.rows)
    changed = [
        i for i, said in found.items() if said.kind != "confirmed" and i not in data.reviewed
    ]
    unsure = set(changed) if _too_many(len(changed), shown, MAX_CHANGED) else set()
    if _too_many(len(missing), shown, MAX_MISSING):
        unsure |= missing.keys()
    found |= missing
    return Comparison(
        FrozenDict((i, said) for i, said in found.items() if i not in unsure),
        FrozenDict((i, said) for i, said in found.items() if i in unsure),
        tuple(earlier),
    )


class _Word(NamedTuple):
    """The word of one person about a tile."""

    kind: CorrectionKind
    before: str | None
    after: str | None
    reviewer: str | None


def _words(
    identity: str,
    table: RunTiles,
    data: DataTiles,
    last: LastShown,
    change: tuple[CorrectionKind, str | None] | None,
    spoken: Mapping[str, Correction],
    reviewer: str | None,
) -> list[_Word]:
    """Return what is new about a tile, the word that holds last.

    Names in the tile say who gave it its class and who confirmed it; without them it was the
    reviewer. Somebody whose word was overruled spoke before.
    """
    said = data.said.get(identity, FrozenDict())
    if not said and change is None:
        return []
    now, before = data.class_of(identity), _shown_class(identity, table, last)
    new = {who: c for who, c in said.items() if not _is_said(spoken.get(who), c, table)}
    words = [_Word(_kind(c, before, table), before, c, who) for who, c in new.items() if c != now]
    # After the word of somebody who was overruled, the one that holds is said again.
    agreeing = [who for who, c in (said if words else new).items() if c == now]
    if agreeing:
        return [*words, *(_Word(_kind(now, before, table), before, now, who) for who in agreeing)]
    if change is not None:
        return [*words, _Word(change[0], change[1], now, reviewer)]
    if words:
        words.append(_Word(_kind(now, before, table), before, now, reviewer))
    return words


def _kind(class_path: str | None, before: str | None, table: RunTiles) -> CorrectionKind:
    if table.rejects(class_path):
        return "rejected"
    return "confirmed" if class_path == before else "corrected"


def _is_said(said: Correction | None, class_path: str | None, table: RunTiles) -> bool:
    """Return whether somebody is known to have said this last."""
    if said is None:
        return False
    if said.kind == "rejected" or table.rejects(class_path):
        return said.kind == "rejected" and table.rejects(class_path)
    return said.after == class_path


def _too_many(number: int, shown: int, limits: tuple[int, float]) -> bool:
    return number > max(limits[0], limits[1] * shown)


def _known(tables: Tables, run: str) -> RunTiles:
    table = tables(run)
    if table is None:
        raise LookupError(f"run {run} is not known")
    return table


def _change(
    identity: str,
    table: RunTiles,
    data: DataTiles,
    last: LastShown,
    said: Correction | None,
    reviewer: str | None,
) -> tuple[CorrectionKind, str | None] | None:
    """Return kind of a new statement about a tile of the data, and the class shown before."""
    own, now = table.class_of(identity), data.class_of(identity)
    marked = identity in data.reviewed
    before = _shown_class(identity, table, last)
    if _came_back(identity, table, last, said):
        return ("withdrawn" if now == own else "corrected"), None
    if now == before:
        is_news = said is None or said.kind == "rejected" or said.after != now
        return ("confirmed", before) if marked and is_news and not table.rejects(now) else None
    if table.rejects(now):
        return None if _repeats(said, "rejected", now, reviewer) else ("rejected", before)
    if now == own and not marked:
        return None if said is None else ("withdrawn", before)
    return None if _repeats(said, "corrected", now, reviewer) else ("corrected", before)


def _shown_class(identity: str, table: RunTiles, last: LastShown) -> str | None:
    """Return the class of a tile that was last shown."""
    own = table.class_of(identity)
    return last.classes.get(identity, own) if last.state.get(identity) == table.run_id else own


def _repeats(
    said: Correction | None, kind: CorrectionKind, now: str | None, reviewer: str | None
) -> bool:
    """Return whether a statement is what stands already, as far as is known by the same person.

    Another person who says the same agrees, which is a statement.
    """
    if said is None or reviewer not in {None, said.reviewer}:
        return False
    return kind == said.kind and (kind == "rejected" or said.after == now)


def _came_back(identity: str, table: RunTiles, last: LastShown, said: Correction | None) -> bool:
    """Return whether a tile is there again that somebody had deleted."""
    return (
        said is not None
        and (said.kind, said.after, said.run_id) == ("rejected", None, table.run_id)
        and last.event is not None
        and identity not in last.state
    )


def _missing(
    data: DataTiles,
    last: LastShown,
    tables: Tables,
    standing: Mapping[str, Correction],
    reviewer: str | None,
) -> Iterable[tuple[str, RunTiles]]:
    """Yield the tiles that were shown and are not there, but for those known as rejected."""
    there = data.rows.keys() | set(data.foreign)
    for identity, run in last.state.items():
        said = standing.get(identity)
        if identity not in there and not _repeats(said, "rejected", None, reviewer):
            yield identity, _known(tables, run)


def _correction(identity: str, table: RunTiles, word: _Word, time: str) -> Correction:
    box, plane = table.box_of(identity)
    return Correction(
        kind=word.kind,
        box=box,
        before=word.before,
        after=word.after,
        run_id=table.run_id,
        rule_label=table.rule_label(identity),
        fingerprint=table.fingerprint,
        time=time,
        plane=plane,
        reviewer=word.reviewer,
    )


def shown_now(
    data: DataTiles,
    origins: Mapping[str, str],
    last: LastShown,
    tables: Tables,
    unsure: Mapping[str, Correction],
) -> tuple[dict[str, str], dict[str, str | None]]:
    """Return the tiles that are shown from now on, and their classes if not their run's.

    Parameters
    ----------
    unsure : mapping of str to Correction
        Tiles that stay as they were last shown, so that they stay a difference. All others are
        taken as they are.
    """
    state, classes = dict(origins), dict[str, str | None]()
    for identity, run in origins.items():
        now = data.class_of(identity)
        if identity not in unsure:
            if now != _known(tables, run).class_of(identity):
                classes[identity] = now
        elif last.state.get(identity) == run and identity in last.classes:
            classes[identity] = last.classes[identity]
    for identity in unsure.keys() - data.rows.keys():
        state[identity] = last.state[identity]
        if identity in last.classes:
            classes[identity] = last.classes[identity]
    return state, classes
