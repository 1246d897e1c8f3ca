"""Scaling of raw samples, taken into the layer that reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .onnx_graph import INPUT, drop_unused, reader

if TYPE_CHECKING:
    from .about import About


class Scaling(NamedTuple):
    """What a graph does to raw samples before anything else: x * scale - shift."""

    nodes: list[onnx.NodeProto]
    """Those that do it, in order; first a Cast, where there is one."""
    scale: np.ndarray
    shift: np.ndarray
    reader: onnx.NodeProto
    """The node that alone reads what comes of it."""


def fold_scaling(model: onnx.ModelProto) -> None:
    """
    Let the first convolution read raw pixels, where it can: w (x s - t) + b = (w s) x + (b - sum of w t).

    With zeros added around the image it can't, as those stand for scaled pixels; nor with more readers than one. The
    model is changed in place, and equal to rounding.
    """
    graph, constants = model.graph, _constants(model)
    scaling = _scaling(model)
    if scaling is None or scaling.reader.op_type != "Conv":
        return
    nodes, scale, shift, conv = scaling
    cast = nodes[:1] if nodes and nodes[0].op_type == "Cast" else []  # it makes floats of pixels
    if len(nodes) == len(cast) or not _foldable(conv, constants, scale, shift):
        return
    weight, *biases = (numpy_helper.to_array(constants[name]).astype(np.float64) for name in conv.input[1:])
    offset = (weight * shift).sum(axis=tuple(range(1, weight.ndim)))  # weight: (out, in, rows, columns)
    _put(constants[conv.input[1]], weight * scale)
    if biases:
        _put(constants[conv.input[2]], biases[0] - offset)
    else:
        conv.input.append(f"{conv.input[1]}/bias")
        graph.initializer.append(numpy_helper.from_array((-offset).astype(np.float32), conv.input[2]))
    conv.input[0] = cast[0].output[0] if cast else INPUT
    for node in nodes[len(cast) :]:
        graph.node.remove(node)
    drop_unused(model)


def take_integers(model: onnx.ModelProto, about: About) -> None:
    """
    Let a graph in int8 read uint8 samples as the integers that they are, where one scale and shift holds for all.

    QuantizeLinear(x * scale - shift), with that same scale and the zero point round(shift / scale), gives x again, as
    the shift's rest is below half a step: so neither is computed, and the first layer reads what came in. The model is
    changed in place.
    """
    scaling, graph = _scaling(model), model.graph
    if about.dtype != "uint8" or scaling is None or scaling.reader.op_type != "QuantizeLinear":
        return
    if not scaling.nodes or scaling.nodes[0].op_type != "Cast" or max(scaling.scale.size, scaling.shift.size) > 1:
        return
    scale, shift = scaling.scale.item(), scaling.shift.item()
    readers = [node for node in graph.node if scaling.reader.output[0] in node.input]
    zero = round(shift / scale) if scale > 0 else -1
    if not 0 <= zero <= 255 or not all(node.op_type == "DequantizeLinear" for node in readers):
        return
    for title, number in (("samples_scale", np.float32(scale)), ("samples_zero", np.uint8(zero))):
        graph.initializer.append(numpy_helper.from_array(np.asarray(number), title))
    at = list(graph.node).index(readers[0])
    for node in readers:
        inputs = [INPUT, "samples_scale", "samples_zero"]
        graph.node.insert(at, helper.make_node("DequantizeLinear", inputs, node.output))
        graph.node.remove(node)
    for node in (*scaling.nodes, scaling.reader):
        graph.node.remove(node)
    drop_unused(model)


def _scaling(model: onnx.ModelProto) -> Scaling | None:
    """How a graph scales its samples; None where several nodes read them on the way, or the numbers aren't constant."""
    constants = _constants(model)
    nodes: list[onnx.NodeProto] = []
    name, scale, shift = INPUT, np.ones(()), np.zeros(())
    while (node := reader(model.graph, name)) is not None:
        if node.op_type in ("Mul", "Sub"):
            if node.input[0] != name or node.input[1] not in constants:
                return None
            value = numpy_helper.to_array(constants[node.input[1]]).astype(np.float64)
            scale, shift = (scale * value, shift * value) if node.op_type == "Mul" else (scale, shift + value)
        elif node.op_type != "Cast" or nodes:
            return Scaling(nodes, scale, shift, node)
        nodes.append(node)
        name = node.output[0]
    return None


def _foldable(conv: onnx.NodeProto, constants: dict[str, onnx.TensorProto], *values: np.ndarray) -> bool:
    """Whether a convolution adds no zeros of its own, and each of the values is one number for a channel of inputs."""
    attributes = {a.name: helper.get_attribute_value(a) for a in conv.attribute}
    plain = attributes.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID") and not any(attributes.get("pads", ()))
    single = attributes.get("group", 1) == 1 or all(value.size == 1 for value in values)
    if not plain or not single or any(name not in constants for name in conv.input[1:]):
        return False
    channels, *sizes = constants[conv.input[1]].dims[1:]
    return all(v.size == 1 or v.shape[-len(sizes) - 1 :] == (channels, *[1] * len(sizes)) for v in values)


def _constants(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    return {tensor.name: tensor for tensor in model.graph.initializer}


def _put(tensor: onnx.TensorProto, value: np.ndarray) -> None:
    tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float32), tensor.name))
