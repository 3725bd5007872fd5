"""Features as files of torch: written by it, and read by it alone."""

import numpy as np
import pytest

import qupath_bridge as qb
from tests.support import indexes
from tests.support.encoders import expected, weights_of, write_encoder
from tests.support.indexes import FakeSlide, Patch, noise

torch = pytest.importorskip("torch", reason="torch is not installed")

WEIGHTS = weights_of(32, 4)
SLIDES = [
    FakeSlide(name, {"grade": name}, [Patch(32 * n, pixels=noise(f"{name} {n}")) for n in range(3)])
    for name in "ab"
]
FACTS = {
    "coordinates": {
        "size": [900, 700], "matrix": [[1, 0, 0], [0, 1, 0]], "crop": None, "bounds_offset": None,
        "pixel_size": {"x": 0.5, "y": 0.5, "origin": "project"},
    },
    "grid": {"box": [32, 32], "step": [32, 32], "placed": None},
    "path": "/gone/a.svs",
}  # fmt: skip


@pytest.fixture
def made(tmp_path):
    indexes.write_output(tmp_path / "out", SLIDES, facts=FACTS)
    encoder = write_encoder(tmp_path / "encoder", WEIGHTS)
    return qb.features(tmp_path / "out", encoder, format="pt"), tmp_path / "out", encoder


def right(slide):
    return np.stack([expected(patch.pixels, WEIGHTS) for patch in slide.patches])


def test_torch_reads_the_features_of_each_patch(made):
    _, out, _ = made
    for slide in SLIDES:
        file = out / "features" / "toy" / f"{slide.slide_id}.pt"
        found = torch.load(file, weights_only=True)
        assert found["patch_id"] == [indexes.name_of(slide, patch) for patch in slide.patches]
        assert found["features"].dtype == torch.float32
        np.testing.assert_allclose(found["features"].numpy(), right(slide), atol=1e-4)


def test_bags_and_slideflow_are_made_of_them(tmp_path, made):
    features, out, _ = made
    bags = qb.torch.BagDataset(out, features.place, target="grade")
    qb.convert(out, tmp_path / "new", "slideflow", features=features.place)
    for number, slide in enumerate(SLIDES):
        np.testing.assert_allclose(bags[number][0].numpy(), right(slide), atol=1e-4)
        bag = torch.load(tmp_path / "new" / f"{slide.name}.pt", weights_only=True)
        np.testing.assert_allclose(bag.numpy(), right(slide), atol=1e-4)


def test_a_file_of_torch_is_kept_or_made_anew(made):
    _, out, encoder = made
    assert qb.features(out, encoder, format="pt").kept == ("1_a", "1_b")
    file = out / "features" / "toy" / "1_a.pt"
    file.write_bytes(file.read_bytes()[:-300])
    again = qb.features(out, encoder, format="pt")
    assert (again.renewed, again.kept) == (("1_a",), ("1_b",))
    assert torch.load(file, weights_only=True)["features"].shape == (3, 4)
