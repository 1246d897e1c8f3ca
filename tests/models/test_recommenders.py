"""Models of users and items: their formulas, and what is said of a number that none has."""

import pytest
import torch

import lepton_lab as lab
from lepton_lab.datasets import SOURCES, from_user
from lepton_lab.datasets.files import find
from lepton_lab.errors import SpecError
from lepton_lab.files import data_root
from lepton_lab.models import MODELS
from lepton_lab.tasks import make

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


def test_numbers_are_compared_before_a_table_is_looked_up(monkeypatch):
    """On a GPU a look-up outside of it would end the process."""
    model = trained("neumf")
    monkeypatch.setattr(model, "score", lambda users, items: pytest.fail("looked up"))
    with pytest.raises(SpecError, match="^5 is no user or item"):
        model(USERS, ITEMS.masked_fill(ITEMS == 4, 5))


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


def launched(name, task, strategy="single", **fields):
    world = 1 if strategy == "single" else 2
    fields = {"dataset": "ratings", "epochs": 2, "batch_size": 256, "lr": 0.02, "optimizer": "momentum", **fields}
    return lab.launch(lab.Spec(model=name, task=task, strategy=strategy, world=world, **fields))


def figures(run):
    assert run.wait(120) == "done", run.failure
    return [row["loss"] for row in run.rows("eval")]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "zero", "fsdp"])
@pytest.mark.parametrize("task", ["regression", "recommendation"])
@pytest.mark.parametrize("name", NAMES)
def test_two_ranks_train_as_one(name, task, strategy):
    one, two = figures(launched(name, task)), figures(launched(name, task, strategy))
    assert two == pytest.approx(one, rel=1e-4) and one[-1] < one[0]


@pytest.mark.slow
def test_the_layers_of_neumf_are_cut_where_one_tensor_is_passed():
    assert figures(launched("neumf", "regression", "tensor")) == pytest.approx(
        figures(launched("neumf", "regression")), rel=1e-4
    )


@pytest.mark.parametrize(
    ("name", "task", "strategy", "said"),
    [
        ("neumf", "recommendation", "tensor", "passes one tensor from layer to layer"),
        ("factorisation", "regression", "tensor", "has none of the layers that it cuts"),
        ("factorisation", "recommendation", "pipeline", "cuts a chain of layers"),
        ("neumf", "regression", "pipeline", "cuts a chain of layers"),
    ],
)
def test_who_can_t_cut_them_says_so(name, task, strategy, said):
    with pytest.raises(SpecError, match=rf"strategy='{strategy}'.*{said}.*strategy='ddp'"):
        launched(name, task, strategy)


@pytest.mark.parametrize("name", NAMES)
def test_as_many_candidates_as_users_and_items_are_no_reason_to_refuse(name):
    pairs = torch.stack([torch.arange(40) % 9, torch.arange(40)], 1)
    pairs[0] = torch.tensor([9, 49])  # of 50 items all others are left for user 9 to rank
    task = make(lab.Spec(task="recommendation", model=name), from_user((pairs, torch.ones(40)), 0))
    assert task.data.sample[1:] == (50, 50) and not MODELS[name].refuse(*task.data.sample)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnxruntime", "torch"])
@pytest.mark.parametrize("name", NAMES)
def test_a_file_scores_as_the_model_does_and_refuses_who_is_not_known(name, runtime, tmp_path):
    run = launched(name, "recommendation", epochs=1)
    figures(run)
    lab.export(run, tmp_path / "m.lepton", runtime=runtime)
    file = lab.load(tmp_path / "m.lepton")
    items = torch.arange(14).reshape(2, 7)  # as many as one likes
    with torch.no_grad():
        scores = run.model()(USERS[:2], items)
    assert torch.allclose(torch.as_tensor(file(USERS[:2], items)), scores, atol=1e-5)
    with pytest.raises(SpecError, match="users: .* from 0 to 299"):
        file(torch.tensor([0, 5000]), items)


HERE = all(find("movielens_100k", data_root(), file) for file in SOURCES["movielens_100k"].files())
FLOORS = {
    "regression": (
        {"optimizer": "momentum", "lr": 1.5, "weight_decay": 3e-4, "batch_size": 512, "epochs": 15},
        {"transforms": [{"split": {"by": "chance", "val": 0.001, "test": 0.001}}, {"fold": {"folds": 5}}]},
        "test_rmse",
        0.925,
    ),
    "recommendation": (
        {"optimizer": "adam", "lr": 4e-3, "batch_size": 1024, "epochs": 20},
        {"options": {"negatives": 10, "dropout": 0.3, "candidates": 99, "k": 10}, "metrics": ["hit_rate"]},
        "test_hit_rate",
        0.60,
    ),
}


@pytest.mark.slow
@pytest.mark.skipif(not HERE, reason="MovieLens is not here: lepton-lab data get movielens_100k")
@pytest.mark.parametrize("task", FLOORS)
def test_films_are_rated_and_ranked_as_well_as_is_promised(task):
    fields, more, figure, floor = FLOORS[task]
    more = {"metrics": ["rmse"], **more}
    run = launched("factorisation", task, dataset="movielens_100k", schedule="cosine", eval_every=0, **fields, **more)
    assert run.wait(200) == "done", run.failure
    reached = run.summary()[figure]
    assert reached <= floor if task == "regression" else reached >= floor
