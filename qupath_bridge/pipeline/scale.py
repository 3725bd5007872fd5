"""Scale of a slide's patches: coordinate map, pixel size, grid, and the level that is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from qupath_bridge.config import ExportConfig
from qupath_bridge.frozen import OneLine
from qupath_bridge.geometry.calibration import check_pixel_size, resolve_pixel_size
from qupath_bridge.geometry.coordinates import CoordinateMap, coordinate_map
from qupath_bridge.model import BoxArray, PixelSize, Slide
from qupath_bridge.patches.grid import Grid, resolve_grid
from qupath_bridge.pixels.resample import choose_level
from qupath_bridge.readers.base import Reader
from qupath_bridge.readers.level_sizes import level_downsamples, whole_downsamples
from qupath_bridge.sources.coordinate_files import Coordinates

from .listed_boxes import check_resolution, listed_boxes, resolution_of

__all__ = ["SlideScale", "mixture_warning", "resolve_scale"]


@dataclass(frozen=True, slots=True, repr=False)
class SlideScale(OneLine):
    """Result of :func:`resolve_scale`.

    Attributes
    ----------
    coordinates : CoordinateMap
    pixel_size : PixelSize or None
        µm per QuPath pixel, and who said so.
    grid : Grid
    read_level : int
        The level that is read.
    resampling : float
        Pixels of that level per written pixel, mean of both axes.
    native : bool
        Whether each written pixel is one pixel of the level, as the file has it.
    notes : tuple of str
        Remarks about coordinates and pixel size.
    listed : array, shape (N, 4), QuPath pixels, or None
        The boxes that coordinates of another tool list, all of the size of the grid's.
    """

    coordinates: CoordinateMap
    pixel_size: PixelSize | None
    grid: Grid
    read_level: int
    resampling: float
    native: bool
    notes: tuple[str, ...]
    listed: BoxArray | None = None


def resolve_scale(
    slide: Slide, config: ExportConfig, reader: Reader, listed: Coordinates | None = None
) -> SlideScale:
    """Return the scale of the patches of a slide whose file is open.

    ``listed`` are coordinates of another tool, which decide the boxes.

    Raises
    ------
    CoordinateError
        If the file does not fit what QuPath recorded.
    PlanError
        If the pixel size is missing or out of range, or the patches cannot have that scale.
    """
    spec = config.grid_spec()
    coordinates = coordinate_map(slide.builder, file_size=reader.size, bounds=reader.bounds)
    if slide.width is not None and slide.height is not None:
        coordinates.check_size((slide.width, slide.height))
    pixel_size, notes = resolve_pixel_size(
        spec.pixel_size, slide.pixel_size, coordinates.pixel_size(reader.pixel_size)
    )
    check_pixel_size(pixel_size)
    (_, _, x), (_, _, y) = coordinates.matrix
    offset = (int(x), int(y))
    whole = whole_downsamples(reader) if coordinates.is_right_angle else ()
    wanted = partial(
        resolve_grid,
        image_size=coordinates.size,
        pixel_size=pixel_size,
        magnification=slide.magnification or reader.objective_power,
        native=whole,
        offset=offset,
    )
    boxes = None if listed is None else listed_boxes(listed, coordinates, pixel_size)
    if boxes is None or not len(boxes):
        grid = wanted(spec)
    else:
        grid = wanted(replace(spec, box=tuple(boxes[0, 2:].tolist())))
        if resolution_of(config):
            check_resolution(grid, wanted(spec), config)
    downsamples = level_downsamples(reader)
    # As readers choose it: by the axis that needs the finer pixels.
    level = choose_level(downsamples, min(grid.box_width, grid.box_height) / config.size)
    starts = [grid.origin_x, grid.origin_y, grid.step_x, grid.step_y, *offset]
    if boxes is not None:
        starts += np.unique(boxes[:, :2]).tolist()
    native = any(
        (grid.box_width, grid.box_height) == (config.size * d, config.size * d)
        and not any(start % d for start in starts)
        for d in whole
    )
    return SlideScale(
        coordinates=coordinates,
        pixel_size=pixel_size,
        grid=grid,
        read_level=level,
        resampling=1.0 if native else grid.downsample / downsamples[level],
        native=native,
        notes=(*coordinates.notes, *notes),
        listed=boxes,
    )


def mixture_warning(native: Sequence[bool]) -> str | None:
    """Return a warning if some slides of a run are resampled and others are not, else None."""
    resampled = len(native) - sum(native)
    if resampled in (0, len(native)):
        return None
    return (
        f"Patches of {resampled} of {len(native)} slides are resampled, those of the others are "
        "the slide's own pixels, which are sharper. A model can learn the difference: choose an "
        "mpp that all slides have, or one that is coarser than all."
    )
