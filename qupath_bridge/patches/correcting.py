"""Corrections in a plan: which statements apply to a slide, and the labels that they give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qupath_bridge.frozen import FrozenDict, OneLine
from qupath_bridge.model import CLASS_SEPARATOR, Box, IntArray, LabelRule, Plane

from .boxes import PatchBoxes
from .corrections import Correction, CorrectionKind, latest_corrections
from .labels import Decision, add_background, single_label
from .roles import label_ranks, role_of
from .table import LABEL_SOURCES, Ragged

__all__ = [
    "NO_STATEMENTS",
    "BoxStatements",
    "Statement",
    "Statements",
    "label_of_class",
    "overrule",
    "read_statements",
    "split_labels",
]

Labels = tuple[str, ...] | None
CORRECTED = LABEL_SOURCES.index("corrected")


class Statement(NamedTuple):
    """A correction of one box, in the labels of a run.

    ``labels`` are those that it gives; empty for no label, and for kinds other than
    ``corrected``. ``rule_labels`` are those that the person saw the rule give.
    """

    kind: CorrectionKind
    box: Box
    plane: Plane
    labels: tuple[str, ...]
    rule_labels: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Statements(OneLine):
    """The statements about boxes of one slide, one per box, and those that do not apply to it.

    Attributes
    ----------
    each : tuple of Statement
        Sorted by plane, y, x.
    other_slide : int
        Boxes whose statement was made about another slide file.
    refused : mapping of str to int
        Number of boxes by class that cannot be a label, as ``Region*``.
    places : array, shape (N, 6), int64
        x, y, width, height, z, t of each.
    """

    each: tuple[Statement, ...] = ()
    other_slide: int = 0
    refused: Mapping[str, int] = FrozenDict()
    places: IntArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        numbers = (number for one in self.each for number in (*one.box, *one.plane))
        places = np.fromiter(numbers, np.int64, 6 * len(self.each)).reshape(-1, 6)
        object.__setattr__(self, "places", places)
        object.__setattr__(self, "refused", FrozenDict(self.refused))

    @property
    def labels(self) -> frozenset[str]:
        """Every label that they give."""
        return frozenset(label for one in self.each for label in one.labels)

    def on(self, plane: Plane) -> IntArray:
        """Return the numbers of those on a plane, shape (M,)."""
        return np.flatnonzero((self.places[:, 4:] == plane).all(axis=1))


NO_STATEMENTS = Statements()


def read_statements(
    corrections: Iterable[Correction],
    rule: LabelRule,
    *,
    fingerprint: str | None = None,
    shown_labels: Mapping[str, Sequence[str]] = FrozenDict(),
) -> Statements:
    """Turn corrections of a slide into statements in the labels of a run.

    Parameters
    ----------
    corrections : iterable of Correction
        In the order in which they were collected; the last one about a box holds.
    rule : LabelRule
        Of the run that they are for.
    fingerprint : str, optional
        Digest of the slide file; statements about another file do not apply. Those about any
        file do when not given.
    shown_labels : mapping of str to sequence of str
        The labels of each run that was shown, by its id, as far as they are known.

    Examples
    --------
    >>> said = Correction("corrected", Box(0, 0, 8, 8), "A", "B: 1", "01J", "A", "f", "now")
    >>> read_statements([said], LabelRule(rollup=True), fingerprint="f").each[0].labels
    ('B',)
    """
    here: list[Correction] = []
    elsewhere: list[Correction] = []
    for one in corrections:
        (here if fingerprint in (None, one.fingerprint) else elsewhere).append(one)
    translate = _Translator(rule, shown_labels)
    found: list[Statement] = []
    refused: Counter[str] = Counter()
    for (box, plane), one in latest_corrections(here).items():
        kind, labels = translate(one)
        if labels is None:
            refused[one.after or ""] += 1
        elif kind != "withdrawn":
            found.append(Statement(kind, box, plane, labels, _as_labels(one.rule_label)))
    found.sort(key=lambda one: (one.plane, one.box.y, one.box.x, one.box))
    return Statements(tuple(found), len(latest_corrections(elsewhere)), FrozenDict(refused))


def label_of_class(
    class_path: str | None, rule: LabelRule, shown: Iterable[str]
) -> tuple[str, ...] | None:
    """Return the labels that a class means which a person gave to a patch.

    Parameters
    ----------
    class_path : str or None
        None means no label.
    rule : LabelRule
    shown : iterable of str
        Labels of the run whose patches the person saw. A class that is one of them is that label;
        under multi-label rules one that is made of several is their list.

    Returns
    -------
    tuple of str
    None
        If the class cannot be a label: it ends in ``*``, or the run excludes it.

    Examples
    --------
    >>> rule = LabelRule(rule="any", rename={"T": "Tumor"})
    >>> [label_of_class(path, rule, ["Stroma", "T"]) for path in ("Stroma: T", "T", "Fat", None)]
    [('Stroma', 'T'), ('T',), ('Fat',), ()]
    >>> label_of_class("T", rule, []), label_of_class("Region*", rule, [])
    (('Tumor',), None)
    """
    if class_path is None:
        return ()
    known = frozenset(shown)
    if class_path in known:
        return (class_path,)
    if rule.multi and (parts := split_labels(class_path, known)) != (class_path,):
        return tuple(dict.fromkeys(parts))
    role = role_of(class_path, rule)
    return None if role.label is None else (role.label,)


def split_labels(class_path: str, labels: Collection[str]) -> tuple[str, ...]:
    """Return the labels of which a class with several names is made; itself if it is not.

    A label can have several names itself. They are the fewest labels, the first one as long as
    it can be.

    >>> split_labels("Stroma: Tumor: Positive", {"Stroma", "Tumor", "Tumor: Positive"})
    ('Stroma', 'Tumor: Positive')
    >>> split_labels("Stroma: Other", {"Stroma"})
    ('Stroma: Other',)
    """
    pieces = class_path.split(CLASS_SEPARATOR)
    best: list[tuple[str, ...] | None] = [None] * len(pieces) + [()]
    for start in reversed(range(len(pieces))):
        fitting = [
            (CLASS_SEPARATOR.join(pieces[start:end]), *rest)
            for end in range(len(pieces), start, -1)
            if (rest := best[end]) is not None and CLASS_SEPARATOR.join(pieces[start:end]) in labels
        ]
        best[start] = min(fitting, key=len, default=None)
    return best[0] or (class_path,)


def _as_labels(label: str | Sequence[str] | None) -> tuple[str, ...]:
    if label is None:
        return ()
    return (label,) if isinstance(label, str) else tuple(label)


class _Translator:
    """Turns corrections into a kind and labels, each class of a run once."""

    def __init__(self, rule: LabelRule, shown: Mapping[str, Sequence[str]]) -> None:
        self._rule, self._shown = rule, shown
        self._known: dict[tuple[str | None, str], tuple[CorrectionKind, Labels]] = {}

    def __call__(self, correction: Correction) -> tuple[CorrectionKind, Labels]:
        if correction.kind != "corrected":
            return correction.kind, ()
        key = (correction.after, correction.run_id)
        if key not in self._known:
            self._known[key] = self._translate(*key)
        return self._known[key]

    def _translate(self, path: str | None, run_id: str) -> tuple[CorrectionKind, Labels]:
        labels = label_of_class(path, self._rule, self._shown.get(run_id, ()))
        if labels is None and role_of(path, self._rule).kind == "excluded":
            return "rejected", ()
        return "corrected", labels


@dataclass(frozen=True, slots=True, eq=False)
class BoxStatements:
    """The statements about some boxes.

    Attributes
    ----------
    each : tuple of Statement
    numbers : array, shape (M,), int64
        Their numbers in the statements of the slide.
    boxes : array, shape (M,), int64
        The number of each one's box in ``PatchBoxes.boxes()``.
    """

    each: tuple[Statement, ...]
    numbers: IntArray
    boxes: IntArray

    @classmethod
    def of(cls, statements: Statements, chosen: IntArray, places: PatchBoxes) -> BoxStatements:
        """Find the boxes of some statements; those that are not among ``places`` are left out."""
        boxes = places.find(statements.places[chosen, :4])
        there = boxes >= 0
        numbers = chosen[there]
        each = tuple(statements.each[number] for number in numbers.tolist())
        return cls(each, numbers, boxes[there])

    def mask(self, kind: str, count: int) -> NDArray[np.bool_]:
        """Return which of ``count`` boxes have a statement of this kind."""
        found = np.zeros(count, np.bool_)
        found[self.boxes[[one.kind == kind for one in self.each]]] = True
        return found


def overrule(
    decision: Decision,
    said: BoxStatements,
    rule: LabelRule,
    names: tuple[str, ...],
    shares: Ragged | None,
) -> tuple[Decision, Ragged]:
    """Put the labels that people gave in place of those of the rule.

    Parameters
    ----------
    decision : Decision
        Of the rule, for some boxes.
    said : BoxStatements
    rule, names
        As for :func:`~qupath_bridge.patches.labels.decide`; ``names`` has the labels that people
        gave, too.
    shares : Ragged or None
        Labels with a share, and that share; None if no share was measured.

    Returns
    -------
    Decision
        ``share`` and ``margin`` of a corrected box are those of its new label.
    Ragged
        What the rule says about the boxes with a corrected label; nothing for the others.
    """
    count = len(decision.labels)
    corrected = sorted(
        (box, one.labels)
        for box, one in zip(said.boxes.tolist(), said.each, strict=True)
        if one.kind == "corrected"
    )
    if not corrected:
        return decision, Ragged.empty(count)
    boxes = np.array([box for box, _ in corrected])
    given = _codes([labels for _, labels in corrected], names, rule)
    changed = _replace_labels(decision, boxes, given)
    if rule.background is not None and rule.labels:
        changed = add_background(changed, names.index(rule.background))
    source, share, margin = changed.source.copy(), changed.share.copy(), changed.margin.copy()
    source[boxes] = np.where(changed.labels.lengths[boxes] > 0, CORRECTED, -1)
    share[boxes] = margin[boxes] = np.nan
    if shares is not None and not rule.multi:
        winner = np.full(len(boxes), -1)
        winner[given.lengths > 0] = given.codes
        measured = single_label(winner, shares.take(boxes))
        share[boxes], margin[boxes] = measured.share, measured.margin
    old = decision.labels
    overruled = source[old.rows] == CORRECTED
    return (
        Decision(changed.labels, source, share, margin),
        Ragged.of(old.rows[overruled], old.codes[overruled], count),
    )


def _codes(lists: Sequence[Sequence[str]], names: tuple[str, ...], rule: LabelRule) -> Ragged:
    """Return lists of labels as codes, each in the order of the rule."""
    rank = dict(zip(names, label_ranks(names, rule), strict=True))
    code = {name: number for number, name in enumerate(names)}
    codes = [code[name] for labels in lists for name in sorted(set(labels), key=rank.__getitem__)]
    rows = np.repeat(np.arange(len(lists)), [len(set(labels)) for labels in lists])
    return Ragged.of(rows, np.array(codes, np.int64), len(lists))


def _replace_labels(decision: Decision, boxes: IntArray, given: Ragged) -> Decision:
    """Return a decision with other labels for some boxes; row ``k`` of ``given`` is of box ``k``.

    A box without a label has no source.
    """
    old, count = decision.labels, len(decision.labels)
    kept = np.ones(count, np.bool_)
    kept[boxes] = False
    stays = kept[old.rows]
    rows = np.concatenate([old.rows[stays], boxes[given.rows]])
    order = np.argsort(rows, kind="stable")
    codes = np.concatenate([old.codes[stays], given.codes])[order]
    source = decision.source.copy()
    source[boxes] = np.where(given.lengths > 0, CORRECTED, -1)
    labels = Ragged.of(rows[order], codes, count)
    return Decision(labels, source, decision.share, decision.margin)
