"""What every sink must do."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping

import pytest

from qupath_bridge.outputs.base import PatchFile, Sink

__all__ = ["SinkContract"]


class SinkContract(ABC):
    """Subclass it; say how a sink is made, and how what it holds is seen from outside."""

    @pytest.fixture
    @abstractmethod
    def sink(self) -> Sink:
        """Return a sink without patches."""

    @abstractmethod
    def committed(self, sink: Sink) -> Mapping[str, bytes]:
        """Return what the sink shows to others, by path."""

    def test_committed_patches_are_there(self, sink: Sink) -> None:
        """Slide after slide."""
        for slide in ("1_a", "2_b"):
            sink.begin(slide)
            sink.write(PatchFile(f"{slide}_x0_y0", f"patches/{slide}/x.png"), slide.encode())
            sink.commit(slide)
        assert self.committed(sink) == {
            "patches/1_a/x.png": b"1_a",
            "patches/2_b/x.png": b"2_b",
        }

    def test_an_aborted_slide_leaves_nothing(self, sink: Sink) -> None:
        """And the others stay."""
        sink.begin("1_a")
        sink.write(PatchFile("p", "patches/1_a/x.png"), b"good")
        sink.commit("1_a")
        sink.begin("2_b")
        sink.write(PatchFile("p", "patches/2_b/x.png"), b"bad")
        sink.abort("2_b")
        assert self.committed(sink) == {"patches/1_a/x.png": b"good"}

    def test_a_slide_may_be_written_again(self, sink: Sink) -> None:
        """The later bytes count."""
        for payload in (b"old", b"new"):
            sink.begin("1_a")
            sink.write(PatchFile("p", "patches/1_a/x.png"), payload)
            sink.commit("1_a")
        assert self.committed(sink) == {"patches/1_a/x.png": b"new"}

    def test_many_threads(self, sink: Sink) -> None:
        """May write at once."""
        sink.begin("1_a")

        def write(number: int) -> None:
            for count in range(20):
                name = f"{number}-{count}"
                sink.write(PatchFile(name, f"patches/1_a/{name}.png"), name.encode())

        threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sink.commit("1_a")
        assert len(self.committed(sink)) == 160
