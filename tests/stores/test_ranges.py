"""Parts of an object in few requests."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from qupath_bridge.errors import OutputError
from qupath_bridge.stores import ranges
from qupath_bridge.stores.ranges import coalesced, fetch

DATA = bytes(np.random.default_rng(3).integers(0, 256, 100_000, dtype=np.uint8))


@pytest.fixture
def pool():
    with ThreadPoolExecutor(ranges.AT_ONCE) as made:
        yield made


def test_neighbours_come_together():
    parts = [(10, 5), (0, 10), (20, 5), (40, 1)]
    assert coalesced(parts, gap=0) == [(0, 15), (20, 5), (40, 1)]
    assert coalesced(parts, gap=5) == [(0, 25), (40, 1)]
    assert coalesced(parts, gap=15) == [(0, 41)]
    assert coalesced([]) == []


def test_a_request_has_a_limit_but_no_part_is_cut():
    assert coalesced([(0, 60), (60, 60), (120, 10)], gap=9, largest=100) == [(0, 60), (60, 70)]
    assert coalesced([(0, 500), (500, 10)], gap=9, largest=100) == [(0, 500), (500, 10)]


def test_parts_that_overlap_or_are_the_same():
    """Tiles of a slide may share their data."""
    assert coalesced([(0, 10), (5, 10), (0, 10), (2, 3)], gap=0) == [(0, 15)]


@pytest.mark.parametrize("gap", [0, 30, 1000])
def test_each_part_is_what_it_would_be_alone(monkeypatch, pool, gap):
    monkeypatch.setattr(ranges, "coalesced", lambda parts: coalesced(parts, gap=gap, largest=900))
    rng = np.random.default_rng(gap)
    for number in (1, 2, 300):
        starts = rng.integers(0, 90_000, number).tolist()
        parts = [
            (start, int(length))
            for start, length in zip(starts, rng.integers(1, 2000, number), strict=True)
        ]
        asked = []

        def read(offset, count, asked=asked):
            asked.append((offset, count))
            return DATA[offset : offset + count]

        got = fetch(read, parts, pool)
        assert [got.get(part) for part in parts] == [DATA[a : a + n] for a, n in parts]
        assert list(got.asked) == sorted(asked)
        assert got.nbytes == sum(count for _, count in asked)


def test_requests_are_under_way_at_the_same_time(pool):
    """As many as may be, and no more."""
    all_there, now, most = threading.Barrier(ranges.AT_ONCE, timeout=10), [], []
    lock = threading.Lock()

    def read(offset, count):
        with lock:
            now.append(offset)
            most.append(len(now))
        all_there.wait()
        with lock:
            now.remove(offset)
        return bytes(count)

    far = 2 * ranges.GAP
    parts = [(n * far, 9) for n in range(2 * ranges.AT_ONCE)]
    got = fetch(read, parts, pool)
    assert [got.get(part) for part in parts] == [bytes(9)] * len(parts)
    assert max(most) == ranges.AT_ONCE


def test_a_part_is_there_before_others_are(pool):
    release = threading.Event()

    def read(offset, count):
        if offset:
            assert release.wait(10)
        return bytes(count)

    got = fetch(read, [(0, 9), (9 * ranges.GAP, 9)], pool)
    assert got.get((0, 9)) == bytes(9)
    release.set()
    assert got.get((9 * ranges.GAP, 9)) == bytes(9)  # it did not give up waiting


def test_an_error_is_that_of_the_parts_of_its_request(pool):
    def read(offset, count):
        if offset:
            raise OutputError("no")
        return bytes(count)

    got = fetch(read, [(0, 9), (9 * ranges.GAP, 9)], pool)
    assert got.get((0, 9)) == bytes(9)
    with pytest.raises(OutputError, match="no"):
        got.get((9 * ranges.GAP, 9))
