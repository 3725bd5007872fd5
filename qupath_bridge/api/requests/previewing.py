"""The request ``preview``: the patches that an export would write, as boxes in a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from qupath_bridge.api.opening import INPUTS
from qupath_bridge.api.planning import plan as make_plan
from qupath_bridge.errors import OutputError
from qupath_bridge.model import CLASS_SEPARATOR, Slide
from qupath_bridge.patches.table import PatchTable
from qupath_bridge.pipeline.cancel import Cancel
from qupath_bridge.pipeline.plan import Plan
from qupath_bridge.qupath.files.classes import class_colors, label_color
from qupath_bridge.stores.local import LocalStore

from .opened import live_folder, open_request_project, request_settings, slide_of
from .protocol import Emit, ProjectRequest, Text

__all__ = ["PreviewRequest", "preview"]


class PreviewRequest(ProjectRequest):
    """Ask which patches an export of one slide would write.

    Attributes
    ----------
    entry : str
    options : dict
        By the names of a configuration file.
    live : dict of str to str
        GeoJSON files with the annotations that QuPath shows, by entry ID.
    tissue : bool
        Whether the tissue test of the options is made; it reads the slide's thumbnail.
    boxes : str or None
        Place of the file with the boxes.
    """

    entry: Text
    options: dict[str, Any] = Field(default_factory=dict)
    live: dict[str, Text] = Field(default_factory=dict)
    tissue: bool = True
    boxes: Text | None = None


def preview(request: PreviewRequest, emit: Emit, cancel: Cancel | None = None) -> Mapping[str, Any]:
    """Return counts by label and reason; the boxes go into their file."""
    more = {} if request.tissue else {"tissue": "none", "tissue_threshold": None}
    live = {entry: place for entry, place in request.live.items() if entry == request.entry}
    with live_folder(live) as on_screen:
        settings = request_settings(request.options, **more, **on_screen)
        with open_request_project(request.project, settings.options) as project:
            slide = slide_of(project, request.entry)
            options = settings.options.only(*INPUTS, "reader")
            return _preview(request, slide, make_plan(slide, settings.config, options=options))


def _preview(request: PreviewRequest, slide: Slide, plan: Plan) -> Mapping[str, Any]:
    labels, codes = _label_codes(plan.table)
    if request.boxes is not None:
        _write_boxes(Path(request.boxes), plan.table, labels, codes)
    return {
        "total": len(plan),
        "labels": _counted(labels, codes, _colors(slide, plan)),
        "reasons": {str(reason): n for reason, n in plan.dropped.items() if n},
        "mpp": plan.mpp,
        "downsample": plan.downsample,
        "warnings": list(plan.warnings),
    }


def _label_codes(table: PatchTable) -> tuple[list[str], np.ndarray[Any, np.dtype[np.int64]]]:
    """Return the labels as tiles show them, and the number of each patch's label; -1 is none."""
    lengths = table.labels.lengths
    if not table.multi:
        codes = np.full(len(table), -1, np.int64)
        codes[lengths > 0] = table.labels.codes
        return list(table.label_names), codes
    names = [CLASS_SEPARATOR.join(table.labels_of(row)) for row in range(len(table))]
    labels = sorted(set(names) - {""})
    number = {label: code for code, label in enumerate(labels)} | {"": -1}
    return labels, np.array([number[name] for name in names], np.int64)


def _colors(slide: Slide, plan: Plan) -> Mapping[str, tuple[int, int, int]]:
    drawn = class_colors(objects=plan.annotations)
    return {**drawn, **class_colors(slide.project.classes)}


def _counted(
    labels: list[str],
    codes: np.ndarray[Any, np.dtype[np.int64]],
    colors: Mapping[str, tuple[int, int, int]],
) -> dict[str, Any]:
    counts = np.bincount(codes[codes >= 0], minlength=len(labels)).tolist()
    return {
        label: {"count": number, "color": list(label_color(label, colors))}
        for label, number in zip(labels, counts, strict=True)
        if number
    }


def _write_boxes(
    path: Path,
    table: PatchTable,
    labels: list[str],
    codes: np.ndarray[Any, np.dtype[np.int64]],
) -> None:
    """Write ``{"labels": […], "boxes": [x, y, w, h, number of the label, …]}``."""
    flat = np.column_stack([table.boxes, codes]).ravel().tolist()
    text = json.dumps({"labels": labels, "boxes": flat}, ensure_ascii=False, separators=(",", ":"))
    if not path.parent.is_dir():
        raise OutputError(f"The boxes cannot be written to {path}: the folder does not exist.")
    LocalStore(path.parent).put(path.name, text.encode("utf-8"))
