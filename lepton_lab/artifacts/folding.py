"""Scaling of raw samples, taken into the weights of the layer that reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .onnx_graph import INPUT, drop_unused

if TYPE_CHECKING:
    import numpy as np
    import onnx


def fold_scaling(model: onnx.ModelProto) -> None:
    """
    Let the first convolution read raw pixels, where it can: w (x s - t) + b = (w s) x + (b - sum of w t).

    With zeros added around the image it can't, as those stand for scaled pixels; nor with more readers than one.

    Parameters
    ----------
    model
        Changed in place, and equal to rounding.
    """
    import numpy as np
    from onnx import numpy_helper

    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    path: list[onnx.NodeProto] = []
    name = INPUT
    scale, shift = np.ones((), np.float64), np.zeros((), np.float64)
    while True:
        users = [node for node in graph.node if name in node.input]
        if len(users) != 1:
            return
        node = users[0]
        if node.op_type == "Conv":
            break
        if node.op_type in ("Mul", "Sub"):
            if node.input[0] != name or node.input[1] not in constants:
                return
            value = numpy_helper.to_array(constants[node.input[1]]).astype(np.float64)
            scale, shift = (scale * value, shift * value) if node.op_type == "Mul" else (scale, shift + value)
        elif node.op_type != "Cast" or path:
            return
        path.append(node)
        name = node.output[0]
    cast = path[:1] if path and path[0].op_type == "Cast" else []  # it makes floats of pixels
    if len(path) == len(cast) or not _foldable(node, constants, scale, shift):
        return
    weight = numpy_helper.to_array(constants[node.input[1]]).astype(np.float64)  # (out, in, rows, columns)
    bias = numpy_helper.to_array(constants[node.input[2]]).astype(np.float64) if len(node.input) > 2 else 0.0
    bias = bias - (weight * shift).sum(axis=tuple(range(1, weight.ndim)))
    _put(graph, constants, node.input[1], weight * scale)
    if len(node.input) > 2:
        _put(graph, constants, node.input[2], bias)
    else:
        node.input.append(f"{node.input[1]}/bias")
        graph.initializer.append(numpy_helper.from_array(bias.astype(np.float32), node.input[2]))
    node.input[0] = cast[0].output[0] if cast else INPUT
    for gone in path[len(cast) :]:
        graph.node.remove(gone)
    drop_unused(model)


def _foldable(conv: onnx.NodeProto, constants: dict[str, onnx.TensorProto], *values: np.ndarray) -> bool:
    """Whether a convolution adds no zeros of its own, and each of the values is one number for a channel of inputs."""
    from onnx import helper

    attributes = {a.name: helper.get_attribute_value(a) for a in conv.attribute}
    plain = attributes.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID") and not any(attributes.get("pads", ()))
    single = attributes.get("group", 1) == 1 or all(value.size == 1 for value in values)
    if not plain or not single or any(name not in constants for name in conv.input[1:]):
        return False
    channels, *sizes = constants[conv.input[1]].dims[1:]
    return all(v.size == 1 or v.shape[-len(sizes) - 1 :] == (channels, *[1] * len(sizes)) for v in values)


def _put(graph: onnx.GraphProto, constants: dict[str, onnx.TensorProto], name: str, value: np.ndarray) -> None:
    import numpy as np
    from onnx import numpy_helper

    constants[name].CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))
