"""What a rank holds of parameters that are split between ranks, as an optimizer and as a checkpoint see it."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from ..errors import SpecError
from ..spec import Spec
from ..tables import trait
from .group import Group
from .work import AROUND, Cost, Workload, all_gather, around, reduce_scatter, shown, within

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

    parameters = [group["params"] for group in optimizer.param_groups]
    plain: dict[Tensor, Tensor] = {}
    with torch.no_grad():
        for parameter in (p for params in parameters for p in params):
            plain[parameter] = shard = _local(parameter)
            shard.grad = _local(parameter.grad)
        state = {plain[p]: {key: _local(value) for key, value in own.items()} for p, own in optimizer.state.items()}
    optimizer.state = defaultdict(dict, state)
    for group, params in zip(optimizer.param_groups, parameters, strict=True):
        group["params"] = [plain[p] for p in params]
    yield
    for group, params in zip(optimizer.param_groups, parameters, strict=True):
        group["params"] = params
    after = {parameter: optimizer.state[shard] for parameter, shard in plain.items() if shard in optimizer.state}
    optimizer.state = defaultdict(dict, after)
    for shard in plain.values():
        shard.grad = None  # or it would be held until the next step


class Sharded(Group):
    """What strategies share whose parameters are DTensors, of which each rank holds a part."""

    no_fp16 = "shows a rank only its part of the gradient, thus not every overflow"

    @classmethod
    def refuse(cls, spec: Spec) -> str:
        """An optimizer that needs whole matrices, too."""
        if spec.world > 1 and trait("optimizer", spec.optimizer, "whole_matrices"):
            return (
                f"optimizer={spec.optimizer!r}: needs whole matrices, of which strategy={spec.strategy!r} gives each "
                "rank a part; take optimizer='adamw', or strategy='zero'"
            )
        return super().refuse(spec)

    def _update(self, clip: float) -> None:
        if self.world == 1:
            super()._update(clip)
            return
        for parameter in self.parameters:
            gradient: Any = parameter.grad  # a DTensor, where the parameter is one
            placements = getattr(parameter, "placements", None)
            if placements and gradient is not None and gradient.placements != placements:
                # A norm's weights saw this rank's tokens only: their gradient is still to be summed.
                parameter.grad = gradient.redistribute(placements=placements)
        with as_plain(self.optimizer):
            super()._update(clip)

    def _clip(self, clip: float) -> None:
        import torch
        import torch.distributed as dist

        gradients = defaultdict(list)  # a rank's parts, by how many ranks hold the same, so that each counts once
        for parameter in self.parameters:
            if parameter.grad is not None:
                gradients[self._holders(parameter)].append(_local(parameter.grad))
        norms = {holders: torch.nn.utils.get_total_norm(parts) for holders, parts in gradients.items()}
        square = torch.stack([norm.square() / holders for holders, norm in norms.items()]).sum()
        if self.world > 1:
            dist.all_reduce(square)
        factor = (clip / (square.sqrt() + 1e-6)).clamp(max=1.0)  # as torch's clip_grad_norm_
        for gradient in (part for parts in gradients.values() for part in parts):
            gradient.mul_(factor)

    def _holders(self, parameter: Any) -> float:
        """How many ranks hold the same numbers of a parameter."""
        pieces = 1
        for i, placement in enumerate(getattr(parameter, "placements", ())):
            pieces *= 1 if placement.is_replicate() else parameter.device_mesh.size(i)
        return self.world / pieces


class Gathered(Sharded):
    """What strategies share whose modules are sharded by torch's FSDP2."""

    def fits(self, model: nn.Module, x: Tensor) -> None:
        """Refuse a parameter that has no rows."""
        check_rows(model, self.spec.strategy)

    def _place(self, model: nn.Module) -> nn.Module:
        import torch

        if self.world == 1:
            return super()._place(model)
        check_rows(model, self.spec.strategy)
        # As FSDP2 wants it: ranks get rows.
        return model.to(self.device, memory_format=torch.contiguous_format)  # type: ignore[call-overload]

    @contextlib.contextmanager
    def aligned(self) -> Iterator[nn.Module]:
        """The model; since no backward pass follows, what it has gathered is let go afterwards."""
        with super().aligned() as module:
            yield module
        if self.world > 1:
            from torch.distributed.fsdp import FSDPModule

            for part in (part for part in module.modules() if isinstance(part, FSDPModule)):
                part.reshard()

    @contextlib.contextmanager
    def _before_last(self) -> Iterator[None]:
        self.called.set_requires_gradient_sync(False)
        yield
        self.called.set_requires_gradient_sync(True)


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
    What FSDP2 is predicted to cost whose parameters are split between `ranks`, and batches into `parts`.

    Modules at `paths` are units that are gathered one at a time, with `regather` again for their backward pass; the
    rest is gathered with the whole. `ratio` is bytes gathered for each byte held, and computed with for each byte of
    one process; `fractions` is what a rank has before it is sharded: of a parameter by name, of what a module keeps by
    path, else all.
    """
    k = work.spec.accumulate
    units: dict[str, float] = dict.fromkeys([*paths, ""], 0.0)  # bytes of each unit, as it is gathered
    shares: dict[str, float] = {}
    for name, p in work.model.named_parameters():
        rows = -(-len(p) // ranks)  # of every rank, some of them empty
        shares[name] = rows / len(p) * fractions.get(name, 1.0)
        units[next((path for path in paths if within(name, [path])), "")] += ranks * shares[name] * work.held[name].size
    held = work.held_by_rank(shares)
    times = {path: 1 if path == "" or not regather else 2 for path in units}
    sent = sum(k * n * all_gather(ratio * units[path], ranks) for path, n in times.items())
    sent += sum(reduce_scatter(size, ranks) for size in units.values())
    peak = _peak(work, units, work.micro(parts), ratio, fractions) - held.gradient
    if k > 1:
        peak += ranks * held.gradient  # until the last micro-batch gradients stay whole
    state = f"1/{ranks} of all state" if ranks > 1 else "all state"
    why = (
        f"each rank holds {state}; a unit's parameters (at most {shown(max(units.values()))}) are gathered for forward"
        f"{' and again for backward' if regather else ''}, its gradients summed and dealt out"
    )
    hops = around(ranks, k * sum(times.values()) + AROUND * len(units))
    state_bytes = (held.size, held.gradient, held.state)
    return Cost(*state_bytes, max(peak, 0.0), why, sent, work.idle(parts), hops, overlaps=True)


def _peak(work: Workload, units: dict[str, float], micro: int, ratio: float, fractions: Mapping[str, float]) -> float:
    """
    Highest bytes of a step beside a rank's shards, of a model whose units have so many bytes each.

    At the loss, where what is gathered is the outermost; or in some unit's backward pass: at its begin, when the unit
    before it is on its way already; or at its end, when its gradients are whole, and once more to be sent.
    """
    above_shards = work.peak_above_state(micro, True, fractions) - work.held_by_rank(fractions).gradient
    highest = ratio * (above_shards + units[""])
    sizes = (amount.of(micro) * fractions.get(path, 1.0) for path, amount in work.saved.items())
    ends = [0.0, *accumulate(ratio * size for size in sizes)]
    before = 0.0
    for path, size in units.items():
        places = [i for i, own in enumerate(work.saved) if within(own, [path])]
        around = size + before + (units[""] if path else 0.0)
        if places:
            begin, end = ends[places[-1] + 1] + ratio * work.transient_peak(micro, [path]), ends[places[0]] + 2 * size
            highest = max(highest, begin + around, end + around)
        before = size
    return highest


def _local(value: Any) -> Any:
    return value.to_local() if hasattr(value, "to_local") else value
