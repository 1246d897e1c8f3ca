"""
Folders of sounds: which there are, of which class and part; held in memory, or read as they are asked for.

Legend of the shape comments: N sounds, T samples of time.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ...errors import Missing
from ..base import Data
from . import waves
from .examples import Example, wav
from .files import Files, files, refused, some
from .looking import Look, spread
from .parting import deal, grouped
from .reading import Item, Lazy, about, check, loaded, refuse, remarks, why

if TYPE_CHECKING:
    import numpy as np

KIND = "audio"
REMEDY = (
    "make a folder for each class, such as sounds/yes/1.wav and sounds/no/2.wav, or take options={'label': 'name'} "
    "where file names begin with the class, as in yes_1.wav"
)
LONGEST = 10.0  # seconds of a sound that are taken unasked


@dataclass(frozen=True)
class Found:
    """The sounds below a folder."""

    parts: dict[str, list[Item]]
    """By part files and their labels, without those that can't be read."""
    classes: list[str]
    rates: Counter[int]
    """How many have so many samples a second."""
    lengths: list[float]
    """In seconds, in ascending order."""
    unreadable: dict[str, str]
    others: int
    """Files that are no sounds, by their names."""

    def form(self, rate: int, seconds: float) -> tuple[int, float]:
        """Samples a second, and seconds, of every sound."""
        usual = max(self.rates, key=lambda known: (self.rates[known], known))
        return rate or usual, seconds or min(self.lengths[-1], LONGEST)


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
    facts |= {"other files": f"{found.others:,}, passed over"} if found.others else {}
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


def _rates(found: Found, rate: int) -> str:
    if [*found.rates] == [rate]:
        return f"{rate:,} samples a second"
    told = ", ".join(f"{known:,} ({count:,})" for known, count in found.rates.most_common(4))
    return f"{told} samples a second; resampled to {rate:,}"


def _resampled(found: Found, rate: int) -> tuple[str, ...]:
    """What a run tells of sounds at another rate."""
    others = sum(found.rates.values()) - found.rates[rate]
    return (f"{others:,} of {sum(found.rates.values()):,} sounds: {_rates(found, rate)}",) if others else ()


def _lengths(found: Found, seconds: float) -> str:
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


def find(path: str, label: str, skip: bool) -> Found:
    """The sounds below a folder; SpecError as of `audio`."""
    found = _found(files(KIND, path, folder=True), label)
    if not skip:
        refuse(KIND, path, found.unreadable)
    return found


@lru_cache(maxsize=8)
def _found(listed: Files, label: str) -> Found:
    """What lies there; files that have changed are others, by their digest."""
    named = [name for name in listed.names if name.lower().endswith(waves.KINDS)]
    parts = grouped(named, whole=label == "name")
    if label == "name":
        parts = {part: [(name, _first(name)) for name, _ in items] for part, items in parts.items()}
    if not named:
        raise refused(KIND, str(listed.path), f"there are no sounds in it ({', '.join(waves.KINDS)}){listed.instead}")
    labels = {part: [one for _, one in items] for part, items in parts.items()}
    check(KIND, str(listed.path), named, labels, REMEDY)
    heads = {name: _head(listed.folder / name) for items in parts.values() for name, _ in items}
    good = {name: head for name, head in heads.items() if not isinstance(head, str)}
    unreadable = {name: head for name, head in heads.items() if isinstance(head, str)}
    if not good:
        told = [f"{name} ({why})" for name, why in unreadable.items()]
        raise refused(KIND, str(listed.path), f"none of its {len(named):,} sounds can be read: {some(told)}")
    classes = sorted({one for _, one in parts["train"]})
    kept = {
        part: [(listed.folder / name, classes.index(one)) for name, one in items if name in good]
        for part, items in parts.items()
    }
    lengths = sorted(head.length / head.rate for head in good.values())
    rates = Counter(head.rate for head in good.values())
    return Found(kept, classes, rates, lengths, unreadable, len(listed.names) - len(named))


def _first(name: str) -> str:
    return PurePosixPath(name).stem.split("_")[0]


def _head(path: Path) -> waves.Head | str:
    try:
        return waves.head(path)
    except Missing:
        raise
    except Exception as error:  # decoders raise whatever a wrong byte leads them to
        return why(error)
