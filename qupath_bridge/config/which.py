"""Checks of the options that say which patches, where their values do not go together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .export import ExportConfig

__all__ = ["which_problems"]


def which_problems(config: ExportConfig) -> Iterator[str]:
    """Yield what is wrong, in words.

    >>> from qupath_bridge.config import ExportConfig
    >>> list(which_problems(ExportConfig(max_per_slide=9, seed=3)))
    []
    """
    yield from _sampling_problems(config)


def _changed(config: ExportConfig, name: str) -> bool:
    return bool(getattr(config, name) != type(config).model_fields[name].default)


def _sampling_problems(config: ExportConfig) -> Iterator[str]:
    limited = config.sampling().limits
    if not limited and _changed(config, "sample"):
        yield "sample needs a limit: max_per_label or max_per_slide"
    if _changed(config, "seed") and (not limited or config.sample != "random"):
        yield "seed needs sample = random, and a limit: max_per_label or max_per_slide"
    if config.max_per_label is not None and not config.labels:
        yield "max_per_label counts labels, and there are none with labels = false"
