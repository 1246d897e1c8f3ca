"""Quantize: numbers of 8 or 16 bits in the file, and in the arithmetic where the scheme says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from ..batches import call
from ..errors import SpecError, needs, unknown
from ..spec import Spec
from .base import Compressor, Epochs, Knob, Work

if TYPE_CHECKING:
    from torch import nn

STATIC, DYNAMIC = "int8_static", "int8_dynamic"


class Quantize(Compressor):
    """
    Stores numbers in 8 or 16 bits: int8 (the same as int8_static), int8_dynamic, int8_weights or bf16.

    The file that the run ends with holds them; the module itself stays in float. With `aware` it is fine-tuned while it
    computes with the numbers that int8 leaves, so that int8_static loses less.
    """

    knob = Knob(
        "Arithmetic",
        "How the file computes",
        "scheme",
        choices={
            "int8": "int8, calibrated",
            "int8_dynamic": "int8, dynamic",
            "int8_weights": "int8 weights only",
            "bf16": "bfloat16",
        },
        without="32-bit floats",
    )
    last = True

    def __init__(
        self,
        *,
        scheme: Literal["int8", "int8_static", "int8_dynamic", "int8_weights", "bf16"] = "int8",
        calibration: Annotated[int, Field(ge=0)] = 256,
        keep: list[str] = [],  # noqa: B006, never changed
        aware: bool = False,
        epochs: Epochs = None,
    ) -> None:
        super().__init__(epochs=epochs)
        self.scheme = STATIC if scheme == "int8" else scheme
        self.calibration = calibration if self.scheme == STATIC else 0  # training samples that ranges are measured on
        self.keep, self.aware = list(keep), aware  # layers that stay in float; whether to train with rounding
        self.keeps_zeros = not aware  # zero is a number of every scheme, and training moves it
        self.trains = aware

    def forbids(self, after: Compressor) -> str:
        """Nothing comes after it."""
        return "quantize must be the last link, since what comes after it would change its numbers"

    def refuse(self, options: dict[str, Any], before: list[tuple[str, dict[str, Any]]], spec: Spec) -> str:
        """Options that the scheme has no use for."""
        link = f"compress={{'quantize': {options}}}"
        if self.scheme == STATIC and not self.calibration:
            return f"{link}: int8_static measures ranges on training samples; give calibration=256, or int8_dynamic"
        if self.keep and self.scheme not in (STATIC, DYNAMIC):
            return f"{link}: keep names layers that int8 leaves in floats, and {self.scheme} computes in floats anyway"
        if self.aware and self.scheme != STATIC:
            return f"{link}: aware=True trains for int8_static, whose rounding is known; leave it out for {self.scheme}"
        if self.epochs and not self.aware:
            return f"{link}: nothing is trained unless aware=True; leave epochs out"
        return ""

    def apply(self, model: nn.Module, work: Work) -> nn.Module:
        """With `aware`, each layer rounded as int8 rounds it; the ranges start from some batches."""
        if self.scheme in (STATIC, DYNAMIC):
            needs(f"scheme={self.scheme!r}", "onnxruntime", "onnx", "onnxscript")
        import torch

        from .layers import Rounded, replace, unshared, weighted

        names = [name for name, _ in weighted(model)]
        for name in self.keep:
            if name not in names:
                raise SpecError(f"compress={{'quantize': {{'keep': [{name!r}]}}}}: {unknown('layer', name, names)}")
        self.notes = {"scheme": self.scheme, "keep": self.keep}
        if not self.aware:
            return model
        for name, layer in unshared(model)[0].items():
            if name not in self.keep:
                model = replace(model, name, Rounded(layer))
        if work.draw is not None:
            with torch.no_grad():
                model.eval()
                for rounded in (part for part in model.modules() if isinstance(part, Rounded)):
                    rounded.train()  # it follows the range of its inputs
                for batch in work.draw(4):
                    call(model, batch.x)
        return model

    def finish(self, model: nn.Module) -> nn.Module:
        """The layers themselves, whose weights have learned to be rounded."""
        from .layers import Rounded, settled

        return settled(model, Rounded)
