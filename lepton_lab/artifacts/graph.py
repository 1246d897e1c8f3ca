"""
The torch graph of an artifact: calls of operators as plain JSON, and the small interpreter that runs them.

    {"weights": ["0.weight", ...], "nodes": [["conv2d.default", ["%0", "%1", "%2"]], ...], "output": "%9"}

Where a model gives several tensors, "output" is a list.

"%0" is the batch of raw samples (of several inputs, which "inputs" counts, the first ones are), then come the weights,
and the others are what nodes gave, in order. A node is an operator's name, its arguments, and those by keyword if any
What JSON has no word for is an object of one key:
{"dtype": "float32"}, {"device": "cpu"}, {"layout": "strided"}, {"format": "contiguous_format"}, {"float": "inf"},
{"text": "tanh"}. Nothing here is evaluated, unpickled or imported by name.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind

from ..errors import LabError
from ..switches import quiet

FLOATS = ("inf", "-inf", "nan")
CHECKS = ("_assert_tensor_metadata", "_assert_scalar", "_assert_async", "sym_constrain_range_for_size")
MOST = 200_000  # nodes, far beyond any model that this is for
WORDS: dict[str, type] = {"dtype": torch.dtype, "layout": torch.layout, "format": torch.memory_format}
"""Keys of objects whose value is a name in `torch`, and what that is."""

# Of torch.ops.aten, with any overload that returns new tensors. What reads files (from_file), gives memory that holds
# what was there before (empty), looks past a tensor's own elements (as_strided), skips the check of an index
# (_unsafe_index) or draws at random is left out, and so is all that nobody asked for yet.
ALLOWED = """
    __and__ __or__
    abs acos acosh add addcdiv addcmul addmm alias all amax amin any arange argmax argmin asin asinh atan atan2 atanh
    adaptive_avg_pool1d adaptive_avg_pool2d _adaptive_avg_pool2d adaptive_max_pool2d avg_pool1d avg_pool2d avg_pool3d
    baddbmm bitwise_and bitwise_not bitwise_or bitwise_xor bmm bucketize
    cat ceil celu chunk clamp clamp_max clamp_min clone constant_pad_nd contiguous conv1d conv2d conv3d
    conv_transpose1d conv_transpose2d convolution copy cos cosh cumprod cumsum
    detach diagonal div dot einsum elu embedding eq erf exp expand expand_as expm1 eye
    fill flatten flip floor floor_divide fmod full full_like
    gather ge gelu glu group_norm gt hardsigmoid hardswish hardtanh
    index index_put index_select instance_norm isfinite isinf isnan
    layer_norm le leaky_relu lerp lift_fresh_copy linear linspace log log10 log1p log2 log_sigmoid log_softmax
    _log_softmax logical_and logical_not logical_or logical_xor logsumexp lt
    masked_fill matmul max max_pool1d max_pool2d max_pool3d maximum mean min minimum mish mm movedim mul mv
    native_group_norm native_layer_norm _native_batch_norm_legit_no_training ne neg new_full new_ones new_zeros norm
    ones ones_like pad permute pixel_shuffle pixel_unshuffle pow prelu prod
    reciprocal reflection_pad1d reflection_pad2d relu relu6 remainder repeat repeat_interleave replication_pad1d
    replication_pad2d reshape rms_norm roll round rsqrt rsub
    scalar_tensor scatter scatter_add scaled_dot_product_attention select select_scatter
    selu sigmoid sign silu sin sinh size slice slice_scatter softmax _softmax softplus split split_with_sizes sqrt
    squeeze stack std sub sum sym_numel sym_size
    t tan tanh tile to _to_copy topk transpose tril triu type_as unbind unflatten unfold unsqueeze _unsafe_view
    upsample_bilinear2d upsample_nearest2d var var_mean vector_norm linalg_vector_norm view view_as
    where zeros zeros_like
"""
ATEN = frozenset(ALLOWED.split())

# Of whole numbers: sizes, and what is computed from them.
WHOLE: dict[str, Callable[..., Any]] = {
    "int.add": operator.add,
    "int.sub": operator.sub,
    "int.mul": operator.mul,
    "int.floordiv": operator.floordiv,
    "int.mod": operator.mod,
    "int.neg": operator.neg,
    "int.max": max,
    "int.min": min,
    "getitem": operator.getitem,
}


def find(name: str) -> Callable[..., Any]:
    """The function of an operator's name, such as "conv2d.default" or "int.mul"; refused unless it is allowed."""
    if name in WHOLE:
        return WHOLE[name]
    base, _, overload = name.partition(".")
    packet = getattr(torch.ops.aten, base) if base in ATEN else None
    if packet is not None and overload in packet.overloads():
        function = getattr(packet, overload)
        if not function._schema.is_mutable:
            return function
    raise LabError(f"operator {name[:60]!r} is not among those that an artifact may hold")


def to_json(program: ExportedProgram, model: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A program's graph as JSON, and its weights by name; refused where it holds what an artifact may not."""
    with quiet():
        program = program.run_decompositions({})  # in-place operators become plain ones
    signature = program.graph_signature
    if any(spec.kind != OutputKind.USER_OUTPUT for spec in signature.output_specs):
        raise LabError(f"model={model!r}: its forward changes its own buffers; keep what it computes to its output")
    tensors = {**program.state_dict, **program.constants}
    targets = {spec.arg.name: spec.target for spec in signature.input_specs if spec.kind != InputKind.USER_INPUT}
    weights: dict[str, Tensor] = {}
    same: dict[Any, str] = {}  # a tensor under two names is kept once
    nodes: list[Any] = []
    graph = program.graph
    for node in reversed(graph.nodes):
        if node.op == "call_function" and _name(node.target)[1].split(".")[0] in CHECKS:
            graph.erase_node(node)
    graph.eliminate_dead_code()
    # Of placeholders and nodes: the batch, then the weights that are used, then what nodes give.
    given = [node.name for node in graph.nodes if node.op == "placeholder" and node.name not in targets]
    names = {name: f"%{i}" for i, name in enumerate(given)}
    for node in graph.nodes:
        if node.op == "placeholder" and node.name in targets and node.users:
            tensor = tensors[targets[node.name]]
            key = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
            if key not in same:
                title = str(targets[node.name]).removeprefix("module.")
                weights[title] = tensor.detach()
                same[key] = f"%{len(weights) + len(given) - 1}"
            names[node.name] = same[key]
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        allowed, name = _name(node.target)
        if not allowed:
            raise LabError(
                f"model={model!r}: operator {name} is not among those that an artifact's torch graph may hold; write "
                "it with runtime='onnxruntime', or compute the same from other operators"
            )
        arguments = [_plain(argument, names) for argument in node.args]
        keywords = {key: _plain(value, names) for key, value in node.kwargs.items() if key != "pin_memory"}
        nodes.append([name, arguments, keywords] if keywords else [name, arguments])
        names[node.name] = f"%{len(given) - 1 + len(weights) + len(nodes)}"
    outputs = [names[value.name] for value in next(node for node in graph.nodes if node.op == "output").args[0]]
    several = {"inputs": len(given)} if len(given) > 1 else {}
    output = outputs if len(outputs) > 1 else outputs[0]
    return {**several, "weights": list(weights), "nodes": nodes, "output": output}, weights


def _name(target: Any) -> tuple[bool, str]:
    """Whether a target is allowed, and its name."""
    for name, function in WHOLE.items():
        if target is function:
            return True, name
    if target in (torch.sym_max, torch.sym_min):
        return True, "int.max" if target is torch.sym_max else "int.min"
    if isinstance(target, torch._ops.OpOverload):
        space, _, base = target._schema.name.partition("::")
        name = f"{base}.{target._overloadname}"
        if space != "aten":
            return False, f"{space}.{name}"
        return base in ATEN and not target._schema.is_mutable, name
    return target is operator.getitem, str(getattr(target, "__name__", target))


def _plain(value: Any, names: dict[str, str]) -> Any:
    """An argument as JSON."""
    if isinstance(value, torch.fx.Node):
        return names[value.name]
    if isinstance(value, (list, tuple)):
        return [_plain(item, names) for item in value]
    for word, kind in WORDS.items():
        if isinstance(value, kind):
            return {word: str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"device": "cpu"}
    if isinstance(value, str):
        return {"text": value}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if value is None or isinstance(value, (bool, int, float)):
        return value
    raise LabError(f"a graph in an artifact can't hold a {type(value).__name__}")


class Graph:
    """
    A graph that is ready to run: from `content` as `to_json` wrote it, which is not trusted, and tensors by name.

    Raises LabError where it is no such graph, or holds an operator or argument that is not allowed.
    """

    def __init__(self, content: Any, weights: dict[str, Tensor]) -> None:
        try:
            titles, nodes, output = content["weights"], content["nodes"], content["output"]
            self._held = [weights[title] for title in titles]
            given = int(content.get("inputs", 1))
            count = given + len(titles)
            if len(nodes) > MOST:
                raise LabError(f"its graph has {len(nodes):,} nodes, and at most {MOST:,} are read")
            self._calls: list[tuple[Callable[..., Any], Any, Any, list[int]]] = []
            for i, (name, arguments, *keywords) in enumerate(nodes):
                reader = _Reader(count + i)
                args = [reader.read(a) for a in arguments]
                kwargs = {str(k): reader.read(v) for k, v in (keywords[0] if keywords else {}).items()}
                self._calls.append((find(name), args, kwargs, sorted(reader.uses)))
            reader, outputs = _Reader(count + len(nodes)), output if isinstance(output, list) else [output]
            self._outputs = [reader.read(one).index for one in outputs]
        except LabError:
            raise
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
            raise LabError(f"its graph is not one of calls ({type(error).__name__}: {error})") from None
        last = {index: i for i, (*_, uses) in enumerate(self._calls) for index in uses}
        self._ends: list[list[int]] = [[] for _ in self._calls]  # values of which a call is the last user
        for index, i in last.items():
            if index >= given + len(titles) and index not in self._outputs:
                self._ends[i].append(index)

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """(B, *shape) raw samples of each input -> the outputs, (B, ...) each."""
        values: list[Any] = [*inputs, *self._held]
        for (function, args, kwargs, _), ends in zip(self._calls, self._ends, strict=True):
            keywords = {key: _filled(argument, values) for key, argument in kwargs.items()}
            values.append(function(*(_filled(argument, values) for argument in args), **keywords))
            for index in ends:
                values[index] = None
        return [values[index] for index in self._outputs]


@dataclass(frozen=True)
class _Value:
    """The place of a value."""

    index: int


class _Parts(list[Any]):
    """A list with values in it."""


class _Reader:
    """Arguments of a node, which may use the first `count` values."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.uses: set[int] = set()

    def read(self, content: Any) -> Any:
        if isinstance(content, str):
            index = int(content.removeprefix("%"))
            if not content.startswith("%") or not 0 <= index < self.count:
                raise LabError(f"its graph uses a value {content[:20]!r} that is not there yet")
            self.uses.add(index)
            return _Value(index)
        if isinstance(content, list):
            items = [self.read(item) for item in content]
            return _Parts(items) if any(isinstance(item, (_Value, _Parts)) for item in items) else items
        return _constant(content) if isinstance(content, dict) else content


def _constant(content: dict[str, Any]) -> Any:
    """What JSON has no word for."""
    ((kind, name),) = content.items()
    if kind == "text" and isinstance(name, str):
        return name
    if kind == "float" and name in FLOATS:
        return float(name)
    if kind == "device":
        return torch.device("cpu")
    value = vars(torch).get(name)
    if kind not in WORDS or not isinstance(value, WORDS[kind]):
        raise LabError(f"its graph holds {kind}={name!r}, which is no word of it")
    return value


def _filled(argument: Any, values: list[Any]) -> Any:
    if type(argument) is _Value:
        return values[argument.index]
    if type(argument) is _Parts:
        return [_filled(item, values) for item in argument]
    return argument
