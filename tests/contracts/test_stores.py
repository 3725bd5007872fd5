import errno
import os
import subprocess
import sys

import pytest

from qupath_bridge.errors import OutputError
from qupath_bridge.stores.base import Store
from qupath_bridge.stores.local import TEMPORARY, LocalStore
from qupath_bridge.stores.memory import MemoryStore
from qupath_bridge.testing.contracts.store import StoreContract


class TestMemory(StoreContract):
    @pytest.fixture
    def store(self):
        return MemoryStore()


class TestLocal(StoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        return LocalStore(tmp_path / "out")

    def test_it_is_a_store(self, store):
        assert isinstance(store, Store)

    def test_empty_means_nothing_but_cut_off_writes(self, store):
        assert store.is_empty()
        store.root.mkdir()
        assert store.is_empty()
        (store.root / f"{TEMPORARY}12").write_bytes(b"half")
        assert store.is_empty()
        assert list(store.list()) == []
        assert store.sweep() == 1
        (store.root / "x").write_bytes(b"")
        assert not store.is_empty()

    @pytest.mark.parametrize("durable", [False, True])
    @pytest.mark.parametrize("call", ["replace", "fsync"])
    def test_a_write_that_fails_leaves_the_old_bytes(self, store, monkeypatch, call, durable):
        store.put("a/x", b"old")

        def fail(*values):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, call, fail)
        if call == "replace" or durable:
            with pytest.raises(OutputError, match="No space left") as caught:
                store.put("a/x", b"new", durable=durable)
            assert "Make room" in caught.value.hint
            assert store.get("a/x") == b"old"
        assert [p.name for p in (store.root / "a").iterdir()] == ["x"]

    def test_an_interrupt_while_writing_leaves_nothing(self, store, monkeypatch):
        def stop(*values):
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            store.put("x", b"new")
        assert list(store.root.iterdir()) == []

    def test_a_file_in_the_way(self, store):
        store.root.parent.mkdir(exist_ok=True)
        store.root.write_bytes(b"a file")
        with pytest.raises(OutputError):
            store.put("x", b"")
        with pytest.raises(OutputError):
            store.is_empty()

    def test_only_durable_writes_wait_for_the_disk(self, store, monkeypatch):
        """For the file, then for the folder that names it (which Windows does by itself)."""
        synced, sync = [], os.fsync
        monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(handle), sync(handle)))
        store.put("a/x", b"1")
        assert not synced
        store.put("a/x", b"2", durable=True)
        assert len(synced) == (1 if os.name == "nt" else 2)

    def test_windows_needs_no_folder_sync(self, store, monkeypatch):
        from qupath_bridge.stores import local

        monkeypatch.setattr(local, "FOLDERS_CAN_BE_SYNCED", False)
        monkeypatch.setattr(os, "open", None)
        store.put("x", b"1", durable=True)
        assert store.get("x") == b"1"

    def test_empty_folders_go_with_their_last_file(self, store):
        store.put("a/b/c", b"")
        store.put("a/d", b"")
        store.delete("a/b/c")
        assert sorted(p.name for p in (store.root / "a").iterdir()) == ["d"]
        store.delete("a/d")
        assert list(store.root.iterdir()) == []


def test_a_full_disk_is_met_with_a_real_limit(tmp_path):
    """The system itself refuses a write: what was there stays, and nothing half is left."""
    code = f"""
import resource, signal
from pathlib import Path
from qupath_bridge.errors import OutputError
from qupath_bridge.stores.local import LocalStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = LocalStore(Path({str(tmp_path)!r}))
store.put("x", b"old")
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    store.put("x", bytes(100_000))
except OutputError as error:
    print(error)
assert store.get("x") == b"old"
"""
    if os.name == "nt":
        return  # there is no such limit; the injected faults above stand for it
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "cannot be written" in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
