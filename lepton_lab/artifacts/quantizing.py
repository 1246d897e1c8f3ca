"""ONNX graphs in int8: ONNX Runtime's quantizer, and what it leaves to do by hand."""

from __future__ import annotations

import ast
import operator
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from math import prod
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import onnx
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.tools import symbolic_shape_infer as inference

from ..errors import LabError, SpecError
from ..files import remedy, why
from ..switches import quiet, switched
from .folding import take_integers
from .inputs import count, parts
from .onnx_graph import SCOPES, reader
from .schemes import SHALLOW

if TYPE_CHECKING:
    import numpy as np

    from .about import About
    from .inputs import Signature

# With convolutions all of the network stays in integers; without them only the products with weights do, whose
# results go on as floats: what lies between (norms, attention, GELU) has no integer kernel on a CPU.
PRODUCTS = ["Gemm", "MatMul"]
HEAVY = [*PRODUCTS, "Conv", "ConvTranspose"]
GEMM = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
"""What a Gemm does where its attributes don't say so."""
BETWEEN = ["MaxPool", "AveragePool", "GlobalAveragePool", "Add", "Relu", "Reshape", "Flatten"]


def static(
    model: onnx.ModelProto, calibration: np.ndarray, about: About, keep: Iterable[str] = (), elsewhere: bool = False
) -> tuple[onnx.ModelProto, set[str]]:
    """
    A graph whose products and convolutions compute in int8, and the names of weights of layers that stay in floats.

    Weights get a scale for each output channel, activations one as calibration saw them; pairs of QuantizeLinear and
    DequantizeLinear tell ONNX Runtime where integers begin and end, and it fuses them into integer kernels.

    The model is in 32-bit floats; `calibration` are raw samples (N, *shape) like those to come, `keep` names layers
    that stay in floats, and `elsewhere` says that it must be fast in a session that is not ours (see `_shallow`).
    Raises SpecError where a layer of `keep` is not there, LabError where no file can be written on the way.
    """
    convolutional = any(node.op_type == "Conv" for node in model.graph.node)
    options: dict[str, Any] = {"MatMulConstBOnly": True, "QuantizeBias": False}
    if not convolutional:
        options["OpTypesToExcludeOutputQuantization"] = PRODUCTS
    model = _preprocessed(_named(model))
    excluded = _excluded(model, keep) + _shallow(model, elsewhere)
    quantized = _written(
        quantize_static,
        model,
        calibration_data_reader=_Reader(calibration, about.signature),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=[*HEAVY, *BETWEEN] if convolutional else PRODUCTS,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=excluded,
        calibrate_method=CalibrationMethod.MinMax,
        extra_options=options,
    )
    _float_scores(quantized)
    take_integers(quantized, about)
    return quantized, _weights(quantized, excluded)


def dynamic(model: onnx.ModelProto, keep: Iterable[str] = ()) -> tuple[onnx.ModelProto, set[str]]:
    """As `static`, for products with weights alone, whose activations are scaled batch by batch."""
    model = _preprocessed(_named(model))
    _turn(model.graph)
    del model.graph.value_info[:]  # among them shapes of weights, which the quantizer transposes
    excluded = _excluded(model, keep)
    how = {"op_types_to_quantize": PRODUCTS, "per_channel": True, "weight_type": QuantType.QInt8}
    quantized = _written(quantize_dynamic, model, nodes_to_exclude=excluded, **how)
    return quantized, _weights(quantized, excluded)


def _turn(graph: onnx.GraphProto) -> None:
    """
    Make products and sums of each Gemm whose weight others take too, as the steps of a recurrent cell do.

    The quantizer would do so itself, and turn the one weight over again for each of them.
    """
    uses = Counter(node.input[1] for node in graph.node if node.op_type == "Gemm")
    shared = {tensor.name: tensor for tensor in graph.initializer if uses[tensor.name] > 1}
    nodes, made = [*graph.node], set[str]()
    del graph.node[:]
    for node in nodes:
        how = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        plain = GEMM | how == GEMM | {"transB": 1}
        if node.op_type != "Gemm" or node.input[1] not in shared or not plain:
            graph.node.append(node)
            continue
        x, weight, *bias = node.input
        turned, product = f"{weight}/turned", node.output[0] + "/product" * bool(bias)
        if turned not in made:
            graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(shared[weight]).T.copy(), turned))
            made.add(turned)
        graph.node.append(helper.make_node("MatMul", [x, turned], [product], f"{node.name}_MatMul"))
        if bias:
            graph.node.append(helper.make_node("Add", [product, *bias], node.output, f"{node.name}_Add"))


class _Reader:
    """Calibration samples as ONNX Runtime asks for them: 64 at once, or one where a graph takes no more."""

    def __init__(self, samples: Any, signature: Signature) -> None:
        size = 1 if signature.apart else 64
        slices = [slice(start, start + size) for start in range(0, count(samples), size)]
        self.batches = iter([parts(samples, operator.itemgetter(places)) for places in slices])
        self.names = signature.names

    def get_next(self) -> dict[str, np.ndarray] | None:
        if (batch := next(self.batches, None)) is None:
            return None
        return {name: batch[name] for name in self.names} if isinstance(batch, dict) else {self.names[0]: batch}


def _written(step: Callable[..., object], model: onnx.ModelProto, **options: Any) -> onnx.ModelProto:
    """What a step of ONNX Runtime makes of a graph: it writes a file."""
    try:
        with tempfile.TemporaryDirectory() as folder, quiet():
            path = Path(folder) / "model.onnx"
            step(model, path, **options)
            return onnx.load(path)
    except OSError as error:
        place = Path(tempfile.tempdir or os.environ.get("TMPDIR") or "/tmp")  # it may be that none can be had
        raise LabError(
            f"int8 is made in {str(place)!r}, which can't be written ({why(error, place)}): {remedy(error)}, or set "
            "TMPDIR to another folder; nothing was written"
        ) from None


def _named(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose nodes are named after the layer that they come from, so that they can be told apart later."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for i, node in enumerate(copy.graph.node):
        scopes = next((p.value for p in node.metadata_props if p.key == SCOPES), "[]")
        layers = [name for name in ast.literal_eval(scopes)[:-1] if name]
        node.name = f"{layers[-1].removeprefix('module.') if layers else ''}/{node.op_type}/{i}"
    return copy


def _preprocessed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with constants folded and shapes known, which the quantizer wants."""
    current, put = partial(getattr, inference, "onnx"), partial(setattr, inference, "onnx")
    try:
        with switched(current, put, _unsaved()):
            return _written(quant_pre_process, model)
    except LabError:
        raise
    except Exception:  # it can't follow some shapes; the rest of its work is still of use
        return _written(_without_shapes, model)


def _unsaved() -> SimpleNamespace:
    """ONNX for the module that follows shapes, which where it can't leaves what it has in the working directory."""
    return SimpleNamespace(**{**vars(onnx), "save_model": lambda *args, **options: None})


def _without_shapes(model: onnx.ModelProto, path: Path) -> None:
    """The rest of it, of a file: of a model in memory it would lose the weights."""
    source = path.with_name("source.onnx")
    onnx.save(model, source)
    quant_pre_process(source, path, skip_symbolic_shape=True)


def _excluded(model: onnx.ModelProto, keep: Iterable[str]) -> list[str]:
    """Names of the nodes of some layers; refused where one has no product or convolution."""
    constants = {tensor.name for tensor in model.graph.initializer}
    heavy = [node.name for node in model.graph.node if node.op_type in HEAVY and node.input[1] in constants]
    nodes = []
    for layer in keep:
        of_layer = [name for name in heavy if name.startswith((f"{layer}/", f"{layer}."))]
        if not of_layer:
            layers = ", ".join(dict.fromkeys(name.split("/")[0] for name in heavy))
            raise SpecError(f"keep={layer!r}: is no layer that is quantized (known: {layers})")
        nodes += of_layer
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
    graph = model.graph
    sizes = {tensor.name: prod(tensor.dims[1:]) for tensor in graph.initializer}
    names: list[str] = []
    for conv in [node for node in graph.node if node.op_type == "Conv" and sizes.get(node.input[1], SHALLOW) < SHALLOW]:
        chain = [conv]
        while (after := reader(graph, chain[-1].output[0])) is not None and after.op_type in ("Relu", "MaxPool"):
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


def _weights(model: onnx.ModelProto, nodes: list[str]) -> set[str]:
    """Names of what some nodes take."""
    return {name for node in model.graph.node if node.name in nodes for name in node.input}


def _float_scores(model: onnx.ModelProto) -> None:
    """Take out the last rounding of each output: scores in 256 steps would tie."""
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    for output in [value.name for value in graph.output]:
        last = makers.get(output)
        rounded = makers.get(last.input[0]) if last is not None and last.op_type == "DequantizeLinear" else None
        if last is None or rounded is None or rounded.op_type != "QuantizeLinear":
            continue
        source = makers.get(rounded.input[0])
        if source is None or not reader(graph, rounded.input[0]):
            continue
        source.output[list(source.output).index(rounded.input[0])] = output
        graph.node.remove(last)
        graph.node.remove(rounded)
