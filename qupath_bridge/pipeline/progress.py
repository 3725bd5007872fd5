"""Progress of a run: the value, and how it is shown on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from qupath_bridge.frozen import OneLine, escape_controls

__all__ = ["Listener", "Progress", "listener", "watch"]

INTERVAL = 0.2
"""Seconds between two JSON lines: often enough to see, too seldom to cost."""


@dataclass(frozen=True, slots=True, repr=False)
class Progress(OneLine):
    """The state of a run.

    Attributes
    ----------
    done, total : int
        Patches written, and patches planned so far; ``total`` grows while slides are planned.
    slides_done, slides : int
        Slides finished, and slides of the run.
    slide_name : str
        The slide at work.
    """

    done: int
    total: int
    slides_done: int
    slides: int
    slide_name: str


Listener = Callable[[Progress], None]


@contextmanager
def watch(progress: str | Listener) -> Iterator[Listener | None]:
    """Give a listener for a run.

    ``"auto"`` shows a bar with rate on a terminal and nothing elsewhere, ``"jsonl"`` prints JSON
    lines, ``"none"`` nothing; a function is passed through.
    """
    if callable(progress):
        yield progress
    elif progress == "jsonl":
        yield _json_lines()
    elif progress == "auto" and sys.stderr.isatty():
        with _bar() as listener:
            yield listener
    else:
        yield None


def listener(emit: Callable[[Mapping[str, Any]], None]) -> Listener:
    """Return a listener that makes events of the progress, five per second at most.

    Parameters
    ----------
    emit : callable
        Called with each event, a mapping of JSON values; ``rate`` is patches per second.
    """
    began = time.monotonic()
    last = began - INTERVAL

    def show(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        finished = progress.slides_done == progress.slides
        if now - last < INTERVAL and not finished:
            return
        last = now
        emit(
            {
                "event": "progress",
                "done": progress.done,
                "total": progress.total,
                "slides_done": progress.slides_done,
                "slides": progress.slides,
                "slide": progress.slide_name,
                "rate": round(progress.done / (now - began), 1) if now > began else 0.0,
            }
        )

    return show


def _json_lines() -> Listener:
    listening = True

    def emit(event: Mapping[str, Any]) -> None:
        nonlocal listening
        if not listening:
            return
        try:
            print(json.dumps(event), file=sys.stderr, flush=True)
        except (OSError, ValueError):
            listening = False  # who listened is gone; the work goes on

    return listener(emit)


@contextmanager
def _bar() -> Iterator[Listener]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Task, TextColumn
    from rich.progress import Progress as Bar
    from rich.text import Text

    class Rate(TextColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.0f} patches/s" if task.speed else "")

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(""),
        TextColumn("{task.fields[slides]}"),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("", total=None, slides="")

        def show(progress: Progress) -> None:
            shown.update(
                task,
                completed=progress.done,
                total=progress.total,
                description=escape_controls(progress.slide_name),
                slides=f"slide {min(progress.slides_done + 1, progress.slides)}/{progress.slides}",
            )

        yield show
