"""``request``: what QuPath's scripts and extension ask."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qupath_bridge.api.requests import answer, prepare, start_event

from .output import print_json_line
from .streams import silence

__all__ = ["run_request"]


def run_request(file: str) -> int:
    """Answer the request in a file, or with ``-`` those in the files that stdin names."""
    events = _Events()
    events.emit(start_event())
    if file != "-":
        return answer(Path(file), events.emit, events.gone)
    # Before anything waits for stdin: on Windows importing numpy hangs while something reads it.
    prepare()
    for line in sys.stdin:
        if place := line.rstrip("\r\n"):
            answer(Path(place), events.emit, events.gone)
        if events.gone.is_set():
            break
    return 0


class _Events:
    """Events as lines on stdout; if nobody reads them any more, a run stops."""

    def __init__(self) -> None:
        self.gone = threading.Event()

    def emit(self, event: Mapping[str, Any]) -> None:
        if self.gone.is_set():
            return
        try:
            print_json_line(event)
        except OSError:
            silence(sys.stdout)
            self.gone.set()
