"""Models of users and items: their formulas, and what is said of a number that none has."""

import pytest
import torch

from lepton_lab.errors import SpecError
from lepton_lab.models import MODELS

NAMES = [name for name, maker in MODELS.items() if "recommendation" in maker.tasks]
USERS = torch.tensor([3, 0, 3])
ITEMS = torch.tensor([[1, 2], [0, 4], [4, 4]])

pytestmark = pytest.mark.usefixtures("one_thread")


def trained(name, **options):
    """A model of five users and items with weights of a size that tells."""
    torch.manual_seed(0)
    model = MODELS[name]((2,), 0, 5, **options).eval().requires_grad_(False)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model


def test_a_factorisation_is_the_formula():
    model = trained("factorisation", factors=3)
    scores = model(USERS, ITEMS)
    for row, user in enumerate(USERS):
        for column, item in enumerate(ITEMS[row]):
            biases = model.mean + model.user_bias.weight[user] + model.item_bias.weight[item]
            assert scores[row, column] == pytest.approx(
                float(biases + model.users.weight[user] @ model.items.weight[item]), rel=1e-5
            )
    assert MODELS["factorisation"]((2,), 0, 5, factors=0)(USERS, ITEMS).eq(3.5).all(), "biases alone, which start at 0"


def test_neumf_is_the_formula():
    model = trained("neumf", factors=3, hidden=7)
    score = model(USERS[:1], ITEMS[:1, :1])
    (user,), ((item,),) = USERS[:1], ITEMS[:1, :1]
    both = model.mlp(torch.cat([model.mlp_users.weight[user], model.mlp_items.weight[item]]))
    last = torch.cat([model.users.weight[user] * model.items.weight[item], both])
    assert score.item() == pytest.approx(float(model.out.weight[0] @ last + model.out.bias) + 3.5, rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_pairs_are_scored_as_users_with_their_items(name):
    model = trained(name)
    pairs = torch.stack([USERS, ITEMS[:, 0]], 1)
    assert torch.allclose(model(pairs), model(USERS, ITEMS[:, :1]))
    assert model(USERS, ITEMS).shape == (3, 2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("number", [5, -1])
def test_a_number_that_nobody_has_is_refused_in_a_sentence(name, number):
    model = trained(name)
    for users, items in ((torch.tensor([number]), ITEMS[:1]), (USERS[:1], torch.tensor([[number]]))):
        with pytest.raises(SpecError, match=rf"^{number} is no user or item: .* from 0 to 4"):
            model(users, items)


@pytest.mark.parametrize("name", NAMES)
def test_dropout_is_of_training_alone(name):
    model = trained(name, dropout=0.5)
    assert model(USERS, ITEMS).equal(model(USERS, ITEMS))
    assert not model.train()(USERS, ITEMS).equal(model(USERS, ITEMS))
