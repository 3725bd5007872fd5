"""``doctor``."""

from __future__ import annotations

from dataclasses import asdict

from qupath_bridge import api

from .options import Given
from .output import print_json, print_table, show

__all__ = ["run_doctor"]


def run_doctor(given: Given, *, as_json: bool) -> int:
    """Print what is there; 6 when something that is needed is missing."""
    found = api.doctor(given.settings().options.qupath)
    if as_json:
        print_json({"schema_version": 1, "checks": [asdict(check) for check in found]})
    else:
        print_table(
            ("part", "state", "found"), [(check.name, check.state, check.found) for check in found]
        )
        for check in found:
            if check.next:
                show(f"{check.name}: {check.next}")
    return 6 if any(check.state == "missing" for check in found) else 0
