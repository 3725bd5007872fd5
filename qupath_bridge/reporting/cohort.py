"""All slides of a run together: sums, quality beside each other, corrections as a matrix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from qupath_bridge.config.quality import QualityRules
from qupath_bridge.patches.confusion import Confusion
from qupath_bridge.pipeline.quality import find_outliers

from .charts import Range
from .summary import NO_LABEL, Histogram, add_histograms
from .views import SlideView

__all__ = ["REASONS", "Matrix", "Measure", "Totals", "matrix_of", "measures_of", "totals_of"]

REASONS: Mapping[str, str] = {
    "rejected": "a pathologist rejected it",
    "edge": "crosses the edge of the image",
    "excluded": "overlaps a class that drops patches, such as Ignore*",
    "outside": "outside the regions that patches must be in",
    "no_tissue": "too little tissue",
    "ambiguous": "the box of several objects of different classes",
    "no_label": "no class has a large enough share",
    "not_sampled": "more than the run takes of a slide or of one of its labels",
    "quality": "outside a quality limit",
}
"""Meaning of each reason."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over all slides."""

    patches: int
    labels: Mapping[str, int]
    colors: Mapping[str, tuple[int, int, int]]
    dropped: Mapping[str, int]
    shares: Mapping[str, Histogram]
    corrections: Mapping[str, int]


def totals_of(slides: Sequence[SlideView]) -> Totals:
    """Add up slides; labels and reasons have most first."""
    labels: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    said: Counter[str] = Counter()
    colors: dict[str, tuple[int, int, int]] = {}
    for slide in slides:
        labels.update(slide.labels)
        dropped.update(slide.dropped)
        colors = {**slide.colors, **colors}
        said.update({k: v for k, v in slide.corrections.items() if isinstance(v, int)})
        said.update({"refused": sum(slide.corrections.get("refused", {}).values())})
    shares: dict[str, Histogram] = {}
    for name in labels:
        total = add_histograms(slide.shares.get(name) for slide in slides)
        if total is not None:
            shares[name] = total
    return Totals(
        sum(slide.patches for slide in slides),
        _by_number(labels),
        colors,
        _by_number(dropped),
        {name: shares[name] for name in _by_number(labels) if name in shares},
        dict(said),
    )


def _by_number(counts: Mapping[str, int]) -> dict[str, int]:
    """Return counts that are not 0, most first, then by name; no label comes last.

    >>> _by_number({"b": 1, "a": 1, "": 9, "c": 0})
    {'a': 1, 'b': 1, '': 9}
    """
    found = ((name, n) for name, n in counts.items() if n)
    return dict(sorted(found, key=lambda item: (item[0] == NO_LABEL, -item[1], item[0])))


@dataclass(frozen=True, slots=True)
class Measure:
    """A quality measure over all slides.

    Attributes
    ----------
    name : str
    rows : tuple of Range
        One per slide, by its median.
    limits : tuple of float
        Limits that the run had.
    """

    name: str
    rows: tuple[Range, ...]
    limits: tuple[float, ...]

    @property
    def far(self) -> tuple[str, ...]:
        """Names of the slides that are far from the others."""
        return tuple(row.text for row in self.rows if row.far)

    def marks(self, anchor: str) -> bool:
        """Return whether a slide is far from the others; several may have one name."""
        return any(row.far and row.anchor == anchor for row in self.rows)


def measures_of(slides: Sequence[SlideView], rules: QualityRules) -> list[Measure]:
    """Return each quality measure over all slides that have it.

    Parameters
    ----------
    slides : sequence of SlideView
    rules : QualityRules
        Of the run.
    """
    outliers = find_outliers((slide.slide_id, slide.quality) for slide in slides)
    far = {(each.measure, each.slide_id) for each in outliers}
    made = []
    for name in sorted({name for slide in slides for name in slide.quality}):
        have = [slide for slide in slides if name in slide.quality]
        have.sort(key=lambda slide: (slide.quality[name]["median"], slide.slide_id))
        rows = [
            Range(
                slide.name,
                found["p5"],
                found["median"],
                found["p95"],
                (name, slide.slide_id) in far,
                slide.anchor,
            )
            for slide in have
            for found in [slide.quality[name]]
        ]
        limits = [limit[name] for limit in (rules.least, rules.most) if name in limit]
        made.append(Measure(name, tuple(rows), tuple(limits)))
    return made


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rule against pathologist.

    Attributes
    ----------
    columns : tuple of str
        What pathologists said; :data:`REJECTED` is the last one if it is there.
    rows : tuple of (str, tuple of int)
        What the rule says, and the number of patches per column.
    agreed, looked_at : int
        Patches on which both agree, and all.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[int, ...]], ...]
    agreed: int
    looked_at: int


REJECTED = "rejected"
NOTHING = "no label"


def matrix_of(confusions: Iterable[Confusion]) -> Matrix | None:
    """Return rule against pathologist as a table; None if nobody looked at a patch.

    >>> said = [("A", "confirmed", "A", 5), ("A", "corrected", "B", 2), ("B", "rejected", None, 1)]
    >>> matrix = matrix_of(Confusion(*each) for each in said)
    >>> matrix.columns, matrix.rows, matrix.agreed, matrix.looked_at
    (('A', 'B', 'rejected'), (('A', (5, 2, 0)), ('B', (0, 0, 1))), 5, 8)
    """
    cells: Counter[tuple[str, str, bool]] = Counter()
    for one in confusions:
        rejected = one.kind == "rejected"
        said = REJECTED if rejected else _word(one.pathologist)
        cells[_word(one.rule), said, rejected] += one.patches
    if not cells:
        return None
    rules = {rule for rule, *_ in cells}
    words = sorted(rules | {said for _, said, rejected in cells if not rejected})
    columns = [(word, False) for word in words]
    if any(rejected for *_, rejected in cells):
        columns.append((REJECTED, True))
    rows = tuple(
        (rule, tuple(cells[rule, word, rejected] for word, rejected in columns))
        for rule in sorted(rules)
    )
    agreed = sum(n for (rule, said, rejected), n in cells.items() if rule == said and not rejected)
    return Matrix(tuple(word for word, _ in columns), rows, agreed, sum(cells.values()))


def _word(label: str | tuple[str, ...] | None) -> str:
    if isinstance(label, tuple):
        return ", ".join(label) or NOTHING
    return label or NOTHING
