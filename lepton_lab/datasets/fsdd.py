"""The free spoken digit dataset: ten digits said by six people."""

from __future__ import annotations

import io
import re
import tarfile
import wave
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from .base import HELD_OUT, Data, holds, shuffled
from .files import damaged, fetch, gzipped

if TYPE_CHECKING:
    import numpy as np

RATE, RECORDINGS = 8000, 3000
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
TESTED = 5  # takes of each digit and speaker, the first, that are for testing
NAME = re.compile(r"(\d)_([a-z]+)_(\d+)\.wav$")

Recording = tuple[int, str, int, "np.ndarray"]
"""Digit, speaker, take, and samples, int16."""


@holds((RATE,), 10, kind="sound", samples=RECORDINGS)
def fsdd(
    root: Path,
    seed: int,
    *,
    speaker: Literal["", "george", "jackson", "lucas", "nicolas", "theo", "yweweler"] = "",
    seconds: Annotated[float, Field(gt=0, le=3)] = 1.0,
    label: Literal["digit", "speaker", "both"] = "digit",
) -> Data:
    """
    Spoken digits, 3,000 recordings of six people, 0.14 to 2.3 seconds (free spoken digit dataset).

    Source: Z. Jackson, C. Souza, J. Flaks, Y. Pan, H. Nicolas, A. Thite, v1.0.10, 2020. Looked for in `root/fsdd`, as
    `recordings.tar.gz` or a folder `recordings`, else downloaded. As published, takes 0 to 4 of each digit and speaker
    are for testing, 300 in all, so that every voice was trained on: leave a `speaker` out to test on a voice that the
    model has never heard.

    Data: x float32 (N, seconds * 8000) from -1 to 1, at 8,000 samples a second; y int64 (N,), the `label`. The
    `speaker` of each is in `about`.

    Parameters
    ----------
    root, seed
        As of every data set; the seed deals out a tenth of the training part for validation.
    speaker
        Who alone is tested on, and on whom nothing is trained; "" for the published split.
    seconds
        Length of a sample, above 0, at most 3: longer recordings are cut, shorter ones end in silence.
    label
        What y is: the digit, who says it, or which digit of whom ("7 theo").

    Raises
    ------
    SpecError
        If the files are damaged, or missing and can't be had.
    """
    import numpy as np
    import torch

    found = read(fetch("fsdd", root)["recordings"])
    x = torch.zeros(len(found), max(1, round(seconds * RATE)))
    for row, (*_, samples) in zip(x, found, strict=True):
        row[: len(samples)] = torch.from_numpy(samples[: len(row)].astype(np.float32) / 2**15)
    kinds: dict[str, Callable[[int, str], str]] = {
        "digit": lambda digit, who: str(digit),
        "speaker": lambda digit, who: who,
        "both": lambda digit, who: f"{digit} {who}",
    }
    named = [kinds[label](digit, who) for digit, who, *_ in found]
    classes = sorted(set(named))
    y = torch.tensor([classes.index(name) for name in named])
    tested = torch.tensor([who == speaker if speaker else take < TESTED for _, who, take, _ in found])
    trained = (~tested).nonzero().flatten()
    parts = [trained[part] for part in shuffled(len(trained), seed, HELD_OUT)] + [tested.nonzero().flatten()]
    train, val, test = ((x[part], y[part]) for part in parts)
    about = {
        name: {"speaker": [found[place][1] for place in part.tolist()]}
        for name, part in zip(("train", "val", "test"), parts, strict=True)
    }
    return Data(train, val, test, (x.shape[1],), classes, sample_rate=RATE, about=about)


def read(path: Path) -> list[Recording]:
    """The recordings of a folder or an archive, by digit, speaker and take; a SpecError of what holds others."""
    glance(path)
    found = []
    try:
        for name, contents in _files(path):
            if match := NAME.search(name):
                found.append((int(match[1]), match[2], int(match[3]), samples(contents)))
    except (OSError, EOFError, zlib.error, tarfile.TarError, wave.Error, ValueError) as error:
        raise damaged(path, str(error) or type(error).__name__) from None
    if not found or {who for _, who, *_ in found} - {*SPEAKERS} or max(digit for digit, *_ in found) > 9:
        raise damaged(path, f"it holds {len(found):,} recordings, and not those of {', '.join(SPEAKERS)}")
    return sorted(found, key=lambda one: one[:3])


def samples(contents: bytes) -> np.ndarray:
    """The samples of a WAV file, int16 (T,); ValueError of one that is not of 16 bits, one channel and 8,000 Hz."""
    import numpy as np

    with wave.open(io.BytesIO(contents)) as file:
        form = file.getnchannels(), file.getsampwidth(), file.getframerate()
        if form != (1, 2, RATE):
            raise ValueError(f"a recording has {form[0]} channels of {8 * form[1]} bits at {form[2]} Hz")
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.is_dir():
        for file in sorted(path.glob("*.wav")):
            yield file.name, file.read_bytes()
        return
    with tarfile.open(path, "r:gz") as archive:
        for entry in archive:
            if entry.isfile() and (stream := archive.extractfile(entry)):
                yield entry.name, stream.read()


def glance(path: Path) -> None:
    """Refuse what is neither a folder nor a gzip file by its first bytes."""
    if not path.is_dir():
        gzipped(path)
