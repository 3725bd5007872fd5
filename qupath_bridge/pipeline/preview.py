"""A picture of a plan: thumbnail, regions in QuPath's colours, kept patches by label."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import shapely
from PIL import Image, ImageDraw, ImageFont

from qupath_bridge.errors import OutputError, SlideError
from qupath_bridge.model import PathObject
from qupath_bridge.qupath.files.classes import class_colors, label_color
from qupath_bridge.readers import open_reader
from qupath_bridge.stores.local import LocalStore

from .pixels import read_thumbnail
from .places import check_place

if TYPE_CHECKING:
    from .plan import Plan

__all__ = ["draw_preview", "preview_html", "preview_path", "render_preview"]

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
LONGEST_SIDE = 1600
"""Pixels of the longer side of a preview."""

UNCLASSIFIED = (120, 120, 120)
RGB = tuple[int, int, int]
Scale = tuple[float, float]


def preview_path(path: Path, slide_id: str, slides: int) -> Path:
    """Return the file of one slide's picture; its id is in the name if there are several slides.

    >>> preview_path(Path("plan.png"), "1_a", 1).name, preview_path(Path("plan.png"), "1_a", 2).name
    ('plan.png', 'plan-1_a.png')
    """
    return path if slides == 1 else path.with_name(f"{path.stem}-{slide_id}{path.suffix}")


def draw_preview(plan: Plan, path: Path | str) -> None:
    """Write a plan's picture as a PNG file.

    Raises
    ------
    OutputError
        If it cannot be written, or would replace something that is not a picture.
    """
    path = Path(path)
    _check_place(path, plan.slide.project.folder)
    buffer = io.BytesIO()
    render_preview(plan).save(buffer, format="PNG")
    LocalStore(path.parent).put(path.name, buffer.getvalue())


def preview_html(plan: Plan, longest_side: int = 400) -> str:
    """Return a small preview as an HTML image; empty where the slide cannot be read."""
    buffer = io.BytesIO()
    try:
        render_preview(plan, longest_side).save(buffer, format="PNG")
    except SlideError:
        return ""
    text = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img alt="preview" src="data:image/png;base64,{text}">'


def _check_place(path: Path, project: Path) -> None:
    """Refuse to write over anything but a picture, and into QuPath's folders."""
    if path.suffix.lower() != ".png":
        raise OutputError(f"Preview must end in .png: {path}")
    if path.is_dir():
        raise OutputError(f"{path} is a folder.", hint="Name a file for the preview.")
    if path.is_file():
        with path.open("rb") as file:
            if file.read(len(PNG_SIGNATURE)) != PNG_SIGNATURE:
                raise OutputError(
                    f"{path} exists and is not a PNG picture.", hint="Name another file."
                )
    check_place(path, project)


def render_preview(plan: Plan, longest_side: int = LONGEST_SIDE) -> Image.Image:
    """Return a plan's picture.

    Kept patches are filled lightly in the colour of their label, regions outlined in the colour
    of their class, and a legend below counts the patches.
    """
    with open_reader(plan.path, name=plan.reader_name) as reader:
        thumbnail, scale = read_thumbnail(reader, plan.coordinates, longest_side)
    colors = class_colors(plan.slide.project.classes, plan.annotations)
    picture = Image.fromarray(thumbnail).convert("RGBA")
    picture.alpha_composite(_patches(plan, picture.size, scale, colors))
    picture.alpha_composite(_regions(plan, picture.size, scale, colors))
    return _with_legend(picture, plan, colors).convert("RGB")


def _patches(
    plan: Plan, size: tuple[int, int], scale: Scale, colors: dict[str, RGB]
) -> Image.Image:
    layer = Image.new("RGBA", size)
    pen = ImageDraw.Draw(layer)
    for row, (x, y, w, h) in enumerate((plan.table.boxes * (*scale, *scale)).tolist()):
        names = plan.table.labels_of(row)
        color = label_color(": ".join(names), colors) if names else UNCLASSIFIED
        # Half a pixel free on each side shows neighbours apart.
        pen.rectangle(
            (x + 0.5, y + 0.5, x + w - 1, y + h - 1), fill=(*color, 55), outline=(*color, 255)
        )
    return layer


def _regions(
    plan: Plan, size: tuple[int, int], scale: Scale, colors: dict[str, RGB]
) -> Image.Image:
    layer = Image.new("RGBA", size)
    pen = ImageDraw.Draw(layer)
    planes = set(plan.config.grid_spec().planes)
    for annotation in plan.annotations:
        if annotation.roi is None or annotation.roi.plane not in planes:
            continue
        color = (
            label_color(annotation.class_path, colors) if annotation.class_path else UNCLASSIFIED
        )
        for line in _outlines(annotation, scale):
            if len(line) > 1:
                # A light edge around the line shows it on dark tissue too.
                pen.line(line, fill=(255, 255, 255, 150), width=4, joint="curve")
                pen.line(line, fill=(*color, 255), width=2, joint="curve")
            else:
                ((x, y),) = line
                pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=(*color, 255))
    return layer


def _outlines(annotation: PathObject, scale: Scale) -> Iterator[list[tuple[float, float]]]:
    if annotation.roi is None:
        return
    for part in shapely.get_parts(annotation.roi.geometry):
        rings = shapely.get_rings(part) if part.geom_type == "Polygon" else [part]
        for ring in rings:
            xy = shapely.get_coordinates(ring) * scale
            if len(xy):
                yield [(float(x), float(y)) for x, y in xy]


def _with_legend(picture: Image.Image, plan: Plan, colors: dict[str, RGB]) -> Image.Image:
    font = ImageFont.load_default(size=18)
    lines: list[tuple[RGB | None, str]] = [
        (label_color(label, colors), f"{label}: {count} patches")
        for label, count in plan.label_counts().items()
    ]
    dropped = ", ".join(f"{n} {reason}" for reason, n in plan.dropped.items() if n)
    lines.append((None, f"not written: {dropped or 'none'}"))
    height = 26 * len(lines) + 12
    width = max(picture.width, *(48 + math.ceil(font.getlength(text)) for _, text in lines))
    sheet = Image.new("RGBA", (width, picture.height + height), "white")
    sheet.paste(picture, (0, 0))
    pen = ImageDraw.Draw(sheet)
    for number, (color, text) in enumerate(lines):
        top = picture.height + 8 + 26 * number
        if color:
            pen.rectangle((10, top, 28, top + 18), fill=(*color, 255))
        pen.text((38, top - 1), text, fill="black", font=font)
    return sheet
