"""``doctor``."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata

from qupath_bridge._version import __version__

from .output import print_json, print_table

__all__ = ["Check", "checks", "run_doctor"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: ``ok``, ``missing`` (needed) or ``optional``."""

    name: str
    state: str
    found: str
    next: str | None = None


def run_doctor(*, as_json: bool) -> int:
    """Print what is there; 6 when something that is needed is missing."""
    found = list(checks())
    if as_json:
        print_json({"schema_version": 1, "checks": [asdict(check) for check in found]})
    else:
        print_table(
            ("part", "state", "found"), [(check.name, check.state, check.found) for check in found]
        )
        for check in found:
            if check.next:
                print(f"{check.name}: {check.next}")
    return 6 if any(check.state == "missing" for check in found) else 0


def checks() -> Iterator[Check]:
    """Look at every part; none of them can make this fail."""
    yield Check("qupath-bridge", "ok", __version__)
    yield Check("Python", "ok", f"{platform.python_version()} ({platform.machine()})")
    yield Check("platform", "ok", platform.platform())
    yield _part("OpenSlide", _openslide, "pip install openslide-python openslide-bin")
    yield _part("JPEG, JPEG 2000 and PNG codecs", _codecs, "pip install imagecodecs")
    for name in ("numpy", "shapely", "tifffile", "Pillow", "pyarrow", "pydantic", "xxhash"):
        yield _part(name, lambda name=name: metadata.version(name), f"pip install {name}")  # type: ignore[misc]
    yield Check(
        "QuPath's own classes (paquo)",
        "optional",
        _version("paquo") or "not installed",
        "this version reads projects with its own reader; neither Java nor QuPath is needed.",
    )


def _part(name: str, look: Callable[[], str], command: str) -> Check:
    try:
        return Check(name, "ok", look())
    except Exception as error:  # noqa: BLE001  # whatever is broken is what a doctor reports
        return Check(name, "missing", f"{type(error).__name__}: {error}", f"run {command}")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _openslide() -> str:
    import openslide

    bits = 64 if sys.maxsize > 2**32 else 32
    return f"{openslide.__library_version__} (Python package {openslide.__version__}, {bits} bit)"


def _codecs() -> str:
    import imagecodecs

    wanted = ("jpeg8", "jpeg2k", "png", "lzw", "deflate", "zstd")
    missing = [name for name in wanted if not getattr(imagecodecs, name.upper()).available]
    if missing:
        raise ImportError(f"imagecodecs {imagecodecs.__version__} lacks {', '.join(missing)}")
    return f"imagecodecs {imagecodecs.__version__}"
