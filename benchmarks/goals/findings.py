"""A measured number beside its goal."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Attributes
    ----------
    name : str
    value : float or None
        None if it could not be measured; ``note`` says why.
    unit : str
    goal : float or None
        None for a number that is shown beside others, without a goal of its own.
    at_most : bool
        Whether the value may not pass the goal; otherwise it must reach it.
    note : str
    numbers : dict
        What the value was made from, for the JSON file.
    """

    name: str
    value: float | None
    unit: str = ""
    goal: float | None = None
    at_most: bool = False
    note: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)

    @property
    def held(self):
        """Return whether the goal holds; None without a goal or a value."""
        if self.goal is None or self.value is None:
            return None
        return self.value <= self.goal if self.at_most else self.value >= self.goal

    @property
    def state(self):
        """Return the word for the table."""
        if self.value is None:
            return "not measured"
        return {True: "held", False: "NOT HELD", None: "-"}[self.held]

    def shown(self):
        """Return value and goal as text."""
        value = "-" if self.value is None else f"{_short(self.value)}{self.unit}"
        sign = "<=" if self.at_most else ">="
        goal = "" if self.goal is None else f"{sign} {_short(self.goal)}{self.unit}"
        return value, goal

    def record(self):
        """Return the finding as JSON writes it."""
        return {**asdict(self), "held": self.held}


def _short(value):
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) < 0.01:
        return f"{value:.0e}"
    return f"{value:.2f}"
