"""SST-2: phrases of film reviews, and whether they speak well of the film."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field

from .base import HELD_OUT, Data, holds
from .files import beginning, damaged, fetch
from .grouping import dealt, groups
from .wording import Texts, Unit, labelled, taken

CLASSES = ["negative", "positive"]
HEAD = "sentence\tlabel"
RUN = 4  # words in a row that phrases of one sentence have in common
LENGTH, WORDS = 32, 8000


@holds((LENGTH,), len(CLASSES), WORDS + 2, samples=68_221)
def sst2(
    root: Path,
    seed: int,
    *,
    length: Annotated[int, Field(ge=1, le=512)] = LENGTH,
    tokens: Unit = "words",
    words: Annotated[int, Field(ge=1, le=100_000)] = WORDS,
) -> Data:
    """
    Phrases of film reviews that are for or against the film, and 872 whole sentences to test on (SST-2).

    Source: R. Socher et al., Recursive Deep Models for Semantic Compositionality Over a Sentiment Treebank, 2013, as
    GLUE has it. Looked for in `root/sst2` (`train.tsv`, `test.tsv`), else downloaded; the test part is GLUE's
    development set, whose labels are published. Phrases are parts of one another, so a tenth drawn at random tells
    nothing: the validation part shares no four words in a row with training.

    Data: x int64 (N, length) tokens, 0 where a text is over; y int64 (N,), 0 against, 1 for.

    Parameters
    ----------
    root, seed
        As of every data set; the seed deals out what is held out.
    length
        Tokens of a text, from 1 to 512: longer ones are cut, shorter ones filled up. Sentences have 20 words, up to 52.
    tokens
        "words": the most frequent of the training texts; "bytes": those of UTF-8.
    words
        How many words are told apart.

    Raises
    ------
    SpecError
        If a file is damaged, or missing and can't be had.
    """
    return labelled(texts(root, seed), length=length, unit=tokens, words=words)


def texts(root: Path, seed: int) -> Texts:
    """Phrases and sentences themselves, split as `sst2`."""
    paths = fetch("sst2", root)
    (phrases, labels), test = read(paths["train.tsv"]), read(paths["test.tsv"])
    train, val = dealt(groups(map(runs, phrases)), seed, HELD_OUT)
    return Texts(taken(phrases, labels, train), taken(phrases, labels, val), test, CLASSES)


def runs(text: str) -> Iterator[tuple[str, ...]]:
    """Every four words in a row, by which phrases of one sentence are known; of a shorter text, all of it."""
    words = text.split()
    for begin in range(max(1, len(words) - RUN + 1)):
        yield tuple(words[begin : begin + RUN])


def read(path: Path) -> tuple[list[str], list[int]]:
    """Texts and labels of a published file; a SpecError of any other."""
    glance(path)
    phrases, labels = [], []
    try:
        for number, line in enumerate(path.read_text("utf-8").splitlines()[1:], 2):
            text, _, label = line.rpartition("\t")
            if label not in ("0", "1"):
                raise ValueError(f"its line {number} ends with {label[:20]!r}, and not with a label 0 or 1")
            phrases.append(text.strip())
            labels.append(int(label))
    except (OSError, ValueError) as error:
        raise damaged(path, str(error)) from None
    if not phrases:
        raise damaged(path, "it holds no sentence")
    return phrases, labels


def glance(path: Path) -> None:
    """Refuse a file by its first line."""
    line = beginning(path, 1000).partition(b"\n")[0]
    if line.decode(errors="replace").strip() != HEAD:
        raise damaged(path, f"it begins with {line[:40]!r}, and not with {HEAD!r}")
