"""What the manifest of an artifact says."""

from __future__ import annotations

import datetime
from math import prod
from typing import TYPE_CHECKING, Any

from ..answers import class_axis, named
from ..host import version
from .inputs import CALLS, DTYPES, Input, Signature

if TYPE_CHECKING:
    import numpy as np

    from .about import About

KINDS: dict[str, type] = {
    **dict.fromkeys(("lab", "created", "model", "parent", "scheme", "runtime", "tokens"), str),
    **dict.fromkeys(("chain", "keep", "labels"), list),
    **dict.fromkeys(("input", "output", "preprocessing", "figures", "check", "measured"), dict),
}
LARGEST = 2**31  # numbers in a sample, or in its scores


def build(
    about: About,
    scheme: str,
    runtime: str,
    keep: tuple[str, ...],
    figures: dict[str, Any],
    check: np.ndarray,
    error: float,
    shape: tuple[int | None, ...] = (),
) -> dict[str, Any]:
    """
    All that an artifact says of itself but its format and hashes, which `container.pack` adds.

    `figures` are counted: parameters, and multiply_adds of one sample. `check` are scores (N, ...) of the made-up
    samples as it computed them where it was written, and `error` is their largest difference from the module's own.
    `shape` is that of a sample's scores, where some of it depends on the inputs'.
    """
    preprocessing: dict[str, Any] = {"done": "nothing"}  # to raw samples, within the graph
    if about.dtype == "uint8" and about.call == CALLS[0]:
        scaling = {"mean": list(about.mean or (0.0,)), "std": list(about.std or (1.0,))}
        preprocessing = {"done": "(x / 255 - mean) / std", **scaling}
    return {
        "lab": version("lepton-lab") or "0",
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "model": about.model,
        "parent": about.parent,
        "chain": about.chain,
        "scheme": scheme,
        "runtime": runtime,
        "keep": list(keep),
        "input": {"shape": list(about.signature.inputs[0].shape), "dtype": about.dtype, "vocabulary": about.vocabulary},
        "output": {"shape": list(shape or check.shape[1:]), "dtype": "float32"} | _named(about),
        **_more(about),
        "labels": about.labels,
        "tokens": about.tokens,
        "preprocessing": preprocessing,
        "figures": figures,
        "check": {"scores": [float(f"{v:.7g}") for v in check[0].reshape(-1)[:32]], "error": float(f"{error:.3g}")},
        "measured": about.measured,
    }


def check(manifest: dict[str, Any]) -> None:
    """Hold a manifest of a known format to what `build` makes; ValueError if a part is missing or of another kind."""
    for name, kind in KINDS.items():
        if not isinstance(manifest.get(name), kind):
            raise ValueError(f"its manifest lacks {name!r} as a {kind.__name__}")
    takes, figures = manifest["input"], manifest["figures"]
    asked = signature(manifest)
    shapes = [item.sizes or [size or 0 for size in item.shape] for item in asked.inputs]
    shapes.append(_sizes(manifest["output"].get("shape"), 0))
    counts = [takes.get("vocabulary"), figures.get("parameters"), figures.get("multiply_adds")]
    if not all(isinstance(count, int) and count >= 0 for count in counts) or max(map(prod, shapes)) > LARGEST:
        raise ValueError("its manifest tells sizes that no model has")
    for item in asked.inputs:
        if item.dtype not in DTYPES or (item.dtype == "int64" and not (item.vocabulary or item.below)):
            raise ValueError(f"its manifest tells of samples of {item.dtype[:20]!r}")
    if not all(isinstance(label, (str, int, float)) for label in manifest["labels"]):
        raise ValueError("its manifest has labels that are no names")
    scores = (1, *shapes[-1])
    axis = class_axis(scores, classes=len(manifest["labels"]), tokens=takes["dtype"] == "int64")
    if manifest["labels"] and len(manifest["labels"]) < scores[-1 if axis is None else axis]:
        raise ValueError("its manifest has fewer labels than scores")
    if not isinstance(manifest["check"].get("scores"), list):
        raise ValueError("its manifest lacks the scores to check it by")


def _more(about: About) -> dict[str, Any]:
    """What a manifest says of a model that takes more than raw samples of one shape, and of its task."""
    more: dict[str, Any] = {"task": about.task} if about.task else {}
    if about.inputs:
        more |= {"call": about.call, "inputs": [item.to_dict() for item in about.inputs]}
    return more


def _named(about: About) -> dict[str, str]:
    """Which of a model's outputs it is, where it gives several."""
    return {"name": about.outputs} if about.outputs else {}


def signature(manifest: dict[str, Any]) -> Signature:
    """What a file's model is called with; ValueError where the manifest tells nothing sound of it."""
    inputs, call = manifest.get("inputs", [manifest["input"]]), manifest.get("call", CALLS[0])
    if not isinstance(inputs, list) or not inputs or call not in CALLS or (call == CALLS[0] and len(inputs) > 1):
        raise ValueError("its manifest tells of inputs that are none")
    found = Signature(tuple(Input.of(content) for content in inputs), call)
    if len({*found.names}) < len(found.names):
        raise ValueError("its manifest gives two inputs one name")
    if any(item.like and item.like not in found.names for item in found.inputs):
        raise ValueError("its manifest tells of an input like one that is none")
    return found


def takes(manifest: dict[str, Any]) -> str:
    """What goes in, in words."""
    asked = signature(manifest)
    named = asked.call != CALLS[0]
    return ", ".join(
        f"{item.name} " * named + " x ".join("any" if n is None else str(n) for n in item.shape) + f" {item.dtype}"
        for item in asked.inputs
    )


def predictions(scores: Any, manifest: dict[str, Any]) -> Any:
    """The labels of the highest scores, as `answers.named` gives them; of a model without labels the scores."""
    import numpy as np

    scores = np.asarray(scores)
    if not (labels := manifest["labels"]):
        return scores
    if manifest.get("task", {}).get("name") == "multilabel":
        return _several(scores, labels)
    shape = [size or 0 for size in manifest["output"]["shape"]]
    return named(scores, labels, shape, tokens=manifest["input"]["dtype"] == "int64")


def _several(scores: np.ndarray, labels: list[str]) -> Any:
    """Of each sample the labels whose probability is above one half."""
    if scores.ndim == 1:
        return [label for label, score in zip(labels, scores, strict=True) if score > 0]
    return [_several(sample, labels) for sample in scores]


def probabilities(scores: Any, manifest: dict[str, Any]) -> Any:
    """Of each label, (B, K), where a sample has one of them, or each is a yes or no; else None."""
    import numpy as np

    name = manifest.get("task", {}).get("name")
    if scores.ndim != 2 or not manifest["labels"] or name not in ("classification", "multilabel", "keywords"):
        return None
    if name == "multilabel":
        return 1 / (1 + np.exp(-scores.clip(-80, 80)))
    raised = np.exp(scores - scores.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def answered(scores: np.ndarray, manifest: dict[str, Any]) -> dict[str, Any]:
    """What a server tells of scores (B, ...), by name: beside them `values`, or `labels` and `probabilities`."""
    told: dict[str, Any] = {"scores": scores}
    if manifest.get("task", {}).get("name") == "regression":
        told["values"] = scores
    if manifest["labels"]:
        told["labels"] = predictions(scores, manifest)
    if (chances := probabilities(scores, manifest)) is not None:
        told["probabilities"] = chances
    return told


def _sizes(shape: Any, least: int) -> list[int]:
    if not isinstance(shape, list) or not all(n is None or (isinstance(n, int) and n >= least) for n in shape):
        raise ValueError("its manifest tells a shape that is none")
    return [size or 0 for size in shape]
