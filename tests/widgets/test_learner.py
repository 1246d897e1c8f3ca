"""The Learner without a browser: its runs are real, and a slider is the trait that the page sets."""

import json
import struct
from array import array
from types import SimpleNamespace

import pytest
from helpers import until
from lepton_widgets import Learner, learner, sketches
from lepton_widgets.curves import pack, passes
from lepton_widgets.sketches import labels, tidy

import lepton_lab as lab
from lepton_lab.errors import SpecError
from lepton_lab.store.story import Story

FAST = {"epochs": 2, "batch_size": 512}


@pytest.fixture
def learn():
    """Function that makes a Learner, closed at the end."""
    kept = []
    yield lambda *args, **fields: kept.append(Learner(*args, **{**FAST, **fields})) or kept[-1]
    for made in kept:
        made.close()


def move(view, field, by=1):
    """What the page does when a slider is moved."""
    view.chosen = {**view.chosen, field: view.chosen[field] + by}


def unpack(block):
    """Of each series in a block its points: {(run, metric, split): (x, y)}."""
    (size,) = struct.unpack_from("<I", block)
    at, found = 4 + size, {}
    for run, metric, split, _, _, _, count in json.loads(block[4:at]):
        x, y = (list(array("d", block[at + 8 * i * count : at + 8 * (i + 1) * count])) for i in (0, 1))
        found[run, metric, split] = x, y
        at += 16 * count
    return found


def test_the_first_curve_comes_by_itself_and_is_whole(home, learn):
    view = learn()
    assert view.wait(60)
    (run,) = view.runs
    assert run.state == "done" and run.spec.batch_size == 512 and run.spec.options["hidden"] == 32
    x, y = unpack(view.get_state("snapshot")["snapshot"])[0, "accuracy", "val"]
    assert x == [1.0, 2.0] and 0 < y[-1] <= 1  # by epoch, whatever the batch
    (head,) = view.get_state("header")["header"]["runs"]
    assert (head["state"], head["label"], head["epochs"]) == ("done", "rate 0.05", 2)


def test_a_moved_slider_draws_another_curve(home, learn):
    view = learn()
    assert view.wait(60)
    told = []
    view.send = lambda content, buffers=None: told.append((content, buffers))
    move(view, "lr")
    assert view.wait(60)
    assert [run.spec.lr for run in view.runs] == [0.05, 0.1]
    wholes = [content for content, _ in told if content["type"] == "whole"]
    assert wholes[-1]["round"] == 2
    assert [head["label"] for head in wholes[-1]["runs"]] == ["rate 0.05", "rate 0.1"]
    until(lambda: told[-1][0]["runs"][-1]["state"] == "done")
    assert "lr=0.1" in told[-1][0]["told"]["code"] and "name=" not in told[-1][0]["told"]["code"]
    move(view, "dropout", 3)
    assert view.wait(60)
    assert view.runs[-1].spec.options == {"hidden": 32, "threads": 1, "dropout": 0.3}
    assert [head["label"] for head in view.get_state("header")["header"]["runs"]] == [
        "rate 0.05, dropout 0",
        "rate 0.1, dropout 0",
        "rate 0.1, dropout 0.3",
    ]


def test_many_moves_in_a_row_are_one_run(home, learn):
    view = learn()
    assert view.wait(60)
    for _ in range(4):
        move(view, "hidden")
    assert view.wait(60)
    assert [run.spec.options["hidden"] for run in view.runs] == [32, 512]
    assert len(lab.runs()) == 2


def test_a_slider_that_is_back_begins_nothing(home, learn):
    view = learn()
    assert view.wait(60)
    move(view, "lr")
    move(view, "lr", -1)
    assert view.wait(60) and len(lab.runs()) == 1


def test_a_run_that_is_overtaken_is_stopped_and_removed(home, learn):
    view = learn(epochs=100_000)
    first = until(lambda: view.runs)[0]
    until(lambda: first.state == "running" and first.rows("train"))
    view.spec = view.spec.replace(epochs=2, lr=0.1)
    assert view.wait(60)
    assert not first.folder.exists()
    assert [run.spec.lr for run in view.runs] == [0.1] and view.runs == lab.runs()


def test_the_shelf_keeps_the_newest_only_and_all_that_is_not_a_learner_s(home, learn, tiny, monkeypatch):
    monkeypatch.setattr(learner, "SHOWN", 2)
    own = lab.launch(tiny)
    own.wait(60)
    view = learn()
    for _ in range(3):
        assert view.wait(60)
        move(view, "weight_decay")
    assert view.wait(60)
    assert len(view.runs) == 2
    assert {run.id for run in lab.runs()} == {own.id, *(run.id for run in view.runs)}


def test_a_run_that_still_goes_is_not_tidied_away(home, endless):
    run = lab.launch(endless)
    sketches.adopt(run)
    newer = lab.launch(endless.replace(world=1))
    sketches.adopt(newer)
    tidy(1)
    assert run.folder.exists()
    for one in (run, newer):
        one.stop()
        one.wait(60)
    tidy(1)
    assert [left.id for left in lab.runs()] == [newer.id]


def test_values_that_can_t_go_together_are_told_in_place(home, learn):
    view = learn(momentum=0.5)
    assert view.wait(60)
    stops = [control["field"] for control in view.controls]
    assert stops[:4] == ["optimizer", "lr", "batch_size", "momentum"]
    move(view, "momentum", -1)
    view.chosen = {**view.chosen, "optimizer": view.controls[0]["texts"].index("nesterov")}
    assert view.wait(60)
    assert len(view.runs) == 1
    assert view.get_state("header")["header"]["told"]["message"].startswith("momentum=0.0: optimizer='nesterov' needs")
    view.chosen = {**view.chosen, "optimizer": view.controls[0]["texts"].index("sgd")}
    assert view.wait(60)
    assert view.runs[-1].spec.optimizer == "sgd" and view.get_state("header")["header"]["told"]["message"] == ""


def test_divergence_is_an_outcome_and_the_next_run_goes_on(home, learn):
    view = learn(optimizer="sgd", lr=1e30, batch_size=64, epochs=5)
    assert view.wait(60)
    assert view.get_state("header")["header"]["runs"][0]["failure"] == "diverged"
    assert "1e+30" in view.controls[1]["texts"], "a value of the user's own is a stop of the slider"
    view.spec = view.spec.replace(lr=0.1)
    assert view.wait(60)
    assert [run.state for run in view.runs] == ["failed", "done"]


def test_a_refused_spec_is_refused_in_the_cell(home):
    with pytest.raises(SpecError, match="epochs=0: must be at least 1"):
        Learner(epochs=0)
    with pytest.raises(SpecError, match="unknown dataset"):
        Learner(dataset="digitss")


def test_sliders_follow_the_model(home, learn):
    fields = {control["field"]: control for control in learn(model="mlp").controls}
    assert fields["hidden"]["label"] == "Hidden units" and fields["hidden"]["tooltip"]
    assert fields["momentum"]["needs"] == {"field": "optimizer", "among": ["momentum", "nesterov", "muon"]}
    other = {control["field"] for control in learn(lab.Spec(model="transformer", device="cpu")).controls}
    assert "hidden" not in other and {"lr", "batch_size"} <= other


def test_its_headless_twin_prints_the_spec_and_draws_a_figure(home, learn):
    view = learn()
    chart = view.figure()
    assert chart.png().startswith(b"\x89PNG") and "Accuracy by optimizer step" in chart.text
    data = view._repr_mimebundle_()
    data = data[0] if isinstance(data, tuple) else data
    text = data["text/plain"]
    assert "dataset: digits" in text and "lr: 0.05" in text and "rate 0.05: done, validation accuracy" in text
    with pytest.raises(SpecError, match="name='los'.*did you mean 'loss'"):
        view.figure("los")


def test_its_thread_and_its_run_end_with_it(home):
    view = Learner(epochs=100_000)
    until(lambda: view.runs and view.runs[0].state == "running")
    view.close()
    assert view.runs[0].state == "stopped"


def test_passes_are_steps_over_the_steps_of_an_epoch():
    story = Story(1, epochs=4)
    train = {"kind": "train", "t": 0, "rank": 0, "loss": 1.0, "samples": 8}
    story.add([{"kind": "state", "t": 0, "rank": 0, "state": "running", "steps": 40, "step": 0}])
    story.add([train | {"step": step} for step in (1, 10, 40)])
    assert array("d", [0.1, 1.0, 4.0]).tobytes() in pack([story], unit=passes)


def test_labels_say_what_differs():
    def made(**values):
        return SimpleNamespace(values={"optimizer": "sgd", "lr": 0.1, "batch_size": 64, **values})

    assert labels([]) == [] and labels([made()]) == ["rate 0.1"]
    assert labels([made(), made(batch_size=8)]) == ["batch 64", "batch 8"]
    assert labels([made(), made(optimizer="adam", lr=1e-3)]) == ["sgd, rate 0.1", "adam, rate 0.001"]
    assert labels([made(lr=10**-2.5)]) == ["rate 0.003162"]
