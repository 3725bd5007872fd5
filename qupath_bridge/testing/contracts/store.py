"""What every store must do."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod

import pytest

from qupath_bridge.errors import OutputError
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
        for name in ("b/2", "a", "b/10", "b/1/x", "bc"):
            store.put(name, b"")
        assert list(store.list()) == ["a", "b/1/x", "b/10", "b/2", "bc"]
        assert list(store.list("b/")) == ["b/1/x", "b/10", "b/2"]
        assert list(store.list("b/1")) == ["b/1/x", "b/10"]
        assert list(store.list("c")) == []
        assert list(store.list("no/such")) == []

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

    def test_nothing_there(self, store: Store) -> None:
        """Is an error that names it."""
        with pytest.raises(OutputError, match="nobody"):
            store.get("nobody")

    @pytest.mark.parametrize("name", ["", "/a", "../a", "a/../b", "a\\b", "C:/a", "."])
    def test_names_stay_inside(self, store: Store, name: str) -> None:
        """Whatever a file says, nothing outside is touched."""
        with pytest.raises(OutputError, match="no name inside"):
            store.put(name, b"")

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
