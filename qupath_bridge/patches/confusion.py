"""Result of the corrections of a slide: counts, contested boxes, rule against pathologist."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from qupath_bridge.frozen import FrozenDict, OneLine, count
from qupath_bridge.model import Box, Plane

from . import ids
from .correcting import Statement, Statements

__all__ = [
    "NO_CORRECTIONS",
    "Confusion",
    "CorrectionReport",
    "Heard",
    "add_confusions",
    "read_confusion",
    "report_corrections",
]

Label = str | tuple[str, ...] | None


class Confusion(NamedTuple):
    """One pair of words, rule against pathologist, and the number of patches.

    Attributes
    ----------
    rule : str, tuple of str or None
        What the rule says; a list under multi-label rules, None without a label.
    kind : str
        ``confirmed``, ``corrected`` or ``rejected``.
    pathologist : str, tuple of str or None
        What the pathologist says; the rule's own word where it was confirmed, None for no label
        and for ``rejected``.
    patches : int
    """

    rule: Label
    kind: str
    pathologist: Label
    patches: int

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        values = self._asdict()
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


class Heard(NamedTuple):
    """A statement about a box of the grid, met while planning.

    ``labels`` are the rule's own, and ``applied`` is False where the box is dropped for another
    reason whatever was said.
    """

    statement: Statement
    labels: tuple[str, ...]
    applied: bool


@dataclass(frozen=True, slots=True, repr=False)
class CorrectionReport(OneLine):
    """Result of the corrections of a slide.

    Attributes
    ----------
    corrected, confirmed, rejected : int
        Boxes to which a statement applies, by its kind.
    dropped : int
        Corrected or confirmed boxes that are dropped for another reason.
    other_grid, other_slide : int
        Boxes that this grid lacks; boxes of another slide file.
    refused : mapping of str to int
        Boxes by class that cannot be a label.
    contested : tuple of (Box, Plane)
        Boxes of which the rule says something else than when the statement was made. The
        statement still applies.
    confusion : tuple of Confusion
        Rule against pathologist, over all statements that apply.
    digest : str or None
        Of everything that changes a patch; None if nothing does.
    """

    corrected: int = 0
    confirmed: int = 0
    rejected: int = 0
    dropped: int = 0
    other_grid: int = 0
    other_slide: int = 0
    refused: Mapping[str, int] = FrozenDict()
    contested: tuple[tuple[Box, Plane], ...] = ()
    confusion: tuple[Confusion, ...] = ()
    digest: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "refused", FrozenDict(self.refused))

    @property
    def warnings(self) -> tuple[str, ...]:
        """Notes about statements that do not apply."""
        notes = []
        if self.refused:
            shown = ", ".join(f"{name} ({n})" for name, n in sorted(self.refused.items()))
            notes.append(f"corrections with a class that cannot be a label: {shown}; not applied.")
        if self.other_slide:
            notes.append(
                f"{self.other_slide} corrections were made on another slide file; not applied."
            )
        if self.other_grid:
            notes.append(
                f"{count(self.other_grid, 'correction')} of boxes that this grid does not have: "
                "another size, resolution or place; not applied."
            )
        return tuple(notes)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON values, the contested boxes as their number."""
        return {
            "corrected": self.corrected,
            "confirmed": self.confirmed,
            "rejected": self.rejected,
            "contested": len(self.contested),
            "dropped": self.dropped,
            "other_grid": self.other_grid,
            "other_slide": self.other_slide,
            "refused": dict(sorted(self.refused.items())),
            "confusion": [one.as_json() for one in self.confusion],
            "digest": self.digest,
        }


NO_CORRECTIONS = CorrectionReport()


def report_corrections(
    statements: Statements, heard: Iterable[Heard], *, multi: bool
) -> CorrectionReport:
    """Sum up what became of statements.

    Parameters
    ----------
    statements : Statements
        All of the slide.
    heard : iterable of Heard
        Those about boxes of the grid.
    multi : bool
        Whether labels are lists.
    """
    kinds: Counter[str] = Counter()
    pairs: Counter[tuple[Label, str, Label]] = Counter()
    contested, deciding = [], []
    listed = list(heard)
    for said, labels, applied in listed:
        if said.kind != "confirmed":
            deciding.append([*said.box, *said.plane, said.kind, list(said.labels)])
        if not applied:
            kinds["dropped"] += 1
            continue
        kinds[said.kind] += 1
        if set(labels) != set(said.rule_labels):
            contested.append((said.box, said.plane))
        words = labels if said.kind == "confirmed" else said.labels
        pairs[_label(labels, multi), said.kind, _label(words, multi)] += 1
    return CorrectionReport(
        corrected=kinds["corrected"],
        confirmed=kinds["confirmed"],
        rejected=kinds["rejected"],
        dropped=kinds["dropped"],
        other_grid=len(statements.each) - len(listed),
        other_slide=statements.other_slide,
        refused=statements.refused,
        contested=tuple(sorted(contested, key=lambda place: (place[1], place[0].y, place[0].x))),
        confusion=add_confusions(Confusion(*pair, number) for pair, number in pairs.items()),
        digest=ids.json_digest({"corrections": sorted(deciding)}) if deciding else None,
    )


def add_confusions(confusions: Iterable[Confusion]) -> tuple[Confusion, ...]:
    """Add up the patches of each pair of words, and sort the pairs.

    >>> add_confusions([Confusion("A", "corrected", "B", 1), Confusion("A", "corrected", "B", 2)])
    (Confusion(rule='A', kind='corrected', pathologist='B', patches=3),)
    """
    total: Counter[tuple[Label, str, Label]] = Counter()
    for rule, kind, pathologist, patches in confusions:
        total[rule, kind, pathologist] += patches
    made = (Confusion(*words, patches) for words, patches in total.items())
    return tuple(
        sorted(made, key=lambda one: (_order(one.rule), one.kind, _order(one.pathologist)))
    )


def read_confusion(values: Mapping[str, Any]) -> Confusion:
    """Return the value of :meth:`Confusion.as_json`."""
    rule, pathologist = (
        tuple(label) if isinstance(label, list) else label
        for label in (values["rule"], values["pathologist"])
    )
    return Confusion(rule, values["kind"], pathologist, values["patches"])


def _order(label: Label) -> tuple[str, ...]:
    return (label,) if isinstance(label, str) else label or ()


def _label(labels: Sequence[str] | None, multi: bool) -> Label:
    if not labels:
        return None
    return tuple(labels) if multi else labels[0]
