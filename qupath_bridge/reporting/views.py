"""Slides as the page shows them: values that the template reads, with pictures as texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qupath_bridge.model import Box
from qupath_bridge.pipeline.preview_legend import RGB, scale_length
from qupath_bridge.pixels.composite import Composite

from .summary import Histogram

__all__ = [
    "LayerView",
    "PairView",
    "SampleView",
    "SheetView",
    "SlideView",
    "describe_slide",
    "scale_bar",
]


@dataclass(frozen=True, slots=True)
class LayerView:
    """A layer over the picture of a slide."""

    kind: str
    name: str
    uri: str
    count: int
    color: RGB | None = None


@dataclass(frozen=True, slots=True)
class SampleView:
    """A patch of a contact sheet; ``uri`` is None if its pixels cannot be read."""

    name: str
    fact: str
    uri: str | None
    box: Box
    link: str | None = None


@dataclass(frozen=True, slots=True)
class SheetView:
    """A contact sheet: some patches of one label, flag or reason."""

    kind: str
    name: str
    count: int
    samples: tuple[SampleView, ...]
    problem: str | None = None
    color: RGB | None = None


@dataclass(frozen=True, slots=True)
class PairView:
    """A patch before and after stain normalisation."""

    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class SlideView:
    """One slide of the page.

    ``scale`` is the length of a scale bar, as a part of the width of the slide, and its text.
    ``state`` is ``done``, ``failed``, ``waiting`` (not committed yet) or ``damaged``; only a slide
    that is done has patches.
    """

    anchor: str
    slide_id: str
    name: str
    entry_id: str
    state: str
    error: str | None = None
    hint: str | None = None
    patches: int = 0
    labels: Mapping[str, int] = field(default_factory=dict)
    colors: Mapping[str, RGB] = field(default_factory=dict)
    flags: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    shares: Mapping[str, Histogram] = field(default_factory=dict)
    tissue_shares: Histogram | None = None
    picture: str | None = None
    scale: tuple[float, str] | None = None
    real: bool = False
    size: tuple[int, int] = (1, 1)
    layers: tuple[LayerView, ...] = ()
    kept: tuple[SheetView, ...] = ()
    not_written: tuple[SheetView, ...] = ()
    pairs: tuple[PairView, ...] = ()
    described: Sequence[tuple[str, str]] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    notes: Sequence[str] = ()
    corrections: Mapping[str, Any] = field(default_factory=dict)
    quality: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    files: Sequence[tuple[str, str]] = ()

    @property
    def whole(self) -> int:
        """Number of boxes that were written or dropped."""
        return self.patches + sum(self.dropped.values())

    @property
    def search(self) -> str:
        """Everything that a search finds, in small letters."""
        words = [
            self.name, self.slide_id, self.entry_id, self.error or "", *self.labels,
            *self.dropped, *self.metadata.values(), *self.warnings, *self.notes,
        ]  # fmt: skip
        return " ".join(words).casefold()


def scale_bar(facts: Mapping[str, Any]) -> tuple[float, str]:
    """Return a round length as a part of the width of a slide, a fifth at most, and its text.

    >>> scale_bar({"coordinates": {"size": [4000, 3000], "pixel_size": {"x": 0.5, "y": 0.5}}})
    (0.1, '200 µm')
    """
    width, size = facts["coordinates"]["size"][0], facts["coordinates"]["pixel_size"]
    unit = size["x"] if size else 1.0
    length, text = scale_length(width / 5 * unit, known=bool(size))
    return length / unit / width, text


def describe_slide(
    facts: Mapping[str, Any], display: Composite | None = None
) -> list[tuple[str, str]]:
    """Return what the facts of a slide say of its file, its scale and its tissue, in words.

    ``display`` says how its channels are shown; None for RGB.

    >>> grid = {"box": [200, 200], "step": [200, 100], "mpp": None, "downsample": 2.0}
    >>> facts = {"path": "/data/a.svs", "coordinates": {"size": [4000, 3000], "pixel_size": None}}
    >>> facts |= {"grid": grid, "tissue": None, "stain": None, "seconds": 1.25}
    >>> for name, text in describe_slide(facts):
    ...     print(name, "|", text)
    slide file | a.svs
    size | 4,000 × 3,000 px, pixel size unknown
    patches | boxes of 200 × 200 px every 200 × 100 px
    time | 1.2 s
    """
    (width, height), size = facts["coordinates"]["size"], facts["coordinates"]["pixel_size"]
    if size is None:
        scale = "pixel size unknown"
    else:
        values = dict.fromkeys(f"{size[axis]:.4g}" for axis in "xy")
        scale = f"{' × '.join(values)} µm per px (from the {size['origin']})"
    grid = facts["grid"]
    mpp = f", {grid['mpp']:.4g} µm per written px" if grid["mpp"] else ""
    box, step = (" × ".join(f"{n:,}" for n in grid[key]) for key in ("box", "step"))
    found = [
        ("slide file", facts["path"].replace("\\", "/").rpartition("/")[2]),
        ("size", f"{width:,} × {height:,} px, {scale}"),
        ("patches", f"boxes of {box} px every {step} px{mpp}"),
    ]
    if display is not None:
        found.append(("channels", _channels(facts["channels"]["dtype"], display)))
    if (tissue := facts["tissue"]) is not None:
        found.append(("tissue", _tissue(tissue)))
    if (stain := facts["stain"]) is not None:
        found.append(("stain", _stain(stain)))
    if facts.get("seconds") is not None:
        found.append(("time", f"{facts['seconds']:.1f} s"))
    return found


def _channels(dtype: str, display: Composite) -> str:
    """Return names and display ranges of channels.

    >>> from qupath_bridge.pixels.composite import ChannelDisplay
    >>> shown = ChannelDisplay("DAPI", (0, 0, 255), (12.0, 1234.5))
    >>> _channels("uint16", Composite((shown, shown._replace(name="AF", shown=False))))
    'uint16, in the colours of QuPath: DAPI (12 to 1234), AF (not shown)'
    """
    listed = []
    for number, channel in enumerate(display.channels):
        if number not in display.shown_channels:
            listed.append(f"{channel.name} (not shown)")
        elif channel.range is None:
            listed.append(channel.name)
        else:
            low, high = (f"{value:.4g}" for value in channel.range)
            listed.append(f"{channel.name} ({low} to {high})")
    return f"{dtype}, in the colours of QuPath: {', '.join(listed)}"


def _stain(facts: Mapping[str, Any]) -> str:
    if facts["profile"] is None:
        return f"{facts['method']}: too little tissue, the colours stay as they are"
    parts = [f"{facts['method']}, version {facts['version']}"]
    if facts["white"] is not None:
        parts.append(f"glass {', '.join(f'{value:.0f}' for value in facts['white'])}")
    digest = facts["reference_digest"]
    parts.append("the method's usual colours" if digest is None else f"reference {digest}")
    if facts["augment"]:
        parts.append(f"each patch up to {facts['augment']:.0%} off")
    return ", ".join(parts)


def _tissue(facts: Mapping[str, Any]) -> str:
    parts = [facts["method"], f"{facts['share']:.1%} of the slide"]
    if facts["threshold"] is not None:
        parts.append(f"threshold {facts['threshold']:.3g}")
    if facts["mpp"] is not None:
        parts.append(f"at {facts['mpp']:.3g} µm per px")
    if facts["note"] is not None:
        parts.append(facts["note"])
    return ", ".join(parts)
