"""What can leave a model together: torch-pruning's dependency graph, and the reasons why some of it can't."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn

from ..models.blocks import Attention

WIDTH = "is the width that several layers add to"
SCORES = "gives the model's answers"


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
    score: Tensor = field(default_factory=lambda: torch.zeros(0))
    """How much each of them matters (count,)."""


class Structure:
    """
    What can be removed from a module, found by one forward pass.

    Attributes
    ----------
    units
        What can, in the order of the module's layers.
    left
        Name of each layer whose outputs can't, with the reason.
    """

    def __init__(self, model: nn.Module, example: Tensor) -> None:
        self.units: list[Unit] = []
        self.left: dict[str, str] = {}
        self.graph = graph = traced(model, example)
        names = {module: name for name, module in model.named_modules()}
        heads = {a.q: a for a in model.modules() if isinstance(a, Attention)}
        seen = set()
        for group in graph.get_all_groups():
            writers = [dep.target.module for dep, _ in group if graph.is_out_channel_pruning_fn(dep.handler)]
            written = [names[m] for m in writers if isinstance(m, (nn.Linear, nn.Conv2d, nn.Conv1d)) and m in names]
            seen.update(written)
            if why := _obstacle(graph, group, writers, len(written)):
                self.left |= dict.fromkeys(written, why)
                continue
            attention = next((heads[q] for q in _ends(writers) if q in heads), None)
            root, count = group[0].dep.target.module, len(group[0].idxs)
            width = attention.head_size if attention else 1
            name = names[attention].removesuffix(".") if attention else names[root]
            self.units.append(Unit(name, root, count // width, width, group))
        order = list(names.values())
        self.units.sort(key=lambda unit: order.index(unit.name))
        for name, module in model.named_modules():
            if isinstance(module, (nn.Linear, nn.Conv2d, nn.Conv1d)) and name not in seen:
                self.left[name] = "is of no use for the outputs, as far as a forward pass shows"


def _ends(writers: list[Any]) -> list[Any]:
    return [writer for writer in writers if isinstance(writer, nn.Module)]


def _obstacle(graph: Any, group: Any, writers: list[Any], written: int) -> str:
    """Why a group must stay whole; "" where it need not."""
    if any(isinstance(m, (nn.Parameter, nn.Embedding)) for m in writers):
        return WIDTH
    if written > 1 and any(isinstance(m, nn.LayerNorm) for m in writers):
        return WIDTH
    readers = [dep.target.module for dep, _ in group if graph.is_in_channel_pruning_fn(dep.handler)]
    if not any(isinstance(m, (nn.Linear, nn.Conv2d, nn.Conv1d)) for m in readers):
        return SCORES
    return ""


def traced(model: nn.Module, example: Tensor) -> Any:
    """The dependency graph of a module."""
    with warnings.catch_warnings(), _untwisted(model):
        warnings.simplefilter("ignore")  # parameters of no layer, which we leave as they are
        return tp.DependencyGraph().build_dependency(model, example_inputs=example)


@contextlib.contextmanager
def _untwisted(model: nn.Module) -> Iterator[None]:
    """Without rotary positions, which no removal of heads touches, but whose halves a trace can't follow."""
    turned = {a: a.rotary for a in model.modules() if isinstance(a, Attention) and a.rotary is not None}
    for attention in turned:
        attention.rotary = None
    try:
        yield
    finally:
        for attention, rotary in turned.items():
            attention.rotary = rotary


def remove(model: nn.Module, example: Tensor, structure: Structure, chosen: dict[str, list[int]]) -> nn.Module:
    """
    A module without what was chosen of each unit, by name.

    What a model's own code can't do without, such as a number of channels that it names, is found by a forward pass: it
    stays, and `structure.left` says why.
    """
    model.zero_grad(set_to_none=True)
    for name in list(chosen):
        if not chosen[name]:
            del chosen[name]
    whole = copy.deepcopy(model)
    _cut(structure, chosen)
    if not (why := _broken(model, whole, example)):
        return model
    refused = {}
    for name in chosen:
        trial = copy.deepcopy(whole)
        _cut(Structure(trial, example), {name: chosen[name]})
        if why := _broken(trial, whole, example):
            refused[name] = f"its code can't do without a part of it ({why})"
    structure.left |= refused
    structure.units = [unit for unit in structure.units if unit.name not in refused]
    _cut(Structure(whole, example), {name: idxs for name, idxs in chosen.items() if name not in refused})
    return whole


def _cut(structure: Structure, chosen: dict[str, list[int]]) -> None:
    graph = structure.graph
    for unit in structure.units:
        if gone := [head * unit.width + i for head in chosen.get(unit.name, []) for i in range(unit.width)]:
            graph.get_pruning_group(unit.layer, unit.group[0].dep.handler, gone).prune()


def _broken(model: nn.Module, whole: nn.Module, example: Tensor) -> str:
    """Why a module's forward pass fails, or gives another shape than it did."""
    try:
        with torch.no_grad():
            shape, before = model.eval()(example).shape, whole.eval()(example).shape
    except Exception as error:  # of the user's code
        return " ".join(str(error).split())[:100]
    return "" if shape == before else f"outputs became {tuple(shape)}, not {tuple(before)}"
