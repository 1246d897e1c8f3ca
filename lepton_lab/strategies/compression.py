"""
Gradient compression: what DDP calls for each bucket of gradients in place of its all-reduce.

A bucket's gradients become, in place, their mean over the ranks, or nearly so. Each rank's loss is weighed by its share
of the batch (see `feeding`), so the plain mean is right for uneven parts too.

Legend of the shape comments: N numbers of a bucket, R rows, S columns of a gradient as a matrix, K rank of its
approximation, W ranks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.futures import Future

from .group import average
from .work import Workload, all_gather, all_reduce

WHOLE = 10  # first steps, whose gradients PowerSGD sends whole: they are large, and change fast
GAIN = 2  # times that PowerSGD must make a gradient smaller to be worth its while


class Feedback:
    """
    What lossy compression of gradients shares: what it left out on this rank is added to the next step's gradient.

    After Karimireddy and others, Error Feedback Fixes SignSGD and other Gradient Compression Schemes, arXiv:1901.09847.
    All is kept by name of parameter, not by bucket: DDP arranges its buckets anew after the first step of each process.
    Collectives are waited for one by one, so that every rank issues them in the same order.
    """

    remembered: tuple[str, ...] = ("left",)
    """Attributes that a checkpoint holds: numbers, and tensors by name of parameter."""

    def __init__(self, model: nn.Module) -> None:
        self.names: dict[Any, str] = {parameter: name for name, parameter in model.named_parameters()}
        self.left: dict[str, Tensor] = {}
        """By name of parameter, what has not been sent yet, in the shape of the gradient in its bucket."""

    def __call__(self, _: None, bucket: dist.GradBucket) -> Future[Tensor]:
        """The bucket (N,) with nearly its mean, and what is left out remembered."""
        gradients = {self.names[p]: g for p, g in zip(bucket.parameters(), bucket.gradients(), strict=True)}
        for name, gradient in gradients.items():
            if name in self.left:
                gradient += self.left.pop(name)
        self.exchange(bucket, gradients)
        buffer = bucket.buffer()
        future: Future[Tensor] = Future(devices=[buffer.device] if buffer.is_cuda else None)
        future.set_result(buffer)
        return future

    def exchange(self, bucket: dist.GradBucket, gradients: dict[str, Tensor]) -> None:
        """Turn the gradients, views of the bucket, into nearly their mean over ranks, and set `left`."""
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        """What this rank remembers."""
        return {name: getattr(self, name) for name in self.remembered}

    def load_state(self, state: dict[str, Any]) -> None:
        """Remember what `state` gave."""
        for attribute in self.remembered:
            value = state[attribute]
            if isinstance(value, dict):
                value = {name: value[name].to(p.device) for p, name in self.names.items() if name in value}
            setattr(self, attribute, value)


class PowerSGD(Feedback):
    """
    A gradient (R, S) is sent as the product of two thin matrices, by one power iteration from the last step's.

    M ~ P Q^T with P = orthogonal(mean(M Q)), then Q = mean(M^T P) (Vogels, Karimireddy and Jaggi, PowerSGD,
    arXiv:1905.13727). Vectors, matrices that would shrink by less than `GAIN`, and the first `WHOLE` steps are sent
    whole. torch's own hook is not used: with gloo and more than one bucket its collectives get mixed up, which ends
    the process, and its memory goes by bucket, so that a resumed run would differ. `rank` is K, 1 or more.
    """

    remembered = ("left", "q", "steps")

    def __init__(self, model: nn.Module, rank: int) -> None:
        super().__init__(model)
        self.rank = rank
        self.steps = 0
        self.q: dict[str, Tensor] = {}
        """By name of parameter, the last step's Q (S, K), the same on every rank."""

    def exchange(self, bucket: dist.GradBucket, gradients: dict[str, Tensor]) -> None:
        """Two messages: the P of all matrices with what is sent whole, then their Q."""
        compressed = {name: g.flatten(1) for name, g in gradients.items() if self.steps >= WHOLE and pays(g, self.rank)}
        uncompressed = [g for name, g in gradients.items() if name not in compressed]
        ps = [matrix @ self._start(name, matrix) for name, matrix in compressed.items()]  # each (R, K)
        average([*ps, *uncompressed], bucket.buffer().device)
        ps = [torch.linalg.qr(p).Q for p in ps]
        qs = [matrix.T @ p for matrix, p in zip(compressed.values(), ps, strict=True)]  # each (S, K)
        for (name, matrix), p, q in zip(compressed.items(), ps, qs, strict=True):
            # Against the rank's own part of the product: against the mean, what ranks differ by would add up for ever.
            self.left[name] = (matrix - p @ q.T).view(gradients[name].shape)
        average(qs, bucket.buffer().device)
        for (name, matrix), p, q in zip(compressed.items(), ps, qs, strict=True):
            self.q[name] = q
            torch.matmul(p, q.T, out=matrix)
        self.steps += bucket.is_last()

    def _start(self, name: str, matrix: Tensor) -> Tensor:
        """Q (S, K) to begin with: the last step's, or random, the same on every rank."""
        shape = (matrix.shape[1], self.rank)
        if name not in self.q or self.q[name].shape != shape:
            random = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=matrix.dtype)
            self.q[name] = random.to(matrix.device)
        return self.q[name]


class TopK(Feedback):
    """
    Of each gradient, every rank sends its largest numbers only, with their places.

    After Aji and Heafield, Sparse Communication for Distributed Gradient Descent, arXiv:1704.05021, with the threshold
    chosen for each parameter, as in Lin and others, Deep Gradient Compression, arXiv:1712.01887. `fraction` of them are
    sent, above 0 and at most 1; one number at least.
    """

    def __init__(self, model: nn.Module, fraction: float) -> None:
        super().__init__(model)
        self.fraction = fraction

    def exchange(self, bucket: dist.GradBucket, gradients: dict[str, Tensor]) -> None:
        """Two messages: each rank's largest numbers, and their places in the bucket."""
        buffer = bucket.buffer()  # (N,)
        parts: list[Tensor] = []
        start = 0
        for gradient in gradients.values():  # which lie in the buffer one after the other
            flat = gradient.view(-1)
            largest = flat.abs().topk(math.ceil(self.fraction * flat.numel()), sorted=False).indices
            parts.append(largest.int() + start)
            start += flat.numel()
        places = torch.cat(parts)
        values = buffer[places]
        buffer[places] = 0
        self.left |= {name: gradient.clone() for name, gradient in gradients.items()}
        buffer.zero_()
        for theirs, sent in zip(gathered(places), gathered(values), strict=True):
            buffer.index_add_(0, theirs, sent, alpha=1 / dist.get_world_size())


def cost(work: Workload, compress: str, ranks: int, rank: int, fraction: float) -> tuple[float, float]:
    """Bytes that a rank sends, and what it remembers of them, a step; options as `HOOKS` takes them."""
    if compress in ("fp16", "bf16"):
        return all_reduce(work.gradients / 2, ranks), 0.0
    trained = [(p, work.held[name].gradient) for name, p in work.model.named_parameters() if p.requires_grad]
    if compress == "topk":
        numbers = ranks * sum(math.ceil(fraction * p.numel()) for p, _ in trained)  # of 4 bytes, as are their places
        return 2 * all_gather(4 * numbers, ranks), work.gradients
    first = second = remembered = 0.0  # bytes of the two messages: all P with what is sent whole, and all Q
    for parameter, size in trained:
        if pays(parameter, rank):
            rows, columns = parameter.flatten(1).shape
            row = size / parameter.numel() * rank  # bytes of K numbers
            first, second, remembered = first + rows * row, second + columns * row, remembered + size
        else:
            first += size
    return all_reduce(first, ranks) + all_reduce(second, ranks), remembered + second


def pays(gradient: Tensor, rank: int) -> bool:
    """Whether PowerSGD makes a gradient so much smaller that it is worth its while."""
    if gradient.dim() < 2:
        return False
    rows, columns = gradient.flatten(1).shape
    return (rows + columns) * rank * GAIN < rows * columns


def gathered(value: Tensor) -> Tensor:
    """What every rank gave: (N,) -> (W, N)."""
    values = value.new_empty(dist.get_world_size() * len(value))
    dist.all_gather_into_tensor(values, value)
    return values.view(-1, len(value))


HOOKS: dict[str, Callable[[nn.Module, int, float], Any]] = {
    # torch's own, which send and sum 16-bit numbers; by name, DDP refuses bfloat16 on CPU, though gloo sums it there.
    "fp16": lambda *_: default_hooks.fp16_compress_hook,
    "bf16": lambda *_: default_hooks.bf16_compress_hook,
    "powersgd": lambda model, rank, _: PowerSGD(model, rank),
    "topk": lambda model, _, fraction: TopK(model, fraction),
}
