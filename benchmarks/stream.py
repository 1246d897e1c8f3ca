"""Samples that come one after the other: an IterableDataset against the same tensors in memory."""

from __future__ import annotations

from functools import partial
from typing import Any

from . import ours
from .mlp_peers import Stream
from .processes import image_data, pinned, python, take_turns
from .rows import Row

TITLE = "Small samples one after the other, batch 100, one process that trains on two cores"
HANDS = {"streamed": "by hand with a DataLoader", "streamed_ahead": "by hand with a DataLoader that reads ahead"}


class Named(Stream):
    """A stream that says how many samples it has, of what classes."""

    def __init__(self, x: Any, y: Any, classes: list[str]) -> None:
        super().__init__(x, y)
        self.classes = classes

    def __len__(self) -> int:
        return len(self.x)


def measure(quick: bool) -> list[Row]:
    """Rows of training rates of two models: on the same samples in memory, as a stream, and as one by hand."""
    import lepton_lab as lab
    from lepton_lab import datasets

    data = datasets.load(lab.Spec(dataset=image_data()))
    x, y = (part[:20_000] for part in data.train)
    pair = (x / 255, y)
    rows = []
    for model, count in (("mlp", 20_000), ("cnn", 2_000)):
        spec = lab.Spec(model=model, batch_size=100, epochs=10, eval_every=0, checkpoint_every=0, strategy="single")
        held = tuple(part[:count] for part in pair)
        contenders = {"stream": Named(*held, data.classes), "memory": held}
        mine = {name: partial(_rate, spec, own) for name, own in contenders.items()}
        hands = {name: partial(_by_hand, name, model) for name in HANDS}
        rates = take_turns(mine | hands, 1 if quick else 5)
        rows.append(Row(f"{model}, in memory", rates["stream"], "samples/s", rates["memory"], at_least=0.9))
        rows += [Row(f"{model}, {what}", rates["stream"], "samples/s", rates[name]) for name, what in HANDS.items()]
    return rows


def _by_hand(name: str, model: str) -> float:
    with pinned(2):
        return python("mlp_peers", name, image_data(), 1, model)


def _rate(spec: Any, data: Any) -> float:
    return ours.step_rate(ours.train(spec, 2, data=data))
