"""Declaration of an option: its default, its help, and the kind of part that it names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import AfterValidator, Field

from qupath_bridge import registry
from qupath_bridge.errors import UsageError
from qupath_bridge.suggestions import similar_value


@dataclass(frozen=True)
class Part:
    """Accepts the name of an exchangeable part, with ``NAME:ARGUMENT`` where that is allowed."""

    kind: str
    besides: tuple[str, ...] = ()
    argument: bool = False

    def __call__(self, value: str) -> str:
        """Return the value, or raise ValueError with the names that are known."""
        name = registry.split_argument(value)[0] if self.argument else value
        if value not in self.besides:
            try:
                registry.check(self.kind, name)
            except UsageError as error:
                known = self.names()
                close = similar_value(name, known)
                meant = f"; did you mean {close}?" if close else ""
                raise ValueError(
                    f"no {self.kind} is called {name!r}; known: {', '.join(known)}{meant}"
                ) from error
        return value

    def names(self) -> tuple[str, ...]:
        """Return every name that is accepted."""
        return (*self.besides, *registry.names(self.kind))


def part(kind: str, *, besides: Sequence[str] = (), argument: bool = False) -> AfterValidator:
    """Return the check of an option that names a part; see :class:`Part`."""
    return AfterValidator(Part(kind, tuple(besides), argument))


def choices_of(field: Any) -> tuple[str, ...]:
    """Return the values of an option that has a fixed list of them; empty for any other."""
    kinds = (field.annotation, *get_args(field.annotation))  # it may be Literal, or None
    return next((get_args(kind) for kind in kinds if get_origin(kind) is Literal), ())


def option(default: Any, description: str, *, show: str | None = None, **rest: Any) -> Any:
    """Declare an option: its default, what help says, and how its value is shown (``N``, ...)."""
    return Field(default=default, description=description, json_schema_extra={"show": show}, **rest)
