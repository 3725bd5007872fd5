"""Feature encoders made here: one ONNX file of one matrix, and its description."""

import json

import numpy as np
import xxhash
from onnx import TensorProto, helper, numpy_helper

MEAN, STD = (0.1, 0.2, 0.3), (0.5, 0.25, 1.0)


def weights_of(size, width, seed=1):
    """Return numbers of the shape (width, 3, size, size): another one for each value of a patch."""
    return np.random.default_rng(seed).normal(0, 0.1, (width, 3, size, size)).astype(np.float32)


def expected(pixels, weights, mean=MEAN, std=STD):
    """Return the features of a patch (H, W, 3): written out for channel, row and column."""
    normal = (pixels.astype(np.float64) / 255 - mean) / std
    return np.einsum("yxc,dcyx->d", normal, weights.astype(np.float64))


def write_encoder(folder, weights, *, batch="n", extra=(), **changes):
    """Write ``encoder.onnx`` and ``encoder.json``; return the path of the latter.

    The network multiplies each patch with ``weights``. ``batch`` is how many patches it takes at
    once, and ``extra`` are names of more results.
    """
    width, _, size, _ = weights.shape
    kinds = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.float16): TensorProto.FLOAT16}
    kind = kinds[weights.dtype]
    names = ["features", *extra]
    nodes = [helper.make_node("Conv", ["x", "w"], ["map"])]
    nodes += [helper.make_node("Flatten", ["map"], ["features"], axis=1)]
    nodes += [helper.make_node("Neg", ["features"], [name]) for name in extra]
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info("x", kind, [batch, 3, size, size])],
        [helper.make_tensor_value_info(name, kind, [batch, width]) for name in names],
        [numpy_helper.from_array(weights, "w")],
    )
    opset = [helper.make_opsetid("", 13)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "encoder.onnx").write_bytes(model)
    about = {
        "name": "toy", "version": "1", "file": "encoder.onnx", "mpp": 0.5, "size": size,
        "mean": MEAN, "std": STD, "licence": "CC0-1.0",
        "digest": f"xxh3_128:{xxhash.xxh3_128_hexdigest(model)}", **changes,
    }  # fmt: skip
    path = folder / "encoder.json"
    path.write_text(json.dumps(about), encoding="utf-8")
    return path
