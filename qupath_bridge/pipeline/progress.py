"""Progress on stderr: a bar for people, JSON lines for programs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .run import Progress

__all__ = ["watch"]

Listener = Callable[["Progress"], None]
INTERVAL = 0.2
"""Seconds between two JSON lines: often enough to see, too seldom to cost."""


@contextmanager
def watch(progress: bool | str | Listener, total: int) -> Iterator[Listener | None]:
    """Give a listener for a run of ``total`` patches.

    ``True`` shows a bar with rate and remaining time, ``"auto"`` does so only on a terminal,
    ``"jsonl"`` prints JSON lines, ``False`` and ``"none"`` nothing; a function is passed through.
    """
    if callable(progress):
        yield progress
    elif progress == "jsonl":
        yield _json_lines()
    elif progress is True or (progress == "auto" and sys.stderr.isatty()):
        with _bar(total) as listener:
            yield listener
    else:
        yield None


def _json_lines() -> Listener:
    began = time.monotonic()
    last = began - INTERVAL

    def show(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < INTERVAL and progress.done < progress.total:
            return
        last = now
        rate = progress.done / (now - began) if now > began else 0.0
        event = {
            "event": "progress",
            "done": progress.done,
            "total": progress.total,
            "slide": progress.slide_name,
            "rate": round(rate, 1),
        }
        print(json.dumps(event, ensure_ascii=False), file=sys.stderr, flush=True)

    return show


@contextmanager
def _bar(total: int) -> Iterator[Listener]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(TextColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.0f} patches/s" if task.speed else "")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(""),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("", total=total)

        def show(progress: object) -> None:
            done, name = getattr(progress, "done", 0), getattr(progress, "slide_name", "")
            shown.update(task, completed=done, description=name)

        yield show
