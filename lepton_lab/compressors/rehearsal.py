"""What a chain makes of a module, in shapes alone, before anything is trained."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from ..batches import computed
from ..chains import plan
from ..errors import SpecError
from ..spec import Spec
from .base import Work

if TYPE_CHECKING:
    from torch import nn


def rehearse(
    model: nn.Module, spec: Spec, shape: tuple[int, ...], classes: int, vocabulary: int, sample: Any = None
) -> nn.Module:
    """
    What a spec's chain makes of a module, in shapes alone: no sample is read and nothing is trained.

    Parameters
    ----------
    model
        On the CPU; it is copied, not changed.
    shape, classes, vocabulary
        Of the data, as the models of MODELS take them.
    sample
        Two samples as the model is called with them, where that is not one tensor (2, *shape).

    Raises
    ------
    SpecError
        If a link can't do its part, in the sentence that the run would end with.
    """
    model = copy.deepcopy(model).eval()
    sample = example(model, shape, vocabulary) if sample is None else sample
    scores = _scores(model, sample)
    for item in plan(spec):
        if item.round == 1:
            first = copy.deepcopy(model)
        work = Work(spec, shape, classes, vocabulary, sample, before=lambda: first, round=item.round)  # noqa: B023, called now
        compressor = item.compressor()
        model = compressor.apply(model, work).eval()
        if scores != (after := _scores(model, sample)):
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
            scores = computed(model, sample)
        # A detector gives as many rows of a picture as it finds objects.
        shapes = [tuple(part.shape[1:] if isinstance(sample, list) else part.shape) for part in scores]
        return f"scores of shape {', '.join(map(str, shapes))}"
    except Exception as error:  # of the user's code
        return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


def example(model: nn.Module, shape: tuple[int, ...], vocabulary: int) -> Any:
    """Two samples that a module takes, (2, *shape): tokens, or numbers of its own kind."""
    import torch

    if vocabulary:
        return torch.zeros(2, *shape, dtype=torch.long)
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    return torch.zeros(2, *shape, dtype=dtype)
