"""What both asynchronous strategies promise: a bound that holds, commands at the same step, ends that name a rank."""

import time

import pytest
from helpers import gone, numbered, started, until
from torch import nn

import lepton_lab as lab
from lepton_lab.errors import SpecError

ASYNCHRONOUS = {"parameter_server": {"staleness": 3}, "hogwild": {"staleness": 3}}
SERVED = {**ASYNCHRONOUS, "parameter_server, synchronous": {}}


@pytest.fixture(params=ASYNCHRONOUS)
def spec(request, monkeypatch):
    """Two ranks that may be three steps apart."""
    monkeypatch.setenv("LEPTON_LAB_MAX_WORKERS", "4")
    options = ASYNCHRONOUS[request.param]
    return lab.Spec(model="mlp", strategy=request.param, options=options, world=2, epochs=8, batch_size=32)


@pytest.fixture(
    params=[name if name == "parameter_server" else pytest.param(name, marks=pytest.mark.slow) for name in SERVED]
)
def forever(request, endless):
    """A run that can only end by a failure or a stop, with a short patience."""
    return endless.replace(strategy=request.param.split(",")[0], options=SERVED[request.param], timeout=3)


def ages(run):
    """Gradients by age, over all ranks that tell."""
    counted = {}
    for row in run.rows("note"):
        for age, n in row.get("staleness", {}).items():
            counted[int(age)] = counted.get(int(age), 0) + n
    return counted


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_it_learns_and_no_gradient_is_older_than_the_bound(spec, world):
    run = lab.launch(spec.replace(world=world, clip=5.0, accumulate=2))
    assert run.wait(120) == "done", run.failure
    assert [row for row in run.rows("eval") if row["split"] == "val"][-1]["accuracy"] > 0.9
    steps = run.rows("train")[-1]["step"]
    counted = ages(run)
    assert sum(counted.values()) == world * steps
    assert max(counted) <= (world - 1) * (2 * spec.options["staleness"] + 1)
    told = next(row for row in reversed(run.rows("system")) if row["rank"] == 0)
    assert told["staleness_mean"] <= told["staleness_max"] == max(map(int, told["staleness"]))


@pytest.mark.slow
@pytest.mark.usefixtures("data_root")
def test_it_learns_mnist(spec):
    run = lab.launch(spec.replace(dataset="mnist", epochs=2, batch_size=128))
    assert run.wait(300) == "done", run.failure
    assert run.rows("eval")[-1]["accuracy"] > 0.95


class Slow(nn.Module):
    """A model whose rank 1 takes its time."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x):
        import torch.distributed as dist

        time.sleep(0.01 * dist.get_rank())
        return self.layer(x.flatten(1))


def test_a_fast_rank_waits_for_a_slow_one(spec):
    run = lab.launch(spec.replace(epochs=2), model=Slow)
    assert run.wait(120) == "done", run.failure
    rows = {(row["rank"], row["step"]): row["t"] for row in run.rows("train")}
    last = max(step for _, step in rows)
    bound = spec.options["staleness"]
    # A step is noted once it is done, so that the slow rank may have done one more than it has noted.
    assert all(rows[0, step] > rows[1, step - bound - 1] for step in range(bound + 2, last + 1))
    assert any(rows[0, step] < rows[1, step - 1] for step in range(2, last + 1))  # it was ahead
    assert max(ages(run)) <= 2 * bound + 1


def test_commands_take_effect_at_the_same_step_on_all_ranks(forever):
    run = lab.launch(forever, model=Slow)
    started(run)
    run.set(lr=0.125)
    until(lambda: all(any(row["lr"] == 0.125 for row in run.rows("train") if row["rank"] == r) for r in (0, 1)))
    first = [min(row["step"] for row in run.rows("train") if row["rank"] == r and row["lr"] == 0.125) for r in (0, 1)]
    assert first[0] == first[1]
    run.pause()
    until(lambda: run.state == "paused")
    time.sleep(forever.timeout + 1.5)  # longer than any rank waits for another
    last = [max(row["step"] for row in run.rows("train") if row["rank"] == r) for r in (0, 1)]
    assert last[0] == last[1]
    run.resume()
    until(lambda: run.rows("train")[-1]["step"] > last[0] + 5)
    run.stop()
    assert run.wait(30) == "stopped", run.failure
    last = [max(row["step"] for row in run.rows("train") if row["rank"] == r) for r in (0, 1)]
    assert last[0] == last[1] == run.facts["checkpoint"]


def test_a_run_goes_on_under_itself_and_under_other_strategies(spec):
    run = lab.launch(spec.replace(epochs=400, eval_every=0, checkpoint_every=0))
    for change in ({}, {"strategy": "single", "world": 1}, {"strategy": spec.strategy, "world": 2}):
        seen = max((row["step"] for row in run.rows("train")), default=0)
        until(lambda seen=seen: max((row["step"] for row in run.rows("train")), default=0) > seen + 20)
        run.stop()
        assert run.wait(60) == "stopped", run.failure
        run.resume(**change)
        assert run.state != "failed"
    run.stop()
    assert run.wait(60) == "stopped", run.failure
    losses = [row["loss"] for row in run.rows("train")]
    assert sum(losses[-20:]) < sum(losses[:20]) / 2
    assert {row["step"] for row in run.rows("train")} == set(range(1, run.facts["checkpoint"] + 1))


def normed():
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10))


def test_evaluations_and_checkpoints_have_the_buffers_of_rank_0(spec):
    run = lab.launch(spec.replace(epochs=3), model=normed)
    assert run.wait(60) == "done", run.failure
    saved = run.model().state_dict()
    assert saved["1.num_batches_tracked"] == run.rows("train")[-1]["step"]
    assert saved["1.running_mean"].abs().max() > 0.1
    assert run.rows("eval")[-1]["accuracy"] > 0.8


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_is_named(forever, victim):
    run = lab.launch(forever.replace(timeout=60))
    ranks = started(run)
    numbered(ranks)[victim].kill()
    assert run.wait(20) == "failed"
    assert (run.failure.rank, run.failure.type) == (victim, "SIGKILL")
    assert gone(ranks)


@pytest.mark.parametrize("victim", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_rank_that_stands_still_is_named(forever, victim):
    run = lab.launch(forever)
    ranks = started(run)
    numbered(ranks)[victim].suspend()
    assert run.wait(30) == "failed"
    assert (run.failure.rank, run.failure.type) == (victim, "Stuck")
    assert f"rank {1 - victim} waited for it in " in run.failure.message
    assert gone(ranks)


class Explodes(nn.Module):
    def __init__(self, victim):
        super().__init__()
        self.layer = nn.Linear(64, 10)
        self.victim, self.seen = victim, 0

    def forward(self, x):
        import torch.distributed as dist

        self.seen += 1
        if self.seen == 5 and dist.get_rank() == self.victim:
            raise ValueError("a wheel came off")
        return self.layer(x.flatten(1))


@pytest.mark.parametrize("victim", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_an_exception_in_a_rank_is_told(forever, victim):
    run = lab.launch(forever.replace(timeout=60), model=lambda: Explodes(victim))
    assert run.wait(60) == "failed"
    assert (run.failure.rank, run.failure.type, run.failure.message) == (victim, "ValueError", "a wheel came off")


def test_a_bound_below_0_is_refused():
    for strategy in ASYNCHRONOUS:
        with pytest.raises(SpecError, match=r"'staleness': -1\}: must be"):
            lab.Spec(strategy=strategy, options={"staleness": -1})
        with pytest.raises(SpecError, match=r"'staleness': 'much'\}: must be"):
            lab.Spec(strategy=strategy, options={"staleness": "much"})
