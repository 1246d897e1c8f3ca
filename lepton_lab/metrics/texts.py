"""
How near texts are to those that were to be: by tokens, words, characters, and their runs.

Outputs and targets are texts (a list of str), or sequences of tokens: lists of whole numbers, or tensors (B, T) of
them; outputs also scores of tokens (B, T, K). A token that the loss ignores is left out on both sides.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..losses import ignored
from .base import Metric
from .classes import ratio
from .scores import of_classes

if TYPE_CHECKING:
    from torch import Tensor

    from ..batches import Batch

ORDERS = (1, 2, 3, 4)  # lengths of the runs of words that BLEU counts


class Texts(Metric):
    """What is summed of pairs of sequences."""

    kinds: tuple[str, ...] = ("tokens", "texts")
    telling: tuple[str, ...] = ()

    def update(self, output: Any, target: Any) -> Tensor | None:
        """Sums of what each pair counts."""
        import torch

        predicted, reference = self._sequences(output, target), self._sequences(target, target)
        if predicted is None or reference is None or len(predicted) != len(reference):
            return None
        pairs = [self.count(*self._cut(*pair)) for pair in zip(predicted, reference, strict=True)]
        counts = [self._counts(sequence) for sequence in reference]
        return torch.tensor(pairs, dtype=torch.float64)[counts].sum(0)

    def add(self, output: Any, batch: Batch) -> Tensor | None:
        """As `update`, of the sequences that outputs and targets stand for."""
        pair = self.criterion.decoded(output, batch.y)
        return None if pair is None else self.update(*pair)

    def _sequences(self, items: Any, target: Any) -> list[Any] | None:
        """Texts, or lists of tokens; None of anything else."""
        if hasattr(items, "dim"):
            answers = of_classes(items, target, self.criterion)
            items = items if answers is None else answers[0].argmax(-1)
            return None if items.is_floating_point() or items.dim() != 2 else items.tolist()
        if not isinstance(items, Sequence):
            return None
        return [item if isinstance(item, str) else [int(token) for token in item] for item in items]

    def _cut(self, predicted: Any, reference: Any) -> tuple[Any, Any]:
        """A pair of sequences as units, without what is ignored."""
        if isinstance(reference, str):
            return self.units(predicted), self.units(reference)
        left_out = ignored(self.criterion.loss)
        # The scores of every place, whose targets tell what counts.
        if left_out in reference and len(predicted) == len(reference):
            predicted = [token for token, true in zip(predicted, reference, strict=True) if true != left_out]
        return self.units([t for t in predicted if t != left_out]), self.units([t for t in reference if t != left_out])

    def _counts(self, reference: Any) -> bool:
        """Whether any of a sequence does: an answer past the tokens is neither right nor wrong."""
        return isinstance(reference, str) or not reference or {*reference} != {ignored(self.criterion.loss)}

    def units(self, sequence: Any) -> Sequence[Any]:
        """What is compared: words of a text, or tokens."""
        return sequence.split() if isinstance(sequence, str) else sequence

    def count(self, predicted: Sequence[Any], reference: Sequence[Any]) -> list[float]:
        """What is summed of a pair."""
        raise NotImplementedError

    def finish(self, sums: Tensor) -> float:
        """The first to the second."""
        return ratio(*sums.tolist())


class TokenAccuracy(Texts):
    """The fraction of tokens, or of words, that are the right ones at their places."""

    telling = ("tokens",)
    title = "Token accuracy"
    short = "tokens"
    axis = "token accuracy (fraction)"
    form = ".2%"
    highest = 1.0

    def count(self, predicted: Sequence[Any], reference: Sequence[Any]) -> list[float]:
        """Right ones, and all that were to be."""
        return [sum(a == b for a, b in zip(predicted, reference, strict=False)), len(reference)]


class ExactMatch(Texts):
    """The fraction of sequences that are right from beginning to end; of answers in a text, of both their ends."""

    kinds = ("tokens", "texts", "classes")
    title = "Exact match"
    short = "exact"
    axis = "exact matches (fraction)"
    form = ".2%"
    highest = 1.0
    free = True

    def count(self, predicted: Sequence[Any], reference: Sequence[Any]) -> list[float]:
        """Whether it is, and one."""
        return [predicted == reference, 1]


class WordErrorRate(Texts):
    """Words, or tokens, to put in, take out or change for each that was to be; it may be above 1."""

    telling: tuple[str, ...] = ("texts",)
    title = "Word error rate"
    short = "WER"
    axis = "edits for each word"
    form = ".2%"
    higher = False
    free = True

    def count(self, predicted: Sequence[Any], reference: Sequence[Any]) -> list[float]:
        """Edits, and words."""
        return [edits(predicted, reference), len(reference)]


class CharacterErrorRate(WordErrorRate):
    """The same by characters: of texts, or of tokens whose characters the data tell."""

    title = "Character error rate"
    short = "CER"
    axis = "edits for each character"
    telling = ()

    def units(self, sequence: Any) -> Sequence[Any]:
        """Characters."""
        if isinstance(sequence, str) or self.data.tokens != "characters":
            return sequence
        return "".join(self.data.classes[token] for token in sequence)


class Bleu(Texts):
    """
    Runs of one to four words that are in the right text too, over all texts, with a penalty for what is too short.

    Papineni and others, ACL 2002: of the corpus, words between spaces, not smoothed.
    """

    title = "BLEU"
    short = "bleu"
    axis = "BLEU (fraction)"
    form = ".2%"
    highest = 1.0
    free = True

    def count(self, predicted: Sequence[Any], reference: Sequence[Any]) -> list[float]:
        """Runs found and runs, of each length; words said, and words."""
        matches, runs = [], []
        for n in ORDERS:
            texts = (zip(*(text[i:] for i in range(n)), strict=False) for text in (predicted, reference))
            ours, theirs = map(Counter, texts)
            matches.append((ours & theirs).total())
            runs.append(ours.total())
        return [*matches, *runs, len(predicted), len(reference)]

    def finish(self, sums: Tensor) -> float:
        """The geometric mean of the fractions found, times the penalty."""
        *counts, predicted, reference = sums.tolist()
        fractions = [ratio(matches, runs) for matches, runs in zip(counts[:4], counts[4:], strict=True)]
        if not predicted or not all(fraction > 0 for fraction in fractions):
            return 0.0 if reference else math.nan
        short = min(0.0, 1 - reference / predicted)
        return math.exp(short + sum(map(math.log, fractions)) / len(ORDERS))


def edits(predicted: Sequence[Any], reference: Sequence[Any]) -> int:
    """The fewest to put in, take out or change to make one sequence of the other (Levenshtein 1966)."""
    before = list(range(len(reference) + 1))
    for i, ours in enumerate(predicted, 1):
        row = [i]
        for j, theirs in enumerate(reference):
            row.append(min(before[j] + (ours != theirs), before[j + 1] + 1, row[j] + 1))
        before = row
    return before[-1]
