"""Dates as English and Spanish write them, by Unicode's CLDR in Babel."""

from __future__ import annotations

import random
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ..errors import needs
from .base import HELD_OUT, Data, holds, shuffled
from .wording import SOURCE, TARGET, split, translated

FIRST, DAYS, YEARS = date(1900, 1, 1), 73_049, 200
FORMATS = ("full", "long", "medium")
LENGTH = 6  # words and marks of "thursday, september 3, 1998"
ENGLISH, SPANISH = 262, 264


@holds((LENGTH,), len(TARGET) + SPANISH, len(SOURCE) + ENGLISH, tasks=("sequence_to_sequence",), made=True)
def dates(root: Path, seed: int, *, samples: Annotated[int, Field(ge=10, le=200_000)] = 12_000) -> Data:
    """
    Made: dates of 1900 to 2099 in American English and in Spanish, such as "September 3, 1998" (translation).

    "3 de septiembre de 1998": day and month change places. Source: Unicode's CLDR, as Babel has it, in its full, long
    and medium formats; "May 5, 1998" is long and medium at once, so not all can be right. No date comes twice in a
    format: 80 % is for training, 10 % for validation, 10 % for testing. `pairs` gives the texts.

    Data: x int64 (N, 6) English words and marks in small letters, 0 where a date is over; y int64 (N, T) Spanish ones,
    their end (2), and -100 after it. Each language's words are numbered by themselves.

    Parameters
    ----------
    root, seed
        As of every data set; nothing is read.
    samples
        Pairs in all, from 10 to 200,000.

    Raises
    ------
    Missing
        Where Babel is not installed.
    """
    sides = [[split(text) for text in pair] for pair in pairs(seed, samples)]
    calendar = [(FIRST + timedelta(day), style) for day in range(366) for style in FORMATS]  # of all days and months
    years = [str(FIRST.year + i) for i in range(YEARS)]
    english, spanish = (
        sorted({word for text in texts for word in split(text)} | {*years})
        for texts in zip(*written(calendar), strict=True)
    )
    return translated(sides, shuffled(samples, seed, HELD_OUT, HELD_OUT), (english, spanish), LENGTH)


def pairs(seed: int, samples: int) -> list[tuple[str, str]]:
    """Dates in English and in Spanish, drawn without drawing one twice in a format."""
    drawn = random.Random(seed).sample(range(DAYS * len(FORMATS)), samples)
    return written([(FIRST + timedelta(number // len(FORMATS)), FORMATS[number % len(FORMATS)]) for number in drawn])


def written(days: list[tuple[date, str]]) -> list[tuple[str, str]]:
    """Days in English and in Spanish, each in one of FORMATS."""
    needs("dataset='dates'", "babel")
    from babel.dates import format_date

    return [(format_date(day, style, "en_US"), format_date(day, style, "es")) for day, style in days]
