"""
Objects in pictures, by the box around each.

Legend of the shape comments: B pictures, M objects in one of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..batches import call, described
from ..errors import SpecError
from ..losses import IGNORED
from ..pictures import Image, Picture
from .base import OwnLoss, Task
from .seeing import label

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from ..datasets import Data

BOXES, LABELS = "boxes", "labels"  # what torchvision calls them
FOUND, SCORES = "detections", "scores"
MORE = 2  # boxes that are drawn of those that were found, beyond as many as there are


class Detection(Task):
    """
    Boxes: samples are pairs of a picture (C, H, W) and {"boxes": (M, 4), "labels": (M,)}, as torchvision has them.

    The model is called with a list of pictures and one of such dicts, and gives a dict of losses, each a mean over
    pictures: their sum is minimised, and each has a curve, `loss_NAME`. In evaluations it gives what it found: a list
    of dicts of boxes, labels and scores, which metrics compare. There its losses are asked for by a second call, as in
    training, but for layers that normalise or drop out, and with the same random numbers each time. A model that gives
    losses in evaluations by itself is called once, and may name beside them what it found, as `detections`.
    """

    nests = True
    metrics = ("map50",)
    answers = "boxes"
    table_models = table_data = False
    output = FOUND

    def __init__(self, data: Data, loss: OwnLoss | None = None) -> None:
        pair = isinstance(data.example, (tuple, list)) and len(data.example) == 2
        pictures, targets = data.example if pair else ([], None)
        first = targets[0] if isinstance(targets, (tuple, list)) and targets else targets
        if not isinstance(first, Mapping) or not {BOXES, LABELS} <= {*first}:
            batches = "pairs of tensors" if data.example is None else described(data.example)
            raise SpecError(
                "task='detection': samples must be pairs (picture, {'boxes': (M, 4), 'labels': (M,)}), and batches are "
                f"{batches}"
            )
        super().__init__(dataclasses.replace(data, shape=tuple(getattr(pictures[0], "shape", ()))), loss)

    def split(self, batch: Any) -> tuple[Any, Any]:
        """Pictures and targets as lists, of which the padding is taken off."""
        pictures, targets = batch
        if isinstance(targets, Mapping):
            there = targets[LABELS] != IGNORED  # (B, M)
            targets = [{name: _own(values[i], there[i]) for name, values in targets.items()} for i in range(len(there))]
        pair = ([*pictures], [*targets])
        return pair, pair

    def question(self, batch: Any) -> list[Any]:
        """Pictures alone."""
        return self.split(batch)[0][0]

    def evaluated(self, model: Any, x: Any) -> Any:
        """Losses and what was found."""
        detections = call(model, x)
        if self.given is not None or isinstance(detections, Mapping):
            return detections
        with _learning(model, x[0][0].device):
            losses = call(model, x)
        return {**losses, FOUND: detections} if isinstance(losses, Mapping) else detections

    def loss(self, outputs: Any, batch: Any) -> Any:
        """The user's, or the model's own."""
        if self.given is not None:
            return self.given(outputs, batch)
        if not isinstance(outputs, Mapping):
            raise SpecError(
                f"the model gives {described(outputs)}, and task='detection' needs a dict of losses in training, as "
                "torchvision's detectors give it"
            )
        return {name: value for name, value in outputs.items() if name != FOUND}

    def scores(self, outputs: Any) -> Any:
        """What was found."""
        return outputs.get(FOUND) if isinstance(outputs, Mapping) else outputs if isinstance(outputs, list) else None

    def picture(self, x: Any, y: Any, output: Any) -> Picture:
        """The picture with the boxes of what is there, and those that were found, the surest of them."""
        (pixels,), (target,) = y
        true = [(corners, self._named(number)) for corners, number in _boxes(target)]
        (detections,) = self.scores(output) or ({BOXES: [], LABELS: [], SCORES: []},)
        sure: Any = detections.get(SCORES, [])
        order = sorted(range(len(sure)), key=lambda i: -float(sure[i]))[: len(true) + MORE]
        boxes = _boxes(detections)
        labelled = [(boxes[i][0], f"{self._named(boxes[i][1])} {float(sure[i]):.2f}") for i in order]
        return {"": Image(pixels, true, labelled)}

    def _named(self, number: int) -> str:
        return label(number, self.data) if self.data.classes else str(number)


def _own(value: Any, there: Tensor) -> Any:
    """What a picture has by some name, of its objects (M, ...) those that are there; such as its number is whole."""
    return value[there] if getattr(value, "shape", ())[:1] == there.shape else value


@contextmanager
def _learning(model: nn.Module, device: torch.device) -> Iterator[None]:
    """The model as in training for a time, but that it neither drops out nor learns, and draws the same each time."""
    import torch
    from torch.nn.modules.batchnorm import _NormBase
    from torch.nn.modules.dropout import _DropoutNd

    modes = {module: module.training for module in model.modules()}
    held = [(buffer, buffer.clone()) for buffer in model.buffers()]  # such as ranges of inputs that int8 is to have
    for module in modes:
        module.training = not isinstance(module, (_NormBase, _DropoutNd))
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        yield
    for module, training in modes.items():
        module.training = training
    for buffer, value in held:
        if not torch.equal(buffer, value):
            buffer.copy_(value)


def _boxes(objects: Mapping[str, Any]) -> list[Any]:
    """Corners and number of each object."""
    return [
        (tuple(corners.tolist()), int(number)) for corners, number in zip(objects[BOXES], objects[LABELS], strict=True)
    ]
