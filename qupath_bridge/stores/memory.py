"""Stores in memory: for tests, and for results that are used in the same process."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import xxhash

from qupath_bridge.errors import OutputError, UsageError

from .base import BufferedDraft, Data, Draft, State, checked_name, chunks_of, replaced

__all__ = ["SCHEME", "MemoryStore"]

SCHEME = "memory://"


@dataclass(slots=True)
class _Place:
    """The files that all stores of one name share, by their names below it."""

    data: dict[str, bytes] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


_places: dict[str, _Place] = {}


class MemoryStore:
    """Bytes by name, lost with the process. Stores of one name share their content.

    Parameters
    ----------
    url : str, optional
        ``memory://NAME`` or ``memory://NAME/FOLDER``; a new name when not given.

    Raises
    ------
    OutputError
        If the URL has no name.

    Examples
    --------
    >>> MemoryStore("memory://a").put("x", b"1")
    >>> MemoryStore("memory://a").get("x"), MemoryStore("memory://a/b").exists("x")
    (b'1', False)
    """

    at_once = 1

    def __init__(self, url: str | None = None) -> None:
        url = f"{SCHEME}{secrets.token_hex(8)}" if url is None else url
        if url[: len(SCHEME)].lower() != SCHEME or not url[len(SCHEME) :].strip("/"):
            raise OutputError(
                f"{url!r} does not name a place in memory.", hint="Write memory://NAME."
            )
        self._url = f"{SCHEME}{url[len(SCHEME) :].strip('/')}"
        self._name, _, folder = self._url[len(SCHEME) :].partition("/")
        self._folder = f"{folder}/" if folder else ""
        self._place = _places.setdefault(self._name, _Place())

    @property
    def url(self) -> str:
        """The place, as ``open_store`` takes it."""
        return self._url

    def __repr__(self) -> str:
        return f"MemoryStore({self._url!r})"

    def __reduce__(self) -> NoReturn:
        raise UsageError(
            f"{self._url} exists in this process only; another process cannot use it.",
            hint="Use threads, or a folder.",
        )

    def forget(self) -> None:
        """Free the content of this URL. The next store of the URL is empty."""
        if not self._folder:
            _places.pop(self._name, None)
            return
        for name in list(self.list()):
            self.delete(name)

    def put(self, name: str, data: Data, *, durable: bool = False) -> None:
        """Keep ``data`` under ``name``."""
        whole = b"".join(chunks_of(data))
        with self._place.lock:
            self._place.data[self._key(name)] = whole

    def create(self, name: str, data: Data) -> bool:
        """Keep ``data`` under ``name`` where nothing is; return False where something is."""
        whole = b"".join(chunks_of(data))
        key = self._key(name)
        with self._place.lock:
            if key in self._place.data:
                return False
            self._place.data[key] = whole
            return True

    def draft(self, folder: str) -> Draft:
        """Begin a file that gets its name when it is whole."""
        return BufferedDraft(self)

    def get(self, name: str) -> bytes:
        """Return the bytes under ``name``."""
        try:
            return self._place.data[self._key(name)]
        except KeyError:
            raise OutputError(f"No file {name} in {self._url}.") from None

    def get_range(self, name: str, offset: int, length: int, state: State | None = None) -> bytes:
        """Return ``length`` bytes from ``offset`` on."""
        data = self.get(name)
        if state is not None and _state_of(data) != state:
            raise replaced(f"{self._url}/{name}")
        part = data[offset : offset + length]
        if len(part) < length:
            raise OutputError(f"{name} ends before byte {offset + length}.")
        return part

    def size(self, name: str) -> int:
        """Return the number of bytes under ``name``."""
        return len(self.get(name))

    def sizes(self, names: Sequence[str]) -> list[int | None]:
        """Return the number of bytes under each name; None if there is nothing."""
        found = (self._place.data.get(self._key(name)) for name in names)
        return [None if data is None else len(data) for data in found]

    def state(self, name: str) -> State:
        """Return size and digest of the bytes under ``name``."""
        return _state_of(self.get(name))

    def exists(self, name: str) -> bool:
        """Return whether there is something under ``name``."""
        return self._key(name) in self._place.data

    def list(self, prefix: str = "") -> Iterator[str]:
        """Yield all names that start with ``prefix``, sorted."""
        wanted, begin = f"{self._folder}{prefix}", len(self._folder)
        with self._place.lock:
            names = sorted(name for name in self._place.data if name.startswith(wanted))
        yield from (name[begin:] for name in names)

    def children(self, folder: str = "") -> Iterator[str]:
        """Yield the names in a folder itself, sorted; those of folders end with ``/``."""
        begin = len(folder)
        heads = (name[begin:].partition("/")[:2] for name in self.list(folder))
        yield from sorted({f"{folder}{first}{slash}" for first, slash in heads})

    def delete(self, name: str) -> None:
        """Remove ``name``."""
        with self._place.lock:
            self._place.data.pop(self._key(name), None)

    def free_bytes(self) -> int | None:
        """Return None: memory is not counted."""
        return None

    def sweep(self) -> int:
        """Find nothing: a write in memory cannot be cut off."""
        return 0

    def _key(self, name: str) -> str:
        return f"{self._folder}{checked_name(name)}"


def _state_of(data: bytes) -> State:
    return State(len(data), xxhash.xxh3_128_hexdigest(data))
