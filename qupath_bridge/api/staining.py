"""Profiles of stains that can be saved and shared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qupath_bridge.errors import OutputError, UsageError
from qupath_bridge.pipeline.records import dump_json
from qupath_bridge.pipeline.stain_reference import profile_record
from qupath_bridge.stores.local import LocalStore

from .opening import Place

__all__ = ["stain_profile"]


def stain_profile(
    references: Place | Sequence[Place], out: Place, *, stain: str, mpp: float | None = None
) -> Path:
    """Save the colours of references, as a target for ``stain_reference``.

    Parameters
    ----------
    references : path or sequence of paths
        Pictures and slides, each with ``#X,Y,WIDTH,HEIGHT`` where a region is meant (pixels).
    out : path
        A new JSON file.
    stain : str
        The method, as in the option ``stain``.
    mpp : float, optional
        µm per pixel at which slides are looked at; their own when not given.

    Raises
    ------
    UsageError
        If a reference cannot be read, or shows too little tissue.
    OutputError
        If the file is there already, or cannot be written.
    """
    places = [references] if isinstance(references, str | Path) else references
    if not places:
        raise UsageError("No stain reference was given.", hint="Name pictures or slides.")
    path = Path(out).absolute()
    if path.suffix.lower() != ".json":
        raise UsageError(f"The name of a stain profile ends with .json: {path.name}.")
    if path.exists():
        raise OutputError(f"{path} is there already.", hint="Name a new file.")
    record = profile_record(stain, [str(place) for place in places], mpp)
    LocalStore(path.parent).put(path.name, dump_json(record))
    return path
