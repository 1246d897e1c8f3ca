"""WordNet's definitions, as texts that answer what kind of thing a word means."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field

from ..errors import SpecError
from .base import HELD_OUT, Data, holds, shuffled
from .files import damaged, fetch
from .wording import SOURCE, numbered, split, vocabulary

BETWEEN = "<sep>"
"""Stands between the question's word and the definition."""
SPECIAL = (*SOURCE, BETWEEN)
LENGTH, WORDS = 24, 8000
KINDS = re.compile(r" @i? (\d{8}) n ")  # pointers to what a noun is a kind, or an instance, of: see wninput(5WN)


class Gloss(NamedTuple):
    """A question, the text with its answer, and where that stands in it."""

    word: str
    """Of which is asked what kind of thing it is."""
    text: list[str]
    """Its definition up to the first semicolon, as words and marks in small letters."""
    first: int
    last: int
    """Places of the answer's first and last word."""


@holds((LENGTH,), LENGTH, WORDS + len(SPECIAL), tasks=("question_answering",), samples=46_860)
def glosses(
    root: Path,
    seed: int,
    *,
    length: Annotated[int, Field(ge=8, le=256)] = LENGTH,
    words: Annotated[int, Field(ge=1, le=100_000)] = WORDS,
) -> Data:
    """
    What kind of thing is a noun? WordNet's definitions, in which the answer stands (question answering).

    Source: G. Miller, WordNet: A Lexical Database for English, 1995; its file `data.noun`. Looked for in
    `root/wordnet`, else read from a package's archive. The answer is the span that names what the noun is a kind of
    (its hypernym), so nobody had to mark it; where two do, the longer and then the first one is taken, which may not
    be the best. Definitions that don't name it are left out. `questions` gives the texts.

    Data: x int64 (N, length) the noun, "<sep>" and the definition, 0 after it; y int64 (N, 2), places of the answer's
    first and last word in x.

    Parameters
    ----------
    root, seed
        As of every data set; a tenth each is held out for validation and for testing, so that stock phrases ("a genus
        of") stand on all sides.
    length
        Words of noun and definition, from 8 to 256; longer ones are left out.
    words
        How many words are told apart: the most frequent of training.

    Raises
    ------
    SpecError
        If the file is damaged, or missing and can't be had, or no definition is so short.
    """
    return marked(questions(root), seed, length, words)


def questions(root: Path) -> list[Gloss]:
    """The nouns, their definitions, and where the answers stand in these."""
    return read(fetch("glosses", root)["data.noun"])


def marked(found: Sequence[Gloss], seed: int = 0, length: int = LENGTH, words: int = WORDS) -> Data:
    """Data of texts with the places of answers in them, as `glosses` has them."""
    import torch

    asked = [[*split(gloss.word), BETWEEN] for gloss in found]
    short = [i for i, gloss in enumerate(found) if len(asked[i]) + len(gloss.text) <= length]
    if len(short) < 10:
        raise SpecError(f"options={{'length': {length}}}: {len(short)} definitions are so short; take a greater one")
    texts = [asked[i] + found[i].text for i in short]
    parts = shuffled(len(texts), seed, HELD_OUT, HELD_OUT)
    names = [*SPECIAL, *vocabulary((_plain(texts[i]) for i in parts[0].tolist()), words)]
    x = numbered(texts, names, length)
    y = torch.tensor([[len(asked[i]) + place for place in found[i][2:]] for i in short])
    train, val, test = ((x[part], y[part]) for part in parts)
    return Data(train, val, test, (length,), [*map(str, range(length))], vocabulary=len(names), pieces=names)


def _plain(text: Iterable[str]) -> list[str]:
    return [word for word in text if word != BETWEEN]


def read(path: Path) -> list[Gloss]:
    """
    Every noun whose definition names what it is a kind of, in the file's order; a SpecError of a damaged file.

    Source of the format: WordNet's manual, wndb(5WN).
    """
    glance(path)
    lemmas, pointers, texts = {}, {}, {}
    try:
        for line in path.read_text("utf-8").splitlines():
            if line[:1] == " ":  # of its licence
                continue
            fields, text = line.split(" | ", 1)
            place, _, _, count, *rest = fields.split(" ")
            lemmas[place] = [lemma.replace("_", " ") for lemma in rest[: 2 * int(count, 16) : 2]]
            pointers[place], texts[place] = KINDS.findall(fields), text
        found = []
        for place, text in texts.items():
            gloss = split(text.split(";")[0])
            kinds = [lemma for kind in pointers[place] for lemma in lemmas[kind]]
            if (span := _span(gloss, kinds)) is not None:
                found.append(Gloss(lemmas[place][0], gloss, *span))
    except (OSError, ValueError, KeyError) as error:
        raise damaged(path, " ".join(str(error).split())[:200]) from None
    return found


def _span(text: Sequence[str], kinds: Iterable[str]) -> tuple[int, int] | None:
    """Where the first of the longest of some names stands in a text, in the plural too; None where none does."""
    for name in sorted({tuple(split(kind)) for kind in kinds}, key=lambda name: (-len(name), name)):
        several = {name[-1] + ending for ending in ("", "s", "es")}
        for first in range(len(text) - len(name) + 1):
            last = first + len(name) - 1
            if tuple(text[first:last]) == name[:-1] and text[last] in several:
                return first, last
    return None


def glance(path: Path) -> None:
    """Refuse what is no file of nouns."""
    try:
        with path.open(encoding="utf-8") as file:
            head = file.read(100_000)
    except (OSError, UnicodeDecodeError) as error:
        raise damaged(path, str(error)) from None
    line = next((line for line in head.splitlines() if line[:1] != " "), "")
    if not re.match(r"\d{8} \d\d n ", line):
        raise damaged(path, "it is no data.noun of WordNet")
