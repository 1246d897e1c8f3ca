"""What a chain makes of a module, in shapes alone, before anything is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..chains import plan
from ..errors import SpecError
from ..spec import Spec
from .base import Work

if TYPE_CHECKING:
    from torch import nn


def rehearse(model: nn.Module, spec: Spec, shape: tuple[int, ...], classes: int, vocabulary: int) -> nn.Module:
    """
    What a spec's chain makes of a module, in shapes alone: no sample is read and nothing is trained.

    Parameters
    ----------
    model
        On the CPU; it is copied, not changed.
    shape, classes, vocabulary
        Of the data, as the models of MODELS take them.

    Raises
    ------
    SpecError
        If a link can't do its part, in the sentence that the run would end with.
    """
    import copy

    model = copy.deepcopy(model).eval()
    scores = _scores(model, example(model, shape, vocabulary))
    firsts: dict[int, nn.Module] = {}
    for item in plan(spec):
        first = firsts.setdefault(item.link, copy.deepcopy(model))
        work = Work(
            spec,
            shape,
            classes,
            vocabulary,
            example(model, shape, vocabulary),
            before=lambda first=first: first,  # type: ignore[misc]
            round=item.round,
        )
        compressor = item.compressor()
        model = compressor.apply(model, work).eval()
        if scores != (after := _scores(model, work.example)):
            raise SpecError(
                f"compress={item.name!r}: does not suit this model, which after it gives {after}, not {scores}; leave "
                "the link out, or have the model's code call its layers and not use their parameters or sizes itself"
            )
        model = compressor.finish(model).eval()
    return model


def _scores(model: nn.Module, sample: Any) -> str:
    """What comes out of a module, in words."""
    import torch

    try:
        with torch.no_grad():
            return f"scores of shape {tuple(model(sample).shape)}"
    except Exception as error:  # of the user's code
        return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


def example(model: nn.Module, shape: tuple[int, ...], vocabulary: int) -> Any:
    """Two samples that a module takes, (2, *shape): tokens, or numbers of its own kind."""
    import torch

    if vocabulary:
        return torch.zeros(2, *shape, dtype=torch.long)
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    return torch.zeros(2, *shape, dtype=dtype)
