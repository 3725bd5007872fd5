import pytest

from qupath_bridge.stores.memory import MemoryStore
from qupath_bridge.testing.contracts.output import OutputContract


class TestFolder(OutputContract):
    container = "folder"

    @pytest.fixture
    def url(self, tmp_path):
        return str(tmp_path / "out")


class TestTar(OutputContract):
    container = "tar"

    @pytest.fixture
    def url(self, tmp_path):
        return str(tmp_path / "out")


class TestTarOfSmallShards(TestTar):
    container = "tar:6kB"


class TestTarInMemory(OutputContract):
    container = "tar:6kB"

    @pytest.fixture
    def url(self):
        store = MemoryStore()
        yield store.url
        store.forget()


class TestMemory(OutputContract):
    container = "memory"

    @pytest.fixture
    def url(self):
        store = MemoryStore()
        yield store.url
        store.forget()
