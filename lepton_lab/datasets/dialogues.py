"""chatterbot-corpus: questions of 21 topics, with an answer each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field

from .base import Data, holds, shuffled
from .files import damaged, fetch
from .wording import Texts, Unit, labelled, split, taken

TOPICS, LEAST = 16, 10
LENGTH, WORDS = 16, 2000


class Exchange(NamedTuple):
    """A question, its answer, and what they are about."""

    topic: str
    question: str
    answer: str


@holds((LENGTH,), TOPICS, WORDS + 2, samples=721)
def chatterbot(
    root: Path,
    seed: int,
    *,
    distinct: bool = True,
    length: Annotated[int, Field(ge=1, le=512)] = LENGTH,
    tokens: Unit = "words",
    words: Annotated[int, Field(ge=1, le=100_000)] = WORDS,
) -> Data:
    """
    Questions to a chatbot, of 16 topics that have at least ten (chatterbot-corpus, English).

    Source: G. Cox and contributors, chatterbot-corpus 1.3.3. Looked for in `root/chatterbot/english`, else read from
    the package's archive. Of its 2,025 questions 747 are distinct: ten of technical support come 105 times each, so
    that a random split of all of them tests on what it trained on. `exchanges` gives the answers too.

    Data: x int64 (N, length) tokens of a question, 0 where it is over; y int64 (N,), its topic.

    Parameters
    ----------
    root, seed
        As of every data set; a tenth each is held out for validation and for testing.
    distinct
        Whether a question that comes again is left out.
    length
        Tokens of a question, from 1 to 512: longer ones are cut, shorter ones filled up.
    tokens
        "words": the most frequent of the training texts; "bytes": those of UTF-8.
    words
        How many words are told apart.

    Raises
    ------
    SpecError
        If a file is damaged, or missing and can't be had.
    """
    return labelled(texts(root, seed, distinct=distinct), length=length, unit=tokens, words=words)


def texts(root: Path, seed: int, *, distinct: bool = True) -> Texts:
    """The questions themselves, split as `chatterbot`."""
    found = exchanges(root)
    kept = {alike(one.question): one for one in reversed(found)}  # the first of those that are alike
    topics = [one.topic for one in kept.values()]
    classes = [topic for topic in dict.fromkeys(one.topic for one in found) if topics.count(topic) >= LEAST]
    found = [one for one in found if one.topic in classes and (not distinct or kept[alike(one.question)] is one)]
    questions, labels = [one.question for one in found], [classes.index(one.topic) for one in found]
    train, val, test = (taken(questions, labels, places) for places in shuffled(len(found), seed, 0.1, 0.1))
    return Texts(train, val, test, classes)


def alike(question: str) -> str:
    """What questions have in common that are the same but for marks and capitals."""
    return " ".join(word for word in split(question) if word[0].isalnum())


def exchanges(root: Path) -> list[Exchange]:
    """Every question with its first answer, by topic in alphabetical order; 2,025 in all, 747 distinct questions."""
    folder = fetch("chatterbot", root)["english"]
    glance(folder)
    return [one for path in sorted(folder.glob("*.yml")) for one in read(path)]


def read(path: Path) -> list[Exchange]:
    """The exchanges of one topic; a SpecError of a file that is none of the corpus."""
    import yaml

    try:
        talks = yaml.load(path.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))["conversations"]
        whole = [talk for talk in talks if isinstance(talk, list) and len(talk) > 1]  # one is torn
        return [Exchange(path.stem, str(question), str(answer)) for question, answer, *_ in whole]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise damaged(path, " ".join(str(error).split())[:200]) from None


def glance(path: Path) -> None:
    """Refuse what is no folder of topics."""
    if not any(path.glob("*.yml")):
        raise damaged(path, "it is no folder of topics (*.yml)")
