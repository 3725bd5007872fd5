"""The request ``corrections``: what people said about patches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from qupath_bridge.api.correction_records import corrections_record
from qupath_bridge.api.looking import corrections as find_corrections
from qupath_bridge.pipeline.cancel import Cancel

from .opened import open_request_project, slide_of
from .protocol import Emit, ProjectRequest, Text

__all__ = ["CorrectionsRequest", "corrections"]


class CorrectionsRequest(ProjectRequest):
    """Ask for corrections, or decide about them.

    Attributes
    ----------
    action : str
        ``list`` writes nothing; ``collect`` stores what the saved data say; ``accept`` and
        ``dismiss`` decide about what is unsure.
    entries : list of str or None
        Entry IDs; None is all slides.
    """

    action: Literal["list", "collect", "accept", "dismiss"]
    entries: list[Text] | None = None


def corrections(
    request: CorrectionsRequest, emit: Emit, cancel: Cancel | None = None
) -> Mapping[str, Any]:
    """Return what people said about each slide, and how far reviewers agree."""
    with open_request_project(request.project) as project:
        entries = request.entries or [slide.entry_id for slide in project.slides]
        named = [f"id:{slide_of(project, entry).entry_id}" for entry in entries]
        found = find_corrections(
            project,
            collect=request.action == "collect",
            accept=named if request.action == "accept" else (),
            dismiss=named if request.action == "dismiss" else (),
            reviewer=request.reviewer,
            entries=named,
        )
    return corrections_record(found)
