"""Environments of other programs, made once and kept; what does not install is named."""

import json
import subprocess
import sys
import time
import venv
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
INSTALL_SECONDS = 600
HEAVY = {"torch", "tensorflow"}


@dataclass(frozen=True)
class Peer:
    """A package of the registry: what is installed for it, and which script measures it.

    ``alone`` is installed without what it requires: cuCIM asks for gigabytes of CUDA, none of
    which its CPU reader uses.
    """

    name: str
    script: str
    packages: tuple[str, ...] = ()
    alone: tuple[str, ...] = ()


PEERS = (
    Peer("tiffslide", "with_tiffslide.py", ("tiffslide",)),
    Peer("dlup", "with_dlup.py", ("dlup",)),
    Peer("FastSlide", "with_fastslide.py", ("fastslide", "numpy", "Pillow")),
    Peer("cuCIM (CPU)", "with_cucim.py", ("numpy", "Pillow", "click", "lazy_loader"),
         ("cucim-cu12",)),
    Peer("histolab", "with_histolab.py", ("histolab",)),
    Peer("LazySlide", "", ("lazyslide",)),
)  # fmt: skip


class SkippedError(Exception):
    """A peer that cannot be measured here, and why."""


def environment(peer, folder):
    """Return the Python of a peer's environment; make it the first time.

    Raises
    ------
    SkippedError
        If it does not install within ten minutes, or needs torch. The reason is kept, so that
        the next run does not try again.
    """
    place = Path(folder) / peer.script.removesuffix(".py").removeprefix("with_")
    if not peer.script:
        place = Path(folder) / peer.name.lower()
    python = place / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    state = place / "state.json"
    if not state.exists():
        venv.create(place, with_pip=True, clear=True)
        reason = _install(python, peer)
        state.write_text(json.dumps({"skipped": reason}), encoding="utf-8")
    reason = json.loads(state.read_text(encoding="utf-8"))["skipped"]
    if reason:
        raise SkippedError(f"{peer.name}: {reason}")
    return python


def versions(python):
    """Return what is installed in an environment."""
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return {each["name"]: each["version"] for each in json.loads(listed.stdout)}


def _install(python, peer):
    """Install a peer; return why not, or None."""
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    end = time.monotonic() + INSTALL_SECONDS
    try:
        report = subprocess.run(
            [*pip, "--dry-run", "--report", "-", *peer.packages],
            check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS,
        )  # fmt: skip
        needed = {each["metadata"]["name"].lower() for each in json.loads(report.stdout)["install"]}
        if needed & HEAVY:
            return f"needs {', '.join(sorted(needed & HEAVY))}"
        for words in ([*peer.packages], ["--no-deps", *peer.alone] if peer.alone else []):
            if words:
                subprocess.run(
                    [*pip, *words], check=True, capture_output=True, text=True,
                    timeout=max(1, end - time.monotonic()),
                )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "not installed within ten minutes"
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or "").strip().splitlines()
        return f"does not install: {lines[-1] if lines else error}"
    return None
