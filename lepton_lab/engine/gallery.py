"""The samples of an evaluation that are shown: its first, and those with the highest losses."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..batches import Batch
from ..files import write_text
from ..objectives import Criterion
from ..pictures import plain
from ..store.folder import RunFolder
from ..strategies.base import Single
from ..tasks import Task
from ..tasks.routine import Outcome

COUNT = 10  # samples that are shown of each kind
GLIMPSE = 6  # samples that are shown of an evaluation while a run goes on
OFTEN = 32  # evaluations that are shown each time that their number has doubled; of twice as many, all


class Exhibit(NamedTuple):
    """One sample as batches of it alone, on the CPU."""

    place: int
    loss: float
    x: Any
    y: Any
    output: Any


class Gallery:
    """
    Samples and outputs of one rank that may be shown, in bounded number.

    Legend of the shape comments: B samples of a batch.

    Parameters
    ----------
    first, worst
        How many samples are kept of the beginning of the split, and of the highest losses.
    """

    def __init__(self, task: Task, criterion: Criterion, first: int = COUNT, worst: int = COUNT) -> None:
        self.task, self._criterion = task, criterion
        self._most = first, worst
        self.first: list[Exhibit] = []
        self.worst: list[Exhibit] = []
        self.trouble = ""
        """Why a picture could not be made."""

    def add(self, places: Tensor, output: Any, batch: Batch) -> None:
        """Take those of a batch with these places (B,) that may be shown; never raises."""
        if self.trouble or not len(places):
            return
        try:
            self._add(places.tolist(), output, batch)
        except Exception as error:  # a view never hurts a run
            self.trouble = f"{type(error).__name__}: {error}"

    def _add(self, places: list[int], output: Any, batch: Batch) -> None:
        first, worst = self._most
        if len(self.first) >= first and not worst:
            return
        losses = self._losses(output, batch)
        if isinstance(output, Outcome):
            output = output.parts if output.outputs is None else output.outputs

        def shown(row: int) -> Exhibit:
            parts = (_row(nest, row, batch.samples) for nest in (batch.x, batch.y, output))
            return Exhibit(places[row], losses[row], *parts)

        self.first += [shown(row) for row in range(min(first - len(self.first), len(places)))]
        known = [row for row in range(len(places)) if math.isfinite(losses[row])] if worst else []
        known = sorted(known, key=lambda row: -losses[row])[:worst]
        least = self.worst[-1].loss if len(self.worst) == worst and worst else -math.inf
        self.worst = _highest([*self.worst, *(shown(row) for row in known if losses[row] > least)], worst)

    def _losses(self, output: Any, batch: Batch) -> list[float]:
        """The loss of each sample, NaN where it is not known."""
        unknown = [math.nan] * batch.samples
        try:
            pair = self._criterion.compared(output, batch.y) or (output, batch.y)
            losses = self._criterion.each(*pair).flatten().tolist()
        except (TypeError, AttributeError, RuntimeError, ValueError):  # what it compares is no tensor of one shape
            return unknown
        return losses if len(losses) == batch.samples else unknown

    def cards(self, exhibits: Iterable[Exhibit]) -> list[dict[str, Any]]:
        """Samples as JSON: place, loss and what is seen of each."""
        if self.trouble:
            return []
        try:
            return [self._card(one) for one in exhibits]
        except Exception as error:
            self.trouble = f"{type(error).__name__}: {error}"
            return []

    def _card(self, one: Exhibit) -> dict[str, Any]:
        loss = float(f"{one.loss:.5g}") if math.isfinite(one.loss) else None
        return {"sample": one.place, "loss": loss, "seen": plain(self.task.picture(one.x, one.y, one.output))}

    def save(self, folder: RunFolder, strategy: Single, split: str) -> None:
        """Write `predictions/SPLIT.json`: the first of all ranks, and the worst; every rank calls this."""
        mine = {"first": self.cards(self.first), "worst": self.cards(self.worst)}
        ranks = [json.loads(body) for body in _gathered(strategy, json.dumps(mine).encode())]
        if strategy.rank:
            return
        first = sorted((card for own in ranks for card in own["first"]), key=lambda card: card["sample"])
        worst = sorted((card for own in ranks for card in own["worst"]), key=lambda card: -card["loss"])
        place = folder.path / "predictions"
        place.mkdir(exist_ok=True)
        write_text(place / f"{split}.json", json.dumps({"first": first[:COUNT], "worst": worst[:COUNT]}))


def due(number: int) -> bool:
    """Whether an evaluation, counted from 0, is shown while a run goes on: the more there are, the fewer of them."""
    every = 1
    while number >= 2 * OFTEN * every:
        every *= 2
    return number % every == 0


def _highest(exhibits: list[Exhibit], count: int) -> list[Exhibit]:
    return sorted(exhibits, key=lambda one: (-one.loss, one.place))[:count]


def _row(nest: Any, row: int, samples: int) -> Any:
    """One sample of a nest of so many, as a batch of one; of several rows a sample, all of its own."""
    if isinstance(nest, dict):
        return {key: _row(value, row, samples) for key, value in nest.items()}
    if isinstance(nest, Tensor):
        if not nest.dim() or not len(nest) or len(nest) % samples:
            return nest.detach().cpu()
        each = len(nest) // samples
        return nest[row * each : (row + 1) * each].detach().cpu().clone()
    if isinstance(nest, list) and len(nest) == samples:
        return [_whole(nest[row])]
    if isinstance(nest, (list, tuple)):
        parts = [_row(value, row, samples) for value in nest]
        return type(nest)(*parts) if hasattr(nest, "_fields") else type(nest)(parts)
    if hasattr(nest, "items"):  # a Mapping, such as Hugging Face's outputs
        return {key: _row(value, row, samples) for key, value in nest.items()}
    return nest


def _whole(nest: Any) -> Any:
    """A sample's own nest on the CPU."""
    if isinstance(nest, Tensor):
        return nest.detach().cpu().clone()
    if isinstance(nest, dict):
        return {key: _whole(value) for key, value in nest.items()}
    return nest


def _gathered(strategy: Single, body: bytes) -> list[bytes]:
    """What each part of the ranks holds, in their order; all ranks call this."""
    sizes = torch.zeros(strategy.parts, dtype=torch.long, device=strategy.device)
    sizes[strategy.part] = len(body)
    ends = [0, *strategy.total(sizes).cumsum(0).tolist()]
    whole = torch.zeros(ends[-1], dtype=torch.long, device=strategy.device)
    start, end = ends[strategy.part], ends[strategy.part + 1]
    whole[start:end] = torch.tensor(list(body), dtype=torch.long, device=strategy.device)
    told = bytes(strategy.total(whole).tolist())
    return [told[start:end] for start, end in pairwise(ends)]
