"""Our own training, as a user launches it, and its rates as its events tell them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .processes import pinned

if TYPE_CHECKING:
    from lepton_lab import Run, Spec

SKIPPED = 3
"""First steps that no contender's rate counts: what they allocate and import lazily is a start-up cost."""


def train(spec: Spec, cores: int, **own: Any) -> Run:
    """Launch on the last `cores` cores, and wait; RuntimeError unless it ends as done."""
    import lepton_lab as lab

    with pinned(cores):
        run = lab.launch(spec, **own)
    if run.wait() != "done":
        raise RuntimeError(f"{run} {run.failure or ''}")
    return run


def step_rate(run: Run, after: int = SKIPPED) -> float:
    """Samples/s over all ranks, from the step `after` to the last, by the clock of rank 0."""
    rows = [row for row in run.rows("train") if row["step"] >= after]
    times = [row["t"] for row in rows if row["rank"] == 0]
    return sum(row["samples"] for row in rows if row["step"] > after) / (times[-1] - times[0])


def whole_rate(run: Run) -> float:
    """Samples/s from the first step to the state `done`: evaluations, checkpoints and the end of the processes too."""
    rows = [row for row in run.rows("train") if row["step"] >= SKIPPED]
    start = next(row["t"] for row in rows if row["rank"] == 0)
    return sum(row["samples"] for row in rows if row["step"] > SKIPPED) / (run.facts["t"] - start)
