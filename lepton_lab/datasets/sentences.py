"""
Pairs of sentences that are made: English of a small grammar, and Spanish, which agrees in gender and number.

Legend of the shape comments: N pairs, S words of a source, T of a target with its end.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from ..losses import IGNORED
from .base import Data, holds, shuffled

if TYPE_CHECKING:
    from torch import Tensor

PAD, START, END = 0, 1, 2  # as task='sequence_to_sequence' has them unless told otherwise
NOUNS = {  # English, Spanish, whether feminine; plurals end in s in both
    "cat": ("gato", False),
    "dog": ("perro", False),
    "horse": ("caballo", False),
    "book": ("libro", False),
    "boy": ("chico", False),
    "brother": ("hermano", False),
    "car": ("coche", False),
    "cow": ("vaca", True),
    "house": ("casa", True),
    "table": ("mesa", True),
    "girl": ("chica", True),
    "sister": ("hermana", True),
    "letter": ("carta", True),
    "chair": ("silla", True),
}
ADJECTIVES = {  # masculine; feminine ends in a where this ends in o
    "red": "rojo",
    "white": "blanco",
    "black": "negro",
    "small": "pequeño",
    "new": "nuevo",
    "old": "viejo",
    "green": "verde",
    "big": "grande",
}
VERBS = {"see": ("ve", "ven"), "want": ("quiere", "quieren"), "find": ("encuentra", "encuentran")}
VERBS |= {"paint": ("pinta", "pintan"), "leave": ("deja", "dejan"), "need": ("necesita", "necesitan")}
ARTICLES = {"the": ("el", "la", "los", "las"), "a": ("un", "una", "unos", "unas")}
LONGEST = 7  # words of a sentence


def _words() -> list[str]:
    """Names of all tokens: the three that are no words, then those of both languages."""
    english = [*NOUNS, *(f"{noun}s" for noun in NOUNS), *ADJECTIVES, *VERBS, *(f"{verb}s" for verb in VERBS)]
    spanish = [word + end for word, _ in NOUNS.values() for end in ("", "s")]
    spanish += [_agreed(word, *form) for word in ADJECTIVES.values() for form in _FORMS]
    spanish += [form for forms in (*VERBS.values(), *ARTICLES.values()) for form in forms]
    return ["<pad>", "<start>", "<end>", *dict.fromkeys(["the", "a", "some", *english, *spanish])]


def _agreed(adjective: str, feminine: bool, plural: bool) -> str:
    """An adjective as a noun has it."""
    return (f"{adjective[:-1]}a" if feminine and adjective.endswith("o") else adjective) + "s" * plural


_FORMS = [(feminine, plural) for feminine in (False, True) for plural in (False, True)]
WORDS = _words()


@holds((LONGEST,), len(WORDS), len(WORDS), tasks=("sequence_to_sequence",), made=True)
def sentences(root: Path, seed: int, *, samples: Annotated[int, Field(ge=10, le=100_000)] = 3000) -> Data:
    """
    Made: English sentences of a small grammar and their Spanish, such as "the red cows see a house" (translation).

    Adjectives come after the noun in Spanish, and articles and adjectives agree with it in gender and number: "las
    vacas rojas ven una casa". No sentence comes twice: 80 % is for training, 10 % for validation, 10 % for testing.

    Data: x int64 (N, 7) words, 0 where the source is over; y int64 (N, T) words, their end (2), and -100 after it.
    Words of both languages are numbered together; 1 is the start.

    Parameters
    ----------
    root, seed
        As of every data set; nothing is read.
    samples
        Pairs in all, from 10 to 100,000.
    """
    draw = random.Random(seed)
    pairs: dict[tuple[str, ...], list[str]] = {}
    while len(pairs) < samples:
        english, spanish = _sentence(draw)
        pairs[tuple(english)] = spanish
    x = _numbered(pairs, PAD)
    y = _numbered(([*words, WORDS[END]] for words in pairs.values()), IGNORED)
    train, val, test = ((x[part], y[part]) for part in shuffled(samples, seed, 0.1, 0.1))
    return Data(train, val, test, shape=(x.shape[1],), classes=WORDS, vocabulary=len(WORDS))


def _sentence(draw: random.Random) -> tuple[list[str], list[str]]:
    """A sentence in both languages: who, does what, to whom."""
    who, whom = _phrase(draw), _phrase(draw)
    verb, plural = draw.choice([*VERBS]), who[2]
    doing = verb if plural else f"{verb}s"
    return [*who[0], doing, *whom[0]], [*who[1], VERBS[verb][plural], *whom[1]]


def _phrase(draw: random.Random) -> tuple[list[str], list[str], bool]:
    """A noun with its article and, as often as not, an adjective, in both languages; and whether it is several."""
    noun, plural, article = draw.choice([*NOUNS]), draw.random() < 0.5, draw.choice([*ARTICLES])
    spanish, feminine = NOUNS[noun]
    before = "some" if plural and article == "a" else article
    english, other = [before, noun + "s" * plural], [ARTICLES[article][feminine + 2 * plural], spanish + "s" * plural]
    if draw.random() < 0.5:
        adjective = draw.choice([*ADJECTIVES])
        english.insert(1, adjective)
        other.append(_agreed(ADJECTIVES[adjective], feminine, plural))
    return english, other, plural


def _numbered(rows: Iterator[list[str]] | dict[tuple[str, ...], list[str]], filler: int) -> Tensor:
    """Sentences as numbers of WORDS, filled up to the longest: (N, words)."""
    import torch

    numbers = {word: number for number, word in enumerate(WORDS)}
    found = [torch.tensor([numbers[word] for word in words]) for words in rows]
    return torch.nn.utils.rnn.pad_sequence(found, batch_first=True, padding_value=filler)
