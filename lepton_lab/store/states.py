"""State that is no tensor of the model's: what modules keep beside those, and the generators of random numbers."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


def memory(module: nn.Module) -> dict[str, dict[str, Any]]:
    """
    What modules remember beside their state_dict, by path and name.

    That is buffers that are not persistent; and attributes that are numbers, texts, tensors, generators of random
    numbers, or lists, tuples and dicts of numbers and texts. Other objects can't be kept.
    """
    from torch import nn

    internal = vars(nn.Module())  # attributes that torch gives every module
    remembered: dict[str, dict[str, Any]] = {}
    for path, part in module.named_modules():
        buffers = {name: part._buffers[name] for name in part._non_persistent_buffers_set}
        own = {name: value for name, value in vars(part).items() if name not in internal}
        values = {name: _packed(value) for name, value in (own | buffers).items()}
        remembered[path] = {name: value for name, value in values.items() if value is not None}
    return remembered


def recall(module: nn.Module, remembered: dict[str, dict[str, Any]]) -> None:
    """Give modules back what `memory` found in them; what they no longer have is left out."""
    for path, part in module.named_modules():
        for name, (kind, value) in remembered.get(path, {}).items():
            present = getattr(part, name, None)
            if kind == "generator" and present is not None:
                present.set_state(value)
            elif kind == "random" and present is not None:
                present.setstate(value)
            elif kind == "numpy" and present is not None:
                present.bit_generator.state = value
            elif kind == "tensor":
                setattr(part, name, value.to(getattr(present, "device", value.device)))
            elif kind == "plain":
                setattr(part, name, value)


def _packed(value: Any) -> tuple[str, Any] | None:
    """A value's kind, and what a file of numbers and tensors can hold of it; None if that is nothing."""
    import numpy as np
    import torch

    if isinstance(value, torch.Tensor):
        plain = not isinstance(value, torch.nn.Parameter) and type(value) is torch.Tensor
        return ("tensor", value.detach().cpu().clone()) if plain else None
    if isinstance(value, torch.Generator):
        return "generator", value.get_state()
    if isinstance(value, random.Random):
        return "random", value.getstate()
    if isinstance(value, np.random.Generator):
        state = value.bit_generator.state
        return ("numpy", state) if _plain(state) else None
    return ("plain", value) if _plain(value) else None


def _plain(value: Any) -> bool:
    """Whether a value is a number or a text, or a list, tuple or dict of such."""
    if type(value) in (list, tuple):
        return all(map(_plain, value))
    if type(value) is dict:
        return all(type(key) in (str, int) and _plain(item) for key, item in value.items())
    return value is None or type(value) in (int, float, bool, complex, str)


def begin_all(number: int) -> None:
    """Begin every generator that a rank may draw from with a number."""
    import numpy as np
    import torch

    for begin in (random.seed, np.random.seed, torch.manual_seed):
        begin(number)


def seed_all(seed: int, stream: int, step: int = 0) -> None:
    """As `begin_all`, with another number for each seed, stream and step."""
    begin_all((seed * 1_000_003 + stream + 1 + step * 7919) % 2**32)


def random_state(device: Any) -> dict[str, Any]:
    """State of every generator that a rank may draw from."""
    import numpy as np
    import torch

    state: Any = np.random.get_state()
    name, keys, *rest = state
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": (name, torch.from_numpy(keys.astype("int64")), *rest),
        "python": random.getstate(),
    }


def set_random_state(state: dict[str, Any], device: Any) -> None:
    """Undo what was drawn since `random_state`."""
    import numpy as np
    import torch

    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype("uint32"), *rest))
    random.setstate(state["python"])
