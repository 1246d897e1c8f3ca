"""The samples of an evaluation that are shown: its first, and the worst, by the loss or a metric of each."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..batches import Batch
from ..files import write_text
from ..pictures import plain
from ..store.folder import RunFolder
from ..store.media import SAMPLES
from ..store.recorder import Recorder
from ..strategies.base import Single
from ..tasks import Task
from ..tasks.routine import Outcome

COUNT = 10  # samples that are shown of each kind
PREDICTIONS = "predictions"  # the name of the media that show them
GLIMPSE = 6  # samples that are shown of an evaluation while a run goes on
OFTEN = 32  # evaluations that are shown each time that their number has doubled; of twice as many, all


class Exhibit(NamedTuple):
    """One sample: its place, how bad it is, and what is seen of it as JSON; None where that could not be made."""

    place: int
    bad: float
    card: dict[str, Any] | None


class Judged(NamedTuple):
    """What tells how bad each sample of a batch is: its loss, or a metric's figure of it alone."""

    figures: list[float]
    """NaN where it is not known."""
    metric: str = ""
    """Its name; "" of losses."""
    higher: bool = False
    """Whether more is better."""

    def bad(self, row: int) -> float:
        """The worse, the more."""
        return -self.figures[row] if self.higher else self.figures[row]

    def told(self, row: int) -> dict[str, Any]:
        """The same on a sample's card."""
        figure = float(f"{self.figures[row]:.5g}") if math.isfinite(self.figures[row]) else None
        return {"loss": None, "figure": {self.metric: figure}} if self.metric else {"loss": figure}


class Gallery:
    """
    Cards of the samples of one rank that may be shown: bounded in number, and each in size.

    Legend of the shape comments: B samples of a batch.

    Parameters
    ----------
    first, worst
        How many samples are kept of the beginning of the split, and of the worst.
    """

    def __init__(self, task: Task, first: int = COUNT, worst: int = COUNT) -> None:
        self.task = task
        self._most = first, worst
        self.first: list[Exhibit] = []
        self.worst: list[Exhibit] = []
        self.trouble = ""
        """Why a card could not be made, of the first such."""

    @property
    def ranks(self) -> bool:
        """Whether the worst are kept."""
        return self._most[1] > 0

    def add(self, places: Tensor, output: Any, batch: Batch, judged: Judged | None) -> None:
        """Take those of a batch with these places (B,) that may be shown; the worst where something judges them."""
        first, worst = self._most
        judged = judged or Judged([math.nan] * batch.samples)
        bad = [judged.bad(row) for row in range(len(places))]
        least = self.worst[-1].bad if len(self.worst) == worst and worst else -math.inf
        begin = range(min(first - len(self.first), len(places)))
        known = [row for row, how in enumerate(bad) if math.isfinite(how) and how > least]
        known = sorted(known, key=lambda row: -bad[row])[:worst]
        made = {row: self._exhibit(int(places[row]), judged, row, output, batch) for row in {*begin, *known}}
        self.first += [made[row] for row in begin]
        self.worst = _highest([*self.worst, *(made[row] for row in known)], worst)

    def _exhibit(self, place: int, judged: Judged, row: int, output: Any, batch: Batch) -> Exhibit:
        """A sample with its card, whatever a task's picture raises: a view never hurts a run."""
        if isinstance(output, Outcome):
            output = output.parts if output.outputs is None else output.outputs
        try:
            x, y, said = (_row(nest, row, batch.samples) for nest in (batch.x, batch.y, output))
            seen = json.loads(json.dumps(plain(self.task.picture(x, y, said))))
        except Exception as error:
            self.trouble = self.trouble or f"{type(error).__name__}: {error}"
            return Exhibit(place, judged.bad(row), None)
        return Exhibit(place, judged.bad(row), {"sample": place, **judged.told(row), "seen": seen})

    @property
    def missing(self) -> str:
        """How many of the samples could not be made cards of."""
        whole = {one.place: one.card is None for one in [*self.first, *self.worst]}
        return f"{sum(whole.values())} of {len(whole)}"

    def cards(self, exhibits: Iterable[Exhibit]) -> list[dict[str, Any]]:
        """Samples as JSON: place, loss or figure, and what is seen of each."""
        return [one.card for one in exhibits if one.card is not None]

    def glimpse(self, own: Recorder, step: int, split: str) -> None:
        """Put the first samples, as they were answered, beside what a user's code logs."""
        if cards := self.cards(self.first[:GLIMPSE]):
            own.place = step, split
            own.medium(SAMPLES, PREDICTIONS, np.frombuffer(json.dumps(cards).encode(), np.uint8))
            own.place = step, "train"

    def save(self, folder: RunFolder, strategy: Single, split: str) -> None:
        """Write `predictions/SPLIT.json`: the first of all ranks, and the worst; every rank calls this."""
        worst = [[one.bad, one.card] for one in self.worst if one.card is not None]
        mine = {"first": self.cards(self.first), "worst": worst}
        ranks = [json.loads(body) for body in _gathered(strategy, json.dumps(mine).encode())]
        if strategy.rank:
            return
        first = sorted((card for own in ranks for card in own["first"]), key=lambda card: card["sample"])
        worst = sorted((pair for own in ranks for pair in own["worst"]), key=lambda pair: -pair[0])[:COUNT]
        place = folder.path / "predictions"
        place.mkdir(exist_ok=True)
        kept = {"first": first[:COUNT], "worst": [card for _, card in worst]}
        write_text(place / f"{split}.json", json.dumps(kept))


def due(number: int) -> bool:
    """Whether an evaluation, counted from 0, is shown while a run goes on: the more there are, the fewer of them."""
    every = 1
    while number >= 2 * OFTEN * every:
        every *= 2
    return number % every == 0


def _highest(exhibits: list[Exhibit], count: int) -> list[Exhibit]:
    return sorted(exhibits, key=lambda one: (-one.bad, one.place))[:count]


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
