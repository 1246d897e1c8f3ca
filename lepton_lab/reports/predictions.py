"""Samples of the test set beside what a model said of them, and those with the highest losses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..charts.samples import drawn, kept
from ..section import Section, escaped
from ..store.naming import labels

if TYPE_CHECKING:
    from ..run.handle import Run

MOST = 900_000  # characters of a page that samples take, over all runs
HEADS = {"first": "the first samples", "worst": "the highest losses"}


def predictions(runs: list[Run]) -> Section:
    """The first samples of each run's test set and the worst ones, in the task's own form; nothing is run again."""
    pieces, words = [], []
    each = MOST / max(1, len(runs)) / len(HEADS)
    for run, label in zip(runs, labels(runs), strict=True):
        for name, cards in kept(run).items():
            if cards:
                pieces.append(f"<h3>{escaped(label)}: {HEADS[name]}</h3>{drawn(cards, each)}")
                words.append(f"{label}, {HEADS[name]}: {', '.join(_said(card) for card in cards)}")
    if not pieces:
        why = "No run has kept samples: that happens after its first evaluations, and when it is done."
        return Section(f'<p class="nothing">{why}</p>', why)
    return Section("".join(pieces), "\n".join(words))


def _said(card: object) -> str:
    """A sample and its loss in words."""
    if not isinstance(card, dict):
        return "–"
    loss = card.get("loss")
    return f"{card.get('sample')}" + ("" if loss is None else f" (loss {loss})")
