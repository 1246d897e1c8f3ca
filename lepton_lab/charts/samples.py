"""Samples as a model answered them, as a run keeps them: the first of a split and the worst, each as a card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..metrics import METRICS, MINIMISED, SPLITS
from ..store.inspection import place
from ..store.media import SAMPLES
from .series import number, read

if TYPE_CHECKING:
    from ..run.handle import Run

Card = Mapping[str, Any]
"""A sample: its number, its loss or figure, and what is seen of it, as `lepton_lab.pictures` has it."""
SHOWN_SPLITS = ("test", "val")
FIRST = "the first samples"


class Kept(NamedTuple):
    """Samples that a run has kept of a split, and why they can't be had."""

    split: str
    first: list[Card]
    worst: list[Card]
    trouble: str = ""

    def groups(self) -> list[tuple[str, list[Card]]]:
        """Those that there are, with what they are called."""
        head = f"{SPLITS.get(self.split, self.split)} set, "
        groups = ((FIRST, self.first), (_worst(self.worst), self.worst))
        return [(head + words, cards) for words, cards in groups if cards]


def kept(run: Run) -> Kept:
    """
    The first samples and the worst of a run's last evaluation, of the validation set where there is no test set.

    Of a run that goes on, the first of the latest.
    """
    for split in SHOWN_SPLITS:
        if cards := of_split(run.folder, split):
            return cards
    rows = [row for row in read(run).own.media if row["media"] == SAMPLES]
    return Kept(rows[-1]["split"], of_file(place(run.folder, rows[-1])), []) if rows else Kept("", [], [])


def of_split(folder: Path, split: str) -> Kept | None:
    """Those of a split, which a run that is done has kept in its folder; None where there are none."""
    path = folder / "predictions" / f"{split}.json"
    try:
        cards = json.loads(path.read_text())
        return Kept(split, [*cards["first"]], [*cards["worst"]])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return Kept(split, [], [], f"its samples can't be drawn: the file {path} is damaged")


def of_file(path: Path) -> list[Card]:
    """The samples of an evaluation while a run went on; none where the file is gone."""
    try:
        cards = json.loads(path.read_text())
    except (OSError, ValueError):
        return []
    return cards if isinstance(cards, list) else []


def figure(card: Card) -> tuple[str, str] | None:
    """What tells how bad a sample is, and how much of it: its loss, or a metric's figure of it alone."""
    if (loss := card.get("loss")) is not None:
        return MINIMISED, number(float(loss))
    figures = [(name, value) for name, value in card.get("figure", {}).items() if value is not None]
    return (METRICS[figures[0][0]].short, METRICS[figures[0][0]].text(float(figures[0][1]))) if figures else None


def _worst(cards: list[Card]) -> str:
    """What the worst samples are called, by what tells that they are."""
    try:
        (name,) = cards[0]["figure"]
        return f"the lowest {METRICS[name].title}"
    except (IndexError, KeyError, TypeError, ValueError):
        return "the highest losses"
