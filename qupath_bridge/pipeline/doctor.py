"""Checks of an installation: what is there, what is missing, and how to get it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata

from qupath_bridge import registry
from qupath_bridge._version import __version__
from qupath_bridge.errors import BridgeError
from qupath_bridge.frozen import OneLine
from qupath_bridge.parallel import available_cores
from qupath_bridge.qupath.jvm.installation import (
    Candidate,
    find_installations,
    python_architecture,
    same_architecture,
)
from qupath_bridge.qupath.jvm.process import Probe, probe
from qupath_bridge.sources.auto import choose

__all__ = ["Check", "checks"]

PATIENCE = 60.0  # seconds for Java to start


@dataclass(frozen=True, slots=True, repr=False)
class Check(OneLine):
    """One part that was checked: ``ok``, ``missing`` (needed) or ``optional``."""

    name: str
    state: str
    found: str
    next: str | None = None


def checks(
    candidates: Sequence[Candidate] | None = None, look: Callable[..., Probe] = probe
) -> Iterator[Check]:
    """Check every part; none of them can make this fail.

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
    for name in ("numpy", "shapely", "tifffile", "Pillow", "isal", "pyarrow", "pydantic", "xxhash"):
        yield _part(name, lambda name=name: metadata.version(name), f"pip install {name}")  # type: ignore[misc]
    yield from _parts()
    yield _extra("folds", "split", ["scikit-learn"], ["scipy"])
    yield _extra("cloud", "a URL of object storage", ["obstore"])
    yield _extra("features", "features", ["onnxruntime", "onnxruntime-gpu"], ["h5py"])
    yield _extra("wandb", "track", ["wandb"])
    yield _extra("dask", "the runner dask", ["distributed"], ["cryptography"])
    yield _extra("spark", "the runner spark", ["pyspark"])
    yield from _speed()
    yield from _qupath(find_installations() if candidates is None else candidates, look)


def _parts() -> Iterator[Check]:
    """Load every exchangeable part; name those of other packages, and those that lack something."""
    for kind in registry.KINDS:
        for part in registry.parts(kind):
            built_in = part.origin == "built in"
            try:
                registry.load(kind, part.name)
            except BridgeError as error:
                found = "not installed" if built_in else part.origin
                yield Check(f"{kind} {part.name}", "optional", found, str(error))
            else:
                if not built_in:
                    yield Check(f"{kind} {part.name}", "ok", part.origin)


def _extra(name: str, command: str, *packages: Sequence[str]) -> Check:
    """Check what a command needs besides; each package may have other names."""
    found = {
        names[0]: next((version for each in names if (version := _version(each))), None)
        for names in packages
    }
    there = all(found.values())
    return Check(
        name,
        "ok" if there else "optional",
        ", ".join(f"{package} {version or 'not installed'}" for package, version in found.items()),
        None if there else f"run pip install 'qupath-bridge[{name}]': {command} uses it",
    )


def _speed() -> Iterator[Check]:
    """Say what would make jobs faster on this machine."""
    cores, there = available_cores(), os.cpu_count() or 1
    more = (
        "Let this process use all cores: nothing speeds up a job more." if cores < there else None
    )
    yield Check("cores", "optional" if more else "ok", f"{cores} of {there}", more)
    if shutil.which("nvidia-smi"):
        version = _version("cucim-cu12")
        install = "run pip install 'qupath-bridge[cucim]': the reader cucim uses it"
        yield Check(
            "NVIDIA GPU",
            "ok" if version else "optional",
            f"cuCIM {version}" if version else "not used",
            None if version else install,
        )


def _qupath(candidates: Sequence[Candidate], look: Callable[..., Probe]) -> Iterator[Check]:
    """Check every QuPath, start the one that would be used, and name the engine that results."""
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
        started = look(choice.installation, timeout=PATIENCE)
    except Exception as error:  # noqa: BLE001  # whatever is broken is what a doctor reports
        yield Check("engine", "ok", "embedded", str(error) or type(error).__name__)
        return
    about = (
        f"QuPath {started.qupath} on Java {started.java} ({started.jvm_architecture}), "
        f"JPype {started.jpype}, paquo {started.paquo}, Python {started.python_architecture}"
    )
    advice = None
    if not same_architecture(started.jvm_architecture, started.python_architecture):
        advice = "Java and Python are built for different processors; install builds that match."
    yield Check("QuPath's own classes", "ok", about, advice)
    yield Check("engine", "ok", f"paquo: {choice.reason}")


def _python_advice(jpype: str) -> str | None:
    """Return known problems of this Python, whether Java starts or not."""
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
