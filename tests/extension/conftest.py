"""The extension's jar, as ``make extension`` builds it."""

from pathlib import Path

import pytest

import qupath_bridge as qb

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def extension_jar():
    """The jar of this version."""
    jar = ROOT / "build" / f"qupath-extension-patch-bridge-{qb.__version__}.jar"
    if not jar.is_file():
        pytest.skip("no jar of the extension: make extension builds it")
    return jar
