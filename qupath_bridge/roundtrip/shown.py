"""Events of one slide: which tiles were shown in QuPath after each import, removal or undo.

``<project>/qupath_bridge/shown/<entry id>/<ULID>.json`` is one event and never changes. It says
which runs are shown afterwards, each with its exceptions, so that it stays small: the class of a
tile is in the run's own GeoJSON.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from qupath_bridge.errors import OutputError, ProjectError
from qupath_bridge.frozen import FrozenDict, OneLine
from qupath_bridge.patches.ids import run_id as new_ulid
from qupath_bridge.pipeline.records import checked, dump_json, timestamp
from qupath_bridge.schemas import ShownRecord, parse_json
from qupath_bridge.stores.local import LocalStore

from .tile_tables import RunTiles

__all__ = [
    "SHOWN",
    "Layer",
    "ShownEvent",
    "Tables",
    "changes_by_run",
    "layers_of",
    "next_key",
    "read_events",
    "state_of",
    "store_event",
]

SHOWN = "shown"
SCHEMA_VERSION = 1
ENDING = ".json"

ShownAction = Literal["show", "remove", "collect", "dismiss"]
Tables = Callable[[str], RunTiles | None]
"""Returns what a run wrote for the slide; None if the run is not known any more."""

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@dataclass(frozen=True, slots=True, repr=False)
class Layer(OneLine):
    """The tiles of one run that are shown: those in ``only``, or all but those in ``without``.

    A later layer covers an earlier one where both list a tile.
    """

    run_id: str
    without: tuple[str, ...] = ()
    only: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, repr=False)
class ShownEvent(OneLine):
    """The tiles that a slide shows after something of this library was done.

    Attributes
    ----------
    action : str
        ``show`` (import, write-back), ``remove`` (removal, undo), ``collect`` (corrections were
        collected) or ``dismiss`` (changes were dismissed).
    run_id : str or None
        The run that was put in or taken out.
    layers : tuple of Layer
    classes : mapping of str to str or None
        Tiles that show another class than their run's: corrections that were kept.
    added, removed : mapping of str to int
        Number of tiles that came and went, by run.
    rejected : int
        Rejected tiles of the run that were not put in.
    key : str
        A ULID, by which events are ordered; empty before it is stored.
    time : str
        ISO 8601, UTC.
    """

    action: ShownAction
    run_id: str | None
    layers: tuple[Layer, ...]
    classes: Mapping[str, str | None] = field(default_factory=FrozenDict)
    added: Mapping[str, int] = field(default_factory=FrozenDict)
    removed: Mapping[str, int] = field(default_factory=FrozenDict)
    rejected: int = 0
    key: str = ""
    time: str = ""

    def shows_as(self, other: ShownEvent | None) -> bool:
        """Return whether the same tiles and classes are shown as after another event."""
        return other is not None and (
            (self.layers, dict(self.classes)) == (other.layers, dict(other.classes))
        )


def state_of(event: ShownEvent, tables: Tables) -> dict[str, str]:
    """Return the run that each shown tile is from; runs that are not known are left out."""
    state: dict[str, str] = {}
    for layer in event.layers:
        table = tables(layer.run_id)
        if table is not None:
            hidden = set(layer.without)
            listed = table.rows if layer.only is None else layer.only
            state.update((i, layer.run_id) for i in listed if i in table.rows and i not in hidden)
    return state


def layers_of(origins: Mapping[str, str], tables: Tables) -> tuple[Layer, ...]:
    """Return the layers of the tiles that are shown, with as few exceptions as there can be.

    Parameters
    ----------
    origins : mapping of str to str
        The run of each shown tile.
    """
    shown: dict[str, set[str]] = {}
    for identity, run in origins.items():
        shown.setdefault(run, set()).add(identity)
    hidden = {}
    for run, ids in shown.items():
        table = tables(run)
        hidden[run] = set() if table is None else table.rows.keys() - ids
    # The run of which the least is missing is the last: it covers the others.
    order = sorted(shown, key=lambda run: (-len(hidden[run]), run))
    covered: set[str] = set()
    layers = []
    for run in reversed(order):
        without = hidden[run] - covered
        few = len(shown[run]) < len(without)
        layers.append(
            Layer(run, only=tuple(sorted(shown[run])))
            if few
            else Layer(run, without=tuple(sorted(without)))
        )
        covered |= shown[run]
    return tuple(reversed(layers))


def changes_by_run(
    before: Mapping[str, str], after: Mapping[str, str]
) -> tuple[FrozenDict[str, int], FrozenDict[str, int]]:
    """Return how many tiles came and went, by run."""
    came = Counter(run for i, run in after.items() if before.get(i) != run)
    went = Counter(run for i, run in before.items() if after.get(i) != run)
    return FrozenDict(sorted(came.items())), FrozenDict(sorted(went.items()))


def next_key(used: Iterable[str]) -> str:
    """Return a new ULID after all that are used, whatever the clocks of other machines say.

    >>> next_key(["7ZZZZZZZZZZZZZZZZZZZZZZZZA"])
    '7ZZZZZZZZZZZZZZZZZZZZZZZZB'
    """
    last, key = max(used, default=""), new_ulid()
    if key > last:
        return key
    number = 0
    for digit in last:
        number = number << 5 | max(_CROCKFORD.find(digit), 0)
    number += 1
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


def store_event(folder: Path, event: ShownEvent, used: Iterable[str] = ()) -> ShownEvent:
    """Write an event into the folder of its slide; return it with its key.

    Parameters
    ----------
    folder : Path
        ``<project>/qupath_bridge/shown/<entry id>``
    event : ShownEvent
    used : iterable of str
        Keys that have to be before it.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    store, time = LocalStore(folder), timestamp()
    keys = {*used, *(path.stem for path in _files(folder))}
    while True:
        key = next_key(keys)
        record = {
            "schema_version": SCHEMA_VERSION,
            "key": key,
            "time": time,
            "action": event.action,
            "run_id": event.run_id,
            "shown": [_layer_record(layer) for layer in event.layers],
            "classes": dict(event.classes),
            "added": dict(event.added),
            "removed": dict(event.removed),
            "rejected": event.rejected,
        }
        if store.create(f"{key}{ENDING}", dump_json(record)):
            return _event(record)
        keys.add(key)


def read_events(folder: Path) -> tuple[ShownEvent, ...]:
    """Return the events of a slide, oldest first.

    Raises
    ------
    ProjectError
        If one is damaged.
    """
    return tuple(_read(path) for path in sorted(_files(folder), key=lambda path: path.stem))


def _files(folder: Path) -> list[Path]:
    found = folder.iterdir() if folder.is_dir() else ()
    return [path for path in found if path.suffix == ENDING and path.is_file()]


def _read(path: Path) -> ShownEvent:
    try:
        record = parse_json(LocalStore(path.parent).get(path.name))
        checked(record, ShownRecord, path.name)
    except (OutputError, ValueError) as error:
        raise ProjectError(
            f"cannot be read: {getattr(error, 'message', error)}",
            path=path,
            hint="Restore it from a copy of the project. Without it nobody can know which tiles "
            f"were shown; delete the folder {path.parent} to begin anew.",
        ) from error
    return _event(record)


def _layer_record(layer: Layer) -> dict[str, Any]:
    if layer.only is not None:
        return {"run_id": layer.run_id, "only": list(layer.only)}
    return {"run_id": layer.run_id, "without": list(layer.without)}


def _event(record: Mapping[str, Any]) -> ShownEvent:
    return ShownEvent(
        action=record["action"],
        run_id=record["run_id"],
        layers=tuple(
            Layer(
                each["run_id"],
                tuple(each.get("without", ())),
                tuple(each["only"]) if each.get("only") is not None else None,
            )
            for each in record["shown"]
        ),
        classes=FrozenDict(record["classes"]),
        added=FrozenDict(record["added"]),
        removed=FrozenDict(record["removed"]),
        rejected=record["rejected"],
        key=record["key"],
        time=record["time"],
    )
