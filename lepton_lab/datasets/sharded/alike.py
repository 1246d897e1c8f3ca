"""Blocks of a tar whose samples lie alike: arrays of one shape with labels, as `writing` lays them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import tars
from .decoding import LABEL, array

if TYPE_CHECKING:
    import numpy as np

SIZE, KIND, MAGIC, PREFIX = slice(124, 136), slice(156, 157), slice(257, 263), slice(345, 500)
"""Fields of a header that must be those of the first sample; names differ."""


def pairs(body: bytearray, count: int) -> tuple[np.ndarray, list[int]] | None:
    """
    All x (count, ...) in place, and all labels, where each sample is an `.npy` of one form and a `.cls`; else None.

    To go from header to header takes longer than to fetch a small picture.
    """
    import numpy as np

    period, rest = divmod(len(body), max(count, 1))
    if rest or not period:
        return None
    try:
        first = tars.parts(body[:period])
    except tars.Damaged:  # samples are not all as long as each other
        return None
    if len(first) != 1 or set(first[0][1]) != {"npy", LABEL}:
        return None
    key, parts = first[0]
    rows = np.frombuffer(body, np.uint8).reshape(count, period)
    plain = period == sum(tars.UNIT + tars.padded(size) for _, size in parts.values())  # no further headers
    if not plain or not _headers_alike(rows, key, parts):
        return None
    begin, size = parts["npy"]
    try:
        x = array(memoryview(body)[begin : begin + size])
    except Exception:  # who decodes it by itself says why
        return None
    head = size - x.nbytes
    if not _all(rows, slice(begin, begin + head)) or not x.flags.c_contiguous or not x.dtype.isnative:
        return None
    whole = np.ndarray((count, *x.shape), x.dtype, body, begin + head, (period, *x.strides))
    digits = rows[:, parts[LABEL][0] : sum(parts[LABEL])] - ord("0")
    if (digits > 9).any():
        return None
    powers = 10 ** np.arange(digits.shape[1])[::-1]
    return whole, (digits @ powers).tolist()


def _headers_alike(rows: np.ndarray, key: str, parts: dict[str, tuple[int, int]]) -> bool:
    """Whether all samples have the headers of the first, but for a key of the same length, which their files share."""
    length, keys = len(key.encode()), []
    for begin, _ in parts.values():
        head = rows[:, begin - tars.UNIT : begin]
        fields = (SIZE, KIND, MAGIC, PREFIX, slice(length, 100))
        if not all(_all(head, field) for field in fields) or head[0, PREFIX].any():
            return False
        keys.append(head[:, :length])
    last = keys[0][:, key.encode().rfind(b"/") + 1 :]
    return bool((keys[0] == keys[1]).all() and not ((last == ord(".")) | (last == ord("/")) | (last == 0)).any())


def _all(rows: np.ndarray, columns: slice) -> Any:
    """Whether all rows have the bytes of the first there."""
    return (rows[:, columns] == rows[0, columns]).all()
