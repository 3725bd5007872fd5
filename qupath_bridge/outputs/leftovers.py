"""Files that workers did not remove, since another worker of the slide may have written them, too.

Each worker lists its own in a file of its own, ``leftovers/<slide id>/<random>.json``, which is
read by whoever sweeps the output while nobody works.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import uuid4

from qupath_bridge.errors import OutputError
from qupath_bridge.schemas import parse_json

if TYPE_CHECKING:
    from qupath_bridge.stores.base import Store

__all__ = ["found", "leave", "read"]

_FOLDER = "leftovers/"


def leave(store: Store, slide_id: str, names: Sequence[str]) -> None:
    """List files that may be removed when nobody works; nothing happens where there are none.

    On a full disk there may be no room for the list: a sweep finds the files of slides that are
    not committed without it, too.
    """
    if names:
        with suppress(OutputError):
            store.put(f"{_FOLDER}{slide_id}/{uuid4().hex}.json", json.dumps(names).encode())


def found(store: Store) -> Iterator[tuple[str, str]]:
    """Yield the name of each list, and the slide that it is of."""
    for name in list(store.list(_FOLDER)):
        _, slide_id, *rest = name.split("/")
        if len(rest) == 1:
            yield name, slide_id


def read(store: Store, name: str) -> tuple[str, ...]:
    """Return the names of a list; no names if it cannot be read."""
    try:
        names = parse_json(store.get(name))
    except (OutputError, ValueError):
        return ()
    return tuple(each for each in names if isinstance(each, str)) if isinstance(names, list) else ()
