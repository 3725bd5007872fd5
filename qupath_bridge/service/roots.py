"""Places that a job may name: those below the roots of the operator, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from qupath_bridge.errors import UsageError
from qupath_bridge.urls import url_of

__all__ = ["check_output", "check_source", "is_below"]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


def check_source(place: str, roots: Sequence[str]) -> str:
    """Return the real path of a source, which has to be below a root.

    Raises
    ------
    UsageError
        If it is not, is a URL, or does not exist. The message is the same for all three, so that
        nobody learns what is on the machine.
    """
    path = _real(place)
    if path is None or not is_below(path, roots) or not path.exists():
        raise UsageError(
            f"No source {place!r} below the roots of this service.",
            hint="Name a project or slides in a folder that the operator gave to the service.",
        )
    return str(path)


def check_output(place: str, roots: Sequence[str]) -> str:
    """Return the place of an output, a path or URL that has to be below a root, not a root itself.

    Raises
    ------
    UsageError
        If it is not.
    """
    found = _url_below(place, roots) if _URL.match(place) else _path_below(place, roots)
    if found is None:
        raise UsageError(
            f"No output may be written to {place!r} by this service.",
            hint="Name a new folder below a root of outputs that the operator gave to the service.",
        )
    return found


def is_below(path: Path, roots: Iterable[str]) -> bool:
    """Return whether a file is in one of the folders, with all links followed."""
    url = url_of(path)
    if url is not None:
        return any(url.startswith(f"{root.rstrip('/')}/") for root in roots if _URL.match(root))
    real = path.resolve()
    return any(real.is_relative_to(Path(root).resolve()) for root in roots if not _URL.match(root))


def _real(place: str) -> Path | None:
    if _URL.match(place) or "\0" in place or not Path(place).is_absolute():
        return None
    return Path(place).resolve()


def _path_below(place: str, roots: Sequence[str]) -> str | None:
    path = _real(place)
    if path is None or not is_below(path, roots):
        return None
    is_root = any(path == Path(root).resolve() for root in roots if not _URL.match(root))
    return None if is_root else str(path)


def _url_below(place: str, roots: Sequence[str]) -> str | None:
    """Compare URLs by their parts. What changes the meaning of a URL is refused."""
    if any(sign in place for sign in "?#%@\\\0") or ".." in PurePosixPath(place).parts:
        return None
    wanted = PurePosixPath(place).parts
    for root in roots:
        parts = PurePosixPath(root).parts
        if _URL.match(root) and wanted[: len(parts)] == parts and len(wanted) > len(parts):
            return place
    return None
