"""May this run? The same answer in the same words, wherever it is asked; what can't be told is passed over."""

import logging
import re

import pytest
import torch

import lepton_lab as lab
from lepton_lab.errors import SpecError
from lepton_lab.reports.grids import read
from lepton_lab.run.checks import checks, glance
from lepton_lab.run.own import Own
from lepton_lab.store.folder import RunFolder

X, Y = torch.randn(40, 8), torch.arange(40) % 3


def refusal(ask, *args, **kwargs):
    with pytest.raises(SpecError) as error:
        ask(*args, **kwargs)
    return str(error.value)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"strategy": "tensor", "world": 2}, "model='cnn' has none of the layers that it cuts"),
        ({"world": 64}, "world=64: at most"),
        ({"dataset": "tinyshakespeare", "model": "mlp"}, "model='mlp': takes numbers"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_a_refusal_is_the_same_wherever_it_is_asked(fields, sentence, tmp_path):
    spec = lab.Spec(**fields)
    said = refusal(lab.launch, spec)
    assert sentence in said
    assert refusal(glance, spec) == said
    grid = tmp_path / "grid.yaml"
    grid.write_text(lab.Spec(**fields).to_yaml().replace("\n", "\n  ").join(["base:\n  ", "\n"]))
    assert said in refusal(read, grid)
    form = pytest.importorskip("lepton_widgets.form")
    assert refusal(form.Form(spec, {}, lambda: None).read) == said
    if "dataset" not in fields:  # what depends on the strategy, or on the machine
        assert said in refusal(lab.race, spec, [fields.get("strategy", "ddp")])


@pytest.mark.parametrize(
    ("fields", "remedy"),
    [
        ({"dataset": "scenes", "model": "detector", "task": "classification"}, {"task": "detection"}),
        ({"dataset": "dates", "task": "classification"}, {"task": "sequence_to_sequence", "model": "encoder_decoder"}),
        ({"dataset": "sst2", "task": "question_answering"}, {"dataset": "glosses", "model": "reader"}),
        ({"model": "gan"}, {"task": "adversarial"}),
        ({"dataset": "tones", "model": "enhancer", "task": "enhancement", "transforms": ["mel"]}, {"transforms": []}),
        ({"dataset": "fsdd", "model": "enhancer", "task": "enhancement", "transforms": ["mel"]}, {"transforms": []}),
    ],
    ids=lambda value: value.get("dataset", "digits"),
)
def test_a_remedy_is_one_that_works(fields, remedy):
    said = refusal(glance, lab.Spec(**fields)).rpartition("; ")[2]
    for field, value in remedy.items():
        words = {"transforms": "leave the transforms out", "task": f"({value!r}|take that)"}.get(field, repr(value))
        assert re.search(words, said), said
    glance(lab.Spec(**fields | remedy))


def test_a_run_goes_on_only_under_what_a_launch_would_take():
    run = lab.Run(RunFolder.create(lab.Spec()))
    assert run.state == "interrupted"
    assert "model='cnn' has none of the layers that it cuts" in refusal(run.resume, strategy="tensor", world=2)
    assert "world=64: at most" in refusal(run.resume, world=64)
    assert refusal(lab.repeat, run, strategy="tensor", world=2) == refusal(run.resume, strategy="tensor", world=2)


class Odd(torch.nn.Module):
    """Batch norm that would refuse a sample alone, behind what can't be tried without memory."""

    def __init__(self, raises):
        super().__init__()
        self.layer, self.norm, self.raises = torch.nn.Linear(8, 3), torch.nn.BatchNorm1d(3), raises

    def forward(self, x):
        if x.is_meta and self.raises is not None:
            raise self.raises
        return self.norm(self.layer(x))


@pytest.mark.parametrize(
    ("raises", "noted"),
    [(NotImplementedError("no data"), False), (TypeError("to NumPy"), False), (KeyError("x"), True)],
)
def test_what_can_t_be_tried_without_memory_is_passed_over_and_a_fault_of_code_is_noted(raises, noted, caplog):
    spec = lab.Spec(batch_size=35, strategy="single")  # 36 samples to train on: the last is alone
    assert "batch of one" in refusal(checks, spec, Own(Odd(None), (X, Y)))
    with caplog.at_level(logging.INFO, "lepton_lab"):
        assert checks(spec, Own(Odd(raises), (X, Y))).device == "cpu"
    assert ("can't be tried" in caplog.text) == noted == ("KeyError" in caplog.text)


def test_what_a_shipped_run_s_batches_are_is_known_to_all_who_go_on_with_it():
    run = lab.Run(RunFolder.create(lab.Spec()))
    run.store.note(batch="a dict of left, right")
    said = refusal(run.resume, strategy="pipeline", world=2)
    assert "passes one tensor from layer to layer, but batches are a dict of left, right" in said
    assert refusal(lab.repeat, run, strategy="pipeline", world=2) == said


class Both(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 3)

    def forward(self, left, right):
        return self.layer(left + right)


def test_a_model_that_takes_more_than_a_pair_has_is_refused_with_both_forms():
    said = refusal(checks, lab.Spec(), Own(model=Both(), data=(X, Y)))
    assert "model=Both takes left, right, and batches are pairs (x, y)" in said
    assert "(B, 8)" in said and "samples that are dicts" in said
    for maker in (Both, lambda: Both()):
        assert refusal(checks, lab.Spec(), Own(model=maker, data=(X, Y))).partition(" ")[2] == said.partition(" ")[2]
        assert refusal(lab.advise, lab.Spec(), model=maker, data=(X, Y)) == said


def test_a_model_that_takes_more_than_a_task_gives_it_is_refused_with_both_forms():
    triples = [(X[i], X[i], Y[i]) for i in range(8)]
    said = refusal(checks, lab.Spec(), Own(model=Both, data=triples, loss=lambda outputs, batch: outputs.mean()))
    assert "model=Both takes left, right, and of batches that are a tuple of 3 it gets a Tensor of shape" in said

    class Two(lab.Task):
        def inputs(self, batch):
            return batch[:2]

    assert checks(lab.Spec(), Own(model=Both, data=triples, task=Two))


@pytest.mark.parametrize("loss", [None, torch.nn.L1Loss(), lambda output, target: (output - target).abs().mean()])
def test_accuracy_of_a_regression_is_refused_before_anything_starts(loss):
    own = Own(model=torch.nn.Linear(8, 1), data=(X, X[:, :1]), loss=loss)
    assert "'accuracy' needs scores of classes" in refusal(checks, lab.Spec(metrics=["accuracy"]), own)
    said = refusal(checks, lab.Spec(keep_best="val_accuracy"), own)
    assert said.startswith("keep_best='val_accuracy': the run has no such figure (it has: val_loss")
    both = lab.Spec(metrics=["accuracy"], keep_best="val_accuracy")
    assert checks(both, Own(model=torch.nn.Linear(8, 3), data=(X, Y)))
    soft = Own(model=torch.nn.Linear(8, 3), data=(X, Y), loss=lambda output, target: output[:, 0].mean())
    assert checks(both, soft), "only what it compares is known"
