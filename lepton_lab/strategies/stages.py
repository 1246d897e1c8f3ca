"""
A model cut into stages that follow each other, and what runs them in turn over the ranks.

Legend of the shape comments: B samples; what lies between two stages has B first, or a multiple of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..errors import SpecError
from .timetable import PIPELINES, bubble, highest
from .work import AROUND, HEADER, LOSS, Cost, Workload, all_reduce, around, within

Layer = tuple[str, nn.Module]  # path in the model, and what is there
PARTS = ["embed", "blocks", "head"]
SUMS = 24  # bytes that ranks sum up at a step's end: loss, squares of the gradient, what is counted
HOOKS = ("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs")


def layers(model: nn.Module) -> list[list[Layer]]:
    """
    A model's layers in their order, in groups between which it can be cut; each group has a layer that trains.

    Raises
    ------
    SpecError
        If it isn't known to be a chain: neither an nn.Sequential nor made of embed, blocks and head.
    """
    children = list(model._modules)
    parts = children == PARTS and isinstance(model.blocks, nn.Sequential) and not _own(model)
    if not parts and not _in_a_row(model):
        raise SpecError(
            f"model: strategy='pipeline' can't tell how to cut {type(model).__name__}: it takes an nn.Sequential, or "
            "a model of just `embed`, `blocks` (an nn.Sequential) and `head` in that order; take strategy='ddp'"
        )
    chain = [layer for name in children for layer in _chain(name, model.get_submodule(name))]
    groups: list[list[Layer]] = [[]]
    for path, layer in chain:
        trained = any(p.requires_grad for p in layer.parameters())
        if trained and any(p.requires_grad for _, other in groups[-1] for p in other.parameters()):
            groups.append([])
        groups[-1].append((path, layer))
    return groups


def cut(groups: list[list[Layer]], stages: int) -> list[list[Layer]]:
    """
    The groups in `stages` runs, one after the other, such that the costliest run costs as little as can be.

    Raises
    ------
    SpecError
        If two of them share a parameter.
    """
    costs = iter(_costs([layer for group in groups for _, layer in group]))
    weights = [sum(next(costs) for _ in group) for group in groups]

    @cache
    def best(start: int, left: int) -> tuple[float, tuple[int, ...]]:
        """Cost of the costliest of `left` runs from group `start` on, and where each ends."""
        if left == 1:
            return sum(weights[start:]), (len(weights),)
        cuts = ((end, *best(end, left - 1)) for end in range(start + 1, len(weights) - left + 2))
        return min((max(sum(weights[start:end]), rest), (end, *ends)) for end, rest, ends in cuts)

    ends = best(0, stages)[1]
    runs = [[layer for group in groups[a:b] for layer in group] for a, b in zip((0, *ends), ends, strict=False)]
    owners: dict[nn.Parameter, tuple[int, str]] = {}
    for stage, run in enumerate(runs):
        for path, parameter in ((path, p) for path, layer in run for p in layer.parameters()):
            first, other = owners.setdefault(parameter, (stage, path))
            if first != stage:
                raise SpecError(
                    f"model: {other!r} and {path!r} share a parameter, and strategy='pipeline' puts them on different "
                    "ranks; give each its own, or take strategy='ddp'"
                )
    return runs


def cost(work: Workload, runs: list[list[Layer]], schedule: str, microbatches: int) -> Cost:
    """What a pipeline of these stages is predicted to cost; of memory, the parts of the rank that needs most."""
    world = len(runs) // PIPELINES[schedule].stages
    micro = -(-work.batch // microbatches)
    outputs = [work.outputs[run[-1][0]].of(micro) for run in runs]
    paths = [[path for path, _ in run] for run in runs]
    paths[-1].append(LOSS)
    saved = [sum(size.of(micro) for name, size in work.saved.items() if within(name, stage)) for stage in paths]
    under_way = highest(schedule, world, microbatches, [sum(sizes) for sizes in zip(saved, outputs, strict=True)])
    costs, sent = [], [all_reduce(SUMS, world)] * world
    for rank in range(world):
        mine = [path for stage in paths[rank::world] for path in stage]
        held = work.held_by_rank({name: float(within(name, mine)) for name in work.held})
        activations = under_way[rank] + work.transient_peak(micro, mine)
        costs.append(Cost(held.size, held.gradient, held.state, activations, ""))
    for stage, size in enumerate(outputs[:-1]):
        for rank in (stage % world, (stage + 1) % world):  # forward, and the gradient back
            sent[rank] += microbatches * (size + HEADER)
    largest = max(costs, key=lambda cost: cost.memory)
    why = (
        f"rank {costs.index(largest)} holds most; {microbatches} micro-batches of {micro} pass through "
        f"{len(runs)} stages as {schedule} orders them, and ranks idle while it fills and drains"
    )
    hops = 2.0 * (len(runs) - 1) + around(world, AROUND)  # while it fills and drains; and the sums
    idle = bubble(schedule, world, microbatches)
    return dataclasses.replace(largest, why=why, sent=max(sent), idle=idle, hops=hops, overlaps=True)


def _in_a_row(module: nn.Module) -> bool:
    return type(module).forward is nn.Sequential.forward and not _own(module)


def _own(module: nn.Module) -> bool:
    """Whether a module has parameters or buffers beside its children's."""
    return bool(module._parameters or module._buffers)


def _chain(path: str, module: Any) -> list[Layer]:
    """A module's parts, where it is nothing but a row of them."""
    if _in_a_row(module) and not module._forward_pre_hooks and not module._forward_hooks:
        return [part for name, child in module._modules.items() for part in _chain(f"{path}.{name}", child)]
    return [(path, module)]


def _costs(chain: list[Any]) -> list[float]:
    """
    Cost of each layer by its weights, times the pixels that a kernel is applied at; looking up a token costs nothing.

    How many pixels there are is found from the end: a dense layer behind convolutions takes (channels x pixels).
    """
    costs = []
    pixels, dense = 1.0, 0
    for layer in reversed(chain):
        if isinstance(layer, nn.Linear):
            dense = layer.in_features
        kernel = isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        if kernel and dense:
            pixels, dense = pixels * dense / layer.out_channels, 0
        looked_up = {p for part in layer.modules() if isinstance(part, nn.Embedding) for p in part.parameters()}
        costs.append(sum(p.numel() for p in layer.parameters() if p not in looked_up) * (pixels if kernel else 1.0))
        stride = getattr(layer, "stride", 1)  # of a convolution or a pooling
        pixels *= math.prod(stride) if isinstance(stride, tuple) else stride**2
    return costs[::-1]


class Layers(nn.Module):
    """The layers that a rank holds, under the names that they have in the plain model; it computes nothing."""

    def __init__(self, held: list[Layer]) -> None:
        super().__init__()
        for path, layer in held:
            *folders, name = path.split(".")
            place: nn.Module = self
            for folder in folders:
                if folder not in place._modules:
                    place.add_module(folder, nn.Module())
                place = place.get_submodule(folder)
            place.add_module(name, layer)


class Stage(nn.Module):
    """Layers one after the other, from one tensor to one tensor that can be sent."""

    def __init__(self, run: list[Layer], autocast: Callable[[], contextlib.AbstractContextManager[Any]]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layer for _, layer in run)
        self.autocast = autocast

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B, ...), contiguous, as is the gradient that goes back."""
        if x.requires_grad:
            x = x.view_as(x)
            x.register_hook(torch.Tensor.contiguous)
        with self.autocast():
            for layer in self.layers:
                x = layer(x)
        if not isinstance(x, Tensor):
            raise SpecError(
                f"model: strategy='pipeline' sends one tensor from stage to stage, and {type(layer).__name__} gives a "
                f"{type(x).__name__}; take strategy='ddp'"
            )
        return x.clone() if x._is_view() else x.contiguous()  # torch's schedules detach it in place


class Relay(nn.Module):
    """
    The whole model on every rank: stages run in turn where they are, and all ranks get the outputs.

    `held` are the layers of this rank, which `train` and `eval` reach; `stages` are its stages by number, and `owners`
    the ranks of all stages.
    """

    def __init__(
        self, held: Layers, stages: dict[int, Stage], owners: list[int], rank: int, device: torch.device
    ) -> None:
        super().__init__()
        self.held = held
        self.stages, self.owners = stages, owners
        self.rank, self.device = rank, device
        self.shapes: dict[torch.Size, list[tuple[torch.Size, torch.dtype]]] = {}
        """What each stage gives, by the shape of the inputs; the same on every rank."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B, ...), the same on every rank."""
        shapes = self.shapes.setdefault(x.shape, [])
        here = x
        for stage, (owner, after) in enumerate(zip(self.owners, [*self.owners[1:], None], strict=True)):
            if owner == self.rank:
                here = self.stages[stage](here)
            if stage == len(shapes):
                known = [(here.shape, here.dtype)]  # to the stage's owner
                dist.broadcast_object_list(known, owner, device=self.device)
                shapes += known
            if owner == after:
                continue
            if self.rank != owner and after in (None, self.rank):
                shape, dtype = shapes[stage]
                here = torch.empty(shape, dtype=dtype, device=self.device)
            if after is None:
                dist.broadcast(here, owner)
            elif self.rank == owner:
                dist.send(here, after)
            elif self.rank == after:
                dist.recv(here, owner)
        return here
