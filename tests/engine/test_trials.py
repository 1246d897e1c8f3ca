"""What can be seen of a model before its first step, and what is said where torch's own words say too little."""

import pytest
import torch
from torch import nn

import lepton_lab as lab
from lepton_lab.datasets import from_user
from lepton_lab.engine.feed import alone
from lepton_lab.engine.trials import normalises
from lepton_lab.errors import SpecError
from lepton_lab.launchers.remedies import remedied

X, Y = torch.randn(129, 8), torch.arange(129) % 4


def net(normal=nn.BatchNorm1d, shape=8):
    return nn.Sequential(nn.Flatten(), nn.Linear(shape, 6), normal(6), nn.Linear(6, 4))


@pytest.mark.parametrize(
    ("n", "parts", "fields", "expected"),
    [
        (129, 1, {"batch_size": 64}, True),
        (128, 1, {"batch_size": 64}, False),
        (128, 2, {"batch_size": 2}, True),
        (131, 2, {"batch_size": 64}, True),  # three samples: two and one
        (132, 2, {"batch_size": 64}, False),
        (1, 1, {}, True),
        (129, 1, {"batch_size": 64, "accumulate": 64}, True),
        (129, 1, {"batch_size": 129, "accumulate": 2}, False),
        (129, 1, {"batch_size": 100, "optimizer": "gd"}, False),
        (129, 1, {"batch_size": 128, "optimizer": "gd"}, True),
    ],
)
def test_a_rank_s_batch_of_one_is_known_from_numbers_alone(n, parts, fields, expected):
    assert alone(lab.Spec(**fields), n, parts) is expected


@pytest.mark.parametrize("model", [net(), lambda: net()])
def test_a_sample_that_batch_normalisation_can_t_take_alone_is_refused_in_the_cell(model, home):
    spec = lab.Spec(epochs=1, batch_size=64, strategy="single")
    with pytest.raises(SpecError, match=r"batch_size=64: with 129 training samples a rank gets a batch of one, .*=63"):
        lab.launch(spec, model=model, data=((X, Y), (X, Y), (X, Y)))
    assert not list((home / "runs").glob("*"))


@pytest.mark.parametrize(
    ("n", "fields", "remedy"),
    [
        (40, {"world": 4, "batch_size": 4}, "take batch_size=8"),
        (40, {"world": 2, "batch_size": 5, "accumulate": 2}, "take batch_size=8"),
        (41, {"world": 41, "batch_size": 41, "optimizer": "gd"}, "give more samples, or take fewer ranks"),
    ],
)
def test_the_batch_size_to_take_is_one_that_the_ranks_can_share(n, fields, remedy):
    data = from_user(((X[:n], Y[:n]),) * 3, 0)
    with pytest.raises(SpecError, match=f"batch_size={fields['batch_size']}: with {n} .*; {remedy}"):
        normalises(net(), data, lab.Spec(**fields), fields["world"])


def test_with_no_cell_to_refuse_in_the_rank_does_before_the_first_step():
    made = lab.launch(lab.Spec(batch_size=719, epochs=1, strategy="single"), model=lambda: net(shape=64))
    assert made.wait(60) == "failed"
    assert made.failure.type == "SpecError" and "a batch of one" in made.failure.message and made.failure.step == 0


@pytest.mark.parametrize("normal", [nn.LayerNorm, nn.Identity])
def test_other_models_take_a_sample_alone(normal):
    model = net(lambda size: normal(size))
    run = lab.launch(lab.Spec(epochs=1, batch_size=64, strategy="single"), model=model, data=((X, Y), (X, Y), (X, Y)))
    assert run.wait(60) == "done", run.failure


def frozen():
    return nn.Linear(8, 4).requires_grad_(False)


def test_a_model_without_anything_to_train_is_refused():
    for model, said in ((frozen(), "has 2 parameters, all frozen"), (nn.Flatten(), "has no parameters")):
        with pytest.raises(SpecError, match=said):
            lab.launch(lab.Spec(epochs=1), model=model, data=(X, Y))
    run = lab.launch(lab.Spec(epochs=1), model=frozen, data=(X, Y))
    assert run.wait(60) == "failed" and "has 2 parameters, all frozen" in run.failure.message


def test_labels_given_as_floats_are_refused_where_the_model_scores_classes():
    with pytest.raises(SpecError, match=r"y are floats, one a sample, and the model gives 4 numbers: give y.long"):
        lab.launch(lab.Spec(epochs=1), model=lambda: net(nn.LayerNorm), data=(X, Y.float()))
    counts = lab.launch(lab.Spec(epochs=1), model=lambda: nn.Linear(8, 1), data=(X, Y.float()))
    assert counts.wait(60) == "done", counts.failure


LAZY = {
    "linear": lambda: nn.Sequential(nn.LazyLinear(16), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(4)),
    "convolution": lambda: nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(4)),
}


@pytest.mark.parametrize("kind", LAZY)
def test_lazy_layers_learn_their_sizes_before_training(kind):
    x = X if kind == "linear" else torch.randn(129, 1, 5, 5)
    run = lab.launch(lab.Spec(epochs=1, batch_size=43, world=2), model=LAZY[kind], data=(x, Y))
    assert run.wait(60) == "done", run.failure
    model = run.model()
    assert model(x).shape == (129, 4) and isinstance(model[-1], nn.Linear)


class Unreached(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.spare = nn.LazyLinear(4), nn.LazyLinear(4)

    def forward(self, x):
        return self.used(x) if x.ndim == 2 else self.used(x[:, :, 10**6])


def test_lazy_layers_whose_sizes_can_t_be_had_are_a_sentence():
    for shape, said in (
        ((8,), "has lazy layers that a batch does not reach"),
        ((2, 3), "whose sizes can't be had from a"),
    ):
        with pytest.raises(SpecError, match=said):
            lab.launch(lab.Spec(epochs=1), model=Unreached, data=(torch.randn(64, *shape), Y[:64]))


def test_a_model_of_doubles_takes_doubles():
    spec = lab.Spec(epochs=1, strategy="single")
    run = lab.launch(spec, model=lambda: nn.Linear(8, 4).double(), data=(X.double(), Y))
    assert run.wait(60) == "done", run.failure
    assert run.model().weight.dtype == torch.float64
    target = lab.launch(spec, model=lambda: nn.Linear(8, 1).double(), data=(X, X[:, :1]))
    assert target.wait(60) == "done", target.failure


class Several(nn.Linear):
    def __init__(self, form=tuple):
        super().__init__(8, 4)
        self.form = form

    def forward(self, x):
        y = super().forward(x)
        return {"scores": y} if self.form is dict else (y, y)


@pytest.mark.parametrize(
    ("model", "y", "loss", "said"),
    [
        (Several(), Y, None, "the model gives a tuple, and the usual loss takes a tensor: give loss=..."),
        (Several(dict), torch.rand(129, 4), None, "the model gives a dict, and the usual loss takes a tensor"),
        (
            nn.Linear(8, 4),
            Y + 1,
            None,
            "a label is 4, and the model scores no class of that number: labels count",
        ),
        (nn.Linear(8, 4), nn.functional.one_hot(Y), nn.BCEWithLogitsLoss(), "the loss takes targets of floats"),
        (nn.Linear(8, 4), torch.rand(129, 3), None, "the model gives (32, 4) for targets (32, 3) of floats"),
    ],
)
def test_what_torch_says_of_models_and_targets_comes_with_what_to_do(model, y, loss, said):
    run = lab.launch(lab.Spec(epochs=1, batch_size=32), model=model, data=(X, y), loss=loss)
    assert run.wait(60) == "failed" and run.failure.message.startswith(said), run.failure


def test_whole_numbers_that_are_no_tokens_are_named():
    run = lab.launch(lab.Spec(epochs=1), model=lambda: nn.Linear(8, 4), data=((X * 9).short(), Y))
    assert run.wait(60) == "failed" and "numbers of two types meet" in run.failure.message, run.failure
    assert "make such x float32" in run.failure.message


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        (lambda: nn.Conv2d(1, 1, 1)(torch.ones(1, 1, 2, 2).int()), "make such x float32"),
        (lambda: torch.ones(2, 2) @ torch.ones(2, 2).long(), "make such x float32"),
        (lambda: nn.Linear(2, 2)(torch.ones(2, 2).bfloat16()), "give all weights one type"),
        (lambda: nn.Conv2d(1, 1, 1)(torch.ones(1, 1, 2, 2).bfloat16()), "give all weights one type"),
        (lambda: nn.functional.cross_entropy(torch.ones(4, 3), torch.ones(4)), "y are floats: give y.long()"),
        (lambda: nn.functional.binary_cross_entropy(torch.ones(4), torch.ones(4).long()), "give y.float()"),
        (lambda: (torch.ones(3, requires_grad=True) * 2).backward(), "give their mean"),
        (lambda: torch.ones(1).backward(), "depends on no weight that is trained"),
    ],
)
def test_what_torch_says_of_types_and_losses_comes_with_what_to_do(mistake, said):
    with pytest.raises(RuntimeError) as error:
        mistake()
    told = remedied(str(error.value))
    assert said in told and ("integers" in told) == (said == "make such x float32")


class Partly(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.spare = nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, x):
        return self.used(x)


def test_parameters_without_a_part_in_the_loss_are_told_of():
    run = lab.launch(lab.Spec(epochs=1, world=2, strategy="ddp"), model=Partly, data=(X, Y))
    assert run.wait(60) == "failed"
    assert "give options={'find_unused_parameters': True}" in run.failure.message
    assert remedied("nothing known") == "nothing known"


class Looking(nn.Module):
    """Takes pictures as floats, or as bytes, that a mask hides in part."""

    def __init__(self, scale):
        super().__init__()
        self.scale, self.layer = scale, nn.Conv2d(3, 4, 3)

    def forward(self, image, mask):
        return self.layer((image / 255 if self.scale else image) * mask[:, None]).mean((2, 3))


PICTURES = [
    {"image": torch.full((3, 4, 4), 51 * i, dtype=torch.uint8), "mask": torch.ones(4, 4).byte(), "labels": i}
    for i in (0, 1)
] * 6


def test_bytes_of_a_nest_are_the_model_s_to_scale():
    spec, data = lab.Spec(epochs=1, strategy="single", batch_size=4), (PICTURES, PICTURES)

    def loss(outputs, batch):
        return nn.functional.cross_entropy(outputs, batch["labels"])

    for model in (Looking(False), lambda: Looking(False)):
        with pytest.raises(lab.SpecError, match=r"a dict of image, mask, labels, whose uint8 of shape \(3, 4, 4\) and"):
            lab.launch(spec, model=model, data=data, loss=loss)
    run = lab.launch(spec, model=Looking(True), data=data, loss=loss)
    assert run.wait(60) == "done", run.failure
