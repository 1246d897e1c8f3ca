"""How well a model does on a split."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..batches import call
from ..metrics import Metric, with_following
from ..store.folder import RunFolder
from ..strategies.base import Single, evaluating
from .feed import Feed


def evaluate(strategy: Single, feed: Feed, metrics: Mapping[str, Metric], split: str) -> dict[str, Any]:
    """
    Figures of a strategy's model on a split, over all ranks; each of them calls this.

    Parameters
    ----------
    metrics
        By name, as `metrics.of` gives them.
    split
        "train", "val" or "test".

    Returns
    -------
    dict
        The figure of each metric that has a meaning for the split and the model's outputs, and samples.
    """
    counted = {name: metric for name, metric in metrics.items() if split in metric.splits}
    sums: dict[str, Tensor] = {}
    samples = 0
    with strategy.aligned() as model, torch.no_grad(), strategy.autocast(), evaluating(model):
        for batch in feed.whole():
            output = call(model, batch.x)
            for name, metric in counted.items():
                if (added := metric.add(output, batch)) is not None:
                    # A rank without samples has borrowed one, which does not count.
                    sums[name] = sums.get(name, 0) + (added if batch.share else torch.zeros_like(added))
            samples += batch.samples if batch.share else 0
    count = torch.tensor([samples], dtype=torch.float64, device=strategy.device)
    parts = [*sums.values(), count]
    *totals, count = strategy.total(torch.cat(parts)).cpu().split([len(part) for part in parts])
    figures = {name: counted[name].finish(total) for name, total in zip(sums, totals, strict=True)}
    return with_following(counted, split, figures) | {"samples": int(count)}


def doubt(folder: RunFolder, split: str, feed: Feed, loss: float) -> None:
    """Say that an evaluation's loss is no number, and why where that is known."""
    doubts = folder.facts.get("doubts", {})
    if not math.isfinite(loss):
        why = "" if feed.unsound is None else f": sample {feed.unsound} of its data holds such"
        folder.note(doubts={**doubts, split: f"the loss of the {split} set is NaN or infinite{why}"})
    elif split in doubts:
        folder.note(doubts={name: text for name, text in doubts.items() if name != split})
