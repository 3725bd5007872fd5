"""Every option as its model declares it, for flags, help texts and files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qupath_bridge import registry
from qupath_bridge.frozen import OneLine

from .base import Model
from .declare import Part, choices_of
from .export import ExportConfig
from .running import RunOptions
from .selection import Selection

MODELS: tuple[type[Model], ...] = (Selection, ExportConfig, RunOptions)
"""All models, in the order in which help and files show them."""


@dataclass(frozen=True, slots=True, repr=False)
class Option(OneLine):
    """One option as its model declares it: for flags, help texts and files.

    ``choices`` is empty where any value of the type is accepted; ``show`` is how help writes the
    value; ``kind`` is ``flag``, ``number``, ``integer``, ``path`` or ``text``; ``part`` is the
    kind of exchangeable part that the option names, None if it names none.
    """

    name: str
    group: str
    description: str
    default: Any
    kind: str
    show: str
    choices: tuple[str, ...]
    repeated: bool
    part: str | None = None

    def names(self) -> tuple[str, ...]:
        """Return the names that the option accepts; empty where it accepts any value."""
        if self.part is None:
            return self.choices
        return (*self.choices, *registry.names(self.part))


def options() -> Iterator[Option]:
    """Yield every option, in the order of the models and their groups."""
    for model in MODELS:
        for group, names in model.groups.items():
            for name in names:
                yield _describe(name, group, model.model_fields[name])


def _describe(name: str, group: str, field: Any) -> Option:
    annotation, default = field.annotation, field.default
    choices = choices_of(field)
    checks = [getattr(each, "func", None) for each in field.metadata]
    part = next((check for check in checks if isinstance(check, Part)), None)
    kinds = {bool: "flag", int: "integer", float: "number", Path: "path"}
    plain = next((k for k in (annotation, *getattr(annotation, "__args__", ())) if k in kinds), str)
    repeated = isinstance(default, tuple | Mapping) and name not in {"origin", "priority"}
    return Option(
        name=name,
        group=group,
        description=field.description,
        default=default,
        kind="text" if repeated or isinstance(default, tuple) else kinds.get(plain, "text"),
        show=(field.json_schema_extra or {}).get("show") or "|".join(choices) or name.upper(),
        choices=part.besides if part else choices,
        repeated=repeated,
        part=part.kind if part else None,
    )
