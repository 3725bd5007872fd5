import pytest

from qupath_bridge.outputs.base import PatchFile, Sink
from qupath_bridge.outputs.folder import FolderSink
from qupath_bridge.outputs.memory import MemorySink
from qupath_bridge.stores.memory import MemoryStore
from qupath_bridge.testing.contracts.sink import SinkContract


class TestMemory(SinkContract):
    @pytest.fixture
    def sink(self):
        return MemorySink()

    def committed(self, sink):
        return sink.patches

    def test_it_is_a_sink(self, sink):
        assert isinstance(sink, Sink)


class TestFolder(SinkContract):
    @pytest.fixture
    def sink(self):
        self.store = MemoryStore()
        return FolderSink(self.store)

    def committed(self, sink):
        return {name: self.store.get(name) for name in self.store.list()}

    def test_a_write_that_fails_is_taken_back(self, sink, monkeypatch):
        sink.begin("1_a")
        sink.write(PatchFile("p", "patches/a.png"), b"1")
        monkeypatch.setattr(self.store, "put", lambda *values: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            sink.write(PatchFile("q", "patches/b.png"), b"2")
        sink.abort("1_a")
        assert self.committed(sink) == {}
