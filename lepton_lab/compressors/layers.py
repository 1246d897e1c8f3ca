"""
Layers that stand in place of another while it is fine-tuned: masked, adapted, or computing as int8 would.

Legend of the shape comments: B samples, I inputs, O outputs, R rank.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

if TYPE_CHECKING:
    from .codebooks import Shared

WHOLE = 127  # int8 numbers run from -127 to 127: without -128, weights are as far from 0 on both sides
HOOKED = {WeightNorm: remove_weight_norm, SpectralNorm: remove_spectral_norm, prune.BasePruningMethod: prune.remove}
"""What computes a weight before each forward pass, as torch did before parametrizations; and what puts it in place."""
MEMORY = 0.99  # of the range of activations that was seen, at each batch
Layer = nn.Linear | nn.Conv2d


def weighted(model: nn.Module) -> Iterator[tuple[str, Layer]]:
    """Name and layer of each Linear and Conv2d, once."""
    for name, layer in model.named_modules():
        if type(layer) in (nn.Linear, nn.Conv2d):
            yield name, cast("Layer", layer)


def shared(model: nn.Module) -> dict[str, str]:
    """Layers whose weight another module has too (tied embeddings), with the name of that module."""
    owners: dict[nn.Parameter, list[str]] = {}
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(parameter, []).append(name)
    return {name: next(o for o in names if o != name) for names in owners.values() if len(names) > 1 for name in names}


def replace(model: nn.Module, name: str, layer: nn.Module) -> nn.Module:
    """A model with another layer in the place of the one of that name, and wherever else it has it; "" is the model."""
    if not name:
        return layer
    old = model.get_submodule(name)
    for parent in list(model.modules()):
        for last in [last for last, child in parent._modules.items() if child is old]:
            setattr(parent, last, layer)
            if isinstance(parent, nn.TransformerEncoderLayer):
                parent.activation_relu_or_gelu = 0  # else in eval mode it calls a kernel with its layers' own weights
        if isinstance(parent, nn.TransformerEncoder):
            parent.use_nested_tensor = False  # the same
    return model


def unshared(model: nn.Module) -> tuple[dict[str, Layer], dict[str, str]]:
    """Linear and Conv2d layers by name; and those that stay, as another module has their weight, with that reason."""
    left = {name: f"shares its weight with {other}" for name, other in shared(model).items()}
    return {name: layer for name, layer in weighted(model) if name not in left}, left


def thin(layer: Layer, rank: int, bias: bool) -> tuple[Layer, Layer]:
    """Two layers, one after the other in place of one: from its inputs to `rank` channels, and on to its outputs."""
    like: dict[str, Any] = {"device": layer.weight.device, "dtype": layer.weight.dtype}
    if isinstance(layer, nn.Linear):
        down = nn.Linear(layer.in_features, rank, bias=False, **like)
        return down, nn.Linear(rank, layer.out_features, bias=bias, **like)
    names = ("kernel_size", "stride", "padding", "dilation", "padding_mode")
    same: dict[str, Any] = {name: getattr(layer, name) for name in names}
    kernel = nn.Conv2d(layer.in_channels, rank, bias=False, **same, **like)
    return kernel, nn.Conv2d(rank, layer.out_channels, 1, bias=bias, **like)


def freeze(model: nn.Module) -> None:
    """Freeze all parameters; each module remembers, also in a file, which of its own were frozen before."""
    for module in model.modules():
        if frozen := [name for name, p in module.named_parameters(recurse=False) if not p.requires_grad]:
            vars(module)["frozen_before"] = frozen
    model.requires_grad_(False)


def unfreeze(model: nn.Module) -> None:
    """Let all parameters train but those that were frozen before `freeze`."""
    model.requires_grad_(True)
    for module in model.modules():
        for name in vars(module).pop("frozen_before", []):
            module.get_parameter(name).requires_grad_(False)


def settled(model: nn.Module, kind: type[Masked | Adapted | Rounded | Shared]) -> nn.Module:
    """A model with plain layers, which have what was learned, in the place of all of a kind."""
    for name, layer in list(model.named_modules()):
        if isinstance(layer, kind):
            model = replace(model, name, layer.plain())
    return model


def copied(model: nn.Module) -> nn.Module:
    """A deep copy, also of a model that holds tensors which were computed, as `nn.utils.weight_norm` leaves them."""
    held = (value for module in model.modules() for value in vars(module).values())
    computed = [value for value in held if isinstance(value, Tensor) and not value.is_leaf]
    return copy.deepcopy(model, {id(value): value.detach().clone() for value in computed})


def parametrized(model: nn.Module) -> list[str]:
    """Names of the layers whose weights are computed anew for each forward pass."""
    return [name for name, layer in model.named_modules() if parametrize.is_parametrized(layer) or _hooks(layer)]


def unparametrized(model: nn.Module) -> nn.Module:
    """
    A model whose weights are numbers of their own: those that weight norm, spectral norm and the like compute.

    It computes what the model computes in eval mode. Where nothing is computed so, it is the model itself, else a copy.
    """
    if not parametrized(model):
        return model
    model, training = copied(model).eval(), model.training
    for layer in list(model.modules()):
        if parametrize.is_parametrized(layer):
            _settle(layer)
        for hook, remove in _hooks(layer):
            remove(layer, getattr(hook, "name", None) or hook._tensor_name)
    return model.train(training)


def _hooks(layer: nn.Module) -> list[tuple[Any, Callable[[nn.Module, str], Any]]]:
    """Hooks of a layer that compute a weight, and what takes each off."""
    hooks = layer._forward_pre_hooks.values()
    return [(hook, remove) for hook in hooks for kind, remove in HOOKED.items() if isinstance(hook, kind)]


def _settle(layer: Any) -> None:
    """Take a layer's parametrizations off; torch's own way to do so would change the class of its copies too."""
    with torch.no_grad():
        values = {name: getattr(layer, name).clone() for name in layer.parametrizations}
    free = {name: [p.requires_grad for p in how.parameters()] for name, how in layer.parametrizations.items()}
    del layer.parametrizations
    layer.__class__ = type(layer).__bases__[0]
    for name, value in values.items():
        if free[name]:
            layer.register_parameter(name, nn.Parameter(value, any(free[name])))
        else:
            layer.register_buffer(name, value)


class Masked(nn.Module):
    """A layer some of whose weights are held at 0."""

    mask: Tensor

    def __init__(self, layer: Layer, mask: Tensor) -> None:
        super().__init__()
        self.layer = layer
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        """As the layer, with weight x mask."""
        return functional_call(self.layer, {"weight": self.layer.weight * self.mask}, (x,))

    def plain(self) -> nn.Module:
        """The layer, with zeros for good."""
        with torch.no_grad():
            self.layer.weight.mul_(self.mask)
        return self.layer


class Adapted(nn.Module):
    """
    A frozen layer beside a thin one that learns what is to be added: W x + (alpha / R) * up(down(x)).

    Hu and others, LoRA, arXiv:2106.09685. `up` starts at zero, so that at first nothing is changed.
    """

    def __init__(self, layer: Layer, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.scale = alpha / rank
        self.down, self.up = thin(layer, rank, bias=False)  # weights (R, I) and (O, R)
        with torch.no_grad():
            drawn = torch.randn(self.down.weight.shape, generator=generator)
            self.down.weight.copy_(drawn * self.down.weight[0].numel() ** -0.5)
            self.up.weight.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """As the layer, plus what was learned."""
        return self.layer(x) + self.scale * self.up(self.down(x))

    def plain(self) -> nn.Module:
        """The layer with what was learned added to its weight."""
        with torch.no_grad():
            added = self.up.weight.flatten(1) @ self.down.weight.flatten(1)  # (O, R) @ (R, I) -> (O, I)
            self.layer.weight.add_(self.scale * added.view_as(self.layer.weight))
        return self.layer


class Rounded(nn.Module):
    """
    A layer that computes with the numbers that int8 leaves: weights by output channel, inputs as a whole.

    Gradients pass as if nothing were rounded (the straight-through estimator: Bengio and others, arXiv:1308.3432). The
    range of the inputs is followed while training, since an int8 model has it fixed (Jacob and others,
    arXiv:1712.05877).
    """

    low: Tensor
    high: Tensor

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """As the layer, with its weight and x rounded."""
        if self.training:
            self._follow(x.detach())
        return functional_call(self.layer, {"weight": rounded(self.layer.weight)}, (self._input(x),))

    def _follow(self, x: Tensor) -> None:
        low, high = (value.float() for value in x.aminmax())
        keep = torch.where(self.high > self.low, MEMORY, 0.0)  # the first batch counts whole
        self.low.lerp_(low.clamp(max=0), 1 - keep)
        self.high.lerp_(high.clamp(min=0), 1 - keep)

    def _input(self, x: Tensor) -> Tensor:
        scale = ((self.high - self.low) / 255).clamp(min=1e-8)
        zero = (-self.low / scale).round().clamp(0, 255).to(torch.int32)
        return torch.fake_quantize_per_tensor_affine(x.float(), scale, zero, 0, 255).to(x.dtype)

    def plain(self) -> nn.Module:
        """The layer, in float: the ranges of an int8 file are measured again when it is written."""
        return self.layer


def rounded(weight: Tensor) -> Tensor:
    """A weight (O, ...) in the 255 steps that int8 has for each output channel; its gradient passes unchanged."""
    scale = weight.detach().float().flatten(1).abs().amax(1).clamp(min=1e-8) / WHOLE  # (O,)
    zeros = torch.zeros(len(scale), dtype=torch.int32, device=weight.device)
    return torch.fake_quantize_per_channel_affine(weight.float(), scale, zeros, 0, -WHOLE, WHOLE).to(weight.dtype)


def similarity(features: Tensor) -> Tensor:
    """How alike the samples of a batch are in features (B, ...): (B, B), each row of length 1."""
    flat = features.flatten(1)
    return functional.normalize(flat @ flat.T)
