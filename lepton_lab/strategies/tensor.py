"""Tensor parallel: the layers themselves are cut between ranks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SpecError
from ..spec import CELL, Spec
from ..tables import table, trait
from .group import Group, equalize
from .shards import as_plain
from .work import Cost

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from torch.distributed.device_mesh import DeviceMesh

    from .work import Workload

UNITS = {"hidden": "hidden units"}  # what an option counts, where its name alone does not say it


class TensorParallel(Group):
    """
    Every rank sees every sample and holds a slice of each layer: some heads of attention, some units of an MLP.

    After Shoeybi and others, Megatron-LM, arXiv:1909.08053: a layer cut by columns leads to one cut by rows, whose
    outputs are summed over the ranks, twice a block. Embedding, norms and head are on every rank. With
    `sequence_parallel` what is between attention and MLP is cut by tokens, which saves memory (Korthikanti and others,
    arXiv:2205.05198). With one rank it is plain training.

    Parameters
    ----------
    sequence_parallel
        Cut what is between attention and MLP by tokens, which saves memory.
    """

    trains_any_module = False

    def __init__(self, spec: Spec, *, sequence_parallel: bool = False) -> None:
        super().__init__(spec)
        self.sequence_parallel = sequence_parallel

    @classmethod
    def refuse(cls, spec: Spec) -> str:
        """Why a spec's model can't be cut between its ranks, or not be trained so; "" where it can."""
        ranks, strategy = cls._ranks(spec), f"strategy={spec.strategy!r}"
        if spec.world == 1:
            return ""
        if ranks > 1 and not spec.model.startswith(CELL):
            dealt = table("model")[spec.model].dealt
            if not dealt:
                return (
                    f"{strategy}: model={spec.model!r} is made of convolutions, which it can't cut between ranks; take "
                    "model='transformer', 'gpt' or 'mlp', or strategy='ddp'"
                )
            if why := cls._uneven(spec, dealt, spec.known_options()[dealt]):
                return why
            if dealt != "heads" and spec.options.get("sequence_parallel"):
                return (
                    f"options={{'sequence_parallel': True}}: model={spec.model!r} reads no sequence of tokens; take "
                    "model='transformer' or 'gpt', or sequence_parallel=False"
                )
        if trait("optimizer", spec.optimizer, "whole_matrices"):
            return f"optimizer={spec.optimizer!r}: needs whole matrices, which {strategy} cuts; take optimizer='adamw'"
        if spec.precision == "fp16":
            return f"precision='fp16': {strategy} has no common scale of the loss for all ranks; take precision='bf16'"
        return ""

    @classmethod
    def _ranks(cls, spec: Spec) -> int:
        """Ranks that layers are cut between."""
        return spec.world

    @classmethod
    def _uneven(cls, spec: Spec, kind: str, count: int) -> str:
        """Why that many heads or units can't be dealt evenly to the ranks of a group; "" where they can."""
        ranks = cls._ranks(spec)
        if count < 1 or count % ranks == 0:  # the model itself refuses less than one
            return ""
        fits = [n for n in range(1, count + 1) if count % n == 0]
        units = UNITS.get(kind, kind)
        near = [max(n for n in fits if n < ranks), *[n for n in fits if n > ranks][:1]]
        return (
            f"{cls._named(spec, ranks)}: strategy={spec.strategy!r} deals {count} {units} evenly to {ranks} "
            f"ranks; take {' or '.join(cls._named(spec, n) for n in near)}, or a number of them that {ranks} divides"
        )

    @classmethod
    def _named(cls, spec: Spec, ranks: int) -> str:
        """What a user sets for a number of ranks."""
        return f"world={ranks}"

    def fits(self, model: nn.Module, x: Tensor) -> None:
        """Refuse a model in which nothing can be cut evenly, and tokens that can't."""
        from . import splitting

        ranks = self._ranks(self.spec)
        self._check(model, ranks)
        if ranks > 1 and self.sequence_parallel:
            splitting.rows_of_tokens(model, ranks)
            model(x)

    def holds(self, rank: int, world: int) -> dict[str, tuple[float, float]]:
        """The whole batch, and a slice of each layer that is split."""
        held = super().holds(rank, world)
        return dict.fromkeys(held, (rank / world, (rank + 1) / world)) | {"batch": (0.0, 1.0)}

    def start(self, rank: int, world: int, rendezvous: Path, device: torch.device) -> torch.device:
        """Join the process group; all ranks see the whole batch."""
        device = super().start(rank, world, rendezvous, device)
        self.part, self.parts = 0, 1
        return device

    def cost(self, work: Workload) -> Cost:
        """A slice of each layer; what a layer cut by rows gives, and its gradient's way back, are summed over ranks."""
        n = self._ranks(self.spec)
        if n == 1:
            return super().cost(work)
        from . import splitting

        self._check(work.model, n)
        fractions = splitting.fractions(work.model, n, self.sequence_parallel)
        held, micro = work.held_by_rank(fractions), work.micro()
        peak = work.peak_above_state(micro, self.spec.accumulate > 1, fractions)
        why = f"each rank has 1/{n} of each layer that can be cut, and the whole batch; what layers give is summed"
        sent = self.spec.accumulate * splitting.sent_bytes(work, n, micro, self.sequence_parallel)
        return Cost(held.size, held.gradient, held.state, peak - held.gradient, why, sent)

    def _place(self, model: nn.Module) -> nn.Module:
        model = super()._place(model)
        if self.world > 1:
            from torch.distributed.device_mesh import init_device_mesh

            self._split(model, init_device_mesh(self.device.type, (self.world,)))
        return model

    def _split(self, model: nn.Module, mesh: DeviceMesh) -> None:
        """Cut what can be cut between the ranks of a mesh; a model where nothing can is refused."""

        from . import splitting

        self._check(model, mesh.size())
        for tensor in (*model.parameters(), *model.buffers()):
            equalize(tensor)  # a model of a user's own may start from chance
        if mesh.size() > 1:
            splitting.split(model, mesh, self.sequence_parallel)

    def _check(self, model: nn.Module, ranks: int) -> None:
        """Refuse a model in which nothing can be cut between ranks, or not evenly."""
        from . import splitting

        if ranks == 1:
            return
        if not (layers := splitting.divisible(model)):
            raise SpecError(
                f"strategy={self.spec.strategy!r}: model={self.spec.model!r} has no layers that it can cut between "
                "ranks (Attention and MLP of lepton_lab.models.blocks, or pairs of nn.Linear in an nn.Sequential); "
                "take model='transformer', 'gpt' or 'mlp', or strategy='ddp'"
            )
        for kind, count in layers:
            if why := self._uneven(self.spec, kind, count):
                raise SpecError(why)

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
        if self.world == 1:
            super()._clip(clip)
            return
        import torch
        import torch.distributed as dist

        whole: list[Any] = [p for p in self.parameters if p.grad is not None]
        with torch.no_grad():
            gradients = [p.grad.to_local() if hasattr(p, "placements") else p.grad for p in whole]
            # What several ranks hold counts once.
            squares = [g.square().sum() / self._holders(p) for g, p in zip(gradients, whole, strict=True)]
            dist.all_reduce(square := torch.stack(squares).sum())
            factor = (clip / (square.sqrt() + 1e-6)).clamp(max=1.0)  # as torch's clip_grad_norm_
            for g in gradients:
                g.mul_(factor)

    def _holders(self, parameter: Any) -> float:
        """How many ranks hold the same numbers of a parameter."""
        pieces = 1
        for i, placement in enumerate(getattr(parameter, "placements", ())):
            pieces *= 1 if placement.is_replicate() else parameter.device_mesh.size(i)
        return self.world / pieces
