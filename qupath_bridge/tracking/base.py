"""Protocol of a tracker, and what it is given: a run as a dataset, never its patches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from qupath_bridge.frozen import FrozenDict, OneLine

__all__ = ["Tracked", "TrackedDataset", "TrackedFeatures", "Tracker"]


@dataclass(frozen=True, slots=True, repr=False)
class TrackedFeatures(OneLine):
    """Features that an encoder made of a dataset.

    Attributes
    ----------
    name : str
    facts : mapping of str to JSON value
        Few and flat: digest of the encoder, numbers per patch, type, slides and patches.
    record : bytes
        Their ``record.json``.
    """

    name: str
    facts: Mapping[str, Any]
    record: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, repr=False)
class TrackedDataset(OneLine):
    """A finished run, as a tracker sends it.

    Attributes
    ----------
    name : str
        Letters, digits, ``-``, ``_`` and ``.``.
    digest : str
        Of the run: two runs with one digest have the same patches.
    facts : mapping of str to JSON value
        Few and flat: run id, digest, numbers of patches and slides, version, and the place of the
        output unless that is a secret.
    config : mapping of str to JSON value
        Options that are not the default ones.
    labels : mapping of str to int
        Patches by label.
    files : mapping of str to bytes
        Records of the run, and a picture with some patches, by name.
    features : tuple of TrackedFeatures
    """

    name: str
    digest: str
    facts: Mapping[str, Any]
    config: Mapping[str, Any] = FrozenDict()
    labels: Mapping[str, int] = FrozenDict()
    files: Mapping[str, bytes] = field(default=FrozenDict(), repr=False)
    features: tuple[TrackedFeatures, ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class Tracked(OneLine):
    """A dataset that a tracker has.

    Attributes
    ----------
    name : str
        As the tracker calls it.
    digest : str
        Of the run. What a model is trained with can name it, so that both are found together.
    features : tuple of str
        Names of features that were recorded with it.
    place : str
        Where it is now: an address, or a folder.
    """

    name: str
    digest: str
    features: tuple[str, ...]
    place: str


@runtime_checkable
class Tracker(Protocol):
    """Tells a service of a dataset. It is made anew for each."""

    def send(self, dataset: TrackedDataset) -> str:
        """Record a dataset and its features, each under the name that it has here.

        Features say of which dataset they are, by its digest. The same dataset may be sent again.

        Returns
        -------
        str
            Where it is now, in words: an address, or a folder.

        Raises
        ------
        BridgeError
            If it cannot be sent; nothing of the run changes.
        """
        ...
