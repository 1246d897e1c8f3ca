"""Initialisations by name: their sizes, what they do to a signal through depth, and that every model offers them."""

import pytest
import torch
from torch import nn

from lepton_lab.models import MODELS
from lepton_lab.models.initialising import DEVIATION, initialise
from lepton_lab.tables import keywords

HOW = ("gaussian", "xavier", "kaiming", "orthogonal")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("make", "deviations"),
    [
        (lambda: nn.Linear(100, 300), (DEVIATION, 400**-0.5 * 2**0.5, 50**-0.5, 100**-0.5)),
        (lambda: nn.Conv2d(20, 60, 3), (DEVIATION, (2 / 720) ** 0.5, 90**-0.5, 180**-0.5)),
        (lambda: nn.ConvTranspose2d(60, 20, 3), (DEVIATION, (2 / 720) ** 0.5, 270**-0.5, 180**-0.5)),
        (lambda: nn.Embedding(500, 50), (DEVIATION, 50**-0.5, 25**-0.5, 50**-0.5)),
        (lambda: nn.GRU(100, 100), (DEVIATION, (2 / 400) ** 0.5, 50**-0.5, 100**-0.5)),
    ],
)
def test_weights_have_the_size_that_their_formula_says(make, deviations):
    module = make()
    for how, deviation in zip(HOW, deviations, strict=True):
        initialise(module, how)
        weights = [p.detach() for p in module.parameters() if p.ndim >= 2]
        assert all(
            w.std().item() == pytest.approx(deviation, rel=0.05) and abs(w.mean()) < deviation / 20 for w in weights
        )
        assert all((p == 0).all() for name, p in module.named_parameters() if name.startswith("bias"))


def test_orthogonal_rows_are_at_right_angles():
    for outputs, inputs in ((40, 40), (20, 50), (90, 30)):
        layer = nn.Linear(inputs, outputs)
        initialise(layer, "orthogonal")
        w = layer.weight.detach()
        gram = w @ w.T if outputs <= inputs else w.T @ w * inputs / outputs
        assert torch.allclose(gram, torch.eye(len(gram)), atol=1e-5)


def test_through_thirty_layers_a_signal_keeps_its_size_or_not():
    """0.02 is too small for this width; Kaiming's suits ReLUs, Xavier's what is linear; right angles keep lengths."""

    def size(how, between):
        deep = nn.Sequential(*(part for _ in range(30) for part in (nn.Linear(64, 64), between())))
        initialise(deep, how)
        return deep(torch.randn(50, 64)).pow(2).mean().sqrt().item()

    assert size("gaussian", nn.Identity) < 1e-12
    assert size("orthogonal", nn.Identity) == pytest.approx(1, rel=0.05)
    assert 0.1 < size("kaiming", nn.ReLU) < 10 and size("xavier", nn.ReLU) < 1e-3
    assert 0.1 < size("xavier", nn.Identity) < 10


def test_norms_stay():
    norm = nn.LayerNorm(8)
    initialise(norm, "kaiming")
    assert (norm.weight == 1).all()


@pytest.mark.parametrize("name", MODELS)
def test_every_model_offers_them(name):
    option = keywords(MODELS[name])["initialisation"]
    assert option.default == "own" and "drawn" in option.description
    assert "initialisation" in MODELS[name].__doc__
