"""``doctor``."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from qupath_bridge._version import __version__
from qupath_bridge.qupath.jvm.installation import (
    Candidate,
    find_installations,
    python_architecture,
    same_architecture,
)
from qupath_bridge.qupath.jvm.process import Probe, probe
from qupath_bridge.sources.auto import choose

from .output import print_json, print_table

__all__ = ["Check", "checks", "run_doctor"]

PATIENCE = 60.0  # seconds for Java to start


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: ``ok``, ``missing`` (needed) or ``optional``."""

    name: str
    state: str
    found: str
    next: str | None = None


def run_doctor(qupath: Path | None = None, *, as_json: bool) -> int:
    """Print what is there; 6 when something that is needed is missing."""
    found = list(checks(find_installations(configured=qupath)))
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


def checks(
    candidates: Sequence[Candidate] | None = None, look: Callable[..., Probe] = probe
) -> Iterator[Check]:
    """Look at every part; none of them can make this fail.

    Parameters
    ----------
    candidates : sequence of Candidate, optional
        QuPath installations; those of this machine when not given.
    look : callable
        Starts one of them; another one in tests.
    """
    yield Check("qupath-bridge", "ok", __version__)
    yield Check("Python", "ok", f"{platform.python_version()} ({python_architecture()})")
    yield Check("platform", "ok", platform.platform())
    yield _part("OpenSlide", _openslide, "pip install openslide-python openslide-bin")
    yield _part("JPEG, JPEG 2000 and PNG codecs", _codecs, "pip install imagecodecs")
    for name in ("numpy", "shapely", "tifffile", "Pillow", "pyarrow", "pydantic", "xxhash"):
        yield _part(name, lambda name=name: metadata.version(name), f"pip install {name}")  # type: ignore[misc]
    yield from _qupath(find_installations() if candidates is None else candidates, look)


def _qupath(candidates: Sequence[Candidate], look: Callable[..., Probe]) -> Iterator[Check]:
    """Look at every QuPath, start the one that would be used, and say which engine that makes."""
    jpype, paquo = _version("jpype1"), _version("paquo")
    yield Check(
        "paquo",
        "ok" if jpype and paquo else "optional",
        f"{paquo or 'not installed'} (JPype {jpype or 'not installed'})",
        _python_advice(jpype) if jpype and paquo else "run pip install paquo",
    )
    choice = choose(candidates)
    for candidate in candidates:
        found = candidate.installation
        version = "not a QuPath" if found is None else f"QuPath {found.version}"
        yield Check(
            f"QuPath ({candidate.source})",
            "optional" if candidate.problem else "ok",
            f"{version} in {candidate.path}",
            candidate.problem,
        )
    if choice.installation is None:
        why = f"{choice.reason.removesuffix('.')}. The engine embedded needs none."
        yield Check("engine", "ok", "embedded", why)
        return
    try:
        told = look(choice.installation, timeout=PATIENCE)
    except Exception as error:  # noqa: BLE001  # whatever is broken is what a doctor reports
        yield Check("engine", "ok", "embedded", str(error) or type(error).__name__)
        return
    about = (
        f"QuPath {told.qupath} on Java {told.java} ({told.jvm_architecture}), JPype {told.jpype}, "
        f"paquo {told.paquo}, Python {told.python_architecture}"
    )
    advice = None
    if not same_architecture(told.jvm_architecture, told.python_architecture):
        advice = "Java and Python are built for different processors; install builds that match."
    yield Check("QuPath's own classes", "ok", about, advice)
    yield Check("engine", "ok", f"paquo: {choice.reason}")


def _python_advice(jpype: str) -> str | None:
    """Return what is known of this Python to make trouble, whether Java starts or not."""
    advice = []
    if jpype == "1.5.1":
        advice.append("JPype 1.5.1 is known to end the process: pip install --upgrade JPype1.")
    if "WindowsApps" in sys.base_exec_prefix:
        advice.append("Java is known to crash in Python of the Microsoft Store: use python.org's.")
    return " ".join(advice) or None


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
