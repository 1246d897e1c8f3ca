"""
Weights of few values, entropy-coded: the values, the gaps between weights that are not 0, and which value each takes.

Deep Compression's form (Han and others, arXiv:1510.00149, section 3.3), with LZMA in the place of Huffman's code. It
is lossless, bit for bit, whatever the numbers are: where they have many values they are kept as they are.
"""

from __future__ import annotations

import io
import json
import lzma
import struct
from itertools import accumulate
from math import prod
from typing import Any

import numpy as np

from ..errors import LabError

SKIP = 255
"""Among gaps: so many zeros, and no weight after them."""
VALUES = 256
"""That a tensor has at most, so that a byte tells which."""
STREAMS = {"header": 0, "gaps": 0, "codes": 0, "halves": 1, "floats": 2}
"""What the coded bytes consist of, and LZMA's `lp` for each: the bytes of a number are told apart by 2^lp places."""
SIZES = struct.Struct(f"<{len(STREAMS)}I")
LARGEST = {"header": 2**24, "numbers": 2**28}
"""Bytes, and numbers of all tensors together, that are unpacked at most."""


def pack(tensors: dict[str, np.ndarray]) -> np.ndarray:
    """Tensors of 32-bit floats, by name, as bytes (N,), from which `unpack` makes the same tensors again."""
    streams = {name: bytearray() for name in STREAMS}
    header = []
    for name, tensor in tensors.items():
        bits = np.ascontiguousarray(tensor).reshape(-1).view(np.uint32)  # as such -0 is not 0, and NaN is itself
        numbers, codes = np.unique(bits, return_inverse=True)
        few, nonzero, gaps = len(numbers) <= min(VALUES, len(bits) // 4), np.flatnonzero(bits), b""
        if few:
            gaps = _gaps(nonzero)
            streams["gaps"] += gaps
            codes = codes[nonzero] - (len(nonzero) < len(bits))  # 0 has none
            streams["codes"] += codes.astype(np.uint8).tobytes()
            numbers = numbers[numbers != 0]
        else:
            numbers = bits
        half = not (numbers & 0xFFFF).any()  # which says the same in bfloat16
        streams["halves" if half else "floats"] += ((numbers >> 16).astype("<u2") if half else numbers).tobytes()
        header.append([name, tensor.shape, half, len(numbers), *((len(nonzero), len(gaps)) if few else ())])
    streams["header"] += json.dumps(header, separators=(",", ":")).encode()
    packed = [lzma.compress(body, lzma.FORMAT_RAW, filters=_filters(name)) for name, body in streams.items()]
    return np.frombuffer(SIZES.pack(*map(len, packed)) + b"".join(packed), np.uint8)


def unpack(coded: np.ndarray) -> dict[str, np.ndarray]:
    """The tensors that `pack` was given, bit for bit; LabError where the bytes are none of its."""
    try:
        return _unpacked(coded.tobytes())
    except (lzma.LZMAError, struct.error, ValueError, TypeError, IndexError, RecursionError) as error:
        raise LabError(f"its coded weights can't be read ({type(error).__name__}: {str(error)[:60]})") from None


def _unpacked(body: bytes) -> dict[str, np.ndarray]:
    ends = [*accumulate(SIZES.unpack_from(body), initial=SIZES.size)]
    parts = {name: body[start:end] for name, start, end in zip(STREAMS, ends, ends[1:], strict=False)}
    header = json.loads(_plain("header", parts["header"], LARGEST["header"]))
    if sum(prod(shape) for _, shape, *_ in header) > LARGEST["numbers"]:
        raise ValueError("more numbers than are read")
    most = 4 * LARGEST["numbers"]
    streams = {name: io.BytesIO(_plain(name, parts[name], most)) for name in STREAMS if name != "header"}
    tensors = {}
    for name, shape, half, values, *coded in header:
        if half:
            numbers = _next(streams["halves"], values, "<u2").astype(np.uint32) << 16
        else:
            numbers = _next(streams["floats"], values, "<u4")
        if coded:
            nonzero, gaps = coded
            places = _places(_next(streams["gaps"], gaps, "u1"))
            numbers, codes = np.zeros(prod(shape), np.uint32), numbers[_next(streams["codes"], nonzero, "u1")]
            numbers[places] = codes
        tensors[name] = numbers.view(np.float32).reshape(shape)
    return tensors


def _gaps(nonzero: np.ndarray) -> bytes:
    """How many zeros stand before each weight that is kept, of which the places rise (N,)."""
    zeros = np.diff(nonzero, prepend=-1) - 1
    gaps = np.full(len(nonzero) + int((zeros // SKIP).sum()), SKIP, np.uint8)
    gaps[np.cumsum(zeros // SKIP + 1) - 1] = zeros % SKIP
    return gaps.tobytes()


def _places(gaps: np.ndarray) -> np.ndarray:
    """The places that `_gaps` was given."""
    weights = gaps != SKIP
    return (np.cumsum(gaps.astype(np.int64) + weights) - 1)[weights]


def _next(stream: io.BytesIO, count: int, kind: str) -> np.ndarray:
    """The next numbers of a stream; ValueError where it ends before."""
    return np.frombuffer(bytearray(stream.read(count * np.dtype(kind).itemsize)), kind, count)  # which can be written


def _plain(stream: str, packed: bytes, most: int) -> bytes:
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_filters(stream)).decompress(packed, most)


def _filters(stream: str) -> list[dict[str, Any]]:
    return [{"id": lzma.FILTER_LZMA2, "preset": 6 | lzma.PRESET_EXTREME, "lc": 0, "lp": STREAMS[stream], "pb": 0}]
