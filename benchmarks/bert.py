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
        # Both compute the same: all that can be gained is what Trainer itself takes of a step, far below a fifth.
        same = "random batches, the same under Hugging Face's Trainer"
        rows.append(Row(same, rates["ours"], unit, rates[name], at_least=1.2))
        each = "as each comes: ours alike lengths together, Trainer random batches"
        rows.append(Row(each, rates["buckets"], unit, rates[name]))
    return [*rows, Row("ours alike lengths together, ours random batches", rates["buckets"], unit, rates["ours"])]
