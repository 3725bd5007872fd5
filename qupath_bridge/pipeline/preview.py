"""A picture of a plan: thumbnail, regions in QuPath's colours, patches by label, dropped boxes."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from qupath_bridge.errors import OutputError, SlideError
from qupath_bridge.model import BoxArray, Reason
from qupath_bridge.qupath.files.classes import class_colors, label_color
from qupath_bridge.readers import open_reader
from qupath_bridge.stores.local import LocalStore

from .composites import read_picture
from .places import check_place
from .preview_layers import Scale, draw_marks, draw_patch, region_layer, tissue_layer
from .preview_legend import (
    RGB,
    UNCLASSIFIED,
    add_texts,
    at_edge,
    put_text,
    scale_length,
    text_length,
)

if TYPE_CHECKING:
    from .plan import Plan

__all__ = [
    "check_picture",
    "draw_preview",
    "preview_html",
    "preview_path",
    "render_preview",
    "save_picture",
    "seen_part",
]

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
"""Format of a picture by the ending of its name."""
SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
LONGEST_SIDE = 1600
"""Pixels of the longer side of a preview."""


def preview_path(path: Path, slide_id: str, slides: int) -> Path:
    """Return the file of one slide's picture; its id is in the name if there are several slides.

    >>> preview_path(Path("plan.png"), "1_a", 1).name, preview_path(Path("plan.png"), "1_a", 2).name
    ('plan.png', 'plan-1_a.png')
    """
    return path if slides == 1 else path.with_name(f"{path.stem}-{slide_id}{path.suffix}")


def draw_preview(plan: Plan, path: Path | str) -> None:
    """Write a plan's picture as a PNG or JPEG file.

    Raises
    ------
    OutputError
        If it cannot be written, or would replace something that is not a picture.
    """
    path = Path(path)
    check_picture(path, plan.slide.project.folder)
    save_picture(render_preview(plan), path)


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture as a PNG or JPEG file, by its ending, whole or not at all."""
    buffer = io.BytesIO()
    picture.save(buffer, format=FORMATS[path.suffix.lower()], quality=90)
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


def check_picture(path: Path, project: Path) -> None:
    """Refuse to write over anything but a picture, and into QuPath's folders."""
    if path.suffix.lower() not in FORMATS:
        raise OutputError(f"Preview must end in {', '.join(FORMATS)}: {path}")
    if path.is_dir():
        raise OutputError(f"{path} is a folder.", hint="Name a file for the preview.")
    if path.is_file():
        with path.open("rb") as file:
            if not file.read(8).startswith(SIGNATURES):
                raise OutputError(
                    f"{path} exists and is not a PNG or JPEG picture.", hint="Name another file."
                )
    check_place(path, project)


def render_preview(plan: Plan, longest_side: int = LONGEST_SIDE) -> Image.Image:
    """Return a plan's picture.

    Above stand name, size and scale of the slide. What is not tissue is paler, kept patches are
    filled lightly in the colour of their label, regions outlined in the colour of their class,
    dropped boxes have a mark of their reason, boxes that cross the edge have one too, and a legend
    below explains and counts them.
    """
    with open_reader(
        plan.path, name=plan.reader_name, on_bad_tile=plan.config.on_bad_tile
    ) as reader:
        thumbnail, scale = read_picture(
            reader,
            plan.coordinates,
            plan.view,
            plan.display,
            longest_side,
            plan.config.grid_spec().planes[0],
        )
    colors = class_colors(plan.slide.project.classes, plan.annotations)
    picture = Image.fromarray(thumbnail).convert("RGBA")
    if plan.tissue is not None:
        picture.alpha_composite(tissue_layer(plan.tissue.mask, picture.size))
    picture.alpha_composite(_dropped(plan, picture.size, scale))
    picture.alpha_composite(_patches(plan, picture.size, scale, colors))
    planes = plan.config.grid_spec().planes
    picture.alpha_composite(region_layer(plan.annotations, planes, picture.size, scale, colors))
    picture.alpha_composite(_scale_bar(plan, picture.size, scale[0]))
    return add_texts(picture, plan, colors).convert("RGB")


def _patches(
    plan: Plan, size: tuple[int, int], scale: Scale, colors: dict[str, RGB]
) -> Image.Image:
    layer = Image.new("RGBA", size)
    pen = ImageDraw.Draw(layer)
    for row, place in enumerate((plan.table.boxes * (*scale, *scale)).tolist()):
        names = plan.table.labels_of(row)
        draw_patch(pen, place, label_color(": ".join(names), colors) if names else UNCLASSIFIED)
    return layer


def _dropped(plan: Plan, size: tuple[int, int], scale: Scale) -> Image.Image:
    """Draw a mark into each box that is dropped, of the first plane, or that crosses the edge."""
    layer = Image.new("RGBA", size)
    pen = ImageDraw.Draw(layer)
    codes, boxes = np.frombuffer(plan.reasons[0], np.uint8), plan.candidates()
    for number, reason in enumerate(Reason):
        draw_marks(pen, reason, boxes[codes == number] * (*scale, *scale))
    draw_marks(pen, Reason.EDGE, seen_part(at_edge(plan), plan.coordinates.size) * (*scale, *scale))
    return layer


def seen_part(boxes: BoxArray, size: tuple[int, int]) -> BoxArray:
    """Return the part of each box that is in an image of this size, QuPath pixels.

    >>> seen_part(np.array([[-10, 80, 40, 40]]), (100, 100)).tolist()
    [[0, 80, 30, 20]]
    """
    corners = np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
    low, high = np.hsplit(np.clip(corners, 0, (*size, *size)), 2)
    return np.hstack([low, high - low])


def _scale_bar(plan: Plan, size: tuple[int, int], scale: float) -> Image.Image:
    """Draw a bar of a round length, a fifth of the picture at most, into the lower left corner."""
    layer = Image.new("RGBA", size)
    pen = ImageDraw.Draw(layer)
    pixel_size = 1.0 if plan.pixel_size is None else plan.pixel_size.x
    length, text = scale_length(size[0] / 5 / scale * pixel_size, known=bool(plan.pixel_size))
    width = length / pixel_size * scale
    font = ImageFont.load_default(size=16)
    left, bottom = 12, size[1] - 12
    right = left + max(width, text_length(font, text))
    pen.rectangle((left - 6, bottom - 30, right + 6, bottom + 6), fill=(255, 255, 255, 200))
    pen.rectangle((left, bottom - 4, left + width, bottom), fill="black")
    put_text(pen, (left, bottom - 27), text, font)
    return layer
