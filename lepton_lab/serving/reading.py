"""From the body of a request to a batch of samples, or the sentence and the status that refuse it."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np

from ..artifacts.checking import checked
from ..errors import SpecError

JSON, BINARY = "application/json", "application/octet-stream"
"""What a body may be: {"samples": [...]}, or the bytes of a .npy file, as numpy.save writes it."""
LARGEST = 64 * 2**20
"""Bytes of a body, at most."""
EXAMPLE = '{"samples": [...]}'


class Refused(Exception):
    """A request that gets no scores: its HTTP status, a sentence, and headers of the answer."""

    def __init__(self, status: int, sentence: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status, self.headers = status, headers


def read(body: bytes, headers: Any, takes: dict[str, Any]) -> tuple[np.ndarray, bool]:
    """
    Samples (B, *shape) as the artifact takes them, and whether they came as one without a batch.

    `headers` have their names in small letters; `takes` is the manifest's `input`: shape, dtype and vocabulary. Raises
    Refused: 400 for what can't be read, 415 for another type of content, 422 for samples that don't fit the manifest.
    """
    kind = (headers.get("content-type") or JSON).partition(";")[0].strip().lower()
    if kind not in (JSON, BINARY):
        raise Refused(415, f"content-type {kind[:60]!r}: must be {JSON} or {BINARY}")
    try:
        samples = _from_json(body, takes["dtype"]) if kind == JSON else from_npy(body)
    except ValueError as error:
        raise Refused(422, f"the body is no .npy file, as numpy.save writes one ({error})") from None
    try:
        return checked(samples, tuple(takes["shape"]), takes["dtype"], takes["vocabulary"])
    except SpecError as error:
        raise Refused(422, str(error)) from None


def _from_json(body: bytes, dtype: str) -> np.ndarray:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(400, f"the body is not JSON: send {EXAMPLE}") from None
    if not isinstance(content, dict) or "samples" not in content:
        raise Refused(422, f"the body lacks 'samples': send {EXAMPLE}")
    if extra := [name for name in content if name != "samples"]:
        raise Refused(422, f"{extra[0][:60]!r} is not known: send {EXAMPLE}")
    try:
        array = np.asarray(content["samples"])
    except (ValueError, OverflowError):
        raise Refused(422, "samples differ in shape: give lists of equal lengths") from None
    if array.dtype == object:
        raise Refused(422, "samples hold something other than numbers: give nested lists of numbers")
    # JSON writes 1.0 as 1 where it likes.
    return array.astype(np.float32) if dtype == "float32" and array.dtype.kind in "iu" else array


def to_npy(array: np.ndarray) -> bytes:
    """An array of numbers as the bytes of a .npy file."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def from_npy(body: bytes) -> np.ndarray:
    """The array in the bytes of a .npy file, of which nothing is unpickled; ValueError if they are none."""
    try:  # not numpy.load, which also opens zip files and so what they may unpack to
        return np.lib.format.read_array(io.BytesIO(body), allow_pickle=False)
    except Exception as error:  # of a header that somebody made up, almost any
        raise ValueError(f"{type(error).__name__}: {str(error)[:80]}") from None
