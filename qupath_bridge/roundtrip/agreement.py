"""Agreement of reviewers about the same patches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from qupath_bridge.frozen import OneLine
from qupath_bridge.model import Box, Plane
from qupath_bridge.patches.corrections import Correction, latest_corrections

__all__ = ["Agreement", "agreements", "cohen_kappa"]


@dataclass(frozen=True, slots=True, repr=False)
class Agreement(OneLine):
    """The agreement of two reviewers about the patches that both judged.

    Attributes
    ----------
    reviewers : (str, str)
        In alphabetical order.
    patches : int
        Patches that both judged.
    disagreements : int
        Patches to which they gave different classes, or that one of them rejected.
    kappa : float or None
        Cohen's kappa; None if chance alone explains everything, as with a single class.
    """

    reviewers: tuple[str, str]
    patches: int
    disagreements: int
    kappa: float | None


def agreements(corrections: Mapping[str, Sequence[Correction]]) -> tuple[Agreement, ...]:
    """Return the agreement of each two reviewers who judged a patch both.

    Parameters
    ----------
    corrections : mapping of str to sequence of Correction
        All that was collected, by slide, oldest first. Of each reviewer the last statement
        about a box counts; those of unknown reviewers do not.
    """
    said: dict[str, dict[tuple[str, Box, Plane], Hashable]] = {}
    for slide, collected in corrections.items():
        for reviewer in {each.reviewer for each in collected} - {None}:
            latest = latest_corrections(c for c in collected if c.reviewer == reviewer)
            said.setdefault(str(reviewer), {}).update(
                ((slide, box, plane), _judgement(last)) for (box, plane), last in latest.items()
            )
    found = []
    for first, second in combinations(sorted(said), 2):
        places = sorted(said[first].keys() & said[second].keys())
        if places:
            pairs = [(said[first][place], said[second][place]) for place in places]
            different = sum(one != other for one, other in pairs)
            kappa = cohen_kappa([one for one, _ in pairs], [other for _, other in pairs])
            found.append(Agreement((first, second), len(pairs), different, kappa))
    return tuple(found)


def _judgement(said: Correction) -> Hashable:
    return ("rejected",) if said.kind == "rejected" else said.after


def cohen_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float | None:
    """Return Cohen's kappa of two equally long sequences of judgements.

    Parameters
    ----------
    first, second : sequence of N judgements
        Of the same N things; N must not be 0.

    Returns
    -------
    float or None
        1 for full agreement, 0 for that of chance; None if chance alone gives full agreement.

    Examples
    --------
    >>> cohen_kappa(["a", "a", "b", "b"], ["a", "b", "b", "b"])
    0.5
    """
    n = len(first)
    observed = sum(a == b for a, b in zip(first, second, strict=True))
    ones, others = Counter(first), Counter(second)
    expected = sum(ones[judgement] * others[judgement] for judgement in ones)  # times n * n
    return None if expected == n * n else (observed * n - expected) / (n * n - expected)
