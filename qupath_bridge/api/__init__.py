"""The complete application as functions; the command line only parses, calls and prints.

A function that takes ``options`` also takes single options by name, which win over it:
``export(plans, "patches", workers=2)``.
"""

from qupath_bridge.pipeline.estimate import Estimate
from qupath_bridge.pipeline.inspection import Inspection
from qupath_bridge.pipeline.plan import Failure, Plan, Plans
from qupath_bridge.pipeline.profile import Profile
from qupath_bridge.pipeline.progress import Progress
from qupath_bridge.pipeline.run import Run
from qupath_bridge.pipeline.slide_files import failure_lines
from qupath_bridge.pipeline.verify import Finding, Verification
from qupath_bridge.qupath.project_writer import copy_project
from qupath_bridge.roundtrip.backups import Backup
from qupath_bridge.roundtrip.corrected import CorrectedTiles
from qupath_bridge.roundtrip.provenance import Provenance
from qupath_bridge.roundtrip.status import EntryStatus, RunStatus
from qupath_bridge.roundtrip.write_back import EntryChange, WriteBack
from qupath_bridge.sources import open_project
from qupath_bridge.sources.base import Project

from .exporting import clean, export
from .looking import corrected_tiles, doctor, inspect, status, stored_data, verify
from .opening import OPENING, find_projects, slide
from .planning import draw_previews, estimate, plan, select
from .tiles import ensure_provenance, undo_write_back, write_back, write_provenance

__all__ = [
    "OPENING",
    "Backup",
    "CorrectedTiles",
    "EntryChange",
    "EntryStatus",
    "Estimate",
    "Failure",
    "Finding",
    "Inspection",
    "Plan",
    "Plans",
    "Profile",
    "Progress",
    "Project",
    "Provenance",
    "Run",
    "RunStatus",
    "Verification",
    "WriteBack",
    "clean",
    "copy_project",
    "corrected_tiles",
    "doctor",
    "draw_previews",
    "ensure_provenance",
    "estimate",
    "export",
    "failure_lines",
    "find_projects",
    "inspect",
    "open_project",
    "plan",
    "select",
    "slide",
    "status",
    "stored_data",
    "undo_write_back",
    "verify",
    "write_back",
    "write_provenance",
]
