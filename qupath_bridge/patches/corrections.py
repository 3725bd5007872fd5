"""What pathologists say about patches: another class, a rejection, a confirmation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from qupath_bridge.frozen import OneLine
from qupath_bridge.model import FIRST_PLANE, Box, Plane

__all__ = ["Correction", "CorrectionKind", "latest_corrections"]

CorrectionKind = Literal["corrected", "confirmed", "rejected", "withdrawn"]


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
        Class that was last shown, and class now; None is no class.
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
