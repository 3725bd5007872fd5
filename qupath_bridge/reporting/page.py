"""The page: templates filled with views. Nothing in it is loaded from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from qupath_bridge._version import __version__
from qupath_bridge.config import ExportConfig
from qupath_bridge.frozen import count, escape_controls
from qupath_bridge.patches.confusion import Confusion

from . import charts
from .charts import Bar
from .cohort import REASONS, Totals, matrix_of, measures_of, totals_of
from .gather import RunFacts
from .links import Links
from .summary import NO_LABEL, add_histograms
from .views import SlideView

__all__ = ["GENERATOR", "page_policy", "render_page", "style_and_script"]

GENERATOR = "qupath-bridge report"
"""The maker that a page names, so that a new one may replace it, and nothing else."""

OPEN_SLIDES = 3
"""Up to so many slides are shown open."""


def render_page(
    run: RunFacts,
    slides: Sequence[SlideView],
    confusions: Sequence[Confusion],
    links: Links,
    *,
    title: str,
    made: str,
) -> str:
    """Return the page of a run.

    Parameters
    ----------
    run : RunFacts
    slides : sequence of SlideView
    confusions : sequence of Confusion
        Rule against pathologist, over all slides.
    links : Links
    title : str
        What the output is called.
    made : str
        Time of the page, ISO 8601.
    """
    totals = totals_of(slides)
    style, script = _resource("style.css"), _resource("script.js")
    labels = {name: number for number, name in enumerate(totals.labels)}
    reasons = {name: number for number, name in enumerate(totals.dropped)}
    return (
        _environment()
        .get_template("page.html")
        .render(
            generator=GENERATOR,
            version=__version__,
            title=title,
            made=made,
            style=Markup(style),  # noqa: S704  # a file of this package
            script=Markup(script),  # noqa: S704
            policy=page_policy(),
            run=run,
            record=run.record,
            asked=_asked(run.config),
            slides=slides,
            opened=len(slides) <= OPEN_SLIDES,
            totals=totals,
            labelled=bool(set(totals.labels) - {NO_LABEL}),
            states=_states(slides),
            label_numbers=labels,
            reason_numbers=reasons,
            charts=_overview(totals),
            slide_charts={slide.anchor: _slide_charts(slide) for slide in slides},
            measures=measures_of(slides, run.config.quality_rules()),
            matrix=matrix_of(confusions),
            reasons=REASONS,
            chosen=_chosen(run.config),
            left=_left(run.config),
            files=_files(links),
        )
    )


@cache
def style_and_script() -> tuple[str, str]:
    """Return the hashes of the style and the script of a page, as security policies name them."""

    def digest(name: str) -> str:
        content = hashlib.sha256(_resource(name).encode()).digest()
        return f"'sha256-{base64.b64encode(content).decode()}'"

    return digest("style.css"), digest("script.js")


def page_policy() -> str:
    """Return the security policy of a page: its own style and script, its own pictures."""
    style, script = style_and_script()
    return (
        f"default-src 'none'; img-src data:; style-src {style}; script-src {script}; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def _resource(name: str) -> str:
    return (files(__package__) / "templates" / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_resource),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=charts.number, label=_label, percent=_percent)
    environment.globals.update(ranges=charts.ranges, strip=_strip, swatch=charts.swatch)
    return environment


def _finalize(value: Any) -> Any:
    """Escape signs that steer in every text from outside, before HTML is escaped."""
    if value is None:
        return ""
    if isinstance(value, str) and not isinstance(value, Markup):
        return escape_controls(value)
    return value


def _label(name: str) -> str:
    """Return a label as people read it."""
    return "no label" if name == NO_LABEL else name


def _percent(part: float, whole: float) -> str:
    """Return a share in percent.

    >>> _percent(1, 3), _percent(0, 0)
    ('33 %', '–')
    """
    return f"{part / whole:.0%}".replace("%", " %") if whole else "–"


def _states(slides: Sequence[SlideView]) -> dict[str, int]:
    states = [slide.state for slide in slides]
    return {name: states.count(name) for name in ("done", "failed", "waiting", "damaged")}


def _asked(config: ExportConfig) -> str:
    """Return in one line what the run was asked to make."""
    if config.mpp is not None:
        scale = f"at {config.mpp:g} µm per px"
    elif config.magnification is not None:
        scale = f"at {config.magnification:g}×"
    else:
        scale = "at full resolution"
    by = (
        "of their objects" if config.placement().kind == "objects" else f"by the rule {config.rule}"
    )
    labels = f"labels {by}" if config.labels else "without labels"
    more = [
        f"tissue: {config.tissue}" if config.tissue != "none" else "",
        f"stain: {config.stain}" if config.stain != "none" else "",
    ]
    sized = config.placement().margin is not None
    side = "as large as their objects" if sized else f"of {config.size} px"
    return ", ".join([f"Patches {side} {scale}", labels, *filter(None, more)])


def _left(config: ExportConfig) -> dict[str, Any]:
    """Return the options that were left at their defaults."""
    chosen = _chosen(config)
    return {name: value for name, value in config.as_json().items() if name not in chosen}


def _chosen(config: ExportConfig) -> dict[str, Any]:
    """Return the options that differ from their defaults."""
    defaults = ExportConfig().as_json()
    return {k: v for k, v in config.as_json().items() if v != defaults.get(k)}


def _files(links: Links) -> list[tuple[str, str]]:
    names = ("patches/", "index.csv", "report.json", "run.json")
    found = ((name, links.to(name)) for name in names)
    return [(name, address) for name, address in found if address]


def _overview(totals: Totals) -> dict[str, Any]:
    return {
        "labels": charts.bars("Patches by label", _label_bars(totals.labels, totals.colors)),
        "dropped": charts.bars(
            "Boxes not written, by reason", [Bar(name, n) for name, n in totals.dropped.items()]
        ),
        "shares": [
            (name, charts.histogram_chart(f"Label share, {_label(name)}", counts,
                                          totals.colors.get(name)))
            for name, counts in totals.shares.items()
        ],
    }  # fmt: skip


def _slide_charts(slide: SlideView) -> dict[str, Any]:
    shares = add_histograms(slide.shares.values())
    return {
        "labels": charts.bars("Patches by label", _label_bars(slide.labels, slide.colors)),
        "dropped": charts.bars(
            "Boxes not written, by reason", [Bar(name, n) for name, n in slide.dropped.items()]
        ),
        "shares": shares and charts.histogram_chart("Label share", shares),
        "tissue": slide.tissue_shares
        and charts.histogram_chart("Tissue share", slide.tissue_shares),
    }


def _label_bars(labels: Mapping[str, int], colors: Mapping[str, Any]) -> list[Bar]:
    return [Bar(_label(name), n, colors.get(name)) for name, n in labels.items()]


def _strip(slide: SlideView) -> Markup:
    """Return the small bar of a slide: its labels side by side."""
    return charts.strip(
        f"Labels of {count(slide.patches, 'patch', 'patches')}",
        _label_bars(slide.labels, slide.colors),
    )
