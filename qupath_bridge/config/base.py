"""Base of the models of options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import pydantic
from pydantic import BaseModel, ConfigDict

from qupath_bridge.errors import ConfigError
from qupath_bridge.frozen import one_line

from .faults import fault_of, placed
from .tables import flatten, value_faults


class Model(BaseModel):
    """Values that are checked once and never change; a fault is always a ConfigError."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True, validate_default=False
    )
    groups: ClassVar[Mapping[str, tuple[str, ...]]]
    """Names of the options by the table of a TOML file in which they may stand."""
    places: ClassVar[bool] = False
    """True if its texts are names of files, which need not be UTF-8."""

    def __init__(self, **values: Any) -> None:
        flat, places, faults = flatten(values, self.groups)
        unfit = list(value_faults(flat, type(self).model_fields, places=type(self).places))
        faults += [placed(fault, places) for fault in unfit]
        wrong = {fault.place for fault in unfit}
        try:
            super().__init__(**{name: flat[name] for name in flat if name not in wrong})
        except pydantic.ValidationError as error:
            found = [fault_of(detail, type(self).model_fields) for detail in error.errors()]
            faults += [placed(fault, places) for fault in found]
        if faults:
            raise ConfigError(faults)

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, source: str = "") -> Self:
        """Check values and return them as options, or raise with every fault at once.

        Parameters
        ----------
        values : mapping
            Option names to values; groups as in a TOML file (``[labels]``) may stand as tables.
        source : str
            What the values come from, put before the place of each fault.

        Raises
        ------
        ConfigError
        """
        try:
            return cls(**values)
        except ConfigError as error:
            raise error.within(source) from None

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some values changed, checked again."""
        return type(self)(**{**self.model_dump(exclude_unset=True), **changes})

    def as_json(self) -> dict[str, Any]:
        """Return all values as plain JSON values."""
        return self.model_dump(mode="json")

    def __repr__(self) -> str:
        """Return one line with the values that are not the default ones."""
        fields = type(self).model_fields
        values = {name: getattr(self, name) for name in fields}
        changed = {name: v for name, v in values.items() if v != fields[name].default}
        return one_line(type(self).__name__, **changed)

    __str__ = __repr__
