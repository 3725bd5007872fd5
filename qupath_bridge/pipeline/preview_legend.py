"""Texts around a preview: name and scale of the slide above, a legend below."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from qupath_bridge.frozen import count
from qupath_bridge.model import BoxArray, Reason
from qupath_bridge.qupath.files.classes import label_color

if TYPE_CHECKING:
    from .plan import Plan

__all__ = [
    "HEAD",
    "RGB",
    "TISSUE_INK",
    "UNCLASSIFIED",
    "add_texts",
    "at_edge",
    "draw_mark",
    "edge_of",
    "put_text",
    "readable",
    "scale_length",
    "text_length",
]

RGB = tuple[int, int, int]
UNCLASSIFIED: RGB = (120, 120, 120)
TISSUE_INK: RGB = (0, 140, 150)
"""Colour of the outline of the tissue."""
LINE = 26
"""Pixels from one line of text to the next."""
MOST_CHANNELS = 8
"""Channels that have a line of their own."""
HEAD = 2 * LINE + 12
"""Pixels above the picture."""
_PALE = 0.28
"""Luminance, 0 to 1, above which a colour has a contrast below 3 to 1 on glass."""
_GAMMA = 2.2
_MARKS: Mapping[Reason, RGB] = {
    Reason.REJECTED: (0, 0, 0),
    Reason.EDGE: (110, 110, 110),
    Reason.EXCLUDED: (200, 0, 0),
    Reason.OUTSIDE: (110, 110, 110),
    Reason.NO_TISSUE: (0, 90, 200),
    Reason.NO_LABEL: (110, 110, 110),
    Reason.NOT_SAMPLED: (0, 120, 60),
}


def edge_of(color: RGB) -> RGB:
    """Return the colour of the edge that shows a line on tissue and on glass."""
    return (60, 60, 60) if _luminance(color) > _PALE else (255, 255, 255)


def readable(color: RGB) -> RGB:
    """Return a colour that can be seen on glass: itself, or darker.

    >>> readable((200, 0, 0)), readable((255, 255, 255))
    ((200, 0, 0), (142, 142, 142))
    """
    factor = min(1.0, (_PALE / max(_luminance(color), 1e-9)) ** (1 / _GAMMA))
    red, green, blue = (int(value * factor) for value in color)
    return red, green, blue


def _luminance(color: RGB) -> float:
    red, green, blue = ((value / 255) ** _GAMMA for value in color)
    return float(0.2126 * red + 0.7152 * green + 0.0722 * blue)


def scale_length(longest: float, *, known: bool) -> tuple[float, str]:
    """Return a round length (1, 2 or 5 times a power of ten), and its text.

    Parameters
    ----------
    longest : float
        µm, or pixels where the pixel size is not known.
    known : bool

    Examples
    --------
    >>> scale_length(730, known=True), scale_length(2600, known=True)
    ((500.0, '500 µm'), (2000.0, '2 mm'))
    >>> scale_length(99, known=False)
    (50.0, '50 px')
    """
    power = 10.0 ** math.floor(math.log10(longest))
    length = max(step * power for step in (1.0, 2.0, 5.0) if step * power <= longest)
    if not known:
        return length, f"{length:g} px"
    return length, f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"


def draw_mark(
    pen: ImageDraw.ImageDraw, reason: Reason, centre: tuple[float, float], radius: float
) -> None:
    """Draw the mark of a box by its reason: a plus, cross, ring, square, stroke, dash or dot."""
    (x, y), color = centre, _MARKS.get(reason, UNCLASSIFIED)
    ink = (*color, 200)
    if reason is Reason.REJECTED:
        pen.line((x - radius, y, x + radius, y), fill=ink, width=3)
        pen.line((x, y - radius, x, y + radius), fill=ink, width=3)
    elif reason is Reason.EXCLUDED:
        pen.line((x - radius, y - radius, x + radius, y + radius), fill=ink, width=2)
        pen.line((x - radius, y + radius, x + radius, y - radius), fill=ink, width=2)
    elif reason is Reason.OUTSIDE:
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), outline=ink, width=1)
    elif reason is Reason.EDGE:
        pen.rectangle((x - radius, y - radius, x + radius, y + radius), outline=ink, width=1)
    elif reason is Reason.NO_TISSUE:
        pen.line((x - radius, y + radius, x + radius, y - radius), fill=ink, width=2)
    elif reason is Reason.NOT_SAMPLED:
        pen.line((x - radius, y, x + radius, y), fill=ink, width=2)
    else:
        dot = min(radius, 1.5)
        pen.ellipse((x - dot, y - dot, x + dot, y + dot), fill=ink)


def at_edge(plan: Plan) -> BoxArray:
    """Return the boxes that the edge cuts: dropped there, or the patches that are padded."""
    if plan.grid.edge == "drop":
        return plan.layout.on(min(plan.config.grid_spec().planes)).crossing()
    boxes = plan.table.boxes
    outside = (boxes[:, :2] < 0).any(axis=1)
    return boxes[outside | (boxes[:, :2] + boxes[:, 2:] > plan.coordinates.size).any(axis=1)]


Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def text_length(font: Font, text: str) -> float:
    """Return the length of a text as :func:`put_text` writes it, pixels."""
    return font.getlength(text.replace("µ", "u"))


def put_text(pen: ImageDraw.ImageDraw, place: tuple[float, float], text: str, font: Font) -> None:
    """Write a text. The font that comes with Pillow has no µ: it is a u with a stem here."""
    x, y = place
    pen.text(place, text.replace("µ", "u"), fill="black", font=font)
    left, top, _, _ = font.getbbox("u")
    bottom = font.getbbox("p")[3]
    for found in re.finditer("µ", text):
        start = x + left + text_length(font, text[: found.start()])
        pen.line((start, y + top, start, y + bottom - 1), fill="black", width=2)


def add_texts(picture: Image.Image, plan: Plan, colors: dict[str, RGB]) -> Image.Image:
    """Return the picture with a head and a legend, made wider where these need it."""
    font, head = ImageFont.load_default(size=18), _head(plan)
    lines = [
        *_channel_lines(plan),
        *_patch_lines(plan, colors),
        *_padded_lines(plan),
        *_tissue_lines(plan),
        *_region_lines(plan, colors),
        *_dropped_lines(plan),
    ]
    texts = [*head, *(text for _, text in lines)]
    width = max(picture.width, *(48 + math.ceil(text_length(font, text)) for text in texts))
    height = HEAD + picture.height + LINE * len(lines) + 12
    sheet = Image.new("RGBA", (width, height), "white")
    sheet.paste(picture, (0, HEAD))
    pen = ImageDraw.Draw(sheet)
    for number, text in enumerate(head):
        put_text(pen, (10, 6 + LINE * number), text, font)
    for number, (draw, text) in enumerate(lines):
        top = HEAD + picture.height + 8 + LINE * number
        draw(pen, top)
        put_text(pen, (38, top - 1), text, font)
    return sheet


Drawing = Callable[[ImageDraw.ImageDraw, int], object]


def _head(plan: Plan) -> tuple[str, str]:
    width, height = plan.coordinates.size
    size = plan.pixel_size
    if size is None:
        scale = "pixel size unknown"
    else:
        scale = f"{size.x:.4g} µm/px" if size.x == size.y else f"{size.x:.4g} x {size.y:.4g} µm/px"
    made = "native" if plan.native else f"resampled {plan.resampling:.4g}x"
    mpp = "" if plan.mpp is None else f" at {plan.mpp:.4g} µm/px"
    return (
        plan.slide.name,
        f"{width} x {height} px, {scale}; patches {_side(plan)}{mpp}, {made}",
    )


def _side(plan: Plan) -> str:
    return "as large as their objects" if plan.table.sized else f"of {plan.config.size} px"


def _channel_lines(plan: Plan) -> list[tuple[Drawing, str]]:
    """Return a line for each channel that is shown, and one for all that are too many."""
    if plan.display is None:
        return []
    lines: list[tuple[Drawing, str]] = []
    shown = [plan.display.channels[number] for number in plan.display.shown_channels]
    for channel in shown[:MOST_CHANNELS]:

        def draw(pen: ImageDraw.ImageDraw, top: int, color: RGB = channel.color) -> None:
            pen.ellipse((11, top + 1, 27, top + 17), fill=(*color, 255), outline=readable(color))

        lines.append((draw, f"channel {channel.name}"))
    rest = len(shown) - MOST_CHANNELS
    if rest > 0:
        lines.append((lambda pen, top: None, f"and {count(rest, 'more channel')}"))
    return lines


def _patch_lines(plan: Plan, colors: dict[str, RGB]) -> list[tuple[Drawing, str]]:
    lines: list[tuple[Drawing, str]] = []
    counts = plan.label_counts() or ({"": len(plan)} if len(plan) else {})
    for label, number in counts.items():
        color = label_color(label, colors) if label else UNCLASSIFIED

        def draw(pen: ImageDraw.ImageDraw, top: int, color: RGB = color) -> None:
            box = (10, top, 28, top + 18)
            pen.rectangle(box, fill=(*color, 255), outline=readable(color))

        name = f"{label}: " if label else ""
        lines.append((draw, f"{name}{count(number, 'patch', 'patches')}"))
    return lines


def _padded_lines(plan: Plan) -> list[tuple[Drawing, str]]:
    number = 0 if plan.grid.edge == "drop" else len(at_edge(plan))
    text = f"of these padded at the edge: {count(number, 'patch', 'patches')}"
    return [(partial(_draw_key, Reason.EDGE), text)] if number else []


def _draw_key(reason: Reason, pen: ImageDraw.ImageDraw, top: int) -> None:
    """Draw the mark of a reason before its line, if it has one."""
    if reason in _MARKS:
        draw_mark(pen, reason, (19, top + 9), 6)


def _region_lines(plan: Plan, colors: dict[str, RGB]) -> list[tuple[Drawing, str]]:
    planes = set(plan.config.grid_spec().planes)
    counts = Counter(
        annotation.class_path or ""
        for annotation in plan.annotations
        if annotation.roi is not None and annotation.roi.plane in planes
    )
    lines: list[tuple[Drawing, str]] = []
    for name, number in sorted(counts.items()):
        color = label_color(name, colors) if name else UNCLASSIFIED

        def draw(pen: ImageDraw.ImageDraw, top: int, color: RGB = color) -> None:
            pen.line((8, top + 9, 30, top + 9), fill=edge_of(color), width=4)
            pen.line((8, top + 9, 30, top + 9), fill=color, width=2)

        lines.append((draw, f"outline of {count(number, 'annotation')}: {name or 'no class'}"))
    return lines


def _tissue_lines(plan: Plan) -> list[tuple[Drawing, str]]:
    tissue = plan.tissue
    if tissue is None:
        return []

    def draw(pen: ImageDraw.ImageDraw, top: int) -> None:
        pen.line((8, top + 9, 30, top + 9), fill=TISSUE_INK, width=2)

    at = "" if tissue.mpp is None else f" at {tissue.mpp:.4g} µm/px"
    return [(draw, f"outline of tissue ({tissue.method}{at}): {tissue.share:.1%} of the slide")]


def _dropped_lines(plan: Plan) -> list[tuple[Drawing, str]]:
    lines: list[tuple[Drawing, str]] = []
    for reason, number in plan.dropped.items():
        if number:
            text = f"not written, {reason}: {count(number, 'box', 'boxes')}"
            lines.append((partial(_draw_key, reason), text))
    return lines or [(lambda pen, top: None, "not written: none")]
