"""
Folders of sounds: which there are, of which class and part; held in memory, or read as they are asked for.

Legend of the shape comments: N sounds, T samples of time.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ...errors import Missing, SpecError
from ..base import Data
from . import waves
from .examples import Example, wav
from .files import Files, files, some
from .looking import Look, spread
from .parting import deal
from .reading import Found, Item, Lazy, about, loaded, refuse, remarks, why

if TYPE_CHECKING:
    import numpy as np

KIND = "audio"
REMEDY = (
    "make a folder for each class, such as sounds/yes/1.wav and sounds/no/2.wav, or take options={'label': 'name'} "
    "where file names begin with the class, as in yes_1.wav"
)
LONGEST = 10.0  # seconds of a sound that are taken unasked


class Heard(Found):
    """The sounds below a folder."""

    @cached_property
    def rates(self) -> Counter[int]:
        """How many have so many samples a second."""
        return Counter(head.rate for head in self.heads.values())

    @cached_property
    def lengths(self) -> list[float]:
        """In seconds, in ascending order."""
        return sorted(head.length / head.rate for head in self.heads.values())

    def form(self, rate: int, seconds: float) -> tuple[int, float]:
        """Samples a second, and seconds, of every sound."""
        usual = max(self.rates, key=lambda known: (self.rates[known], known))
        rate, seconds = rate or usual, seconds or min(self.lengths[-1], LONGEST)
        if round(rate * seconds) < 1:
            why = f"is less than one sample at {rate:,} a second; take {1 / rate:.2g} at least"
            raise SpecError(f"options={{'seconds': {seconds}}}: {why}")
        return rate, seconds


class Sounds(Lazy):
    """Sounds that are read as they are asked for: float32 (T,) and a label."""

    def __init__(self, items: Sequence[Item], rate: int, seconds: float) -> None:
        super().__init__(items, (round(rate * seconds),), "float32")
        self.sample_rate, self.seconds = rate, seconds

    def read(self, path: Path) -> np.ndarray:
        """One sound, (T,)."""
        return waves.read(path, self.sample_rate, self.seconds)


def look(path: str, *, rate: int = 0, seconds: float = 0.0, label: str = "folder", unreadable: str = "refuse") -> Look:
    """What a folder of sounds holds; SpecError as of `audio`."""
    found = find(path, label, unreadable == "skip")
    per_second, lasting = found.form(rate, seconds)
    train = found.parts["train"]
    counts = Counter(found.classes[label] for items in found.parts.values() for _, label in items)
    facts = {"rates": _rates(found, per_second), "lengths": _lengths(found, lasting)}
    facts |= {"other files": f"{len(found.others):,}, passed over: {some(found.others)}"} if found.others else {}
    shown = []
    for file, number in (train[place] for place in spread(len(train))):
        wave = waves.read(file, per_second, lasting)
        shown.append(Example(found.classes[number], file.name, wav=wav(wave, per_second)))
    return Look(
        name=f"{KIND}:{path}",
        sample=((round(per_second * lasting),), len(found.classes), 0),
        splits={part: len(items) for part, items in found.parts.items()},
        classes={name: counts[name] for name in found.classes},
        facts=facts,
        unreadable=found.unreadable,
        examples=tuple(shown),
    )


def _rates(found: Heard, rate: int) -> str:
    if [*found.rates] == [rate]:
        return f"{rate:,} samples a second"
    told = ", ".join(f"{known:,} ({count:,})" for known, count in found.rates.most_common(4))
    return f"{told} samples a second; resampled to {rate:,}"


def _resampled(found: Heard, rate: int) -> tuple[str, ...]:
    """What a run tells of sounds at another rate."""
    others = sum(found.rates.values()) - found.rates[rate]
    return (f"{others:,} of {sum(found.rates.values()):,} sounds: {_rates(found, rate)}",) if others else ()


def _lengths(found: Heard, seconds: float) -> str:
    shortest, longest = found.lengths[0], found.lengths[-1]
    middle = statistics.median(found.lengths)
    cut = sum(length > seconds + 1e-3 for length in found.lengths)
    lost = f", of which {cut:,} are cut" if cut else ""
    return f"{shortest:.2f} to {longest:.2f} s, {middle:.2f} s in the median; {seconds:.2f} s are taken{lost}"


def audio(
    path: str,
    root: Path,
    seed: int,
    *,
    rate: Annotated[int, Field(ge=0, le=192_000)] = 0,
    seconds: Annotated[float, Field(ge=0, le=600)] = 0.0,
    label: Literal["folder", "name"] = "folder",
    unreadable: Literal["refuse", "skip"] = "refuse",
) -> Data:
    """
    A folder of sounds, with a folder in it for each class, or train, val and test with these in them.

    WAV is read (PCM of 8, 16, 24 and 32 bits, and floats), and with the extra `data` FLAC, OGG, AIFF and MP3. Channels
    are averaged. Without `val` a tenth of `train` is held out, and without any part a tenth for testing too. Up to
    256 MiB are held in memory, more are read as they are asked for, by a run's `workers`.

    Data: x float32 (N, T) from -1 to 1; y int64 (N,).

    Parameters
    ----------
    path
        The folder.
    root, seed
        The seed deals out what is held out.
    rate
        Samples a second that all are resampled to; 0 takes the rate that most of them have.
    seconds
        Length that all are cut, or filled up with silence, to; 0 takes the longest, and at most 10.
    label
        Where a sound's class stands: "folder", or "name" for what comes before the first "_" in the file's name.
    unreadable
        What is done with files that can't be read: "refuse" names them, "skip" leaves them out.

    Raises
    ------
    SpecError
        If there are no sounds, or of one class only, or some can't be read.
    """
    found = find(path, label, unreadable == "skip")
    per_second, lasting = found.form(rate, seconds)
    parts = {part: Sounds(items, per_second, lasting) for part, items in deal(found.parts, seed).items()}
    splits, lost = loaded(parts, KIND, path, unreadable == "skip")
    return Data(
        splits["train"],
        splits.get("val"),
        splits.get("test"),
        parts["train"].shape,
        found.classes,
        sample_rate=per_second,
        remarks=(*remarks(found.unreadable | lost), *_resampled(found, per_second)),
        about=about(parts, Path(path)),
    )


audio.look = look  # type: ignore[attr-defined]
audio.kind = "sound"  # type: ignore[attr-defined]


def find(path: str, label: str, skip: bool) -> Heard:
    """The sounds below a folder; SpecError as of `audio`."""
    found = _found(files(KIND, path, folder=True), label)
    if not skip:
        refuse(KIND, path, found.unreadable)
    return found


@lru_cache(maxsize=8)
def _found(listed: Files, label: str) -> Heard:
    """What lies there; files that have changed are others, by their digest."""
    return Heard.of(KIND, listed, "sounds", waves.KINDS, _head, REMEDY, by_name=label == "name")


def _head(path: Path) -> waves.Head | str:
    try:
        return waves.head(path)
    except Missing:
        raise
    except Exception as error:  # decoders raise whatever a wrong byte leads them to
        return why(error)
