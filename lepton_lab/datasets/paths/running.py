"""Running text, which a model learns to go on with: of a file, or of all files below a folder."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path, PurePosixPath

from .. import text as texts
from ..base import Data
from ..text import Context, Tokens
from .examples import Example
from .files import Files, files, refused
from .looking import Look, spread
from .parting import PARTS
from .plain import read

KIND = "text"
SHOWN = 120  # characters of an example


def look(path: str, *, context: int = 64, tokens: Tokens = "characters") -> Look:
    """What a text holds; SpecError as of `text`."""
    parts = _read(files(KIND, path))
    kinds = 256 if tokens == "bytes" else len(set().union(*parts.values()))
    whole = parts["train"]
    shown = tuple(Example("", whole[place * max(1, len(whole) - SHOWN) // 5 :][:SHOWN]) for place in range(5))
    windows = {part: _windows(text, context, tokens) for part, text in parts.items()}
    characters = sum(map(len, parts.values()))
    facts = {"length": f"{characters:,} characters in {whole.count(chr(10)) + 1:,} lines of train"}
    return Look(f"{KIND}:{path}", ((context,), kinds, kinds), windows, {}, facts, {}, shown[: len(spread(len(whole)))])


def _windows(text: str, context: int, tokens: str) -> int:
    return max(0, (len(text.encode() if tokens == "bytes" else text) - 1) // context)


def text(
    path: str,
    root: Path,
    seed: int,
    *,
    context: Context = 64,
    tokens: Tokens = "characters",
) -> Data:
    """
    Running text, to be gone on with token by token: a file (UTF-8), or all files below a folder one after the other.

    In a folder, files or folders called train, val and test are these parts. Else the first 80 % of the text are for
    training, the next 10 % for validation, the last 10 % for testing.

    Data: x uint8 or int16 (N, T) tokens; y alike, the token after each.

    Parameters
    ----------
    path
        The file or folder.
    root, seed
        Not used: the parts are the same for every seed.
    context
        Tokens of a window. Windows follow each other without overlap within each part.
    tokens
        "characters": those that occur in the text; "bytes": the 256 of UTF-8.

    Raises
    ------
    SpecError
        If there is no text, it is too short for a window, or a file is no UTF-8.
    """
    return texts.parted(_read(files(KIND, path)), context, tokens)


text.look = look  # type: ignore[attr-defined]


@lru_cache(maxsize=4)
def _read(listed: Files) -> dict[str, str]:
    """The text of each part; files that have changed are others, by their digest."""
    path, parts = str(listed.path), dict[str, list[str]]()
    for name in listed.names:
        place = PurePosixPath(name)
        part = PARTS.get((place.parts[0] if len(place.parts) > 1 else place.stem).lower(), "")
        parts.setdefault(part, []).append(read(KIND, path, listed.folder / name))
    joined = {part: "\n".join(several) for part, several in parts.items()}
    if "train" not in joined:  # names say nothing, or there is none to train on
        joined = {"train": "\n".join(joined.values())}
    joined.pop("", None)
    if not joined["train"].strip():
        raise refused(KIND, path, "there is no text in it")
    return joined
