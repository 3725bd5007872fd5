import hashlib

import numpy as np
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


class Arrays(OutputContract):
    """An output that takes pixels; a new file takes the place of the earlier one."""

    locations_stay = False

    def payload(self, text):
        value = hashlib.sha256(text.encode()).digest()
        return np.resize(np.frombuffer(value, np.uint8), (8, 9, 3))

    def bytes_of(self, payload):
        return payload.tobytes()


class Channels(Arrays):
    """Pixels of other types and channels, in any order in memory."""

    def payload(self, text):
        values = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)
        return np.resize(values, (4, 9, 8)).astype(">u2").transpose(2, 1, 0)

    def bytes_of(self, payload):
        return payload.astype("<u2").tobytes()


class TestH5(Arrays):
    container = "h5"

    @pytest.fixture
    def url(self, tmp_path):
        return str(tmp_path / "out")


class TestZarr(Arrays):
    container = "zarr"

    @pytest.fixture
    def url(self, tmp_path):
        return str(tmp_path / "out")


class TestH5OfChannels(Channels, TestH5):
    pass


class TestZarrOfChannels(Channels, TestZarr):
    pass


class TestH5InMemory(Arrays):
    container = "h5"

    @pytest.fixture
    def url(self):
        store = MemoryStore()
        yield store.url
        store.forget()


class TestZarrInMemory(TestH5InMemory):
    container = "zarr"


class TestParquet(OutputContract):
    container = "parquet"
    locations_stay = False

    @pytest.fixture
    def url(self, tmp_path):
        return str(tmp_path / "out")


class TestParquetOfSmallFiles(TestParquet):
    container = "parquet:1kB"


class TestParquetInMemory(TestH5InMemory):
    container = "parquet"

    def payload(self, text):
        return OutputContract.payload(self, text)

    def bytes_of(self, payload):
        return payload
