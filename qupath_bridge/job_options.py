"""Options that a job of a service cannot have, for the service and for the command that asks it."""

from __future__ import annotations

__all__ = ["OF_OPERATOR", "ONE_PROCESS"]

ONE_PROCESS = (
    "create_project", "pseudonymise", "metadata_keep", "preview", "live_annotations", "profile",
    "track",
)  # fmt: skip
"""Options of a run that one process carries out from start to end; a job has many."""

OF_OPERATOR = (
    "qupath", "break_lock", "runner", "workers", "progress", "fetch", "cache",
    "cache_size",
)  # fmt: skip
"""Options that the operator of the service decides, not those who ask it."""
