"""A loss that is no mean over samples: the same in any number of ranks and micro-batches, and in evaluation."""

import functools
from types import MappingProxyType

import pytest
import torch
from torch import nn
from torch.nn import functional

import lepton_lab as lab
from lepton_lab.batches import Batch
from lepton_lab.compressors.distill import Taught
from lepton_lab.datasets import from_user
from lepton_lab.errors import SpecError
from lepton_lab.losses import token_loss
from lepton_lab.objectives import Criterion

WEIGHTS = torch.tensor([0.1, 5.0, 5.0, 5.0])
LOSSES = {
    "weights": nn.CrossEntropyLoss(weight=WEIGHTS),
    "smoothed": nn.CrossEntropyLoss(weight=WEIGHTS, label_smoothing=0.1, ignore_index=2),
    "partial": functools.partial(functional.cross_entropy, weight=WEIGHTS),
    "sum": nn.CrossEntropyLoss(reduction="sum"),
    "ignored": None,
}


def samples(ignored=False):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 8, generator=generator)
    y = torch.randint(0, 4, (60,), generator=generator) * (torch.rand(60, generator=generator) < 0.6)
    if ignored:
        y[torch.rand(60, generator=generator) < 0.6] = -100
    return x, y


def net():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 4))


def by_hand(loss, x, y, lr):
    """An epoch of plain SGD in steps of 8; the model, and the loss and accuracy before each step."""
    model, rows = net(), []
    counted = y != getattr(loss, "ignore_index", -100)
    for step in torch.randperm(60, generator=torch.Generator().manual_seed(0)).split(8):
        model.zero_grad()
        scores = model(x[step])
        value = loss(scores, y[step])
        if counted[step].any():
            value.backward()
            right = (scores.argmax(1) == y[step])[counted[step]].double().mean()
            rows.append((value.item(), right.item()))
            with torch.no_grad():
                for p in model.parameters():
                    p -= lr * p.grad
        else:
            rows.append((0.0, 0.0))
    return model, rows


SPLITS = {"ddp": (2, 1), "single": (1, 4), "pipeline": (2, 1), "fsdp": (2, 2)}  # strategy -> world, accumulate
QUICK = [("partial", "ddp"), ("ignored", "ddp"), ("sum", "ddp"), ("smoothed", "single"), ("smoothed", "pipeline")]
QUICK += [("ignored", "fsdp")]
OTHERS = [("weights", "ddp"), ("smoothed", "ddp"), ("smoothed", "fsdp"), ("ignored", "pipeline")]
OTHERS += [(name, "single") for name in LOSSES if name != "smoothed"]


@pytest.mark.parametrize(
    ("name", "strategy"), QUICK + [pytest.param(*other, marks=pytest.mark.slow) for other in OTHERS]
)
def test_ranks_and_micro_batches_make_up_one_batch(name, strategy):
    world, accumulate = SPLITS[strategy]
    loss = LOSSES[name] or functional.cross_entropy
    part = x, y = samples(name == "ignored")
    lr = 0.01 if name == "sum" else 0.2
    spec = lab.Spec(strategy=strategy, world=world, accumulate=accumulate, optimizer="sgd", lr=lr, epochs=1)
    data = (torch.utils.data.StackDataset(x, y), part, part) if strategy == "fsdp" else (part, part, part)
    run = lab.launch(spec.replace(batch_size=8), model=net, data=data, loss=LOSSES[name])
    assert run.wait(90) == "done", run.failure
    model, rows = by_hand(loss, x, y, lr)
    trained = run.model()
    for a, b in zip(model.parameters(), trained.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    for step, (value, accuracy) in enumerate(rows, 1):
        told = [row for row in run.rows("train") if row["step"] == step and row["samples"]]
        n = sum(row["samples"] for row in told)
        assert sum(row["loss"] * row["samples"] for row in told) / n == pytest.approx(value, rel=1e-4)
        assert sum(row["accuracy"] * row["samples"] for row in told) / n == pytest.approx(accuracy, abs=1e-4)
    with torch.no_grad():
        scores = trained(x)
    counted = y != getattr(loss, "ignore_index", -100)
    told = run.rows("eval")[-1]
    assert told["loss"] == pytest.approx(float(loss(scores, y)), rel=1e-5)
    assert told["accuracy"] == pytest.approx(float((scores.argmax(1) == y)[counted].double().mean()), abs=1e-6)
    assert sum(map(sum, told["confusion"])) == (y >= 0).sum()


def test_a_loss_that_is_no_number_is_refused_and_ignored_labels_are_no_classes():
    part = samples()
    with pytest.raises(SpecError, match="reduction='none'.*take reduction='mean'"):
        lab.launch(lab.Spec(), model=net, data=part, loss=nn.CrossEntropyLoss(reduction="none"))
    x, y = samples(ignored=True)
    assert from_user((x, y), 0).classes == ["0", "1", "2", "3"]
    assert len(from_user((x, torch.where(y < 0, 255, y)), 0, 255).classes) == 4
    with pytest.raises(SpecError, match="label -100"):
        from_user((x, y), 0, 255)


def test_a_weight_below_zero_is_refused():
    negative = nn.CrossEntropyLoss(weight=torch.tensor([1.0, -2.0, 1.0, 1.0]))
    with pytest.raises(SpecError, match=r"weight\[1\]=-2: the weight of a loss must be 0 or more"):
        lab.launch(lab.Spec(), model=net, data=samples(), loss=negative)

    class Turned(lab.Task):
        weights = MappingProxyType({"gain": -0.5})

    with pytest.raises(SpecError, match="weights: gain=-0.5: the weight of a loss must be 0 or more.*return -loss"):
        lab.launch(lab.Spec(), model=net, data=samples(), task=Turned)
    criterion = Criterion(lambda output, target: (output.sum(), -len(target)))
    for batch in criterion.over([Batch(torch.ones(4, 1), torch.zeros(4), 1.0, 4)]):
        criterion(batch.x, batch.y)
    with pytest.raises(SpecError, match=r"loss=\(sum, weight\): weight=-4"):
        criterion.settle()


def test_a_weight_of_too_few_classes_is_named():
    with pytest.raises(SpecError, match="weight has 3 numbers, and a label is 3; give one for each class"):
        Criterion(nn.CrossEntropyLoss(weight=WEIGHTS[:3])).weight(torch.tensor([0, 3]))


def test_a_loss_of_one_number_in_a_row_is_one():
    run = lab.launch(
        lab.Spec(epochs=1, strategy="single"),
        model=net,
        data=(samples(),) * 3,
        loss=lambda output, target: functional.cross_entropy(output, target).reshape(1),
    )
    assert run.wait(60) == "done", run.failure


def test_chances_of_classes_weigh_alike():
    x = torch.randn(6, 4, 3)
    y = torch.randn(6, 4, 3).softmax(1)
    for loss in (nn.CrossEntropyLoss(weight=WEIGHTS), nn.CrossEntropyLoss()):
        assert torch.allclose(Criterion(loss)(x, y), loss(x, y))


def test_in_square_texts_the_last_axis_is_that_of_classes():
    scores = torch.randn(2, 5, 5)
    target = scores.argmax(2)
    data = from_user((torch.randint(0, 5, (20, 5)), torch.randint(0, 5, (20, 5))), 0)
    assert Criterion(token_loss, data).right(scores, target) == 2
    assert Criterion(functional.cross_entropy, data).right(scores, scores.argmax(1)) == 2


def taught(loss, teacher, x, **options):
    objective = Taught(Criterion(loss), teacher, None, 2.0, 1.0, **options)
    objective.batch = Batch(x, None, 1.0, len(x))
    return objective


def test_a_teacher_of_numbers_is_followed_by_the_squared_error():
    x, teacher = torch.randn(16, 8), nn.Linear(8, 4)
    for options in ({}, {"classes": 0}):
        objective = taught(functional.mse_loss, teacher, x, **options)
        assert objective(teacher(x) + 100, teacher(x)).item() == pytest.approx(10_000, rel=1e-4)


def test_a_teacher_of_yes_and_no_teaches_each_answer_by_itself():
    x, teacher = torch.randn(16, 8), nn.Linear(8, 4)
    objective = taught(nn.BCEWithLogitsLoss(), teacher, x)
    target = (teacher(x) > 0).float()
    assert objective(teacher(x), target).item() == pytest.approx(0, abs=1e-6)
    chances = (teacher(x) / 2).sigmoid()  # at the temperature
    ours, theirs = (
        functional.binary_cross_entropy_with_logits(scores / 2, chances) for scores in (teacher(x) + 3, teacher(x))
    )
    # A softmax would see no difference; it is no squared error either, which is 9.
    assert objective(teacher(x) + 3, target).item() == pytest.approx(4 * (ours - theirs).item(), rel=1e-4)


def test_a_teacher_of_padded_texts_teaches_what_is_no_padding_however_a_step_is_cut():
    x, target = torch.randn(4, 6, 8), torch.randint(0, 4, (4, 6))
    target[0, 1:] = target[3, 4:] = -100
    teacher, student = nn.Linear(8, 4), nn.Linear(8, 4)

    def step(*cuts, alpha=0.5):
        objective = Taught(Criterion(token_loss, tokens=True), teacher, None, 2.0, alpha, classes=4, tokens=True)
        parts = [Batch(x[cut], target[cut], len(x[cut]) / 4, len(x[cut])) for cut in cuts]
        return sum(objective(student(batch.x), batch.y) * batch.share for batch in objective.over(parts)).item()

    counted = target != -100
    scores = [(layer(x)[counted] / 2).log_softmax(-1) for layer in (student, teacher)]
    soft = 4 * functional.kl_div(*scores, reduction="batchmean", log_target=True)
    hard = functional.cross_entropy(student(x)[counted], target[counted])
    for cuts in ([slice(0, 4)], [slice(0, 1), slice(1, 4)], [slice(0, 3), slice(3, 4)]):
        assert step(*cuts) == pytest.approx((soft / 2 + hard / 2).item(), rel=1e-5)
    assert step(slice(0, 4), alpha=1.0) == pytest.approx(soft.item(), rel=1e-5)


def test_a_teacher_without_labels_takes_the_attention_mask_for_what_counts():
    x, mask = torch.randn(3, 5, 8), torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]])

    def scores(layer):
        return lambda x, attention_mask: layer(x)

    teacher, student = nn.Linear(8, 4), nn.Linear(8, 4)
    objective = Taught(Criterion(token_loss), scores(teacher), None, 1.0, 1.0, classes=4, tokens=True)
    objective.batch = Batch({"x": x, "attention_mask": mask}, None, 1.0, 3)
    parts = [layer(x)[mask.bool()].log_softmax(-1) for layer in (student, teacher)]
    expected = functional.kl_div(*parts, reduction="batchmean", log_target=True)
    assert objective(student(x), torch.zeros(3, dtype=torch.long)).item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_teacher_of_pictures_teaches_the_classes_of_each_pixel():
    x, teacher = torch.randn(2, 1, 6, 6), nn.Conv2d(1, 3, 3, padding=1)
    objective = taught(functional.cross_entropy, teacher, x, classes=3)
    target, scores = torch.zeros(2, 6, 6, dtype=torch.long), teacher(x).detach()
    shifted = scores + torch.randn(2, 3, 1, 1)
    wanted, ours = (part.div(2).log_softmax(1) for part in (scores, shifted))
    by_hand = 4 * (wanted.exp() * (wanted - ours)).sum(1).mean()
    assert objective(shifted, target).item() == pytest.approx(float(by_hand), rel=1e-4)
    assert objective(scores + torch.randn(2, 1, 6, 6), target).item() == pytest.approx(0, abs=1e-5)
