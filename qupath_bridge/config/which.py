"""Checks of the options that say which patches, where their values do not go together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .export import ExportConfig

__all__ = ["KINDS", "which_problems"]

KINDS = ("annotations", "detections", "cells", "points")
"""Objects around which patches can be made; cells are detections, too."""


def which_problems(config: ExportConfig) -> Iterator[str]:
    """Yield what is wrong, in words.

    >>> from qupath_bridge.config import ExportConfig
    >>> list(which_problems(ExportConfig(max_per_slide=9, seed=3)))
    []
    """
    yield from _placement_problems(config)
    yield from _sampling_problems(config)


def _changed(config: ExportConfig, name: str) -> bool:
    return bool(getattr(config, name) != type(config).model_fields[name].default)


def _placement_problems(config: ExportConfig) -> Iterator[str]:
    spec = config.placement()
    if config.around and config.per_region != "none":
        yield "around and per_region exclude each other; give one of them"
    for name in config.around:
        kind, colon, path = name.partition(":")
        if kind not in KINDS or (colon and not path.strip()):
            listed = f"{', '.join(KINDS[:-1])} or {KINDS[-1]}"
            yield f"around is {listed}, or one of them and a class, as cells:Tumor, not {name!r}"
    if config.margin is not None and spec.kind != "objects":
        yield "margin needs around, or per_region = picture"
    unused = {
        "grid": (),
        "regions": ("origin",),
        "objects": ("origin", "stride", "rule", "min_share", "overlap", "priority"),
    }[spec.kind]
    unused += ("size",) if spec.margin is not None else ()
    changed = [name for name in unused if _changed(config, name)]
    chosen = "around" if config.around else f"per_region = {config.per_region}"
    if changed:
        them = "it" if len(changed) == 1 else "them"
        yield f"{chosen} would not use {', '.join(changed)}; leave {them} out"
    if spec.margin is not None and config.format == "raw":
        yield (
            f"container {config.container} holds patches of one size, and {chosen}"
            f"{' with margin' if config.around else ''} makes each as large as its object; choose "
            "a container of files, as folder or tar"
        )


def _sampling_problems(config: ExportConfig) -> Iterator[str]:
    limited = config.sampling().limits
    if not limited and _changed(config, "sample"):
        yield "sample needs a limit: max_per_label or max_per_slide"
    if _changed(config, "seed") and (not limited or config.sample != "random"):
        yield "seed needs sample = random, and a limit: max_per_label or max_per_slide"
    if config.max_per_label is not None and not config.labels:
        yield "max_per_label counts labels, and there are none with labels = false"
