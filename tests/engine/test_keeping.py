"""What is kept beside the last state, what ends a run early, and more epochs for one that is done."""

import shutil
import time

import pytest
import torch
from helpers import Noisy, call, until
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

import lepton_lab as lab
from lepton_lab.charts.series import read
from lepton_lab.charts.steps import by_step
from lepton_lab.engine.average import Average
from lepton_lab.reports import sections
from lepton_lab.run.checks import checks
from lepton_lab.run.launching import chained
from lepton_lab.store import checkpoints
from lepton_lab.store.folder import RunFolder

pytestmark = pytest.mark.usefixtures("one_core")

WATCHED = {"keep_best": "val_accuracy", "stop_early": {"metric": "val_loss", "patience": 3}, "ema": 0.9}


def guesses():
    """Labels that nothing tells: the validation loss soon rises."""
    generator = torch.Generator().manual_seed(3)
    x, y = torch.randn(300, 8, generator=generator), torch.randint(0, 3, (300,), generator=generator)
    return (x[:160], y[:160]), (x[160:240], y[160:240]), (x[240:], y[240:])


def figures(run):
    keys = ("step", "split", "loss", "accuracy", "samples")
    return [tuple(row.get(key) for key in keys) for row in run.rows("eval")]


def states(run):
    return {name: run.model(name).state_dict() for name in ("last", "best", "ema")}


def same(ours, theirs, but=0.0):
    return all(
        (a.double() - b.double()).abs().max() <= but for a, b in zip(ours.values(), theirs.values(), strict=True)
    )


@pytest.mark.parametrize(
    "strategy", ["fsdp", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ddp", "zero"))]
)
def test_what_is_kept_and_when_it_ends_early_survive_stops_bit_for_bit(strategy):
    spec = lab.Spec(strategy=strategy, world=2, epochs=60, batch_size=40, lr=0.01, **WATCHED)
    whole, parted = (lab.launch(spec, model=Noisy, data=guesses()) for _ in range(2))
    until(lambda: max((row["step"] for row in parted.rows("train")), default=0) >= 9)
    parted.stop()
    assert parted.wait(60) == "stopped", parted.failure
    parted.resume()
    assert whole.wait(90) == "done" == parted.wait(90), (whole.failure, parted.failure)
    assert figures(whole) == figures(parted)
    for name, state in states(whole).items():
        assert same(state, states(parted)[name]), name
    best = whole.facts["best"]
    rows = [row for row in whole.rows("eval") if row["split"] == "val"]
    highest = max(row["accuracy"] for row in rows)
    assert (
        best
        == parted.facts["best"]
        == {
            "metric": "val_accuracy",
            "figure": highest,
            "step": next(row["step"] for row in rows if row["accuracy"] == highest),
        }
    )
    losses = [row["loss"] for row in rows]
    assert losses.index(min(losses)) == len(losses) - 4 and len(losses) < 60, "it ended after three that were no better"
    assert "val_loss did not improve in 3 evaluations" in whole.remark == parted.remark
    assert {row["split"] for row in whole.rows("eval") if row["step"] == rows[-1]["step"]} >= {"test", "test_ema"}
    marks = read(whole).marks
    assert marks[best["step"]] == "best val_accuracy" and "val_loss no better" in marks[rows[-1]["step"]]
    assert {"val_ema_loss", "test_ema_accuracy"} <= set(whole.summary())
    assert "averaged weights" in by_step("loss", [whole]).text
    assert f"val_accuracy {highest:.4g} at step {best['step']}" in sections.figures([whole]).text
    if strategy == "ddp":
        whole.extend(epochs=1)
        assert whole.wait(60) == "done", whole.failure
        assert whole.summary()["epoch"] == len(losses) + 1 == whole.spec.epochs and whole.remark == ""


@pytest.mark.slow
def test_an_average_goes_on_under_another_strategy_and_world():
    spec = lab.Spec(
        strategy="single", epochs=5, batch_size=40, optimizer="sgd", lr=0.05, ema=0.95, keep_best="val_ema_loss"
    )
    whole = lab.launch(spec, model=Plain, data=guesses())
    parted = lab.launch(spec, model=Plain, data=guesses())
    until(lambda: len(parted.rows("train")) > 5)
    parted.stop()
    assert parted.wait(60) == "stopped", parted.failure
    parted.resume(strategy="fsdp", world=2, options={"reshard_after_forward": False})
    assert whole.wait(60) == "done" == parted.wait(60), parted.failure
    for name, state in states(whole).items():
        assert same(state, states(parted)[name], 1e-5), name
    assert same(states(parted)["best"], parted.model("ema").state_dict()) == (parted.facts["best"]["step"] == 20)
    for ours, theirs in zip(figures(whole), figures(parted), strict=True):
        assert ours[:2] == theirs[:2] and ours[2] == pytest.approx(theirs[2], abs=1e-5)


class Plain(nn.Sequential):
    """Parameters of layers that fsdp gathers one at a time."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 16))
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        if self.training:
            time.sleep(0.01)
        return self.head(self.blocks(x).tanh())


def test_the_average_is_the_mean_of_the_weights_after_each_step_weighted_by_the_decay():
    torch.manual_seed(0)
    model, decay, steps = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), 0.8, 6
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    average, passed = Average(model, decay), []
    for step in range(1, steps + 1):
        functional.mse_loss(model(torch.randn(5, 3)), torch.randn(5, 4)).backward()
        optimizer.step()
        average.update(step)
        passed.append({name: value.clone() for name, value in model.state_dict().items()})
    weights = torch.tensor([decay ** (steps - i) for i in range(1, steps + 1)])
    with average.in_place():
        held = {name: value.clone() for name, value in model.state_dict().items()}
    for name in ("0.weight", "1.bias", "1.running_var"):
        mean = torch.stack([state[name] for state in passed]).mul(
            (weights / weights.sum()).view(-1, *[1] * passed[0][name].dim())
        )
        assert torch.allclose(held[name], mean.sum(0), atol=1e-6)
    assert held["1.num_batches_tracked"] == steps
    assert same(model.state_dict(), passed[-1])


def test_vectors_of_spectral_norm_and_counts_are_not_averaged():
    model = nn.Sequential(spectral_norm(nn.Linear(3, 4)), torch.nn.utils.spectral_norm(nn.Linear(4, 3)))
    model[0].register_buffer("running_count", torch.tensor(0))
    average = Average(model, 0.5)
    for step in (1, 2, 3):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_()
        model(torch.randn(2, 3))
        model[0].running_count += 1  # which has no mean
        average.update(step)
    newest = {name: value.clone() for name, value in model.named_buffers()}
    with average.in_place():
        assert len(newest) == 5 and same(dict(model.named_buffers()), newest)


@pytest.fixture(scope="module")
def planned(standby, tmp_path_factory):
    """A run of four epochs, kept for this file."""
    home = tmp_path_factory.mktemp("planned")
    with pytest.MonkeyPatch.context() as own:
        own.setenv("LEPTON_LAB_HOME", str(home))
        own.setenv("XDG_RUNTIME_DIR", str(home))
        run = lab.launch(SPEC.replace(epochs=4, keep_best="train_loss"), model=Plain, data=guesses())
        assert run.wait(60) == "done", run.failure
        yield run


SPEC = lab.Spec(strategy="single", batch_size=40, lr=0.01, name="short")


def test_an_extended_run_goes_on_as_if_it_had_been_planned_so(planned):
    run = lab.launch(SPEC.replace(epochs=2), model=Plain, data=guesses())
    with pytest.raises(lab.LabError, match="more epochs are for one that is done: wait for its end"):
        run.extend(epochs=1)
    assert run.wait(60) == "done"
    with pytest.raises(lab.SpecError, match="epochs=0: must be a whole number, at least 1"):
        run.extend(epochs=0)
    with pytest.raises(lab.SpecError, match="batch_size=8: only strategy, .* can change when a run goes on"):
        run.extend(epochs=1, batch_size=8)
    run.extend(epochs=2)
    assert run.wait(60) == "done", run.failure
    assert same(run.model().state_dict(), planned.model().state_dict())
    tests = [
        [(row["step"], row["loss"]) for row in one.rows("eval") if row["split"] == "test"] for one in (run, planned)
    ]
    assert [step for step, _ in tests[0]] == [8, 16] and tests[0][1:] == tests[1]
    (note,) = [row for row in run.rows("note") if row.get("command") == "extend"]
    assert (
        note["step"] == 8
        and "goes on for 2 more epochs, to 4" in note["text"]
        and "rate at this step is 0.01" in note["text"]
    )
    assert read(run).marks == {8: "2 more epochs"} and run.summary()["epochs"] == 4 == run.spec.epochs
    call("extend", "short", "--epochs", "1", "--lr", "0.002", "--clip", "1")
    assert run.wait(60) == "done" and run.summary()["epoch"] == 5
    assert {row["lr"] for row in run.rows("train") if row["step"] > 16} == {0.002}
    assert read(run).marks[16] == "lr=0.002, clip=1, 1 more epochs"
    with pytest.raises(lab.LabError, match=r"is done: .* run.extend\(epochs=...\) trains it for more epochs"):
        run.resume()


def test_the_best_is_what_is_exported_and_compressed(planned, tmp_path):
    wanted = planned.model("best")
    assert planned.facts["best"]["metric"] == "train_loss"
    lab.export(planned, tmp_path / "best.lepton", checkpoint="best")
    x = guesses()[2][0]
    assert (lab.load(tmp_path / "best.lepton")(x) - wanted(x)).abs().max() < 1e-5
    with pytest.MonkeyPatch.context() as own:
        own.setenv("LEPTON_LAB_HOME", str(planned.folder.parents[1]))
        spec = chained(planned, [("quantize", "int8")], {"checkpoint": "best"})
        assert spec.keep_best == "" and same(checks(spec).parent.module.state_dict(), wanted.state_dict())
        with pytest.raises(lab.LabError, match=r"keeps no average of its weights: .*lab.Spec\(ema=0.999\)"):
            lab.compress(planned, ["quantize"], checkpoint="ema")
    with pytest.raises(lab.SpecError, match="checkpoint='bst': unknown checkpoint; did you mean 'best'"):
        planned.model("bst")


def test_a_chain_has_no_more_epochs():
    folder = RunFolder.create(lab.Spec(parent="20260101-000000-0000", compress=["quantize"]))
    folder.set_state("done")
    with pytest.raises(lab.LabError, match="its chain is done: compress its parent anew"):
        lab.Run(folder).extend(epochs=1)


@pytest.mark.parametrize("bests", [[1, 1, 1, 4, 4, 4, 4, 8], [1, 2, 3, 4, 4, 4, 4], [None, None, 3, 3, 3, 3]])
def test_the_best_stays_for_each_checkpoint_that_may_be_taken_up(planned, bests, tmp_path):
    shutil.copytree(planned.folder, tmp_path / "run", ignore=shutil.ignore_patterns("step-*"))
    folder = RunFolder(tmp_path / "run")
    folder.note(best=None)
    strategy = lab.Single(lab.Spec(model="mlp"))
    strategy.start(0, 1, tmp_path / "none", torch.device("cpu"))
    strategy.setup(nn.Linear(3, 2), lambda parameters: torch.optim.SGD(parameters, 0.1))
    for step, best in enumerate(bests, 1):
        checkpoints.save(folder, strategy, step, {"step": step, "best": best and 1.0 / best, "best_step": best or 0})
        assert set(folder.checkpoints()) == {s for s in (step, step - 1, *bests[max(0, step - 2) : step]) if s}
    assert folder.facts["best"]["step"] == bests[-1]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"keep_best": "val_acuracy"},
            r"keep_best='val_acuracy': the run has no such figure; did you mean 'val_accuracy'",
        ),
        ({"keep_best": "test_loss"}, "looked at once, at the end; take 'val_loss'"),
        ({"keep_best": "accuracy"}, "must be a figure of val, val_ema, train, such as 'val_accuracy'"),
        ({"keep_best": "acuracy"}, "val_, val_ema_, train_ and a metric that the run has; did you mean 'val_accuracy'"),
        ({"keep_best": "x"}, "val_, val_ema_, train_ and a metric that the run has, such as 'val_loss'"),
        ({"keep_best": "val_x"}, r"no such figure, such as 'val_loss' or 'val_accuracy' \("),
        (
            {"keep_best": "val_x", "task": "regression", "dataset": "blobs", "model": "mlp"},
            r"no such figure \(it has: val_loss, val_mse",
        ),
        ({"keep_best": "val_loss", "eval_every": 0}, "eval_every=0 evaluates only at the end; take eval_every=1"),
        ({"keep_best": "val_ema_loss"}, "no average of the weights is kept; take ema=0.999 too, or 'val_loss'"),
        ({"stop_early": {"metric": "val_loss", "patience": 0}}, r"stop_early=\{'patience': 0\}: must be at least 1"),
        ({"stop_early": {"patient": 2}}, "did you mean 'patience'"),
        ({"stop_early": 3}, 'must be a record such as {"metric": "val_loss", "patience": 3}'),
        ({"ema": 1.5}, "ema=1.5: must be at least 0 and less than 1"),
        ({"ema": 0.9, "strategy": "local_sgd", "world": 2}, "ranks don't have the same; take ema=0, or strategy='ddp'"),
        ({"ema": 0.9, "parent": "a", "compress": ["quantize"]}, "keeps what each link of its chain ends with"),
        ({"checkpoint": "best"}, "only a chain begins with one of its parent's"),
    ],
)
def test_what_can_t_be_kept_is_refused_in_a_sentence(fields, words):
    with pytest.raises(lab.SpecError, match=words) as caught:
        lab.launch(lab.Spec(**fields))
    assert "\n" not in str(caught.value) and not lab.runs()


@pytest.mark.parametrize(
    ("samples", "key", "words"),
    [
        (2, "val_loss", "keep_best='val_loss': there are no validation samples; take 'train_loss'"),
        (
            40,
            "val_accuracy",
            "keep_best='val_accuracy': the run has no such figure (it has: val_loss, val_mae, val_r2)",
        ),
    ],
)
def test_a_figure_that_this_run_lacks_is_refused_with_those_that_it_has(samples, key, words):
    x, y = torch.randn(samples, 4), torch.randn(samples, 1)
    spec, own = lab.Spec(epochs=1), {"model": nn.Linear(4, 1), "data": (x, y)}
    with pytest.raises(lab.SpecError) as refused:
        lab.launch(spec.replace(keep_best=key), **own)
    assert str(refused.value) == words
    run = lab.launch(spec, **own)
    run.wait(60)
    again = lab.repeat(run, keep_best=key)  # whose data only a rank reads
    assert again.wait(60) == "failed" and again.failure.message == words


def test_the_forms_of_an_early_end_are_one_record():
    record = {"metric": "val_loss", "patience": 2, "min_delta": 0.0}
    for given in (
        {"patience": 2},
        "patience: 2",
        '{"metric": "val_loss", "patience": 2}',
        "metric: val_loss\npatience: '2'",
    ):
        assert lab.Spec(stop_early=given).stop_early == record, given
    assert lab.Spec(stop_early="").stop_early == lab.Spec(stop_early=None).stop_early == {}
