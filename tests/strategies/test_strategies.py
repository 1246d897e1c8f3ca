"""Every strategy on every model that it can split: the same parameters and curve as one process, through any resume."""

import itertools

import pytest
import torch
from helpers import until
from reference import SMALL, alone, data, figures, maker, trained

import lepton_lab as lab
from lepton_lab.errors import SpecError
from lepton_lab.strategies import STRATEGIES
from lepton_lab.strategies.modes import evaluating

EXACT = sorted(name for name, strategy in STRATEGIES.items() if strategy.exact)
SLOW = pytest.mark.slow
SPLITTING = ("ddp", "fsdp", "pipeline", "tensor")  # one of each: batches, weights, layers, and what is in them
KINDS = ("fsdp", "pipeline")  # parts of tensors, and parts of models; ddp is among those of each
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
# A key's bias has a gradient of nothing but rounding, which Adam blows up: in float32 it can't be compared.
STEPS = 10


@pytest.fixture(autouse=True)
def _room(monkeypatch):
    monkeypatch.setenv("LEPTON_LAB_MAX_WORKERS", "4")


def can(strategy, model, world, **fields):
    """Whether a strategy has a meaning for a model of the table; refusals name a reason."""
    options = SMALL.get(model, {})
    dataset = "pydocs" if model == "gpt" else "digits"
    try:
        lab.Spec(strategy=strategy, model=model, dataset=dataset, world=world, options=options, batch_size=16, **fields)
    except SpecError as error:
        assert str(error).count(".") < 4 and len(str(error)) > 20
        return False
    return True


WAYS = list(itertools.product(("mlp", "cnn", "transformer", "gpt"), (1, 2, 4), (torch.float64, torch.float32)))
WAYS.append(("rnn", 2, torch.float64))
# Models over two ranks in doubles, and convolutions in floats; micro-batches of the transformer are below.
SOON = [("mlp", 1, torch.float64), ("mlp", 2, torch.float64), ("cnn", 2, torch.float32)]


def soon(strategy, *way):
    """Whether a way is looked at in the quick run: of texts for those that split layers, and one that does not."""
    splits = strategy in KINDS or not STRATEGIES[strategy].trains_any_module
    return way in SOON or (way == ("gpt", 2, torch.float64) and splits)


@pytest.mark.parametrize(
    ("strategy", "model", "world", "dtype"),
    [way if soon(*way) else pytest.param(*way, marks=SLOW) for way in ((s, *way) for way in WAYS for s in EXACT)],
    ids=lambda value: str(value).removeprefix("torch."),
)
def test_ten_steps_equal_those_of_one_process(strategy, model, world, dtype):
    if not can(strategy, model, world):
        pytest.skip("refused, with the reason")
    weights, told = alone(model, dtype)
    run = trained(strategy, model, world, dtype)
    assert max(row["step"] for row in run.rows("train")) == STEPS
    for (name, a), b in zip(weights.items(), run.model().state_dict().values(), strict=True):
        assert (a - b).abs().max() < TOLERANCE[dtype], name
    for one, other in zip(told, figures(run), strict=True):
        assert one[:2] == other[:2]
        assert one[2:] == pytest.approx(other[2:], abs=TOLERANCE[dtype])


@pytest.mark.parametrize("strategy", [name if name in SPLITTING else pytest.param(name, marks=SLOW) for name in EXACT])
def test_micro_batches_and_a_short_last_batch_change_nothing(strategy):
    fields = {"accumulate": 3, "batch_size": 17, "epochs": 1}
    if not can(strategy, "transformer", 2, accumulate=3):
        fields["accumulate"] = 1  # a pipeline has micro-batches of its own
    weights, _ = alone("transformer", torch.float64, **fields)
    run = trained(strategy, "transformer", 2 if can(strategy, "transformer", 2) else 1, **fields)
    for (name, a), b in zip(weights.items(), run.model().state_dict().values(), strict=True):
        assert (a - b).abs().max() < 1e-10, name


class ByHand(lab.Group):
    """Data parallel, as a lesson writes it in a cell."""

    def _update(self, clip):
        for parameter in self.parameters:
            torch.distributed.all_reduce(parameter.grad)
            parameter.grad /= self.world
        super()._update(clip)


def test_a_strategy_of_the_user_s_own_is_launched_as_it_is():
    weights, _ = alone("mlp", torch.float64)
    spec = lab.Spec(world=2, optimizer="adamw", lr=0.01, clip=1.0, batch_size=16, epochs=1)
    run = lab.launch(spec, model=maker("mlp"), data=data("mlp"), strategy=ByHand)
    assert run.wait(60) == "done", run.failure
    assert run.spec.strategy == "cell:ByHand"
    for a, b in zip(weights.values(), run.model().state_dict().values(), strict=True):
        assert (a - b).abs().max() < 1e-10


class Merging(torch.nn.Linear):
    """A layer that does more at a change of mode, as adapters that merge for evaluation."""

    merged = False

    def train(self, mode=True):
        self.merged = not mode
        return super().train(mode)


def test_layers_are_told_that_an_evaluation_ends_and_frozen_ones_stay_so():
    model = torch.nn.Sequential(Merging(2, 2), torch.nn.BatchNorm1d(2))
    model[1].eval()
    with evaluating(model):
        assert model[0].merged and not model[0].training
    assert not model[0].merged and model[0].training and not model[1].training


def test_what_is_no_strategy_is_refused():
    with pytest.raises(SpecError, match="no subclass of lab.Single"):
        lab.launch(lab.Spec(), strategy=torch.nn.Linear)
    with pytest.raises(SpecError, match="world=3: one process alone"):
        lab.launch(lab.Spec(world=3), strategy=Alone)


class Alone(lab.Single):
    @classmethod
    def refuse(cls, spec):
        return f"world={spec.world}: one process alone" if spec.world > 1 else ""


@pytest.mark.parametrize("strategy", [name if name in KINDS else pytest.param(name, marks=SLOW) for name in EXACT])
def test_full_batches_are_those_of_one_process(strategy):
    fields = {"optimizer": "gd", "epochs": 3, "lr": 0.1}
    weights, _ = alone("mlp", torch.float64, **fields)
    run = trained(strategy, "mlp", 2 if can(strategy, "mlp", 2, optimizer="gd") else 1, **fields)
    for (name, a), b in zip(weights.items(), run.model().state_dict().values(), strict=True):
        assert (a - b).abs().max() < 1e-10, name


@pytest.mark.parametrize("most", [2, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.parametrize("strategy", [name if name in KINDS else pytest.param(name, marks=SLOW) for name in EXACT])
def test_a_run_goes_on_under_every_strategy_and_world(strategy, most):
    """Stopped in mid-epoch under each, it ends in the weights of a run that was never stopped."""
    fields = {"epochs": 20, "checkpoint_every": 0, "eval_every": 0, "lr": 1e-3}  # small, or rounding would grow
    weights, _ = alone("transformer", torch.float64, **fields)
    world = most if can(strategy, "transformer", most) else 1
    spec = lab.Spec(strategy=strategy, world=world, optimizer="adamw", clip=1.0, batch_size=16, **fields)
    run = lab.launch(spec, model=maker("transformer"), data=data("transformer"))
    run.pause()
    until(lambda: run.state == "paused")
    ways = [("single", 1), ("ddp", 2), (strategy, world), ("ddp", 1)]
    for name, ranks in ways:
        run.stop()
        assert run.wait(60) == "stopped", run.failure
        run.resume(strategy=name, world=ranks)
        step = run.facts["checkpoint"]
        until(lambda run=run, step=step: max((row["step"] for row in run.rows("train")), default=0) > step)
    assert run.wait(120) == "done", run.failure
    for (name, a), b in zip(weights.items(), run.model().state_dict().values(), strict=True):
        assert (a - b).abs().max() < 1e-10, name


def stops(moment):
    if moment.event == "step" and moment.step == 4:
        moment.stop()


def test_three_ranks_go_on_to_the_bit():
    """Sums of three are rounded by their order, which torch's DDP changes after the first step of each process."""
    spec = lab.Spec(model="mlp", strategy="ddp", world=3, batch_size=240, epochs=2, eval_every=0, checkpoint_every=0)
    whole, parted = lab.launch(spec), lab.launch(spec, hooks=[stops])
    assert parted.wait(60) == "stopped", parted.failure
    parted.resume()
    assert whole.wait(60) == "done" == parted.wait(60), (whole.failure, parted.failure)
    for name, value in whole.model().state_dict().items():
        assert torch.equal(value, parted.model().state_dict()[name]), name
