"""What a rank holds of parameters that are split between ranks, for an optimizer and for a checkpoint."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from .work import Cost, Workload, all_gather, reduce_scatter, shown, within

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


def sharded(
    work: Workload,
    paths: list[str],
    ranks: int,
    parts: int,
    again: bool = True,
    narrow: float = 1.0,
    shares: Mapping[str, float] = {},
) -> Cost:
    """
    What FSDP2 is predicted to cost.

    Parameters
    ----------
    work
        A step of one process.
    paths
        The modules that are gathered one at a time; the rest of the model is gathered with the whole.
    ranks, parts
        Ranks that each parameter is split between, and slices of a batch.
    again
        Whether a unit is gathered again for its backward pass.
    narrow
        Bytes gathered for each byte held.
    shares
        Fraction that a rank has before it is sharded: of a parameter by name, of what a module keeps by path; else all.
    """
    micro, k = work.micro(parts), work.spec.accumulate
    whole: dict[str, float] = dict.fromkeys([*paths, ""], 0.0)  # bytes of each unit, as it is gathered
    parameters, optimizer = float(work.buffers), 0.0
    for name, p in work.model.named_parameters():
        held, rows = work.held[name], p.shape[0]
        filled = -(-rows // ranks) * ranks / rows * shares.get(name, 1.0)  # rows are dealt out evenly, some of them empty
        whole[next((path for path in paths if name.startswith(f"{path}.")), "")] += filled * held.size
        parameters += filled * held.size / ranks
        optimizer += filled * held.state / ranks
    gradients = sum(whole.values()) / ranks
    times = {path: 1 if path == "" or not again else 2 for path in whole}
    sent = sum(k * n * all_gather(narrow * whole[path], ranks) for path, n in times.items())
    sent += sum(reduce_scatter(size, ranks) for size in whole.values())
    # Highest at the loss, where what is gathered is the outermost, or in some unit's backward pass: at its begin, when
    # the unit before it is on its way already; or at its end, when its gradients are whole, and once more to be sent.
    rise = work.rise(micro, True, shares) - work.part(shares).gradient + whole[""]
    ends = [0.0, *accumulate(amount.of(micro) * shares.get(path, 1.0) for path, amount in work.saved.items())]
    before = 0.0
    for path, size in whole.items():
        places = [i for i, own in enumerate(work.saved) if within(own, [path])]
        around = size + before + (whole[""] if path else 0.0)
        if places:
            begin, end = ends[places[-1] + 1] + work.passing(micro, [path]), ends[places[0]] + 2 * size
            rise = max(rise, begin + around, end + around)
        before = size
    if k > 1:
        rise += sum(whole.values())  # until the last micro-batch gradients stay whole
    why = (
        f"each rank holds 1/{ranks} of all state; a unit's parameters (at most {shown(max(whole.values()))}) are "
        f"gathered for forward{' and again for backward' if again else ''}, its gradients summed and dealt out"
    )
    return Cost(parameters, gradients, optimizer, max(rise - gradients, 0.0), why, sent, work.idle(parts))


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
