"""
Batches: any nest of dicts, lists and tuples with tensors at its leaves; what a model is called with is one, too.

Legend of the shape comments: B samples, T steps of a sequence.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


MASK = "attention_mask"
"""What Hugging Face's models call the input that tells which tokens are no padding."""
TEXTS = "input_ids"
"""The name that they give tokens."""


class Batch(NamedTuple):
    """One micro-batch of a rank."""

    x: Any
    """What the model is called with: see `call`."""
    y: Any
    """What its outputs are compared with: targets (B, ...), or the whole nest."""
    share: float
    """Of the step's loss; 0 of a sample that is borrowed, since every rank has to compute."""
    samples: int


def call(model: nn.Module | Callable[..., Any], x: Any) -> Any:
    """The outputs of a model: of keywords where `x` is a dict, of arguments where it is a tuple, else of `x` itself."""
    if isinstance(x, dict):
        return model(**x)
    return model(*x) if isinstance(x, tuple) else model(x)


def computed(model: nn.Module | Callable[..., Any], x: Any) -> list[Tensor]:
    """All tensors that a model gives, be they in a nest or, as of some models that are called by keywords, fields."""
    outputs = call(model, x)
    fields = dataclasses.is_dataclass(outputs) and not isinstance(outputs, Mapping)
    return tensors(vars(outputs) if fields else outputs)


def over(change: Callable[[Any], Any], nest: Any) -> Any:
    """The same nest with each leaf changed; any Mapping becomes a dict, and a named tuple stays one."""
    if isinstance(nest, Mapping):
        return {key: over(change, value) for key, value in nest.items()}
    if isinstance(nest, (list, tuple)):
        parts = [over(change, value) for value in nest]
        return type(nest)(*parts) if hasattr(nest, "_fields") else type(nest)(parts)
    return change(nest)


def leaves(nest: Any) -> list[Any]:
    """The leaves of a nest, in its order."""
    parts: list[Any] = []
    over(parts.append, nest)
    return parts


def tensors(nest: Any) -> list[Tensor]:
    """Those leaves that are tensors."""
    import torch

    return [leaf for leaf in leaves(nest) if isinstance(leaf, torch.Tensor)]


def held(leaf: Tensor) -> Tensor:
    """The numbers that a tensor holds, strided: of a sparse or nested one those that it stores."""
    import torch

    if leaf.layout == torch.sparse_coo:
        return leaf._values()
    return leaf.values() if leaf.is_nested or leaf.layout != torch.strided else leaf


def moved(nest: Any, device: torch.device) -> Any:
    """The nest with its tensors on a device; what else there is stays."""
    import torch

    return over(lambda leaf: leaf.to(device, non_blocking=True) if isinstance(leaf, torch.Tensor) else leaf, nest)


def rows(nest: Any, index: Tensor, samples: int) -> Any:
    """
    Some samples of a batch of so many, by index (N,).

    Rows of tensors, and items of lists, that are as many as the samples are taken; what else there is stays whole.
    Where the first tensor has m rows a sample, those of sample i are rows i m to i m + m - 1 of what is as long.
    """
    import torch

    first = next((len(leaf) for leaf in tensors(nest) if leaf.dim()), samples)
    m = first // samples if samples and first and first % samples == 0 else 1
    groups = (index[:, None] * m + torch.arange(m, device=index.device)).flatten()
    return _taken(nest, {samples * m: groups, samples: index})


def _taken(nest: Any, places: Mapping[int, Tensor]) -> Any:
    """A nest of what lies at some places, by the length of what they are places of."""
    import torch

    if isinstance(nest, Mapping):
        return {key: _taken(value, places) for key, value in nest.items()}
    if isinstance(nest, torch.Tensor):
        index = places.get(len(nest)) if nest.dim() else None
        return nest if index is None else nest.index_select(0, index.to(nest.device))
    if isinstance(nest, list) and (index := places.get(len(nest))) is not None:
        return [nest[place] for place in index.tolist()]
    if isinstance(nest, (list, tuple)):
        parts = [_taken(value, places) for value in nest]
        return type(nest)(*parts) if hasattr(nest, "_fields") else type(nest)(parts)
    return nest


def described(nest: Any) -> str:
    """What a nest is made of, in words."""
    if isinstance(nest, Mapping):
        return f"a dict of {', '.join(map(str, nest))}"
    if isinstance(nest, (list, tuple)):
        return f"a {type(nest).__name__} of {len(nest)}"
    shape = getattr(nest, "shape", None)
    return f"a {type(nest).__name__}" + (f" of shape {tuple(shape)}" if shape is not None else "")
