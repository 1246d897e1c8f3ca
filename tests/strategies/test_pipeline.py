"""The pipeline: how models are cut, in what order ranks compute, and that every schedule equals one process."""

import re
from itertools import pairwise

import psutil
import pytest
import torch
from helpers import PLAIN, numbered, ranks_of, until
from reference import alone, figures, trained
from torch import nn

import lepton_lab as lab
from lepton_lab.errors import SpecError
from lepton_lab.models import MODELS
from lepton_lab.strategies import stages
from lepton_lab.strategies.timetable import PIPELINES, UNITS, bubble, order, timeline
from lepton_lab.tables import keywords
from lepton_lab.tasks import Paired
from lepton_lab.tasks.criteria import Unaligned

FIT = [  # schedules and models with a layer for every stage of two ranks
    (schedule, model)
    for schedule in PIPELINES
    for model in ("mlp", "cnn", "transformer")
    if (schedule, model) != ("interleaved", "mlp")
]
SIZES = [(2, 2), (2, 8), (4, 4), (4, 16)]  # ranks, micro-batches


@pytest.fixture(autouse=True)
def _room(monkeypatch):
    monkeypatch.setenv("LEPTON_LAB_MAX_WORKERS", "4")


def equal(run, weights, tolerance=1e-10):
    got = run.model().state_dict()
    return all((weights[name] - got[name]).abs().max() < tolerance for name in weights)


def options(schedule, **more):
    return {"pipeline_schedule": schedule, **more}


class Chain(nn.Sequential):
    """Six layers with weights in float64, more than enough for any schedule on two ranks."""

    def __init__(self, *after):
        layers = [layer for _ in range(5) for layer in (nn.Linear(64, 64), nn.Tanh())]
        super().__init__(nn.Flatten(), *layers, nn.Linear(64, 10), *after)
        self.double()
        self.register_forward_pre_hook(lambda _, inputs: (inputs[0].double(),))


class Views(Paired):
    """Two rows of each sample, which one target is of."""

    plain = False
    everywhere = True

    def prepare(self, batch, generator):
        return torch.stack([batch[0], -batch[0]], 1), batch[1]

    def split(self, batch):
        return batch[0].flatten(0, 1), batch[1]

    def criterion(self, total=None):
        return Unaligned(both, None, total)


def both(output, target):
    return nn.functional.cross_entropy(output.view(-1, 2, 10).sum(1), target)


# -- what it computes


@pytest.mark.parametrize(
    ("schedule", "model"),
    [pytest.param(*way, marks=[pytest.mark.slow] * (way[0] not in ("1f1b", "zero_bubble"))) for way in FIT],
)
def test_every_schedule_equals_one_process(schedule, model):
    weights, told = alone(model, torch.float64)
    run = trained("pipeline", model, 2, options=options(schedule))
    assert equal(run, weights)
    for one, other in zip(told, figures(run), strict=True):
        assert one[2:] == pytest.approx(other[2:], abs=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("schedule", PIPELINES)
def test_every_schedule_equals_one_process_on_four_ranks(schedule):
    six = {"epochs": 1, "model": "transformer", "dataset": "digits", "batch_size": 100, "optimizer": "momentum"}
    runs = [
        lab.launch(lab.Spec(strategy="single", options={"depth": 6}, **six)),
        lab.launch(lab.Spec(strategy="pipeline", world=4, options=options(schedule, depth=6), **six)),
    ]
    assert [run.wait(300) for run in runs] == ["done", "done"], runs[1].failure
    assert equal(runs[1], runs[0].model().state_dict(), 1e-5)


def test_rows_of_a_sample_stay_together():
    """53 of them, and then a batch of one, are no multiple of the micro-batches."""
    spec = lab.Spec(strategy="single", epochs=1, batch_size=53, lr=0.01, eval_every=0, checkpoint_every=0)
    x = torch.randn(54, 64, generator=torch.Generator().manual_seed(0))
    given = {"model": Chain(), "data": ((x, torch.arange(54) % 10),) * 3, "task": Views}
    one, two = lab.launch(spec, **given), lab.launch(spec.replace(strategy="pipeline", world=2), **given)
    assert one.wait(60) == "done" == two.wait(60), (one.failure, two.failure)
    assert equal(two, one.model().state_dict())


@pytest.mark.parametrize("batch", [pytest.param(15, marks=pytest.mark.slow), 53])
def test_batches_that_micro_batches_do_not_divide_count_every_sample_once(batch):
    """53 leaves one sample for the last batch's four micro-batches."""
    weights, told = alone("transformer", torch.float64, batch_size=batch)
    run = trained("pipeline", "transformer", 2, batch_size=batch, options={"microbatches": 4})
    assert equal(run, weights)
    assert figures(run)[0][2:] == pytest.approx(told[0][2:], abs=1e-10)


def test_a_loss_of_ones_own_on_a_regression(tiny):
    class Cubed(nn.Module):
        def forward(self, output, target):
            return (output.squeeze(1) - target).abs().pow(3).mean()

    x = torch.rand(100, 64, dtype=torch.float64)
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 1)).double()
    model.register_forward_pre_hook(lambda _, inputs: (inputs[0].double(),))
    parts = (x, x.sum(1)), (x[:9], x[:9].sum(1))
    ends = []
    for strategy, world in (("single", 1), ("pipeline", 2)):
        spec = tiny.replace(strategy=strategy, world=world, batch_size=30)
        run = lab.launch(spec, model=model, data=parts, loss=Cubed())
        assert run.wait(60) == "done", run.failure
        ends.append(run)
    assert equal(ends[1], ends[0].model().state_dict())
    assert "accuracy" not in ends[1].rows("eval")[-1]


def test_all_ranks_tell_the_same_loss(tiny):
    run = lab.launch(tiny.replace(strategy="pipeline", world=2), model=Chain)
    assert run.wait(60) == "done", run.failure
    by_rank = [[(r["step"], r["loss"], r["accuracy"]) for r in run.rows("train") if r["rank"] == i] for i in (0, 1)]
    assert by_rank[0] == by_rank[1] != []


@pytest.mark.parametrize(
    "schedule", [s if s == "zero_bubble" else pytest.param(s, marks=pytest.mark.slow) for s in PIPELINES]
)
def test_bf16_and_batch_norm(tiny, schedule):
    def convolutions(shape, classes):
        layers = [nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3)]
        return nn.Sequential(*layers, nn.BatchNorm2d(8), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, classes))

    fields = {"model": "cell:convolutions", "precision": "bf16", "epochs": 4, "lr": 0.01}
    spec = tiny.replace(strategy="pipeline", world=2, options=options(schedule), **fields)
    run = lab.launch(spec, model=convolutions)
    assert run.wait(120) == "done", run.failure
    assert run.rows("eval")[-1]["accuracy"] > 0.8
    assert run.model().state_dict()["4.running_mean"].abs().max() > 0


def test_pause_steer_stop_and_resume(endless):
    run = lab.launch(endless.replace(strategy="pipeline"))
    until(lambda: len(run.rows("train")) > 10)
    run.pause()
    until(lambda: run.state == "paused")
    run.set(lr=0.125)
    run.stop()
    assert run.wait(60) == "stopped", run.failure
    step = run.facts["checkpoint"]
    run.resume()
    until(lambda: run.rows("train")[-1]["step"] > step + 5)
    assert run.rows("train")[-1]["lr"] == 0.125
    run.stop()
    assert run.wait(60) == "stopped"


# -- the timetable


@pytest.mark.parametrize("schedule", PIPELINES)
@pytest.mark.parametrize(("world", "microbatches"), SIZES)
def test_a_timeline_holds_all_work_once_and_breaks_no_order(schedule, world, microbatches):
    slots = timeline(schedule, world, microbatches)
    each = PIPELINES[schedule].stages
    forwards = [(s.stage, s.microbatch) for s in slots if s.work == "F"]
    assert sorted(forwards) == [(stage, m) for stage in range(world * each) for m in range(microbatches)]
    total = sum(s.end - s.start for s in slots)
    assert total == pytest.approx(world * microbatches * (UNITS["F"] + UNITS["B"]))
    ends = {(s.work, s.stage, s.microbatch): s.end for s in slots}
    for s in slots:
        if s.work == "F" and s.stage:
            assert s.start >= ends["F", s.stage - 1, s.microbatch]
    for rank in range(world):
        mine = sorted(s for s in slots if s.rank == rank)
        assert {s.stage % world for s in mine} == {rank}
        times = sorted((s.start, s.end) for s in mine)
        assert all(a[1] <= b[0] for a, b in pairwise(times))


@pytest.mark.parametrize(("world", "microbatches"), SIZES)
def test_bubbles_are_those_of_the_papers(world, microbatches):
    idle = (world - 1) / (microbatches + world - 1)
    assert bubble("gpipe", world, microbatches) == pytest.approx(idle)
    assert bubble("1f1b", world, microbatches) == pytest.approx(idle)
    half = (world - 1) / (2 * microbatches + world - 1)
    assert bubble("interleaved", world, microbatches) == pytest.approx(half)
    third = (world - 1) / (3 * microbatches + world - 1)
    assert bubble("zero_bubble", world, microbatches) == pytest.approx(third)


class Told(nn.Module):
    """Prints when its forward and the gradient of its inputs are done."""

    def __init__(self, stage):
        super().__init__()
        self.stage, self.layer = stage, nn.Linear(64, 64)

    def forward(self, x):
        if x.requires_grad:
            x.register_hook(lambda gradient: print("did B", self.stage, flush=True))
        if self.training:
            print("did F", self.stage, flush=True)
        return self.layer(x)


@pytest.mark.parametrize("schedule", PIPELINES)
def test_ranks_compute_in_the_order_of_the_timetable(tiny, schedule):
    world, microbatches = 2, 4
    count = world * PIPELINES[schedule].stages
    model = nn.Sequential(nn.Flatten(), *(Told(stage) for stage in range(count)))
    x, y = torch.rand(8, 64), torch.arange(8)
    fields = {"model": "cell:Told", "epochs": 1, "batch_size": 8}
    chosen = options(schedule, microbatches=microbatches)
    spec = tiny.replace(strategy="pipeline", world=world, options=chosen, **fields)
    run = lab.launch(spec, model=model, data=((x, y),))
    assert run.wait(60) == "done", run.failure
    for rank, row in enumerate(order(schedule, world, microbatches)):
        log = (run.folder / "logs" / f"rank{rank}.log").read_text()
        did = [(work, int(stage)) for work, stage in re.findall(r"did (\w) (\d)", log)]
        # The first stage needs no gradient of its inputs, and that of the weights is told by no hook.
        told = [("F" if work == "F" else "B", stage) for work, stage, _ in row if work != "W"]
        assert did == [(work, stage) for work, stage in told if work == "F" or stage]


# -- cutting


@pytest.mark.parametrize("model", PLAIN)
def test_layers_of_the_models_of_the_table_are_counted_right(model):
    shape, classes, vocabulary = ((8,), 256, 256) if model == "gpt" else ((1, 28, 28), 10, 0)
    made = MODELS[model](shape, classes, vocabulary)
    assert len(stages.layers(made)) == (MODELS[model].layers or keywords(MODELS[model])["depth"].default + 2)


def test_cuts_balance_the_cost_and_keep_names():
    model = MODELS["transformer"]((1, 8, 8), 10)
    runs = stages.cut(stages.layers(model), 3)
    assert [sum(path.startswith("blocks") for path, _ in run) for run in runs] == [1, 2, 1]
    names = [name for run in runs for name in stages.Layers(run).state_dict()]
    assert names == list(model.state_dict())
    paths = [path for path, _ in stages.cut(stages.layers(MODELS["cnn"]((1, 28, 28), 10)), 2)[0]]
    assert paths == ["0", "1", "2", "3", "4", "5"]  # to the second pooling: half of the weights, most of the work


def test_nested_rows_are_cut_too():
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))
    assert [[path for path, _ in group] for group in stages.layers(model)] == [["0.0", "0.1"], ["1.0"], ["1.1"]]


# -- refusals


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"options": {"pipeline_schedule": "1f1p"}}, "did you mean '1f1b'"),
        ({"options": {"microbatches": 1}}, "at least world=2"),
        ({"options": {"microbatches": 65}}, "at most batch_size=64"),
        ({"options": options("zero_bubble", microbatches=5)}, "multiple of world=2, such as 4"),
        ({"accumulate": 2}, "splits every batch into micro-batches already"),
        ({"precision": "fp16"}, "bf16"),
        ({"compile": True}, "compile=False"),
        ({"optimizer": "muon"}, "adamw"),
        ({"model": "mlp", "world": 3}, "has 2 layers with weights; take world=2 or a deeper model"),
        ({"model": "mlp", "options": options("interleaved")}, "take world=1 or pipeline_schedule='1f1b' or"),
        ({"model": "transformer", "world": 4, "options": options("interleaved")}, "or depth=6"),
        ({"model": "gpt", "dataset": "pydocs", "options": {"tied": True}}, "take tied=False"),
    ],
)
def test_what_cannot_be_is_refused_with_what_could(fields, words):
    with pytest.raises(SpecError, match=re.escape(words)):
        lab.Spec(**{"strategy": "pipeline", "world": 2, **fields})


def test_one_rank_takes_what_several_do_not(tiny):
    run = lab.launch(tiny.replace(strategy="pipeline", precision="fp16", accumulate=2, optimizer="muon"))
    assert run.wait(60) == "done", run.failure


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x):
        return self.layer(x.flatten(1))


def tied():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
    model[3].weight = model[1].weight
    return model


class Two(nn.Linear):
    def forward(self, x):
        return super().forward(x), x


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Odd, "can't tell how to cut Odd"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), "has 1 layer with weights; take world=1"),
        (tied, "'1' and '3' share a parameter"),
        (lambda: nn.Sequential(nn.Flatten(), Two(64, 64), nn.Linear(64, 10)), "Two gives a tuple"),
    ],
)
def test_a_model_that_cannot_be_cut_is_refused(tiny, model, words):
    with pytest.raises(SpecError, match=words):
        lab.launch(tiny.replace(strategy="pipeline", world=2), model=model)
    assert not lab.runs()


def test_all_samples_make_one_step_of_full_batch_descent(tiny):
    spec = tiny.replace(optimizer="gd", lr=0.5, strategy="single")
    one, two = lab.launch(spec), lab.launch(spec.replace(strategy="pipeline", world=2))
    assert [run.wait(60) for run in (one, two)] == ["done", "done"], two.failure
    for a, b in zip(one.model().parameters(), two.model().parameters(), strict=True):
        assert (a - b).abs().max() < 1e-5
    assert {row["samples"] for row in two.rows("train")} == {row["samples"] for row in one.rows("train")}


# -- faults


class Explodes(nn.Linear):
    def forward(self, x):
        self.seen = getattr(self, "seen", 0) + 1
        if self.seen == 30:
            raise ValueError("a wheel came off")
        return super().forward(x)


@pytest.mark.parametrize("victim", [0, 1])
def test_an_exception_names_rank_type_and_place(endless, victim):
    layers = [nn.Linear(64, 64), nn.Linear(64, 10)]
    layers[victim] = Explodes(64, 64 if victim == 0 else 10)
    run = lab.launch(endless.replace(strategy="pipeline"), model=nn.Sequential(nn.Flatten(), *layers))
    assert run.wait(60) == "failed"
    assert (run.failure.rank, run.failure.type, run.failure.message) == (victim, "ValueError", "a wheel came off")
    assert "test_pipeline.py, line" in run.failure.where


@pytest.mark.parametrize("victim", [pytest.param(0, marks=pytest.mark.slow), 1])
@pytest.mark.parametrize("schedule", [pytest.param("1f1b", marks=pytest.mark.slow), "zero_bubble"])
@pytest.mark.parametrize("fault", ["kill", "suspend"])
def test_a_rank_that_dies_or_stands_still_is_named(endless, victim, schedule, fault):
    spec = endless.replace(strategy="pipeline", timeout=3, options=options(schedule))
    run = lab.launch(spec)
    until(lambda: len(run.rows("train")) > 5)
    ranks = ranks_of(run)
    getattr(numbered(ranks)[victim], fault)()
    assert run.wait(60) == "failed"
    assert (run.failure.rank, run.failure.type) == (victim, "SIGKILL" if fault == "kill" else "Stuck")
    assert all(not p.is_running() or p.status() == psutil.STATUS_ZOMBIE for p in ranks)
