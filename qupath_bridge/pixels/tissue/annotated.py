"""Tissue as somebody drew it in QuPath: ``qupath:CLASS``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qupath_bridge.errors import PlanError, UsageError
from qupath_bridge.pixels.base import SlideView, TissueMap

__all__ = ["HOW_TO_ANNOTATE", "AnnotatedTissue"]

HOW_TO_ANNOTATE = (
    "Draw it; or turn the result of a pixel classifier into annotations, in QuPath: Classify > "
    "Pixel classification > Load pixel classifier, then Create objects with the type Annotation."
)


@dataclass(frozen=True, slots=True)
class AnnotatedTissue:
    """The annotations of one class, exactly as they are drawn, on whatever plane.

    Parameters
    ----------
    argument : str
        The class, with ``: `` between its levels.
    """

    threshold: ClassVar[None] = None
    argument: str | None

    def __post_init__(self) -> None:
        if not self.argument:
            raise UsageError(
                "The tissue 'qupath' needs the class whose annotations are the tissue.",
                hint="As in qupath:Tissue.",
            )

    def __call__(self, view: SlideView) -> TissueMap:
        """Return the shapes; no pixel is read."""
        shapes = [
            annotation.roi.geometry
            for annotation in view.annotations
            if annotation.class_path == self.argument and annotation.roi and annotation.roi.has_area
        ]
        if not shapes:
            raise PlanError(
                f"{view.name}: it has no annotation of the class {self.argument!r}, which is to be "
                "the tissue.",
                hint=HOW_TO_ANNOTATE,
            )
        return TissueMap(shapes=shapes)
