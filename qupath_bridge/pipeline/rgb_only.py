"""Checks of what needs RGB pixels: it is refused by name, before any work."""

from __future__ import annotations

from qupath_bridge.config import ExportConfig
from qupath_bridge.errors import PlanError
from qupath_bridge.frozen import count

from .channels import ChannelView

__all__ = ["check_rgb_options", "require_rgb"]


def require_rgb(view: ChannelView, what: str, hint: str) -> None:
    """Refuse pixels that are not RGB of 8 bit.

    Parameters
    ----------
    view : ChannelView
        What is exported.
    what : str
        What needs RGB.
    hint : str
        What to use in its place.

    Raises
    ------
    PlanError
    """
    if not view.is_rgb:
        channels = count(len(view.names), "channel")
        raise PlanError(
            f"RGB pixels of 8 bit are needed for {what}; of this slide {channels} of "
            f"{view.dtype} are exported.",
            hint=hint,
        )


def check_rgb_options(config: ExportConfig, view: ChannelView) -> None:
    """Refuse options that need RGB for a slide of which other pixels are exported.

    Raises
    ------
    PlanError
        With the option.
    """
    if config.stain != "none":
        hint = "Leave stain out for this slide; normalise channels where they are used."
        require_rgb(view, f"stain normalisation (stain = {config.stain})", hint)
    measures = config.quality_rules().measures
    if measures:
        hint = (
            "Leave qc, qc_min and qc_max out for this slide; tissue = signal drops empty patches."
        )
        require_rgb(view, f"quality measures ({', '.join(measures)})", hint)
