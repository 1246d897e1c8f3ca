"""
Verses of the Bible in English and Spanish, verse for verse.

Legend of the shape comments: N verses, S and T words.
"""

from __future__ import annotations

import html
import re
import struct
import zlib
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ..errors import SpecError
from .base import Data, holds, shuffled
from .files import damaged, fetch
from .wording import SOURCE, TARGET, split, translated, vocabulary

TESTAMENTS = ("ot", "nt")
LENGTH, WORDS = 16, 4000
MARKUP = re.compile(r"<(note|title)\b[^>]*>.*?</\1>|<[^>]*>|¶", re.DOTALL)


@holds((LENGTH,), len(TARGET) + WORDS, len(SOURCE) + WORDS, tasks=("sequence_to_sequence",), samples=31_093)
def verses(
    root: Path,
    seed: int,
    *,
    length: Annotated[int, Field(ge=1, le=128)] = LENGTH,
    words: Annotated[int, Field(ge=1, le=100_000)] = WORDS,
) -> Data:
    """
    Verses of the Bible, English (King James) and Spanish (Reina-Valera 1909), verse for verse (translation).

    Source: Crosswire's modules engKJV2006eb and spaRV1909eb, as Debian ships them. Looked for in `root/verses`, else
    read from the archives of `sword-text-kjv` and `sword-text-sparv`, which `apt-get download` brings without root's
    rights. Of 31,093 pairs those are taken whose sides both have at most `length` words and marks. `pairs` gives the
    texts.

    Data: x int64 (N, length) English words, 0 where a verse is over; y int64 (N, T) Spanish words, their end (2), and
    -100 after it. Each language's words are numbered by themselves; an unknown one is 1 in English, 3 in
    Spanish.

    Parameters
    ----------
    root, seed
        As of every data set; a tenth each is held out for validation and for testing.
    length
        Words and marks of the longest verse that is taken, from 1 to 128. Verses have 29 on average.
    words
        How many words are told apart, of each language: the most frequent of training.

    Raises
    ------
    SpecError
        If a file is damaged, or missing and can't be had, or no verse is so short.
    """

    sides = [(split(english), split(spanish)) for english, spanish in pairs(root)]
    sides = [side for side in sides if max(map(len, side)) <= length]
    if len(sides) < 10:
        raise SpecError(f"options={{'length': {length}}}: {len(sides)} verses are so short; take a greater one")
    parts = shuffled(len(sides), seed, 0.1, 0.1)
    trained = [sides[place] for place in parts[0].tolist()]
    english, spanish = (vocabulary((side[i] for side in trained), words) for i in (0, 1))
    return translated(sides, parts, (english, spanish), length)


def pairs(root: Path) -> list[tuple[str, str]]:
    """The verses that both Bibles have, in English and in Spanish."""
    paths = fetch("verses", root)
    english, spanish = (read(paths[side]) for side in ("english", "spanish"))
    if len(english) != len(spanish):
        raise damaged(paths["spanish"], f"it holds {len(spanish):,} verses for {len(english):,} English ones")
    return [pair for pair in zip(english, spanish, strict=True) if all(pair)]


def read(folder: Path) -> list[str]:
    """
    Every verse of a module in Sword's format zText, "" where it has none; a SpecError of any other folder.

    A row of `.bzs` is a block's place, packed and unpacked size in `.bzz`, one of `.bzv` a verse's block, place in it
    and length: verses of modules of one versification are in the same rows.
    """
    texts = []
    for testament in TESTAMENTS:
        path = folder / f"{testament}.bzz"
        try:
            packed = path.read_bytes()
            places = struct.iter_unpack("<III", path.with_suffix(".bzs").read_bytes())
            blocks = [zlib.decompress(packed[start : start + size]) for start, size, _ in places]
            rows = struct.iter_unpack("<IIH", path.with_suffix(".bzv").read_bytes())
            texts += [_plain(blocks[block][start : start + size]) if size else "" for block, start, size in rows]
        except (OSError, zlib.error, struct.error, IndexError) as error:
            raise damaged(path, str(error)) from None
    return texts


def _plain(verse: bytes) -> str:
    """A verse without its markup."""
    return " ".join(html.unescape(MARKUP.sub(" ", verse.decode("utf-8", "replace"))).split())


def glance(path: Path) -> None:
    """Refuse what is no folder of a module."""
    for testament in TESTAMENTS:
        if not (path / f"{testament}.bzz").is_file():
            raise damaged(path, f"it holds no {testament}.bzz")
