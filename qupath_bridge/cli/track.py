"""``track``."""

from __future__ import annotations

from qupath_bridge import api

from .output import print_json, show

__all__ = ["run_track"]


def run_track(out: str, to: str, *, name: str | None, as_json: bool) -> int:
    """Record a run with a service, and say where it is."""
    made = api.track(out, to, name=name)
    if as_json:
        print_json(
            {
                "schema_version": 1,
                "name": made.name,
                "digest": made.digest,
                "features": list(made.features),
                "place": made.place,
            }
        )
        return 0
    also = f" with the features {', '.join(made.features)}" if made.features else ""
    show(f"{made.name}{also}: {made.place}")
    return 0
