"""Statements of pathologists about patches: another class, a rejection, a confirmation."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from qupath_bridge.errors import ProjectError
from qupath_bridge.frozen import OneLine
from qupath_bridge.model import FIRST_PLANE, Box, Plane
from qupath_bridge.schemas import CorrectionKind, CorrectionRecord, first_fault, parse_json

__all__ = [
    "Correction",
    "CorrectionKind",
    "from_json",
    "from_lines",
    "latest_by_reviewer",
    "latest_corrections",
    "to_json",
    "to_lines",
]


@dataclass(frozen=True, slots=True, repr=False)
class Correction(OneLine):
    """The statement of one person about one patch box.

    Attributes
    ----------
    kind : str
        ``corrected`` (another class), ``confirmed`` (the class that was shown is right),
        ``rejected`` (no patch here) or ``withdrawn`` (an earlier statement does not hold).
    box : Box
        The patch box in QuPath full-resolution pixels.
    plane : Plane
    before, after : str or None
        Class that was last shown, and class now; None without a class.
    run_id : str
        The run that was shown.
    rule_label : str, tuple of str or None
        What the label rule of that run said about the box.
    fingerprint : str
        Fingerprint of the slide file that the run read.
    time : str
        When it was collected: ISO 8601, UTC.
    reviewer : str or None
        Who said it, if known.
    """

    kind: CorrectionKind
    box: Box
    before: str | None
    after: str | None
    run_id: str
    rule_label: str | tuple[str, ...] | None
    fingerprint: str
    time: str
    plane: Plane = FIRST_PLANE
    reviewer: str | None = None


def latest_corrections(corrections: Iterable[Correction]) -> dict[tuple[Box, Plane], Correction]:
    """Return the last statement about each box; a withdrawn one leaves nothing.

    A confirmation of what somebody said before leaves that statement: it is not one about the
    label of the rule.

    Parameters
    ----------
    corrections : iterable of Correction
        Of one slide, in the order in which they were collected.
    """
    latest: dict[tuple[Box, Plane], Correction] = {}
    for correction in corrections:
        place = (correction.box, correction.plane)
        earlier = latest.get(place)
        if correction.kind == "withdrawn":
            latest.pop(place, None)
        elif not (correction.kind == "confirmed" and earlier and earlier.after == correction.after):
            latest[place] = correction
    return latest


def latest_by_reviewer(
    corrections: Iterable[Correction],
) -> dict[tuple[Box, Plane], dict[str, Correction]]:
    """Return the last statement of each person with a name about each box.

    After one that was withdrawn, nobody has said anything about the box.

    Parameters
    ----------
    corrections : iterable of Correction
        Of one slide, in the order in which they were collected.
    """
    latest: dict[tuple[Box, Plane], dict[str, Correction]] = {}
    for correction in corrections:
        place = (correction.box, correction.plane)
        if correction.kind == "withdrawn":
            latest.pop(place, None)
        elif correction.reviewer is not None:
            latest.setdefault(place, {})[correction.reviewer] = correction
    return latest


def to_json(entry_id: str, correction: Correction) -> dict[str, Any]:
    """Return a correction of a slide as plain JSON values.

    >>> said = Correction("rejected", Box(0, 8, 16, 16), "Tumor", None, "01J", "Tumor", "a", "b")
    >>> to_json("3", said)["box"], from_json(to_json("3", said)) == ("3", said)
    ([0, 8, 16, 16], True)
    """
    label = correction.rule_label
    return {
        "entry_id": entry_id,
        "kind": correction.kind,
        "box": list(correction.box),
        "plane": list(correction.plane),
        "before": correction.before,
        "after": correction.after,
        "run_id": correction.run_id,
        "rule_label": list(label) if isinstance(label, tuple) else label,
        "fingerprint": correction.fingerprint,
        "time": correction.time,
        "reviewer": correction.reviewer,
    }


def from_json(values: Mapping[str, Any]) -> tuple[str, Correction]:
    """Return the entry ID and the correction that :func:`to_json` wrote.

    ``plane`` and ``reviewer`` may be left out.

    Raises
    ------
    ValueError
        If a key is missing or unknown, or has a value of another kind.
    """
    try:
        record = CorrectionRecord.model_validate(values)
    except ValidationError as error:
        raise ValueError(first_fault(error)) from error
    label = record.rule_label
    return record.entry_id, Correction(
        kind=record.kind,
        box=Box(*record.box),
        before=record.before,
        after=record.after,
        run_id=record.run_id,
        rule_label=tuple(label) if isinstance(label, list) else label,
        fingerprint=record.fingerprint,
        time=record.time,
        plane=Plane(*record.plane),
        reviewer=record.reviewer,
    )


def to_lines(corrections: Iterable[tuple[str, Correction]]) -> bytes:
    """Return a file of corrections: one JSON object per line, UTF-8.

    Parameters
    ----------
    corrections : iterable of (str, Correction)
        With the entry ID of the slide of each.
    """
    return b"".join(
        json.dumps(to_json(*one), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        for one in corrections
    )


def _written_again(values: Any) -> Any:
    """Return the values of a line, if a line can hold them again."""
    try:
        json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError("a text has half of a character, a lone surrogate") from error
    return values


def from_lines(content: bytes, place: str) -> tuple[tuple[str, Correction], ...]:
    """Return the corrections of a file, each with its entry ID, in the order of the lines.

    Parameters
    ----------
    content : bytes
        As :func:`to_lines` writes it; empty lines are skipped.
    place : str
        The file, for messages.

    Raises
    ------
    ProjectError
        If a line is not a correction; the message has its number.
    """
    found = []
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            found.append(from_json(_written_again(parse_json(line))))
        except ValueError as error:
            problem = str(error).replace("the file:", "the line:")
            raise ProjectError(
                f"line {number} is not a correction: {problem}",
                path=place,
                hint="Correct the line, or take it out; nothing of this file was used.",
            ) from error
    return tuple(found)
