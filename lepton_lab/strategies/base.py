"""The contract of a strategy, and its simplest member: one process is the base class."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, TypeAlias

from pydantic import Field

from ..batches import call
from ..spec import Spec
from .modes import begin, channels_last
from .work import Cost, Workload

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from ..batches import Batch
    from ..objectives import Objective
    from ..tasks.routine import Routine

MakeOptimizer: TypeAlias = "Callable[[list[nn.Parameter]], Optimizer]"
HOLDINGS = ("batch", "parameters", "gradients", "optimizer")  # what ranks hold


class Step(NamedTuple):
    """What a rank computed in one optimizer step; tensors on the device, since reading them would wait for it."""

    loss: Tensor
    """Mean over this rank's samples."""
    counts: Tensor | None
    """Sums over them of what the objective counts, (M,); None where nothing has a meaning."""
    samples: int


class Single:
    """
    One process that computes every batch whole, in plain autograd.

    The others override what they change of six methods: `start`, `shard`, `setup`, `step`, `state_dict`, `cost`.

    Parameters
    ----------
    spec
        What to train and how.
    threads
        Threads that compute on the CPU, 0 or more; 0 shares the cores with the runs that go already and
        those of the same call. One is fastest for a small model, whose threads would mostly wait for each other.
    """

    exact = True
    """Whether it computes what one process computes, to rounding."""
    inexact_with = ""
    """Name of an option other than whose default it computes something else."""
    spreads = True
    """Whether its ranks can be on several machines."""
    gpus = True
    """Whether its ranks can compute on GPUs."""
    trains_any_module = True
    """Whether it splits no layer and no chain of layers, so that it trains whatever module a compressor makes."""
    nests = True
    """Whether a model may be called with more than one tensor."""
    own_steps = True
    """Whether a task's own step may be called in place of the model."""
    split: ClassVar[Collection[str]] = ()
    """Which of HOLDINGS ranks hold a slice of, one of as many as there are ranks; the others each holds whole."""

    def __init__(self, spec: Spec, *, threads: Annotated[int, Field(ge=0)] = 0) -> None:
        self.spec = spec
        self.threads = threads
        self.rank, self.world = 0, 1
        self.part, self.parts = 0, 1
        """Which part of each global batch this rank computes, and of how many; 0 of 1 where it sees all of it."""
        self.lead = 1
        """Steps between the announcement of a command and its effect on all ranks; see `control.Control`."""
        self.alone = True
        """Whether there is no process group, so that a checkpoint is written and read by one process."""
        self.routine: Callable[[nn.Module], Routine] | None = None
        """What makes a task's own step a module around the model; None where the model is called itself."""
        self._around: Routine | None = None

    @property
    def stream(self) -> int:
        """Number of the random stream that this rank's dropout draws from; ranks that compute the same share one."""
        return self.part

    @property
    def called(self) -> Any:
        """What is called with a batch on one rank: the model, or a task's own step around it."""
        return self.module if self._around is None else self._around

    @property
    def running(self) -> nn.Module:
        """The module that computes on this rank, whose counters and generators move."""
        return self.module

    @classmethod
    def refuse(cls, spec: Spec) -> str:
        """Why this strategy can't do what a spec asks for, as one sentence; "" where it can. Imports no torch."""
        if spec.world > 1:
            return f"world={spec.world}: strategy='single' is one process; take strategy='ddp', or world=1"
        return ""

    def fits(self, model: nn.Module, x: Tensor) -> None:
        """
        Refuse a model that can't be split, where only the model itself can tell.

        Parameters
        ----------
        model
            A copy without memory: parameters and buffers on the meta device.
        x
            Inputs of one sample, (1, ...), on the meta device.

        Raises
        ------
        SpecError
            In the words that a rank would use.
        """

    def holds(self, rank: int, world: int) -> dict[str, tuple[float, float]]:
        """What a rank holds of each of HOLDINGS, as beginning and end between 0 and 1; computes nothing."""
        return {part: piece(rank, world) if part in self.split else (0.0, 1.0) for part in HOLDINGS}

    def start(self, rank: int, world: int, rendezvous: Path | None, device: torch.device) -> torch.device:
        """
        Join the other ranks; returns the device that this rank computes on.

        They meet through the file `rendezvous`; without one, where variables of the environment say, as for torchrun.
        """
        self.rank, self.world, self.device = rank, world, device
        return device

    def shard(self, indices: Tensor) -> Tensor:
        """This rank's part of a global batch, given as sample indices (B,) -> (B / world,)."""
        return indices

    def setup(self, model: nn.Module, make_optimizer: MakeOptimizer) -> tuple[nn.Module, Optimizer]:
        """Place the model and make its optimizer; returns what the loop trains."""
        import torch

        begin(model)
        self.module: Any = self._place(model)
        # Before the optimizer, since it may put others in the parameters' place.
        self._around = self.routine(self.module) if self.routine else None
        self.model: Any = self._wrap(self.called) if self.world > 1 else self.called
        self.parameters = [p for p in self.module.parameters() if p.requires_grad]
        self.optimizer = make_optimizer(self.parameters)
        self._first = True  # whether no step was made yet
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.spec.precision == "fp16")
        if self.spec.compile:
            self.model = torch.compile(self.model)
        return self.model, self.optimizer

    def step(self, batches: Iterable[Batch], count: int, loss: Objective, clip: float) -> Step:
        """
        One optimizer step over `count` micro-batches whose shares make up the whole batch.

        `clip` bounds the norm of the whole batch's gradient; 0 has no bound.
        """
        for parameter in self.parameters:
            parameter.grad = None
        total: Any = None
        sums: Tensor | None = None
        samples = 0
        for i, (x, y, share, size) in enumerate(batches, 1):
            with self._before_last() if i < count and self.world > 1 else contextlib.nullcontext():
                with self.autocast():
                    output = call(self.model, x)
                    value = loss(output, y)
                self.scaler.scale(value if share == 1.0 else value * share).backward()
            # A rank without a sample in the last, short batch has borrowed one, whose share is nothing.
            n = size if share else 0
            value, counts = value.detach(), loss.counts(output, y)
            if not share and counts is not None:
                counts = counts * 0
            if count > 1:
                value = value * n
                if total is not None:
                    value = total + value
                    counts = None if sums is None or counts is None else sums + counts
            total, sums, samples = value, counts, samples + n
        total = total if count == 1 else total / max(samples, 1)
        if (factor := loss.settle()) is not None:
            self._rescale(factor)
            total = total * factor
        self._update(clip)
        self._first = False
        return Step(total, sums, samples)

    def total(self, values: Tensor) -> Tensor:
        """Sum over the parts of the batch of values that each rank holds for its own; all ranks wait for each other."""
        return values

    def step_total(self, values: Tensor) -> Tensor:
        """Sum over the parts of one step's batch; where each rank makes steps of its own, there is but one part."""
        return self.total(values)

    def barrier(self) -> None:
        """Wait until all ranks are here."""

    def agreed(self, value: float) -> float:
        """Rank 0's value on every rank, by which all of them decide alike."""
        return value

    @contextlib.contextmanager
    def aligned(self) -> Iterator[nn.Module]:
        """
        The model as one: what training lets drift between ranks is made equal for the time of an evaluation.

        Called by all ranks; the module takes inputs (B, ...) and gives every rank the outputs of its own.
        """
        yield self.called

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The arithmetic that `spec.precision` asks for."""
        import torch

        if self.spec.precision in ("fp32", "auto"):  # which is settled before training, where it may be
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16 if self.spec.precision == "bf16" else torch.float16)

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """
        This rank's share of the state: "model" by name of parameter or buffer, "optimizer" by name and key.

        The names are those of the plain model, whatever the strategy, and a tensor that is split between ranks is a
        DTensor: so what one strategy saved another can take up.
        """
        names: dict[Any, str] = {parameter: name for name, parameter in self.module.named_parameters()}
        states = self.optimizer.state.items()
        optimizer = {f"{names[p]}.{key}": split_like(p, value) for p, state in states for key, value in state.items()}
        return {"model": self.module.state_dict(), "optimizer": optimizer}

    def local_state(self) -> dict[str, Any]:
        """What only this rank has and another strategy has no use for; needed for a bit-exact resume."""
        return {"scaler": self.scaler.state_dict()}

    def load_local_state(self, state: dict[str, Any]) -> None:
        """Take up what `local_state` gave on this rank, under the same strategy and world."""
        self.scaler.load_state_dict(state.get("scaler", {}))

    def report(self) -> dict[str, Any]:
        """Figures of its own, for each system event of this rank and a note at the end; called by another thread."""
        return {}

    def cost(self, work: Workload) -> Cost:
        """What a step is predicted to cost the rank that needs most, from what one process does; nothing is run."""
        return work.replica(1, "one process holds and computes all")

    def _place(self, model: nn.Module) -> nn.Module:
        return channels_last(model).to(self.device)

    def _wrap(self, model: nn.Module) -> nn.Module:
        """What several ranks compute with in place of a model that is placed."""
        return model

    def _before_last(self) -> contextlib.AbstractContextManager[Any]:
        """Around each micro-batch of several ranks but a step's last: gradients stay on the rank."""
        return contextlib.nullcontext()

    def _rescale(self, factor: Tensor) -> None:
        """Multiply the gradients of a step by what was not known before all of it was computed."""
        for gradient in (p.grad for p in self.parameters if p.grad is not None):
            part: Tensor = gradient.to_local() if hasattr(gradient, "to_local") else gradient
            part.mul_(factor.to(part.dtype))

    def _update(self, clip: float) -> None:
        if self._first:
            unfuse_if_sparse(self.optimizer)
        if clip:
            self.scaler.unscale_(self.optimizer)
            self._clip(clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _clip(self, clip: float) -> None:
        import torch

        torch.nn.utils.clip_grad_norm_(self.parameters, clip)


def piece(place: int, count: int) -> tuple[float, float]:
    """Beginning and end of one of `count` equal pieces, as fractions of the whole."""
    return place / count, (place + 1) / count


def split_like(parameter: Any, value: Any) -> Any:
    """A rank's part of a state as a DTensor split like its parameter; what is no part, a count of steps, stays."""
    if not hasattr(parameter, "placements") or hasattr(value, "placements"):
        return value
    if value.shape != parameter.to_local().shape:
        return value
    from torch.distributed.tensor import DTensor

    mesh, placements = parameter.device_mesh, parameter.placements
    shape, stride = parameter.shape, parameter.stride()
    return DTensor.from_local(value, mesh, placements, run_check=False, shape=shape, stride=stride)


def unfuse_if_sparse(optimizer: Optimizer) -> None:
    """Have an optimizer take torch's plain loop where a gradient is sparse, for which fused kernels are not made."""
    if any(p.grad is not None and p.grad.is_sparse for group in optimizer.param_groups for p in group["params"]):
        for group in optimizer.param_groups:
            group["fused"] = None
