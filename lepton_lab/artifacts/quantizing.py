"""ONNX graphs in int8: ONNX Runtime's quantizer, and what it leaves to do by hand."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..disks import remedy, why
from ..errors import LabError, SpecError
from ..switches import quiet
from .onnx_graph import INPUT, OUTPUT, SCOPES, drop_unused
from .schemes import SHALLOW

if TYPE_CHECKING:
    import numpy as np
    import onnx

    from .about import About

# With convolutions all of the network stays in integers; without them only the products with weights do, whose
# results go on as floats: what lies between (norms, attention, GELU) has no integer kernel on a CPU.
PRODUCTS = ["Gemm", "MatMul"]
HEAVY = [*PRODUCTS, "Conv", "ConvTranspose"]
BETWEEN = ["MaxPool", "AveragePool", "GlobalAveragePool", "Add", "Relu", "Reshape", "Flatten"]


def static(
    model: onnx.ModelProto, calibration: np.ndarray, about: About, keep: Iterable[str] = (), elsewhere: bool = False
) -> tuple[onnx.ModelProto, set[str]]:
    """
    A graph whose products and convolutions compute in int8, with the scale of each activation as calibration saw it.

    Weights get a scale for each output channel; pairs of QuantizeLinear and DequantizeLinear tell ONNX Runtime where
    integers begin and end, and it fuses them into integer kernels.

    Parameters
    ----------
    model
        In 32-bit floats.
    calibration
        Raw samples (N, *shape) that are like those to come.
    about
        How samples are scaled.
    keep
        Names of layers that stay in floats.
    elsewhere
        Whether it must be fast in a session that is not ours (see `onnx_graph.session`).

    Returns
    -------
    tuple
        The graph, and the names of the weights of layers that stay in floats.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    convolutional = any(node.op_type == "Conv" for node in model.graph.node)
    options: dict[str, Any] = {"MatMulConstBOnly": True, "QuantizeBias": False}
    if not convolutional:
        options["OpTypesToExcludeOutputQuantization"] = PRODUCTS
    model = _preprocessed(_named(model))
    excluded = _excluded(model, keep) + _shallow(model, elsewhere)
    with quiet(), _scratch() as path:
        quantize_static(
            model,
            path,
            _Reader(calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=[*HEAVY, *BETWEEN] if convolutional else PRODUCTS,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=excluded,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options=options,
        )
        made = _read(path)
    _float_scores(made)
    _integer_samples(made, about)
    return made, _weights(made, excluded)


def dynamic(model: onnx.ModelProto, keep: Iterable[str] = ()) -> tuple[onnx.ModelProto, set[str]]:
    """As `static`, for products with weights alone, whose activations are scaled batch by batch."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = _preprocessed(_named(model))
    excluded = _excluded(model, keep)
    with quiet(), _scratch() as path:
        quantize_dynamic(
            model,
            path,
            op_types_to_quantize=PRODUCTS,
            per_channel=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=excluded,
        )
        made = _read(path)
    return made, _weights(made, excluded)


class _Reader:
    """Calibration samples as ONNX Runtime asks for them."""

    def __init__(self, samples: np.ndarray, batch: int = 64) -> None:
        self.batches = iter([samples[i : i + batch] for i in range(0, len(samples), batch)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.batches, None)
        return None if batch is None else {INPUT: batch}


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """A file for a while, since the quantizer writes what it makes."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder) / "model.onnx"
    except OSError as error:
        place = Path(tempfile.tempdir or os.environ.get("TMPDIR") or "/tmp")  # it may be that none can be had
        raise LabError(
            f"int8 is made in {str(place)!r}, which can't be written ({why(error, place)}): {remedy(error)}, or set "
            "TMPDIR to another folder; nothing was written"
        ) from None


def _read(path: Path) -> onnx.ModelProto:
    import onnx

    return onnx.load(path)


def _named(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose nodes are named after the layer that they come from, so that they can be told apart later."""
    import ast

    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for i, node in enumerate(copy.graph.node):
        scopes = next((p.value for p in node.metadata_props if p.key == SCOPES), "[]")
        layers = [name for name in ast.literal_eval(scopes)[:-1] if name]
        node.name = f"{layers[-1].removeprefix('module.') if layers else ''}/{node.op_type}/{i}"
    return copy


def _preprocessed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with constants folded and shapes known, which the quantizer wants."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with quiet(), _scratch() as path:
        try:
            quant_pre_process(model, path)
        except OSError:
            raise
        except Exception:  # it can't follow some shapes; the rest of its work is still of use
            quant_pre_process(model, path, skip_symbolic_shape=True)
        return _read(path)


def _excluded(model: onnx.ModelProto, keep: Iterable[str]) -> list[str]:
    """
    Names of the nodes of some layers.

    Raises
    ------
    SpecError
        If a name is not that of a layer with a product or a convolution.
    """
    heavy = [n for n in model.graph.node if n.op_type in HEAVY and _has_weights(n, model)]
    layers = list(dict.fromkeys(n.name.split("/")[0] for n in heavy))
    nodes = []
    for name in keep:
        of = [n.name for n in heavy if n.name.split("/")[0] == name or n.name.startswith(f"{name}.")]
        if not of:
            raise SpecError(f"keep={name!r}: is no layer that is quantized (known: {', '.join(layers)})")
        nodes += of
    return nodes + [f"{name}_MatMul" for name in nodes]  # what the dynamic quantizer makes of Gemm


def _shallow(model: onnx.ModelProto, elsewhere: bool) -> list[str]:
    """
    Names of nodes that are faster in floats: convolutions that add up few products, up to the pooling after them.

    There an integer kernel spends its time on what surrounds the products: laying out patches, rounding each output.
    The first convolution of 28x28 grey images, 9 products an output, takes 1.5 ms in integers and 0.3 in floats, where
    the second, of 288, takes 0.6 and 1.8 (64 images, one thread). Without a pooling after it the conversion of all its
    outputs takes the gain again.

    ONNX Runtime would then move the rounding before the pooling, to four times as many numbers, and pool them by the
    slowest kernel it has. Our own sessions leave that out; elsewhere an absolute value after the pooling is in the way,
    which changes nothing of what ReLU left.
    """
    from onnx import helper

    graph = model.graph
    sizes = {tensor.name: prod(tensor.dims[1:]) for tensor in graph.initializer}
    names: list[str] = []
    for conv in [node for node in graph.node if node.op_type == "Conv" and sizes.get(node.input[1], SHALLOW) < SHALLOW]:
        chain = [conv]
        while (after := _only_user(graph, chain[-1])) is not None and after.op_type in ("Relu", "MaxPool"):
            chain.append(after)
        if chain[-1].op_type == "MaxPool" and any(node.op_type == "Relu" for node in chain):
            names += [node.name for node in chain]
            if elsewhere:
                last = chain[-1]
                inner = f"{last.name}/pooled"
                names.append(f"{last.name}/stop")
                stop = helper.make_node("Abs", [inner], list(last.output), name=names[-1])
                last.output[0] = inner
                graph.node.insert(list(graph.node).index(last) + 1, stop)
    return names


def _only_user(graph: onnx.GraphProto, node: onnx.NodeProto) -> onnx.NodeProto | None:
    """The node that alone takes the output of another."""
    users = [other for other in graph.node if node.output[0] in other.input]
    return users[0] if len(users) == 1 else None


def _has_weights(node: onnx.NodeProto, model: onnx.ModelProto) -> bool:
    return any(tensor.name == node.input[1] for tensor in model.graph.initializer)


def _weights(model: onnx.ModelProto, nodes: list[str]) -> set[str]:
    """Names of what some nodes take."""
    return {name for node in model.graph.node if node.name in nodes for name in node.input}


def _float_scores(model: onnx.ModelProto) -> None:
    """Take out the last rounding: scores in 256 steps would tie."""
    graph = model.graph
    made = {name: node for node in graph.node for name in node.output}
    last = made.get(OUTPUT)
    if last is None or last.op_type != "DequantizeLinear":
        return
    rounded = made.get(last.input[0])
    if rounded is None or rounded.op_type != "QuantizeLinear":
        return
    source = made[rounded.input[0]]
    if any(rounded.input[0] in node.input for node in graph.node if node is not rounded):
        return
    source.output[list(source.output).index(rounded.input[0])] = OUTPUT
    graph.node.remove(last)
    graph.node.remove(rounded)


def _integer_samples(model: onnx.ModelProto, about: About) -> None:
    """
    Take uint8 samples as the integers that they are, where one scale and shift holds for all of them.

    QuantizeLinear(x * scale - shift), with that same scale and the zero point round(shift / scale), gives x again, as
    the shift's rest is below half a step: so neither is computed, and the first layer reads what came in.
    """
    import numpy as np
    from onnx import helper, numpy_helper

    if about.dtype != "uint8":
        return
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    path: list[onnx.NodeProto] = []
    name = INPUT
    scale = shift = 0.0
    while not path or path[-1].op_type != "QuantizeLinear":
        users = [node for node in graph.node if name in node.input]
        if len(users) != 1 or users[0].op_type not in ("Cast", "Mul", "Sub", "QuantizeLinear"):
            return
        node = users[0]
        if node.op_type == "Cast":
            if path:
                return
            scale = 1.0
        elif node.op_type != "QuantizeLinear":  # what the model itself does to its inputs counts too
            if node.input[0] != name or node.input[1] not in constants or prod(constants[node.input[1]].dims) != 1:
                return
            value = numpy_helper.to_array(constants[node.input[1]]).item()
            scale, shift = (scale * value, shift * value) if node.op_type == "Mul" else (scale, shift + value)
        path.append(node)
        name = node.output[0]
    users = [node for node in graph.node if name in node.input]
    zero = round(shift / scale) if scale > 0 else -1
    if not 0 <= zero <= 255 or not all(node.op_type == "DequantizeLinear" for node in users):
        return
    for title, number in (("samples_scale", np.float32(scale)), ("samples_zero", np.uint8(zero))):
        graph.initializer.append(numpy_helper.from_array(np.asarray(number), title))
    at = list(graph.node).index(users[0])
    for user in users:
        inputs = [INPUT, "samples_scale", "samples_zero"]
        graph.node.insert(at, helper.make_node("DequantizeLinear", inputs, user.output))
        graph.node.remove(user)
    for node in path:
        graph.node.remove(node)
    drop_unused(model)
