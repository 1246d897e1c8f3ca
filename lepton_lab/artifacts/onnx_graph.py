"""The ONNX graph of an artifact: made by torch's exporter, slimmed, its weights in a file of their own."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from math import prod
from typing import TYPE_CHECKING, Any

import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from ..errors import LabError
from ..switches import ERRORS, quiet, switched
from .outputs import asking
from .schemes import LARGE

if TYPE_CHECKING:
    import numpy as np
    from torch.export import ExportedProgram

    from .inputs import Signature

OPSET = 20
INPUT, OUTPUT = "samples", "scores"
DISABLED = ["QDQPropagationTransformer"]  # it moves rounding from where the quantizer placed it (see `_shallow` there)
SCOPES = "pkg.torch.onnx.name_scopes"


def from_program(
    program: ExportedProgram, model: str, names: Sequence[str] = (INPUT,), outputs: Sequence[str] = ()
) -> onnx.ModelProto:
    """A program as ONNX, with the batch dynamic; LabError, with its name, if an operator has no counterpart."""
    import torch

    with quiet(), _one_table():
        try:
            exported = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=list(names),
                output_names=[name + "_out" * (name in names) for name in outputs or (OUTPUT,)],
            )
        except Exception as error:
            raise LabError(_why(error, model)) from error
    assert exported is not None
    return exported.model_proto


def rehearse() -> None:
    """Export one layer: what that imports and reads, the processes that are forked from this one have then."""
    from torch import nn

    from .about import About
    from .preparing import Prepared, traced

    about = About("rehearsal", (1,))
    from_program(traced(Prepared(nn.Linear(1, 1), about), about), about.model)


def _one_table() -> AbstractContextManager[None]:
    """With torch's table of operators kept: its exporter reads it anew each time, from the sources of 500 functions."""
    read = _reader()
    return switched(_current, _put, staticmethod(read)) if read else nullcontext()


@functools.cache
def _reader() -> Callable[..., Any] | None:
    """What reads the table, and keeps it; None where another version's exporter has it in no such place."""
    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry

        return functools.cache(ONNXRegistry.from_torchlib)
    except (ImportError, AttributeError):
        return None


def _current() -> Any:
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    return vars(ONNXRegistry)["from_torchlib"]


def _put(reader: Any) -> None:
    from torch.onnx._internal.exporter import _registration

    _registration.ONNXRegistry.from_torchlib = reader  # type: ignore[method-assign]


def _why(error: BaseException, model: str) -> str:
    """The sentence on a model that does not export, with the operator's name."""
    cause: BaseException | None = error
    while cause is not None:
        if match := re.search(r"No ONNX function found for <OpOverload\(op='([\w.]+)'", str(cause)):
            return (
                f"model={model!r}: operator {match[1]} has no counterpart in ONNX; write it with runtime='torch' (or "
                "export it with format='torch'), or compute the same from other operators"
            )
        cause = cause.__cause__
    first = next(filter(None, map(str.strip, str(error.__cause__ or error).splitlines())), type(error).__name__)
    return f"model={model!r}: does not export to ONNX ({first[:160].rstrip('.')}); write it with runtime='torch'"


def runner(session: Any, signature: Signature, outputs: Sequence[str] = ()) -> Callable[[Any], Any]:
    """A session as a function of a batch, an array or a dict of them by name, of which the graph may not use all."""
    names = {value.name for value in session.get_inputs()}

    def run(arrays: list[np.ndarray]) -> list[np.ndarray]:
        given = zip(signature.names, arrays, strict=True)
        return session.run(None, {name: array for name, array in given if name in names})

    return asking(run, signature, outputs)


def reader(graph: onnx.GraphProto, name: str) -> onnx.NodeProto | None:
    """The node that takes a value, where there is just one."""
    readers = [node for node in graph.node if name in node.input]
    return readers[0] if len(readers) == 1 else None


def drop_unused(model: onnx.ModelProto) -> None:
    """Take out the constants that no node reads any more."""
    used = {name for node in model.graph.node for name in node.input}
    for tensor in [t for t in model.graph.initializer if t.name not in used]:
        model.graph.initializer.remove(tensor)


def slim(model: onnx.ModelProto) -> None:
    """Take out what running does not need: names as long as paths, stack traces, shapes on the way."""
    graph = model.graph
    assert not any(a.HasField("g") or a.graphs for n in graph.node for a in n.attribute), "names of subgraphs"
    public = {v.name for v in (*graph.input, *graph.output)}
    public |= {t.name for t in graph.initializer if prod(t.dims) >= LARGE}
    names: dict[str, str] = {"": ""}

    def short(name: str) -> str:
        return name if name in public else names.setdefault(name, f"{len(names)}")

    for node in graph.node:
        node.input[:], node.output[:] = map(short, node.input), map(short, node.output)
        node.name = ""
    for tensor in graph.initializer:
        tensor.name = short(tensor.name)
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output, graph, model):
        part.ClearField("doc_string")
        del part.metadata_props[:]
    del graph.value_info[:]
    del graph.quantization_annotation[:]
    graph.name = "model"
    domains = {node.domain for node in graph.node} | {""}
    for operators in [operators for operators in model.opset_import if operators.domain not in domains]:
        model.opset_import.remove(operators)


def split(model: onnx.ModelProto) -> tuple[bytes, dict[str, np.ndarray], dict[str, int]]:
    """
    The graph without its large weights, those by name, and the axis of their output channels.

    In the graph each is marked as external data of the same name.
    """
    light = onnx.ModelProto()
    light.CopyFrom(model)
    weights: dict[str, np.ndarray] = {}
    for tensor in light.graph.initializer:
        if prod(tensor.dims) < LARGE:
            continue
        weights[tensor.name] = numpy_helper.to_array(tensor)
        for field in ("raw_data", "float_data", "int32_data", "int64_data"):
            tensor.ClearField(field)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        del tensor.external_data[:]
        tensor.external_data.add(key="location", value="w")
    products = {n.input[1] for n in light.graph.node if n.op_type == "MatMul"}
    return light.SerializeToString(), weights, {name: -1 for name in weights if name in products}


def session(graph: bytes, weights: dict[str, np.ndarray], threads: int = 0) -> Any:
    """
    An ONNX Runtime session of a graph from a file that nobody vouches for; `threads` of 0 are all cores.

    Raises LabError where the graph holds what an artifact may not, or ONNX Runtime refuses it.
    """
    try:
        model = onnx.ModelProto.FromString(graph)
    except DecodeError:
        raise LabError("its graph is no ONNX model") from None
    needed = _checked(model)
    for tensor in needed:
        weight, dtype = weights.get(tensor.name), onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        if weight is None or weight.shape != tuple(tensor.dims) or weight.dtype != dtype:
            raise LabError(f"its weights lack {tensor.name[:60]!r} as the graph wants it")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = ERRORS
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(weights[t.name]) for t in needed]
    if values:
        options.add_external_initializers([t.name for t in needed], values)
    try:
        running = onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"], disabled_optimizers=DISABLED
        )
    except Exception as error:
        raise LabError(f"ONNX Runtime can't run its graph: {str(error).splitlines()[0][:160]}") from None
    running.held = values  # lives as long as the session, which looks into it
    return running


def _checked(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """The initializers that come from the file of weights; nothing else may come from outside of the graph."""
    external = onnx.TensorProto.EXTERNAL
    if model.functions or model.graph.sparse_initializer or model.training_info:
        raise LabError("its graph holds functions, which an artifact may not")
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx"):
            name = f"{node.domain[:30]}.{node.op_type[:30]}"
            raise LabError(f"operator {name!r} is not among those that an artifact may hold")
        for attribute in node.attribute:
            if attribute.HasField("g") or attribute.graphs:
                raise LabError(f"operator {node.op_type[:30]} holds a graph of its own, which an artifact may not")
            if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
                raise LabError(f"operator {node.op_type[:30]} holds a sparse tensor, which an artifact may not")
            if attribute.t.data_location == external or any(t.data_location == external for t in attribute.tensors):
                raise LabError("its graph names a file outside of it, which an artifact may not")
    return [tensor for tensor in model.graph.initializer if tensor.data_location == external]
