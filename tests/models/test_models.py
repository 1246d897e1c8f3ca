import inspect
import subprocess
import sys
import warnings

import pytest
import torch
from helpers import PLAIN
from torch import nn

from lepton_lab.errors import SpecError
from lepton_lab.losses import token_loss
from lepton_lab.models import MODELS, cnn, mlp, mnist_cnn
from lepton_lab.run.checks import glance
from lepton_lab.spec import Spec
from lepton_lab.strategies import stages
from lepton_lab.tables import keywords, table
from lepton_lab.tasks import TASKS

# What a model is told of data: shape of a sample, classes, kinds of tokens.
TOLD = {
    "digits": ((1, 8, 8), 3, 0),
    "mnist": ((1, 28, 28), 3, 0),
    "cifar10": ((3, 32, 32), 3, 0),
    "blobs": ((2,), 3, 0),
    "odd": ((2, 17, 23), 3, 0),
    "tiny": ((1, 1, 3), 3, 0),
    "phrases": ((12,), 3, 50),
    "pydocs": ((16,), 30, 30),
}
FITS = {data: {"mlp", "cnn", "mnist_cnn", "resnet", "transformer", "rnn"} for data in TOLD} | {
    "blobs": {"mlp"},
    "phrases": {"transformer", "rnn"},
    "pydocs": {"gpt", "rnn"},
}
for data in ("mnist", "cifar10", "odd"):  # of 16 x 16 pixels at least
    FITS[data] |= {"lenet"}
NEAREST = dict.fromkeys(TOLD, "transformer") | {"blobs": "mlp", "pydocs": "gpt"}
READS = {name: "pydocs" if name == "gpt" else "mnist" for name in PLAIN}


pytestmark = pytest.mark.usefixtures("one_thread")


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def batch(data: str, n: int = 12):
    """Inputs and targets as such data have them."""
    shape, classes, vocabulary = TOLD[data]
    x = torch.randint(vocabulary, (n, *shape)) if vocabulary else torch.randn(n, *shape)
    return x, x.roll(-1, 1) if vocabulary == classes else torch.arange(n) % classes


@pytest.mark.parametrize("data", TOLD)
@pytest.mark.parametrize("name", PLAIN)
def test_conformance_trains_a_step_or_says_what_fits(name, data):
    told = TOLD[data]
    if name not in FITS[data]:
        with pytest.raises(SpecError) as error:
            MODELS[name](*told)
        text = str(error.value)
        assert "\n" not in text and f"model={name!r}" in text and str(told[0]) in text
        assert text.endswith(f"take model={NEAREST[data]!r}") and NEAREST[data] in FITS[data]
        return
    model = MODELS[name](*told, **({"dropout": 0.0} if "dropout" in keywords(MODELS[name]) else {}))
    x, y = batch(data)
    optimizer = torch.optim.SGD(model.parameters(), 1e-4)
    first = token_loss(model(x), y)
    assert model(x).shape == (*y.shape, told[1])
    first.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    optimizer.step()
    assert token_loss(model(x), y) < first


@pytest.mark.parametrize("name", MODELS)
def test_conformance_of_the_table(name):
    assert MODELS[name].__doc__.strip().splitlines()[0].endswith(".")
    parameters = list(inspect.signature(MODELS[name]).parameters.values())
    assert [p.name for p in parameters[:3]] == ["shape", "classes", "vocabulary"]
    assert all(p.kind is p.KEYWORD_ONLY and p.default is not p.empty for p in parameters[3:])
    assert set(MODELS[name].tasks) <= {*TASKS}
    if name in PLAIN and name != "gpt":
        assert MODELS[name]((1, 16, 16), 0)(torch.zeros(4, 1, 16, 16)).shape == (4, 1)  # regression


SAMPLES = {"gpt": ((16,), 30, 30), "bert": ((12,), 3, 50), "encoder_decoder": ((12,), 30, 50)}
SAMPLES |= {"reader": ((12,), 12, 50)}
SAMPLES |= {"word_vectors": ((12,), 50, 50), "factorisation": ((2,), 0, 50), "neumf": ((2,), 0, 50)}
SAMPLES |= {"enhancer": ((512,), 0, 0)}


@pytest.mark.parametrize("name", MODELS)
def test_only_a_chain_of_layers_is_cut_by_a_pipeline(name):
    model = MODELS[name](*SAMPLES.get(name, ((1, 32, 32), 3, 0)))
    if MODELS[name].chain:
        assert len(stages.layers(model)) > 1
        return
    with pytest.raises(SpecError, match="can't tell how to cut"):
        stages.layers(model)
    with pytest.raises(SpecError, match=f"cuts a chain of layers.*model='{name}' is none; take strategy='ddp'"):
        Spec(model=name, strategy="pipeline", world=2)


@pytest.mark.parametrize("name", PLAIN)
def test_weights_start_from_the_seed(name):
    def start():
        torch.manual_seed(3)
        return torch.cat([p.detach().flatten() for p in MODELS[name](*TOLD[READS[name]]).parameters()])

    assert torch.equal(start(), start())


def test_sizes_that_the_names_stand_for():
    assert [count(MODELS["lenet"]((1, 28, 28), 10, version=version)) for version in ("5", "300-100")] == [
        431_080,
        266_610,
    ]
    assert count(mlp((1, 28, 28), 10)) == 784 * 128 + 128 + 128 * 10 + 10
    assert count(mnist_cnn((1, 28, 28), 10)) == 225_034
    convolutions = [m for m in cnn((3, 32, 32), 10).modules() if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [32, 64, 64]
    dense = [m for m in cnn((3, 32, 32), 10).modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in dense] == [(64 * 4 * 4, 64), (64, 10)]


@pytest.mark.parametrize("name", PLAIN)
def test_start_keeps_the_scale_of_its_input(name):
    model = MODELS[name](*TOLD[READS[name]]).eval()
    assert 0.5 < model(batch(READS[name], 64)[0]).std() < 2
    assert all((p == ("norm" in key and "weight" in key)).all() for key, p in model.named_parameters() if p.ndim == 1)


def test_options():
    model = mlp((4,), 2, hidden=7, dropout=0.5)
    assert model[1].out_features == 7
    x = torch.ones(8, 4)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("option", "value"), [("width", 0), ("depth", 0), ("dropout", 1.0), ("dropout", -0.1)])
def test_bad_options(name, option, value):
    option = option if option in keywords(MODELS[name]) else "hidden"
    with pytest.raises(SpecError) as error:
        Spec(model=name, options={option: value})
    assert option in str(error.value) and str(value) in str(error.value)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0)])
def test_mlp_needs_features(shape):
    with pytest.raises(SpecError, match="no features"):
        mlp(shape, 2)


def test_cnn_learns_digits(tmp_path):
    from lepton_lab.datasets import DATASETS

    data = DATASETS["digits"](tmp_path, 0)

    def scaled(x):
        return (x.float() / 255 - data.mean[0]) / data.std[0]

    model = cnn(data.shape, len(data.classes))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    x, y = scaled(data.train[0]), data.train[1]
    for _ in range(5):
        for batch in torch.randperm(len(y)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
    with torch.no_grad():
        accuracy = (model(scaled(data.test[0])).argmax(1) == data.test[1]).float().mean()
    assert accuracy >= 0.97


@pytest.mark.parametrize(
    ("model", "dataset", "fields", "said"),
    [
        ("transformer", "digits", {"options": {"heads": 3}}, "take 2 or 4"),
        ("transformer", "digits", {"options": {"patch": 9}}, "from 1 to 8"),
        ("gpt", "pydocs", {"options": {"width": 12}}, "positions='learned'"),
        ("bert", "sst2", {"options": {"heads": 3}}, "take 2 or 4"),
        ("encoder_decoder", "dates", {"options": {"heads": 5}}, "take 4 or 8"),
        ("reader", "glosses", {"options": {"heads": 5}}, "take 4 or 6"),
        ("rnn", "digits", {"options": {"width": 3, "bidirectional": True}}, "take 4"),
        ("rnn", "pydocs", {"options": {"bidirectional": True}}, "take bidirectional=False"),
        ("flow", "diabetes", {"task": "flow_matching", "options": {"labels": True}}, "no classes.*leave it out"),
        ("flow", "digits", {"task": "flow_matching", "options": {"width": 1}}, "at least 2"),
    ],
)
def test_options_that_a_model_can_t_have_are_refused_before_anything_starts(model, dataset, fields, said):
    with pytest.raises(SpecError, match=said) as error:
        glance(Spec(model=model, dataset=dataset, **fields))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", MODELS)
def test_the_least_of_each_option_makes_a_model_or_is_refused(name):
    maker = MODELS[name]
    told = [((1, 17, 17), 3, 0), ((7,), 3, 50), ((7,), 50, 50), ((2,), 0, 50), ((400,), 0, 0)]
    sample = next(sample for sample in told if not maker.refuse(*sample))
    for option, rule in keywords(maker).items():
        least = [bound.ge for bound in rule.metadata if hasattr(bound, "ge")] + [True] * isinstance(rule.default, bool)
        if least and not maker.refuse(*sample, **{option: least[0]}):
            with warnings.catch_warnings():  # torch warns of layers without a number
                warnings.simplefilter("error")
                maker(*sample, **{option: least[0]})


def test_a_model_is_known_to_suit_before_data_and_torch_are_there():
    code = """
import sys, lepton_lab as lab
for dataset, model in [("digits", "gpt"), ("pydocs", "cnn"), ("blobs", "transformer"), ("mnist", "gpt")]:
    try:
        lab.launch(lab.Spec(dataset=dataset, model=model))
    except lab.SpecError as error:
        print(str(error).split(",")[0])
print(lab.runs(), "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "model='gpt': takes texts: tokens",
        "model='cnn': takes images (channels",
        "model='transformer': takes images",
        "model='gpt': takes texts: tokens",
        "[] False",
    ]


@pytest.mark.parametrize("name", ["digits", "blobs", "pydocs"])
def test_what_is_said_of_a_data_set_s_samples_is_true_for_every_model(name, tmp_path):
    data = table("dataset")[name](tmp_path, 0)
    sample = data.shape, len(data.classes), data.vocabulary
    shape, classes, vocabulary = table("dataset")[name].sample
    assert shape == data.shape and (vocabulary == classes) == (data.vocabulary == len(data.classes))
    for maker in table("model").values():
        assert bool(maker.refuse(*sample)) == bool(maker.refuse(shape, classes, vocabulary))
        if maker.refuse(*sample):
            with pytest.raises(SpecError, match="but the samples are"):
                maker(*sample)
        else:
            maker(*sample)
