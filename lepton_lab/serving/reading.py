"""From the body of a request to a batch of samples, or the sentence and the status that refuse it."""

from __future__ import annotations

import json
from math import prod
from typing import TYPE_CHECKING, Any

from ..artifacts.checking import checked
from ..errors import SpecError

if TYPE_CHECKING:
    import numpy as np

JSON, BINARY = "application/json", "application/octet-stream"
SHAPE, DTYPE = "x-shape", "x-dtype"
"""Headers that tell what the numbers of a binary body are; little-endian, in C order."""
KINDS = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
LARGEST = 64 * 2**20
"""Bytes of a body, at most."""
EXAMPLE = '{"samples": [...]}'


class Unreadable(Exception):
    """A request that is refused: its HTTP status and a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


def read(body: bytes, headers: Any, takes: dict[str, Any]) -> tuple[np.ndarray, bool]:
    """
    Samples (B, *shape) as the artifact takes them, and whether they came as one without a batch.

    Parameters
    ----------
    body, headers
        Of the request; names of headers in small letters.
    takes
        The manifest's `input`: shape, dtype and vocabulary.

    Raises
    ------
    Unreadable
        400 for what can't be read, 415 for another type of content, 422 for samples that don't fit the manifest.
    """
    kind = (headers.get("content-type") or JSON).partition(";")[0].strip().lower()
    if kind == JSON:
        samples = _from_json(body, takes["dtype"])
    elif kind == BINARY:
        samples = _from_bytes(body, headers, takes)
    else:
        raise Unreadable(415, f"content-type {kind[:60]!r}: must be {JSON} or {BINARY}")
    try:
        return checked(samples, tuple(takes["shape"]), takes["dtype"], takes["vocabulary"])
    except SpecError as error:
        raise Unreadable(422, str(error)) from None


def _from_json(body: bytes, dtype: str) -> np.ndarray:
    import numpy as np

    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        raise Unreadable(400, f"the body is not JSON: send {EXAMPLE}") from None
    if not isinstance(told, dict) or "samples" not in told:
        raise Unreadable(422, f"the body lacks 'samples': send {EXAMPLE}")
    if extra := [name for name in told if name != "samples"]:
        raise Unreadable(422, f"{extra[0][:60]!r} is not known: send {EXAMPLE}")
    try:
        array = np.asarray(told["samples"])
    except (ValueError, OverflowError):
        raise Unreadable(422, "samples differ in shape: give lists of equal lengths") from None
    if array.dtype == object:
        raise Unreadable(422, "samples hold something other than numbers: give nested lists of numbers")
    # JSON writes 1.0 as 1 where it likes.
    return array.astype(np.float32) if dtype == "float32" and array.dtype.kind in "iu" else array


def _from_bytes(body: bytes, headers: Any, takes: dict[str, Any]) -> np.ndarray:
    import numpy as np

    name = headers.get(DTYPE) or takes["dtype"]
    if name not in KINDS:
        raise Unreadable(422, f"{DTYPE}: {name[:60]!r} must be one of {', '.join(KINDS)}")
    kind = np.dtype(name).newbyteorder("<")
    told = headers.get(SHAPE)
    try:
        shape = tuple(int(size) for size in told.split(",") if size.strip()) if told else (-1, *takes["shape"])
    except ValueError:
        raise Unreadable(422, f"{SHAPE}: {told[:60]!r} must be whole numbers, such as 64,1,28,28") from None
    if told is None:
        one = prod(takes["shape"]) * kind.itemsize
        if len(body) % one:
            raise Unreadable(422, f"a body of {len(body)} bytes: must be a multiple of {one}, the bytes of a sample")
    elif any(size < 0 for size in shape) or prod(shape) * kind.itemsize != len(body):
        raise Unreadable(422, f"a body of {len(body)} bytes: is not {SHAPE} {told[:60]} in {name}")
    try:
        return np.frombuffer(body, kind).astype(np.dtype(name), copy=False).reshape(shape)
    except (ValueError, OverflowError):
        raise Unreadable(422, f"{SHAPE}: {str(told)[:60]} is no shape that an array can have") from None
