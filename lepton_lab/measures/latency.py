"""
What a forward pass will take, predicted from what it computes: a law with a few constants for each scheme.

A pass at batch B of operators o takes about

    t = start + sum over o of (call + B * multiply-adds * c + B * numbers * n + weights * w)

where multiply-adds are those of whole vectors, with constants of their own for convolutions and products, and for light
and heavy work between them (ReLU; softmax). Those in `latency.json` were fitted to times taken on its `place`, as that
machine names itself; `python -m benchmarks.latency` fits them to the machine at hand.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..artifacts.schemes import SCHEMES
from ..batches import call
from ..files import home, read_json

if TYPE_CHECKING:
    from torch import Tensor, nn

VECTOR = 16
"""Channels that kernels compute at once: 17 take as long as 32."""
SHORT = 4
"""Inputs that they add up at once."""
PRODUCTS = {"mm": 0, "bmm": 0, "addmm": 1, "baddbmm": 1}
"""Operators that multiply matrices, and the place of the first."""
HEAVY = ("softmax", "gelu", "layer_norm", "tanh", "sigmoid", "exp", "silu", "batch_norm", "rms_norm", "var", "mean")
FREE: tuple[str, ...] = ("view", "reshape", "t", "transpose", "permute", "expand", "slice", "select", "unsqueeze")
FREE += ("squeeze", "alias")
FREE += ("detach", "split", "unbind", "_unsafe_view", "arange", "as_strided", "lift_fresh", "chunk", "empty", "full")
CALLS = ("start", "convolutions", "products", "light", "heavy")
"""Of a pass: its start, and how many operators of each kind it has."""
OF_SAMPLE: tuple[str, ...] = ("conv_work", "narrow_work", "ragged_work", "product_work")
OF_SAMPLE += ("conv_numbers", "light_numbers", "heavy_numbers")
"""
Of a sample: multiply-adds with channels filled up to whole vectors, apart those of convolutions that miss fast kernels;
and numbers read and written.
"""
NAMES = (*CALLS, *OF_SAMPLE, "weights")
"""What a pass takes time for; last the numbers in the matrices of products, which it reads once."""
FILE = "latency.json"
OURS = Path(__file__).with_name(FILE)


@dataclass
class Work:
    """What a forward pass of one sample computes."""

    multiply_adds: int = 0
    amounts: dict[str, float] = field(default_factory=lambda: {name: float(name == "start") for name in NAMES})
    """How much there is of each of NAMES."""

    def features(self, batch: int) -> list[float]:
        """What each constant of a law is multiplied with, at a batch size: in the order of NAMES."""
        return [amount * (batch if name in OF_SAMPLE else 1) for name, amount in self.amounts.items()]


def work(module: nn.Module, sample: Any) -> Work:
    """
    What a module, on the CPU and in eval mode, computes of one sample: counted on a forward pass.

    `sample` is (1, *shape), or what else the module is called with, see `batches.call`.
    """
    from ..artifacts.counting import unfused

    counter = _counter()
    with unfused(), counter:
        call(module, sample)
    return counter.work


def predict(counts: Work, scheme: str, runtime: str, batch: int) -> float | None:
    """Seconds of a forward pass at a batch size, by one thread; None where no law was fitted to a scheme."""
    law = laws().get(f"{SCHEMES[scheme].computes or scheme} {runtime}")
    return sum(c * value for c, value in zip(law, counts.features(batch), strict=True)) if law else None


def laws() -> dict[str, list[float]]:
    """Constants by scheme and runtime, in the order of NAMES: those of this machine, where some were fitted to it."""
    return read_json(OURS)["laws"] | (read_json(home() / FILE) or {"laws": {}})["laws"]


def place() -> str:
    """The machine that the constants belong to."""
    return (read_json(home() / FILE) or read_json(OURS))["place"]


def _counter() -> Any:
    """A mode that sees every operator that a forward pass comes down to."""
    from math import prod

    from torch.utils._python_dispatch import TorchDispatchMode

    class Counter(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.work = Work()

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            output = func(*args, **(kwargs or {}))
            name = func._schema.name.removeprefix("aten::")
            if name in FREE:
                return output
            if name in PRODUCTS:
                _product(self.work, args[PRODUCTS[name]], args[PRODUCTS[name] + 1], output, name.endswith("bmm"))
            elif name in ("convolution", "_convolution"):
                x, weight, transposed = args[0], args[1], args[6]
                each = prod(weight.shape[1:])  # multiply-adds of one output, or transposed of one input
                _convolution(self.work, *((output, weight, x) if transposed else (x, weight, output)), each)
            else:
                kind = "heavy" if any(word in name for word in HEAVY) else "light"
                first = output[0] if isinstance(output, tuple) else output
                if hasattr(first, "numel") and first.numel() > 1:
                    self.work.amounts[kind] += 1
                    self.work.amounts[f"{kind}_numbers"] += first.numel()
            return output

    return Counter()


def _product(counts: Work, left: Tensor, right: Tensor, output: Tensor, batched: bool) -> None:
    """(.., M, K) x (.., K, N)."""
    k, n = right.shape[-2:]
    rows = left.numel() // k
    counts.multiply_adds += rows * k * n
    counts.amounts["products"] += 1
    counts.amounts["product_work"] += rows * _whole(k, SHORT) * _whole(n, VECTOR)
    counts.amounts["light_numbers"] += output.numel()
    counts.amounts["weights"] += 0 if batched else right.numel()


def _convolution(counts: Work, x: Tensor, weight: Tensor, output: Tensor, each: int) -> None:
    """`each`: multiply-adds of one output."""
    outputs, inputs = weight.shape[:2]
    taps = each // inputs
    positions = output.numel() / output.shape[1]
    counts.multiply_adds += output.numel() * each
    counts.amounts["convolutions"] += 1
    # ONNX Runtime computes in blocks of channels: fewer inputs have slower kernels, and a rest has none at all.
    kind = "narrow" if inputs < VECTOR else "ragged" if inputs % SHORT else "conv"
    counts.amounts[f"{kind}_work"] += positions * _whole(outputs, VECTOR) * _whole(inputs * taps, SHORT)
    counts.amounts["conv_numbers"] += x.numel() + output.numel()


def _whole(count: int, step: int) -> int:
    return -(-count // step) * step
