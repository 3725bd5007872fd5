"""Charts as inline SVG: functions from numbers to a text that is safe in a page.

Everything from outside goes through :func:`shown`. Colours of the page stand in its style sheet;
those of classes come from QuPath and have an edge, so that white and black ones can be seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from qupath_bridge.frozen import escape_controls

__all__ = [
    "Bar",
    "Range",
    "bars",
    "clipped",
    "histogram_chart",
    "number",
    "ranges",
    "shown",
    "strip",
    "swatch",
]

RGB = tuple[int, int, int]
WIDTH = 460
"""Units of a chart's width; it is as wide as its place in the page."""
LINE = 24
_TEXT = 165
"""Units that the texts on the left have."""


class Bar(NamedTuple):
    """A bar: its text, its value, and its colour if it has one of its own."""

    text: str
    value: int
    color: RGB | None = None


class Range(NamedTuple):
    """A line from the low to the high value of a slide with a dot at the middle one."""

    text: str
    low: float
    middle: float
    high: float
    far: bool = False
    anchor: str = ""


def shown(value: object) -> Markup:
    r"""Return a text that is safe in a page: signs of HTML and signs that steer are escaped.

    >>> print(shown("<b>\u202e"))
    &lt;b&gt;\u202e
    """
    return escape(escape_controls(str(value)))


def number(value: float) -> str:
    """Return a number as people read it.

    >>> number(1234567), number(0.123456), number(12.0)
    ('1,234,567', '0.123', '12')
    """
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3g}"


def hex_color(color: RGB) -> str:
    """Return a colour as in HTML.

    >>> hex_color((200, 0, 10))
    '#c8000a'
    """
    return "#" + "".join(f"{part:02x}" for part in color)


def swatch(color: RGB | None) -> Markup:
    """Return a small square in the colour of a class."""
    return Markup(
        '<svg class="swatch" viewBox="0 0 12 12" aria-hidden="true">'
        '<rect {} x="1" y="1" width="10" height="10" rx="2"/></svg>'
    ).format(_fill(color))


def _svg(height: float, name: str, body: Markup, *, width: int = WIDTH, kind: str = "") -> Markup:
    return Markup(
        '<svg class="chart {}" width="{w}" viewBox="0 0 {w} {:g}" role="img" aria-label="{}">'
        "{}</svg>"
    ).format(kind, height, shown(name), body, w=width)


def _join(parts: Sequence[Markup]) -> Markup:
    return Markup("").join(parts)


def clipped(text: str, longest: int = 18) -> str:
    """Return a text that is not too long; both ends stay, as names differ at their ends.

    >>> clipped("petebankhead_OS-2-ndpi.ome.tif", 12)
    'peteba…e.tif'
    """
    text = escape_controls(text)
    end = (longest - 1) // 2
    return text if len(text) <= longest else f"{text[: longest - 1 - end]}…{text[-end:]}"


def bars(name: str, rows: Sequence[Bar]) -> Markup:
    """Return horizontal bars, one below the other, each with its text and value.

    Parameters
    ----------
    name : str
        What the chart shows, for those who do not see it; the values are added.
    rows : sequence of Bar
    """
    longest = max((row.value for row in rows), default=0) or 1
    room = WIDTH - _TEXT - 70
    parts = [
        Markup(
            '<text x="{}" y="{}" class="end">{}</text>'
            '<rect x="{}" y="{}" width="{:.1f}" height="14" rx="2" {}/>'
            '<text x="{:.1f}" y="{}" class="value">{}</text>'
        ).format(
            _TEXT - 8, at + 16, clipped(row.text), _TEXT, at + 5,
            max(row.value / longest * room, 1), _fill(row.color),
            _TEXT + max(row.value / longest * room, 1) + 6, at + 16, number(row.value),
        )
        for at, row in ((i * LINE, row) for i, row in enumerate(rows))
    ]  # fmt: skip
    values = "; ".join(f"{row.text} {number(row.value)}" for row in rows)
    return _svg(LINE * len(rows) + 4, f"{name}: {values or 'none'}", _join(parts))


def _fill(color: RGB | None) -> Markup:
    if color is None:
        return Markup('class="bar"')
    return Markup('class="edge" fill="{}"').format(hex_color(color))


def strip(name: str, parts: Sequence[Bar]) -> Markup:
    """Return one bar of the parts of a whole, side by side."""
    whole = sum(part.value for part in parts)
    if not whole:
        return Markup("")
    drawn, at = [], 0.0
    for part in parts:
        width = part.value / whole * 160
        drawn.append(
            Markup('<rect x="{:.2f}" y="1" width="{:.2f}" height="10" {}/>').format(
                at, width, _fill(part.color)
            )
        )
        at += width
    values = ", ".join(f"{part.text} {number(part.value)}" for part in parts)
    return _svg(12, f"{name}: {values}", _join(drawn), width=160, kind="strip")


def histogram_chart(name: str, counts: Sequence[int], color: RGB | None = None) -> Markup:
    """Return a histogram of shares from 0 to 1; the axis has marks at 0, 0.5 and 1."""
    width, height, left = 240, 92, 6
    step = (width - 2 * left) / len(counts)
    most = max(counts, default=0) or 1
    parts = [
        Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" {}/>').format(
            left + i * step + 0.5, height - 20 - n / most * 60, step - 1, n / most * 60,
            _fill(color),
        )
        for i, n in enumerate(counts)
        if n
    ]  # fmt: skip
    parts.append(
        Markup('<line class="axis" x1="{}" y1="{y}" x2="{}" y2="{y}"/>').format(
            left, width - left, y=height - 20
        )
    )
    for share, place in ((0, "start"), (0.5, "middle"), (1, "end")):
        parts.append(
            Markup('<text class="small {}" x="{:.1f}" y="{}">{}</text>').format(
                place, left + share * (width - 2 * left), height - 5, share
            )
        )
    parts.append(
        Markup('<text class="small end" x="{}" y="10">{}</text>').format(
            width - left, f"up to {number(most)}"
        )
    )
    whole = sum(counts)
    values = ", ".join(
        f"{i / len(counts):.2g} to {(i + 1) / len(counts):.2g}: {number(n)}"
        for i, n in enumerate(counts)
        if n
    )
    name = f"{name}, {number(whole)} patches. {values}"
    return _svg(height, name, _join(parts), width=width, kind="histogram")


def ranges(name: str, rows: Sequence[Range], limits: Sequence[float] = ()) -> Markup:
    """Return one line per slide from its low to its high value, with a dot at the middle one.

    Parameters
    ----------
    name : str
    rows : sequence of Range
    limits : sequence of float
        Values at which a line goes through all rows.
    """
    values = [v for row in rows for v in (row.low, row.middle, row.high)] + list(limits)
    low, high = min(values, default=0.0), max(values, default=1.0)
    span, room = (high - low) or 1.0, WIDTH - _TEXT - 24

    def place(value: float) -> float:
        return _TEXT + 8 + (value - low) / span * room

    height = 20 * len(rows) + 26
    parts = [
        Markup('<line class="limit" x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{y}"/>').format(
            x=place(limit), y=height - 20
        )
        for limit in limits
    ]
    for number_of_row, row in enumerate(rows):
        y = 20 * number_of_row + 10
        text = Markup('<text x="{}" y="{}" class="end">{}</text>').format(
            _TEXT - 8, y + 4, clipped(row.text)
        )
        if row.anchor:
            text = Markup('<a href="#{}">{}</a>').format(row.anchor, text)
        parts.append(
            Markup(
                '<g class="{}">{}<line class="range" x1="{:.1f}" y1="{y}" x2="{:.1f}" y2="{y}"/>'
                '<circle cx="{:.1f}" cy="{y}" r="4.5"/></g>'
            ).format(
                "far" if row.far else "near", text, place(row.low), place(row.high),
                place(row.middle), y=y,
            )
        )  # fmt: skip
    for value, side in ((low, "start"), (high, "end")):
        parts.append(
            Markup('<text class="small {}" x="{:.1f}" y="{}">{}</text>').format(
                side, place(value), height - 5, number(float(value))
            )
        )
    values_by_slide = "; ".join(
        f"{row.text} {number(float(row.middle))}{' (far from the others)' if row.far else ''}"
        for row in rows
    )
    return Markup(
        '<svg class="chart" width="{w}" viewBox="0 0 {w} {}" role="group" aria-label="{}">{}</svg>'
    ).format(height, shown(f"{name}, median per slide: {values_by_slide}"), _join(parts), w=WIDTH)
