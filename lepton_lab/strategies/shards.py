"""What a rank holds of parameters that are split between ranks, as an optimizer and as a checkpoint see it."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from ..errors import SpecError
from .group import Group
from .work import Cost, Workload, all_gather, reduce_scatter, shown, within

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer


@contextlib.contextmanager
def as_plain(optimizer: Optimizer) -> Iterator[None]:
    """
    An optimizer of DTensors as one of the plain tensors that this rank holds, for the time of a step.

    Updates that go element by element need no others. DTensor has no rule for fused SGD and Adagrad, and takes longer
    than the update itself: fused AdamW on the gpt 1.7 ms, NAdam 29 ms a step. The state stays plain between steps.
    """
    import torch

    whole = [group["params"] for group in optimizer.param_groups]
    plain: dict[Tensor, Tensor] = {}
    with torch.no_grad():
        for parameter in (p for params in whole for p in params):
            plain[parameter] = shard = _local(parameter)
            shard.grad = _local(parameter.grad)
        state = {plain[p]: {key: _local(value) for key, value in own.items()} for p, own in optimizer.state.items()}
    optimizer.state = defaultdict(dict, state)
    for group, params in zip(optimizer.param_groups, whole, strict=True):
        group["params"] = [plain[p] for p in params]
    yield
    for group, params in zip(optimizer.param_groups, whole, strict=True):
        group["params"] = params
    after = {parameter: optimizer.state[shard] for parameter, shard in plain.items() if shard in optimizer.state}
    optimizer.state = defaultdict(dict, after)
    for shard in plain.values():
        shard.grad = None  # or it would be held until the next step


class Gathered(Group):
    """What strategies share whose modules are sharded by torch's FSDP2."""

    @contextlib.contextmanager
    def aligned(self) -> Iterator[nn.Module]:
        """The model; since no backward pass follows, what it has gathered is let go afterwards."""
        with super().aligned() as module:
            yield module
        if self.world > 1:
            sharded: Any = module  # by FSDP2
            sharded.reshard()

    @contextlib.contextmanager
    def _before_last(self) -> Iterator[None]:
        if self.world == 1:
            yield
            return
        self.module.set_requires_gradient_sync(False)
        yield
        self.module.set_requires_gradient_sync(True)


def sharing(model: nn.Module) -> set[nn.Parameter]:
    """Parameters that have more than one name: of several modules, or of one that stands in several places."""
    counts = Counter(parameter for _, parameter in model.named_parameters(remove_duplicate=False))
    return {parameter for parameter, count in counts.items() if count > 1}


def check_rows(model: nn.Module, strategy: str) -> None:
    """Refuse a model with a parameter that has no rows to deal out."""
    for name, parameter in model.named_parameters():
        if parameter.dim() == 0:
            raise SpecError(
                f"strategy={strategy!r}: parameter {name!r} is a scalar, which can't be split between ranks; make it a "
                "vector of one number, or take strategy='ddp'"
            )


def sharded(
    work: Workload,
    paths: list[str],
    ranks: int,
    parts: int,
    regather: bool = True,
    ratio: float = 1.0,
    fractions: Mapping[str, float] = {},
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
    regather
        Whether a unit is gathered again for its backward pass.
    ratio
        Bytes gathered for each byte held, and computed with for each byte of one process.
    fractions
        Fraction that a rank has before it is sharded: of a parameter by name, of what a module keeps by path; else all.
    """
    k = work.spec.accumulate
    whole: dict[str, float] = dict.fromkeys([*paths, ""], 0.0)  # bytes of each unit, as it is gathered
    parameters, gradients, optimizer = float(work.buffers), 0.0, 0.0
    for name, p in work.model.named_parameters():
        held, rows = work.held[name], p.shape[0]
        each = -(-rows // ranks) / rows * fractions.get(name, 1.0)  # every rank gets as many rows, some of them empty
        whole[next((path for path in paths if within(name, [path])), "")] += ranks * each * held.size
        parameters += each * held.size
        gradients += each * held.gradient
        optimizer += each * held.state
    times = {path: 1 if path == "" or not regather else 2 for path in whole}
    sent = sum(k * n * all_gather(ratio * whole[path], ranks) for path, n in times.items())
    sent += sum(reduce_scatter(size, ranks) for size in whole.values())
    peak = _peak(work, whole, work.micro(parts), ratio, fractions) - gradients
    if k > 1:
        peak += ranks * gradients  # until the last micro-batch gradients stay whole
    state = f"1/{ranks} of all state" if ranks > 1 else "all state"
    why = (
        f"each rank holds {state}; a unit's parameters (at most {shown(max(whole.values()))}) are gathered for forward"
        f"{' and again for backward' if regather else ''}, its gradients summed and dealt out"
    )
    return Cost(parameters, gradients, optimizer, max(peak, 0.0), why, sent, work.idle(parts))


def _peak(work: Workload, whole: dict[str, float], micro: int, ratio: float, fractions: Mapping[str, float]) -> float:
    """
    Highest bytes of a step beside a rank's shards.

    At the loss, where what is gathered is the outermost; or in some unit's backward pass: at its begin, when the unit
    before it is on its way already; or at its end, when its gradients are whole, and once more to be sent.
    """
    above_shards = work.peak_above_state(micro, True, fractions) - work.held_by_rank(fractions).gradient
    highest = ratio * (above_shards + whole[""])
    sizes = (amount.of(micro) * fractions.get(path, 1.0) for path, amount in work.saved.items())
    ends = [0.0, *accumulate(ratio * size for size in sizes)]
    before = 0.0
    for path, size in whole.items():
        places = [i for i, own in enumerate(work.saved) if within(own, [path])]
        around = size + before + (whole[""] if path else 0.0)
        if places:
            begin, end = ends[places[-1] + 1] + ratio * work.transient_peak(micro, [path]), ends[places[0]] + 2 * size
            highest = max(highest, begin + around, end + around)
        before = size
    return highest


def _local(value: Any) -> Any:
    return value.to_local() if hasattr(value, "to_local") else value
