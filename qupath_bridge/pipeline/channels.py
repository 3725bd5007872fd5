"""The channels of a slide: as the file has them, as QuPath shows them, and those exported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from qupath_bridge.config import ExportConfig
from qupath_bridge.errors import PlanError, UsageError
from qupath_bridge.frozen import OneLine
from qupath_bridge.model import Slide
from qupath_bridge.pixels.channels import RGB, default_colors, find_channel
from qupath_bridge.pixels.steps import NO_STEPS, PixelSteps
from qupath_bridge.readers.base import RGB_CHANNELS, Reader

__all__ = ["ChannelView", "file_view", "slide_view"]


@dataclass(frozen=True, slots=True, repr=False)
class ChannelView(OneLine):
    """What of a slide is exported: which channels, of which type, under which names.

    Made by :func:`slide_view`, or :func:`file_view` for a file without a project.

    Attributes
    ----------
    all_names : tuple of str
        Names of all channels of the image as QuPath shows it.
    all_colors : tuple of (red, green, blue)
        QuPath's colours of these channels.
    dtype : str
        Type of the values, as numpy calls it.
    indices : tuple of int
        The exported channels, in their order: indices into ``all_names``.
    file_names : tuple of str
        Names of the channels as the file gives them.
    steps : PixelSteps
        What QuPath does to the values of the file.
    projection : "max" or None
        How the z slices become one; None for the slice of the plane.
    color : bool
        Whether the image is one of RGB colours of 8 bit, not of channels.
    """

    all_names: tuple[str, ...]
    all_colors: tuple[RGB, ...]
    dtype: str
    indices: tuple[int, ...]
    file_names: tuple[str, ...]
    steps: PixelSteps = NO_STEPS
    projection: Literal["max"] | None = None
    color: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the exported channels."""
        return tuple(self.all_names[index] for index in self.indices)

    @property
    def colors(self) -> tuple[RGB, ...]:
        """QuPath's colours of the exported channels."""
        return tuple(self.all_colors[index] for index in self.indices)

    @property
    def is_rgb(self) -> bool:
        """Whether the exported pixels are RGB of 8 bit."""
        return self.color and self.indices == (0, 1, 2)

    @property
    def whole(self) -> ChannelView:
        """The view of all channels of the slide."""
        return self.select(range(len(self.all_names)))

    def select(self, indices: Sequence[int]) -> ChannelView:
        """Return the view of other channels of the slide: indices into ``all_names``."""
        return replace(self, indices=tuple(indices))

    def reading(self) -> tuple[tuple[int, ...] | None, PixelSteps]:
        """Return what is read of the file, None for all of it, and the steps that come after."""
        needed, steps = self.steps.restricted(self.indices)
        everything = needed == tuple(range(len(self.file_names)))
        return None if everything else needed, steps

    def as_json(self) -> dict[str, Any]:
        """Return the view as plain JSON values."""
        return {
            "all_names": list(self.all_names),
            "all_colors": [list(color) for color in self.all_colors],
            "dtype": self.dtype,
            "indices": list(self.indices),
            "file_names": list(self.file_names),
            "steps": self.steps.as_json(),
            "projection": self.projection,
            "color": self.color,
        }

    def digest_values(self) -> dict[str, Any]:
        """Return what decides the exported pixels and their names, for digests."""
        return {
            "names": list(self.names),
            "dtype": self.dtype,
            "indices": list(self.indices),
            "steps": self.steps.as_json(),
            "projection": self.projection,
            "color": self.color,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ChannelView:
        """Return the view of :meth:`as_json`."""
        tuples = ("all_names", "indices", "file_names")
        return cls(
            **{
                **values,
                **{name: tuple(values[name]) for name in tuples},
                "all_colors": tuple((r, g, b) for r, g, b in values["all_colors"]),
                "steps": PixelSteps.from_json(values["steps"]),
            }
        )


def file_view(reader: Reader) -> ChannelView:
    """Return the view of all channels of a file, as they are in it."""
    names = tuple(reader.channels)
    return ChannelView(
        all_names=names,
        all_colors=default_colors(len(names)),
        dtype=str(np.dtype(reader.dtype)),
        indices=tuple(range(len(names))),
        file_names=names,
        color=names == RGB_CHANNELS and reader.dtype == np.uint8,
    )


def slide_view(slide: Slide, config: ExportConfig, reader: Reader) -> ChannelView:
    """Return what is exported of a slide whose file is open.

    Raises
    ------
    SlideError
        If the channels of the file are not those that QuPath recorded.
    PlanError
        If a channel is asked for that the slide does not have.
    """
    view = file_view(reader)
    names, colors = slide.channels, slide.channel_colors
    if len(names) == len(view.all_names):
        view = replace(view, all_names=names)
    if len(colors) == len(view.all_names):
        view = replace(view, all_colors=colors)
    view = replace(view, projection=None if config.projection == "none" else config.projection)
    if not config.channels:
        return view
    try:
        return view.select([find_channel(view.all_names, wanted) for wanted in config.channels])
    except UsageError as error:
        raise PlanError(f"{slide.name}: {error.message}", hint=error.hint) from error
