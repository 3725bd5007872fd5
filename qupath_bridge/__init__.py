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
    from . import torch
    from .api import (
        catalog,
        check_leakage,
        clean,
        compact,
        convert,
        corrections,
        create_project,
        describe,
        doctor,
        estimate,
        export,
        features,
        inspect,
        lineage,
        open_project,
        plan,
        predictions,
        read_index,
        report,
        select,
        slide,
        split,
        stain_profile,
        status,
        track,
        undo_predictions,
        undo_write_back,
        verify,
        write_back,
        write_provenance,
    )
    from .codecs.base import Contents
    from .config import ExportConfig, Option, RunOptions, Selection, Settings
    from .config.quality import QualityRules
    from .datasets.converting import Converted
    from .datasets.describing import Described
    from .datasets.features import FeatureFiles
    from .datasets.leakage import Leak, LeakCheck
    from .datasets.lineage import (
        Lineage,
        PatchFold,
        PatchOrigin,
        PatchPrediction,
        RegionOrigin,
        RunOrigin,
        SlideOrigin,
        Statement,
    )
    from .datasets.split_summary import FoldCounts, Split
    from .errors import (
        BridgeError,
        ConfigError,
        CoordinateError,
        Fault,
        GeometryError,
        InterruptedRunError,
        MissingDataError,
        MissingDependencyError,
        MissingSlideError,
        OutputError,
        PlanError,
        ProjectError,
        ReadError,
        SlideError,
        UsageError,
    )
    from .geometry import coordinates
    from .geometry.coordinates import CoordinateMap
    from .geometry.coverage import coverage
    from .lake.catalog import Catalog, Found, FoundSlide
    from .lake.compacting import Compacted
    from .lake.values import CatalogDamage, CatalogRun, CatalogSlide, LakeCopy
    from .model import (
        Box,
        ClassInfo,
        GridSpec,
        ImageData,
        LabelRule,
        ObjectType,
        PathObject,
        PixelSize,
        PlacementSpec,
        Plane,
        ProjectInfo,
        Reason,
        Roi,
        RoiKind,
        SampleSpec,
        ServerBuilder,
        Slide,
        SourceRef,
        TmaGrid,
    )
    from .outputs import open_output
    from .outputs.base import DamagedRowsError, Location, LockHolder, Output, PatchRef
    from .outputs.row_batches import Rows
    from .patches.confusion import Confusion, CorrectionReport
    from .patches.corrections import Correction
    from .patches.grid import Grid
    from .patches.mask_classes import MaskClass
    from .patches.placed import PlacedBoxes, Placement
    from .patches.regions import PlanReport, Repair
    from .patches.table import PatchTable, Ragged
    from .pipeline.cancel import Cancel, CancelToken
    from .pipeline.channels import ChannelView
    from .pipeline.doctor import Check
    from .pipeline.estimate import Estimate
    from .pipeline.inputs import SlideInputs
    from .pipeline.inspection import Inspection
    from .pipeline.new_project import NewProject
    from .pipeline.plan import Failure, Plan, Plans
    from .pipeline.profile import Profile
    from .pipeline.progress import Progress
    from .pipeline.pseudonyms import Names
    from .pipeline.run import Run
    from .pipeline.slide_coords import SlideCoords
    from .pipeline.stain import StainPlan
    from .pipeline.task import SlideResult, SlideTask, process_slide
    from .pipeline.tissue import SlideTissue
    from .pipeline.verify import Finding, Verification
    from .pixels.composite import ChannelDisplay, Composite
    from .pixels.steps import PixelStep, PixelSteps
    from .qupath import geojson
    from .readers import open_reader
    from .readers.base import Fingerprint, Level, Reader
    from .registry import register
    from .roundtrip.agreement import Agreement
    from .roundtrip.corrections import Corrections, JudgedPatch, SlideCorrections
    from .roundtrip.predictions import Measurement, Predictions
    from .roundtrip.provenance import Provenance
    from .roundtrip.status import EntryStatus, RunStatus
    from .roundtrip.write_back import EntryChange, WriteBack
    from .sources.base import Project
    from .sources.coordinate_files import Coordinates
    from .tracking.base import Tracked

_HOMES = {
    "api": (
        "open_project", "slide", "inspect", "select", "plan", "estimate", "export", "verify",
        "report", "status", "corrections", "write_provenance", "write_back", "undo_write_back",
        "clean", "doctor", "create_project", "stain_profile", "read_index", "split",
        "check_leakage", "features", "convert", "lineage", "describe", "track", "predictions",
        "undo_predictions", "catalog", "compact",
    ),
    "lake.catalog": ("Catalog", "Found", "FoundSlide"),
    "lake.compacting": ("Compacted",),
    "lake.values": ("CatalogRun", "CatalogSlide", "CatalogDamage", "LakeCopy"),
    "datasets.converting": ("Converted",),
    "datasets.describing": ("Described",),
    "tracking.base": ("Tracked",),
    "datasets.features": ("FeatureFiles",),
    "datasets.leakage": ("Leak", "LeakCheck"),
    "datasets.lineage": (
        "Lineage", "RunOrigin", "SlideOrigin", "PatchOrigin", "RegionOrigin", "PatchFold",
        "PatchPrediction", "Statement",
    ),
    "datasets.split_summary": ("FoldCounts", "Split"),
    "config": ("ExportConfig", "Selection", "RunOptions", "Settings", "Option"),
    "config.quality": ("QualityRules",),
    "pipeline.stain": ("StainPlan",),
    "sources.base": ("Project",),
    "model": (
        "Slide", "ProjectInfo", "SourceRef", "ServerBuilder", "ImageData", "PathObject",
        "ObjectType", "Roi", "RoiKind", "TmaGrid", "ClassInfo", "GridSpec", "PlacementSpec",
        "SampleSpec", "LabelRule", "Box", "Plane", "PixelSize", "Reason",
    ),
    "pipeline.new_project": ("NewProject",),
    "pipeline.plan": ("Plan", "Plans", "Failure"),
    "patches.confusion": ("Confusion", "CorrectionReport"),
    "patches.corrections": ("Correction",),
    "patches.grid": ("Grid",),
    "patches.mask_classes": ("MaskClass",),
    "patches.placed": ("PlacedBoxes", "Placement"),
    "patches.table": ("PatchTable", "Ragged"),
    "patches.regions": ("PlanReport", "Repair"),
    "pipeline.profile": ("Profile",),
    "pipeline.run": ("Run",),
    "pipeline.tissue": ("SlideTissue",),
    "pipeline.task": ("SlideTask", "SlideResult", "process_slide"),
    "pipeline.progress": ("Progress",),
    "pipeline.pseudonyms": ("Names",),
    "pipeline.cancel": ("Cancel", "CancelToken"),
    "pipeline.channels": ("ChannelView",),
    "codecs.base": ("Contents",),
    "pixels.composite": ("ChannelDisplay", "Composite"),
    "pixels.steps": ("PixelStep", "PixelSteps"),
    "pipeline.estimate": ("Estimate",),
    "pipeline.inputs": ("SlideInputs",),
    "pipeline.slide_coords": ("SlideCoords",),
    "sources.coordinate_files": ("Coordinates",),
    "pipeline.inspection": ("Inspection",),
    "pipeline.verify": ("Verification", "Finding"),
    "pipeline.doctor": ("Check",),
    "roundtrip.agreement": ("Agreement",),
    "roundtrip.corrections": ("Corrections", "SlideCorrections", "JudgedPatch"),
    "roundtrip.predictions": ("Predictions", "Measurement"),
    "roundtrip.provenance": ("Provenance",),
    "roundtrip.status": ("RunStatus", "EntryStatus"),
    "roundtrip.write_back": ("WriteBack", "EntryChange"),
    "readers": ("open_reader",),
    "readers.base": ("Reader", "Level", "Fingerprint"),
    "outputs": ("open_output",),
    "outputs.base": ("DamagedRowsError", "Output", "Location", "PatchRef", "LockHolder"),
    "outputs.row_batches": ("Rows",),
    "registry": ("register",),
    "geometry.coverage": ("coverage",),
    "geometry.coordinates": ("CoordinateMap",),
    "errors": (
        "BridgeError", "UsageError", "ConfigError", "Fault", "ProjectError", "SlideError",
        "CoordinateError", "PlanError", "ReadError", "GeometryError", "OutputError",
        "MissingDependencyError", "InterruptedRunError", "MissingDataError", "MissingSlideError",
    ),
}  # fmt: skip
"""Module of each public name. They are imported at first use: ``import qupath_bridge`` is quick."""

_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}
_MODULES = {"coordinates": "geometry.coordinates", "geojson": "qupath.geojson", "torch": "torch"}

__all__ = [  # noqa: RUF022  # by subject
    "__version__",
    "open_project",
    "slide",
    "inspect",
    "select",
    "plan",
    "estimate",
    "export",
    "verify",
    "report",
    "status",
    "read_index",
    "split",
    "check_leakage",
    "features",
    "convert",
    "lineage",
    "describe",
    "track",
    "catalog",
    "compact",
    "corrections",
    "create_project",
    "write_provenance",
    "write_back",
    "undo_write_back",
    "predictions",
    "undo_predictions",
    "clean",
    "doctor",
    "stain_profile",
    "ExportConfig",
    "Selection",
    "RunOptions",
    "Settings",
    "Option",
    "QualityRules",
    "StainPlan",
    "Project",
    "Slide",
    "ProjectInfo",
    "SourceRef",
    "ServerBuilder",
    "ImageData",
    "PathObject",
    "ObjectType",
    "Roi",
    "RoiKind",
    "TmaGrid",
    "ClassInfo",
    "GridSpec",
    "PlacementSpec",
    "SampleSpec",
    "LabelRule",
    "Box",
    "Plane",
    "PixelSize",
    "Reason",
    "Plan",
    "Plans",
    "Failure",
    "Grid",
    "PlacedBoxes",
    "Placement",
    "MaskClass",
    "PatchTable",
    "Ragged",
    "Correction",
    "CorrectionReport",
    "Confusion",
    "Coordinates",
    "SlideCoords",
    "SlideInputs",
    "SlideTissue",
    "PlanReport",
    "Repair",
    "DamagedRowsError",
    "Rows",
    "Run",
    "SlideTask",
    "SlideResult",
    "process_slide",
    "Profile",
    "Progress",
    "Cancel",
    "CancelToken",
    "ChannelDisplay",
    "ChannelView",
    "Composite",
    "Contents",
    "PixelStep",
    "PixelSteps",
    "Estimate",
    "Inspection",
    "Verification",
    "Finding",
    "Check",
    "Converted",
    "FeatureFiles",
    "Split",
    "FoldCounts",
    "Described",
    "Tracked",
    "Leak",
    "LeakCheck",
    "Lineage",
    "RunOrigin",
    "SlideOrigin",
    "PatchOrigin",
    "RegionOrigin",
    "PatchFold",
    "PatchPrediction",
    "Statement",
    "Catalog",
    "CatalogRun",
    "CatalogSlide",
    "CatalogDamage",
    "LakeCopy",
    "Compacted",
    "Found",
    "FoundSlide",
    "Corrections",
    "SlideCorrections",
    "JudgedPatch",
    "NewProject",
    "Names",
    "Agreement",
    "Provenance",
    "RunStatus",
    "EntryStatus",
    "WriteBack",
    "EntryChange",
    "Predictions",
    "Measurement",
    "open_reader",
    "Reader",
    "Level",
    "Fingerprint",
    "open_output",
    "Output",
    "Location",
    "PatchRef",
    "LockHolder",
    "register",
    "coverage",
    "CoordinateMap",
    "BridgeError",
    "UsageError",
    "ConfigError",
    "Fault",
    "ProjectError",
    "SlideError",
    "CoordinateError",
    "PlanError",
    "ReadError",
    "GeometryError",
    "OutputError",
    "MissingDependencyError",
    "InterruptedRunError",
    "MissingDataError",
    "MissingSlideError",
    "coordinates",
    "geojson",
    "torch",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value: Any = import_module(f"{__name__}.{_MODULES[name]}")
    elif name in _MODULE_OF:
        value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
