"""Which words stand near a word: what is drawn, the loss, what vectors learn, and what is refused."""

import math

import pytest
import torch

import lepton_lab as lab
from lepton_lab.datasets import from_user
from lepton_lab.errors import SpecError
from lepton_lab.models import MODELS
from lepton_lab.tasks.skip_gram import SkipGram, logistic

pytestmark = pytest.mark.usefixtures("one_thread")

ROWS = torch.arange(40).view(1, 40)  # each word says where it stands


def task(x=ROWS, **options):
    return SkipGram(from_user((x, torch.zeros(len(x))), 0), **options)


def drawn(task, x=ROWS, seed=0):
    (words, others), places = task.prepare((x, x), torch.Generator().manual_seed(seed))
    assert not places.any()
    return words, others


def test_near_words_are_within_the_window_and_the_nearer_the_more_often():
    words, others = drawn(task(window=4, contexts=2000))
    assert words.shape == (40 * 2000,) and others.shape == (40 * 2000, 6)
    assert torch.equal(words.view(40, 2000), ROWS.T.expand(40, 2000))  # rows of a sample one after the other
    away = (others[:, 0] - words).abs()
    assert away.min() == 1 and away.max() == 4 and others[:, 0].min() == 0 and others[:, 0].max() == 39
    inner = away[(words >= 4) & (words < 36)]
    shares = torch.bincount(inner, minlength=5)[1:] / len(inner)
    # A reach of 1 to 4, alike by chance, and a place within it: 1/4 (1 + 1/2 + 1/3 + 1/4), 1/4 (1/2 + 1/3 + 1/4), ...
    expected = [sum(1 / reach for reach in range(k, 5)) / 4 for k in range(1, 5)]
    assert shares.tolist() == pytest.approx(expected, abs=0.01)
    right = ((others[:, 0] - words)[(words >= 4) & (words < 36)] > 0).float().mean()
    assert right.item() == pytest.approx(0.5, abs=0.02)


def test_others_are_drawn_by_frequency_to_three_quarters():
    x = torch.cat([torch.zeros(1, 64).long(), torch.ones(1, 4).long().repeat(1, 4), torch.full((1, 4), 2)], 1)
    _, others = drawn(task(x, contexts=100, negatives=20), x)
    shares = torch.bincount(others[:, 1:].flatten(), minlength=3).double()
    expected = torch.tensor([64.0, 16.0, 4.0]).pow(0.75)
    assert (shares / shares.sum()).tolist() == pytest.approx((expected / expected.sum()).tolist(), abs=0.01)


def test_the_loss_is_its_formula():
    scores = torch.tensor([[2.0, -1.0, 0.5]])
    sigmoid = [1 / (1 + math.exp(-score)) for score in (2.0, 1.0, -0.5)]
    assert logistic(scores, torch.zeros(1)).item() == pytest.approx(-sum(map(math.log, sigmoid)), abs=1e-6)


def test_words_that_stand_near_the_same_words_point_the_same_way():
    """Words 0 to 3 stand between 8 and 9, words 4 to 7 between 10 and 11."""
    draw = torch.Generator().manual_seed(0)
    kind = torch.randint(2, (300, 1), generator=draw)
    middle = torch.randint(4, (300, 1), generator=draw) + 4 * kind
    x = torch.cat([8 + 2 * kind, middle, 9 + 2 * kind], 1)
    spec = lab.Spec(model="word_vectors", task="skip_gram", options={"width": 8}, epochs=8, batch_size=50, lr=0.03)
    run = lab.launch(spec, data=((x, x), (x[:30], x[:30])))
    assert run.wait(60) == "done", run.failure
    directions = run.model().directions()
    assert torch.allclose(directions.norm(dim=1), torch.ones(12), atol=1e-5)
    alike = directions[:8] @ directions[:8].T
    assert alike[:4, :4].min() > alike[:4, 4:].max() + 0.2


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"dataset": "digits"}, "task='skip_gram': needs tokens of running text"),
        ({"dataset": "pydocs", "model": "gpt"}, "model='gpt': .*task='skip_gram'.*take model='word_vectors'"),
        (
            {"dataset": "pydocs", "task": "auto", "model": "word_vectors"},
            "model='word_vectors': is for task='skip_gram'",
        ),
        ({"dataset": "pydocs", "options": {"window": 0}}, "'window': 0.*at least 1"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_starts(fields, sentence):
    with pytest.raises(lab.SpecError, match=sentence) as error:
        lab.launch(lab.Spec(**{"model": "word_vectors", "task": "skip_gram", **fields}))
    assert "\n" not in str(error.value)


def test_rows_too_short_to_have_a_neighbour_are_refused():
    with pytest.raises(lab.SpecError, match="rows of 2 tokens have none near"):
        task(torch.zeros(5, 2).long())


def test_vectors_begin_where_all_products_are_nought():
    model = MODELS["word_vectors"]((9,), 30, 30, width=10)
    assert not model(torch.arange(4), torch.randint(30, (4, 3))).any() and model.words.weight.abs().max() <= 0.05


def test_more_negatives_than_memory_holds_are_refused():
    with pytest.raises(SpecError, match="'negatives': 1000000}: must be at least 1 and at most"):
        lab.Spec(task="skip_gram", model="word_vectors", options={"negatives": 10**6})
