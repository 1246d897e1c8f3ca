"""
Texts, cut into windows of tokens that a model learns to continue.

Legend of the shape comments: N windows, T tokens of a window.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ..errors import SpecError
from .base import HELD_OUT, Data, holds
from .files import damaged, fetch
from .sources import SOURCES
from .unpacking import unlike

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

Context = Annotated[int, Field(ge=1)]
Tokens = Literal["characters", "bytes"]


@holds((64,), 103, 103, licence="PSF-2.0")
def pydocs(root: Path, seed: int, *, context: Context = 64, tokens: Tokens = "characters") -> Data:
    """
    Python's reference as text, half a megabyte that ships with Python (no download).

    The topics of `help()` in alphabetical order: 466,273 bytes and 103 kinds of characters in Python 3.11.7, and others
    in another release, so that figures compare under the same one. The first 80 % are for training, the next 10 % for
    validation, the last 10 % for testing.

    Data: x uint8 (N, T) tokens; y uint8 (N, T) the token after each. int16 from 257 kinds of tokens on.

    Parameters
    ----------
    root, seed
        Not used: the text comes with Python, and its parts are the same for every seed.
    context
        Tokens of a window. Windows follow each other without overlap within each part.
    tokens
        "characters": those that occur in the text; "bytes": the 256 of UTF-8.

    Raises
    ------
    SpecError
        If the text is too short for a window, or this Python comes without its reference.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise SpecError(
            "dataset='pydocs': comes with Python as pydoc_data, which this Python lacks; install the whole standard "
            "library (on Debian and Ubuntu: apt-get install libpython3-stdlib)"
        ) from None
    return windows("\n\n".join(topics[name] for name in sorted(topics)), context, tokens)


@holds((64,), 65, 65)
def tinyshakespeare(root: Path, seed: int, *, context: Context = 64, tokens: Tokens = "characters") -> Data:
    """
    Plays of Shakespeare, 40,000 lines, 1,115,394 characters of 65 kinds (tiny Shakespeare).

    Source: A. Karpathy, The Unreasonable Effectiveness of Recurrent Neural Networks, 2015. Looked for in
    `root/tinyshakespeare/input.txt`, else downloaded. Split as `pydocs`.

    Data: x uint8 (N, T) tokens; y uint8 (N, T) the token after each.

    Parameters
    ----------
    root, seed
        As of every data set; the parts are the same for every seed.
    context
        Tokens of a window. Windows follow each other without overlap within each part.
    tokens
        "characters": those that occur in the text; "bytes": the 256 of UTF-8.

    Raises
    ------
    SpecError
        If the text is too short for a window, or the file is damaged, or missing and can't be downloaded.
    """
    return windows(read(fetch("tinyshakespeare", root)["input.txt"]), context, tokens)


def read(path: Path) -> str:
    """The published text in a file, or a SpecError; its MD5 takes 2 ms."""
    try:
        contents = path.read_bytes()
    except OSError as error:
        raise damaged(path, str(error)) from None
    if wrong := unlike(contents, SOURCES["tinyshakespeare"].archives[path.name][path.name]):
        raise damaged(path, f"it {wrong}")
    return contents.decode()


def windows(text: str, context: int, tokens: Tokens) -> Data:
    """
    A text's data: x (N, T) tokens, T = `context` in a window, and y (N, T), the token after each.

    The first 80 % of the text are for training, the next 10 % for validation, the last 10 % for testing. The last
    tokens of a part, too few for a window, are left out. A text too short for one is a SpecError.
    """
    return parted({"train": text}, context, tokens)


def parted(texts: Mapping[str, str], context: int, tokens: Tokens) -> Data:
    """
    As `windows`, of a text for each part that there is: "train", and maybe "val" and "test".

    Where there is no other, train is cut into the three; else the last tenth of it is for validation if there is none.
    """
    stream, classes = _encode("".join(texts.values()), tokens)
    sizes = [len(text.encode() if tokens == "bytes" else text) for text in texts.values()]
    cuts = [0, *accumulate(sizes)]
    parts = {name: stream[start:end] for name, (start, end) in zip(texts, pairwise(cuts), strict=True)}
    whole = parts["train"]
    held = int(len(whole) * HELD_OUT)
    for name in (name for name in (["test"] if len(parts) == 1 else []) + ["val"] if name not in texts):
        parts["train"], parts[name] = parts["train"][:-held], parts["train"][-held:]
    shortest = min(map(len, parts.values()))
    if shortest < 2:
        raise SpecError(f"dataset: its text has {len(stream):,} tokens, too few for its parts; give a longer one")
    if context >= shortest:
        raise SpecError(f"options={{'context': {context}}}: must be from 1 to {shortest - 1} (tokens of a window)")
    pairs = {name: _pairs(part, context) for name, part in parts.items()}
    kinds = len(classes)
    return Data(pairs["train"], pairs["val"], pairs.get("test"), (context,), classes, vocabulary=kinds, tokens=tokens)


def _encode(text: str, tokens: str) -> tuple[np.ndarray, list[str]]:
    """A text as numbers of tokens, and the tokens' names."""
    import numpy as np

    if tokens == "bytes":
        names = [chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}" for byte in range(256)]
        return np.frombuffer(text.encode(), np.uint8), names
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    kinds, stream = np.unique(points, return_inverse=True)
    return stream.astype(np.uint8 if len(kinds) <= 256 else np.int16), [chr(point) for point in kinds]


def _pairs(stream: np.ndarray, context: int) -> tuple[Tensor, Tensor]:
    """Windows of a stream of tokens, and the same one token later: (N, T) each, copied."""
    import torch

    count = (len(stream) - 1) // context
    x, y = (stream[start : start + count * context].reshape(count, context) for start in (0, 1))
    return torch.from_numpy(x.copy()), torch.from_numpy(y.copy())
