"""Networks that find tissue: the interface with networks made here, and the one that ships."""

import json
from itertools import pairwise

import numpy as np
import pytest
import xxhash
from onnx import TensorProto, helper, numpy_helper

from qupath_bridge.errors import UsageError
from qupath_bridge.pixels.tissue import find_tissue, unet
from qupath_bridge.pixels.tissue.unet import UnetTissue, tile_starts, tile_weights
from qupath_bridge.testing.contracts.tissue import view_of

RNG = np.random.default_rng(1)
PIXELS = RNG.integers(0, 256, (70, 100, 3), dtype=np.uint8)


def write_network(folder, kernel, *, activation="none", **changes):
    """Write a network that is one convolution, (channels, 3, k, k), and its description."""
    kernel = np.asarray(kernel, np.float32)
    pads = [kernel.shape[-1] // 2] * 4
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=pads)],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", len(kernel), "h", "w"])],
        [numpy_helper.from_array(kernel, "w")],
    )
    opset = [helper.make_opsetid("", 13)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    path = folder / "net.onnx"
    path.write_bytes(model)
    about = {
        "name": "mean", "version": "1", "mpp": 10.0, "tile": 32, "overlap": 8,
        "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0], "activation": activation,
        "licence": "CC0-1.0", "digest": f"xxh3_128:{xxhash.xxh3_128_hexdigest(model)}", **changes,
    }  # fmt: skip
    path.with_suffix(".json").write_text(json.dumps(about), encoding="utf-8")
    return path


def mean_kernel():
    return np.full((1, 3, 1, 1), 1 / 3)


def values_of(path, pixels=PIXELS, mpp=10.0):
    return UnetTissue(str(path))(view_of(pixels, mpp))


@pytest.mark.parametrize("shape", [(70, 100), (32, 32), (10, 9), (1, 33)])
def test_a_network_sees_every_pixel_once_in_effect(tmp_path, shape):
    pixels = PIXELS[: shape[0], : shape[1]]
    found = values_of(write_network(tmp_path, mean_kernel()), pixels)
    np.testing.assert_allclose(found.values, pixels.mean(axis=2) / 255, atol=1e-6)
    assert found.note is None


def test_pixels_are_normalised_as_the_description_says(tmp_path):
    more = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.25, 1.0], "activation": "sigmoid"}
    found = values_of(write_network(tmp_path, mean_kernel(), **more))
    normal = (PIXELS / 255 - (0.1, 0.2, 0.3)) / (0.5, 0.25, 1.0)
    np.testing.assert_allclose(found.values, 1 / (1 + np.exp(-normal.mean(axis=2))), atol=1e-6)


def test_the_channel_of_the_tissue_is_chosen(tmp_path):
    kernel = np.zeros((3, 3, 1, 1))
    kernel[0, 0] = kernel[1, 1] = kernel[2, 2] = 4
    found = values_of(write_network(tmp_path, kernel, activation="softmax", channel=2))
    powers = np.exp(PIXELS * (4 / 255))
    np.testing.assert_allclose(found.values, (powers / powers.sum(axis=2, keepdims=True))[..., 2],
                               atol=1e-6)  # fmt: skip


def test_overlap_hides_the_edges_of_tiles(tmp_path):
    """A network that looks around: wrong at the edges of a tile, where its weight is least."""
    kernel = np.full((1, 3, 9, 9), 1 / 243)
    flat = np.full((90, 90, 3), 255, np.uint8)
    worst = {}
    for overlap in (0, 16):
        values = values_of(write_network(tmp_path, kernel, overlap=overlap), flat).values
        worst[overlap] = 1 - values[20:70, 20:70].min()
    assert worst[16] < 0.5 * worst[0]


def test_tiles_cover_everything_and_their_weights_are_positive():
    for length in (1, 31, 32, 33, 56, 57, 200):
        starts = tile_starts(length, 32, 8)
        covered = {x for start in starts for x in range(start, start + 32)}
        assert covered >= set(range(length))
        assert starts[-1] + 32 == max(length, 32)
        assert all(0 < b - a <= 24 for a, b in pairwise(starts))
    weights = tile_weights(32, 8)
    assert weights.min() > 0
    assert weights[16, 16] == 1
    np.testing.assert_array_equal(weights, weights[::-1, ::-1])


def test_a_finer_map_is_brought_to_the_resolution_of_the_network(tmp_path):
    path = write_network(tmp_path, mean_kernel())
    fine = np.kron(PIXELS[:40, :60], np.ones((4, 4, 1), np.uint8))
    found = values_of(path, fine, 2.5)
    np.testing.assert_allclose(found.values, PIXELS[:40, :60].mean(axis=2) / 255, atol=1e-6)
    assert found.note is None
    assert find_tissue(UnetTissue(str(path)), view_of(fine, 2.5)).mask.shape == (40, 60)
    assert "30 µm per pixel, and the network is made for 10" in values_of(path, mpp=30.0).note
    assert "no pixel size" in values_of(path, mpp=None).note


def test_what_decided_is_named_by_content_and_provider(tmp_path):
    path = write_network(tmp_path, mean_kernel())
    first = values_of(path).made_from
    assert first.endswith(", CPUExecutionProvider")
    write_network(tmp_path, mean_kernel(), std=[1.0, 1.0, 0.5])
    assert values_of(path).made_from != first
    moved = tmp_path / "other"
    moved.mkdir()
    assert values_of(write_network(moved, mean_kernel())).made_from == first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"digest": "xxh3_128:0"}, "description is of another file"),
        ({"tile": 30, "multiple": 8}, "tile must be a multiple"),
        ({"overlap": 17}, "overlap half of it at most"),
        ({"mpp": -1.0}, "mpp: input should be greater than 0"),
        ({"colour": 1}, "extra inputs are not permitted"),
        ({"channel": 1}, "channel 1 of 32 x 32 pixels was wanted"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(tmp_path, changes, message):
    path = write_network(tmp_path, mean_kernel(), **changes)
    with pytest.raises(UsageError, match=message):
        values_of(path)


def test_files_that_are_missing_or_not_a_network_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"nothing\.onnx, which is not a file"):
        UnetTissue(str(tmp_path / "nothing.onnx")).check()
    path = write_network(tmp_path, mean_kernel())
    path.with_suffix(".json").unlink()
    with pytest.raises(UsageError, match=r"net\.json, which is not a file"):
        values_of(path)
    path.write_bytes(b"no network")
    digest = f"xxh3_128:{xxhash.xxh3_128_hexdigest(b'no network')}"
    about = json.loads(unet.OWN.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**about, "digest": digest}))
    with pytest.raises(UsageError, match="cannot be loaded"):
        values_of(path)


def test_the_network_that_ships_says_what_it_is():
    about = json.loads(unet.OWN.with_suffix(".json").read_text(encoding="utf-8"))
    assert about["note"].startswith("Experimental: trained on made-up scenes and the textures of 2")
    assert about["licence"] == "GPL-3.0-or-later"
    assert unet.OWN.stat().st_size < 5_000_000


def test_the_network_that_ships_spares_a_pen():
    pixels = np.full((256, 256, 3), 242, np.uint8)
    pixels[60:200, 40:140] = np.random.default_rng(1).normal((180, 90, 150), 18, (140, 100, 3))
    pixels[20:240, 190:202] = (20, 40, 160)
    mask = find_tissue(UnetTissue(), view_of(pixels)).mask
    assert mask[70:190, 50:130].mean() > 0.9
    assert mask[30:230, 192:200].mean() < 0.1
    assert mask[:, 215:].mean() < 0.02
