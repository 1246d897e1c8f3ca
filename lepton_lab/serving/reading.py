"""From the body of a request to a batch of samples, or the sentence and the status that refuse it."""

from __future__ import annotations

import io
import json
import sys
import zipfile
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..artifacts.checking import taken
from ..artifacts.inputs import SAMPLES
from ..artifacts.texts import numbered
from ..errors import LabError, SpecError

if TYPE_CHECKING:
    from ..artifacts.inputs import Signature

JSON, BINARY = "application/json", "application/octet-stream"
"""What a body may be: {"samples": [...]}, or the bytes of a .npy file, as numpy.save writes it."""
LARGEST = 64 * 2**20
"""Bytes of a body, at most."""
EXAMPLE = '{"samples": [...]}'
NAMED = "application/x-npz"
"""Several arrays by name, as numpy.savez writes them."""


class Refused(Exception):
    """A request that gets no scores: its HTTP status, a sentence, and headers of the answer."""

    def __init__(self, status: int, sentence: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status, self.headers = status, headers


def read(body: bytes, headers: Any, signature: Signature, manifest: Mapping[str, Any]) -> tuple[Any, bool]:
    """
    A batch as the artifact takes it, and whether it came as one sample without a batch.

    `headers` have their names in small letters. A model of several inputs takes them by name,
    or the first alone where the others may be left out. Raises
    Refused: 400 for what can't be read, 415 for another type of content, 422 for samples that don't fit the manifest.
    """
    kind = (headers.get("content-type") or JSON).partition(";")[0].strip().lower()
    several = signature.several
    binary = NAMED if several else BINARY
    if kind not in (JSON, BINARY, binary):
        raise Refused(415, f"content-type {kind[:60]!r}: must be {JSON} or {binary}")
    try:
        named = _from_json(body, signature, manifest) if kind == JSON else from_npz(body) if kind == NAMED else None
        given = () if named else (from_npy(body),)
    except ValueError as error:
        file = ".npz file, as numpy.savez" if kind == NAMED else ".npy file, as numpy.save"
        raise Refused(422, f"the body is no {file} writes one ({error})") from None
    try:
        return taken(signature, given, named)
    except SpecError as error:
        raise Refused(422, str(error)) from None


def type_of(body: bytes) -> str:
    """The content type of a body, by how it begins."""
    return BINARY if body.startswith(b"\x93NUMPY") else NAMED if body.startswith(b"PK") else JSON


def example(signature: Signature) -> str:
    """What a body in JSON looks like."""
    if not signature.several:
        return EXAMPLE
    return '{"inputs": {' + ", ".join(f'"{name}": [...]' for name in signature.names) + "}}"


def _from_json(body: bytes, signature: Signature, manifest: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Arrays by the names of inputs."""
    send = example(signature)
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(400, f"the body is not JSON: send {send}") from None
    key = "inputs" if signature.several else SAMPLES
    if not isinstance(content, dict) or key not in content:
        raise Refused(422, f"the body lacks {key!r}: send {send}")
    if extra := [name for name in content if name != key]:
        raise Refused(422, f"{extra[0][:60]!r} is not known: send {send}")
    if key == SAMPLES:
        return {signature.names[0]: _array(_tokens(content[key], manifest), signature.inputs[0].dtype)}
    values = content[key]
    if not isinstance(values, dict) or not values:
        raise Refused(422, f"'inputs' must be lists by name: send {send}")
    kinds = {item.name: item.dtype for item in signature.inputs}
    return {name: _array(value, kinds.get(name, "")) for name, value in values.items()}


def _tokens(samples: Any, manifest: Mapping[str, Any]) -> Any:
    """Samples that are texts as tokens; any other as they are."""
    try:
        return numbered((samples,), manifest)[0]
    except LabError as error:
        raise Refused(422, str(error)) from None


def _array(values: Any, dtype: str) -> np.ndarray:
    try:
        array = np.asarray(values)
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


def to_npz(arrays: dict[str, np.ndarray]) -> bytes:
    """Arrays of numbers by name as the bytes of a .npz file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as members:
        for name, array in arrays.items():
            members.writestr(f"{name}.npy", to_npy(array))
    return file.getvalue()


def to_binary(scores: Any) -> tuple[bytes, int, None, str]:
    """Scores as a response's body, status, headers and type: one array, or several by name, "[0]boxes" of a list."""
    if isinstance(scores, np.ndarray):
        return to_npy(scores), 200, None, BINARY
    several = scores if isinstance(scores, list) else [scores]
    parts = [one if isinstance(one, dict) else {"": one} for one in several]
    places = [f"[{i}]" if isinstance(scores, list) else "" for i in range(len(parts))]
    named = {place + name: array for place, part in zip(places, parts, strict=True) for name, array in part.items()}
    return to_npz(named), 200, None, NAMED


def from_binary(body: bytes) -> Any:
    """The scores that `to_binary` wrote; ValueError if they are none."""
    if not body.startswith(b"PK"):
        return from_npy(body)
    arrays: dict[str, dict[str, np.ndarray]] = {}
    for name, array in from_npz(body, sys.maxsize).items():
        place, _, rest = name.removeprefix("[").partition("]") if name.startswith("[") else ("", "", name)
        arrays.setdefault(place, {})[rest] = array
    scores = [part.get("", part) for part in arrays.values()]
    return scores[0] if "" in arrays else scores


def from_npz(body: bytes, most: int = LARGEST) -> dict[str, np.ndarray]:
    """The arrays in a .npz file, of which nothing is unpickled, or unpacked beyond `most`; ValueError if it is none."""
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as members:
            if sum(info.file_size for info in members.infolist()) > most:
                raise ValueError(f"it unpacks to more than {most // 2**20} MiB")
            return {name.removesuffix(".npy"): from_npy(members.read(name)) for name in members.namelist()}
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError) as error:
        raise ValueError(f"{type(error).__name__}: {str(error)[:80]}") from None


def from_npy(body: bytes) -> np.ndarray:
    """The array in the bytes of a .npy file, of which nothing is unpickled; ValueError if they are none."""
    try:  # not numpy.load, which also opens zip files and so what they may unpack to
        return np.lib.format.read_array(io.BytesIO(body), allow_pickle=False)
    except Exception as error:  # of a header that somebody made up, almost any
        raise ValueError(f"{type(error).__name__}: {str(error)[:80]}") from None
