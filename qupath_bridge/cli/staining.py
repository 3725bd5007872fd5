"""``stain-profile``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qupath_bridge import api
from qupath_bridge.errors import UsageError

from .options import Given
from .output import print_json, show

__all__ = ["run_stain_profile"]


def run_stain_profile(references: Sequence[str], out: Path, given: Given, *, as_json: bool) -> int:
    """Save the colours of references; say where."""
    config = given.settings().config
    if config.stain == "none":
        raise UsageError("The method is missing.", hint="Name it, as in --stain macenko.")
    path = api.stain_profile(references, out, stain=config.stain, mpp=config.mpp)
    if as_json:
        print_json({"schema_version": 1, "profile": str(path)})
    else:
        show(f"{path} written. Use it: --stain {config.stain} --stain-reference {path}")
    return 0
