"""A small U-Net in JAX, and the same network as ONNX."""

import jax
import jax.numpy as jnp
import numpy as np
import onnx
from jax import lax
from onnx import TensorProto, helper, numpy_helper

WIDTHS = (8, 16, 32, 48)
MEAN, STD = 0.75, 0.25


def layers():
    """Return name, inputs and outputs of each convolution, in the order of use."""
    found, before = [], 3
    for level, width in enumerate(WIDTHS):
        found += [(f"down{level}a", before, width), (f"down{level}b", width, width)]
        before = width
    for level in reversed(range(len(WIDTHS) - 1)):
        width = WIDTHS[level]
        found += [(f"up{level}a", before + width, width), (f"up{level}b", width, width)]
        before = width
    return [*found, ("out", before, 1)]


def start(seed):
    """Return the weights at the beginning."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, before, after in layers():
        side = 1 if name == "out" else 3
        scale = (2 / (before * side * side)) ** 0.5
        shape = (after, before, side, side)
        weights[name] = (
            jnp.asarray(rng.normal(0, scale, shape), jnp.float32),
            jnp.zeros(after, jnp.float32),
        )
    return weights


def _conv(weights, name, x):
    kernel, bias = weights[name]
    y = lax.conv_general_dilated(x, kernel, (1, 1), "SAME")
    return y + bias[None, :, None, None]


def logits(weights, pixels):
    """Return the logits of pixels (N, 3, H, W), normalised; H and W are multiples of 8."""
    x, kept = pixels, []
    for level in range(len(WIDTHS)):
        if level:
            x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
        for part in "ab":
            x = jax.nn.relu(_conv(weights, f"down{level}{part}", x))
        kept.append(x)
    for level in reversed(range(len(WIDTHS) - 1)):
        x = jnp.repeat(jnp.repeat(x, 2, axis=2), 2, axis=3)
        x = jnp.concatenate([x, kept[level]], axis=1)
        for part in "ab":
            x = jax.nn.relu(_conv(weights, f"up{level}{part}", x))
    return _conv(weights, "out", x)


def to_onnx(weights):
    """Return the network as the bytes of an ONNX file: pixels in, probability out."""
    nodes, tensors, here = [], [], "pixels"

    def add(kind, inputs, output, **attributes):
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def conv(name, x, *, relu=True):
        kernel, bias = (np.asarray(each, np.float32) for each in weights[name])
        for suffix, values in (("w", kernel), ("b", bias)):
            tensors.append(numpy_helper.from_array(values, f"{name}.{suffix}"))
        side = kernel.shape[-1]
        pads = [side // 2] * 4
        y = add("Conv", [x, f"{name}.w", f"{name}.b"], name, pads=pads, kernel_shape=[side] * 2)
        return add("Relu", [y], f"{name}.relu") if relu else y

    tensors.append(numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "twice"))
    kept = []
    for level in range(len(WIDTHS)):
        if level:
            here = add("MaxPool", [here], f"pool{level}", kernel_shape=[2, 2], strides=[2, 2])
        for part in "ab":
            here = conv(f"down{level}{part}", here)
        kept.append(here)
    for level in reversed(range(len(WIDTHS) - 1)):
        grown = add("Resize", [here, "", "twice"], f"grow{level}", mode="nearest",
                    coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip
        here = add("Concat", [grown, kept[level]], f"join{level}", axis=1)
        for part in "ab":
            here = conv(f"up{level}{part}", here)
    add("Sigmoid", [conv("out", here, relu=False)], "tissue")
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", channels, "h", "w"])
        for name, channels in (("pixels", 3), ("tissue", 1))
    ]
    graph = helper.make_graph(nodes, "tissue_unet", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()
