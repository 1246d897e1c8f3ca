"""Gradient compression under ddp: stated bounds, resume to the bit, fewer bytes by the kernel's own count."""

import functools
import math

import pytest
import torch
from helpers import until
from torch import nn

import lepton_lab as lab
from lepton_lab.errors import SpecError

LOSSY = ["fp16", "bf16", "powersgd", "topk"]


class Net(nn.Module):
    """Convolutions, batch norm, dropout, vectors and a scalar."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.out = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10))
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.out(self.norm(self.conv(x)).relu()) * self.scale


class Double(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 40), nn.Tanh(), nn.Linear(40, 10)).double()

    def forward(self, x):
        return self.layers(x.double())


class Forked(nn.Module):
    """Uses one of two layers in a step."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(64, 10), nn.Linear(64, 10)])
        self.calls = 0

    def forward(self, x):
        self.calls += self.training
        return self.layers[self.calls // 3 % 2](x.flatten(1))


def spec(compress, **fields):
    own = {"epochs": 1, "batch_size": 145, "lr": 0.01, "optimizer": "momentum", **fields}
    extra = own.pop("options", {})
    return lab.Spec(strategy="ddp", world=2, options={"compress": compress, **extra}, **own)


def trained(spec, **parts):
    run = lab.launch(spec, **parts)
    assert run.wait(180) == "done", run.failure
    return run


def weights(run):
    return torch.cat([value.flatten().double() for value in run.model().state_dict().values()])


@functools.cache
def uncompressed(lr):
    return weights(trained(spec("none", lr=lr, accumulate=3), model=Double))


# Numbers of 11 and 8 bits: a gradient is right to 2**-11 and 2**-8 of each number, and a sum is rounded once more.
@pytest.mark.parametrize(("compress", "bound"), [pytest.param("fp16", 2**-10, marks=pytest.mark.slow), ("bf16", 2**-7)])
def test_16_bit_gradients_stay_within_their_rounding(compress, bound):
    """Ten steps, the last of which is short and uneven, in micro-batches: what was learnt is right to `bound`."""
    start, exact = uncompressed(1e-12), uncompressed(0.01)
    run = trained(spec(compress, accumulate=3), model=Double)
    assert max(row["step"] for row in run.rows("train")) == 10
    error = (weights(run) - exact).norm() / (exact - start).norm()
    assert 0 < error < bound


@pytest.mark.parametrize(
    "options", [pytest.param({"topk": 1.0}, marks=pytest.mark.slow), {"powersgd_rank": 64}], ids=["topk", "powersgd"]
)
@pytest.mark.parametrize("accumulate", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_what_sends_all_is_exact(options, accumulate):
    """1437 samples in batches of 359: uneven parts, and a last batch of one sample, of which one rank has none."""
    compress = "topk" if "topk" in options else "powersgd"
    run = trained(uneven(compress, accumulate, options=options), model=Double)
    assert (whole(accumulate) - weights(run)).abs().max() < 1e-10


def uneven(compress, accumulate, **fields):
    fields |= {"batch_size": 359, "epochs": 3, "accumulate": accumulate, "optimizer": "adamw", "clip": 0.5}
    return spec(compress, **fields)


@functools.cache
def whole(accumulate):
    return weights(trained(uneven("none", accumulate), model=Double))


@pytest.mark.slow
def test_powersgd_finds_matrices_of_its_rank():
    """A batch of four samples gives gradients of rank four at most, some of it faint."""
    random = torch.Generator().manual_seed(0)
    data = torch.rand(80, 1, 8, 8, generator=random), torch.randint(10, (80,), generator=random)
    one = weights(trained(spec("none", batch_size=4), model=Double, data=data))
    off = {}
    for rank in (4, 2):
        run = trained(spec("powersgd", batch_size=4, options={"powersgd_rank": rank}), model=Double, data=data)
        off[rank] = (weights(run) - one).abs().max()
    assert off[4] < 1e-7 and off[2] > 1e-5


@pytest.mark.parametrize(  # which remembers most: in 16 bits it is nothing, and of topk what was not sent
    "compress", [kind if kind == "powersgd" else pytest.param(kind, marks=pytest.mark.slow) for kind in LOSSY]
)
def test_stop_and_resume_is_bit_exact(compress, monkeypatch):
    monkeypatch.setenv("LEPTON_LAB_MAX_WORKERS", "2")
    asked = spec(compress, epochs=4, batch_size=90, optimizer="adamw", options={"topk": 0.1})
    whole = trained(asked, model=Net)
    parted = lab.launch(asked, model=Net)
    for least in (5, 30):
        until(lambda least=least: max((row["step"] for row in parted.rows("train")), default=0) >= least)
        parted.stop()
        if parted.wait(60) == "done":
            break
        assert parted.state == "stopped", parted.failure
        parted.resume()
    assert parted.wait(120) == "done", parted.failure
    assert any("rewind" in row for row in parted.rows("note"))
    assert torch.equal(weights(whole), weights(parted))


@pytest.mark.slow
def test_a_run_goes_on_with_another_compression_or_none():
    asked = spec("powersgd", epochs=1000, batch_size=90, eval_every=0, checkpoint_every=0, options={"topk": 0.5})
    run = lab.launch(asked, model=Net)
    for options in ({"compress": "topk"}, {"compress": "powersgd", "powersgd_rank": 2}, {"compress": "none"}):
        until(lambda: max((row["step"] for row in run.rows("train")), default=0) > run.facts.get("checkpoint", 0) + 12)
        run.stop()
        assert run.wait(60) == "stopped", run.failure
        run.resume(options=options)
        assert run.spec.options["topk"] == 0.5  # those that were not named stay
    run.stop()
    assert run.wait(60) == "stopped", run.failure


@pytest.mark.parametrize("compress", [LOSSY[0], *(pytest.param(name, marks=pytest.mark.slow) for name in LOSSY[1:])])
def test_with_bf16_arithmetic(compress):
    assert math.isfinite(trained(spec(compress, precision="bf16"), model=Net).summary()["loss"])


@pytest.mark.slow
@pytest.mark.parametrize("compress", ["fp16", pytest.param("bf16", marks=pytest.mark.slow)])
def test_with_scaled_losses_and_with_parameters_left_unused(compress):
    run = trained(spec(compress, precision="fp16", epochs=3), model=Net)
    assert run.summary()["val_accuracy"] > 0.5
    unused = {"find_unused_parameters": True}
    exact = weights(trained(spec("none", options=unused), model=Forked))
    run = trained(spec(compress, options=unused), model=Forked)
    assert (weights(run) - exact).norm() / exact.norm() < 1e-2


@functools.cache
def sent(compress):
    """Bytes that a rank of the transformer sends a step, by the count of the kernel, in a run of a few small steps."""
    random = torch.Generator().manual_seed(0)
    data = torch.rand(64, 1, 8, 8, generator=random), torch.randint(10, (64,), generator=random)
    fields = {"model": "transformer", "batch_size": 4, "eval_every": 0, "checkpoint_every": 0}
    return trained(spec(compress, **fields), data=(data, data, data)).costs()[0]["bytes"]


@functools.cache
def learnt(compress, epochs):
    """Accuracy of the transformer in validation."""
    fields = {"model": "transformer", "batch_size": 64, "lr": 1e-3, "optimizer": "adam", "eval_every": 0}
    return trained(spec(compress, epochs=epochs, checkpoint_every=0, **fields)).summary()["val_accuracy"]


@pytest.mark.parametrize(
    ("compress", "times"),
    [
        ("fp16", 1.9),
        pytest.param("bf16", 1.9, marks=pytest.mark.slow),
        ("powersgd", 8),
        pytest.param("topk", 8, marks=pytest.mark.slow),
    ],
)
def test_a_rank_sends_fewer_bytes_by_the_count_of_the_kernel(compress, times):
    assert sent("none") > 4 * 202_058 > sent(compress)
    assert sent("none") / sent(compress) > times


@pytest.mark.slow
@pytest.mark.parametrize(("compress", "epochs"), [("fp16", 8), ("bf16", 8), ("powersgd", 8), ("topk", 30)])
def test_the_transformer_learns_as_well(compress, epochs):
    """With a hundredth of the numbers it takes longer: 0.82 after 8 epochs, where whole gradients give 0.96."""
    assert learnt(compress, epochs) > learnt("none", epochs) - 0.03


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({"compress": "zip"}, {}),
        ({"compress": "powersgd", "powersgd_rank": 0}, {}),
        ({"compress": "topk", "topk": 0}, {}),
        ({"compress": "topk", "topk": 1.5}, {}),
        ({"compress": "topk"}, {"precision": "fp16"}),
        ({"compress": "powersgd", "find_unused_parameters": True}, {}),
    ],
)
def test_what_has_no_meaning_is_refused(options, fields):
    with pytest.raises(SpecError, match="^options={'(compress|powersgd_rank|topk)': "):
        lab.Spec(strategy="ddp", world=2, options=options, **fields)
