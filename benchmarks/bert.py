"""A Hugging Face model over dicts of unequal length: our training against the same by hand, and against its Trainer."""

from __future__ import annotations

from typing import Any

from . import ours
from .bert_peers import BATCH, EPOCHS, model, sentences
from .processes import installed, pinned, python, take_turns
from .rows import Row

TITLE = f"BERT of 4 layers, {BATCH} sentences of 4 to 60 tokens a step, one process on one core"


def measure(quick: bool) -> list[Row]:
    """Rows of training rates; each contender trains on the same samples, on the same core."""
    import lepton_lab as lab

    spec = lab.Spec(strategy="single", batch_size=BATCH, epochs=EPOCHS, eval_every=0, checkpoint_every=0)
    data = sentences(600)

    def rate(collate: Any) -> float:
        return ours.step_rate(ours.train(spec, 1, model=model(), data=data, collate=collate))

    def peer(name: str) -> float:
        with pinned(1):
            return python("bert_peers", name)

    trainer = ["trainer"] if installed("accelerate") else []
    rates = take_turns(
        {
            "ours": lambda: rate(lab.Pad(bucket=False)),
            "buckets": lambda: rate(lab.Pad()),
            **{name: lambda name=name: peer(name) for name in ("by_hand", *trainer)},
        },
        1 if quick else 5,
    )
    unit = "samples/s"
    rows = [Row("random batches, by hand with the same collate", rates["ours"], unit, rates["by_hand"], at_least=0.95)]
    for name in trainer:
        # Both compute the same, which is 97 % of the loop by hand: no more than Trainer's own part can be gained.
        rows.append(Row("random batches, Hugging Face's Trainer", rates["ours"], unit, rates[name]))
        as_it_comes = "alike lengths together, as it comes, against Trainer as it comes"
        rows.append(Row(as_it_comes, rates["buckets"], unit, rates[name], at_least=1.2))
    return [*rows, Row("alike lengths together, against random batches", rates["buckets"], unit, rates["ours"])]
