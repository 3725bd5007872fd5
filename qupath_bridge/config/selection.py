"""Options that select slides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from .base import Model
from .declare import option
from .values import NO_PAIRS, Conditions, Strings


class Selection(Model):
    """Options that select slides. Without any, all slides take part.

    Raises
    ------
    ConfigError
        With every fault and its place.
    """

    groups: ClassVar[Mapping[str, tuple[str, ...]]] = {"slides": ("entry", "where", "tag")}

    entry: Strings = option(
        (),
        "entry ID, slide name or glob over names; id:1 and name:1 say which is meant; may be "
        "repeated",
        show="SLIDE",
    )
    where: Conditions = option(
        NO_PAIRS,
        "metadata that a slide must have; globs are allowed, several values of one key are "
        "alternatives, and different keys must all fit",
        show="KEY=VALUE",
    )
    tag: Strings = option((), "tag that a slide must have; may be repeated", show="TAG")
