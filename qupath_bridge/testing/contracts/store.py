"""Contract suite of stores."""

from __future__ import annotations

import pickle
import threading
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor

import pytest

from qupath_bridge.errors import OutputError, UsageError
from qupath_bridge.stores import open_store
from qupath_bridge.stores.base import Store

__all__ = ["StoreContract"]


class StoreContract(ABC):
    """Subclass it, and say how an empty store is made."""

    @pytest.fixture
    @abstractmethod
    def store(self) -> Store:
        """Return an empty store."""

    def test_what_is_put_can_be_got(self, store: Store) -> None:
        """Bytes, views, nothing at all; the last one counts."""
        for data in (b"one", memoryview(b"two"), b""):
            store.put("a/b.bin", data)
            assert store.get("a/b.bin") == bytes(data)
        store.put("a/b.bin", (piece for piece in (b"one", b"", b"two")))
        assert store.get("a/b.bin") == b"onetwo"
        store.put("a/b.bin", b"lasting", durable=True)
        assert store.exists("a/b.bin")
        assert not store.exists("a")
        assert not store.exists("a/c.bin")

    def test_names_are_listed_in_order(self, store: Store) -> None:
        """By prefix, which need not end at a folder."""
        for name in ("b/2", "a", "b/10", "b/1/x", "bc", "b-", "b.d/x"):
            store.put(name, b"")
        assert list(store.list()) == ["a", "b-", "b.d/x", "b/1/x", "b/10", "b/2", "bc"]
        assert list(store.list("b/")) == ["b/1/x", "b/10", "b/2"]
        assert list(store.list("b/1")) == ["b/1/x", "b/10"]
        assert list(store.list("c")) == []
        assert list(store.list("no/such")) == []

    def test_a_folder_is_listed_without_what_is_below(self, store: Store) -> None:
        """Files and folders in it, in the order of their names."""
        for name in ("a/1", "a/b/2", "a/b/c/3", "ab", "a.d/x", "z"):
            store.put(name, b"")
        assert list(store.children()) == ["a.d/", "a/", "ab", "z"]
        assert list(store.children("a/")) == ["a/1", "a/b/"]
        assert list(store.children("a/b/c/")) == ["a/b/c/3"]
        assert list(store.children("no/such/")) == []
        store.delete("a/1")
        assert list(store.children("a/")) == ["a/b/"]

    def test_deleting(self, store: Store) -> None:
        """Twice is once, and others stay."""
        store.put("a/1", b"")
        store.put("a/2", b"")
        store.delete("a/1")
        store.delete("a/1")
        assert list(store.list()) == ["a/2"]
        store.delete("a/2")
        assert list(store.list()) == []
        store.put("a/1", b"again")
        assert store.get("a/1") == b"again"

    def test_other_content_has_another_state(self, store: Store) -> None:
        """Of the same size, too; the same content at the same time has the same state."""
        store.put("a", b"one")
        first = store.state("a")
        assert first.size == 3
        assert store.state("a") == first
        store.put("a", b"two")
        assert store.state("a") != first
        with pytest.raises(OutputError, match="nobody"):
            store.state("nobody")

    def test_nothing_there(self, store: Store) -> None:
        """Is an error that names it."""
        with pytest.raises(OutputError, match="nobody"):
            store.get("nobody")

    @pytest.mark.parametrize("name", ["", "/a", "../a", "a/../b", "a\\b", "C:/a", "."])
    def test_names_stay_inside(self, store: Store, name: str) -> None:
        """Whatever a file says, nothing outside is touched."""
        with pytest.raises(OutputError, match="must stay inside"):
            store.put(name, b"")

    def test_names_may_be_deleted_while_they_are_listed(self, store: Store) -> None:
        """And all of them are still listed."""
        names = [f"{folder}/{number}" for folder in ("a", "a/b", "c") for number in range(3)]
        for name in names:
            store.put(name, b"")
        listed = []
        for name in store.list():
            store.delete(name)
            listed.append(name)
        assert listed == sorted(names)
        assert list(store.list()) == []

    @pytest.mark.parametrize("name", ["Größe/日本語.bin", "a b/c,d", "हिन्दी"])
    def test_unicode_names(self, store: Store, name: str) -> None:
        """Come back as they were."""
        store.put(name, b"1")
        assert list(store.list()) == [name]
        assert store.get(name) == b"1"

    def test_a_part_of_what_was_put(self, store: Store) -> None:
        """Is exactly the bytes that were asked for, or an error."""
        store.put("a/x", bytes(range(100)))
        assert store.size("a/x") == 100
        assert store.get_range("a/x", 0, 100) == bytes(range(100))
        assert store.get_range("a/x", 40, 3) == bytes([40, 41, 42])
        assert store.get_range("a/x", 100, 0) == b""
        with pytest.raises(OutputError, match="x ends before byte 101"):
            store.get_range("a/x", 99, 2)
        with pytest.raises(OutputError, match="x ends before byte 205"):
            store.get_range("a/x", 200, 5)
        for read in (store.size, lambda name: store.get_range(name, 0, 1)):
            with pytest.raises(OutputError, match="nobody"):
                read("nobody")

    def test_sizes_of_many_names(self, store: Store) -> None:
        """In the order of the names, in several folders, with others between them."""
        sizes = {f"{folder}/x{number}": number % 7 for folder in "ab" for number in range(120)}
        for name, size in sizes.items():
            store.put(name, bytes(size))
        for number in range(120):
            store.put(f"a/x{number}-other/1", b"1")
        missing = ["a/w", "a/x", "a/x120", "a/x5.png", "a/z", "b", "c/x1", "a/x1/oth", "a/x1-other"]
        names = [*reversed(sizes), *missing, "a/x1-other/1"]
        assert store.sizes(names) == [*reversed(sizes.values()), *[None] * len(missing), 1]
        assert store.sizes([]) == []
        with pytest.raises(OutputError, match="must stay inside"):
            store.sizes(["a/x1", "../a"])

    def test_as_many_requests_at_once_as_it_says(self, store: Store) -> None:
        """One or more; files that are put at the same time are all there."""
        assert store.at_once >= 1
        names = [f"a/{number}" for number in range(3 * store.at_once)]
        with ThreadPoolExecutor(store.at_once) as pool:
            list(pool.map(store.put, names, map(str.encode, names)))
            assert list(pool.map(store.get, names)) == list(map(str.encode, names))

    def test_a_part_of_content_that_was_replaced(self, store: Store) -> None:
        """Is refused to who asks for the earlier content, whether it was longer or shorter."""
        store.put("a/x", b"first content")
        first = store.state("a/x")
        assert store.get_range("a/x", 6, 7, first) == b"content"
        for other in (b"other content", b"short", b"much longer than before"):
            store.put("a/x", other)
            with pytest.raises(OutputError, match="x was replaced while it was read"):
                store.get_range("a/x", 6, 7, first)
        assert store.get_range("a/x", 5, 6, store.state("a/x")) == b"longer"
        store.delete("a/x")
        with pytest.raises(OutputError, match="x"):
            store.get_range("a/x", 6, 7, first)

    def test_create_makes_a_name_only_once(self, store: Store) -> None:
        """What is there stays."""
        assert store.create("a/lock", b"first")
        assert not store.create("a/lock", b"second")
        assert store.get("a/lock") == b"first"
        assert list(store.list()) == ["a/lock"]
        store.delete("a/lock")
        assert store.create("a/lock", b"third")
        store.put("a/other", b"")
        assert not store.create("a/other", b"x")

    def test_of_many_that_create_exactly_one_wins(self, store: Store) -> None:
        """And its bytes are those that are there."""
        for attempt in range(20):
            start, won = threading.Barrier(8), []

            def create(number: int) -> None:
                start.wait()  # noqa: B023  # joined within the loop
                if store.create(f"lock{attempt}", b"%d" % number):  # noqa: B023
                    won.append(b"%d" % number)  # noqa: B023

            threads = [threading.Thread(target=create, args=(n,)) for n in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert won == [store.get(f"lock{attempt}")]
        assert store.sweep() == 0

    def test_a_draft_gets_its_name_when_it_is_published(self, store: Store) -> None:
        """Nothing is listed before; a discarded one leaves nothing."""
        draft = store.draft("a")
        draft.write(b"one ")
        draft.write(memoryview(b"two"))
        assert list(store.list()) == []
        draft.publish("a/x", durable=True)
        assert store.get("a/x") == b"one two"
        draft.discard()
        assert store.get("a/x") == b"one two"
        again = store.draft("a")
        again.write(b"three")
        again.publish("a/x")
        assert store.get("a/x") == b"three"
        other = store.draft("")
        other.write(b"1")
        other.discard()
        other.discard()
        assert list(store.list()) == ["a/x"]
        assert store.sweep() == 0

    def test_the_url_opens_the_same_place(self, store: Store) -> None:
        """In this process at least."""
        store.put("a", b"1")
        again = open_store(store.url)
        assert again.get("a") == b"1"
        assert again.url == store.url

    def test_pickling(self, store: Store) -> None:
        """Opens the same place, or is refused by name where that lives in one process."""
        store.put("a", b"1")
        try:
            packed = pickle.dumps(store)
        except UsageError as error:
            assert store.url in error.message  # not every store raises
            return
        assert pickle.loads(packed).get("a") == b"1"  # noqa: S301  # its own bytes

    def test_many_threads(self, store: Store) -> None:
        """May write at once."""

        def write(number: int) -> None:
            for count in range(25):
                store.put(f"t{count}/{number}", f"{number}".encode())

        threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(list(store.list())) == 200
        assert store.get("t24/7") == b"7"

    def test_nothing_to_sweep(self, store: Store) -> None:
        """After writes that were not cut off."""
        store.put("a", b"1")
        assert store.sweep() == 0
        assert store.get("a") == b"1"
