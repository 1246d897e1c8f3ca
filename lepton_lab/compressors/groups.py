"""What can leave a model together: torch-pruning's dependency graph, and the reasons why some of it can't."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn

from ..batches import computed, over, tensors
from ..errors import SpecError

WIDTH = "is the width that several layers add to"
SCORES = "gives the model's answers"
ASTRAY = "feeds code in which its channels can't be followed"
CONV, LINEAR = nn.modules.conv._ConvNd, nn.Linear
LAYERS = (nn.Linear, nn.Conv2d, nn.Conv1d)
QUERIES, SIZES = ("q", "query", "q_lin", "q_proj"), ("head_size", "attention_head_size", "head_dim")
"""What modules of attention call the layer of their queries, and the size of a head."""
MIXING = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.MultiheadAttention)
"""What computes with all of its channels at once, so that fewer of them give other numbers, as they should."""
CLOSE = 100  # roundings of the largest answer: how far off answers may be that only zeros are taken from


@dataclass
class Unit:
    """Channels, neurons or heads that leave a layer, and with them what other layers have for them."""

    name: str
    """Of the layer, in the module."""
    layer: nn.Module
    count: int
    """How many there are."""
    width: int
    """Numbers that each is: more than one for a head of attention."""
    group: Any
    written: list[str] = field(default_factory=list)
    """Names of the layers whose outputs it is."""
    score: Tensor = field(default_factory=lambda: torch.zeros(0))
    """How much each of them matters (count,)."""


class Structure:
    """
    What can be removed from a module, found by one forward pass of an example (B, ...).

    Attributes
    ----------
    units
        What can, in the order of the module's layers.
    left
        Name of each layer whose outputs can't, with the reason.
    """

    def __init__(self, model: nn.Module, example: Any) -> None:
        self.units: list[Unit] = []
        self.left: dict[str, str] = {}
        self.graph = graph = _traced(model, example)
        names = {module: name for name, module in model.named_modules()}
        heads, recurrent = _heads(model), _recurrent(model)
        seen = set()
        for root, group in _groups(graph):
            if group is None:
                self.left[names[root]] = _fed(graph.module2node[root], recurrent) or ASTRAY
                seen.add(names[root])
                continue
            writers = [dep.target.module for dep, _ in group if graph.is_out_channel_pruning_fn(dep.handler)]
            written = [names[m] for m in writers if isinstance(m, LAYERS) and m in names]
            seen.update(written)
            if why := _obstacle(graph, group, writers, len(written), recurrent):
                self.left |= dict.fromkeys(written, why)
                continue
            attention, width = next((heads[q] for q in writers if isinstance(q, nn.Module) and q in heads), (None, 1))
            count = len(group[0].idxs)
            name = names[root] if attention is None else names[attention]
            self.units.append(Unit(name, root, count // width, width, group, written))
        order = list(names.values())
        self.units.sort(key=lambda unit: order.index(unit.name))
        self.left |= _unseen(model, seen)


def _attentions(model: nn.Module) -> list[Any]:
    """Modules whose class says that its queries, keys and values can be cut, in heads."""
    modules = [m for m in model.modules() if getattr(type(m), "cut_by_columns", None)]
    return [module for module in modules if hasattr(module, "head_size")]


def _heads(model: nn.Module) -> dict[nn.Module, tuple[nn.Module, int]]:
    """Attention, and the size of its heads, by the layer that makes its queries; Hugging Face's models have these."""
    heads: dict[nn.Module, tuple[nn.Module, int]] = {}
    for module in model.modules():
        query = next((layer for name, layer in module.named_children() if name in QUERIES), None)
        size = next((getattr(module, name) for name in SIZES if isinstance(getattr(module, name, None), int)), 0)
        if isinstance(query, LINEAR) and size and query.out_features % size == 0:
            heads[query] = module, size
    return heads


def _unseen(model: nn.Module, seen: set[str]) -> dict[str, str]:
    """Why layers that no group has are left alone."""
    reasons = {}
    parts = {f"{name}.out_proj": name for name, m in model.named_modules() if isinstance(m, nn.MultiheadAttention)}
    for name, module in model.named_modules():
        if isinstance(module, LAYERS) and name not in seen:
            reasons[name] = "is of no use for the outputs, as far as a forward pass shows"
            if name in parts:
                reasons[name] = f"is cut along with {parts[name]}, of whose width it is"
    return reasons


def _groups(graph: Any) -> Iterator[tuple[nn.Module, Any]]:
    """Each layer with what leaves along with all of its channels; None where torch-pruning loses track of them."""
    visited: set[nn.Module] = set()
    for layer in list(graph.module2node):
        pruner = (
            graph.get_pruner_of_module(layer) if isinstance(layer, (CONV, LINEAR)) and layer not in visited else None
        )
        if pruner is None or pruner.get_out_channels(layer) is None:
            continue
        try:
            group = graph.get_pruning_group(layer, pruner.prune_out_channels, [*range(pruner.get_out_channels(layer))])
            tp.importance.GroupMagnitudeImportance(p=2, normalizer=None)(group)
        except (IndexError, RuntimeError, ValueError, TypeError):
            yield layer, None
            continue
        visited |= {dep.target.module for dep, _ in group if graph.is_out_channel_pruning_fn(dep.handler)}
        yield layer, group


def _recurrent(model: nn.Module) -> dict[Any, str]:
    """Recurrent layers, torch's or written out, and their parameters, each with the sentence on what feeds it."""
    kinds = (nn.RNNBase, nn.RNNCellBase)
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, kinds) or getattr(type(module), "recurrent", False)
    }
    reasons: dict[Any, str] = {}
    for name, module in layers.items():
        reasons[module] = f"feeds {name}, a recurrent {type(module).__name__}, whose width stays"
        reasons |= dict.fromkeys(module.parameters(), reasons[module])
        within = f"is a part of {name}, a recurrent {type(module).__name__}, whose width stays"
        reasons |= dict.fromkeys(module.children(), within)
    return reasons


def _fed(node: Any, recurrent: dict[Any, str]) -> str:
    """The sentence on a recurrent layer that a layer's outputs come to before any other; "" where there is none."""
    queue, visited = list(node.outputs), set()
    while queue:
        if (source := queue.pop()) in visited:
            continue
        visited.add(source)
        neighbours = [source.module, *(other.module for other in source.inputs)]
        if reason := next((recurrent[module] for module in neighbours if module in recurrent), ""):
            return reason
        if not isinstance(source.module, (CONV, LINEAR)):
            queue += source.outputs
    return ""


def _obstacle(graph: Any, group: Any, writers: list[Any], written: int, recurrent: dict[Any, str]) -> str:
    """Why a group must stay whole; "" where it need not."""
    if reason := next((recurrent[dep.target.module] for dep, _ in group if dep.target.module in recurrent), ""):
        return reason
    added = (nn.Parameter, nn.Embedding, nn.LayerNorm) if written > 1 else (nn.Parameter, nn.Embedding)
    if any(isinstance(m, added) for m in writers):
        return WIDTH
    readers = [dep.target.module for dep, _ in group if graph.is_in_channel_pruning_fn(dep.handler)]
    if not any(isinstance(m, LAYERS) for m in readers):
        return SCORES
    return ""


def _traced(model: nn.Module, example: Any) -> Any:
    """A module's dependency graph without rotary positions, whose halves a trace can't follow: they stay anyway."""
    rotary = {attention: attention.rotary for attention in _attentions(model)}
    for attention in rotary:
        attention.rotary = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # parameters of no layer, which we leave as they are
            return tp.DependencyGraph().build_dependency(model, example_inputs=example, forward_fn=computed)
    except Exception as error:  # of the user's code, or of what follows it
        why = " ".join(f"{type(error).__name__}: {error}".split())[:140]
        raise SpecError(
            f"compress='prune': the model's channels can't be followed from layer to layer ({why}); leave the link out"
        ) from error
    finally:
        for attention, positions in rotary.items():
            attention.rotary = positions


def remove(model: nn.Module, example: Any, structure: Structure, chosen: dict[str, list[int]]) -> nn.Module:
    """
    A module without what was chosen of each unit, by name.

    What a model's own code can't do without, such as a number of channels that it names, is found by a forward pass: it
    stays, and `structure.left` says why.
    """
    model.zero_grad(set_to_none=True)
    chosen = {name: places for name, places in chosen.items() if places}
    whole = copy.deepcopy(model)
    if not (why := _cut(model, structure, chosen, example)):
        return model
    refused: dict[str, str] = {}
    for name in chosen:
        trial = copy.deepcopy(whole)
        if why := _cut(trial, Structure(trial, example), {name: chosen[name]}, example):
            written = next(unit.written for unit in structure.units if unit.name == name)
            refused |= dict.fromkeys([name, *written], f"its code can't do without a part of it ({why})")
    structure.left |= refused
    structure.units = [unit for unit in structure.units if unit.name not in refused]
    rest = {name: places for name, places in chosen.items() if name not in refused}
    if why := _cut(whole, Structure(whole, example), rest, example):
        raise SpecError(f"compress='prune': what can be removed part by part can't be removed together ({why})")
    return whole


def _cut(model: nn.Module, structure: Structure, chosen: dict[str, list[int]], example: Any) -> str:
    """
    Remove what was chosen of each unit; why the module then fails, or gives other answers, or "" where it does not.

    What goes is set to zero first, with what reads it. So removing it changes no answer, unless the module's own code
    has its channels in another order than torch-pruning believes, as after a shuffle.
    """
    graph, exact = structure.graph, True
    x = _drawn(example)
    shapes = [part.shape for part in _answers(model, x)]
    leaving = []
    for unit in structure.units:
        if places := [head * unit.width + i for head in chosen.get(unit.name, []) for i in range(unit.width)]:
            group = graph.get_pruning_group(unit.layer, unit.group[0].dep.handler, places)
            layers = [dep.target.module for dep, _ in group]
            exact = exact and not any(isinstance(m, MIXING) or getattr(m, "groups", 1) > 1 for m in layers)
            leaving.append((unit, places))
            for dep, idxs in group:
                _zero(dep.target.module, list(idxs), graph.is_out_channel_pruning_fn(dep.handler))
    before = _answers(model, x)
    exact = exact and _same(before, _answers(model, x), 0.0)  # not of a model that draws random numbers
    try:
        for unit, places in leaving:
            graph.get_pruning_group(unit.layer, unit.group[0].dep.handler, places).prune()
        after = _answers(model, x)
    except Exception as error:  # of the user's code
        return " ".join(str(error).split())[:100]
    for part, shape in zip(after, shapes, strict=False):
        if part.shape != shape:
            return f"outputs became {tuple(part.shape)}, not {tuple(shape)}"
    kinds = [part.dtype for part in tensors(x) if part.is_floating_point()]
    allowed = CLOSE * max(torch.finfo(kind).eps for kind in kinds or [torch.float32])
    return "channels come in another order after it" if exact and not _same(before, after, allowed) else ""


def _answers(model: nn.Module, x: Any) -> list[Tensor]:
    with torch.no_grad():
        return [part.float() for part in computed(model.eval(), x)]


def _same(before: list[Tensor], after: list[Tensor], allowed: float) -> bool:
    """Whether answers differ by no more than a part of the largest."""
    pairs = zip(before, after, strict=True)
    return all(float((b - a).abs().max()) <= allowed * max(1e-3, float(b.abs().max())) for b, a in pairs if b.numel())


def _drawn(example: Any) -> Any:
    """Samples like an example's, of which no number is another's; tokens as they are."""
    generator = torch.Generator().manual_seed(0)

    def draw(leaf: Tensor) -> Tensor:
        if not leaf.is_floating_point():
            return leaf
        return torch.randn(leaf.shape, generator=generator, dtype=torch.float32).to(leaf)

    return over(draw, example)


def _zero(layer: Any, idxs: list[int], out: bool) -> None:
    """Set to zero what a layer computes in some channels, or with `out` false, what it takes from them."""
    if not isinstance(layer, (CONV, LINEAR, nn.modules.batchnorm._BatchNorm)) or getattr(layer, "groups", 1) > 1:
        return
    transposed = isinstance(layer, nn.modules.conv._ConvTransposeNd)
    with torch.no_grad():
        if layer.weight is not None and layer.weight.dim() > 1:
            layer.weight.index_fill_(int(out == transposed), torch.tensor(idxs), 0.0)
        elif layer.weight is not None:
            layer.weight[idxs] = 0.0
        if layer.bias is not None and (out or layer.weight is None or layer.weight.dim() == 1):
            layer.bias[idxs] = 0.0
