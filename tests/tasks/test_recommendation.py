"""Items that are drawn beside the one that a user took."""

import pytest
import torch

import lepton_lab as lab
from lepton_lab import metrics
from lepton_lab.datasets import from_user
from lepton_lab.errors import SpecError
from lepton_lab.tasks import make


def test_nothing_that_a_user_took_is_drawn_and_training_knows_nothing_of_what_is_held_out():
    taken = torch.rand(9, 30) < torch.linspace(0.1, 0.8, 9)[:, None]
    pairs = taken.nonzero()[torch.randperm(int(taken.sum()))]
    ones = torch.ones(len(pairs))
    parts = [(pairs[part], ones[part]) for part in (slice(20, None), slice(10), slice(10, 20))]
    task = make(lab.Spec(task="recommendation", options={"negatives": 400, "candidates": 6}), from_user((*parts,), 0))

    def others(prepare, batch):
        (users, items), _ = prepare(batch, torch.Generator().manual_seed(0))
        found = {user: {*items[users == user, 1:].flatten().tolist()} for user in users.tolist()}
        return users, items[:, 1:], found

    trained = {*map(tuple, parts[0][0].tolist())}
    for user, found in others(task.prepare, parts[0])[2].items():
        assert found == {item for item in range(30) if (user, item) not in trained}
    users, items, found = others(task.prepare_evaluation, [torch.cat([part] * 50) for part in parts[2]])
    for user, drawn in found.items():
        assert drawn == {*(~taken[user]).nonzero().flatten().tolist()}
    assert all(len({*row}) == 6 for row in items[taken.sum(1)[users] <= 24].tolist())


def test_who_took_all_is_named():
    taken = torch.tensor([[0, 0], [0, 1], [0, 2]]), torch.ones(3)
    with pytest.raises(SpecError, match="user 0 took all 3 items, .*leave out who took all"):
        make(lab.Spec(task="recommendation"), from_user((taken, taken), 0))


def test_more_negatives_than_memory_holds_are_refused():
    with pytest.raises(SpecError, match="'negatives': 1000000}: must be at least 1 and at most"):
        lab.Spec(task="recommendation", model="neumf", options={"negatives": 10**6})


def test_no_matrix_is_counted_of_places_among_candidates():
    x = torch.stack([torch.arange(60) % 6, torch.arange(60) % 10], 1)
    for task in ("recommendation", "classification"):
        made = make(lab.Spec(task=task), from_user((x, torch.arange(60) % 2), 0))
        counted = metrics.of(made.data, made.criterion(), lab.Spec(), usual=made.metrics)
        assert ("confusion" in counted) == (task == "classification") and "accuracy" in counted
