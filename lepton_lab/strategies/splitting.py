"""Layers cut between the ranks of a tensor group, by torch.distributed.tensor.parallel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor, nn
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    PrepareModuleInput,
    PrepareModuleOutput,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)
from torch.nn import functional

from ..errors import SpecError
from .shards import sharing
from .work import AROUND, BACKWARD, FORWARD, Workload, all_gather, all_reduce, around, reduce_scatter

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

ELEMENTWISE = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.SELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Tanh,
    nn.Sigmoid,
    nn.Softplus,
    nn.Hardtanh,
    nn.Dropout,
    nn.Identity,
)
"""What may stand between two layers of a pair: each unit by itself, so that a rank needs its own units only."""


class Part(NamedTuple):
    """Layers of a model that are cut together."""

    owner: nn.Module
    """What has them: a module whose class says how it is cut, or an nn.Sequential."""
    columns: list[Any]
    """Linear layers that are cut by columns (outputs)."""
    between: list[nn.Module]
    """What computes with their slices."""
    row: Any
    """The linear layer that is cut by rows (inputs), whose sum over ranks is the whole."""


def parts(model: nn.Module) -> list[Part]:
    """
    What of a model can be cut: modules whose class says how, as `lepton_lab.models.blocks` does, and pairs of layers.

    A layer that shares a parameter stays whole: cut for one of its places, it would be wrong in the others.
    """
    shared = sharing(model)
    cuttable: list[Part] = []
    for module in model.modules():
        kind: Any = type(module)
        if _says_how(module) and shared.isdisjoint(module.parameters()):
            columns = [module.get_submodule(name) for name in kind.cut_by_columns]
            row = module.get_submodule(kind.cut_by_rows)
            between = [part for part in module.modules() if part not in (*columns, row)]
            cuttable.append(Part(module, columns, between, row))
        elif isinstance(module, nn.Sequential):
            cuttable += _pairs(module, shared)
    return cuttable


def _says_how(module: nn.Module) -> bool:
    return getattr(type(module), "cut_by_columns", None) is not None


def blocks(model: nn.Module) -> list[nn.Module]:
    """Modules with parts that treat each token by itself, as their classes say."""
    return [module for module in model.modules() if hasattr(type(module), "tokenwise")]


class SlicedDropout(nn.Dropout):
    """
    Dropout of a slice of an activation, as dropout of the whole would treat it.

    Every rank of a group draws for the whole, from equal generators, and takes its slice: so that the result is that
    of one process. The activation is cut along `dim` into `count` slices, of which this is `index`; the fraction `p` is
    left out.
    """

    def __init__(self, p: float, dim: int, index: int, count: int) -> None:
        super().__init__(p)
        self.dim, self.index, self.count = dim, index, count

    def forward(self, x: Tensor) -> Tensor:
        """(..., n, ...) -> (..., n, ...), n along `dim`."""
        if not self.training or not self.p:
            return x
        shape = list(x.shape)
        shape[self.dim] *= self.count
        mask = functional.dropout(x.new_ones(shape), self.p)
        return x * mask.chunk(self.count, self.dim)[self.index]


def divisible(model: nn.Module) -> list[tuple[str, int]]:
    """What the layers of a model that can be cut are made of: kind and number ("heads", 4), one for each part."""
    layers = []
    for part in parts(model):
        units, size = part.columns[0].out_features, getattr(part.owner, "head_size", 0)
        layers.append(("heads", units // size) if size else ("units", units))
    return layers


def fractions(model: nn.Module, ranks: int, sequence: bool) -> dict[str, float]:
    """What a rank has of parameters that are cut (by name), and of what modules take (by an event's owner)."""
    names = {module: path for path, module in model.named_modules()}
    sliced: list[str] = []
    for part in parts(model):
        columns, between = ([names[layer] for layer in layers] for layers in (part.columns, part.between))
        row = names[part.row]
        sliced += [f"{path}.{kind}" for path in columns for kind in ("weight", "bias")]
        sliced += [f"{row}.weight", *between, row]
        sliced += [FORWARD + path for path in (*columns, *between)] + [BACKWARD + path for path in (row, *between)]
    for block in blocks(model) if sequence else ():
        kind: Any = type(block)
        own = [names[block], *(f"{names[block]}.{part}" for part in kind.tokenwise)]
        sliced += [way + path for path in own for way in ("", FORWARD, BACKWARD)]
    return dict.fromkeys(sliced, 1 / ranks)


def sent_bytes(work: Workload, ranks: int, samples: int, sequence: bool) -> float:
    """Bytes that a rank sends its group for a micro-batch."""
    names = {module: path for path, module in work.model.named_modules()}
    first = next(work.model.parameters())
    sent = 0.0
    for part in parts(work.model):
        column = part.columns[0]
        inputs = work.outputs[names[column]].of(samples) * column.in_features / column.out_features
        outputs = work.outputs[names[part.row]].of(samples)
        if sequence:
            sent += 2 * all_gather(inputs, ranks) + 2 * reduce_scatter(outputs, ranks)
        else:  # the gradient of the model's own inputs is nobody's
            sent += all_reduce(outputs, ranks) + (0.0 if column.weight is first else all_reduce(inputs, ranks))
    return sent


def hops(model: nn.Module, ranks: int, sequence: bool) -> float:
    """Messages one after the other of a micro-batch, two operations each way for a part: see `sent_bytes`."""
    return around(ranks, len(parts(model)) * (2 + 2 * AROUND if sequence else 2 * AROUND))


def split(model: nn.Module, mesh: DeviceMesh, sequence: bool) -> None:
    """
    Cut what can be cut of a model in place: its weights become DTensors, and all else stays as it is on every rank.

    The model is the same on every rank of the mesh, a tensor group in one dimension. With `sequence`, what is between
    attention and MLP is cut too, by tokens.

    Raises
    ------
    SpecError
        If `sequence` is to be cut and blocks are not in a row.
    """
    replicated: Shard | Replicate = Replicate()
    tokens = Shard(1) if sequence else replicated
    cuttable = parts(model)
    if sequence:
        _cut_tokens(model, mesh)
    for part in cuttable:
        if _says_how(part.owner):
            _cut(part, mesh, tokens)
            continue
        _cut(part, mesh, replicated)
        for layer in part.between:
            _slice_dropout(part.owner, layer, -1, mesh)


def _cut(part: Part, mesh: DeviceMesh, layout: Shard | Replicate) -> None:
    """Cut layers of which each rank has what goes in and comes out in some layout."""
    entry = layout
    if len(part.columns) > 1:  # their input is gathered, and its gradient summed, once for all
        entry = Replicate()
        _apply(part.owner, mesh, PrepareModuleInput(input_layouts=layout, desired_input_layouts=entry))
    for column in part.columns:
        _apply(column, mesh, ColwiseParallel(input_layouts=entry))
    _apply(part.row, mesh, RowwiseParallel(output_layouts=layout))


def _apply(module: nn.Module, mesh: DeviceMesh, style: ParallelStyle) -> None:
    # Each rank has the same weights already and takes its part of them: nothing needs to be sent.
    parallelize_module(module, mesh, style, src_data_rank=None)


def _cut_tokens(model: nn.Module, mesh: DeviceMesh) -> None:
    """Between the first block's input and the last one's output each rank holds its slice of the tokens."""
    enter = PrepareModuleInput(input_layouts=Replicate(), desired_input_layouts=Shard(1), use_local_output=True)
    leave = PrepareModuleOutput(output_layouts=Shard(1), desired_output_layouts=Replicate())
    for row in rows_of_tokens(model, mesh.size()):
        _apply(row, mesh, enter)
        _apply(row, mesh, leave)
        for block in row:
            for norm in ("norm1", "norm2"):
                _apply(block.get_submodule(norm), mesh, SequenceParallel(use_local_output=True))
            _slice_dropout(block, block.get_submodule("dropout"), 1, mesh)


def rows_of_tokens(model: nn.Module, ranks: int) -> list[nn.Sequential]:
    """
    The rows of Blocks whose tokens can be cut; from now on they refuse a number of them that `ranks` doesn't divide.

    Raises
    ------
    SpecError
        If a Block is in no such row.
    """
    shared, every_block = sharing(model), blocks(model)
    sequences = [module for module in model.modules() if isinstance(module, nn.Sequential) and len(module)]
    rows = [row for row in sequences if set(row) <= set(every_block)]
    if any(not shared.isdisjoint(block.parameters()) for block in every_block):
        raise SpecError(
            "options={'sequence_parallel': True}: cuts the tokens between Blocks, and here some share parameters and "
            "so stay whole; take sequence_parallel=False"
        )
    if not every_block or len(every_block) != sum(len(row) for row in rows):
        raise SpecError(
            "options={'sequence_parallel': True}: cuts the tokens of an nn.Sequential of Blocks, which this model is "
            "not made of; take model='transformer' or 'gpt', or sequence_parallel=False"
        )

    def check(_: nn.Module, inputs: tuple[Tensor]) -> None:
        if (tokens := inputs[0].shape[1]) % ranks:
            raise SpecError(
                f"options={{'sequence_parallel': True}}: {tokens} tokens can't be cut evenly between {ranks} ranks; "
                f"take sequence_parallel=False, or samples of {tokens // ranks * ranks or ranks} tokens"
            )

    for row in rows:
        row.register_forward_pre_hook(check)
    return rows


def _slice_dropout(parent: nn.Module, layer: nn.Module, dim: int, mesh: DeviceMesh) -> None:
    """Put SlicedDropout in a layer's place, if it is a dropout."""
    for name, child in parent.named_children():
        if child is layer and isinstance(layer, nn.Dropout):
            setattr(parent, name, SlicedDropout(layer.p, dim, mesh.get_local_rank(), mesh.size()))


def _pairs(module: nn.Sequential, shared: set[nn.Parameter]) -> list[Part]:
    """Pairs of linear layers with nothing but element by element functions between them."""
    pairs: list[Part] = []
    first: nn.Linear | None = None
    between: list[nn.Module] = []
    for layer in module:
        whole = layer if isinstance(layer, nn.Linear) and shared.isdisjoint(layer.parameters()) else None
        if first is None:
            first = whole
        elif whole is not None:
            pairs.append(Part(module, [first], between, whole))
            first, between = None, []
        elif isinstance(layer, ELEMENTWISE):
            between = [*between, layer]
        else:
            first, between = None, []
    return pairs
