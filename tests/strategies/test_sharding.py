"""zero, fsdp and hybrid: who holds what, what is gathered together, and what can't be done."""

import itertools
import math
import pickle

import pytest
import torch
from helpers import numbered, ranks_of, until
from torch import nn

import lepton_lab as lab
from lepton_lab.datasets import DATASETS
from lepton_lab.errors import SpecError
from lepton_lab.files import data_root
from lepton_lab.models import MODELS
from lepton_lab.strategies import fsdp, zero

SHARDED = ("zero", "fsdp", "hybrid")
TIED = {"width": 32, "depth": 2, "tied": True}


@pytest.fixture(autouse=True)
def _room(monkeypatch):
    monkeypatch.setenv("LEPTON_LAB_MAX_WORKERS", "4")


def texts():
    """Fifty texts of sixteen tokens: the last batch of sixteen is of two."""
    x, y = (part[:50, :16].long() for part in DATASETS["pydocs"](data_root(), 0).train)
    return (x, y), (x[:8], y[:8]), (x[:8], y[:8])


def tied(shape, classes, vocabulary):
    """A GPT in float64, whose head is its embedding."""
    return MODELS["gpt"](shape, classes, vocabulary, **TIED).double()


class Exact(nn.Sequential):
    """An MLP in float64: optimizers that divide by small gradients make much of float32's rounding."""

    def __init__(self, shape, classes):
        super().__init__(nn.Flatten(), nn.Linear(shape[-1] * shape[-2], 16), nn.ReLU(), nn.Linear(16, classes))
        self.double()

    def forward(self, x):
        return super().forward(x.double())


def done(spec, **given):
    run = lab.launch(spec, **given)
    assert run.wait(120) == "done", run.failure
    return run


@pytest.mark.slow
def test_tied_weights_micro_batches_and_short_last_batches_come_out_as_in_one_process():
    spec = lab.Spec(batch_size=16, accumulate=3, optimizer="momentum", lr=0.01, clip=0.5, epochs=2, strategy="single")
    weights = done(spec, model=tied, data=texts()).model().state_dict()
    for strategy in SHARDED:
        ours = done(spec.replace(strategy=strategy, world=2), model=tied, data=texts()).model().state_dict()
        for name, value in weights.items():
            assert (value - ours[name]).abs().max() < 1e-10, (strategy, name)


OPTIMIZERS = ["sgd", "adagrad", "rmsprop", "adamax", "nadam"]
SPLIT = [("zero", "sgd"), ("zero", "nadam"), ("fsdp", "adamax")]  # no state, tensors and numbers of it, in each way
SPLIT += [
    pytest.param(*way, marks=pytest.mark.slow)
    for way in itertools.product(("zero", "fsdp"), OPTIMIZERS)
    if way not in SPLIT
]


@pytest.mark.parametrize(("strategy", "optimizer"), SPLIT)
def test_every_optimizer_can_be_split(strategy, optimizer, tiny):
    spec = tiny.replace(optimizer=optimizer, lr=0.01, epochs=1, strategy="single")
    weights = done(spec, model=Exact).model().state_dict()
    ours = done(spec.replace(strategy=strategy, world=2), model=Exact).model().state_dict()
    for name, value in weights.items():
        assert (value - ours[name]).abs().max() < 1e-10, name


def test_muon_under_zero_takes_the_same_matrices_as_in_one_process(tiny):
    spec = tiny.replace(model="transformer", optimizer="muon", epochs=1, strategy="single", options={"width": 16})
    weights = done(spec).model().state_dict()
    ours = done(spec.replace(strategy="zero", world=2)).model().state_dict()
    for name, value in weights.items():
        assert (value - ours[name]).abs().max() < 1e-3, name  # its five iterations enlarge rounding


@pytest.mark.parametrize("strategy", SHARDED)
def test_each_rank_writes_its_own_share_of_the_optimizers_state(strategy, tiny):
    run = done(tiny.replace(strategy=strategy, world=2, optimizer="adam"))
    path = run.store.checkpoint(run.facts["checkpoint"]) / "tensors" / ".metadata"
    saved = pickle.loads(path.read_bytes())
    held = {0: 0, 1: 0}
    for index, place in saved.storage_data.items():
        if index.fqn.endswith("exp_avg"):
            chunks = saved.state_dict_metadata[index.fqn].chunks
            chunk = next(chunk for chunk in chunks if chunk.offsets == index.offset)
            held[int(place.relative_path.split("_")[2])] += chunk.sizes.numel()
    total = sum(p.numel() for p in run.model().parameters())
    assert sum(held.values()) == total
    largest = 64 * 128 if strategy == "zero" else total / 2  # zero deals out whole tensors
    assert max(held.values()) == largest


@pytest.mark.slow  # exactness is in test_strategies
def test_parameters_gathered_in_bf16_learn_alike(tiny):
    small = {"width": 32, "depth": 2}
    spec = tiny.replace(model="transformer", epochs=3, world=2, strategy="fsdp", options=small)
    exact, rounded = done(spec), done(spec.replace(options={**small, "gather": "bf16"}))
    losses = [run.rows("eval")[-1]["loss"] for run in (exact, rounded)]
    assert losses[0] != losses[1] and losses[1] == pytest.approx(losses[0], rel=0.05)
    assert {p.dtype for p in rounded.model().parameters()} == {torch.float32}


def test_blocks_are_gathered_one_at_a_time_and_shared_weights_stay_outside():
    gpt = MODELS["gpt"]((16,), 50, 50, width=16, depth=3)
    assert fsdp.units(gpt) == list(gpt.blocks)
    gpt.blocks[1].mlp.up.weight = gpt.blocks[2].mlp.up.weight
    assert fsdp.units(gpt) == [gpt.blocks[0]]


def test_large_layers_of_a_users_own_lists_are_gathered_one_at_a_time():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(1024, 1024)
            self.body = nn.ModuleList([nn.Linear(1024, 1024), nn.Linear(8, 8), nn.Sequential(nn.Linear(2048, 1024))])

    with torch.device("meta"):
        net = Net()
    assert fsdp.units(net) == [net.body[0], net.body[2][0]]
    assert fsdp.units(MODELS["cnn"]((1, 8, 8), 10)) == []


def test_parameters_are_dealt_evenly():
    sizes = [5, 4, 3, 3, 2, 1]
    hands = zero.deal([nn.Parameter(torch.zeros(size)) for size in sizes], 2)
    assert [sum(p.numel() for p in hand) for hand in hands] == [9, 9]
    assert zero.deal([nn.Parameter(torch.zeros(1))], 3)[2] == []


def test_parameters_that_are_joined_keep_values_and_layout():
    kernel = nn.Parameter(torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last))
    bias = nn.Parameter(torch.randn(5, dtype=torch.float64))
    before = kernel.detach().clone(), bias.detach().clone()
    flats = zero.join([kernel, bias])
    assert [(flat.dtype, len(flat)) for flat in flats] == [(torch.float32, 48), (torch.float64, 5)]
    assert kernel.equal(before[0]) and bias.equal(before[1])
    assert kernel.is_contiguous(memory_format=torch.channels_last)
    flats[1].zero_()
    assert not bias.any()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"strategy": "fsdp", "optimizer": "muon"}, "whole matrices.*'zero'"),
        ({"strategy": "hybrid", "optimizer": "muon"}, "strategy='hybrid' gives.*'zero'"),
        ({"strategy": "fsdp", "precision": "fp16"}, "take precision='bf16'"),
        ({"strategy": "zero", "precision": "fp16"}, "take precision='bf16'"),
        ({"strategy": "fsdp", "options": {"gather": "fp8"}}, "must be 'fp32' or 'bf16'"),
        ({"strategy": "hybrid", "world": 3}, "take world=4, or strategy='fsdp'"),
        ({"strategy": "hybrid", "world": 4, "options": {"shard": 3}}, "take one of 1, 2, 4, or 0"),
        ({"strategy": "hybrid", "world": 4, "options": {"shard": -1}}, "must be at least 0"),
    ],
)
def test_what_cannot_be_split_is_refused_with_what_can(fields, said):
    with pytest.raises(SpecError, match=said):
        lab.Spec(**{"world": 2, **fields})


@pytest.mark.parametrize("fields", [{"optimizer": "muon"}, {"precision": "fp16"}])
@pytest.mark.parametrize("strategy", SHARDED)
def test_one_rank_can_do_what_one_process_can(strategy, fields, tiny):
    assert math.isfinite(done(tiny.replace(strategy=strategy, epochs=1, **fields)).summary()["loss"])


def test_a_scalar_parameter_is_refused_by_name(tiny):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(64, 10)
            self.scale = nn.Parameter(torch.tensor(1.0))

        def forward(self, x):
            return self.layer(x.flatten(1)) * self.scale

    with pytest.raises(SpecError, match="parameter 'scale' is a scalar.* vector of one number"):
        lab.launch(tiny.replace(strategy="fsdp", world=2), model=Scaled)
    assert done(tiny.replace(strategy="zero", world=2, epochs=1), model=Scaled)


@pytest.mark.parametrize("strategy", SHARDED)
def test_a_rank_that_dies_is_named_and_steering_reaches_the_optimizer(strategy, endless):
    run = lab.launch(endless.replace(strategy=strategy))
    until(lambda: len(run.rows("train")) > 5)
    run.set(lr=0.125, weight_decay=0.5)
    until(lambda: run.rows("train")[-1]["lr"] == 0.125)
    ranks = numbered(ranks_of(run))
    ranks[1].kill()
    assert run.wait(60) == "failed" and run.failure.rank == 1
    until(lambda: not any(p.is_running() and p.status() != "zombie" for p in ranks.values()))
