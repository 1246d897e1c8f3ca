"""Several targets of a sample, each with a loss of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..batches import described
from ..errors import SpecError, unknown
from ..losses import weigh
from .base import OwnLoss, Task
from .seeing import answer, inputs

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..datasets import Data
    from ..pictures import Picture


class Multitask(Task):
    """
    Several targets by name: samples are pairs (x, {name: target}), and the model gives {name: output}.

    Each is compared by cross entropy where targets are whole numbers, else by the squared error, as a mean over
    samples; their weighted sum is minimised, and each has a curve of its own, `loss_NAME`.

    Parameters
    ----------
    data, loss
        As of every task, see `lepton_lab.Task`; an own loss may give a dict of losses, too.
    weights
        Of losses in the sum, such as "angle=0.1, digit=2"; 1 of those that are not named.
    """

    table_models = table_data = False

    def __init__(self, data: Data, loss: OwnLoss | None = None, *, weights: str = "") -> None:
        super().__init__(data, loss)
        targets = self.targets(data.example)
        if not isinstance(targets, Mapping):
            batches = "pairs of tensors" if data.example is None else described(data.example)
            raise SpecError(f"task='multitask': samples must be pairs (x, {{name: target}}), and batches are {batches}")
        self.weights = _weights(weights, targets)

    def loss(self, outputs: Any, batch: Any) -> Any:
        """The user's, or the loss of each target."""
        if self.given is not None:
            return self.given(outputs, batch)
        targets = batch[1]
        if not isinstance(outputs, Mapping) or (missing := [name for name in targets if name not in outputs]):
            why = f"no {missing[0]!r} in it" if isinstance(outputs, Mapping) else "no dict"
            raise SpecError(f"the model gives {described(outputs)}, {why}: it must name {', '.join(targets)}")
        return {name: _compared(outputs[name], target) for name, target in targets.items()}

    def scores(self, outputs: Any) -> None:
        """Nothing that metrics could compare."""
        return None

    def reading(self, model: nn.Module) -> dict[str, Any]:
        """Which targets are classes, and which numbers."""
        targets = self.data.example[1].items()
        kinds = {name: "numbers" if target.is_floating_point() else "classes" for name, target in targets}
        return super().reading(model) | {"targets": kinds}

    def picture(self, x: Any, y: Any, output: Any) -> Picture:
        """The input, and of each target what it is and what was predicted."""
        numbered = dataclasses.replace(self.data, classes=[])  # names, if any, would be those of one target
        views = {**inputs(y[0], self.data)}
        for name, target in y[1].items():
            answers = answer(output[name][0], target[0], numbered)
            views |= {f"{name} {what}".strip(): view for what, view in answers.items()}
        return views


def _compared(output: Tensor, target: Tensor) -> Tensor:
    from torch.nn import functional

    from ..losses import squared_error

    return squared_error(output, target) if target.is_floating_point() else functional.cross_entropy(output, target)


def _weights(text: str, names: Mapping[str, Any]) -> dict[str, float]:
    """Weights as they were given, by name."""
    weights = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, _, number = part.partition("=")
        if name.strip() not in names:
            raise SpecError(f"options={{'weights': {text!r}}}: {unknown('target', name.strip(), names)}")
        try:
            weight = float(number)
        except ValueError:
            raise SpecError(f"options={{'weights': {text!r}}}: must be name=number, with commas between") from None
        weights[name.strip()] = weigh(weight, f"options={{'weights': {text!r}}}: {name.strip()}")
    return weights
