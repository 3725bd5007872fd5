"""Quality measures that an export takes, and their limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from qupath_bridge import registry
from qupath_bridge.errors import UsageError
from qupath_bridge.frozen import FrozenDict

__all__ = ["KEPT_RAW", "PRESETS", "QC_PREFIX", "QualityRules"]

QC_PREFIX = "qc_"
KEPT_RAW = "stain_kept_raw"
"""Column that is true where stain normalisation left a patch as it was, with too little stain."""


@dataclass(frozen=True, slots=True)
class QualityRules:
    """Measures of every patch, by name in order, and the limits of some of them.

    Attributes
    ----------
    measures : tuple of str
    least, most : mapping of str to float
        A patch whose value is below the least or above the most one, or no number, is dropped.
    """

    measures: tuple[str, ...] = ()
    least: Mapping[str, float] = FrozenDict()
    most: Mapping[str, float] = FrozenDict()

    @classmethod
    def of(
        cls, names: Iterable[str], least: Mapping[str, float], most: Mapping[str, float]
    ) -> QualityRules:
        """Return the rules of three options: measures or presets, and limits of one's own.

        A limit of one's own takes the place of that of a preset. An unknown measure, or limits
        that leave no value, are a ``ValueError`` that names the option.
        """
        names = tuple(names)
        measures = {*least, *most}
        low: dict[str, float] = {}
        high: dict[str, float] = {}
        for name in names:
            preset = PRESETS.get(name)
            if preset is None:
                measures.add(name)
                continue
            measures.update(preset.measures)
            low.update(preset.least)
            high.update(preset.most)
        low.update(least)
        high.update(most)
        for name in sorted(measures):
            option = "qc" if name in names else "qc_min" if name in least else "qc_max"
            try:
                registry.check("quality", name)
            except UsageError as error:
                known = ", ".join(
                    [*registry.names("quality"), *(PRESETS if option == "qc" else ())]
                )
                raise ValueError(
                    f"{option} names no quality measure: {name!r}; known: {known}"
                ) from error
            if name in low and name in high and low[name] > high[name]:
                raise ValueError(
                    f"{option} leaves no patch: {name} is at least {low[name]:g} and at most "
                    f"{high[name]:g}"
                )
        return cls(tuple(sorted(measures)), FrozenDict(low), FrozenDict(high))

    def columns(self) -> tuple[str, ...]:
        """Return the columns of the index that hold the measures."""
        return tuple(f"{QC_PREFIX}{name}" for name in self.measures)

    def as_json(self) -> dict[str, Any]:
        """Return the rules as plain JSON values."""
        return {
            "measures": list(self.measures),
            "least": dict(self.least),
            "most": dict(self.most),
        }


_STANDARD = ("blank", "dark", "focus", "pen")

PRESETS: Mapping[str, QualityRules] = FrozenDict(
    {
        "standard": QualityRules(_STANDARD),
        "clean": QualityRules(
            _STANDARD,
            FrozenDict({"focus": 0.05}),
            FrozenDict({"blank": 0.9, "dark": 0.3, "pen": 0.05}),
        ),
    }
)
"""Names that stand for several measures, with limits or without."""
