"""What models share: ranges of their options, and the sentence for one that does not fit its samples."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..spec import SpecError

Size = Annotated[int, Field(ge=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]


def misfit(name: str, takes: str, shape: tuple[int, ...], classes: int, vocabulary: int) -> SpecError:
    """
    The one sentence for a model that can make nothing of the samples; it names one that can.

    Parameters
    ----------
    name, takes
        The model, and what it takes.
    shape, classes, vocabulary
        What the data are, as every model is told.
    """
    if vocabulary:
        texts = vocabulary == classes
        fits = "gpt" if texts else "transformer"
        found = f"tokens (whole numbers) of shape {shape}" + (", each to be predicted" if texts else "")
    else:
        fits = "transformer" if len(shape) == 3 and 0 not in shape else "mlp"
        found = f"numbers of shape {shape}"
    return SpecError(f"model={name!r}: takes {takes}, but the samples are {found}; take model={fits!r}")
