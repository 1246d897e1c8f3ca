"""What a rank holds of parameters that are split between ranks, for an optimizer and for a checkpoint."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer


@contextlib.contextmanager
def as_plain(optimizer: Optimizer) -> Iterator[None]:
    """
    The optimizer of DTensors as one of the plain tensors that this rank holds, for the time of a step.

    All our updates go element by element, so that shards need no others. DTensor knows no fused SGD, and costs more
    than the update itself: on the gpt, AdamW fused took 1.7 ms in place of ... and NAdam 29 in place of ....
    """
    import torch

    whole = [group["params"] for group in optimizer.param_groups]
    shard: dict[Tensor, Tensor] = {}
    with torch.no_grad():
        for p in (p for params in whole for p in params):
            shard[p] = _local(p)
            shard[p].grad = None if p.grad is None else _local(p.grad)
        for group, params in zip(optimizer.param_groups, whole, strict=True):
            group["params"] = [shard[p] for p in params]
        state = {shard[p]: {k: _local(v) for k, v in values.items()} for p, values in optimizer.state.items()}
        optimizer.state = defaultdict(dict, state)
    yield
    for group, params in zip(optimizer.param_groups, whole, strict=True):
        group["params"] = params
    optimizer.state = defaultdict(
        dict, {p: optimizer.state[local] for p, local in shard.items() if local in optimizer.state}
    )
    for local in shard.values():
        local.grad = None


def named_state(module: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """The optimizer's state by name and key, split as the parameters are."""
    names = {parameter: name for name, parameter in module.named_parameters()}
    states = optimizer.state.items()
    return {f"{names[p]}.{key}": _like(p, value) for p, state in states for key, value in state.items()}


def _local(value: Any) -> Any:
    return value.to_local() if hasattr(value, "to_local") else value


def _like(parameter: Tensor, value: Any) -> Any:
    """A rank's part of a state as a DTensor like the parameter's; what is no part of it stays."""
    from torch.distributed.tensor import DTensor

    if not isinstance(parameter, DTensor) or isinstance(value, DTensor) or value.shape != parameter.to_local().shape:
        return value
    mesh, placements = parameter.device_mesh, parameter.placements
    return DTensor.from_local(
        value, mesh, placements, run_check=False, shape=parameter.shape, stride=parameter.stride()
    )
