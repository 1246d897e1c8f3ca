"""Layers cut between the ranks of a tensor group, by torch.distributed.tensor.parallel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

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
from .work import BACKWARD, FORWARD, all_gather, all_reduce, reduce_scatter

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from .work import Workload

    Pair = tuple[nn.Linear, list[nn.Module], nn.Linear]

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


def cut(module: nn.Module) -> tuple[list[str], str] | None:
    """
    Children that are cut by columns (outputs), and the one cut by rows (inputs), whose sum over ranks is the whole.

    A module's class says so of itself, as `lepton_lab.models.blocks` does; None where it says nothing.
    """
    kind: Any = type(module)
    columns = getattr(kind, "cut_by_columns", None)
    return None if columns is None else (list(columns), kind.cut_by_rows)


def blocks(model: nn.Module) -> list[nn.Module]:
    """Modules with parts that treat each token by itself, as their classes say."""
    return [module for module in model.modules() if hasattr(type(module), "tokenwise")]


class SlicedDropout(nn.Dropout):
    """
    Dropout of a slice of an activation, as dropout of the whole would treat it.

    Every rank of a group draws for the whole, from equal generators, and takes its slice: so that the result is that
    of one process.

    Parameters
    ----------
    p
        Fraction left out.
    dim, index, count
        The activation is cut along `dim` into `count` slices, of which this is `index`.
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
        whole = functional.dropout(x.new_ones(shape), self.p)
        return x * whole.chunk(self.count, self.dim)[self.index]


def divisible(model: nn.Module) -> list[tuple[str, int]]:
    """What the layers of a model that can be cut are made of: kind and number ("heads", 4), one for each layer."""
    layers = []
    for module, pairs in _cuttable(model):
        if names := cut(module):
            units: Any = module.get_submodule(names[0][0]).out_features
            size = getattr(module, "head_size", 0)
            layers.append(("heads", units // size) if size else ("units", units))
        layers += [("units", up.out_features) for up, _, _ in pairs]
    return layers


def chains(model: nn.Module) -> list[tuple[list[str], list[str], str]]:
    """Each cut part of a model, by paths: layers cut by columns, what stands between, and the layer cut by rows."""
    names = {module: path for path, module in model.named_modules()}
    parts = []
    for module, pairs in _cuttable(model):
        if children := cut(module):
            columns, row = [module.get_submodule(name) for name in children[0]], module.get_submodule(children[1])
            between = [part for part in module.modules() if part not in (*columns, row)]
            parts.append(([names[c] for c in columns], [names[part] for part in between], names[row]))
        for up, within, down in pairs:
            parts.append(([names[up]], [names[part] for part in within], names[down]))
    return parts


def fractions(model: nn.Module, ranks: int, sequence: bool) -> dict[str, float]:
    """What a rank has of parameters that are cut (by name), and of what modules take (by an event's owner)."""
    parts: list[str] = []
    for columns, between, row in chains(model):
        parts += [f"{path}.{kind}" for path in columns for kind in ("weight", "bias")]
        parts += [f"{row}.weight", *between, row]
        parts += [FORWARD + path for path in (*columns, *between)] + [BACKWARD + path for path in (row, *between)]
    names = {module: path for path, module in model.named_modules()}
    for block in blocks(model) if sequence else ():
        kind: Any = type(block)
        own = [names[block], *(f"{names[block]}.{part}" for part in kind.tokenwise)]
        parts += [way + part for part in own for way in ("", FORWARD, BACKWARD)]
    return dict.fromkeys(parts, 1 / ranks)


def sent_bytes(work: Workload, ranks: int, samples: int, sequence: bool) -> float:
    """Bytes that a rank sends its group for a micro-batch."""
    sent = 0.0
    first = next(iter(work.model.named_parameters()))[0]
    for (column, *_), _, row in chains(work.model):
        layer: Any = work.model.get_submodule(column)
        came = work.outputs[column].of(samples) * layer.in_features / layer.out_features
        gave = work.outputs[row].of(samples)
        if sequence:
            sent += 2 * all_gather(came, ranks) + 2 * reduce_scatter(gave, ranks)
        else:  # the gradient of the model's own inputs is nobody's
            sent += all_reduce(gave, ranks) + (0.0 if first.startswith(column) else all_reduce(came, ranks))
    return sent


def split(model: nn.Module, mesh: DeviceMesh, sequence: bool) -> None:
    """
    Cut what can be cut of a model in place: its weights become DTensors, and all else stays as it is on every rank.

    Parameters
    ----------
    model
        The same on every rank.
    mesh
        The ranks of a tensor group, in one dimension.
    sequence
        Whether what is between attention and MLP is cut too, by tokens.

    Raises
    ------
    SpecError
        If `sequence` is asked for and blocks are not in a row.
    """
    parts = []
    for module, pairs in list(_cuttable(model)):
        if cut(module):
            parts.append(module)
        for up, between, down in pairs:
            parallelize_module(up, mesh, ColwiseParallel(), src_data_rank=None)
            parallelize_module(down, mesh, RowwiseParallel(), src_data_rank=None)
            for layer in (layer for layer in between if isinstance(layer, nn.Dropout)):
                _slice_dropout(module, layer, -1, mesh)
    tokens = Shard(1) if sequence else Replicate()
    if sequence:
        _cut_tokens(model, mesh)
    for module in parts:
        if children := cut(module):
            _apply(module, mesh, _styles(children, tokens))


def _styles(children: tuple[list[str], str], tokens: Shard | Replicate) -> dict[str, ParallelStyle]:
    columns, row = children
    styles: dict[str, ParallelStyle] = {}
    if len(columns) > 1:  # their input is gathered, and its gradient summed, once for all
        styles[""] = PrepareModuleInput(input_layouts=tokens, desired_input_layouts=Replicate())
    entry = Replicate() if len(columns) > 1 else tokens
    styles |= {name: ColwiseParallel(input_layouts=entry) for name in columns}
    return styles | {row: RowwiseParallel(output_layouts=tokens)}


def _apply(module: nn.Module, mesh: DeviceMesh, styles: dict[str, ParallelStyle]) -> None:
    for name, style in styles.items():
        # Each rank has the same weights already and takes its part of them: nothing needs to be sent.
        parallelize_module(module.get_submodule(name), mesh, style, src_data_rank=None)


def _cut_tokens(model: nn.Module, mesh: DeviceMesh) -> None:
    """Between the first block's input and the last one's output each rank holds its slice of the tokens."""
    for row in rows_of_tokens(model, mesh.size()):
        enter = PrepareModuleInput(input_layouts=Replicate(), desired_input_layouts=Shard(1), use_local_output=True)
        leave = PrepareModuleOutput(output_layouts=Shard(1), desired_output_layouts=Replicate())
        _apply(row, mesh, {"": enter})
        _apply(row, mesh, {"": leave})
        for block in row:
            _apply(block, mesh, {"norm1": _norm(), "norm2": _norm()})
            dropout: Any = block.dropout
            _slice_dropout(block, dropout, 1, mesh)


def rows_of_tokens(model: nn.Module, ranks: int) -> list[nn.Sequential]:
    """
    The rows of Blocks whose tokens can be cut; from now on they refuse a number of them that `ranks` doesn't divide.

    Raises
    ------
    SpecError
        If a Block is in no such row.
    """
    rows = [row for row in model.modules() if isinstance(row, nn.Sequential) and len(row) and _all_blocks(row)]
    shared, every = sharing(model), blocks(model)
    if any(not shared.isdisjoint(block.parameters()) for block in every):
        raise SpecError(
            "options={'sequence_parallel': True}: cuts the tokens between Blocks, and here some share parameters and "
            "so stay whole; take sequence_parallel=False"
        )
    if not every or len(every) != sum(len(row) for row in rows):
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


def _norm() -> ParallelStyle:
    return SequenceParallel(use_local_output=True)


def _all_blocks(row: nn.Sequential) -> bool:
    return all(hasattr(type(layer), "tokenwise") for layer in row)


def _slice_dropout(parent: nn.Module, layer: nn.Dropout, dim: int, mesh: DeviceMesh) -> None:
    for name, child in parent.named_children():
        if child is layer:
            setattr(parent, name, SlicedDropout(layer.p, dim, mesh.get_local_rank(), mesh.size()))


def _cuttable(model: nn.Module) -> Iterator[tuple[nn.Module, list[Pair]]]:
    """
    Modules whose class says how they are cut, and the rows with pairs of layers that can be cut.

    A layer that shares a parameter stays whole: cut for one of its places, it would be wrong in the others.
    """
    shared = sharing(model)
    for module in model.modules():
        if cut(module) and shared.isdisjoint(module.parameters()):
            yield module, []
        elif pairs := _pairs(module, shared):
            yield module, pairs


def _pairs(module: nn.Module, shared: set[nn.Parameter]) -> list[Pair]:
    """Pairs of linear layers of an nn.Sequential with nothing but element by element functions between them."""
    pairs: list[Pair] = []
    first: nn.Linear | None = None
    between: list[nn.Module] = []
    for layer in module if isinstance(module, nn.Sequential) else ():
        whole = layer if isinstance(layer, nn.Linear) and shared.isdisjoint(layer.parameters()) else None
        if first is None:
            first = whole
        elif whole is not None:
            pairs.append((first, between, whole))
            first, between = None, []
        elif isinstance(layer, ELEMENTWISE):
            between = [*between, layer]
        else:
            first, between = None, []
    return pairs
