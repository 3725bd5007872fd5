"""The machine in general words, and the places to write to."""

import importlib.metadata
import os
import platform
import tempfile
from pathlib import Path

import psutil

PACKAGES = (
    "qupath-bridge", "numpy", "shapely", "tifffile", "imagecodecs", "simplejpeg", "isal", "Pillow",
    "openslide-python", "pyarrow",
)  # fmt: skip


def describe():
    """Return cores, memory, processor, system and versions."""
    return {
        "cores": cores(),
        "memory_gib": round(psutil.virtual_memory().total / (1 << 30)),
        "processor": _processor(),
        "system": platform.system(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "load": [round(load, 1) for load in psutil.getloadavg()],
    }


def cores():
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_folder():
    """Return a folder on a file system in memory, or the usual one for temporary files."""
    shared = Path("/dev/shm")
    return shared if shared.is_dir() and os.access(shared, os.W_OK) else Path(tempfile.gettempdir())


def _processor():
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.machine()


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
