"""Labels of whole slides, from their metadata."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from qupath_bridge.config import ExportConfig
from qupath_bridge.errors import ConfigError, Fault, PlanError
from qupath_bridge.model import LabelRule, Slide
from qupath_bridge.patches.roles import label_of
from qupath_bridge.sources.lookup import instead

__all__ = ["check_label_key", "has_no_drawing", "label_names", "metadata_values", "slide_rule"]


def slide_rule(slide: Slide, config: ExportConfig) -> LabelRule:
    """Return the label rule of a slide: with its own label where the configuration wants one.

    ``map`` renames the value as it renames a class. Patches of a slide on which nobody can have
    drawn have no label, and are all kept.

    Raises
    ------
    PlanError
        If the slide has no such metadata.
    """
    rule, key = config.label_rule(), config.label_key
    if key is None:
        return replace(rule, labels=False) if has_no_drawing(slide, config) else rule
    value = slide.metadata.get(key, "").strip()
    if not value:
        raise PlanError(
            f"{slide.name}: no metadata {key}, which is to label its patches.",
            hint="Give it a value in QuPath or in the table, or select other slides.",
        )
    return replace(rule, slide_label=label_of(value, rule))


def has_no_drawing(slide: Slide, config: ExportConfig) -> bool:
    """Return whether nothing can label a slide: no project, no GeoJSON, no background label."""
    source = slide.project.source
    drawn = source is not None and source.annotations is not None
    return (
        slide.project.plain
        and not drawn
        and config.label_key is None
        and config.background == "drop"
    )


def metadata_values(slides: Iterable[Slide], config: ExportConfig) -> tuple[str, ...]:
    """Return the values that label slides, sorted; empty where regions label."""
    key = config.label_key
    if key is None:
        return ()
    return tuple(sorted({v for slide in slides if (v := slide.metadata.get(key, "").strip())}))


def label_names(slides: Iterable[Slide], config: ExportConfig) -> tuple[str, ...]:
    """Return the labels of slides, sorted, as ``map`` names them; empty where regions label."""
    rule = config.label_rule()
    return tuple(sorted({label_of(value, rule) for value in metadata_values(slides, config)}))


def check_label_key(slides: Sequence[Slide], config: ExportConfig) -> None:
    """Refuse metadata that no slide has; a slide that lacks it fails alone.

    Raises
    ------
    ConfigError
        It names the metadata that there are.
    """
    if config.label_key is None or not slides or metadata_values(slides, config):
        return
    known = sorted({key for slide in slides for key in slide.metadata})
    raise ConfigError(
        [
            Fault(
                "label_from",
                f"no slide has metadata named {config.label_key!r}"
                f"{instead(config.label_key, known)}",
            )
        ],
        hint="A table can give it: the option metadata.",
    )
