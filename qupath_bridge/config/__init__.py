"""Options of a run: which slides, what to make of them, and how to run.

Three models; each option stands in one of them, once: flags, keys of a TOML file, help texts and
``config init`` are made from its field. Every fault is reported at once, each with its place
(:class:`~qupath_bridge.errors.ConfigError`).
"""

from .export import PIXEL_SIZES, ExportConfig
from .layout import LAYOUT_FIELDS, layout_problem
from .listing import Option, options
from .running import RunOptions
from .selection import Selection
from .settings import Settings

__all__ = [
    "LAYOUT_FIELDS",
    "PIXEL_SIZES",
    "ExportConfig",
    "Option",
    "RunOptions",
    "Selection",
    "Settings",
    "layout_problem",
    "options",
]
