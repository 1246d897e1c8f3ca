import inspect

import pytest
import torch
import torch._dynamo  # sets an environment variable of its own when first needed, which a test would seem to leak
from torch import nn

from lepton_lab.models import MODELS, cnn, mlp, mnist_cnn
from lepton_lab.spec import SpecError

SHAPES = {
    "digits": (1, 8, 8),
    "mnist": (1, 28, 28),
    "cifar10": (3, 32, 32),
    "blobs": (2,),
    "odd": (2, 17, 23),
    "tiny": (1, 1, 3),
}
MEANINGLESS = {(name, "blobs") for name in MODELS if name != "mlp"}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("data", SHAPES)
@pytest.mark.parametrize("name", MODELS)
def test_conformance_trains_a_step_or_says_what_fits(name, data):
    shape = SHAPES[data]
    if (name, data) in MEANINGLESS:
        with pytest.raises(SpecError) as error:
            MODELS[name](shape, 3)
        assert name in str(error.value) and str(shape) in str(error.value) and "'mlp'" in str(error.value)
        return
    model = MODELS[name](shape, 3, dropout=0.0)
    x, y = torch.randn(12, *shape), torch.arange(12) % 3
    optimizer = torch.optim.SGD(model.parameters(), 1e-4)
    first = nn.functional.cross_entropy(model(x), y)
    assert model(x).shape == (12, 3)
    first.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    optimizer.step()
    assert nn.functional.cross_entropy(model(x), y) < first


@pytest.mark.parametrize("name", MODELS)
def test_conformance_of_the_table(name):
    assert MODELS[name].__doc__.strip().splitlines()[0].endswith(".")
    parameters = list(inspect.signature(MODELS[name]).parameters.values())
    assert [p.name for p in parameters[:2]] == ["shape", "classes"]
    assert all(p.kind is p.KEYWORD_ONLY and p.default is not p.empty for p in parameters[2:])
    assert MODELS[name]((1, 8, 8), 0)(torch.zeros(4, 1, 8, 8)).shape == (4, 1)  # regression


@pytest.mark.parametrize("name", MODELS)
def test_weights_start_from_the_seed(name):
    def start():
        torch.manual_seed(3)
        return torch.cat([p.detach().flatten() for p in MODELS[name]((1, 8, 8), 10).parameters()])

    assert torch.equal(start(), start())


def test_sizes_that_the_names_stand_for():
    assert count(mlp((1, 28, 28), 10)) == 784 * 128 + 128 + 128 * 10 + 10
    assert count(mnist_cnn((1, 28, 28), 10)) == 225_034
    convolutions = [m for m in cnn((3, 32, 32), 10).modules() if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [32, 64, 64]
    dense = [m for m in cnn((3, 32, 32), 10).modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in dense] == [(64 * 4 * 4, 64), (64, 10)]


@pytest.mark.parametrize("name", MODELS)
def test_start_keeps_the_scale_of_its_input(name):
    x = torch.randn(64, 1, 28, 28)
    model = MODELS[name]((1, 28, 28), 10).eval()
    assert 0.5 < model(x).std() < 2
    assert all((p == 0).all() for p in model.parameters() if p.ndim == 1)


def test_options():
    model = mlp((4,), 2, hidden=7, dropout=0.5)
    assert model[1].out_features == 7
    x = torch.ones(8, 4)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("option", "value"), [("hidden", 0), ("dropout", 1.0), ("dropout", -0.1)])
def test_bad_options(name, option, value):
    with pytest.raises(SpecError) as error:
        MODELS[name]((1, 8, 8), 10, **{option: value})
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
