"""Share: the weights of a layer take few values, and the file holds which, in few bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from ..errors import SpecError
from .base import Compressor, Epochs, Knob, Work

if TYPE_CHECKING:
    from torch import nn


class Share(Compressor):
    """
    Lets weights and biases of each layer take 2^bits values, which are trained on; 0 is one where a mask left zeros.

    As Deep Compression does it (Han and others, arXiv:1510.00149). The file that the run ends with holds the values,
    how far apart the weights lie that are not 0, and which value each has, all of it packed by LZMA. It computes in
    32-bit floats, no faster than the dense model.
    """

    knob = Knob(
        "Share",
        "How many values the weights of a layer take: the file is smaller, and computes as fast as it is",
        "bits",
        choices={2: "4 values", 3: "8 values", 4: "16 values", 6: "64 values"},
        without="each weight its own",
    )
    last = True
    keeps_zeros = True
    scheme = "shared"

    def __init__(self, *, bits: Annotated[int, Field(ge=1, le=8)] = 4, epochs: Epochs = None) -> None:
        super().__init__(epochs=epochs)
        self.bits = bits

    def forbids(self, after: Compressor) -> str:
        """Nothing comes after it."""
        return "share must be the last link, since what comes after it would change its numbers"

    def apply(self, model: nn.Module, work: Work) -> nn.Module:
        """Each layer with few values, found by k-means."""
        from .codebooks import Shared
        from .layers import replace, unshared

        layers, left = unshared(model)
        if not layers:
            raise SpecError("compress='share': the model has no Linear or Conv2d layer of its own")
        shared = {}
        for name, layer in layers.items():
            shared[name] = int((layer.weight != 0).sum())
            model = replace(model, name, Shared(layer, 2**self.bits))
        self.notes = {"bits": self.bits, "kept": shared, "left": left}
        return model

    def finish(self, model: nn.Module) -> nn.Module:
        """The layers themselves, whose numbers are the values."""
        from .codebooks import Shared
        from .layers import settled

        return settled(model, Shared)
