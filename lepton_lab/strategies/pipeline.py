"""Pipeline parallel: each rank holds some of the layers, and micro-batches pass through them like cars on a line."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from ..batches import rows
from ..errors import SpecError
from ..spec import Spec
from ..tables import entry_options, trait
from .base import MakeOptimizer, Step
from .group import Group
from .modes import begin, channels_last, evaluating
from .timetable import PIPELINES
from .work import Cost, Workload

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from ..batches import Batch
    from ..objectives import Objective
    from .stages import Layer
SPAN = 4  # micro-batches for each rank by default: enough to keep most of the line busy (Huang, section 2.3)
ENDS = 2  # the embedding and the head, beside the blocks of the others


class Pipeline(Group):
    """
    Ranks hold different layers, and micro-batches pass through them one after the other.

    The schedule says in which order: `gpipe` has all forwards first, `1f1b` keeps fewer activations, `interleaved`
    gives each rank two stages and idles less, and `zero_bubble` fills the gaps with gradients of weights.

    Every rank is given whole batches. Exact but for layers that look at several samples at once: batch norm sees
    micro-batches.

    Parameters
    ----------
    pipeline_schedule
        A name of PIPELINES; see `timetable` for pictures and idle shares.
    microbatches
        Parts that each batch is split into, at least one for each rank; 0 takes four for each.
    """

    trains_any_module = False
    nests = False
    no_fp16 = "does not scale losses over its stages"
    split = ("parameters", "gradients", "optimizer")  # each rank holds whole layers; pictures show them as slices

    def __init__(
        self,
        spec: Spec,
        *,
        pipeline_schedule: Literal["gpipe", "1f1b", "interleaved", "zero_bubble"] = "1f1b",
        microbatches: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        super().__init__(spec)
        self.schedule, self.kind = pipeline_schedule, PIPELINES[pipeline_schedule]
        self.microbatches = microbatches or _usual(spec)
        self._schedules: dict[torch.Size, Any] = {}  # by shape of a micro-batch's inputs

    @property
    def stream(self) -> int:
        """Ranks hold different layers, whose dropout is to differ."""
        return self.rank

    @classmethod
    def refuse(cls, spec: Spec) -> str:
        """What stages can't do, and a model that has too few layers for them."""
        schedule = str(spec.options.get("pipeline_schedule", "1f1b"))
        if spec.world == 1:
            return ""
        if spec.options.get("tied"):
            return (
                "options={'tied': True}: strategy='pipeline' holds the embedding and the head on different ranks, so "
                "they can't be one matrix; take tied=False, or strategy='ddp'"
            )
        if trait("model", spec.model, "chain") is False:
            return (
                f"strategy='pipeline' cuts a chain of layers, of which each gives the next one tensor, and "
                f"model={spec.model!r} is none; take strategy='ddp'"
            )
        why = _unfit(spec) or _microbatches(spec, schedule) or _too_few(spec, schedule, _cuttable(spec))
        return why or super().refuse(spec)

    def setup(self, model: nn.Module, make_optimizer: MakeOptimizer) -> tuple[nn.Module, Optimizer]:
        """Keep this rank's layers, and let go of the others."""
        if self.world == 1:
            return super().setup(model, make_optimizer)
        from . import stages

        begin(model)  # what is frozen, and which layout suits, only the whole can tell
        model = channels_last(model)
        runs = self._cut(model)
        owners = [stage % self.world for stage in range(len(runs))]
        own = [layer for run, owner in zip(runs, owners, strict=True) if owner == self.rank for layer in run]
        result = super().setup(stages.Layers(own), make_optimizer)
        self.stages = {i: stages.Stage(run, self.autocast) for i, run in enumerate(runs) if owners[i] == self.rank}
        if self.rank == 0:
            for hooks in stages.HOOKS:  # what the model does with its inputs first
                setattr(self.stages[0], hooks, getattr(model, hooks))
        for run, owner in zip(runs, owners, strict=True):
            for _, layer in run:
                if owner != self.rank:
                    layer.to("meta")  # frees its memory, whoever still has the model
        self.relay = stages.Relay(self.module, self.stages, owners, self.rank, self.device)
        return result

    def step(self, batches: Iterable[Batch], count: int, loss: Objective, clip: float) -> Step:
        """One step over the micro-batches of a batch; its figures are the same on every rank."""
        if self.world == 1:
            return super().step(batches, count, loss, clip)
        import torch
        import torch.distributed as dist

        # More than one only of full batches: micro-batches are made here.
        parts = [(batch.x, batch.y) for batch in batches]
        x, y = parts[0] if len(parts) == 1 else map(torch.cat, zip(*parts, strict=True))
        for parameter in self.parameters:
            parameter.grad = None
        self._scores = scores = Scores(loss, self.autocast, len(y))
        self._run(x, y)
        # Loss, squares of the gradient, and what is counted.
        sums = torch.zeros(2 + len(loss.counted), dtype=torch.float64, device=self.device)
        if scores.loss is not None:
            sums[0] = scores.loss
            sums[2:] = torch.nan if scores.counts is None else scores.counts
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if clip:
            sums[1] = torch.nn.utils.get_total_norm(gradients).double().square()
        dist.all_reduce(sums)  # the others add nothing to the last stage's loss
        if clip:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, clip, sums[1].sqrt())
        self.optimizer.step()
        self._keep_pace()
        return Step(sums[0], sums[2:] if len(sums) > 2 else None, len(y))

    def fits(self, model: nn.Module, x: Tensor) -> None:
        """Refuse a model that can't be cut into stages, or whose layers give each other more than a tensor."""
        from . import stages

        for run in self._cut(model):
            x = stages.Stage(run, contextlib.nullcontext)(x)

    def cost(self, work: Workload) -> Cost:
        """Of the rank that holds most: its layers, and activations of as many micro-batches as are under way."""
        if self.spec.world == 1:
            return super().cost(work)
        from . import stages

        return stages.cost(work, self._cut(work.model), self.schedule, self.microbatches)

    def _cut(self, model: nn.Module) -> list[list[Layer]]:
        """The layers of each stage; a model with too few of them is refused."""
        from . import stages

        groups = stages.layers(model)
        if why := _too_few(self.spec, self.schedule, len(groups)):
            raise SpecError(why)
        return stages.cut(groups, self.spec.world * self.kind.stages)

    @contextlib.contextmanager
    def aligned(self) -> Iterator[nn.Module]:
        """The model as one, whose stages run in turn."""
        yield self.relay if self.world > 1 else self.module

    def _run(self, x: Tensor, y: Tensor) -> None:
        """Forward and backward of a batch by the schedule, padded to micro-batches of one size."""
        import torch

        size = -(-len(y) // self.microbatches)
        if len(y) < size * self.microbatches:
            filled = torch.arange(size * self.microbatches, device=x.device).clamp(max=len(y) - 1)
            x, y = rows(x, filled, len(y)), y.index_select(0, filled)
        schedule = self._schedule(x[: size * (len(x) // len(y))])  # of each sample several rows, as two views
        inputs = [x] if 0 in self.stages else []
        try:
            schedule.step(*inputs, target=y, return_outputs=False)
        except RuntimeError as error:
            if error.__cause__ and "failed to run" in str(error).lower():  # torch's words around what a layer raised
                raise error.__cause__ from None
            raise

    def _schedule(self, x: Tensor) -> Any:
        """The schedule for micro-batches of the shape of one, whose stages know what they give each other."""
        if x.shape not in self._schedules:
            import torch
            from torch.distributed import pipelining

            if x.shape not in self.relay.shapes:
                with torch.no_grad(), evaluating(self.relay):
                    self.relay(x)
            like = [torch.empty_like(x, device="meta")]
            for shape, dtype in self.relay.shapes[x.shape]:
                like.append(torch.empty(shape, dtype=dtype, device="meta", requires_grad=dtype.is_floating_point))
            held = [
                pipelining.PipelineStage(
                    stage, i, len(like) - 1, self.device, input_args=like[i], output_args=like[i + 1]
                )
                for i, stage in self.stages.items()
            ]
            make = getattr(pipelining, self.kind.name)
            several = issubclass(make, pipelining.schedules.PipelineScheduleMulti)
            self._schedules[x.shape] = make(
                held if several else held[0],
                self.microbatches,
                loss_fn=lambda output, target: self._scores(output, target),  # those of the step at hand
                scale_grads=False,
            )
        return self._schedules[x.shape]


@dataclass
class Scores:
    """The loss of a step's micro-batches, which come in turn, as shares of the batch's; what pads them counts 0."""

    objective: Objective
    autocast: Callable[[], contextlib.AbstractContextManager[Any]]
    """The arithmetic that it is computed in."""
    samples: int
    """Of the batch; what comes after them is padding."""
    scored: int = 0
    """Samples so far."""
    loss: Tensor | None = None
    """Mean over the samples so far; None where this rank has not the last stage."""
    counts: Tensor | None = None
    """What is counted of them, summed up; None where nothing has a meaning."""

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """Outputs (B, ...) and targets (B, ...) of a micro-batch -> their part of the batch's mean."""
        n = min(len(target), self.samples - self.scored)
        self.scored += n
        if 0 < n < len(target):
            output, target = output[: n * (len(output) // len(target))], target[:n]
        with self.autocast():
            value = self.objective(output, target) * (n / self.samples)
        if self.objective.criterion.told:
            raise SpecError(
                "loss: it gives a sum and its weight, and strategy='pipeline' computes gradients before the weight of "
                "all micro-batches is known; give a mean over samples, or take strategy='ddp'"
            )
        self.loss = value.detach() if self.loss is None else self.loss + value.detach()
        counts = self.objective.counts(output, target)
        if counts is not None and n:
            self.counts = counts if self.counts is None else self.counts + counts
        return value


def _usual(spec: Spec) -> int:
    """Micro-batches by default: SPAN for each rank, or as many as the batch has samples for, in whole rounds."""
    return min(SPAN, max(1, spec.batch_size // spec.world)) * spec.world


def _unfit(spec: Spec) -> str:
    if spec.accumulate > 1:
        return (
            f"accumulate={spec.accumulate}: strategy='pipeline' splits every batch into micro-batches already; take "
            "accumulate=1 and options={'microbatches': ...}"
        )
    if spec.compile:
        return "compile=True: strategy='pipeline' runs its stages piece by piece; take compile=False"
    if trait("optimizer", spec.optimizer, "whole_matrices"):
        return (
            f"optimizer={spec.optimizer!r}: it treats the model's last layer apart, and strategy='pipeline' shows each "
            "rank only its own; take optimizer='adamw'"
        )
    return ""


def _microbatches(spec: Spec, schedule: str) -> str:
    n = int(spec.options.get("microbatches", 0))
    if not n:
        return ""
    option = f"options={{'microbatches': {n}}}: "
    if n < spec.world:
        return f"{option}must be at least world={spec.world}, or ranks would only wait (0 takes {_usual(spec)})"
    if n > spec.batch_size:
        return (
            f"{option}must be at most batch_size={spec.batch_size}, since each needs a sample (0 takes {_usual(spec)})"
        )
    if PIPELINES[schedule].rounds and n % spec.world:
        return (
            f"{option}pipeline_schedule={schedule!r} takes a multiple of world={spec.world}, such as "
            f"{n // spec.world * spec.world}"
        )
    return ""


def _cuttable(spec: Spec) -> int:
    """Layers that a model of the table can be cut between; 0 where only the model itself can tell."""
    if depth := entry_options("model", spec.model).get("depth"):
        return int(spec.options.get("depth", depth.default)) + ENDS
    return trait("model", spec.model, "layers") or 0


def _too_few(spec: Spec, schedule: str, layers: int) -> str:
    """Why a model of so many layers can't be cut into a stage for each place; "" where it can, or that is unknown."""
    per_rank = PIPELINES[schedule].stages
    stages = spec.world * per_rank
    if not layers or layers >= stages:
        return ""
    fits = [f"world={max(1, layers // per_rank)}"]
    fits += ["pipeline_schedule='1f1b'"] if layers >= spec.world else []
    fits += [f"depth={stages - ENDS}" if "depth" in entry_options("model", spec.model) else "a deeper model"]
    return (
        f"world={spec.world}: pipeline_schedule={schedule!r} cuts a model into {stages} stages ({per_rank} a rank), "
        f"and this one has {layers} layer{'s' * (layers != 1)} with weights; take {' or '.join(fits)}"
    )
