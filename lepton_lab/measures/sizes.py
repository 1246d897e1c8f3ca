"""
How many bytes an artifact will have, told from the shapes of a module without writing one.

Weights and their headers are counted as `artifacts` writes them; only what the compressed graph takes is a rule of
thumb, with a few bytes for each operator, fitted to artifacts of the models here.
"""

from __future__ import annotations

import itertools
import json
import zlib
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from ..artifacts import container, manifest, schemes
from ..artifacts.onnx_graph import LARGE
from ..store import provenance
from . import Latency, Measured

if TYPE_CHECKING:
    from torch import nn

    from ..artifacts import About
    from .latency import Work

WORDS = {"F32": 4, "BF16": 2, "I8": 1}
ENTRY = 30 + 46
"""Bytes of a zip file for each member, beside its name twice."""
END = 22
GRAPH: dict[str, tuple[float, ...]] = {
    "fp32 onnxruntime": (384.0, 12.0, 47.0, 28.0, 0.0),
    "int8_static onnxruntime": (363.0, 69.0, 118.0, 20.0, 0.0),
    "int8_dynamic onnxruntime": (357.0, 63.0, 46.0, 59.0, 46.0),
    "int8_weights onnxruntime": (198.0, 78.0, 0.0, 86.0, 0.0),
    "bf16 torch": (221.0, 6.0, 10.0, 9.0, 22.0),
}
"""Deflated bytes of a graph: its start, and for each convolution, product, light and heavy operator; by scheme."""


@dataclass(frozen=True)
class Stored:
    """A tensor in a file."""

    name: str
    kind: str
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Numbers."""
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes, without its header."""
        return self.count * WORDS[self.kind]


def predict(module: nn.Module, about: About, scheme: str, runtime: str, found: Work, keep: tuple[str, ...] = ()) -> int:
    """
    Bytes of the artifact of a module.

    Parameters
    ----------
    module
        Of the right shapes; its values don't matter.
    about
        What the file will say of it.
    found
        What it computes; `deep` names its layers of more than one position.
    keep
        Layers that stay in floats.
    """
    tensors = stored(module, scheme, runtime, found.deep, keep)
    within = [t for t in tensors if runtime == "onnxruntime" and t.count < LARGE and not t.name.endswith(schemes.SCALE)]
    outside = [t for t in tensors if t not in within]
    weights = sum(t.bytes for t in outside)
    name = container.GRAPHS[runtime]
    names = (container.MANIFEST, container.WEIGHTS, name)
    frame = END + sum(ENTRY + 2 * len(member) for member in names)
    small = sum(t.bytes for t in within if not t.name.endswith("zero_point"))  # zeros, which deflate to nothing
    told = _manifest(about, scheme, runtime, keep, found, name)
    return frame + told + _header(outside) + weights + graph(scheme, runtime, found, small)


def graph(scheme: str, runtime: str, found: Work, small: float) -> int:
    """Deflated bytes of the graph, with the small tensors in it."""
    constants = GRAPH.get(f"{scheme} {runtime}") or GRAPH[f"fp32 {runtime}"]
    return round(sum(c * value for c, value in zip(constants, operators(found), strict=True)) + small)


def operators(found: Work) -> list[float]:
    """What the constants of GRAPH are multiplied with."""
    calls = found.calls
    return [1.0, *(float(calls[kind]) for kind in ("conv", "product", "light", "heavy"))]


def stored(module: nn.Module, scheme: str, runtime: str, deep: set[str], keep: tuple[str, ...]) -> list[Stored]:
    """What an artifact holds of a module, tensor by tensor."""
    from torch import nn

    tensors: list[Stored] = []
    seen: set[int] = set()
    onnx = runtime == "onnxruntime"
    shallow = _shallow(module) if scheme == "int8_static" else set()
    for name, layer in module.named_modules():
        kept = layer in shallow or any(name == k or name.startswith(f"{k}.") for k in keep)
        integers = not kept and _integers(layer, scheme)
        norm = isinstance(layer, nn.modules.batchnorm._BatchNorm) and onnx
        values = [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]
        for own, value in values[:1] if norm else values:  # a norm becomes a bias of the convolution before it
            if value.data_ptr() in seen or not value.is_floating_point():
                continue
            seen.add(value.data_ptr())
            shape, title = tuple(value.shape), f"{'module.' if onnx else ''}{name}{'.' if name else ''}{own}"
            matrix = isinstance(layer, nn.Linear) and own == "weight"
            turned = matrix and onnx and (name in deep or scheme == "int8_dynamic")
            if turned:
                shape = shape[::-1]  # a product takes it the other way round, as a constant without a name
                title = "val_100" if name in deep else title
            how = "integers" if integers and own == "weight" else "scheme"
            if own == "weight" and kept:
                how = "floats"
            tensors += _forms(title, shape, scheme, how, -1 if turned else 0)
    return tensors


def _integers(layer: nn.Module, scheme: str) -> bool:
    """Whether a layer computes in integers."""
    from torch import nn

    if isinstance(layer, nn.Linear):
        return scheme in ("int8_static", "int8_dynamic")
    return isinstance(layer, nn.Conv2d) and scheme == "int8_static"


def _shallow(module: nn.Module) -> set[nn.Module]:
    """Convolutions that int8_static leaves in floats: of few products an output, with ReLU and pooling after them."""
    from torch import nn

    leaves = [layer for layer in module.modules() if not next(layer.children(), None)]
    found = set()
    for i, layer in enumerate(leaves):
        if isinstance(layer, nn.Conv2d) and layer.weight[0].numel() < schemes.SHALLOW:
            rest = itertools.takewhile(lambda after: isinstance(after, (nn.ReLU, nn.MaxPool2d)), leaves[i + 1 :])
            if {type(after) for after in rest} == {nn.ReLU, nn.MaxPool2d}:
                found.add(layer)
    return found


def _forms(title: str, shape: tuple[int, ...], scheme: str, how: str, axis: int) -> list[Stored]:
    """A tensor as it is stored, with the scales of its outputs, which lie along an axis."""
    outputs = shape[axis] if shape else 1
    if scheme == "bf16":
        return [Stored(title, "BF16", shape)]
    if how == "integers":
        held = [Stored(f"{title}_quantized", "I8", shape), Stored(f"{title}_scale", "F32", (outputs,))]
        return [*held, Stored(f"{title}_zero_point", "I8", (outputs,))]
    if how == "scheme" and scheme.startswith("int8") and len(shape) > 1 and prod(shape) >= schemes.WORTH:
        ones = [1] * (len(shape) - 1)
        scales = (*ones, outputs) if axis else (outputs, *ones)
        return [Stored(title, "I8", shape), Stored(f"{title}{schemes.SCALE}", "F32", scales)]
    return [Stored(title, "F32", shape)]


def _header(tensors: list[Stored]) -> int:
    """Bytes of the header of a safetensors file."""
    told, at = {}, 0
    for t in tensors:
        told[t.name if t.name not in told else f"{t.name[:-3]}{len(told):03}"] = {
            "dtype": t.kind,
            "shape": list(t.shape),
            "data_offsets": [at, at + t.bytes],
        }
        at += t.bytes
    return 8 + -(-len(json.dumps(told, separators=(",", ":"))) // 8) * 8


def _manifest(about: About, scheme: str, runtime: str, keep: tuple[str, ...], found: Work, name: str) -> int:
    """Deflated bytes of a manifest like the one to come: hashes, scores and what will be measured are made up."""
    import hashlib

    import numpy as np

    random = np.random.default_rng(0)
    scores = random.standard_normal((1, max(1, len(about.labels)))).astype(np.float32)
    figures: dict[str, Any] = {"parameters": 123456, "multiply_adds": found.multiply_adds}
    told = manifest.build(about, scheme, runtime, keep, figures, scores, 1.23e-6)
    made = [hashlib.sha256(bytes([i])).hexdigest() for i in range(3)]
    told |= {"format": 1, "digest": made[0], "sha256": {name: made[1], container.WEIGHTS: made[2]}}
    if about.chain:
        told["measured"] = _measured(scheme, runtime, random)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return len(packer.compress(json.dumps(told, separators=(",", ":"), sort_keys=True).encode()) + packer.flush())


def _measured(scheme: str, runtime: str, random: Any) -> dict[str, Any]:
    """What a run that compressed will have measured of its file, in digits that mean nothing."""
    times = {batch: Latency(*(float(value) for value in random.random(4) / 1e3), repeats=30) for batch in (1, 64)}
    conditions = {"threads": 1, "device": provenance.processor(), "warmup": 5, "repeats": 30, "watts": 10.0}
    conditions["versions"] = {"torch": "2.13.0", "onnxruntime": "1.23.2"}
    conditions["missing"] = {}
    accuracy, low, high, joules = (float(value) for value in random.random(4))
    name = f"{scheme} under {runtime}"
    figures = Measured(name, 123456, 0, 1234567, times, 1234567, accuracy, (low, high), 10_000, joules, conditions)
    return {key: value for key, value in figures.to_dict().items() if key != "bytes"}
