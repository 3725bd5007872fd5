"""The complete application as functions; the command line only parses, calls and prints.

A function that takes ``options`` also takes single options by name, which win over it:
``export(plans, "patches", workers=2)``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qupath_bridge.datasets.converting import Converted
    from qupath_bridge.datasets.describing import Described
    from qupath_bridge.datasets.features import FeatureFiles
    from qupath_bridge.datasets.leakage import Leak, LeakCheck
    from qupath_bridge.datasets.lineage import (
        Lineage,
        PatchFold,
        PatchOrigin,
        PatchPrediction,
        RegionOrigin,
        RunOrigin,
        SlideOrigin,
        Statement,
    )
    from qupath_bridge.datasets.split_summary import FoldCounts, Split
    from qupath_bridge.lake.catalog import Catalog, Found
    from qupath_bridge.lake.compacting import Compacted
    from qupath_bridge.lake.values import CatalogRun, CatalogSlide, LakeCopy
    from qupath_bridge.pipeline.estimate import Estimate
    from qupath_bridge.pipeline.inspection import Inspection
    from qupath_bridge.pipeline.new_project import NewProject
    from qupath_bridge.pipeline.plan import Failure, Plan, Plans
    from qupath_bridge.pipeline.profile import Profile
    from qupath_bridge.pipeline.progress import Progress
    from qupath_bridge.pipeline.run import Run
    from qupath_bridge.pipeline.slide_files import failure_lines
    from qupath_bridge.pipeline.verify import Finding, Verification
    from qupath_bridge.qupath.project_writer import copy_project
    from qupath_bridge.roundtrip.agreement import Agreement
    from qupath_bridge.roundtrip.backups import Backup
    from qupath_bridge.roundtrip.corrections import Corrections, JudgedPatch, SlideCorrections
    from qupath_bridge.roundtrip.predictions import Measurement, Predictions
    from qupath_bridge.roundtrip.provenance import Provenance
    from qupath_bridge.roundtrip.status import EntryStatus, RunStatus
    from qupath_bridge.roundtrip.write_back import EntryChange, WriteBack
    from qupath_bridge.sources import open_project
    from qupath_bridge.sources.base import Project

    from .datasets import SPLIT_NAME, check_leakage, convert, features, read_index, split
    from .describing import describe
    from .exporting import clean, export
    from .installing import (
        InstalledFile,
        find_user_folders,
        install_scripts,
        uninstall_scripts,
    )
    from .lakes import catalog, compact
    from .lineage import lineage
    from .looking import corrections, doctor, inspect, report, status, stored_data, verify
    from .opening import FETCHING, INPUTS, OPENING, find_project_file, find_projects, slide
    from .planning import draw_previews, estimate, plan, select
    from .predictions import predictions, undo_predictions
    from .projects import create_project
    from .staining import stain_profile
    from .tiles import ensure_provenance, undo_write_back, write_back, write_provenance
    from .tracking import track

_HOMES = {
    "qupath_bridge.datasets.converting": ("Converted",),
    "qupath_bridge.datasets.describing": ("Described",),
    "qupath_bridge.datasets.features": ("FeatureFiles",),
    "qupath_bridge.datasets.leakage": ("Leak", "LeakCheck"),
    "qupath_bridge.datasets.lineage": (
        "Lineage",
        "PatchFold",
        "PatchOrigin",
        "PatchPrediction",
        "RegionOrigin",
        "RunOrigin",
        "SlideOrigin",
        "Statement",
    ),
    "qupath_bridge.datasets.split_summary": ("FoldCounts", "Split"),
    "qupath_bridge.lake.catalog": ("Catalog", "Found"),
    "qupath_bridge.lake.compacting": ("Compacted",),
    "qupath_bridge.lake.values": ("CatalogRun", "CatalogSlide", "LakeCopy"),
    "qupath_bridge.pipeline.estimate": ("Estimate",),
    "qupath_bridge.pipeline.inspection": ("Inspection",),
    "qupath_bridge.pipeline.new_project": ("NewProject",),
    "qupath_bridge.pipeline.plan": (
        "Failure",
        "Plan",
        "Plans",
    ),
    "qupath_bridge.pipeline.profile": ("Profile",),
    "qupath_bridge.pipeline.progress": ("Progress",),
    "qupath_bridge.pipeline.run": ("Run",),
    "qupath_bridge.pipeline.slide_files": ("failure_lines",),
    "qupath_bridge.pipeline.verify": (
        "Finding",
        "Verification",
    ),
    "qupath_bridge.qupath.project_writer": ("copy_project",),
    "qupath_bridge.roundtrip.backups": ("Backup",),
    "qupath_bridge.roundtrip.agreement": ("Agreement",),
    "qupath_bridge.roundtrip.corrections": ("Corrections", "SlideCorrections", "JudgedPatch"),
    "qupath_bridge.roundtrip.predictions": ("Measurement", "Predictions"),
    "qupath_bridge.roundtrip.provenance": ("Provenance",),
    "qupath_bridge.roundtrip.status": (
        "EntryStatus",
        "RunStatus",
    ),
    "qupath_bridge.roundtrip.write_back": (
        "EntryChange",
        "WriteBack",
    ),
    "qupath_bridge.sources": ("open_project",),
    "qupath_bridge.sources.base": ("Project",),
    ".datasets": ("SPLIT_NAME", "check_leakage", "convert", "features", "read_index", "split"),
    ".describing": ("describe",),
    ".exporting": (
        "clean",
        "export",
    ),
    ".installing": (
        "InstalledFile",
        "find_user_folders",
        "install_scripts",
        "uninstall_scripts",
    ),
    ".lakes": ("catalog", "compact"),
    ".lineage": ("lineage",),
    ".looking": (
        "corrections",
        "doctor",
        "inspect",
        "report",
        "status",
        "stored_data",
        "verify",
    ),
    ".opening": (
        "FETCHING",
        "INPUTS",
        "OPENING",
        "find_project_file",
        "find_projects",
        "slide",
    ),
    ".planning": (
        "draw_previews",
        "estimate",
        "plan",
        "select",
    ),
    ".predictions": ("predictions", "undo_predictions"),
    ".projects": ("create_project",),
    ".staining": ("stain_profile",),
    ".tiles": (
        "ensure_provenance",
        "undo_write_back",
        "write_back",
        "write_provenance",
    ),
    ".tracking": ("track",),
}
"""Module of each name. They are imported at first use, so that each command starts quickly."""

_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "FETCHING",
    "INPUTS",
    "OPENING",
    "SPLIT_NAME",
    "Agreement",
    "Backup",
    "Catalog",
    "CatalogRun",
    "CatalogSlide",
    "Compacted",
    "Converted",
    "Corrections",
    "Described",
    "EntryChange",
    "EntryStatus",
    "Estimate",
    "Failure",
    "FeatureFiles",
    "Finding",
    "FoldCounts",
    "Found",
    "Inspection",
    "InstalledFile",
    "JudgedPatch",
    "LakeCopy",
    "Leak",
    "LeakCheck",
    "Lineage",
    "Measurement",
    "NewProject",
    "PatchFold",
    "PatchOrigin",
    "PatchPrediction",
    "Plan",
    "Plans",
    "Predictions",
    "Profile",
    "Progress",
    "Project",
    "Provenance",
    "RegionOrigin",
    "Run",
    "RunOrigin",
    "RunStatus",
    "SlideCorrections",
    "SlideOrigin",
    "Split",
    "Statement",
    "Verification",
    "WriteBack",
    "catalog",
    "check_leakage",
    "clean",
    "compact",
    "convert",
    "copy_project",
    "corrections",
    "create_project",
    "describe",
    "doctor",
    "draw_previews",
    "ensure_provenance",
    "estimate",
    "export",
    "failure_lines",
    "features",
    "find_project_file",
    "find_projects",
    "find_user_folders",
    "inspect",
    "install_scripts",
    "lineage",
    "open_project",
    "plan",
    "predictions",
    "read_index",
    "report",
    "select",
    "slide",
    "split",
    "stain_profile",
    "status",
    "stored_data",
    "track",
    "undo_predictions",
    "undo_write_back",
    "uninstall_scripts",
    "verify",
    "write_back",
    "write_provenance",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
