"""How well a model does on a split, and the losses that are usual."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .answers import right_answers
from .feeding import Feed

if TYPE_CHECKING:
    from torch import Tensor

    from .datasets import Data
    from .strategies.base import Loss, Single


def evaluate(strategy: Single, feed: Feed, loss: Loss, confusion: bool = False) -> dict[str, Any]:
    """
    Loss and accuracy of the model on a split, over all ranks.

    Parameters
    ----------
    strategy
        Holds the model; every rank calls this.
    feed
        The split's batches.
    loss
        As in training.
    confusion
        Whether to count (true, predicted) pairs too, where each sample has one label.

    Returns
    -------
    dict
        loss (mean over samples), accuracy (fraction, if it has a meaning), samples, confusion (counts, K x K).
    """
    import torch

    sums = torch.zeros(3, dtype=torch.float64, device=strategy.device)  # loss x samples, right answers, samples
    counts = None
    ranked = False
    with strategy.aligned() as model, torch.no_grad(), strategy.autocast():
        model.eval()
        for x, y, share in feed.whole():
            output = model(x)
            n = len(y) if share else 0
            sums[0] += loss(output, y) * n
            sums[2] += n
            if (right := right_answers(output, y)) is not None:
                ranked = True
                sums[1] += right * (n > 0)
                if confusion and y.dim() == 1:
                    k = output.shape[1]  # a model may tell more classes apart than the data has
                    pairs = torch.bincount(y[:n].long() * k + output[:n].argmax(1), minlength=k * k)
                    counts = pairs if counts is None else counts + pairs
        model.train()
    total, correct, n = strategy.total(sums).tolist()
    figures: dict[str, Any] = {"loss": total / n, "samples": int(n)}
    if ranked:
        figures["accuracy"] = correct / n
        if counts is not None:
            k = math.isqrt(len(counts))
            figures["confusion"] = strategy.total(counts).view(k, k).tolist()
    return figures


def token_loss(output: Tensor, target: Tensor) -> Tensor:
    """Mean cross entropy of scores (B, T, K) over all tokens (B, T), or of (B, K) over labels (B,)."""
    from torch.nn import functional

    return functional.cross_entropy(output.flatten(0, -2), target.flatten())


def usual_loss(data: Data) -> Loss:
    """What is trained where the user gives no loss: cross entropy for classes and tokens, else the squared error."""
    from torch.nn import functional

    return squared_error if not data.classes else token_loss if data.vocabulary else functional.cross_entropy


def squared_error(output: Tensor, target: Tensor) -> Tensor:
    """Mean squared error, taking an output (B, 1) for a target (B,) too, which would broadcast to (B, B)."""
    return (output.reshape(target.shape) - target).square().mean()
