"""
Texts as rows of tokens of one length, for a model that labels each.

Legend of the shape comments: N texts, T tokens.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np

PAD, OTHER = 0, 1  # the first two tokens of any vocabulary but that of bytes: what fills up a row, and what is rare
WORD = re.compile(r"\w+|[^\w\s]")

Tokens = Literal["characters", "bytes", "words"]


def vocabulary(texts: Iterable[str], tokens: Tokens, most: int) -> list[str]:
    """
    Names of tokens, by their numbers: of the training texts, the most frequent first where they are words.

    `most` bounds how many words or characters are told apart; all others are one token.
    """
    if tokens == "bytes":
        return ["", *(chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}" for byte in range(256))]
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text if tokens == "characters" else WORD.findall(text.lower()))
    return ["", "?", *(token for token, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most])]


def encode(texts: Sequence[str], names: Sequence[str], tokens: Tokens, length: int) -> np.ndarray:
    """Rows of tokens, int16 or int64 (N, T): the first of each text, filled up with PAD."""
    import numpy as np

    numbers: Mapping[str, int] = {name: number for number, name in enumerate(names) if number > OTHER}
    rows = np.full((len(texts), length), PAD, np.int16 if len(names) < 2**15 else np.int64)
    for row, text in zip(rows, texts, strict=True):
        if tokens == "bytes":
            values = [byte + 1 for byte in text.encode()[:length]]
        else:
            parts = text[:length] if tokens == "characters" else WORD.findall(text.lower())[:length]
            values = [numbers.get(part, OTHER) for part in parts]
        row[: len(values)] = values
    return rows
