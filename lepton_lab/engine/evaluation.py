"""How well a model does on a split."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..losses import Criterion
from ..strategies.base import evaluating
from .feed import Feed

if TYPE_CHECKING:
    from ..losses import Loss
    from ..strategies.base import Single


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
        loss (mean over what it weighs), accuracy (fraction of the targets that count, if it has a meaning), samples,
        confusion (counts, K x K).
    """
    import torch

    loss = loss if isinstance(loss, Criterion) else Criterion(loss)
    sums = torch.zeros(5, dtype=torch.float64, device=strategy.device)  # loss, its weight, right, answers, samples
    counts = None
    ranked = False
    with strategy.aligned() as model, torch.no_grad(), strategy.autocast(), evaluating(model):
        for x, y, share in feed.whole():
            output = model(x)
            hits = loss.hits(output, y)
            ranked = hits is not None
            if share:  # not borrowed
                found = (loss.sum(output, y), loss.weight(y), hits if ranked else sums[2] * 0, loss.answers(y))
                sums += torch.stack([*(value.double().reshape(()) for value in found), sums.new_tensor(len(y))])
            if ranked and confusion and y.dim() == 1:
                k = output.shape[1]  # a model may tell more classes apart than the data has
                known = (y >= 0) & (y < k) if share else y < 0  # what is ignored is none of them
                pairs = torch.bincount(y[known].long() * k + output[known].argmax(1), minlength=k * k)
                counts = pairs if counts is None else counts + pairs
    total, weight, right, answers, samples = strategy.total(sums).tolist()
    weight = 1.0 if loss.summed else weight
    figures: dict[str, Any] = {"loss": total / weight if weight else math.nan, "samples": int(samples)}
    if ranked:
        figures["accuracy"] = right / max(answers, 1)
        if counts is not None:
            k = math.isqrt(len(counts))
            figures["confusion"] = strategy.total(counts).view(k, k).tolist()
    return figures
