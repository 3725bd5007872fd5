import errno
import itertools
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from qupath_bridge import registry
from qupath_bridge.errors import OutputError
from qupath_bridge.stores import open_store
from qupath_bridge.stores.base import Store
from qupath_bridge.stores.local import TEMPORARY, LocalStore
from qupath_bridge.stores.memory import MemoryStore
from qupath_bridge.testing.contracts.store import StoreContract
from tests.integration.faults import steps_of


def copy_of_process(store):
    """Return a store as ``os.fork`` leaves it: with all that it held."""
    copy = LocalStore(store.root)
    vars(copy).update(vars(store), _numbers=itertools.count())
    return copy


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

    def test_links_to_folders_and_cut_off_writes_are_not_listed(self, store, tmp_path):
        store.put("a/x", b"")
        (tmp_path / "elsewhere").mkdir()
        (store.root / "link").symlink_to(tmp_path / "elsewhere")
        (store.root / f"{TEMPORARY}12").write_bytes(b"half")
        assert list(store.children()) == ["a/"]

    def test_create_where_links_are_not_possible(self, store, monkeypatch):
        def fail(*values):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", fail)
        assert store.create("a/lock", b"first")
        assert not store.create("a/lock", b"second")
        assert store.get("a/lock") == b"first"
        assert [p.name for p in (store.root / "a").iterdir()] == ["lock"]

    def test_a_system_that_writes_a_part_at_a_time(self, store, monkeypatch):
        real = os.write
        monkeypatch.setattr(os, "write", lambda file, data: real(file, data[:3]))
        store.put("a/x", b"0123456789")
        store.put("a/y", iter([b"01234", b"", memoryview(b"56789")]))
        assert store.get("a/x") == store.get("a/y") == b"0123456789"

    @pytest.mark.parametrize("durable", [False, True])
    def test_a_file_that_is_replaced_keeps_its_permissions(self, store, durable):
        if os.name == "nt":
            return  # has no such permissions
        store.put("a/x", b"old")
        path = store.root / "a" / "x"
        path.chmod(0o640)
        group = next((each for each in os.getgroups() if each != path.stat().st_gid), None)
        if group is None and os.geteuid() == 0:
            group = path.stat().st_gid + 1
        if group is not None:
            os.chown(path, -1, group)
        store.put("a/x", b"new", durable=durable)
        assert path.read_bytes() == b"new"
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert group is None or path.stat().st_gid == group

    def test_a_new_file_has_the_permissions_of_any_new_file(self, store):
        store.put("a/x", b"1")
        (store.root / "a" / "y").write_bytes(b"1")
        modes = {path.stat().st_mode for path in (store.root / "a").iterdir()}
        assert len(modes) == 1

    def test_a_link_is_replaced_and_what_it_names_stays(self, store, tmp_path):
        (tmp_path / "mine").write_bytes(b"mine")
        store.put("a/y", b"")
        (store.root / "a" / "x").symlink_to(tmp_path / "mine")
        store.put("a/x", b"ours")
        assert not (store.root / "a" / "x").is_symlink()
        assert (tmp_path / "mine").read_bytes() == b"mine"

    def test_a_copy_of_a_process_gives_other_temporary_names(self, store, monkeypatch):
        first = store.draft("a")
        other = os.getpid() + 1
        monkeypatch.setattr(os, "getpid", lambda: other)
        copy = copy_of_process(store)
        second = copy.draft("a")
        assert len(list((store.root / "a").iterdir())) == 2
        for draft in (first, second):
            draft.discard()

    def test_a_published_draft_cannot_be_written(self, store):
        draft = store.draft("a")
        draft.publish("a/x")
        with pytest.raises(ValueError, match="cannot be written"):
            draft.write(b"more")
        assert store.get("a/x") == b""

    def test_a_new_file_takes_three_calls_that_change_something(self, store):
        """Very many small files are written: nothing else may be done for each of them."""
        store.put("a/x", b"1234")
        steps = steps_of(lambda: store.put("a/y", b"1234"))
        assert steps == ["open", "write", "half a write", "written", "replace"]

    def test_a_folder_that_another_process_removed_is_made_again(self, store):
        store.put("a/b/x", b"1")
        LocalStore(store.root).delete("a/b/x")
        assert not (store.root / "a").exists()
        store.put("a/b/y", b"2")
        assert store.get("a/b/y") == b"2"

    def test_a_folder_that_cannot_be_listed(self, store):
        store.root.parent.mkdir(exist_ok=True)
        store.root.write_bytes(b"a file")
        with pytest.raises(OutputError, match="cannot be listed"):
            list(store.list())

    def test_links_to_folders_are_not_followed(self, store, tmp_path):
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "x").write_bytes(b"")
        store.put("a", b"")
        (store.root / "link").symlink_to(tmp_path / "other")
        assert list(store.list()) == ["a"]

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
            assert "Free disk space" in caught.value.hint
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
        real = os.open

        def open_file(path, *args, **kwargs):
            assert not Path(path).is_dir()
            return real(path, *args, **kwargs)

        monkeypatch.setattr(os, "open", open_file)
        store.put("x", b"1", durable=True)
        assert store.get("x") == b"1"

    def test_empty_folders_go_with_their_last_file(self, store):
        store.put("a/b/c", b"")
        store.put("a/d", b"")
        store.delete("a/b/c")
        assert sorted(p.name for p in (store.root / "a").iterdir()) == ["d"]
        store.delete("a/d")
        assert list(store.root.iterdir()) == []


class TestOpenStore:
    @pytest.mark.parametrize("path", ["out", "./s3:x", "a/b:c", "C:\\x", "D:/x", "x.y"])
    def test_paths(self, path):
        assert open_store(path).root == Path(path)
        assert open_store(Path(path)).root == Path(path)

    def test_file_urls(self, tmp_path):
        folder = tmp_path / "a b#1%20 é?"
        store = open_store(folder.as_uri())
        assert store.root == folder
        assert store.url == folder.as_uri()
        assert open_store(f"FILE://localhost{folder.as_uri()[7:]}").root == folder

    @pytest.mark.parametrize("url", ["file:x", "file://", "file://server/share", "file:"])
    def test_file_urls_without_a_folder_of_this_computer(self, url):
        if os.name == "nt" and url == "file://server/share":
            return  # a share
        with pytest.raises(OutputError, match="file:"):
            open_store(url)

    def test_memory_urls_share_what_they_hold(self):
        open_store("memory://shared").put("a", b"1")
        store = open_store("memory://shared/")
        assert store.get("a") == b"1"
        assert store.url == "memory://shared"
        assert not open_store("memory://other").exists("a")
        store.forget()
        assert not open_store("memory://shared").exists("a")

    def test_a_folder_of_a_memory_url_is_a_part_of_it(self):
        whole = open_store("memory://nested")
        whole.put("a/b/c", b"1")
        folder = open_store("memory://nested/a")
        assert (list(folder.list()), list(folder.children())) == (["b/c"], ["b/"])
        folder.put("d", b"2")
        assert not folder.create("b/c", b"3")
        whole.put("ab", b"4")
        assert list(whole.list()) == ["a/b/c", "a/d", "ab"]
        open_store("memory://nested/a").forget()
        assert list(whole.list()) == ["ab"]
        whole.forget()

    @pytest.mark.parametrize("url", ["memory://", "memory:x", "memory:///"])
    def test_memory_urls_without_a_name(self, url):
        with pytest.raises(OutputError, match="does not name a place"):
            open_store(url)

    @pytest.mark.parametrize(
        "url", ["ftp://bucket/x", "ftp:bucket", "FTP://x", "http://x", Path("ftp://b/x")]
    )
    def test_unknown_schemes_are_refused(self, url, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(OutputError, match=r"No store opens .*Known: file, memory"):
            open_store(url)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("url", ["", "  "])
    def test_an_empty_place_is_refused(self, url):
        with pytest.raises(OutputError, match="empty"):
            open_store(url)

    def test_a_registered_store_is_opened_by_its_scheme(self, monkeypatch):
        monkeypatch.setattr(registry, "_registered", {})
        registry.register("store", "bucket", lambda url: ("opened", url))
        assert open_store("bucket://a/b") == ("opened", "bucket://a/b")
        assert open_store(Path("bucket://a/b")) == ("opened", "bucket://a/b")


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
