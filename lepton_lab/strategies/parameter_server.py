"""Parameter server: gradients go to one rank, parameters come back."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import datetime
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ..spec import Spec
from .base import MakeOptimizer
from .group import Asynchronous, apart, fill, flat, pieces
from .work import HEADER, Cost, Workload, shown

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from torch.distributed import ProcessGroup
    from torch.optim import Optimizer

FOREVER = datetime.timedelta(days=365)  # the server waits through any pause or evaluation; its workers keep the time
LATER = 1.0  # seconds that a worker waits longer than the server does, who knows which rank is missing


class ParameterServer(Asynchronous):
    """
    Rank 0 holds the model and updates it; every rank sends it gradients and gets parameters back.

    With `staleness` 0 that is exact. With more the server applies each gradient as it comes, and `clip` bounds each
    worker's own. Rank 0 computes gradients too, and gives its buffers (batch norm's) to evaluations and checkpoints. A
    parameter that a step doesn't use counts as one of gradient 0.

    Parameters
    ----------
    staleness
        Steps that a rank may be ahead of the slowest, 0 or more; 0 averages all gradients in each step.
    """

    exact = True
    inexact_with = "staleness"
    no_fp16 = "has no common scale for the losses of all ranks"

    def __init__(self, spec: Spec, *, staleness: Annotated[int, Field(ge=0)] = 0) -> None:
        super().__init__(spec, staleness)
        self.exact = staleness == 0
        self._worker: nn.Module | None = None

    @classmethod
    def refuse(cls, spec: Spec) -> str:
        """An average of weights of which each rank has others."""
        return (apart(spec) if spec.options.get("staleness") else "") or super().refuse(spec)

    def holds(self, rank: int, world: int) -> dict[str, tuple[float, float]]:
        """A slice of the batch and a copy of the parameters; the optimizer is the server's, rank 0."""
        return super().holds(rank, world) | {"optimizer": (0.0, float(rank == 0))}

    def start(self, rank: int, world: int, rendezvous: Path | None, device: torch.device) -> torch.device:
        """Join the ranks, and a second group for the messages between workers and server, which are on the CPU."""
        device = super().start(rank, world, rendezvous, device)
        if world > 1:
            import torch.distributed as dist

            self.group = dist.new_group(backend="gloo", timeout=FOREVER)
        return device

    def setup(self, model: nn.Module, make_optimizer: MakeOptimizer) -> tuple[nn.Module, Optimizer]:
        """As in one process; rank 0 then computes with a copy, since the server changes its own at any time."""
        import torch

        super().setup(model, make_optimizer)
        if self.world > 1 and self.rank == 0:
            limits = self.staleness, self.spec.timeout
            self.server = Server(self.parameters, self.optimizer, self.world, *limits, self.ages)
            buffers = {id(buffer): buffer for buffer in self.module.buffers()}  # these are shared
            self.model = self._worker = copy.deepcopy(self.module, memo=buffers)
            self.parameters = [p for p in self.model.parameters() if p.requires_grad]
            if self.spec.compile:
                self.model = torch.compile(self.model)
        return self.model, self.optimizer

    @property
    def running(self) -> nn.Module:
        """Of rank 0, its worker's copy."""
        return self._worker or self.module

    def _begin(self) -> None:
        if self.rank > 0:
            self.optimizer.state.clear()  # a resume read it; it is the server's
            return
        fill(self.parameters, flat(self.server.parameters))
        for rank in range(1, self.world):
            name = f"lepton-lab-server-{rank}"
            threading.Thread(target=self.server.serve, args=(rank, self.group), name=name, daemon=True).start()

    def _update(self, clip: float) -> None:
        """Push this rank's gradient, and pull parameters."""
        if self.world == 1:
            super()._update(clip)
            return
        if clip and self.staleness:
            self._clip(clip)
        gradients = (p.new_zeros(p.shape) if p.grad is None else p.grad for p in self.parameters)
        gradient = flat([g.to_dense() if g.is_sparse else g for g in gradients])
        if self.rank == 0:
            self.server.clip = 0.0 if self.staleness else clip
            values = self.server.push(0, gradient)
        else:
            values = self._push_and_pull(gradient.cpu())
        fill(self.parameters, values)

    def _push_and_pull(self, gradient: Tensor) -> Tensor:
        import torch.distributed as dist

        limit = datetime.timedelta(seconds=self.spec.timeout + LATER)
        values = gradient.new_empty(gradient.shape)
        with during("send the server, rank 0, a gradient"):
            sent: Any = dist.isend(gradient, 0, self.group)
            sent.wait(limit)
        with during("get parameters from the server, rank 0"):
            received: Any = dist.irecv(values, 0, self.group)
            received.wait(limit)
        return values

    @contextlib.contextmanager
    def aligned(self) -> Iterator[nn.Module]:
        """The server's parameters and rank 0's buffers, on every rank; those of the workers may have been older."""
        self._take_buffers()
        with super().aligned() as module:
            if self.world > 1:
                import torch.distributed as dist

                values = flat([p for p in module.parameters() if p.requires_grad])
                if self.staleness:
                    dist.broadcast(values, 0)
                fill(self.parameters, values)  # rank 0's worker may not have had them yet, as after a resume
                if self.staleness and self.rank == 0:
                    self.server.versions = [self.server.version] * self.world
            yield self.running  # which also has what its forward pass counted

    def _take_buffers(self) -> None:
        """Rank 0's worker may have others by now: a forward pass can put a new tensor in a buffer's place."""
        if self._worker is not None:
            for part, own in zip(self.module.modules(), self._worker.modules(), strict=True):
                part._buffers.update(own._buffers)

    def cost(self, work: Workload) -> Cost:
        """Rank 0's: its worker computes with a copy, and it sends each other worker the parameters."""
        n, size = self.spec.world, work.gradients
        if n == 1:
            return super().cost(work)
        row = f"{n - 1} x {shown(size)}"
        why = f"rank 0 takes {row} of gradients and gives as much of parameters, to one rank at a time"
        replica = work.replica(n, why, (n - 1) * (size + HEADER))
        highest = max(replica.activations, 2 * size)  # the gradient, and the parameters that come for it
        lag, hops = self.staleness + 1, 2.0 * (n - 1)  # a gradient and the parameters, of one worker at a time
        return dataclasses.replace(
            replica, parameters=replica.parameters + size, activations=highest, hops=hops, apart=lag
        )

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """The server's, with the buffers of its worker; the others have nothing of their own."""
        self._take_buffers()
        return super().state_dict() if self.rank == 0 else {}


@dataclasses.dataclass(eq=False)
class Server:
    """
    The server's side: the parameters, their optimizer, and where each worker is.

    One thread serves each other rank; rank 0's own worker calls `push` itself.
    """

    parameters: list[nn.Parameter]
    """What is updated; no one else writes to them."""
    optimizer: Optimizer
    world: int
    """Workers, rank 0's among them."""
    staleness: int
    """Steps that a worker may be ahead of the slowest; 0 averages all gradients of a step into one update."""
    timeout: float
    """Seconds that a worker waits for the slowest."""
    ages: Counter[int]
    """Counts gradients by their age, which is the number of updates since their worker last got parameters."""
    clip: float = 0.0
    """Bound of the norm of what is applied; 0 has none."""
    version: int = 0
    """Updates made."""

    def __post_init__(self) -> None:
        self.steps = [0] * self.world
        """Steps that each worker has pushed."""
        self.versions = [0] * self.world
        """Version of the parameters that each worker has."""
        self.gathered: dict[int, Tensor] = {}
        """Gradients of the step at hand by rank, where all are averaged."""
        self._changed = threading.Condition()
        self._failure: BaseException | None = None

    def push(self, rank: int, gradient: Tensor) -> Tensor:
        """
        Take a worker's gradient (n,) and return parameters (n,), once the worker may go on.

        Raises
        ------
        TimeoutError
            If it waited too long for the slowest worker.
        """
        with self._changed:
            self.steps[rank] += 1
            if self.staleness:
                self.ages[self.version - self.versions[rank]] += 1
                self._apply(gradient)
            else:
                self.gathered[rank] = gradient.to(self.parameters[0].device)
                if len(self.gathered) == self.world:
                    total: Any = sum(self.gathered[i] for i in range(self.world))
                    self._apply(total / self.world)
                    self.gathered.clear()
            self._changed.notify_all()
            self._wait_for_the_slowest(rank)
            self.versions[rank] = self.version
            return flat(self.parameters)

    def serve(self, rank: int, group: ProcessGroup) -> None:
        """Serve one worker, without end: take a gradient, give parameters."""
        import torch.distributed as dist

        try:
            gradient = flat(self.parameters).cpu()  # (n,)
            while True:
                with during(f"get a gradient from rank {rank}"):
                    dist.recv(gradient, rank, group)
                values = self.push(rank, gradient).cpu()
                with during(f"send rank {rank} parameters"):
                    dist.send(values, rank, group)
        except BaseException as error:  # is raised in rank 0's own worker, when it next pushes
            with self._changed:
                self._failure = self._failure or error
                self._changed.notify_all()

    def _apply(self, gradient: Tensor) -> None:
        import torch

        for p, piece in pieces(self.parameters, gradient):
            p.grad = torch.empty_like(p).copy_(piece)
        if self.clip:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.clip)
        self.optimizer.step()
        self.version += 1

    def _wait_for_the_slowest(self, rank: int) -> None:
        """Until a worker is no more than `staleness` steps ahead; with 0, until the update of its step."""
        steps = self.steps[rank]
        in_time = self._changed.wait_for(
            lambda: self._failure or steps <= min(self.steps) + self.staleness, self.timeout
        )
        if self._failure:
            raise self._failure
        if not in_time:
            slowest = min(range(self.world), key=self.steps.__getitem__)
            raise TimeoutError(
                f"Timed out waiting {self.timeout:g} s for the gradient of rank {slowest}, with rank {rank} "
                f"{steps - self.steps[slowest]} steps ahead of it"
            )


@contextlib.contextmanager
def during(action: str) -> Iterator[None]:
    """A failed message to or from another rank, with what it was for."""
    try:
        yield
    except RuntimeError as error:
        raise RuntimeError(f"could not {action}: {error}") from error
