"""Batches: a global seeded order of samples, cut into steps, micro-batches and the ranks' parts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..answers import labels
from ..datasets import Data, length, scaling
from ..host import cores
from ..spec import Spec, micro_samples, step_samples
from ..strategies.base import Single
from .loading import load

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..losses import Batch

EVAL_ELEMENTS = 2**18  # inputs of an evaluation batch hold about this many numbers; for tokens, their scores do


class Feed:
    """
    The batches of one split for one rank.

    A pair of tensors is held on the device as it came (uint8 stays uint8) and batched by index; another Dataset goes
    through a DataLoader in the same order.

    Parameters
    ----------
    part
        (x, y) tensors of shapes (N, ...) and (N, ...), a map-style Dataset of such samples, or None for no samples.
    data
        Says how uint8 inputs are scaled: (x / 255 - mean) / std by channel; or that they are tokens, which go to the
        model as int64.

    Attributes
    ----------
    unsound : int or None
        Index of a sample seen by now that holds NaN or infinity.
    """

    def __init__(self, part: Any, data: Data, spec: Spec, strategy: Single) -> None:
        import torch

        self.spec, self.strategy = spec, strategy
        self.device = strategy.device
        self.tensors: tuple[Tensor, Tensor] | None = None
        self.n = length(part)
        self.unsound: int | None = None
        if isinstance(part, tuple):
            self.tensors = (part[0].to(self.device), part[1].to(self.device))
        elif part is not None:
            self.dataset = part
        self._tokens = data.vocabulary > 0
        self._dtype = _weights(strategy)
        self._scale: list[Any] = [
            value.to(self.device) if isinstance(value, torch.Tensor) else value
            for value in scaling(data.mean, data.std, len(data.shape))
        ]
        micro = -(-spec.batch_size // spec.accumulate)
        elements = max(math.prod(data.shape) * max(data.vocabulary, 1), 1)
        self.eval_batch = max(micro, min(1024, EVAL_ELEMENTS // elements))

    @property
    def batch(self) -> int:
        """Samples of one optimizer step over all ranks; all of them for full-batch gradient descent."""
        return step_samples(self.spec, self.n)

    @property
    def steps(self) -> int:
        """Optimizer steps an epoch; the last one takes what is left."""
        return -(-self.n // self.batch)

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[tuple[Iterator[Batch], int]]:
        """
        Steps of an epoch in its seeded order, from step `skip` on: each an iterator over (x, y, share) and its length.

        The order depends on seed and epoch alone, so that any world, and a resumed run, sees the same batches.
        """
        import torch

        seed = self.spec.seed * 1_000_003 + epoch
        order = torch.randperm(self.n, generator=torch.Generator().manual_seed(seed))
        steps = [self._plan(step) for step in order.split(self.batch)[skip:]]
        fetched = self._fetch((part for step in steps for part, _ in step), seed)
        for step in steps:
            yield ((*next(fetched), share) for _, share in step), len(step)

    def whole(self) -> Iterator[Batch]:
        """This rank's part of all samples once, in their own order; share 0 marks a borrowed sample."""
        import torch

        parts = torch.arange(self.n).split(self.eval_batch)
        for part, (x, y) in zip(parts, self._fetch((self._mine(part) for part in parts), 0), strict=True):
            yield x, y, float(len(self.strategy.shard(part)) > 0)

    def _plan(self, step: Tensor) -> list[tuple[Tensor, float]]:
        """
        The rank's part of each micro-batch of a step, and its share of the step's loss.

        The shares make the mean over ranks, summed over micro-batches, the mean over the global batch.
        """
        size = micro_samples(self.spec, len(step))
        micros = (step,) if size >= len(step) else step.split(size)
        return [(self._mine(part), self.strategy.parts * len(self.strategy.shard(part)) / len(step)) for part in micros]

    def _mine(self, part: Tensor) -> Tensor:
        """This rank's indices of a micro-batch; where it would have none it borrows one, so that all ranks compute."""
        mine = self.strategy.shard(part)
        return mine if len(mine) else part[:1]

    def _fetch(self, indices: Iterator[Tensor], seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        if self.tensors is not None:
            x, y = self.tensors
            for part in indices:
                part = part.to(self.device, non_blocking=True)
                yield self._ready(x.index_select(0, part), y.index_select(0, part))
            return
        workers = min(4, cores() // self.strategy.world - 1) if cores() > self.strategy.world else 0
        batches = [part.tolist() for part in indices]
        pinned = self.device.type == "cuda"
        for x, y, unsound in load(self.dataset, batches, seed, workers, self.spec.timeout, pinned):
            if unsound >= 0:
                self.unsound = unsound
            x, y = x.to(self.device, non_blocking=True), labels(y).to(self.device, non_blocking=True)
            yield self._ready(x, y)

    def _ready(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and targets as model and loss take them."""
        if self._tokens:
            return x.long(), y if y.is_floating_point() else y.long()
        return self._scaled(x), y.to(self._dtype) if y.is_floating_point() else y

    def _scaled(self, x: Tensor) -> Tensor:
        import torch

        if x.dtype == torch.uint8:
            scale, shift = self._scale
            return x.to(self._dtype).mul_(scale).sub_(shift)
        if x.dtype == torch.uint16:  # pictures of a Dataset
            return x.to(self._dtype).div_(65535)
        return x.to(self._dtype) if x.is_floating_point() else x  # NumPy makes float64, which weights seldom are


def by_itself(part: Any, data: Data, spec: Spec) -> Feed:
    """The batches of a part as one process has them on the CPU, for who looks at samples outside of training."""
    import torch

    # A copy, since the options of another strategy stay with the spec.
    single = Single(spec.model_copy(update={"accumulate": 1, "world": 1}))
    single.start(0, 1, Path(), torch.device("cpu"))
    return Feed(part, data, single.spec, single)


def _weights(strategy: Single) -> torch.dtype:
    """What floats the model's weights are; float32 where they are of several types."""
    import torch

    parameters = strategy.module.parameters() if hasattr(strategy, "module") else ()
    dtypes = {p.dtype for p in parameters if p.is_floating_point()}
    return dtypes.pop() if len(dtypes) == 1 else torch.float32


def alone(spec: Spec, n: int, parts: int) -> bool:
    """Whether one of `parts` ranks gets a batch of a single sample, in a step over some of `n` samples."""
    batch = step_samples(spec, n)
    for step in (batch, n % batch or batch):
        size = micro_samples(spec, step)
        if any(0 < micro < 2 * parts for micro in (min(size, step), step % size)):
            return True
    return False
