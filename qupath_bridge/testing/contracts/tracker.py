"""The contract of a tracker: every promise of :class:`qupath_bridge.tracking.base.Tracker`."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest

from qupath_bridge.errors import BridgeError
from qupath_bridge.frozen import FrozenDict
from qupath_bridge.tracking.base import TrackedDataset, TrackedFeatures, Tracker

__all__ = ["Received", "TrackerContract"]

DIGEST = "xxh3_128:00112233445566778899aabbccddeeff"
DATASET = TrackedDataset(
    name="study_1.a-b",
    digest=DIGEST,
    facts=FrozenDict(run_id="01J00000000000000000000000", digest=DIGEST, patches=3, slides=2),
    config=FrozenDict(size=128, mpp=0.5),
    labels=FrozenDict(Tumor=2, Stroma=1),
    files=FrozenDict({"run.json": b'{"a": 1}\n', "contact_sheet.png": b"\x89PNG\r\n\x1a\n"}),
    features=(TrackedFeatures("uni", FrozenDict(dataset=DIGEST, numbers=8), b"{}\n"),),
)


class Received(NamedTuple):
    """What arrived under one name: facts, and files by name."""

    name: str
    facts: Mapping[str, Any]
    files: Mapping[str, bytes]


class TrackerContract(ABC):
    """Subclass it, and say how the tracker is made and what arrived."""

    @abstractmethod
    def make(self) -> Tracker:
        """Return a new tracker of a service that works."""

    @abstractmethod
    def make_broken(self) -> Tracker:
        """Return a new tracker of a service that cannot be reached."""

    @abstractmethod
    def received(self) -> list[Received]:
        """Return what arrived since the test began, in the order of arrival."""

    def test_it_is_a_tracker(self) -> None:
        """It has the method of the protocol."""
        assert isinstance(self.make(), Tracker)

    def test_a_dataset_arrives_with_facts_and_files(self) -> None:
        """Nothing is changed on the way, and the place is said in words."""
        place = self.make().send(DATASET)
        assert place.strip()
        first = self.received()[0]
        assert first.name == DATASET.name
        assert dict(first.facts).items() >= dict(DATASET.facts).items()
        assert dict(first.files).items() >= dict(DATASET.files).items()

    def test_features_say_of_which_dataset_they_are(self) -> None:
        """They are found by the digest of the run."""
        self.make().send(DATASET)
        (found,) = self.received()[1:]
        assert "uni" in found.name and found.facts["dataset"] == DIGEST
        assert found.files["record.json"] == b"{}\n"

    def test_a_dataset_can_be_sent_again(self) -> None:
        """Also with other contents under the same name."""
        self.make().send(DATASET)
        self.make().send(dataclasses.replace(DATASET, features=()))
        assert [each.name for each in self.received()].count(DATASET.name) >= 1

    def test_a_service_that_does_not_answer_is_an_error_of_this_library(self) -> None:
        """The message has a next step."""
        with pytest.raises(BridgeError) as caught:
            self.make_broken().send(DATASET)
        assert caught.value.hint
