"""What the manifest of an artifact says."""

from __future__ import annotations

import datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from .about import About


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

    Parameters
    ----------
    about
        What is known of the model.
    scheme, runtime, keep
        How it is stored and run; layers left in floats.
    figures
        Counted: parameters, multiply_adds (of one sample).
    check
        What it computed from the made-up samples where it was written.
    error
        Largest difference between that and the module's own output.
    """
    return {
        "lab": _version(),
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
        "preprocessing": _preprocessing(about),
        "figures": figures,
        "check": {"scores": [float(f"{v:.7g}") for v in check[0].reshape(-1)[:32]], "error": float(f"{error:.3g}")},
        "measured": about.measured,
    }


def _preprocessing(about: About) -> dict[str, Any]:
    """What is done to raw samples within the graph."""
    if about.dtype != "uint8":
        return {"done": "nothing"}
    return {"done": "(x / 255 - mean) / std", "mean": list(about.mean or (0.0,)), "std": list(about.std or (1.0,))}


def _version() -> str:
    try:
        return metadata.version("lepton-lab")
    except metadata.PackageNotFoundError:  # run from a source tree
        return "0"
