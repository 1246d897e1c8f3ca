"""Tensor parallel: the layers themselves are cut between ranks."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, ClassVar

from ..errors import SpecError
from ..spec import CELL, Spec
from ..tables import table
from .group import equalize
from .shards import Sharded
from .work import Cost, Workload

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.distributed.device_mesh import DeviceMesh

UNITS = {"hidden": "hidden units"}  # what an option counts, where its name alone does not say it


class TensorParallel(Sharded):
    """
    Every rank sees every sample and holds a slice of each layer: some heads of attention, some units of an MLP.

    After Shoeybi and others, Megatron-LM, arXiv:1909.08053: a layer cut by columns leads to one cut by rows, whose
    outputs are summed over the ranks, twice a block. Embedding, norms and head are on every rank. `sequence_parallel`
    is that of Korthikanti and others, arXiv:2205.05198. With one rank it is plain training.

    Parameters
    ----------
    sequence_parallel
        Cut what is between attention and MLP by tokens, which saves memory.
    """

    trains_any_module = False
    nests = False
    split: ClassVar[Collection[str]] = ("parameters", "gradients", "optimizer")

    def __init__(self, spec: Spec, *, sequence_parallel: bool = False) -> None:
        super().__init__(spec)
        self.sequence_parallel = sequence_parallel

    @classmethod
    def refuse(cls, spec: Spec) -> str:
        """Why a spec's model can't be cut between its ranks, or not be trained so; "" where it can."""
        if cls._ranks(spec) > 1 and not spec.model.startswith(CELL):
            kind = table("model")[spec.model].dealt
            if not kind:
                return (
                    f"strategy={spec.strategy!r}: model={spec.model!r} has none of the layers that it cuts between "
                    "ranks, attention and pairs of dense ones; take model='transformer', 'gpt' or 'mlp', or "
                    "strategy='ddp'"
                )
            if why := cls._uneven(spec, kind, spec.known_options()[kind]):
                return why
            if kind != "heads" and spec.options.get("sequence_parallel"):
                return (
                    f"options={{'sequence_parallel': True}}: model={spec.model!r} reads no sequence of tokens; take "
                    "model='transformer' or 'gpt', or sequence_parallel=False"
                )
        return super().refuse(spec)

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
        nearest = [max(n for n in fits if n < ranks), *[n for n in fits if n > ranks][:1]]
        return (
            f"{cls._named(spec, ranks)}: strategy={spec.strategy!r} deals {count} {units} evenly to {ranks} "
            f"ranks; take {' or '.join(cls._named(spec, n) for n in nearest)}, or a number of them that {ranks} divides"
        )

    @classmethod
    def _named(cls, spec: Spec, ranks: int) -> str:
        """What a user sets for a number of ranks."""
        return f"world={ranks}"

    def fits(self, model: nn.Module, x: Tensor) -> None:
        """Refuse a model in which nothing can be cut evenly, and tokens that can't."""
        from . import splitting

        super().fits(model, x)
        self._check(model)
        if self.sequence_parallel and (ranks := self._ranks(self.spec)) > 1:
            splitting.rows_of_tokens(model, ranks)
            model(x)

    def cost(self, work: Workload) -> Cost:
        """A slice of each layer; what a layer cut by rows gives, and its gradient's way back, are summed over ranks."""
        n = self._ranks(self.spec)
        if n == 1:
            return super().cost(work)
        from . import splitting

        self._check(work.model)
        fractions = splitting.fractions(work.model, n, self.sequence_parallel)
        held, micro = work.held_by_rank(fractions), work.micro()
        peak = work.peak_above_state(micro, self.spec.accumulate > 1, fractions)
        why = f"each rank has 1/{n} of each layer that can be cut, and the whole batch; what layers give is summed"
        sent = self.spec.accumulate * splitting.sent_bytes(work, n, micro, self.sequence_parallel)
        hops = self.spec.accumulate * splitting.hops(work.model, n, self.sequence_parallel)
        return Cost(held.size, held.gradient, held.state, peak - held.gradient, why, sent, hops=hops)

    def _place(self, model: nn.Module) -> nn.Module:
        model = super()._place(model)
        if self.world == 1:
            return model
        from . import splitting

        mesh = self._group()
        self._check(model)
        for tensor in (*model.parameters(), *model.buffers()):
            equalize(tensor)  # a model of a user's own may start from chance
        if mesh.size() > 1:
            splitting.split(model, mesh, self.sequence_parallel)
        return model

    def _group(self) -> DeviceMesh:
        """The ranks that layers are cut between."""
        from torch.distributed.device_mesh import init_device_mesh

        return init_device_mesh(self.device.type, (self.world,))

    def _check(self, model: nn.Module) -> None:
        """Refuse a model in which nothing can be cut between ranks, or not evenly."""
        from . import splitting

        if self._ranks(self.spec) == 1:
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
