"""The boxes that coordinates of another tool mean on a slide."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from qupath_bridge.config import ExportConfig
from qupath_bridge.errors import PlanError, UsageError
from qupath_bridge.geometry.coordinates import CoordinateMap
from qupath_bridge.model import BoxArray, PixelSize
from qupath_bridge.patches.grid import Grid, round_half_up
from qupath_bridge.sources.coordinate_files import Coordinates

__all__ = ["check_resolution", "fitted_config", "listed_boxes", "resolution_of"]

UNUSED = ("around", "per_region", "stride", "origin")
"""Options that say where patches are, as coordinates do."""


def fitted_config(config: ExportConfig, listed: Iterable[int]) -> ExportConfig:
    """Return the configuration with the size of the patches that coordinates are of.

    ``listed`` are the sizes that all of them have, none without coordinates.

    One that has a size and a resolution keeps both: whether they give the boxes is checked for each
    slide (:func:`check_resolution`).

    Raises
    ------
    UsageError
        If the patches have another size than was asked for, or several; or if an option says
        something else of where patches are.
    """
    sizes = sorted(set(listed))
    if not sizes:
        return config
    fields = type(config).model_fields
    unused = [name for name in UNUSED if getattr(config, name) != fields[name].default]
    if unused:
        raise UsageError(
            f"coords says where the patches are; {', '.join(unused)} would not be used.",
            hint="Leave one or the other out.",
        )
    given = "size" in config.model_fields_set
    if given and resolution_of(config):
        return config
    if len(sizes) > 1:
        raise UsageError(
            f"coords: the files have patches of {sizes[0]} and of {sizes[-1]} px.",
            hint="Give size and mpp, or export the slides in several runs.",
        )
    if given and config.size != sizes[0]:
        raise UsageError(
            f"coords: the patches have {sizes[0]} px, and size says {config.size}.",
            hint="Leave size out, or give mpp, too, for patches that another size was made of.",
        )
    return config.replace(size=sizes[0])


def resolution_of(config: ExportConfig) -> str | None:
    """Return the option that asks for a resolution, as text; None if none does."""
    given = {"mpp": config.mpp, "magnification": config.magnification}
    named = (f"{name} {value:g}" for name, value in given.items() if value is not None)
    return next(named, "level_zero" if config.level_zero else None)


def check_resolution(grid: Grid, wanted: Grid, config: ExportConfig) -> None:
    """Refuse listed boxes that are not those of the size and resolution that were asked for.

    Parameters
    ----------
    grid, wanted : Grid
        With the listed box, and with the one that the options give.

    Raises
    ------
    PlanError
    """
    asked = resolution_of(config)
    near = abs(grid.box_width / wanted.box_width - 1) <= config.mpp_tolerance * (1 + 1e-9)
    if asked is None or near:
        return
    raise PlanError(
        f"The listed boxes are {grid.box_width} px of the slide wide; size {config.size} and "
        f"{asked} ask for {wanted.box_width} px.",
        hint="Leave the resolution out, or give the size and resolution of these patches.",
    )


def listed_boxes(
    found: Coordinates,
    coordinates: CoordinateMap,
    pixel_size: PixelSize | None,
) -> BoxArray:
    """Return the boxes of coordinates, shape (N, 4), QuPath pixels.

    Parameters
    ----------
    found : Coordinates
    coordinates : CoordinateMap
        Of the slide.
    pixel_size : PixelSize or None
        µm per pixel.

    Raises
    ------
    PlanError
        If the map is not at a right angle, a pixel size is missing, or a box would be empty.
    """
    if not coordinates.is_right_angle:
        raise PlanError(
            "Coordinates of another tool are squares of the slide file, and QuPath shows the "
            "image turned by another angle than a right one.",
            hint="Leave coords out.",
        )
    if "um" in {found.side_in, found.places_in} and pixel_size is None:
        raise PlanError(
            f"Coordinates of {found.tool} are in µm, and the pixel size of the slide is not known.",
            hint="Set pixel_size.",
        )
    um = (1.0, 1.0) if pixel_size is None else (pixel_size.x, pixel_size.y)
    width, height = (_side(found, size) for size in um)
    if min(width, height) < 1:
        raise PlanError(f"Patches of {found.tool} would be {width} x {height} px of the slide.")
    places = found.places / um if found.places_in == "um" else found.places
    corners = np.floor(places + 0.5).astype(np.int64)
    if found.centred:
        corners -= (width // 2, height // 2)
    sides = np.broadcast_to(np.array([width, height]), corners.shape)
    return coordinates.qupath_boxes(np.hstack([corners, sides]))


def _side(found: Coordinates, um: float) -> int:
    """Return the side of a patch in pixels of the slide file."""
    if found.side_in == "px":
        return round_half_up(found.side)
    if found.tool != "slideflow":
        return round_half_up(found.side / um)
    # It cuts whole pixels of a level, or ``int(tile_um / mpp)``, and writes whole µm of both.
    level = found.size * max(1, round(found.side / um / found.size))
    return level if abs(level * um - found.side) < 1 else math.floor(found.side / um)
