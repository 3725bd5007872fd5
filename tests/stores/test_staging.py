import os
import subprocess
import sys
import threading
import time

import pytest

from qupath_bridge.errors import OutputError, UsageError
from qupath_bridge.stores import open_store, staging
from qupath_bridge.stores.staging import (
    CACHE,
    CACHE_SIZE,
    Cache,
    StagedObject,
    cache_of_process,
    use_cache,
)

HOLD = """
import sys
from pathlib import Path
from qupath_bridge.stores import open_store
from qupath_bridge.stores.staging import Cache, StagedObject
store = open_store(sys.argv[2])
cache = Cache(Path(sys.argv[1]), int(sys.argv[3]))
lease = cache.lease([StagedObject(store, "a", "a", store.state("a"))], "a")
print(lease.folder.joinpath("a").stat().st_ino, flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def store(tmp_path):
    store = open_store(tmp_path / "bucket")
    for name in "abc":
        store.put(name, name.encode() * 1000)
    return store


def objects(store, *names):
    return [StagedObject(store, name, name, store.state(name)) for name in names]


def staged(cache):
    """Return the content of the copies in a cache by its first letter."""
    return {
        path.read_bytes()[:1].decode(): path
        for path in cache.folder.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache", 2500)


def test_a_copy_is_made_once_and_is_private(store, cache, monkeypatch):
    read, asked = type(store).get_range, []

    def count(self, name, offset, length):
        asked.append((name, offset, length))
        return read(self, name, offset, length)

    monkeypatch.setattr(type(store), "get_range", count)
    monkeypatch.setattr(staging, "PIECE", 300)
    first = cache.lease(objects(store, "a", "b"), "a slide")
    assert first.folder.joinpath("a").read_bytes() == b"a" * 1000
    assert first.folder.joinpath("b").read_bytes() == b"b" * 1000
    assert len(asked) == 8
    assert max(length for _, _, length in asked) == 300
    again = cache.lease(objects(store, "a", "b"), "a slide")
    assert again.folder == first.folder
    assert len(asked) == 8
    if os.name != "nt":
        assert cache.folder.stat().st_mode & 0o077 == 0


def test_the_one_that_was_used_longest_ago_goes_first(store, cache):
    for name in "ab":
        cache.lease(objects(store, name), name).release()
        time.sleep(0.02)
    cache.lease(objects(store, "a"), "a").release()
    cache.lease(objects(store, "c"), "c").release()
    assert set(staged(cache)) == {"a", "c"}
    names = {path.name for path in cache.folder.iterdir() if ".use-" in path.name}
    assert not names


def test_what_is_in_use_is_never_removed(store, cache, monkeypatch):
    monkeypatch.setattr(staging, "WAIT_SECONDS", 0.3)
    monkeypatch.setattr(staging, "PAUSE", 0.05)
    held = [cache.lease(objects(store, name), name) for name in "ab"]
    with pytest.raises(OutputError, match="full of slides that are in use.*for c") as caught:
        cache.lease(objects(store, "c"), "c")
    assert "cache_size" in caught.value.hint
    assert set(staged(cache)) == {"a", "b"}
    held[1].release()
    cache.lease(objects(store, "c"), "c")
    assert set(staged(cache)) == {"a", "c"}


def test_others_are_waited_for(store, cache, monkeypatch):
    monkeypatch.setattr(staging, "PAUSE", 0.02)
    held = [cache.lease(objects(store, name), name) for name in "ab"]
    timer = threading.Timer(0.2, held[0].release)
    timer.start()
    cache.lease(objects(store, "c"), "c").release()
    timer.join()
    assert set(staged(cache)) == {"b", "c"}


def test_what_is_larger_than_the_cache_is_refused(store, cache):
    with pytest.raises(OutputError, match="a slide has 3,000 bytes, and the cache .* 2,500"):
        cache.lease(objects(store, "a", "b", "c"), "a slide")
    assert not cache.folder.exists()


def test_what_changes_while_it_is_copied_is_refused(store, cache, monkeypatch):
    read = type(store).get_range

    def replace(self, name, offset, length):
        data = read(self, name, offset, length)
        self.put(name, b"x" * 1000)
        return data

    found = objects(store, "a")
    monkeypatch.setattr(type(store), "get_range", replace)
    with pytest.raises(OutputError, match="a was replaced while it was copied"):
        cache.lease(found, "a")
    assert not staged(cache)


def test_another_version_is_another_copy(store, cache):
    cache.lease(objects(store, "a"), "a")
    store.put("a", b"n" * 1000)
    lease = cache.lease(objects(store, "a"), "a")
    assert lease.folder.joinpath("a").read_bytes() == b"n" * 1000


def test_a_copy_that_somebody_cut_is_made_again(store, cache):
    lease = cache.lease(objects(store, "a"), "a")
    lease.release()
    os.truncate(lease.folder / "a", 10)
    again = cache.lease(objects(store, "a"), "a")
    assert again.folder.joinpath("a").read_bytes() == b"a" * 1000


def test_a_copy_that_failed_leaves_nothing(store, cache, monkeypatch):
    def fail(self, name, offset, length):
        raise OutputError("the network is gone")

    with monkeypatch.context() as patch:
        patch.setattr(type(store), "get_range", fail)
        with pytest.raises(OutputError, match="network"):
            cache.lease(objects(store, "a"), "a")
    assert not [path for path in cache.folder.iterdir() if path.is_dir()]
    assert cache.lease(objects(store, "a"), "a").folder.joinpath("a").stat().st_size == 1000


def test_threads_that_want_one_slide_copy_it_once(store, cache, monkeypatch):
    read, asked = type(store).get_range, []

    def slow(self, name, offset, length):
        asked.append(name)
        time.sleep(0.1)
        return read(self, name, offset, length)

    monkeypatch.setattr(type(store), "get_range", slow)
    leases = []

    def take():
        leases.append(cache.lease(objects(store, "a"), "a"))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(leases) == 4
    assert asked == ["a"]


def hold(cache, store):
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(cache.folder), store.url, str(cache.limit)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_processes_share_copies_and_one_that_is_killed_frees_them(store, cache, monkeypatch):
    monkeypatch.setattr(staging, "WAIT_SECONDS", 0.2)
    monkeypatch.setattr(staging, "PAUSE", 0.05)
    other = hold(cache, store)
    try:
        number = int(other.stdout.readline())
        mine = cache.lease(objects(store, "a"), "a")
        assert mine.folder.joinpath("a").stat().st_ino == number
        mine.release()
        kept = cache.lease(objects(store, "b"), "b")
        with pytest.raises(OutputError, match="in use"):
            cache.lease(objects(store, "c"), "c")
    finally:
        other.kill()
        other.communicate(timeout=60)
    cache.lease(objects(store, "c"), "c")
    assert set(staged(cache)) == {"b", "c"}
    kept.release()


def test_the_cache_of_a_process(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE, str(tmp_path / "environment"))
    monkeypatch.setenv(CACHE_SIZE, "2 MiB")
    assert cache_of_process() == Cache(tmp_path / "environment", 2 << 20)
    use_cache(tmp_path / "option", "1GB")
    try:
        assert cache_of_process() == Cache(tmp_path / "option", 10**9)
    finally:
        use_cache()
    monkeypatch.delenv(CACHE)
    monkeypatch.delenv(CACHE_SIZE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_of_process().folder.is_relative_to(tmp_path)
    assert cache_of_process().limit == 50 * 10**9
    monkeypatch.setenv(CACHE_SIZE, "much")
    with pytest.raises(UsageError, match="QUPATH_BRIDGE_CACHE_SIZE: 'much' is not a size"):
        cache_of_process()
