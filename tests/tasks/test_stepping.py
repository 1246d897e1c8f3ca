"""A task's own step: the loop's body as people write it, pasted, trains as the standard task does."""

import pytest
import torch
from torch import nn

import lepton_lab as lab
from lepton_lab.datasets import from_user
from lepton_lab.errors import SpecError
from lepton_lab.tasks.routine import Routine

DRAW = torch.Generator().manual_seed(0)
X = torch.randn(100, 8, generator=DRAW)
Y = (X @ torch.randn(8, 3, generator=DRAW)).argmax(1)
DATA = ((X, Y), (X, Y))
criterion = nn.CrossEntropyLoss()


def net():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 3))


class Pasted(lab.Task):
    def step(self, model, batch, optimizer):
        inputs, labels = batch
        optimizer.zero_grad()
        outputs = model(inputs)
        loss = criterion(outputs, labels)
        loss.backward()
        optimizer.step()
        return loss.item()


class Returned(lab.Task):
    def step(self, model, batch):
        inputs, labels = batch
        return criterion(model(inputs), labels)


@pytest.mark.parametrize(("strategy", "world"), [("single", 1), ("ddp", 2), ("fsdp", 2)])
def test_a_pasted_step_is_the_standard_task_to_the_bit(strategy, world):
    spec = lab.Spec(lr=0.01, batch_size=32, epochs=2, accumulate=2, clip=0.5, strategy=strategy, world=world)
    model = net()
    runs = [lab.launch(spec, model=model, data=DATA, task=task) for task in (None, Pasted, Returned)]
    for run in runs:
        assert run.wait(90) == "done", run.failure
    standard, *own = runs
    for run in own:
        for ours, theirs in zip(run.model().parameters(), standard.model().parameters(), strict=True):
            assert torch.equal(ours, theirs)
        for ours, theirs in zip(run.rows("eval"), standard.rows("eval"), strict=True):
            assert ours["accuracy"] == theirs["accuracy"]
            assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-6)


def test_a_step_may_give_a_sum_and_its_weight():
    class Weighed(lab.Task):
        def step(self, model, batch):
            inputs, labels = batch
            return nn.functional.cross_entropy(model(inputs), labels, reduction="sum"), len(labels)

    spec = lab.Spec(lr=0.01, batch_size=32, epochs=1, world=2)
    model = net()
    model[2].p = 0.0
    runs = [lab.launch(spec, model=model, data=DATA, task=task) for task in (None, Weighed)]
    for run in runs:
        assert run.wait(90) == "done", run.failure
    for ours, theirs in zip(*(run.model().parameters() for run in runs), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def stepped(step):
    """What a step gives in training, for a batch."""
    task = type("Own", (lab.Task,), {"step": step})(from_user(DATA, 0))
    return Routine(task, net())((X, Y))


def twice(self, model, batch):
    loss = criterion(model(batch[0]), batch[1])
    loss.backward()
    loss.backward()


def unstepped(self, model, batch, optimizer):
    criterion(model(batch[0]), batch[1]).backward()


def early(self, model, batch, optimizer):
    optimizer.step()


def steering(self, model, batch, optimizer):
    optimizer.param_groups[0]["lr"] = 0.1


def each(self, model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")


def nothing(self, model, batch):
    model(batch[0])


def detached(self, model, batch):
    return criterion(model(batch[0]).detach(), batch[1])


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (twice, "calls backward\\(\\) twice"),
        (unstepped, "ended without optimizer.step\\(\\)"),
        (early, "optimizer.step\\(\\) comes before loss.backward\\(\\)"),
        (steering, "optimizer.param_groups is the engine's"),
        (each, "gives a Tensor of shape \\(100,\\); it must return the loss"),
        (nothing, "gives nothing; it must return the loss"),
        (detached, "does not depend on weights that learn"),
    ],
)
def test_what_a_step_can_t_do_is_said(step, words):
    backward = torch.Tensor.backward
    with pytest.raises(SpecError, match=words):
        stepped(step)
    assert torch.Tensor.backward is backward


mine = net()
optimizer = torch.optim.SGD(mine.parameters(), 0.1)
scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer)


def updating(self, model, batch):
    criterion(model(batch[0]), batch[1]).backward()
    optimizer.step()


def scheduling(self, model, batch):
    scheduler.step()
    return criterion(model(batch[0]), batch[1])


def beside(self, model, batch):
    return criterion(mine(batch[0]), batch[1])


def clipping(self, model, batch):
    loss = criterion(model(batch[0]), batch[1])
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)


def asking(self, model, batch, scaler):
    return criterion(model(batch[0]), batch[1])


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (updating, "uses optimizer, which updates the notebook's copy"),
        (scheduling, "uses scheduler, which sets the notebook's lr"),
        (beside, "uses mine, which would not learn; take `model`"),
        (clipping, "uses clip_grad_norm_, .*set Spec\\(clip=...\\)"),
        (asking, "needs 'scaler', which nobody gives it"),
    ],
)
def test_a_step_that_works_past_the_run_is_refused_before_anything_starts(step, words):
    with pytest.raises(SpecError, match=words):
        lab.launch(lab.Spec(), model=net, data=DATA, task=type("Own", (lab.Task,), {"step": step}))
    assert lab.runs() == []
