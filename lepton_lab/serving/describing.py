"""What a server says of itself: in a sentence, and in OpenAPI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..answers import class_axis
from ..artifacts.manifest import takes
from .reading import BINARY, JSON, NAMED

if TYPE_CHECKING:
    from ..artifacts.inputs import Input, Signature

PLAIN = ("scores", "values", "labels", "probabilities")  # answers of which the sentence speaks by other words


def described(manifest: dict[str, Any], example: dict[str, Any]) -> str:
    """What it takes and gives, in a sentence; `example` is what it tells of a sample."""
    labels = manifest["labels"]
    gives = f"{'any' if _any_number(manifest, example) else 'one'} of {len(labels)} labels" if labels else "numbers"
    if own := [name for name in example if name not in PLAIN]:
        gives = ", ".join(own)
    return f"{manifest['model']}, {manifest['scheme']}: takes {takes(manifest)}, gives {gives}."


def _any_number(manifest: dict[str, Any], example: dict[str, Any]) -> bool:
    """Whether a sample has a list of labels of its own, though its scores (K,) are of no places."""
    labels = example.get("labels")
    return len(manifest["output"]["shape"]) == 1 and isinstance(labels, list) and isinstance(labels[0], list)


def request_of(signature: Signature) -> dict[str, Any]:
    """What OpenAPI says of the body."""
    inputs = {item.name: _input(item) for item in signature.inputs}
    several, file = signature.several, ".npy file, as numpy.save"
    if several:
        needed = [item.name for item in signature.inputs if not item.spared]
        inputs, file = {"inputs": _object(inputs) | {"required": needed}}, ".npz file, as numpy.savez"
    array = {"type": "string", "format": "binary", "description": f"a {file} writes it"}
    body = {JSON: {"schema": _object(inputs)}, NAMED if several else BINARY: {"schema": array}}
    return {"requestBody": {"required": True, "content": body}}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


def _input(takes: Input) -> dict[str, Any]:
    """What OpenAPI says of a batch of an input."""
    item: dict[str, Any] = {"type": "boolean" if takes.dtype == "bool" else "number"}
    if takes.dtype in ("uint8", "int64"):
        item = {"type": "integer"}
        if most := 255 if takes.dtype == "uint8" else takes.vocabulary - 1 if takes.vocabulary else 0:
            item |= {"minimum": 0, "maximum": most}
    shape = [size or 0 for size in takes.shape]
    return _nested(item, shape) | {"minItems": 1, "description": "a batch; one sample alone is taken too"}


def responses(manifest: dict[str, Any], example: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of answers, of which one is the `example`."""
    refused = {
        400: "the body can't be read",
        401: "the token is missing or wrong",
        413: "the body is too large",
        415: "another type of content",
        422: "samples don't fit the manifest",
        503: "too many requests wait",
    }
    shape, labels = [size or 0 for size in manifest["output"]["shape"]], manifest["labels"]
    properties: dict[str, Any] = {"scores": _nested({"type": "number"}, shape)}
    if manifest.get("task", {}).get("name") == "regression":
        properties["values"] = properties["scores"]
    if labels:
        texts = manifest["input"]["dtype"] == "int64"
        axis = class_axis((1, *shape), classes=len(labels), tokens=texts) or len(shape)
        if len(shape) == 1:
            properties["probabilities"] = _nested({"type": "number"}, shape)
        places = [0] if _any_number(manifest, example) else shape[: axis - 1] + shape[axis:]
        properties["labels"] = _nested({"type": "string", "enum": labels}, places)
    known = {} if "outputs" in manifest or manifest.get("call") == "list" else properties
    properties = {name: known.get(name) or _like(value) for name, value in example.items()}
    scores = {"description": "scores, and what they say", "content": _json(properties)}
    error = _json({"error": {"type": "string"}})
    return {200: scores, **{code: {"description": text, "content": error} for code, text in refused.items()}}


def _like(value: Any) -> dict[str, Any]:
    """What OpenAPI says of what is like an example; of what that is empty of, nothing."""
    if isinstance(value, dict):
        return {"type": "object", "properties": {name: _like(part) for name, part in value.items()}}
    if isinstance(value, list):
        return {"type": "array", "items": _like(value[0]) if value else {}}
    return {} if value is None else {"type": "string" if isinstance(value, str) else "number"}


def _json(properties: dict[str, Any]) -> dict[str, Any]:
    """What OpenAPI says of a body in JSON."""
    return {JSON: {"schema": {"type": "object", "properties": properties}}}


def _nested(item: dict[str, Any], shape: list[int]) -> dict[str, Any]:
    """What OpenAPI says of a batch of arrays of a shape."""
    for size in reversed(shape):
        item = {"type": "array", "items": item, **({"minItems": size, "maxItems": size} if size else {})}
    return {"type": "array", "items": item}
