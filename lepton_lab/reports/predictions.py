"""Samples beside what a model said of them, and the worst of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..charts.cards import drawn
from ..charts.samples import figure, kept
from ..section import Section, escaped
from ..store.naming import labels

if TYPE_CHECKING:
    from ..run.handle import Run

MOST = 900_000  # characters of a page that samples take, over all runs
GROUPS = 2  # of each run: the first and the worst


def predictions(runs: list[Run]) -> Section:
    """
    The first samples of each run's test set and the worst ones, in the task's own form; nothing is run again.

    Of a run without a test set, those of the validation set.
    """
    pieces, words = [], []
    each = MOST / max(1, len(runs)) / GROUPS
    for run, label in zip(runs, labels(runs), strict=True):
        samples = kept(run)
        for head, cards in samples.groups():
            pieces.append(f"<h3>{escaped(label)}: {head}</h3>{drawn(cards, each)}")
            words.append(f"{label}, {head}: {', '.join(_said(card) for card in cards)}")
        if samples.trouble:
            words.append(f"{label}: {samples.trouble}.")
            pieces.append(f'<p class="nothing">{escaped(words[-1])}</p>')
    if not pieces:
        why = "No run has kept samples: that happens after its first evaluations, and when it is done."
        return Section(f'<p class="nothing">{why}</p>', why)
    return Section("".join(pieces), "\n".join(words))


def _said(card: object) -> str:
    """A sample, and how bad it is, in words."""
    try:
        figures = figure(card)  # type: ignore[arg-type]  # or whatever its file holds
        return f"{card['sample']}" + (f" ({' '.join(figures)})" if figures else "")  # type: ignore[index]
    except (AttributeError, KeyError, TypeError, ValueError):
        return "–"
