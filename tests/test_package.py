import subprocess
import sys

import pytest

import qupath_bridge as qb
from qupath_bridge import errors

PUBLIC = [
    "__version__", "open_project", "plan", "export", "write_provenance",
    "write_back", "undo_write_back", "status", "verify",
    "ExportConfig", "Project", "Slide", "ImageData", "PathObject", "Plan", "Run", "Box", "Plane",
    "PixelSize", "coverage", "open_reader", "coordinates", "geojson", "BridgeError", "ConfigError",
    "ProjectError", "SlideError", "OutputError",
]  # fmt: skip


def test_the_public_names():
    assert qb.__all__ == PUBLIC
    for name in PUBLIC:
        assert getattr(qb, name) is not None
    assert set(PUBLIC) <= set(dir(qb))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        qb.nothing  # noqa: B018


def test_importing_loads_nothing_heavy():
    code = "import sys, qupath_bridge; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = {"numpy", "shapely", "pyarrow", "pydantic", "jpype", "paquo", "openslide", "tifffile"}
    assert not heavy & set(loaded)


def test_help_loads_nothing_heavy():
    code = "import sys; from qupath_bridge.cli import main; main(['-h']); print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"numpy", "shapely", "pyarrow", "pydantic"} & set(loaded)


def test_every_error_is_one_of_ours_and_has_a_status():
    statuses = {
        "UsageError": 2, "ConfigError": 3, "ProjectError": 4, "OutputError": 5,
        "MissingDependencyError": 6, "InterruptedRunError": 130,
    }  # fmt: skip
    for name in errors.__all__:
        kind = getattr(errors, name)
        if isinstance(kind, type) and issubclass(kind, Exception):
            assert issubclass(kind, errors.BridgeError)
            assert kind.exit_code == statuses.get(name, 1)
            assert name == "BridgeError" or name in errors.__doc__


def test_an_error_says_what_where_and_what_next():
    error = errors.ProjectError(
        "a string was cut off", path="data.qpdata", offset=12, expected="40 bytes", hint="Look."
    )
    assert str(error) == "data.qpdata: a string was cut off at byte 12 (expected 40 bytes). Look."
