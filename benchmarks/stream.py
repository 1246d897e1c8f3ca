"""Samples that come one after the other: an IterableDataset against the same tensors in memory."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from torch.utils.data import IterableDataset

from . import ours
from .processes import image_data, take_turns
from .rows import Row

TITLE = "Small samples one after the other, batch 100, one process on two cores"


class Stream(IterableDataset[Any]):
    """Pictures in their order."""

    def __init__(self, x: Any, y: Any, classes: list[str]) -> None:
        self.x, self.y, self.classes = x, y, classes

    def __len__(self) -> int:
        return len(self.x)

    def __iter__(self) -> Iterator[Any]:
        return zip(self.x, self.y, strict=True)


def measure(quick: bool) -> list[Row]:
    """Rows of training rates of two models, on the same samples in memory and as a stream."""
    import lepton_lab as lab
    from lepton_lab import datasets

    data = datasets.load(lab.Spec(dataset=image_data()))
    x, y = (part[:20_000] for part in data.train)
    pair = (x / 255, y)
    rows = []
    for model, count in (("mlp", 20_000), ("cnn", 2_000)):
        spec = lab.Spec(model=model, batch_size=100, epochs=3, eval_every=0, checkpoint_every=0, strategy="single")
        held = tuple(part[:count] for part in pair)
        contenders = {"stream": Stream(*held, data.classes), "memory": held}
        rates = take_turns(
            {name: partial(_rate, spec, own) for name, own in contenders.items()},
            1 if quick else 5,
        )
        rows.append(Row(f"{model}, in memory", rates["stream"], "samples/s", rates["memory"], at_least=0.9))
    return rows


def _rate(spec: Any, data: Any) -> float:
    return ours.step_rate(ours.train(spec, 2, data=data))
