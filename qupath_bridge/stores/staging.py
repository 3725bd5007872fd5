"""A folder of this machine with copies from object storage, of a bounded size.

Threads and processes share it. What is in use is never removed: whoever uses a copy holds a file
lock beside it, which the system frees when the process ends, however it ends. All decisions are
made under one lock, for moments; copying takes place outside of it. A copy is made under another
name, and renamed when it is whole.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args
from uuid import uuid4

import xxhash

from qupath_bridge.config.values import parse_bytes
from qupath_bridge.errors import OutputError, UsageError
from qupath_bridge.timing import tally

from .base import State, Store, checked_name

if TYPE_CHECKING:
    from filelock import FileLock

__all__ = [
    "CACHE",
    "CACHE_SIZE",
    "FETCH",
    "Cache",
    "Fetch",
    "Lease",
    "StagedObject",
    "cache_of_process",
    "fetch_of_process",
    "use_cache",
]

CACHE = "QUPATH_BRIDGE_CACHE"
CACHE_SIZE = "QUPATH_BRIDGE_CACHE_SIZE"
FETCH = "QUPATH_BRIDGE_FETCH"
"""Variables of the environment: the folder, the size, and whether slides are copied at all."""

DEFAULT_SIZE = "50GB"

PIECE = 8 << 20
"""Bytes of one request."""

AT_ONCE = 4
"""Requests that are under way at the same time: with ``PIECE``, 32 MiB of memory."""

WAIT_SECONDS = 600.0
"""Longest wait for others to end their use of slides, where the cache is full of them."""

PAUSE = 0.5

_PART = ".part"
_LOCK = ".lock"


@dataclass(frozen=True, slots=True)
class StagedObject:
    """An object to be copied: its store and name there, its name in the copy, and its state."""

    store: Store
    name: str
    relative: str
    state: State


@dataclass(frozen=True, slots=True)
class Lease:
    """The use of a copy: the folder with its files. Give it back with ``release``."""

    folder: Path
    release: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Cache:
    """Copies of slides below a folder; together they never have more than ``limit`` bytes.

    Attributes
    ----------
    folder : Path
        Made where it does not exist, for the user alone.
    limit : int
        Bytes.
    """

    folder: Path
    limit: int

    def lease(self, objects: Sequence[StagedObject], shown: str) -> Lease:
        """Return the use of a copy of some objects, which are copied if nobody did it before.

        Parameters
        ----------
        objects : sequence of StagedObject
            All files of a slide, as they are now.
        shown : str
            What messages call the slide.

        Raises
        ------
        OutputError
            If they are larger than the cache, it is full of slides that are in use, there is no
            room on the disk, or an object changed while it was copied.
        """
        total = sum(each.state.size for each in objects)
        if total > self.limit:
            raise OutputError(
                f"{shown} has {total:,} bytes, and the cache {self.folder} may have "
                f"{self.limit:,}.",
                hint=f"Give more with the option cache_size, or in {CACHE_SIZE}.",
            )
        name = f"{version_of(objects)}-{total}"
        with _errors_of(self.folder):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._lock(f"{name}.copy"):  # of several that want one slide, one copies it
                with self._deciding():
                    lease = self._existing(name, objects)
                return lease or self._copied(name, objects, total, shown)

    def _existing(self, name: str, objects: Sequence[StagedObject]) -> Lease | None:
        """Return the use of a whole copy, None if there is none."""
        folder = self.folder / name
        if not folder.is_dir():
            return None
        if not all(_has_size(folder / each.relative, each.state.size) for each in objects):
            self._remove(folder)  # somebody cut a file
            return None
        os.utime(folder)
        return self._used(folder)

    def _copied(self, name: str, objects: Sequence[StagedObject], total: int, shown: str) -> Lease:
        part = self.folder / f"{name}.{uuid4().hex}{_PART}"
        reserved = self._reserve(part, total, shown)
        try:
            _copy(objects, part)
            with self._deciding():
                folder = self.folder / name
                if not folder.is_dir():
                    part.rename(folder)
                return self._used(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
            reserved.release()

    def _reserve(self, part: Path, total: int, shown: str) -> Lease:
        """Reserve room for a copy, and make its folder; wait while others use all room."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            with self._deciding():
                if self._bytes() + total > self.limit:
                    self._free_room(self.limit - total)
                if self._bytes() + total <= self.limit:
                    free = shutil.disk_usage(self.folder).free
                    if free < total:
                        raise OutputError(
                            f"{shown} has {total:,} bytes, and the disk of the cache {self.folder} "
                            f"has {free:,} free.",
                            hint=f"Free disk space, or name another folder with the option cache, "
                            f"or in {CACHE}.",
                            may_heal=True,
                        )
                    part.mkdir()
                    return self._used(part)
            if time.monotonic() > deadline:
                raise OutputError(
                    f"The cache {self.folder} is full of slides that are in use: there is no room "
                    f"for {shown} ({total:,} bytes of {self.limit:,}).",
                    hint=f"Give more with the option cache_size, or in {CACHE_SIZE}; or take fewer "
                    "workers.",
                    may_heal=True,
                )
            time.sleep(PAUSE)

    def _free_room(self, room: int) -> None:
        """Remove copies that nobody uses, oldest use first, until there are ``room`` bytes."""
        folders = self._folders()
        left = sum(_bytes_of(folder.name) for folder in folders)
        for folder in folders:
            if folder.suffix != _PART and left <= room:
                continue
            if not self._is_used(folder):
                self._remove(folder)
                left -= _bytes_of(folder.name)

    def _bytes(self) -> int:
        """Return the bytes of all copies, from their names: there may be very many small ones."""
        with os.scandir(self.folder) as found:
            return sum(max(_bytes_of(each.name), 0) for each in found if each.is_dir())

    def _folders(self) -> list[Path]:
        """Return all copies: unfinished ones first, then in the order of their last use."""
        paths = self.folder.iterdir()
        found = [path for path in paths if path.is_dir() and _bytes_of(path.name) >= 0]
        return sorted(found, key=lambda path: (path.suffix != _PART, path.stat().st_mtime_ns))

    def _is_used(self, folder: Path) -> bool:
        for path in self.folder.glob(f"{folder.name}.use-*{_LOCK}"):
            lock = _lock_of(path)
            try:
                lock.acquire(timeout=0)
            except TimeoutError:
                return True
            lock.release()
            path.unlink(missing_ok=True)  # of a process that was killed
        return False

    def _used(self, folder: Path) -> Lease:
        path = self.folder / f"{folder.name}.use-{uuid4().hex}{_LOCK}"
        lock = _lock_of(path)
        lock.acquire()
        return Lease(folder, partial(_end_use, lock, path))

    def _remove(self, folder: Path) -> None:
        gone = self.folder / f"{folder.name.removesuffix(_PART)}.{uuid4().hex}{_PART}"
        with contextlib.suppress(OSError):  # of Windows, while somebody has a file of it open
            folder.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)
            (self.folder / f"{folder.name}.copy{_LOCK}").unlink(missing_ok=True)

    @contextlib.contextmanager
    def _deciding(self) -> Iterator[None]:
        """Decide about all copies alone, for a moment."""
        # Who waits for a file lock looks at it again and again: threads wait for each other first.
        with _one_thread, self._lock("cache"):
            yield

    def _lock(self, name: str) -> FileLock:
        return _lock_of(self.folder / f"{name}{_LOCK}")


def version_of(objects: Sequence[StagedObject]) -> str:
    """Return a digest of where objects are and what is in them, as far as their store says it."""
    states = sorted(
        f"{each.store.url}\0{each.name}\0{each.state.size}\0{each.state.tag}" for each in objects
    )
    return xxhash.xxh3_128_hexdigest("\n".join(states).encode())


Fetch = Literal["copy", "ranges"]
"""Ways of slides from object storage: copied whole, or only what is needed of them."""

_of_options: dict[str, str] = {}
_guard = threading.Lock()
_one_thread = threading.Lock()


def use_cache(
    folder: Path | None = None, size: str | None = None, fetch: Fetch | None = None
) -> None:
    """Set cache of this process, and how slides come; the environment says what is None."""
    chosen = {CACHE: folder, CACHE_SIZE: size, FETCH: fetch}
    with _guard:
        _of_options.clear()
        _of_options.update({name: str(value) for name, value in chosen.items() if value})


def cache_of_process() -> Cache:
    """Return the cache of this process: of its options, the environment, or the user's folder.

    Raises
    ------
    UsageError
        If the environment does not name a size.
    """
    with _guard:
        chosen = {**os.environ, **_of_options}
    folder = chosen.get(CACHE) or str(_user_folder())
    try:
        limit = parse_bytes(chosen.get(CACHE_SIZE) or DEFAULT_SIZE)
    except ValueError as error:
        raise UsageError(f"{CACHE_SIZE}: {error}.") from error
    return Cache(Path(folder).absolute(), limit)


def fetch_of_process() -> Fetch:
    """Return how slides come from object storage: of the options, the environment, or by copies.

    Raises
    ------
    UsageError
        If the environment says something else.
    """
    with _guard:
        chosen = {**os.environ, **_of_options}.get(FETCH) or "copy"
    if chosen not in get_args(Fetch):
        raise UsageError(f"{FETCH}: {chosen!r} is neither copy nor ranges.")
    return cast(Fetch, chosen)


def _user_folder() -> Path:
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "qupath-bridge" / "slides"


def _copy(objects: Sequence[StagedObject], folder: Path) -> None:
    """Copy objects piece by piece, several at a time, and check that none changed meanwhile."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for each in objects:
            path = folder / checked_name(each.relative)
            path.parent.mkdir(parents=True, exist_ok=True)
            starts = range(0, each.state.size, PIECE)
            with path.open("wb") as file:
                file.truncate(each.state.size)

                def fetch(start: int, each: StagedObject = each) -> tuple[int, bytes]:
                    length = min(PIECE, each.state.size - start)
                    return start, each.store.get_range(each.name, start, length)

                for batch in _batches(starts, AT_ONCE):
                    for start, data in pool.map(fetch, batch):
                        file.seek(start)
                        file.write(data)
            tally({"copy_requests": len(starts), "copy_bytes": each.state.size})
            if each.state.modified_ns:
                os.utime(path, ns=(each.state.modified_ns, each.state.modified_ns))
    for each in objects:
        if each.store.state(each.name) != each.state:
            raise OutputError(
                f"{each.store.url}/{each.name} was replaced while it was copied.",
                hint="Export again when nobody writes the slide.",
                may_heal=True,
            )


def _batches(starts: range, size: int) -> Iterator[range]:
    for first in range(0, len(starts), size):
        yield starts[first : first + size]


def _bytes_of(name: str) -> int:
    """Return the bytes that a copy has when it is whole, as its name says; -1 for other folders."""
    number = name.partition(".")[0].rpartition("-")[2]
    return int(number) if number.isdecimal() and "-" in name else -1


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def _lock_of(path: Path) -> FileLock:
    """Return a lock that any thread may take and give back."""
    from filelock import FileLock  # most runs copy no slides, and start without it

    return FileLock(path, thread_local=False)


def _end_use(lock: FileLock, path: Path) -> None:
    lock.release()
    with contextlib.suppress(OSError):
        path.unlink()


@contextlib.contextmanager
def _errors_of(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"The cache {folder} cannot be written: {error.strerror or error}.",
            hint=f"Free disk space, or name another folder with the option cache, or in {CACHE}.",
            may_heal=not isinstance(error, PermissionError),
        ) from error
