"""The loop: the same result for any world, after a stop, and against plain PyTorch."""

import os
import signal
import time

import pytest
import torch
from helpers import PLAIN, Noisy, ranks_of, until
from torch import nn
from torch.nn import functional

import lepton_lab as lab
from lepton_lab.datasets import DATASETS
from lepton_lab.engine.feed import Feed
from lepton_lab.files import data_root
from lepton_lab.optimizers import OPTIMIZERS
from lepton_lab.strategies import STRATEGIES

pytestmark = pytest.mark.usefixtures("one_core")


def figures(run):
    keys = ("rank", "step", "epoch", "split", "loss", "accuracy", "lr", "samples")
    rows = [row for row in run.rows() if row["kind"] in ("train", "eval")]
    return sorted(tuple(str(row.get(key)) for key in keys) for row in rows)


@pytest.mark.parametrize(("optimizer", "world"), [("adamw", 2), pytest.param("momentum", 1, marks=pytest.mark.slow)])
def test_stop_and_resume_equals_an_uninterrupted_run_bit_for_bit(optimizer, world):
    spec = lab.Spec(world=world, epochs=4, batch_size=90, optimizer=optimizer, lr=0.01, schedule="cosine", warmup=5)
    whole = lab.launch(spec, model=Noisy)
    assert whole.wait(120) == "done"
    parted = lab.launch(spec, model=Noisy)
    for least in (5, 30):
        until(lambda least=least: max((row["step"] for row in parted.rows("train")), default=0) >= least)
        parted.stop()
        assert parted.wait(60) == "stopped"
        parted.resume()
    assert parted.wait(120) == "done"
    assert sum("rewind" in row for row in parted.rows("note")) == 2 * world
    for a, b in zip(whole.model().state_dict().values(), parted.model().state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert figures(whole) == figures(parted)


def test_a_crash_after_a_checkpoint_repeats_the_lost_steps_exactly():
    spec = lab.Spec(epochs=12, batch_size=90, lr=0.01, checkpoint_every=2)
    whole = lab.launch(spec, model=Noisy)
    assert whole.wait(120) == "done"
    parted = lab.launch(spec, model=Noisy)
    until(lambda: parted.facts.get("checkpoint"))
    for rank in ranks_of(parted):
        os.kill(rank.pid, signal.SIGKILL)
    assert parted.wait(60) == "failed"
    parted.resume()
    assert parted.wait(120) == "done"
    for a, b in zip(whole.model().state_dict().values(), parted.model().state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert figures(whole) == figures(parted)


class Double(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.Tanh(), nn.Linear(20, 10)).double()

    def forward(self, x):
        return self.layers(x.double())


def weights_after(spec, model=Double):
    run = lab.launch(spec, model=model)
    assert run.wait(60) == "done", run.failure
    return run.model().state_dict()


@pytest.mark.parametrize("accumulate", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_two_ranks_equal_one_process_to_rounding(accumulate):
    spec = lab.Spec(epochs=1, batch_size=145, lr=0.01, optimizer="adamw", clip=0.5, accumulate=accumulate)  # 10 steps
    one = weights_after(spec.replace(strategy="single"))
    for world in (1, 2):
        other = weights_after(spec.replace(strategy="ddp", world=world))
        for a, b in zip(one.values(), other.values(), strict=True):
            assert (a - b).abs().max() < 1e-10


def test_the_loop_equals_one_written_by_hand():
    spec = lab.Spec(epochs=2, batch_size=100, lr=0.05, optimizer="momentum", schedule="constant")
    data = DATASETS["digits"](data_root(), 0)
    torch.manual_seed(0)
    model = Double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    x, y = data.train
    x = (x.double() / 255 - data.mean[0]) / data.std[0]
    for epoch in range(2):
        for part in torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch)).split(100):
            optimizer.zero_grad()
            functional.cross_entropy(model(x[part]), y[part]).backward()
            optimizer.step()
    for a, b in zip(model.state_dict().values(), weights_after(spec).values(), strict=True):
        assert (a - b).abs().max() < 1e-6  # inputs are scaled in float32


def test_full_batch_gradient_descent_takes_one_step_an_epoch_whatever_the_micro_batch():
    spec = lab.Spec(epochs=3, optimizer="gd", lr=0.1)
    a, b = weights_after(spec.replace(batch_size=2000)), weights_after(spec.replace(batch_size=100, world=2))
    for one, other in zip(a.values(), b.values(), strict=True):
        assert (one - other).abs().max() < 1e-10
    run = lab.runs()[0]
    assert max(row["step"] for row in run.rows("train")) == 3


class Pairs(torch.utils.data.Dataset):
    """A Dataset that is no tensor, read through a DataLoader."""

    def __init__(self, n):
        generator = torch.Generator().manual_seed(n)
        self.x, self.y = torch.randn(n, 4, generator=generator), torch.randint(0, 3, (n,), generator=generator)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], int(self.y[i])


def linear(shape, classes):
    torch.manual_seed(1)
    return nn.Linear(shape[0], classes)


def test_a_dataset_through_a_loader_equals_the_same_tensors():
    train, test = Pairs(130), Pairs(40)
    spec = lab.Spec(epochs=2, batch_size=32, world=2)
    ends = []
    for data in ((train, test), ((train.x, train.y), (test.x, test.y))):
        run = lab.launch(spec, model=linear, data=data)
        assert run.wait(60) == "done", run.failure
        ends.append((run.model().state_dict(), figures(run)))
    assert ends[0][1] == ends[1][1]
    assert all(torch.equal(a, b) for a, b in zip(ends[0][0].values(), ends[1][0].values(), strict=True))


class Jittered(Pairs):
    """Random transforms, which must not depend on rank, worker or resume."""

    def __getitem__(self, i):
        time.sleep(1e-4)
        return self.x[i] + torch.rand(4), int(self.y[i])


@pytest.mark.slow
def test_random_transforms_are_the_same_for_any_world_and_after_a_resume():
    spec = lab.Spec(epochs=20, batch_size=32, eval_every=0, checkpoint_every=0)
    ends = []
    for world in (1, 2, 2):
        run = lab.launch(spec.replace(world=world), model=linear, data=(Jittered(130), Pairs(40)))
        if len(ends) == 2:
            until(lambda run=run: len(run.rows("train")) > 20)
            run.stop()
            assert run.wait(60) == "stopped"
            run.resume()
        assert run.wait(60) == "done", run.failure
        ends.append(run.model().state_dict())
    for one, two, resumed in zip(*(end.values() for end in ends), strict=True):
        assert torch.allclose(one, two, atol=1e-5)
        assert torch.equal(two, resumed)


@pytest.mark.parametrize("outputs", [10, 20])
def test_more_outputs_than_labels_are_counted_right(outputs):
    x, y = torch.randn(60, 4), torch.randint(0, 3, (60,), dtype=torch.int32)
    data = torch.utils.data.TensorDataset(x, y)
    run = lab.launch(lab.Spec(epochs=1, batch_size=16, world=2), model=nn.Linear(4, outputs), data=(data, data))
    assert run.wait(60) == "done", run.failure
    last = run.rows("eval")[-1]
    assert len(last["confusion"]) == outputs and sum(map(sum, last["confusion"])) == 60
    right = sum(last["confusion"][i][i] for i in range(outputs))
    assert right / 60 == pytest.approx(last["accuracy"])


def test_a_single_output_has_no_accuracy():
    x, y = torch.randn(60, 4), torch.randint(0, 2, (60,))
    loss = lambda output, target: functional.binary_cross_entropy_with_logits(output[:, 0], target.float())  # noqa: E731
    run = lab.launch(lab.Spec(epochs=1, batch_size=16), model=nn.Linear(4, 1), data=((x, y), (x, y)), loss=loss)
    assert run.wait(60) == "done", run.failure
    assert not any("accuracy" in row for row in run.rows("train") + run.rows("eval"))


class Partly(nn.Module):
    """Does not use all its parameters."""

    def __init__(self):
        super().__init__()
        self.used, self.idle = nn.Linear(64, 10), nn.Linear(64, 10)

    def forward(self, x):
        return self.used(x.flatten(1))


def test_a_model_with_unused_parameters_trains_when_told_so():
    spec = lab.Spec(epochs=1, world=2, batch_size=256)
    run = lab.launch(spec, model=Partly)
    assert run.wait(60) == "failed" and "find_unused_parameters" in run.failure.message
    run = lab.launch(spec.replace(options={"find_unused_parameters": True}), model=Partly)
    assert run.wait(60) == "done"


def test_a_last_batch_smaller_than_the_world_counts_each_sample_once():
    x, y = torch.randn(33, 4), torch.zeros(33, dtype=torch.long)  # all alike: a sample too many would show as right
    evals, model = [], nn.Linear(4, 3)
    for world in (1, 2):
        spec = lab.Spec(epochs=1, batch_size=16, world=world)
        run = lab.launch(spec, model=model, data=((x, y), (x[:1], y[:1]), (x[:3], y[:3])))
        assert run.wait(60) == "done", run.failure
        assert sum(row["samples"] for row in run.rows("train")) == 33
        evals.append([(row["samples"], row["accuracy"]) for row in run.rows("eval")])
    assert [samples for samples, _ in evals[0]] == [33, 1, 3]
    assert evals[0] == [(n, pytest.approx(accuracy)) for n, accuracy in evals[1]]


def test_a_regression_trains_with_squared_error_and_shows_no_accuracy():
    x = torch.randn(200, 3)
    run = lab.launch(
        lab.Spec(epochs=30, batch_size=20, lr=0.05), model=nn.Linear(3, 1), data=((x, x.sum(1, keepdim=True)),) * 2
    )
    assert run.wait(60) == "done", run.failure
    assert run.rows("eval")[-1]["loss"] < 0.01
    assert not any("accuracy" in row for row in run.rows("train") + run.rows("eval"))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_trains(precision):
    run = lab.launch(lab.Spec(precision=precision, epochs=3, model="mlp", lr=0.003))
    assert run.wait(90) == "done", run.failure
    assert run.rows("eval")[-1]["accuracy"] > 0.8


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_every_optimizer_lowers_the_loss(optimizer):
    lr = {"gd": 0.5, "sgd": 0.1, "momentum": 0.05, "nesterov": 0.05, "adagrad": 0.05, "muon": 0.02}.get(
        optimizer, 0.003
    )
    run = lab.launch(lab.Spec(model="mlp", optimizer=optimizer, lr=lr, epochs=4 if optimizer != "gd" else 30))
    assert run.wait(90) == "done", run.failure
    losses = [row["loss"] for row in run.rows("eval") if row["split"] == "val"]
    assert losses[-1] < 0.8 * losses[0] or losses[-1] < 0.2


@pytest.mark.parametrize("model", sorted(PLAIN))
@pytest.mark.parametrize("dataset", ["digits", "blobs", "pydocs"])
def test_every_model_takes_a_step_on_every_embedded_data_set_or_says_why_not(model, dataset):
    small = {"width": 16, "depth": 1} if model in ("transformer", "gpt", "rnn") else {}
    spec = lab.Spec(model=model, dataset=dataset, epochs=1, batch_size=512, options=small)
    fits = {"digits": set(PLAIN) - {"gpt", "lenet"}, "blobs": {"mlp"}, "pydocs": {"gpt", "rnn"}}[dataset]
    if model in fits:
        run = lab.launch(spec)
        assert run.wait(60) == "done", run.failure
    else:
        with pytest.raises(lab.SpecError) as caught:
            lab.launch(spec)
        assert any(repr(name) in str(caught.value) for name in fits)


def test_every_rank_and_world_slices_the_same_global_batches():
    data = DATASETS["digits"](data_root(), 0)
    spec = lab.Spec(batch_size=50, accumulate=2, world=2)

    def steps(world):
        ranks = []
        for rank in range(world):
            strategy = STRATEGIES["ddp"](spec)
            strategy.part, strategy.parts, strategy.device = rank, world, torch.device("cpu")
            feed = Feed(data.train, data, spec, strategy)
            ranks.append([[(batch.y, batch.share) for batch in batches] for batches, _ in feed.epoch(3)])
        return ranks

    one, two = steps(1), steps(2)
    for whole, left, right in zip(*one, *two, strict=True):
        assert sum(share for _, share in whole) == pytest.approx(1)
        assert sum(share for _, share in left + right) == pytest.approx(2)
        for (y, _), (a, _), (b, _) in zip(whole, left, right, strict=True):
            assert torch.equal(y, torch.cat([a, b]))
