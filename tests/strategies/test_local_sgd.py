"""local_sgd and diloco: equal to one process where they must be, else to their rules by hand; steered, resumed."""

import pytest
import torch
from helpers import numbered, ranks_of, until
from torch import nn
from torch.nn import functional

import lepton_lab as lab
from lepton_lab.datasets import DATASETS
from lepton_lab.errors import SpecError
from lepton_lab.files import data_root

APART = ["local_sgd", "diloco"]
ONE = [pytest.param("local_sgd", marks=pytest.mark.slow), "diloco"]  # which keeps more between meetings
AS_AVERAGE = {"outer_lr": 1.0, "outer_momentum": 0.0}  # what makes diloco local_sgd


class Double(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.Tanh(), nn.Linear(20, 10)).double()

    def forward(self, x):
        return self.layers(x.double())


class Noisy(nn.Module):
    """Dropout and batch norm: random state of each rank, buffers that drift apart."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.out = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(512, 10))

    def forward(self, x):
        return self.out(self.norm(self.conv(x)).relu())


def trained(spec, model=Double):
    run = lab.launch(spec, model=model)
    assert run.wait(120) == "done", run.failure
    return run


def apart(a, b):
    a, b = (run.model().state_dict() for run in (a, b))
    return max((a[name] - b[name]).abs().max() for name in a)


def options(strategy, every):
    return {"every": every} | (AS_AVERAGE if strategy == "diloco" else {})


@pytest.mark.parametrize("accumulate", [pytest.param(1, marks=pytest.mark.slow), 3])
@pytest.mark.parametrize("strategy", APART)
def test_meeting_at_every_step_is_one_process_for_sgd(strategy, accumulate):
    """1437 samples in batches of 359: uneven parts, and a last batch of one sample, of which one rank has none."""
    spec = lab.Spec(epochs=2, batch_size=359, lr=0.1, optimizer="sgd", accumulate=accumulate)
    one = trained(spec.replace(strategy="single"))
    for world in (1, 2):
        other = trained(spec.replace(strategy=strategy, world=world, options=options(strategy, 1)))
        assert apart(one, other) < 1e-10


def by_hand(every, outer_lr, outer_momentum, batch_size, steps):
    """DiLoCo of two replicas in plain PyTorch, the outer optimizer being torch's own."""
    data = DATASETS["digits"](data_root(), 0)
    x, y = data.train
    x = (x.double() / 255 - data.mean[0]) / data.std[0]
    torch.manual_seed(0)
    outer = Double()
    replicas = [Double(), Double()]
    optimizers = [torch.optim.AdamW(replica.parameters(), lr=0.01, weight_decay=0.0) for replica in replicas]
    meeting = torch.optim.SGD(outer.parameters(), outer_lr, momentum=outer_momentum, nesterov=outer_momentum > 0)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0)).split(batch_size)
    for replica in replicas:
        replica.load_state_dict(outer.state_dict())
    for step, batch in enumerate(order[:steps], 1):
        half = len(batch) // 2
        for replica, optimizer, part in zip(replicas, optimizers, (batch[:half], batch[half:]), strict=True):
            optimizer.zero_grad()
            share = 2 * len(part) / len(batch)
            (functional.cross_entropy(replica(x[part]), y[part]) * share).backward()
            optimizer.step()
        if step % every == 0:
            for p, a, b in zip(outer.parameters(), *(r.parameters() for r in replicas), strict=True):
                p.grad = p.detach() - (a + b).detach() / 2
            meeting.step()
            for replica in replicas:
                replica.load_state_dict(outer.state_dict())
    a, b = (replica.state_dict() for replica in replicas)
    return {name: (a[name] + b[name]) / 2 for name in a}


@pytest.mark.parametrize(
    ("strategy", "outer_lr", "outer_momentum"), [("local_sgd", 1.0, 0.0), ("diloco", 0.7, 0.9), ("diloco", 0.5, 0.0)]
)
@pytest.mark.parametrize("every", [4, pytest.param(8, marks=pytest.mark.slow)])  # of 10 steps, so that the end is apart
def test_it_equals_the_same_written_by_hand(strategy, outer_lr, outer_momentum, every):
    told = {"outer_lr": outer_lr, "outer_momentum": outer_momentum} if strategy == "diloco" else {}
    spec = lab.Spec(strategy=strategy, world=2, epochs=1, batch_size=145, lr=0.01, optimizer="adamw")
    run = trained(spec.replace(options={"every": every, **told}))
    hand = by_hand(every, outer_lr, outer_momentum, 145, 10)
    for name, value in run.model().state_dict().items():
        assert (value - hand[name]).abs().max() < 1e-6, name  # inputs are scaled in float32


def figures(run):
    keys = ("rank", "step", "epoch", "split", "loss", "accuracy", "lr", "samples")
    rows = [row for row in run.rows() if row["kind"] in ("train", "eval")]
    return sorted(tuple(str(row.get(key)) for key in keys) for row in rows)


@pytest.mark.parametrize("strategy", ONE)
def test_stop_and_resume_is_bit_exact_also_between_two_meetings(strategy):
    spec = lab.Spec(strategy=strategy, world=2, epochs=6, batch_size=90, optimizer="adamw", lr=0.01, eval_every=2)
    spec = spec.replace(options={"every": 7}, schedule="cosine", warmup=5)
    whole = trained(spec, Noisy)
    parted = lab.launch(spec, model=Noisy)
    stops = []
    for least in (5, 30, 60):
        until(lambda least=least: max((row["step"] for row in parted.rows("train")), default=0) >= least)
        parted.stop()
        if parted.wait(60) == "done":
            break
        assert parted.state == "stopped", parted.failure
        stops.append(parted.facts["checkpoint"])
        parted.resume()
    assert parted.wait(120) == "done", parted.failure
    assert any(step % 7 for step in stops)
    assert apart(whole, parted) == 0
    assert figures(whole) == figures(parted)


class OneEach(nn.Module):
    """Each rank uses a layer of its own."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(64, 10), nn.Linear(64, 10)])

    def forward(self, x):
        import torch.distributed as dist

        return self.layers[dist.get_rank()](x.flatten(1))


@pytest.mark.slow
def test_ranks_that_step_other_parameters_save_and_go_on():
    spec = lab.Spec(strategy="local_sgd", world=2, epochs=6, batch_size=90, options={"every": 7})
    whole = trained(spec, OneEach)
    parted = lab.launch(spec, model=OneEach)
    until(lambda: len(parted.rows("train")) > 10)
    parted.stop()
    assert parted.wait(60) == "stopped", parted.failure
    parted.resume()
    assert parted.wait(60) == "done", parted.failure
    assert apart(whole, parted) == 0


@pytest.mark.parametrize("strategy", ONE)
def test_evaluation_sees_the_mean_and_leaves_the_ranks_apart(strategy):
    spec = lab.Spec(strategy=strategy, world=2, epochs=2, batch_size=90, options={"every": 50})
    looked, alone = trained(spec, Noisy), trained(spec.replace(eval_every=0, checkpoint_every=0), Noisy)
    assert apart(looked, alone) == 0
    data = DATASETS["digits"](data_root(), 0)
    x, y = data.val
    with torch.no_grad():
        loss = functional.cross_entropy(looked.model()((x.float() / 255 - data.mean[0]) / data.std[0]), y)
    assert looked.summary()["val_loss"] == pytest.approx(loss.item(), abs=1e-5)


@pytest.mark.parametrize("strategy", ONE)
def test_its_checkpoint_is_the_mean_that_others_go_on_from(strategy):
    spec = lab.Spec(strategy=strategy, world=2, epochs=200, batch_size=90, checkpoint_every=0, options={"every": 50})
    run = lab.launch(spec, model=Noisy)
    until(lambda: len(run.rows("train")) > 10)
    for name, world in (("ddp", 2), (strategy, 1), ("single", 1), (strategy, 2)):
        run.stop()
        assert run.wait(60) == "stopped", run.failure
        step = run.facts["checkpoint"]
        run.resume(strategy=name, world=world)
        until(lambda run=run, step=step: max((row["step"] for row in run.rows("train")), default=0) > step)
    run.stop()
    assert run.wait(60) == "stopped", run.failure


@pytest.mark.parametrize("strategy", ONE)
def test_commands_take_effect_at_the_same_step_on_ranks_that_seldom_meet(strategy):
    spec = lab.Spec(strategy=strategy, world=2, epochs=2000, batch_size=90, model="mlp", options={"every": 8})
    run = lab.launch(spec)
    until(lambda: len(run.rows("train")) > 20)
    for i in range(1, 30):
        run.set(lr=i / 1000)
        if i % 7 == 0:
            run.pause()
            run.set(lr=i / 2000)
            run.resume()
        if i % 5 == 0:
            run.checkpoint()
            until(lambda run=run, i=i: run.rows("train")[-1]["lr"] in (i / 1000, i / 2000))
    # So that no pause but the next one is to come: rank 0 says the state, and the other may go on before it.
    until(lambda: [row["lr"] for row in run.rows("train") if row["rank"] == 0][-1] == 29 / 1000)
    run.pause()
    until(lambda: run.state == "paused")
    step = run.facts["step"]
    run.set(lr=0.5)
    run.resume()
    until(lambda: run.rows("train")[-1]["lr"] == 0.5)
    run.stop()
    assert run.wait(60) == "stopped", run.failure
    rates = [{row["step"]: row["lr"] for row in run.rows("train") if row["rank"] == rank} for rank in (0, 1)]
    assert rates[0] == rates[1] and list(rates[0]) == list(range(1, len(rates[0]) + 1))
    assert rates[0][step] != 0.5 and rates[0][step + 1] == 0.5


@pytest.mark.parametrize("strategy", ONE)
@pytest.mark.slow
def test_it_converges(strategy):
    spec = lab.Spec(strategy=strategy, world=2, model="cnn", epochs=8, batch_size=64, lr=2e-3)
    run = trained(spec, None)
    assert run.summary()["val_accuracy"] > 0.9


@pytest.mark.parametrize("strategy", ONE)
def test_a_killed_or_stopped_rank_is_named(strategy, endless):
    spec = endless.replace(strategy=strategy, options={"every": 500}, timeout=3)
    for signal, kind in (("kill", "SIGKILL"), ("suspend", "Stuck")):
        run = lab.launch(spec)
        until(lambda run=run: len(run.rows("train")) > 5)
        ranks = ranks_of(run)
        getattr(numbered(ranks)[1], signal)()
        assert run.wait(60) == "failed"
        assert (run.failure.rank, run.failure.type) == (1, kind)
        until(lambda ranks=ranks: not any(rank.is_running() for rank in ranks))


@pytest.mark.parametrize("options", [{"every": 0}, {"outer_lr": 0}, {"outer_momentum": 1}, {"outer_momentum": -0.1}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(SpecError, match=rf"^options={{'{next(iter(options))}': .* must be"):
        lab.Spec(strategy="diloco", world=2, options=options)
