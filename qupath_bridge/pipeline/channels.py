"""The channels of a slide: as the file has them, as QuPath shows them, and those exported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, Literal, NamedTuple

import numpy as np

from qupath_bridge.config import ExportConfig
from qupath_bridge.errors import PlanError, SlideError, UsageError
from qupath_bridge.frozen import OneLine, count
from qupath_bridge.geometry.chain import BuilderStep, read_chain
from qupath_bridge.model import Slide
from qupath_bridge.pixels.builder_steps import PIXEL_TYPES, Shown, step_of
from qupath_bridge.pixels.channels import RGB, default_colors, find_channel
from qupath_bridge.pixels.steps import NO_STEPS, PixelSteps
from qupath_bridge.qupath.files.classes import unpack_rgb
from qupath_bridge.readers.base import RGB_CHANNELS, Reader

__all__ = ["ChannelView", "file_view", "shown_view", "slide_view"]


@dataclass(frozen=True, slots=True, repr=False)
class ChannelView(OneLine):
    """The channels of a slide that are exported: which, of which type, under which names.

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
        """True if the exported pixels are RGB of 8 bit."""
        return self.color and self.indices == (0, 1, 2)

    @property
    def is_stored(self) -> bool:
        """True if the exported pixels of a plane are all that the file has there, as it has it."""
        whole = self.indices == tuple(range(len(self.file_names)))
        return whole and not self.steps and self.projection is None

    @property
    def whole(self) -> ChannelView:
        """The view of all channels of the slide."""
        return self.select(range(len(self.all_names)))

    def select(self, indices: Sequence[int]) -> ChannelView:
        """Return the view of other channels of the slide: indices into ``all_names``."""
        return replace(self, indices=tuple(indices))

    def part(self, numbers: Iterable[int]) -> ChannelView:
        """Return the view of some of the exported channels: numbers into ``indices``."""
        return self.select([self.indices[number] for number in numbers])

    def reading(self) -> tuple[tuple[int, ...] | None, PixelSteps]:
        """Return what is read of the file, None for all of it, and the steps that come after."""
        needed, steps = self.steps.restricted(self.indices)
        everything = needed == tuple(range(len(self.file_names)))
        return None if everything else needed, steps

    def pixel_bytes(self, stored: np.dtype[Any]) -> int:
        """Return the bytes of a pixel as it is read from a file of a type, or made, if more."""
        needed, _ = self.reading()
        read = len(self.file_names if needed is None else needed) * stored.itemsize
        return max(read, len(self.indices) * np.dtype(self.dtype).itemsize)

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
    return _view(_in_file(reader), tuple(reader.channels), NO_STEPS)


def slide_view(slide: Slide, config: ExportConfig, reader: Reader) -> ChannelView:
    """Return what is exported of a slide whose file is open.

    Names and colours are those of the project, where QuPath stored them.

    Raises
    ------
    SlideError
        If the file has another number of channels, another type, or the same channels in another
        order than QuPath recorded.
    CoordinateError
        If QuPath opens the slide by a step that cannot be followed.
    PlanError
        If a channel is asked for that the slide does not have.
    """
    view = replace(
        shown_view(slide, reader),
        projection=None if config.projection == "none" else config.projection,
    )
    if not config.channels:
        return view
    try:
        return view.select([find_channel(view.all_names, wanted) for wanted in config.channels])
    except UsageError as error:
        raise PlanError(f"{slide.name}: {error.message}", hint=error.hint) from error


def shown_view(slide: Slide, reader: Reader) -> ChannelView:
    """Return the view of all channels of a slide, as QuPath shows them; see :func:`slide_view`."""
    shown, steps = _in_file(reader), []
    chain = read_chain(slide.builder.json) if slide.builder.json else ()
    # What QuPath recorded of the outermost step is what it recorded of the slide.
    records = [*map(_of_step, chain[:-1]), _of_slide(slide)]
    for step, record in zip_longest(chain, records):
        made = None if step is None else step_of(step.kind, step.values, shown)
        if made is not None:
            steps.append(made[0])
            shown = made[1]
        maker = "the file" if not steps else f"the step {step.kind!r}"
        shown = _as_recorded(shown, record, f"{slide.name}: ", maker)
    return _view(shown, tuple(reader.channels), PixelSteps(tuple(steps)))


class _Record(NamedTuple):
    """The channels of an image as QuPath recorded them; what it did not record is empty or None."""

    names: tuple[str, ...]
    colors: tuple[RGB | None, ...]
    pixel_type: str | None
    is_rgb: bool | None


def _of_slide(slide: Slide) -> _Record:
    return _Record(slide.channels, slide.channel_colors, slide.pixel_type, slide.is_rgb)


def _of_step(step: BuilderStep) -> _Record:
    names = tuple(name for name, _ in step.channels)
    colors = tuple(None if color is None else unpack_rgb(color) for _, color in step.channels)
    return _Record(names, colors, step.pixel_type, step.is_rgb)


_OTHER_FILE = (
    "The file is another one, or QuPath reads it with another reader. Add the slide to the project "
    "again."
)
_EXCHANGED = (
    "If the file is another one, add the slide to the project again; if the names were exchanged "
    "in QuPath, give the channels other names than those of the file."
)


def _as_recorded(shown: Shown, record: _Record, slide: str, maker: str) -> Shown:
    """Return the channels under the names and colours that QuPath recorded.

    Raises
    ------
    SlideError
        If other channels are recorded than ``maker`` gives.
    """
    names, dtype = record.names, record.pixel_type
    problem, hint = None, _OTHER_FILE
    if names and len(names) != len(shown.names):
        problem = "another number of channels"
    elif dtype is not None and PIXEL_TYPES.get(dtype) != shown.dtype:
        problem = "another type of pixels"
    elif names != shown.names and sorted(names) == sorted(shown.names):
        problem, hint = "the same channels in another order", _EXCHANGED
    if problem:
        known = f"{count(len(names), 'channel')} ({', '.join(names)})" if names else "channels"
        raise SlideError(
            f"{slide}QuPath recorded {known} of {dtype or 'an unknown type'}; {maker} has "
            f"{problem}: {count(len(shown.names), 'channel')} ({', '.join(shown.names)}) of "
            f"{shown.dtype}.",
            hint=hint,
        )
    own = zip(shown.names, shown.colors, strict=True)
    pairs = [
        (name or own_name, color or own_color)
        for (own_name, own_color), name, color in zip_longest(own, names, record.colors)
    ]
    is_color = shown.color if record.is_rgb is None else record.is_rgb
    return Shown(
        tuple(name for name, _ in pairs),
        tuple(color for _, color in pairs),
        shown.dtype,
        is_color and shown.dtype == "uint8" and len(pairs) == 3,
    )


def _in_file(reader: Reader) -> Shown:
    names, dtype = tuple(reader.channels), str(np.dtype(reader.dtype))
    color = names == RGB_CHANNELS and dtype == "uint8"
    return Shown(names, default_colors(len(names)), dtype, color)


def _view(shown: Shown, file_names: tuple[str, ...], steps: PixelSteps) -> ChannelView:
    return ChannelView(
        all_names=shown.names,
        all_colors=shown.colors,
        dtype=shown.dtype,
        indices=tuple(range(len(shown.names))),
        file_names=file_names,
        steps=steps,
        color=shown.color,
    )
