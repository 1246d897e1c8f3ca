"""How well a model does on a split."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from ..batches import Batch
from ..errors import SpecError
from ..metrics import MINIMISED, Metric, with_following
from ..objectives import Criterion
from ..store.folder import RunFolder
from ..strategies.base import Single
from ..strategies.modes import evaluating
from .answers import Answers, losses_of
from .feed import Feed
from .gallery import Gallery, Judged
from .gathering import Gathering

LONGEST = 2**14  # tokens that a model writes of a sample in an evaluation, at most
MADE = 2**11  # samples that a model makes by itself in an evaluation, about, where each takes it several passes


def evaluate(
    strategy: Single,
    feed: Feed,
    metrics: Mapping[str, Metric],
    split: str,
    note: Callable[[str], object] | None = None,
    batches: int | None = None,
    answers: Answers | None = None,
    gallery: Gallery | None = None,
    criterion: Criterion | None = None,
) -> dict[str, Any]:
    """
    Figures of a strategy's model on a split, over all ranks; each of them calls this.

    Parameters
    ----------
    metrics
        By name, as `metrics.of` gives them.
    split
        "train", "val" or "test".
    note
        Is told in a sentence why a metric that gathers has no figure, or one of a part of the samples; without it the
        former is a SpecError.
    batches
        So many of them alone.
    answers
        Take what the model says of each sample.
    gallery
        Takes the samples that are shown; the worst are those with the highest losses, or where these are not known the
        worst by a metric that tells of each `alone`.
    criterion
        Gives both the loss of each sample; without it these are not known. The same on all ranks.

    Returns
    -------
    dict
        The figure of each metric that has a meaning for the split and the model's outputs, and samples.
    """
    counted = {name: metric for name, metric in metrics.items() if split in metric.splits}
    sums: dict[str, Tensor] = {}
    rows = {name: Gathering(strategy, feed.n) for name, metric in counted.items() if metric.gathers}
    samples = 0
    writes = feed.task.writes and not feed.task.steps() and any(metric.free for metric in counted.values())
    makes = feed.task.makes and any(metric.sets for metric in counted.values())
    with strategy.aligned() as model, torch.no_grad(), strategy.autocast(), evaluating(model):
        for number, (places, batch) in enumerate(islice(zip(feed.places(), feed.whole(), strict=True), batches)):
            output = feed.task.evaluated(model, batch.x)
            losses = None if criterion is None else losses_of(criterion, output, batch)
            if answers is not None:
                answers.add(places, output, batch, losses)
            written = _written(strategy, feed, model, batch) if writes else output
            made = feed.task.sampled(model, batch.x, batch.y) if makes and number * feed.eval_batch < MADE else None
            judged = None if losses is None or gallery is None else Judged(losses.tolist())
            for name, metric in counted.items():
                if feed.task.makes and metric.sets:
                    added = None if made is None else metric.update(*made)
                else:
                    added = metric.add(written if metric.free else output, batch)
                if added is None:
                    continue
                if name in rows:
                    rows[name].add(places, added)
                    if judged is None and metric.alone and gallery is not None and gallery.ranks:
                        judged = Judged([float(metric.finish(own)) for own in added], name, metric.higher)
                else:  # a rank without samples has borrowed one, which does not count
                    added = added.to(strategy.device)
                    sums[name] = sums.get(name, 0) + (added if batch.share else torch.zeros_like(added))
            if gallery is not None:
                gallery.add(places, output, batch, judged)
            samples += len(places)
    sums = {name: sums[name] for name in _everywhere(strategy, sums, [name for name in counted if name not in rows])}
    count = torch.tensor([samples], dtype=torch.float64, device=strategy.device)
    parts = [*sums.values(), count]
    *totals, count = strategy.total(torch.cat(parts)).cpu().split([len(part) for part in parts])
    figures = {name: counted[name].finish(total) for name, total in zip(sums, totals, strict=True)}
    figures |= {name: _gathered(strategy, name, counted[name], own, split, note) for name, own in rows.items() if own}
    figures = {name: figures[name] for name in counted if name in figures}
    for name, metric in counted.items():
        if metric.doubt and note is not None:
            note(f"{name} {metric.doubt}")
    return with_following(counted, split, figures) | {"samples": int(count)}


def _written(strategy: Single, feed: Feed, model: Any, batch: Batch) -> list[list[int]]:
    """What a model writes of a batch by itself, as long as the longest target of any rank, so that all go alike."""
    longest = torch.zeros(LONGEST + 1, dtype=torch.long, device=strategy.device)
    longest[min(batch.y.shape[1], LONGEST)] = 1
    return feed.task.written(model, batch.x, int(strategy.total(longest).nonzero().max()))


def _everywhere(strategy: Single, sums: Mapping[str, Tensor], names: list[str]) -> list[str]:
    """The metrics that every rank has found, whose outputs may be of another shape; each of them calls this."""
    found = [float(name in sums) for name in names]
    *ranks, n = strategy.total(torch.tensor([*found, 1.0], dtype=torch.float64, device=strategy.device)).tolist()
    return [name for name, count in zip(names, ranks, strict=True) if count == n]


def doubt(folder: RunFolder, split: str, feed: Feed, loss: float, reason: str = "") -> None:
    """Say that an evaluation's loss is no number, and why where that is known, as the loss's `reason` or else."""
    doubts = folder.facts.get("doubts", {})
    if not math.isfinite(loss):
        why = "" if feed.unsound is None else f": sample {feed.unsound} of its data holds such"
        told = reason or f"is NaN or infinite{why}"
        folder.note(doubts={**doubts, split: f"the loss of the {split} set {told}"})
    elif split in doubts:
        folder.note(doubts={name: text for name, text in doubts.items() if name != split})


def try_out(
    strategy: Single, feeds: Mapping[str, Feed], asked: Mapping[str, Metric], metrics: Mapping[str, Metric]
) -> None:
    """
    Fail, with a SpecError, where a metric that was asked for can't be found; all ranks call it before the first step.

    One batch of the first split with samples tells; where it does not (it may have samples of one class alone), the
    whole split is asked. `metrics` are all of the run, from which those that were asked for may follow.
    """
    split = next((split for split, feed in feeds.items() if feed.n), "")
    asked = {name: metric for name, metric in asked.items() if split in metric.splits}
    if not asked:
        return
    counted = {MINIMISED: metrics[MINIMISED], **asked}
    figures = evaluate(strategy, feeds[split], counted, split, str, batches=1)
    if without := [name for name in asked if name not in figures]:
        raise SpecError(f"metrics: {without[0]!r} has no figure for outputs and targets such as this run's")
    if None in figures.values():
        evaluate(strategy, feeds[split], counted, split)


def _gathered(
    strategy: Single, name: str, metric: Metric, own: Gathering, split: str, note: Callable[[str], object] | None
) -> float | None:
    """The figure of a metric that gathers: found by the rank of the first part, and told to the others."""
    figure = 0.0
    try:
        rows = own.whole().cpu()
    except SpecError as error:  # on every rank
        if note is None:
            raise SpecError(f"metrics: {name!r} has no figure of the {split} set: {error}") from error
        note(f"{name} of the {split} set has no figure: {error}")
        return None
    if strategy.part == 0:
        try:
            figure = float(metric.finish(rows))
            why = ""
        except Exception as error:
            if note is None:
                raise SpecError(f"metrics: {name!r} has no figure of the {split} set: {_words(error)}") from error
            figure, why = math.nan, f"has no figure: {_words(error)}"
        if own.stride > 1 and not why:
            why = f"is of every {own.stride}th sample: more numbers are not gathered"
        if why and note is not None:
            note(f"{name} of the {split} set {why}")
    told = strategy.total(torch.tensor([figure], dtype=torch.float64, device=strategy.device))
    return None if math.isnan(figure := told.item()) else figure


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, SpecError) else f"{type(error).__name__}: {error}"
