"""The lock of an output: one run at a time writes to it.

``lock.json`` names the run and the process that coordinates it, or the job of a service, whose
processes come and go: that lock stays until the job gives it back. Whoever takes a lock over first
creates a claim, a file whose name comes from the very lock that it replaces: of several that find
the same abandoned lock one gets the claim, and the others find that the lock is another one now.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import psutil
import xxhash

from qupath_bridge.errors import OutputError

from .base import LockHolder

if TYPE_CHECKING:
    from qupath_bridge.stores.base import Store

    from .base import Output

__all__ = [
    "LOCK_FILE",
    "check_lock",
    "hold_for_job",
    "hold_lock",
    "is_lock",
    "read_holder",
    "release_job",
    "stale_claims",
]

LOCK_FILE = "lock.json"
_CLAIM = "lock-"
_JSON = ".json"

CLOCK_TOLERANCE = 2.0
"""Seconds by which the system's answer when a process started may differ from time to time."""

ATTEMPTS = 20
"""Times that a lock may be released between two looks at it."""

PAUSES = (0.05, 0.1, 0.2, 0.4)
"""Seconds to wait for a lock that is being written, on file systems that show it before."""


@contextmanager
def hold_lock(store: Store, place: str, run_id: str, *, break_lock: bool = False) -> Iterator[None]:
    """Hold the lock of an output while the block runs.

    Parameters
    ----------
    store : Store
        The output's store.
    place : str
        What messages call the output.
    run_id : str
    break_lock : bool
        Take it over from whoever holds it.

    Raises
    ------
    OutputError
        If a run holds it whose process is there, or is on another host.
    """
    own = _dump(_this_process(run_id))
    _take(store, place, LOCK_FILE, own, break_lock=break_lock)
    try:
        yield
    finally:
        if _content(store, LOCK_FILE) == own:  # else somebody broke it
            store.delete(LOCK_FILE)


def hold_for_job(
    store: Store, place: str, run_id: str, job: str, *, break_lock: bool = False
) -> None:
    """Take the lock of an output for a job, as :func:`hold_lock` does for a process.

    Any process of the job may call it again, and the end of none of them frees the lock.

    Raises
    ------
    OutputError
        If another run holds it.
    """
    own = _dump(_this_process(run_id, job))
    holder = read_holder(store)
    if holder is not None and holder.job == job:
        if holder.run_id != run_id:
            store.put(LOCK_FILE, own)
        return
    _take(store, place, LOCK_FILE, own, break_lock=break_lock)


def release_job(store: Store, job: str) -> None:
    """Give the lock of a job back; nothing happens if the job does not hold it."""
    holder = read_holder(store)
    if holder is not None and holder.job == job:
        store.delete(LOCK_FILE)


def read_holder(store: Store) -> LockHolder | None:
    """Return who holds the lock of an output, None if nobody does."""
    content = _content(store, LOCK_FILE)
    return None if content is None else _parse(content)


def check_lock(output: Output, run_id: str) -> None:
    """Check that no other run holds the lock of an output. Workers of a run call it.

    Raises
    ------
    OutputError
        If another run holds it.
    """
    holder = output.holder()
    if holder is not None and holder.run_id != run_id:
        raise _held(output.describe(), holder)


def is_lock(name: str) -> bool:
    """Return whether a name in an output is that of its lock or of a claim on it."""
    return name == LOCK_FILE or (name.startswith(_CLAIM) and name.endswith(_JSON))


def stale_claims(store: Store) -> Iterator[str]:
    """Yield the names of claims whose processes are gone."""
    for name in store.list(_CLAIM):
        content = _content(store, name) if is_lock(name) else None
        if content is not None and _is_gone(_parse(content)):
            yield name


def _take(store: Store, place: str, name: str, own: bytes, *, break_lock: bool) -> None:
    """Put ``own`` under the name of a lock, or raise."""
    for _ in range(ATTEMPTS):
        if _create(store, place, name, own):
            return
        found = _content(store, name)
        if found is None:
            continue  # released between the two calls
        if found == own:
            return  # the answer to an earlier request was lost, and the store was asked again
        holder = _parse(found)
        if not (_is_gone(holder) or _may_break(name, holder, break_lock=break_lock)):
            raise _held(place, holder)
        stem = name.removesuffix(_JSON).partition("-")[0]
        claim = f"{stem}-{xxhash.xxh3_64_hexdigest(name.encode() + found)}{_JSON}"
        _take(store, place, claim, own, break_lock=break_lock)
        try:
            # As long as this claim is held nobody else replaces this very lock.
            if _content(store, name) == found:
                store.put(name, own)
                return
        finally:
            store.delete(claim)
    raise OutputError(
        f"The lock of {place} cannot be taken: {name} changes all the time, or is not a file.",
        hint="Use another output.",
    )


def _create(store: Store, place: str, name: str, own: bytes) -> bool:
    """Create a lock; return False if it is there. Nothing is written to an output before it."""
    try:
        return store.create(name, own)
    except OutputError as error:
        reason = error.message.rpartition(": ")[2]
        hint = error.hint or "Check the path, or choose another folder."
        raise OutputError(
            f"Nothing can be written to {place}: {reason}", hint=hint, may_heal=error.may_heal
        ) from error


def _may_break(name: str, holder: LockHolder, *, break_lock: bool) -> bool:
    """Return whether ``break_lock`` takes this over: of claims only those of other hosts."""
    return break_lock and (name == LOCK_FILE or holder.host != platform.node())


def _content(store: Store, name: str) -> bytes | None:
    """Return what is under a name, None if nothing is; wait for what is being written."""
    for pause in (*PAUSES, None):
        try:
            content = store.get(name)
        except OutputError:
            if store.exists(name):
                raise
            return None
        if pause is None or content.endswith(b"}\n"):
            return content
        time.sleep(pause)
    return None


def _this_process(run_id: str, job: str | None = None) -> LockHolder:
    return LockHolder(
        run_id=run_id,
        host=platform.node(),
        process=os.getpid(),
        process_started=psutil.Process().create_time(),
        since=datetime.now(UTC).isoformat(timespec="microseconds"),
        job=job,
    )


def _is_gone(holder: LockHolder) -> bool:
    """Return whether the process was one of this host and does not run any more.

    A job has many processes: it is never gone.
    """
    if holder.job is not None or holder.host != platform.node():
        return False
    try:
        process = psutil.Process(holder.process)
        started, status = process.create_time(), process.status()
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False
    another = abs(started - holder.process_started) > CLOCK_TOLERANCE
    return another or status == psutil.STATUS_ZOMBIE


def _dump(holder: LockHolder) -> bytes:
    return f"{json.dumps(asdict(holder), indent=2, ensure_ascii=False)}\n".encode()


def _parse(content: bytes) -> LockHolder:
    """Return the holder that a lock names; an unknown one where it cannot be read."""
    try:
        return msgspec.json.decode(content, type=LockHolder)
    except (ValueError, RecursionError):
        return LockHolder("unknown", "unknown", 0, 0.0, "an unknown time")


def _held(place: str, holder: LockHolder) -> OutputError:
    if holder.job is not None:
        return OutputError(
            f"{place} is in use by run {holder.run_id}: job {holder.job} of a service, since "
            f"{holder.since}.",
            hint="Wait until the job has finished, or cancel it. If its service does not exist any "
            "more, take the output over with the option break_lock.",
        )
    return OutputError(
        f"{place} is in use by run {holder.run_id}: process {holder.process} on {holder.host}, "
        f"since {holder.since}.",
        hint="Wait until it has finished, or use another output. If that process does not run "
        "any more, take the output over with the option break_lock.",
    )
