"""SCHEMES: how an artifact stores its numbers and computes with them; and int8 as a mere way to store weights."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ..errors import SpecError, needs
from ..tables import pick

if TYPE_CHECKING:
    import numpy as np

CODED = "coded"  # the one tensor of a file in scheme "shared": bytes that hold the others, see `coding`
SCALE = ":scale"  # after the name of a weight that is stored as int8: the tensor that gives its values back
SHALLOW = 64  # products that each output of a convolution adds up: below it, int8_static leaves it in floats
LARGE = 64  # numbers: a smaller tensor stays in an ONNX graph, where it is deflated
WORTH = 256  # numbers: a smaller weight saves nothing that its scales don't take again


@dataclass(frozen=True)
class Scheme:
    """One way to store and compute."""

    label: str
    """What it is, in words."""
    runtimes: tuple[str, ...]
    """What can run it, the usual one first."""
    calibrated: bool = False
    """Whether it needs samples to see how large activations get."""
    computes: str = ""
    """The scheme that computes as this one does, where it differs in what it stores alone."""


SCHEMES: dict[str, Scheme] = {
    "fp32": Scheme("32-bit floats", ("onnxruntime", "torch")),
    "bf16": Scheme("16-bit floats (bfloat16), stored and computed", ("torch",)),
    "int8_static": Scheme("8-bit integers, activations scaled by what calibration saw", ("onnxruntime",), True),
    "int8_dynamic": Scheme("8-bit integers in matrix products, activations scaled batch by batch", ("onnxruntime",)),
    "int8_weights": Scheme("8-bit weights, computed in 32-bit floats", ("onnxruntime", "torch"), computes="fp32"),
    "shared": Scheme("few values of weights, entropy-coded, computed in 32-bit floats", ("torch",), computes="fp32"),
}


def check(scheme: str, runtime: str) -> str:
    """
    The runtime that a scheme will have.

    Raises SpecError where there is no such scheme or the runtime can't run it, Missing where that is not installed.
    """
    able = pick(SCHEMES, scheme, "scheme").runtimes
    if runtime and runtime not in able:
        raise SpecError(f"runtime={runtime!r}: scheme={scheme!r} runs under {' or '.join(map(repr, able))}")
    chosen = runtime or next((name for name in able if find_spec(name)), able[0])
    if chosen == "onnxruntime":
        needs(f"scheme={scheme!r}", "onnxruntime", "onnx", "onnxscript")
    return chosen


def shrink(weights: dict[str, np.ndarray], axes: dict[str, int] | None = None) -> dict[str, np.ndarray]:
    """
    Matrices and kernels by name as int8 with a scale for each output channel; all else as it is.

    `axes` tells the axis of a weight's output channels where it is not the first.
    """
    import numpy as np

    stored: dict[str, np.ndarray] = {}
    for name, weight in weights.items():
        if weight.dtype != np.float32 or weight.ndim < 2 or weight.size < WORTH:
            stored[name] = weight
            continue
        axis = (axes or {}).get(name, 0) % weight.ndim
        others = tuple(i for i in range(weight.ndim) if i != axis)
        scale = np.abs(weight).max(axis=others, keepdims=True) / np.float32(127)
        scale = np.where(scale > 0, scale, np.float32(1)).astype(np.float32)
        stored[name] = np.rint(weight / scale).clip(-127, 127).astype(np.int8)
        stored[name + SCALE] = scale
    return stored


def grow(stored: dict[str, Any]) -> dict[str, Any]:
    """What `shrink` stored, arrays or tensors, as 32-bit floats again, to its rounding."""
    return {
        name: value * stored[name + SCALE] if name + SCALE in stored else value
        for name, value in stored.items()
        if not name.endswith(SCALE)
    }
