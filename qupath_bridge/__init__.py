"""QuPath annotations to labelled patches, and back.

>>> import qupath_bridge as qb
>>> qb.ExportConfig(size=224, mpp=0.5).size
224
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from qupath_bridge.geometry.coverage import coverage
    from qupath_bridge.pipeline.plan import Plan
    from qupath_bridge.pipeline.run import Run
    from qupath_bridge.qupath import geojson
    from qupath_bridge.sources.base import Project

    from .api import export, open_project, plan, status, verify, write_provenance
    from .config import ExportConfig
    from .errors import (
        BridgeError,
        ConfigError,
        OutputError,
        ProjectError,
        SlideError,
    )
    from .geometry import coordinates
    from .model import Box, ImageData, PathObject, PixelSize, Plane, Slide
    from .readers import open_reader

_HOMES = {
    "BridgeError": "errors",
    "ConfigError": "errors",
    "OutputError": "errors",
    "ProjectError": "errors",
    "SlideError": "errors",
    "Box": "model",
    "ImageData": "model",
    "PathObject": "model",
    "PixelSize": "model",
    "Plane": "model",
    "Slide": "model",
    "ExportConfig": "config",
    "Project": "sources.base",
    "Plan": "pipeline.plan",
    "Run": "pipeline.run",
    "coverage": "geometry.coverage",
    "export": "api",
    "open_project": "api",
    "open_reader": "readers",
    "plan": "api",
    "status": "api",
    "undo_write_back": "api",
    "verify": "api",
    "write_back": "api",
    "write_provenance": "api",
}
"""Where each name lives. They are imported at first use: ``import qupath_bridge`` is quick."""

_MODULES = {"coordinates": "geometry.coordinates", "geojson": "qupath.geojson"}

__all__ = [  # noqa: RUF022  # by subject
    "__version__",
    "open_project",
    "plan",
    "export",
    "write_provenance",
    "write_back",
    "undo_write_back",
    "status",
    "verify",
    "ExportConfig",
    "Project",
    "Slide",
    "ImageData",
    "PathObject",
    "Plan",
    "Run",
    "Box",
    "Plane",
    "PixelSize",
    "coverage",
    "open_reader",
    "coordinates",
    "geojson",
    "BridgeError",
    "ConfigError",
    "ProjectError",
    "SlideError",
    "OutputError",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value: Any = import_module(f"{__name__}.{_MODULES[name]}")
    elif name in _HOMES:
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
