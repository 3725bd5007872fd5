"""Warnings about slides that give no patch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

__all__ = ["warn_of_empty"]

LISTED = 3
"""Slides without patches that get a line each; more are told together, by reason."""

SHOWN = 10
"""Slides without patches that are named for each reason."""


def warn_of_empty(slides: Iterable[tuple[str, int, Mapping[str, int]]]) -> tuple[str, ...]:
    """Return warnings about slides that give no patch.

    Parameters
    ----------
    slides : iterable of (str, int, mapping of str to int)
        Name, number of patches, and number of dropped patches by reason of each slide.

    Examples
    --------
    >>> some = [("a.svs", 9, {}), ("b.svs", 0, {"edge": 1, "no_label": 5})]
    >>> warn_of_empty(some)
    ('b.svs: no patch is kept, mainly by no_label (5 of 6).',)
    >>> warn_of_empty(some[1:])
    ('No patch is kept: 1 edge, 5 no_label.',)
    """
    listed = list(slides)
    empty = [(name, dropped) for name, patches, dropped in listed if not patches]
    if not empty:
        return ()
    if len(empty) == len(listed):
        reasons: Counter[str] = Counter()
        for _, dropped in empty:
            reasons.update(dropped)
        why = ", ".join(f"{n} {reason}" for reason, n in reasons.items() if n)
        return (f"No patch is kept: {why or 'none fits'}.",)
    if len(empty) <= LISTED:
        return tuple(f"{name}: no patch is kept, {_reason(dropped)}." for name, dropped in empty)
    groups: dict[str, list[str]] = {}
    for name, dropped in empty:
        groups.setdefault(_main(dropped), []).append(name)
    return tuple(
        f"{len(names)} of {len(listed)} slides give no patch, mainly by {reason}: "
        f"{', '.join(names[:SHOWN])}{_more(len(names) - SHOWN)}."
        for reason, names in sorted(groups.items(), key=lambda pair: -len(pair[1]))
    )


def _more(number: int) -> str:
    return f" and {number} more" if number > 0 else ""


def _main(dropped: Mapping[str, int]) -> str:
    """Return the reason for which most patches were dropped."""
    most = max(dropped.values(), default=0)
    return next((reason for reason, n in dropped.items() if n and n == most), "none fits")


def _reason(dropped: Mapping[str, int]) -> str:
    reason = _main(dropped)
    if not sum(dropped.values()):
        return reason
    return f"mainly by {reason} ({dropped[reason]} of {sum(dropped.values())})"
