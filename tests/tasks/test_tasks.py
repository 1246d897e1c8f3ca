"""Every task of the table trains on a tiny data set of its kind: over two ranks as in one process, to a lower loss."""

from pathlib import Path

import pytest
import torch
from torch import nn

import lepton_lab as lab
from lepton_lab.datasets import from_user
from lepton_lab.errors import SpecError
from lepton_lab.tasks import TASKS, called, make

DRAW = torch.Generator().manual_seed(0)
X = torch.randn(70, 8, generator=DRAW)
NUMBERS = X @ torch.randn(8, 3, generator=DRAW)
PICTURES = torch.randn(70, 1, 6, 6, generator=DRAW)
TEXTS = (torch.arange(17)[None] + torch.arange(70)[:, None]) % 5


def net(classes):
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, classes or 3))


def pixels():
    return nn.Conv2d(1, 2, 3, padding=1)


class PixelsLast(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = pixels()

    def forward(self, x):
        return self.conv(x).movedim(1, -1)


class Tokens(nn.Sequential):
    """Scores of the next token, of the one before it alone."""

    def __init__(self, vocabulary):
        super().__init__(nn.Embedding(vocabulary, 8), nn.Linear(8, vocabulary))


class Named(nn.Module):
    """Called by names, it gives its own loss, as Hugging Face's models do."""

    def __init__(self):
        super().__init__()
        self.net = net(3)

    def forward(self, inputs, labels=None):
        logits = self.net(inputs)
        return {"logits": logits, "loss": nn.functional.cross_entropy(logits, labels)}


class Rows:
    """A Dataset of dicts."""

    def __len__(self):
        return len(X)

    def __getitem__(self, place):
        return {"inputs": X[place], "labels": NUMBERS[place].argmax()}


CASES = {
    "auto": (net, (X, NUMBERS.argmax(1)), {}),
    "classification": (net, (X, NUMBERS.argmax(1)), {}),
    "segmentation": (PixelsLast, (PICTURES, (PICTURES[:, 0] > 0).long()), {"class_axis": "last"}),
    "multilabel": (net, (X, (NUMBERS > 0).long()), {}),
    "regression": (net, (X, (10 * NUMBERS).long().abs()), {}),
    "language_model": (Tokens, (TEXTS[:, :-1], TEXTS[:, 1:]), {}),
    "keywords": (Named, Rows(), {}),
}
"""Of each task: a model, data and options."""


def curves(*runs):
    """Losses of each run's epochs and evaluations, once all are done."""
    for run in runs:
        assert run.wait(90) == "done", run.failure
    return [[row["loss"] for row in run.rows("eval")] for run in runs]


def launched(name, world=1, **changes):
    model, data, options = CASES[name]
    fields = {"epochs": 3, "batch_size": 32, "lr": 0.03, "task": name, "options": options, "world": world}
    return lab.launch(lab.Spec(**{**fields, **changes}), model=model, data=(data, data, data))


@pytest.mark.parametrize("name", TASKS)
def test_a_task_trains_alike_over_two_ranks(name):
    runs = [launched(name, world) for world in (1, 2)]
    one, two = curves(*runs)
    assert two == pytest.approx(one, rel=2e-4)
    validated = [row["loss"] for row in runs[0].rows("eval") if row["split"] == "val"]
    assert validated[-1] < validated[0]
    assert runs[0].facts["task"] == ("classification" if name == "auto" else name)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["zero", "fsdp", "hybrid", "parameter_server"])
@pytest.mark.parametrize("name", TASKS)
def test_a_task_trains_alike_under_other_strategies(name, strategy):
    one, two = curves(launched(name), launched(name, 2, strategy=strategy))
    assert two == pytest.approx(one, rel=1e-3)


def test_classes_may_be_scored_first_or_last():
    targets = (PICTURES[:, 0] > 0).long()
    data = from_user((PICTURES, targets), 0)
    scores = pixels()(PICTURES)
    first = make(lab.Spec(task="segmentation"), data).criterion()
    last = make(lab.Spec(task="segmentation", options={"class_axis": "last"}), data).criterion()
    assert torch.allclose(first(scores, targets), last(scores.movedim(1, -1), targets))
    assert first.hits(scores, targets) == last.hits(scores.movedim(1, -1), targets)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ((X, NUMBERS.argmax(1)), "classification"),
        ((X, NUMBERS), "regression"),
        ((TEXTS[:, :-1], TEXTS[:, 1:]), "language_model"),
        ((TEXTS, TEXTS[:, 0] % 2), "classification"),
        (Rows(), "keywords"),
    ],
)
def test_data_tell_their_task(data, name):
    assert called(make(lab.Spec(), from_user(data, 0))) == name


@pytest.mark.parametrize(
    ("task", "data", "words"),
    [
        ("classification", (X, NUMBERS), ["whole numbers", "task='regression'"]),
        ("language_model", (X, NUMBERS.argmax(1)), ["needs tokens"]),
        ("multilabel", (X, NUMBERS.argmax(1)), ["rows of 0 and 1", "(2,)", "task='classification'"]),
        ("multilabel", (X, NUMBERS), ["rows of 0 and 1", "(2, 3)"]),
        ("multilabel", Rows(), ["must be pairs", "a dict of inputs, labels"]),
        ("regression", Rows(), ["must be pairs", "a dict of inputs, labels"]),
        ("keywords", (X, NUMBERS), ["task='keywords'", "dicts"]),
    ],
)
def test_data_that_a_task_can_make_nothing_of_are_refused(task, data, words):
    with pytest.raises(SpecError) as caught:
        lab.launch(lab.Spec(task=task), model=net, data=data)
    assert str(caught.value).startswith("task") and "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_data_set_s_name_tells_as_much():
    with pytest.raises(SpecError, match=r"task='language_model': needs tokens"):
        lab.launch(lab.Spec(dataset="digits", model="mlp", task="language_model"))


class Doubled(lab.Task):
    """The squared error of twice the output."""

    def loss(self, outputs, batch):
        return (2 * outputs - batch[1]).square().mean()


def test_a_task_of_one_s_own_is_named_and_travels():
    run = lab.launch(lab.Spec(epochs=3, lr=0.03), model=net, data=(X, NUMBERS), task=Doubled)
    assert run.wait(90) == "done", run.failure
    assert run.spec.task == "cell:Doubled" and run.facts["task"] == "Doubled"
    again = lab.repeat(run)
    assert curves(again) == curves(run)
    with pytest.raises(SpecError, match=r"task='cell:Doubled' was defined in a notebook"):
        lab.launch(run.spec, model=net, data=(X, NUMBERS))
    with pytest.raises(SpecError, match=r"task=3 is no subclass of lab\.Task"):
        lab.launch(lab.Spec(), model=net, data=(X, NUMBERS), task=3)
    with pytest.raises(SpecError, match=r"run's task is 'Doubled'"):
        lab.compress(run, ["quantize"])


@pytest.mark.slow
def test_a_chain_goes_on_with_its_parent_s_task():
    parent = launched("multilabel", epochs=1)
    assert parent.wait(90) == "done", parent.failure
    child = lab.compress(parent, [("prune", 0.3)], epochs=1)
    assert child.wait(90) == "done", child.failure
    assert child.spec.task == child.facts["task"] == "multilabel"
    assert child.rows("eval")[-1]["loss"] < 2


def test_a_task_is_short():
    folder = Path(lab.__file__).parent / "tasks"
    for path in folder.glob("*.py"):
        assert path.name == "base.py" or len(path.read_text().splitlines()) <= 150, path
