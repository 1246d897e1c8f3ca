"""
How many bytes an artifact will have, told from the shapes of a module without writing one.

Numbers are counted by the width that a scheme stores them in. What stands around them (the compressed graph and
manifest, the names of tensors) is a rule of thumb, fitted to artifacts of the models here.
"""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..artifacts import coding, manifest, schemes
from .latency import CALLS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..artifacts import About
    from .latency import Work

GRAPH: dict[str, tuple[float, ...]] = {
    "fp32 onnxruntime": (384.0, 12.0, 47.0, 28.0, 0.0),
    "int8_static onnxruntime": (363.0, 69.0, 118.0, 20.0, 0.0),
    "int8_dynamic onnxruntime": (357.0, 63.0, 46.0, 59.0, 46.0),
    "int8_weights onnxruntime": (198.0, 78.0, 0.0, 86.0, 0.0),
    "bf16 torch": (221.0, 6.0, 10.0, 9.0, 22.0),
    "shared torch": (221.0, 6.0, 10.0, 9.0, 22.0),
}
"""Deflated bytes of a graph by scheme and runtime: for each of CALLS."""
FRAME = 340
"""Bytes of a zip file of three members, without what is in them."""
HEADER = {"onnxruntime": 84, "torch": 72}
"""Bytes of a tensor's name, kind, shape and place in a safetensors file."""
HASHES, SCORE, MEASURED = 162, 6, 360
"""Deflated bytes of a manifest's hashes; of a score to check by; and of what a run that compressed measures."""

CREATED = "2026-01-02T03:04:05+00:00"
"""A time like that in a manifest, always the same: a second later it may deflate to another length."""


@dataclass(frozen=True)
class Stored:
    """A tensor in a file."""

    count: int
    """Numbers."""
    width: int
    """Bytes of each."""
    alone: bool
    """Whether it is among the weights, and not in the graph."""


def predict(
    module: nn.Module, about: About, scheme: str, runtime: str, counts: Work, keep: tuple[str, ...] = ()
) -> int:
    """
    Bytes of the artifact of a module, by its shapes.

    `about` is what the file will say of it, `counts` what it computes, and `keep` names layers that stay in floats.
    """
    if scheme == "shared":  # it depends on the numbers themselves
        weights = HEADER[runtime] + len(coding.pack({name: value.numpy() for name, value in _floats(module)}))
    else:
        tensors = stored(module, scheme, runtime, keep)
        weights = sum(t.count * t.width + HEADER[runtime] * t.alone for t in tensors)
    calls = [counts.amounts[name] for name in CALLS]
    graph = sum(size * count for size, count in zip(GRAPH[f"{scheme} {runtime}"], calls, strict=True))
    return round(FRAME + _manifest(about, scheme, runtime, keep, counts) + weights + graph)


def _floats(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """A module's parameters and buffers of 32-bit floats, each once."""
    for name, value in itertools.chain(module.named_parameters(), module.named_buffers()):
        if value.dtype.itemsize == 4 and value.is_floating_point():
            yield name, value.detach()


def stored(module: nn.Module, scheme: str, runtime: str, keep: tuple[str, ...]) -> Iterator[Stored]:
    """What an artifact holds of a module, tensor by tensor."""
    from torch import nn

    onnx = runtime == "onnxruntime"
    shallow = _shallow(module) if scheme == "int8_static" else set()
    seen: set[int] = set()
    for name, layer in module.named_modules():
        floats = layer in shallow or any(name == k or name.startswith(f"{k}.") for k in keep)
        norm = isinstance(layer, nn.modules.batchnorm._BatchNorm) and onnx
        values = [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]
        for own, value in values[:1] if norm else values:  # a norm becomes a bias of the convolution before it
            if value.data_ptr() in seen or not value.is_floating_point():
                continue
            seen.add(value.data_ptr())
            count, outputs, weight = value.numel(), len(value) if value.dim() else 1, own == "weight"
            alone = count >= schemes.LARGE or not onnx
            if scheme == "bf16":
                yield Stored(count, 2, alone)
            elif weight and not floats and _integers(layer, scheme):
                yield Stored(count, 1, alone)
                large = outputs >= schemes.LARGE
                yield Stored(outputs, 4, large)  # scales
                yield Stored(outputs, int(large), large)  # zeros: in a graph, deflated to nothing
            elif scheme.startswith("int8") and not (weight and floats) and value.dim() > 1 and count >= schemes.WORTH:
                yield Stored(count, 1, alone)
                yield Stored(outputs, 4, True)
            else:
                yield Stored(count, 4, alone)


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
    shallow: set[nn.Module] = set()
    for i, layer in enumerate(leaves):
        if isinstance(layer, nn.Conv2d) and layer.weight[0].numel() < schemes.SHALLOW:
            rest = itertools.takewhile(lambda after: isinstance(after, (nn.ReLU, nn.MaxPool2d)), leaves[i + 1 :])
            if {type(after) for after in rest} == {nn.ReLU, nn.MaxPool2d}:
                shallow.add(layer)
    return shallow


def _manifest(about: About, scheme: str, runtime: str, keep: tuple[str, ...], counts: Work) -> int:
    """Deflated bytes of the manifest to come."""
    import numpy as np

    outputs = max(1, len(about.labels))
    figures = {"parameters": 0, "multiply_adds": counts.multiply_adds}
    scores = np.zeros((1, outputs), np.float32)
    record = manifest.build(about, scheme, runtime, keep, figures, scores, 0.0)
    record["created"] = CREATED
    text = json.dumps(record, separators=(",", ":"))
    return len(zlib.compress(text.encode(), 9)) + HASHES + SCORE * min(outputs, 32) + MEASURED * bool(about.chain)
