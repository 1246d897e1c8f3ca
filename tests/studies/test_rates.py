"""find_lr: real runs whose learning rate rises, and what is read from them."""

import _thread
import json
import math
import random
import re
import threading
import time

import pytest
import torch
from helpers import call
from torch import nn

import lepton_lab as lab
from lepton_lab.errors import LabError, SpecError
from lepton_lab.optimizers import SCHEDULES
from lepton_lab.store.folder import RunFolder
from lepton_lab.studies.rates import RateTest, risen, smooth

SPEC = lab.Spec(dataset="digits", model="mlp", strategy="single", batch_size=64)


def written(losses, rates=None, steps=None):
    """A range test whose folder the test itself writes, at rates from 1e-4 to 1."""
    n = len(losses)
    folder = RunFolder.create(SPEC.replace(schedule="range_test", options={"low": 1e-4, "steps": steps or n}))
    rates = rates or [10 ** (-4 + 4 * i / (n - 1)) for i in range(n)]
    with (folder.path / "events" / "rank0.jsonl").open("w") as file:
        for i, (loss, lr) in enumerate(zip(losses, rates, strict=True), 1):
            row = {"kind": "train", "t": i, "rank": 0, "step": i, "epoch": 0, "loss": loss, "samples": 8, "lr": lr}
            file.write(json.dumps(row) + "\n")
    folder.set_state("stopped")
    return lab.Run(folder)


def valley(n=100, floor=0.5, bottom=0.7):
    """Losses that are flat, fall from a quarter on, are lowest at `bottom`, and then rise steeply."""
    places = [i / (n - 1) for i in range(n)]
    fallen = [min(1.0, max(0.0, (p - 0.25) / (bottom - 0.25))) for p in places]
    risen = [max(0.0, p - bottom) * 20 for p in places]
    return [2.3 - (2.3 - floor) * down + up for down, up in zip(fallen, risen, strict=True)]


def test_the_schedule_rises_evenly_over_the_decades():
    course = [SCHEDULES["range_test"](step, 500, 0, low=1e-4, steps=101) for step in range(500)]
    assert math.isclose(course[0], 1e-4) and math.isclose(course[50], 1e-2) and set(course[100:]) == {1.0}
    whole = [SCHEDULES["range_test"](step, 50, 0) for step in range(50)]
    assert math.isclose(whole[0], 1e-7) and whole[-1] == 1.0 and whole == sorted(whole)


def test_smoothing_has_no_lag():
    ramp = [float(i) for i in range(100)]
    assert all(math.isclose(a, b) for a, b in zip(smooth(ramp)[5:-5], ramp[5:-5], strict=True))
    assert smooth([2.0] * 40) == pytest.approx([2.0] * 40)


class TestReading:
    def test_the_suggestion_lies_where_the_loss_falls_and_below_divergence(self, home):
        test = RateTest(written(valley()))
        low, high = 10 ** (-4 + 4 * 0.25), 10 ** (-4 + 4 * 0.7)
        assert low < test.suggestion < high
        assert high < test.diverged and test.suggestion <= test.diverged / 4
        assert test.suggestion == float(f"{test.suggestion:.2g}")
        assert f"{test.suggestion:g}" in test.sentence and "diverges from" in test.sentence

    def test_a_loss_that_is_no_number_is_divergence(self, home):
        losses = valley(bottom=0.99)
        losses[80:] = [None] * 20
        test = RateTest(written(losses))
        assert len(test.losses) == len(test.rates) == 80
        assert test.diverged == pytest.approx(10 ** (-4 + 4 * 80 / 99))
        assert test.suggestion <= test.diverged / 4

    @pytest.mark.parametrize("seed", range(20))
    def test_batches_that_differ_don_t_draw_it_to_the_start(self, home, seed):
        noise = random.Random(seed)
        losses = [loss * (1 + noise.uniform(-0.5, 0.5)) for loss in valley(n=60, floor=0.05)]
        assert RateTest(written(losses)).suggestion > 10 ** (-4 + 4 * 0.25)

    def test_the_suggestion_keeps_its_distance_where_the_loss_falls_steepest_before_it_diverges(self, home):
        losses = [2.3] * 70 + [2.3 - 0.3 * i for i in range(5)] + [10.0] * 25
        test = RateTest(written(losses))
        assert test.suggestion == float(f"{test.diverged / 4:.2g}")

    def test_an_outlier_does_not_draw_the_suggestion_to_it(self, home):
        losses = valley()
        losses[95] = 1e30
        assert RateTest(written(losses)).suggestion == RateTest(written(valley())).suggestion

    def test_a_first_batch_unlike_others_and_losses_below_zero_are_read_alike(self, home):
        low, high = 10 ** (-4 + 4 * 0.25), 10 ** (-4 + 4 * 0.7)
        for losses in ([0.01, *valley()[1:]], [loss - 4 for loss in valley()]):
            test = RateTest(written(losses))
            assert low < test.suggestion < high < test.diverged

    def test_no_divergence_is_said(self, home):
        test = RateTest(written(valley(bottom=1.0)))
        assert test.diverged is None and "does not diverge" in test.sentence and test.suggestion > 0

    def test_a_loss_that_never_falls_suggests_nothing(self, home):
        test = RateTest(written([2.3 + 0.01 * math.sin(i) for i in range(60)]))
        with pytest.raises(LabError, match="falls at no learning rate between 0.0001 and 1: widen"):
            _ = test.suggestion
        assert test.sentence.startswith("The loss falls at no learning rate")
        assert test.figure().png().startswith(b"\x89PNG")

    def test_steps_after_the_last_are_left_out(self, home):
        losses = valley() + [9.0] * 10
        rates = [10 ** (-4 + 4 * min(i, 99) / 99) for i in range(110)]
        assert len(RateTest(written(losses, rates, steps=100)).rates) == 100

    def test_the_figure_tells_all_in_words_and_is_drawn_twice(self, home):
        test = RateTest(written(valley()))
        data, metadata = test._repr_mimebundle_()
        assert test.sentence in data["text/plain"] and metadata["image/png"]["alt"] == data["text/plain"]
        layout = data["application/vnd.plotly.v1+json"]["layout"]
        assert layout["title"]["subtitle"]["text"] == test.sentence
        assert [note["text"] for note in layout["annotations"]] == ["suggestion", "diverges"]
        assert layout["shapes"][0]["x0"] == test.suggestion
        low, high = layout["yaxis"]["range"]
        assert low < min(test.smoothed) and 2.3 < high < test.smoothed[-1]  # divergence leaves the picture
        assert test.figure().figure().data[0].x[0] == pytest.approx(1e-4)

    def test_other_runs_tell_no_rate(self, home, tiny):
        with pytest.raises(SpecError, match="has schedule='constant': only lab.find_lr's run"):
            RateTest(lab.Run(RunFolder.create(tiny)))
        with pytest.raises(LabError, match="tells no rate: it was stopped after 5 steps"):
            RateTest(written(valley(5), steps=100))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"lowest": 1.0, "highest": 0.1}, "lowest=1.0: must be below highest=0.1"),
        ({"lowest": 0.1, "highest": 0.1}, "lowest=0.1: must be below highest=0.1"),
        ({"lowest": 0.0}, "lowest=0.0: must be a learning rate, a finite number above 0"),
        ({"highest": math.inf}, "highest=inf: must be a learning rate"),
        ({"highest": "10"}, "highest='10': must be a learning rate"),
        ({"steps": 5}, "steps=5: must be a whole number, at least 20"),
        ({"steps": 50.0}, "steps=50.0: must be a whole number"),
    ],
)
def test_bad_input_is_refused_before_anything_starts(home, values, said):
    with pytest.raises(SpecError) as error:
        lab.find_lr(SPEC, **values)
    assert str(error.value).startswith(said) and "\n" not in str(error.value)
    assert lab.runs() == []


def test_what_is_no_fresh_training_is_refused(home):
    with pytest.raises(SpecError, match=r"find_lr takes a Spec, not a dict: lab.find_lr\(lab.Spec"):
        lab.find_lr({"lr": 1})
    child = lab.Spec.model_construct(**{**SPEC.to_dict(), "parent": "20260101-000000-abcd"})
    with pytest.raises(SpecError, match="parent='20260101-000000-abcd': a rate is sought for a fresh model"):
        lab.find_lr(child)


def test_the_terminal_suggests_what_python_does(home):
    out, _ = call("find-lr", "--model", "mlp", "--optimizer", "sgd", "--strategy", "single", "--steps", 60)
    test = RateTest(lab.attach())
    assert out == f"{test.sentence}\nRun: {test.run.id}\n" and test.run.spec.optimizer == "sgd"
    assert "steps=5: must be" in call("find-lr", "--steps", 5, code=2)[1] and len(lab.runs()) == 1
    out, err = call("find-lr", "--model", "mlp", "--lowest", 1e-9, "--highest", 1e-8, "--steps", 20, "--json", code=1)
    assert out == "" and "the loss falls at no learning rate" in err


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_suggested_rate_trains_well(home, optimizer):
    spec = SPEC.replace(optimizer=optimizer, schedule="cosine", warmup=5, options={"floor": 0.1, "hidden": 64}, lr=1e-9)
    test = lab.find_lr(spec)
    assert len(test.rates) >= 90 and test.rates == sorted(test.rates)
    assert test.rates[0] == pytest.approx(1e-6, rel=1e-3)
    assert test.run.state in ("done", "stopped") and test.run.failure is None
    assert {"hidden": 64}.items() <= test.run.spec.options.items() and "floor" not in test.run.spec.options
    assert RateTest(lab.attach(test.run.id)).suggestion == test.suggestion
    run = lab.launch(spec.replace(lr=test.suggestion, epochs=8))
    assert run.wait(60) == "done"
    found = {row["split"]: row["accuracy"] for row in run.rows("eval")}
    assert found["test"] > 0.93, f"lr={test.suggestion}: {found}"


@pytest.mark.parametrize("shift", [0.0, -1.0])
def test_a_loss_has_diverged_above_four_times_its_best_and_its_start(shift):
    losses = [loss + shift for loss in valley()]
    over = next(n for n in range(1, 101) if risen(losses[:n], 100))
    assert losses[over - 6] > max(losses[0], min(losses) + 3 * abs(min(losses))) >= losses[over - 9]
    assert not any(risen([-2.0] * n, 100) for n in range(100))
    assert not any(risen([*losses[:60], 1e30, *losses[60:70]][:n], 100) for n in range(1, 72))


def unhurried_loss(output, target):
    time.sleep(0.005)  # so that a busy machine can't do all steps before their losses are read
    return nn.functional.cross_entropy(output, target)


def test_divergence_ends_the_run_early_and_is_no_failure(home):
    test = lab.find_lr(SPEC.replace(optimizer="sgd"), loss=unhurried_loss, highest=1e12, steps=1000)  # whose end is far
    assert test.run.state == "stopped" and test.run.failure is None
    assert all(math.isfinite(loss) for loss in test.losses)
    assert test.diverged < 1e6 and test.suggestion <= test.diverged / 4


def test_a_loss_that_is_no_number_ends_a_range_test_as_stopped(home):
    options = {"low": 1e-30, "steps": 60}
    run = lab.launch(SPEC.replace(optimizer="sgd", schedule="range_test", lr=1e30, epochs=50, options=options))
    assert run.wait(60) == "stopped" and run.failure is None
    assert re.fullmatch(r"the loss diverged at step \d+, where a range test ends", run.remark)
    assert RateTest(run).diverged < 1e3


def test_a_diverging_run_of_another_schedule_still_fails(home):
    run = lab.launch(SPEC.replace(optimizer="sgd", lr=1e12, epochs=50))
    assert run.wait(60) == "failed" and run.failure.type == "NonFinite"


class Line(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.layer = nn.Linear(shape[0], 1)

    def forward(self, x):
        return self.layer(x)


def test_own_model_data_and_loss(home):
    x = torch.randn(300, 4)
    data = (x, x @ torch.tensor([1.0, -2.0, 3.0, 0.5]))
    spec = lab.Spec(optimizer="sgd", batch_size=32, strategy="single")
    test = lab.find_lr(spec, model=Line, data=data, loss=own_loss, steps=60)
    assert 1e-3 < test.suggestion < 2
    assert len(test.rates) <= 60 and test.losses[0] > 5


def own_loss(output, target):
    return (output.squeeze(1) - target).square().mean()


def test_two_ranks_tell_what_one_tells(home):
    one, two = (lab.find_lr(SPEC.replace(strategy=s, world=w, optimizer="sgd"), highest=1.0, steps=60)
                for s, w in (("single", 1), ("ddp", 2)))  # fmt: skip
    assert one.losses[:30] == pytest.approx(two.losses[:30], rel=1e-3)
    assert one.suggestion == pytest.approx(two.suggestion, rel=0.3)


class Slow(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 10))

    def forward(self, x):
        time.sleep(0.1)
        return super().forward(x)


def test_an_interrupted_cell_stops_the_run(home):
    timer = threading.Timer(2.0, _thread.interrupt_main)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        lab.find_lr(SPEC, model=Slow, steps=1000)
    timer.join()
    (run,) = lab.runs()
    assert run.wait(60) == "stopped"
