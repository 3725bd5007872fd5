"""Quality measures of whole slides: a summary of each, and the slides that stand out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from qupath_bridge.config.quality import QC_PREFIX
from qupath_bridge.frozen import OneLine
from qupath_bridge.model import FloatArray

__all__ = ["QualityOutlier", "find_outliers", "summarise"]

PERCENTILES = {"p5": 5, "median": 50, "p95": 95}
FAR = 3.5
"""Robust standard deviations from the median of the cohort beyond which a slide stands out."""
FEWEST = 5
"""Slides of which a cohort has to consist."""
_DIGITS = 6
_STANDARD_DEVIATION = 1.4826  # in median absolute deviations, of a normal distribution
_LEAST_SPREAD = 0.05  # of the cohort's median: smaller differences matter to nobody
_LEAST_SHARE = 0.005  # the same of measures whose median is near 0, as that of pen


def summarise(columns: Mapping[str, FloatArray]) -> dict[str, dict[str, float]]:
    """Return median, 5 % and 95 % of the measures of a slide, and the number of patches.

    Parameters
    ----------
    columns : mapping of str to array, shape (N,)
        Values of all patches that were read, also of those that a limit dropped, by the name of
        the column; only ``qc_<measure>`` counts. Values that are not finite take no part.

    Returns
    -------
    dict of str to dict
        By the name of the measure; without those that have no value.
    """
    found = {}
    for column, values in columns.items():
        values = values[np.isfinite(values)]
        if column.startswith(QC_PREFIX) and len(values):
            marks = np.percentile(values, list(PERCENTILES.values())).round(_DIGITS).tolist()
            named = dict(zip(PERCENTILES, marks, strict=True))
            found[column.removeprefix(QC_PREFIX)] = {**named, "patches": len(values)}
    return found


@dataclass(frozen=True, slots=True, repr=False)
class QualityOutlier(OneLine):
    """A slide whose median of a measure is far from those of the other slides.

    Attributes
    ----------
    slide_id, measure : str
    median, cohort : float
        Median over the patches of the slide, and median of these over all slides.
    distance : float
        From the cohort, in robust standard deviations; negative below it.
    """

    slide_id: str
    measure: str
    median: float
    cohort: float
    distance: float

    def as_json(self) -> dict[str, Any]:
        """Return the values as JSON."""
        return {
            "slide_id": self.slide_id,
            "measure": self.measure,
            "median": self.median,
            "cohort": self.cohort,
            "distance": self.distance,
        }


def find_outliers(
    summaries: Iterable[tuple[str, Mapping[str, Mapping[str, float]]]],
) -> tuple[QualityOutlier, ...]:
    """Return the slides that stand out, by measure, the farthest first.

    A slide stands out if its median is more than 3.5 robust standard deviations (1.4826 times
    the median absolute deviation of all slides, at least 5 % of their median and 0.005) from the
    median of all slides. Of less than 5 slides none does.

    Parameters
    ----------
    summaries : iterable of (str, mapping)
        Slide ids, and what :func:`summarise` says of each slide.
    """
    medians: dict[str, dict[str, float]] = {}
    for slide_id, measures in summaries:
        for measure, summary in measures.items():
            medians.setdefault(measure, {})[slide_id] = summary["median"]
    found = []
    for measure, by_slide in sorted(medians.items()):
        if len(by_slide) < FEWEST:
            continue
        values = np.array(list(by_slide.values()))
        cohort = float(np.median(values))
        spread = _STANDARD_DEVIATION * float(np.median(np.abs(values - cohort)))
        spread = max(spread, _LEAST_SPREAD * abs(cohort), _LEAST_SHARE)
        outliers = [
            QualityOutlier(slide_id, measure, value, cohort, round((value - cohort) / spread, 2))
            for slide_id, value in by_slide.items()
            if abs(value - cohort) > FAR * spread
        ]
        found += sorted(outliers, key=lambda each: (-abs(each.distance), each.slide_id))
    return tuple(found)
