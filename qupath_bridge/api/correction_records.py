"""Corrections as JSON values for programs."""

from __future__ import annotations

from typing import Any

from qupath_bridge.patches.corrections import Correction
from qupath_bridge.roundtrip.corrections import Corrections, JudgedPatch, SlideCorrections

__all__ = ["KINDS", "corrections_record", "statement_record"]

KINDS = ("corrected", "confirmed", "rejected")


def corrections_record(found: Corrections) -> dict[str, Any]:
    """Return what people said as JSON values."""
    return {
        "slides": [_slide_record(slide) for slide in found.slides],
        "agreement": [
            {
                "reviewers": list(each.reviewers),
                "patches": each.patches,
                "disagreements": each.disagreements,
                "kappa": each.kappa,
            }
            for each in found.agreement
        ],
    }


def _slide_record(slide: SlideCorrections) -> dict[str, Any]:
    return {
        "entry": slide.entry_id,
        "slide_name": slide.slide_name,
        "run_id": slide.run_id,
        **{kind: slide.number(kind) for kind in KINDS},
        "withdrawn": slide.withdrawn,
        "contested": len(slide.contested),
        "unsure": len(slide.unsure),
        "collected": slide.collected,
        "foreign": slide.foreign,
        "other_file": slide.other_file,
        "other_grids": [
            {"width": w, "height": h, "patches": n} for (w, h), n in slide.other_grids.items()
        ],
        "messages": list(slide.messages),
        "problem": slide.problem,
        "items": [_item(each) for each in slide.patches],
    }


def statement_record(said: Correction) -> dict[str, Any]:
    """Return what one person said about one box as JSON values."""
    label = said.rule_label
    return {
        "box": list(said.box),
        "plane": list(said.plane),
        "kind": said.kind,
        "before": said.before,
        "after": said.after,
        "rule_label": list(label) if isinstance(label, tuple) else label,
        "reviewer": said.reviewer,
        "time": said.time,
        "run_id": said.run_id,
    }


def _item(patch: JudgedPatch) -> dict[str, Any]:
    return {
        "patch": patch.patch,
        **statement_record(patch.correction),
        "state": patch.state,
        "applied": patch.applied,
        "contested": patch.contested,
        "in_grid": patch.in_grid,
        "same_file": patch.same_file,
    }
