"""A rank that raises, dies or stands still, under every strategy: it is named, not a victim, and all ranks end."""

import signal

import psutil
import pytest
import torch
from helpers import numbered, ranks_of, until

import lepton_lab as lab
from lepton_lab.strategies import STRATEGIES

# One for each way in which ranks wait for each other; the others' ways are among these.
SOON = ("ddp", "fsdp", "hogwild", "local_sgd", "parameter_server", "pipeline", "tensor")
EVERY = sorted(set(STRATEGIES) - {"single"})
SEVERAL = [name if name in SOON else pytest.param(name, marks=pytest.mark.slow) for name in EVERY]
LOCAL = ("local_sgd", "diloco")


def spec(strategy):
    options = {"width": 32, "depth": 2, **({"every": 4} if strategy in LOCAL else {})}
    fields = {"epochs": 100_000, "batch_size": 32, "eval_every": 0, "checkpoint_every": 0, "timeout": 3}
    return lab.Spec(strategy=strategy, world=2, model="transformer", optimizer="momentum", options=options, **fields)


class Breaks(torch.nn.CrossEntropyLoss):
    """Raises in the process of the last rank, which under every strategy computes a loss."""

    def forward(self, output, target):
        from torch.distributed import get_rank

        self.seen = getattr(self, "seen", 0) + 1
        if get_rank() == 1 and self.seen == 20:
            raise ValueError("my own")
        return super().forward(output, target)


@pytest.mark.parametrize(
    "strategy",
    [
        name if name in ("ddp", "parameter_server", "pipeline") else pytest.param(name, marks=pytest.mark.slow)
        for name in EVERY
    ],
)
def test_an_error_of_a_rank_is_the_run_s(strategy):
    run = lab.launch(spec(strategy), loss=Breaks())
    assert run.wait(60) == "failed"
    assert (run.failure.rank, run.failure.type, run.failure.message) == (1, "ValueError", "my own")
    assert "test_faults.py" in run.failure.where


@pytest.mark.parametrize("strategy", SEVERAL)
@pytest.mark.parametrize("fault", ["killed", pytest.param("stands still", marks=pytest.mark.slow)])
def test_a_rank_that_ends_or_stands_still_is_named(strategy, fault):
    run = lab.launch(spec(strategy))
    until(lambda: len(run.rows("train")) > 20)
    ranks = numbered(ranks_of(run))
    ranks[1].send_signal(signal.SIGKILL if fault == "killed" else signal.SIGSTOP)
    assert run.wait(60) == "failed"
    assert run.failure.rank == 1, run.failure
    if fault == "stands still":
        assert run.failure.waits, run.failure  # the operation that rank 0 waited in
    assert all(not p.is_running() or p.status() == psutil.STATUS_ZOMBIE for p in ranks.values())
