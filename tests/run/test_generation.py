"""Runs on text: figures, evaluation, and what their models write."""

import json
import math

import pytest
import torch
from helpers import call
from torch import nn

import lepton_lab as lab
from lepton_lab import metrics
from lepton_lab.answers import right_answers
from lepton_lab.datasets import DATASETS
from lepton_lab.engine.evaluation import evaluate
from lepton_lab.engine.feed import Feed
from lepton_lab.files import data_root
from lepton_lab.losses import token_loss
from lepton_lab.models import MODELS
from lepton_lab.objectives import Criterion
from lepton_lab.strategies import STRATEGIES

SMALL = {"width": 16, "depth": 1, "heads": 2, "context": 256}


@pytest.fixture(scope="module")
def spec():
    return lab.Spec(dataset="pydocs", model="gpt", epochs=1, batch_size=128, lr=0.01, options=SMALL)


def trained(spec, **parts):
    run = lab.launch(spec, **parts)
    assert run.wait(120) == "done", run.failure
    return run


def single(spec):
    strategy = STRATEGIES["single"](spec)
    strategy.start(0, 1, None, torch.device("cpu"))
    return strategy


# --- figures ----------------------------------------------------------------------------------------------------------


def test_the_loss_is_the_mean_over_all_tokens():
    output, target = torch.randn(3, 5, 7), torch.randint(7, (3, 5))
    chances = output.log_softmax(-1)
    by_hand = -sum(chances[i, t, target[i, t]] for i in range(3) for t in range(5)) / 15
    assert torch.allclose(token_loss(output, target), by_hand)
    first = output[:, 0], target[:, 0]
    assert torch.allclose(token_loss(*first), nn.functional.cross_entropy(*first))


def test_right_answers_of_sequences_are_fractions_of_samples():
    target = torch.tensor([[0, 1], [2, 2]])
    output = nn.functional.one_hot(torch.tensor([[0, 1], [2, 0]]), 3).float()
    assert right_answers(output, target) == 1.5
    assert right_answers(output[:, 0], target[:, 0]) == 2
    assert right_answers(output.transpose(1, 2)[:, :2], target.float()) is None
    assert right_answers(output[:, 0], target) is None


def test_tokens_reach_the_model_whole():
    spec = lab.Spec(dataset="pydocs", model="gpt", batch_size=8)
    data = DATASETS["pydocs"](data_root(), 0)
    feed = Feed(data.val, data, spec, single(spec))
    assert feed.tensors[0].dtype == torch.uint8  # as they are held
    x, y, share, samples = next(iter(next(feed.epoch(0))[0]))
    assert x.dtype == y.dtype == torch.int64 and x.shape == y.shape == (8, 64) and (share, samples) == (1, 8)
    assert torch.equal(x[:, 1:], y[:, :-1])
    assert sum(batch.samples for batch in feed.whole()) == len(data.val[1])
    assert next(feed.whole())[0].numel() * data.vocabulary <= 2**18  # scores of an evaluation batch


@pytest.mark.parametrize("tokens", ["characters", pytest.param("bytes", marks=pytest.mark.slow)])
def test_every_evaluation_carries_bits_per_byte(spec, tokens, once):
    run = once(trained, spec.replace(options={**SMALL, "tokens": tokens}))
    rows = {row["split"]: row for row in run.rows("eval")}
    assert list(rows) == ["train", "val", "test"]
    for row in rows.values():
        bits = row["loss"] / math.log(2)
        assert 0.97 * bits < row["bits_per_byte"] < bits if tokens == "characters" else row["bits_per_byte"] == bits
        assert 0 < row["accuracy"] < 1 and "confusion" not in row
    assert all(0 <= row["accuracy"] <= 1 for row in run.rows("train"))


@pytest.mark.slow
def test_two_ranks_learn_what_one_does(spec, once):
    one, two = once(trained, spec), trained(spec.replace(world=2))
    for a, b in zip(one.rows("eval"), two.rows("eval"), strict=True):
        assert a["bits_per_byte"] == pytest.approx(b["bits_per_byte"], rel=1e-3)
        assert a["samples"] == b["samples"] and a["accuracy"] == pytest.approx(b["accuracy"], abs=5e-3)
    for p, q in zip(one.model().parameters(), two.model().parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-3)


def test_an_own_loss_has_no_bits_per_byte(spec):
    def smoothed(output, target):
        return nn.functional.cross_entropy(output.flatten(0, 1), target.flatten(), label_smoothing=0.1)

    assert not any("bits_per_byte" in row for row in trained(spec, loss=smoothed).rows("eval"))


def test_evaluation_counts_pairs_only_where_a_sample_has_one_label():
    spec = lab.Spec(model="transformer")
    strategy = single(spec)
    data = DATASETS["pydocs"](data_root(), 0)
    kinds = data.vocabulary
    strategy.setup(MODELS["gpt"](data.shape, kinds, kinds, depth=1, width=8, heads=2), lambda parameters: None)
    feed = Feed((data.test[0][:9], data.test[1][:9]), data, spec, strategy)
    figures = evaluate(strategy, feed, metrics.of(data, Criterion(token_loss, data)), "test")
    assert set(figures) == {"loss", "accuracy", "bits_per_byte", "samples"} and figures["samples"] == 9


def test_phrases_with_a_label_each():
    """Tokens of a user's own: is there a 7 in the row? The transformer's matrix of counts comes with it."""
    x = torch.randint(10, (1200, 6), generator=torch.Generator().manual_seed(0))
    y = (x == 7).any(1).long()
    data = ((x[:1000], y[:1000]), (x[1000:], y[1000:]))
    options = {"width": 16, "depth": 1, "heads": 2}
    run = trained(lab.Spec(model="transformer", epochs=8, lr=0.01, options=options), data=data)
    last = run.rows("eval")[-1]
    assert last["accuracy"] > 0.95 and sum(map(sum, last["confusion"])) == 200 and "bits_per_byte" not in last
    assert run.model()(x[:3]).shape == (3, 2)


class Pairs(nn.Module):
    """A bigram model of a user's own, which asks for the vocabulary."""

    def __init__(self, vocabulary):
        super().__init__()
        self.scores = nn.Embedding(vocabulary, vocabulary)

    def forward(self, x):
        return self.scores(x)


def test_a_model_of_ones_own_learns_and_writes(spec):
    run = trained(spec.replace(lr=0.3, epochs=3, options={"context": 256}), model=Pairs)
    assert run.rows("eval")[-1]["bits_per_byte"] < 4.5
    assert len(lab.generate(run, "The ", 20)) == 24


def test_what_does_not_fit_is_refused_with_the_sentence():
    for dataset, model, nearest in (("pydocs", "cnn", "gpt"), ("digits", "gpt", "transformer")):
        with pytest.raises(lab.SpecError, match=f"take model={nearest!r}"):
            lab.launch(lab.Spec(dataset=dataset, model=model))
    assert not lab.runs()


# --- writing ----------------------------------------------------------------------------------------------------------


def test_text_goes_on_from_the_prompt(spec, once):
    run = once(trained, spec)
    text = lab.generate(run, "def ", 50)
    assert text.startswith("def ") and len(text) == 54 and set(text) <= set(run.facts["classes"])
    assert call("generate", "def ", "--run", run.id, "--count", 50)[0] == f"{text}\n"
    told = json.loads(call("generate", "def ", "--count", 50, "--json")[0])
    assert told == {"id": run.id, "prompt": "def ", "text": text}
    assert "prompt='': must be at least one character" in call("generate", "", code=2)[1]
    assert text == lab.generate(run, "def ", 50) != lab.generate(run, "def ", 50, seed=1)
    assert lab.generate(run, "def ", 9, temperature=0) == lab.generate(run, "def ", 9, temperature=0, seed=5)
    for prompt, words in {"": ["at least one character"], "naïve 北": ["'ï', '北'", "103", run.id, "tokens"]}.items():
        with pytest.raises(lab.LabError) as caught:
            lab.generate(run, prompt)
        assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)
    with pytest.raises(lab.SpecError, match="temperature=-1"):
        lab.generate(run, "def ", temperature=-1)


def test_bytes_know_every_character(spec, once):
    run = once(trained, spec.replace(options={**SMALL, "tokens": "bytes"}))
    assert lab.generate(run, "naïve 北", 30).startswith("naïve 北")


def test_a_run_that_learned_no_text_writes_none(tiny):
    run = trained(tiny)
    with pytest.raises(lab.LabError, match="'digits', which is no text"):
        lab.generate(run, "def ")
