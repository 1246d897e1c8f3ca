"""Modules as people write them: code by hand, odd buffers, shared and frozen parts; trained as a plain loop would."""

import random

import numpy as np
import pytest
import torch
from helpers import until
from torch import nn

import lepton_lab as lab
from lepton_lab.models import MODELS
from lepton_lab.store.folder import RunFolder
from lepton_lab.store.trained import peers
from lepton_lab.strategies.modes import takes_channels_last


def samples(n=128, *shape, classes=4):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, *(shape or (8,)), generator=generator), torch.randint(0, classes, (n,), generator=generator)


class Flat(nn.Module):
    """As the LeNet of PyTorch's tutorial flattens, which takes activations as convolutions by hand give them."""

    def __init__(self):
        super().__init__()
        self.conv, self.out = nn.Conv2d(1, 4, 3), nn.Linear(4 * 36, 4)

    def forward(self, x):
        return self.out(self.conv(x).relu().view(x.size(0), -1))


@pytest.mark.slow
def test_a_view_after_a_convolution_trains_compresses_and_loads(tmp_path):
    part = samples(64, 1, 8, 8)
    run = lab.launch(lab.Spec(strategy="ddp", world=2, epochs=1), model=Flat, data=(part, part, part))
    assert run.wait(90) == "done", run.failure
    chain = [("prune", 0.5), ("distill", {"epochs": 1}), ("quantize", "int8")]
    child = lab.compress(run, chain, epochs=1, strategy="single", world=1)
    assert child.wait(120) == "done", child.failure
    assert lab.sensitivity(run, (0.5,), int8=False).samples == 64
    lab.export(run, tmp_path / "flat.lepton")
    assert len(lab.load(tmp_path / "flat.lepton").predict(part[0])) == 64
    advice = lab.advise(lab.Spec(), [1], ["single"], model=Flat, data=(part, part))
    assert advice.rows[0].cost.memory > 0


def test_only_rows_of_known_layers_have_kernels_in_channels_last():
    cnn = MODELS["cnn"]((1, 8, 8), 10)
    assert takes_channels_last(cnn) and takes_channels_last(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), cnn[-1]))
    assert not takes_channels_last(Flat()) and not takes_channels_last(MODELS["mlp"]((8,), 4))
    assert not takes_channels_last(nn.Sequential(Flat(), nn.Linear(4, 4)))
    assert not takes_channels_last(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3)))  # the loss may view it
    cnn[0].register_forward_hook(lambda module, inputs, output: output.view(len(output), -1).view(output.shape))
    assert not takes_channels_last(cnn)


class Odd(nn.Module):
    """Buffers that share memory, lie across it or have rare types; a weight that is a part of a larger tensor."""

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(8, 4)
        self.part = nn.Parameter(torch.randn(8, 8)[:, :4])
        self.register_buffer("positions", torch.randn(50, 8).unsqueeze(0).transpose(0, 1))
        self.register_buffer("same", torch.ones(1, 8).expand(4, 8))
        self.register_buffer("short", torch.ones(8, dtype=torch.int16))
        self.register_buffer("turn", torch.ones((), dtype=torch.cfloat))

    def forward(self, x):
        return self.out(x * self.short * self.same[0]) + x @ self.part * self.turn.real + 0 * self.positions.mean()


class Looked(nn.Module):
    """Gradients of an embedding's rows that were looked up alone."""

    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(50, 16, sparse=True), nn.Linear(16, 4)

    def forward(self, x):
        return self.out(self.embed(x).mean(1))


class Turned(nn.Module):
    def __init__(self):
        super().__init__()
        self.turn, self.out = nn.Parameter(torch.randn(8, dtype=torch.cfloat)), nn.Linear(8, 4)

    def forward(self, x):
        return self.out((x * self.turn).abs())


class Tied(nn.Module):
    """Two layers with one weight, and a pair behind them that can be cut."""

    def __init__(self):
        super().__init__()
        layers = [nn.Linear(8, 16), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)]
        self.net = nn.Sequential(*layers, nn.ReLU(), nn.Linear(4, 4))
        self.net[3].weight = self.net[1].weight

    def forward(self, x):
        return self.net(x)


class Frozen(nn.Module):
    """A batch norm that was set to evaluation, as one is for fine-tuning, beside one that learns."""

    def __init__(self):
        super().__init__()
        self.still, self.moving, self.out = nn.BatchNorm1d(8), nn.BatchNorm1d(8), nn.Linear(8, 4)
        self.still.eval()

    def forward(self, x):
        return self.out(self.moving(self.still(5 + x)))


def weights(run):
    values = [p.detach() for p in run.model().parameters()]
    return torch.cat([(torch.view_as_real(v) if v.is_complex() else v).flatten() for v in values])


@pytest.mark.parametrize(
    ("model", "strategies", "optimizer"),
    [
        (Odd, ("ddp", "parameter_server"), "adam"),
        pytest.param(Looked, ("ddp",), "adagrad", marks=pytest.mark.slow),
        pytest.param(Turned, ("ddp",), "adam", marks=pytest.mark.slow),
        pytest.param(Tied, ("tensor", "fsdp_tensor"), "sgd", marks=pytest.mark.slow),
    ],
)
def test_odd_parts_train_as_in_one_process(model, strategies, optimizer):
    x, y = samples(128)
    # The same numbers each time: Adagrad's first step is as long for a gradient that is nothing but rounding.
    words = torch.randint(0, 50, (128, 6), generator=torch.Generator().manual_seed(1))
    part = (words if model is Looked else x, y)
    spec = lab.Spec(epochs=1, optimizer=optimizer, lr=0.05, batch_size=32)
    alone = lab.launch(spec, model=model, data=part)
    assert alone.wait(90) == "done", alone.failure
    for strategy in strategies:
        run = lab.launch(spec.replace(strategy=strategy, world=2), model=model, data=part)
        assert run.wait(90) == "done", run.failure
        assert torch.allclose(weights(run), weights(alone), atol=2e-6), strategy


def test_a_sum_over_ranks_of_local_sgd_has_complex_weights_too():
    run = lab.launch(
        lab.Spec(strategy="local_sgd", world=2, epochs=1, optimizer="sgd", batch_size=32, options={"every": 1}),
        model=Turned,
        data=samples(128),
    )
    alone = lab.launch(lab.Spec(epochs=1, optimizer="sgd", batch_size=32), model=Turned, data=samples(128))
    assert (run.wait(90), alone.wait(90)) == ("done", "done"), run.failure
    assert torch.allclose(weights(run), weights(alone), atol=2e-6)


class Counting(nn.Module):
    """Its forward pass puts new tensors in the place of its buffers, and counts in an attribute."""

    def __init__(self):
        super().__init__()
        self.out, self.calls = nn.Linear(8, 4), 0
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("hidden", torch.zeros(()), persistent=False)

    def forward(self, x):
        if self.training:
            self.count, self.hidden, self.calls = self.count + 1, self.hidden + 2, self.calls + 1
        return self.out(x) * (1 + self.count + self.hidden + self.calls)


@pytest.mark.parametrize("options", [{}, {"staleness": 2}])
def test_a_parameter_server_evaluates_and_saves_the_buffers_that_its_worker_made(options):
    part = samples(64)
    spec = lab.Spec(strategy="parameter_server", world=2, epochs=2, batch_size=32, options=options)
    run = lab.launch(spec, model=Counting, data=(part, part, part))
    assert run.wait(90) == "done", run.failure
    model = run.model()
    assert (model.count, model.hidden, model.calls) == (4, 8, 4)
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model(part[0]), part[1])
    assert run.rows("eval")[-1]["loss"] == pytest.approx(float(loss), rel=1e-5)


@pytest.mark.slow
def test_a_batch_norm_set_to_evaluation_stays_so_and_others_train():
    part = samples(64)
    run = lab.launch(lab.Spec(epochs=2, batch_size=32), model=Frozen, data=(part, part, part))
    assert run.wait(90) == "done", run.failure
    model = run.model()
    assert model.still.num_batches_tracked == 0 and not model.still.running_mean.any()
    assert model.moving.num_batches_tracked == 4 and model.moving.running_mean.mean() > 1
    child = lab.compress(run, ["distill", ("quantize", {"aware": True})], epochs=1)
    assert child.wait(120) == "done", child.failure
    grandchild = lab.compress(child, ["distill"], epochs=1)
    assert grandchild.wait(90) == "done", grandchild.failure
    for made, batches in ((child, 8), (grandchild, 10)):
        model = made.model()
        assert model.still.num_batches_tracked == 0 and model.moving.num_batches_tracked == batches
    control = peers(RunFolder(child.folder))[1]
    assert control.still.num_batches_tracked == 0 and control.moving.num_batches_tracked == 8


def test_a_model_in_evaluation_as_a_whole_trains():
    net = nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 4)).eval()
    run = lab.launch(lab.Spec(epochs=1, batch_size=32), model=net, data=samples(64))
    assert run.wait(90) == "done", run.failure
    assert run.model()[0].num_batches_tracked == 2


class Remembering(nn.Module):
    """What it computes depends on more than its parameters: hidden buffers, counters and generators of its own."""

    def __init__(self):
        super().__init__()
        self.out, self.calls, self.seen = nn.Linear(8, 4), 0, []
        self.register_buffer("mean", torch.zeros(8), persistent=False)
        self.noise, self.chance, self.dice = (
            torch.Generator().manual_seed(1),
            random.Random(2),
            np.random.default_rng(3),
        )

    def forward(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0).detach()
            self.calls += 1
            self.seen = [*self.seen[-3:], self.calls]
            x = x + 0.1 * torch.randn(x.shape, generator=self.noise) + self.chance.random() + self.dice.random()
        return self.out(x - self.mean) / (1 + sum(self.seen) / 50)


def test_a_checkpoint_has_all_that_modules_remember(tmp_path):
    spec, part = lab.Spec(epochs=6, batch_size=32, optimizer="sgd", lr=0.1), samples(64)
    whole = lab.launch(spec, model=Remembering, data=(part, part, part))
    parted = lab.launch(
        spec.replace(epochs=100_000, eval_every=0, checkpoint_every=0), model=Remembering, data=(part, part, part)
    )
    assert whole.wait(90) == "done", whole.failure
    model = whole.model()
    assert model.calls == 12 and model.seen == [9, 10, 11, 12] and model.mean.any()
    until(lambda: len(parted.rows("train")) > 20)
    parted.stop()
    assert parted.wait(60) == "stopped", parted.failure
    steps = parted.facts["checkpoint"]
    fresh = parted.model()
    again = Remembering()
    assert fresh.calls == steps and "mean" not in fresh.state_dict()
    for _ in range(steps):
        torch.randn(32, 8, generator=again.noise), again.chance.random(), again.dice.random()
    assert torch.rand(4, generator=fresh.noise).equal(torch.rand(4, generator=again.noise))
    assert fresh.chance.random() == again.chance.random() and fresh.dice.random() == again.dice.random()
    parted.resume()
    until(lambda: parted.rows("train")[-1]["step"] > steps)
    parted.stop()
    assert parted.wait(60) == "stopped", parted.failure
    assert parted.model().calls == parted.facts["checkpoint"] > steps
