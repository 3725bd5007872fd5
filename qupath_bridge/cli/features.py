"""``features``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import Any

from qupath_bridge import api
from qupath_bridge.errors import BridgeError
from qupath_bridge.frozen import count

from .output import print_json, say, show

__all__ = ["run_features"]

_SECONDS = 10
"""Time between two lines that say how far it is."""


def run_features(out: str, encoder: Path, *, track: str, as_json: bool, **options: Any) -> int:
    """Make features, and say of which slides, and what was kept."""
    made = api.features(out, encoder, on_progress=_reporter(), **options)
    if track != "none":
        try:
            api.track(out, track)
        except BridgeError as error:
            later = f"`qupath-bridge track {out} --to {track}` tries again"
            say(f"warning: Not tracked: {error} {later}.")
    if as_json:
        print_json({"schema_version": 1, **asdict(made)})
        return 0
    for slides, text in (
        (made.made, "made"),
        (made.renewed, "made anew: their patches or their files changed"),
        (made.kept, "kept: they are up to date"),
        (made.gone, "not used any more: the run has no such slides"),
    ):
        if slides:
            show(f"Features of {count(len(slides), 'slide')} {text}.")
    show(
        f"{made.width} numbers for each of {count(made.patches, 'patch', 'patches')} in "
        f"{made.place} ({made.provider})."
    )
    return 0


def _reporter() -> Callable[[int, int], None]:
    last = monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last
        if monotonic() - last >= _SECONDS:
            last = monotonic()
            say(f"{done:,} of {total:,} patches")

    return report
