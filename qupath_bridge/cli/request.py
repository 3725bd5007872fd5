"""``request``: what QuPath's scripts and extension ask."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qupath_bridge.api.requests import answer, prepare, start_event

from .output import print_json_line
from .streams import silence

__all__ = ["run_request"]

QUIET = 2.0
"""Seconds without an event after which ``alive`` is emitted: only who writes sees that nobody
reads any more."""

GRACE = 3.0
"""Seconds that a request has to end by itself once nobody reads; then it is interrupted."""


def run_request(file: str) -> int:
    """Answer the request in a file, or with ``-`` those in the files that stdin names."""
    events = _Events()
    events.emit(start_event())
    if file != "-":
        with _watched(events):
            return answer(Path(file), events.emit, events.gone)
    # Before anything waits for stdin: on Windows importing numpy hangs while something reads it.
    prepare()
    for line in sys.stdin:
        if place := line.rstrip("\r\n"):
            with _watched(events):
                answer(Path(place), events.emit, events.gone)
        if events.gone.is_set():
            break
    return 0


class _Events:
    """Events as lines on stdout; if nobody reads them any more, a run stops."""

    def __init__(self) -> None:
        self.gone = threading.Event()
        self._written = threading.Event()
        self._lock = threading.Lock()

    def emit(self, event: Mapping[str, Any]) -> None:
        with self._lock:
            if self.gone.is_set():
                return
            self._written.set()
            try:
                print_json_line(event)
            except OSError:
                silence(sys.stdout)
                self.gone.set()

    def look(self) -> None:
        """Find out whether somebody reads, unless an event was written since the last look."""
        if not self._written.is_set():
            self.emit({"event": "alive"})
        self._written.clear()


@contextmanager
def _watched(events: _Events) -> Iterator[None]:
    """Stop the block within seconds when nobody reads its events any more."""
    ended = threading.Event()

    def watch() -> None:
        while not events.gone.is_set():
            if ended.wait(QUIET):
                return
            events.look()
        if not ended.wait(GRACE):
            _interrupt()

    threading.Thread(target=watch, name="watch stdout", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _interrupt() -> None:
    """Interrupt the main thread, also where it waits for something, as SIGTERM does."""
    if sys.platform == "win32":
        _thread.interrupt_main(signal.SIGTERM)
    else:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
