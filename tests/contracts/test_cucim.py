"""The reader ``cucim`` keeps the contract of readers: with stand-ins, and with cuCIM itself."""

import pytest

from qupath_bridge.readers.cucim import CucimReader
from qupath_bridge.testing.contracts.reader import ReaderContract, Truth
from qupath_bridge.testing.slides import marker_image, write_slide
from tests.support import gpu

SIZE = (301, 207)


class CucimContract(ReaderContract):
    @pytest.fixture
    def truth(self):
        return Truth(marker_image(*SIZE), lossless=False)

    @pytest.fixture(params=[1, 3])
    def path(self, request, tmp_path):
        return write_slide(
            tmp_path / "a.tiff", marker_image(*SIZE), tile=64, levels=request.param,
            compression="jpeg",
        )  # fmt: skip

    @pytest.fixture
    def make(self, path):
        return lambda: CucimReader(path)


class TestCpuStandIn(CucimContract):
    @pytest.fixture(autouse=True)
    def packages(self, monkeypatch):
        gpu.install(monkeypatch)


class TestGpuStandIn(CucimContract):
    @pytest.fixture(autouse=True)
    def packages(self, monkeypatch):
        gpu.install(monkeypatch, gpu.Gpu())


class TestCucim(CucimContract):
    """On the GPU where one answers, else on cuCIM's CPU path."""

    @pytest.fixture(autouse=True)
    def packages(self):
        pytest.importorskip("cucim", reason="cuCIM is not installed: pip install cucim-cu12")
