"""Texts made alike, with fewer words, or in other words: once, where data are loaded."""

from __future__ import annotations

import dataclasses
import random
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from . import wordnet
from .base import once
from .texts import labelled, letters, read, written

if TYPE_CHECKING:
    from ..datasets import Data

# Articles, pronouns, prepositions, conjunctions and auxiliaries: words that say little by themselves.
LITTLE = """
    a about above after again against all am an and any are as at be because been before being below between both but
    by can could did do does doing down during each few for from further had has have having he her here hers herself
    him himself his how i if in into is it its itself just me more most my myself no nor not now of off on once only
    or other our ours ourselves out over own same she should so some such than that the their theirs them themselves
    then there these they this those through to too under until up very was we were what when where which while who
    whom why will with would you your yours yourself yourselves
"""
STOP_WORDS = frozenset(LITTLE.split())
KEPT = frozenset(["no", "nor", "not"])  # which turn what is said around
WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")


@once("tokens")
def normalise(
    data: Data,
    seed: int,
    *,
    case: Literal["lower", "keep"] = "lower",
    accents: Literal["keep", "remove"] = "keep",
    space: Literal["one", "keep"] = "one",
) -> Data:
    """
    Texts made alike: Unicode's form NFKC, case, accents, and what is between words; tokens stay what they are.

    A character that the data set does not have then is left out. Samples keep their length: they are filled up again.
    A file of the model does the same to a text that it is given.

    Parameters
    ----------
    case
        "lower": without capitals; "keep": as it is.
    accents
        "remove": letters without marks, such as e of an accented e; "keep": as they are.
    space
        "one": any run of blanks, tabs and line ends is one blank, and none is at an end; "keep": as it is.

    Raises
    ------
    SpecError
        If tokens are no bytes, characters or words.
    """
    return _reworded(data, "normalise", case=case, accents=accents, space=space)


def _normal(text: str, case: str, accents: str, space: str) -> str:
    text = unicodedata.normalize("NFKC", text)
    if accents == "remove":
        marked = unicodedata.normalize("NFD", text)
        text = unicodedata.normalize("NFC", "".join(letter for letter in marked if not unicodedata.combining(letter)))
    text = text.lower() if case == "lower" else text
    return " ".join(text.split()) if space == "one" else text


@once("tokens")
def stop_words(data: Data, seed: int, *, negations: bool = True) -> Data:
    """
    Texts without English words that say little by themselves, such as "the", "of" and "is".

    A file of the model does the same to a text that it is given.

    Parameters
    ----------
    negations
        Whether "no", "nor" and "not" stay.

    Raises
    ------
    SpecError
        If tokens are no bytes, characters or words.
    """
    return _reworded(data, "stop_words", negations=negations)


def _fewer(text: str, negations: bool) -> str:
    dropped = STOP_WORDS - KEPT if negations else STOP_WORDS
    return re.sub(r" {2,}", " ", WORD.sub(lambda word: "" if word[0].lower() in dropped else word[0], text)).strip()


CHANGES: dict[str, Callable[..., str]] = {"normalise": _normal, "stop_words": _fewer}
"""What transforms do to a text, by their names."""


def reworded(text: str, steps: Sequence[Mapping[str, Mapping[str, Any]]]) -> str:
    """A text after transforms, as `Data.reworded` tells of them."""
    for step in steps:
        for name, options in step.items():
            text = CHANGES[name](text, **options)
    return text


@once("tokens", refuse=labelled, copies=lambda **_: True)
def synonyms(
    data: Data,
    seed: int,
    *,
    chance: Annotated[float, Field(gt=0, le=1)] = 0.1,
    copies: Annotated[int, Field(ge=1, le=16)] = 1,
) -> Data:
    """
    Further training texts, in which some words stand in for others that WordNet has as synonyms.

    Texts are copied, with their labels, beside those that there are; validation and test texts stay as they are. Which
    words, and by what, is drawn from the seed and the text's place. Source: J. Wei and K. Zou, EDA, 2019, section 2.

    Parameters
    ----------
    chance
        Of a word that has a synonym, that it is replaced, above 0 and at most 1.
    copies
        Of each training text, from 1 to 16.

    Raises
    ------
    SpecError
        If WordNet is not installed, or tokens are no bytes, characters or words.
    """
    import torch

    known, texts = wordnet.synonyms(), read(data, "synonyms")
    made = [
        _replaced(text, known, chance, random.Random(f"{seed} {copy} {place}"))
        for copy in range(copies)
        for place, text in enumerate(texts["train"])
    ]
    more: Any = written(data, {"train": texts["train"] + made} | _rest(texts), letters(data), *_form(data))
    x, y = more.train
    about = {name: [*values] * (1 + copies) for name, values in data.about.get("train", {}).items()}
    return dataclasses.replace(
        more, train=(x, torch.cat([y] * (1 + copies))), about={**data.about, **({"train": about} if about else {})}
    )


def _replaced(text: str, known: dict[str, tuple[str, ...]], chance: float, draw: random.Random) -> str:
    def other(word: re.Match[str]) -> str:
        others = known.get(word[0].lower(), ())
        return draw.choice(others) if others and draw.random() < chance else word[0]

    return WORD.sub(other, text)


def _rest(texts: dict[str, list[str]]) -> dict[str, list[str]]:
    return {part: rows for part, rows in texts.items() if part != "train"}


def _reworded(data: Data, name: str, **options: Any) -> Data:
    """Data of the same tokens after a change of each text."""
    step = {name: options}
    texts = {part: [reworded(text, [step]) for text in rows] for part, rows in read(data, name).items()}
    return written(data, texts, letters(data), *_form(data), reworded=(*data.reworded, step))


def _form(data: Data) -> tuple[int, Any]:
    """How long samples are, and of what type."""
    train: Any = data.train
    return data.shape[0], train[0].dtype
