"""What the manifest of an artifact says."""

from __future__ import annotations

import datetime
from math import prod
from typing import TYPE_CHECKING, Any

from ..answers import class_axis, named
from ..host import version
from .about import DTYPES

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
) -> dict[str, Any]:
    """
    All that an artifact says of itself but its format and hashes, which `container.pack` adds.

    `figures` are counted: parameters, and multiply_adds of one sample. `check` are scores (N, ...) of the made-up
    samples as it computed them where it was written, and `error` is their largest difference from the module's own.
    """
    preprocessing: dict[str, Any] = {"done": "nothing"}  # to raw samples, within the graph
    if about.dtype == "uint8":
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
        "input": {"shape": list(about.shape), "dtype": about.dtype, "vocabulary": about.vocabulary},
        "output": {"shape": list(check.shape[1:]), "dtype": "float32"},
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
    shapes = _sizes(takes.get("shape"), 1), _sizes(manifest["output"].get("shape"), 0)
    counts = [takes.get("vocabulary"), figures.get("parameters"), figures.get("multiply_adds")]
    if not all(isinstance(count, int) and count >= 0 for count in counts) or max(map(prod, shapes)) > LARGEST:
        raise ValueError("its manifest tells sizes that no model has")
    if takes.get("dtype") not in DTYPES or (takes["dtype"] == "int64" and not takes["vocabulary"]):
        raise ValueError(f"its manifest tells of samples of {str(takes.get('dtype'))[:20]!r}")
    if not all(isinstance(label, (str, int, float)) for label in manifest["labels"]):
        raise ValueError("its manifest has labels that are no names")
    scores = (1, *shapes[1])
    axis = class_axis(scores, classes=len(manifest["labels"]), tokens=takes["dtype"] == "int64")
    if manifest["labels"] and len(manifest["labels"]) < scores[-1 if axis is None else axis]:
        raise ValueError("its manifest has fewer labels than scores")
    if not isinstance(manifest["check"].get("scores"), list):
        raise ValueError("its manifest lacks the scores to check it by")


def predictions(scores: Any, manifest: dict[str, Any]) -> Any:
    """The labels of the highest scores, as `answers.named` gives them; of a model without labels the scores."""
    import numpy as np

    scores = np.asarray(scores)
    if not (labels := manifest["labels"]):
        return scores
    return named(scores, labels, manifest["output"]["shape"], tokens=manifest["input"]["dtype"] == "int64")


def _sizes(shape: Any, least: int) -> list[int]:
    if not isinstance(shape, list) or not all(isinstance(size, int) and size >= least for size in shape):
        raise ValueError("its manifest tells a shape that is none")
    return shape
