"""Texts read back from tokens, made alike, cut into pieces, counted, and changed in training."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

import lepton_lab as lab
from lepton_lab import spelling
from lepton_lab.artifacts.texts import numbered
from lepton_lab.datasets import Data
from lepton_lab.datasets.text import windows
from lepton_lab.errors import LabError, SpecError
from lepton_lab.tasks import make
from lepton_lab.transforms import TRANSFORMS, Draws, texts, wordnet
from lepton_lab.transforms.counting import bag_of_words
from lepton_lab.transforms.dropping import drop_tokens, swap_tokens
from lepton_lab.transforms.tokenising import bpe, wordpiece
from lepton_lab.transforms.wording import normalise, stop_words, synonyms

GOOD = ["A truly good film,  I  liked it.", "The café was GOOD", "ﬁne and good, not bad", "good \t good 你好"]
BAD = ["What a bad film", "I did not like it: bad, bad, bad", "awful, and the food was bad", "bad"]
LONG = 40


def labelled(tokens="bytes"):
    """Texts of two classes, as bytes or as characters."""
    said = (GOOD + BAD) * 4
    names = [] if tokens == "bytes" else ["", *sorted({letter for text in said for letter in text})]
    rows = torch.zeros(len(said), LONG, dtype=torch.int16)
    for place, text in enumerate(said):
        row = [*text.encode()] if tokens == "bytes" else [names.index(letter) for letter in text]
        rows[place, : len(row)] = torch.tensor(row)
    y = torch.tensor([int(text in GOOD) for text in said])
    parts = [(rows[part], y[part]) for part in (slice(0, 24), slice(24, 28), slice(28, 32))]
    return Data(*parts, (LONG,), ["bad", "good"], vocabulary=len(names) or 256, tokens=tokens, pieces=names)


def continued(tokens="characters", context=32):
    return windows(
        "\n".join(f"The cow number {i} saw the house number {i * 7 % 11}." for i in range(150)), context, tokens
    )


def test_texts_are_read_back_whole():
    for tokens in ("bytes", "characters"):
        assert texts.read(labelled(tokens), "x")["train"][:8] == GOOD + BAD
    (train,) = texts.read(continued(), "x")["train"]
    assert train.startswith("The cow number 0 saw the house number 0.\nThe cow") and len(train) % 32 == 1


@pytest.mark.parametrize("tokens", ["bytes", "characters"])
def test_texts_are_made_alike(tokens):
    data = labelled(tokens)
    made = normalise(data, 0, accents="remove")
    assert made.sample == data.sample and made.train[0].dtype == data.train[0].dtype
    assert texts.read(made, "x")["train"][:4] == [
        "a truly good film, i liked it.",
        "the cafe was good",
        "fine and good, not bad",
        "good good 你好",
    ]
    kept = normalise(data, 0, case="keep", space="keep")
    assert texts.read(kept, "x")["train"][0] == GOOD[0]
    assert texts.read(stop_words(made, 0), "x")["train"][2:6:2] == ["fine good, not bad", "bad film"]


def test_a_text_that_goes_on_is_cut_into_windows_anew():
    data = continued()
    made = normalise(data, 0)
    (text,) = texts.read(made, "x")["train"]
    assert "the cow number 0 saw the house number 0. the cow" in text and made.sample == data.sample
    x, y = made.train
    assert torch.equal(x.flatten()[1:], y.flatten()[:-1])  # each is followed by the next


@pytest.mark.parametrize("member", [bpe, wordpiece])
def test_pieces_are_learnt_from_the_training_part_and_written_back(member):
    data = labelled()
    made = member(data, 0, size=320)
    assert made.sample == member.sees(*data.sample, size=320) and made.classes == data.classes
    write = spelling.pieces_of(made.tokenizer)
    for x, said in zip(made.train[0], GOOD + BAD, strict=False):
        tokens = x[x > 0].tolist()
        assert tokens == write(said)[:LONG]
        back = spelling.spelled(tokens, made.pieces, made.tokens)
        assert back == (said if member is bpe else back) and len(tokens) < len(said)
    assert torch.equal(member(data, 1, size=320).train[0], made.train[0])  # nothing is drawn
    other = dataclasses.replace(data, test=(torch.full_like(data.test[0], ord("q")), data.test[1]))
    assert member(other, 0, size=320).tokenizer == made.tokenizer  # whatever the test part says


def test_pieces_may_not_be_cut_again():
    with pytest.raises(SpecError, match="takes texts as bytes, characters or words"):
        wordpiece(bpe(labelled(), 0, size=320), 0)
    with pytest.raises(SpecError, match="too few for a window of 60000"):
        bpe(continued(), 0, size=300, length=60000)


def test_counted_words_are_as_scikit_learn_counts_them():
    data = bag_of_words(labelled(), 0, size=65536)
    assert data.sample == ((65536,), 2, 0) == bag_of_words.sees((LONG,), 2, 256, size=65536)
    said = texts.read(labelled(), "x")
    theirs = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"[^\W\d_]+").fit(said["train"])
    for part in texts.PARTS:
        want = np.sort(theirs.transform(said[part]).toarray())[:, ::-1]
        found = np.sort(getattr(data, part)[0].numpy())[:, : -want.shape[1] - 1 : -1]
        assert np.allclose(found, want, atol=1e-6)


def test_left_out_tokens_are_as_many_as_was_said_and_the_rest_stays_in_order():
    x = torch.arange(1, 401).repeat(8, 1)
    x[:, 300:] = 0
    dropped, _ = drop_tokens(x, x[:, 0], Draws(0, 0, torch.arange(8)), chance=0.25)
    for row in dropped:
        rest = row[row > 0]
        assert 190 < len(rest) < 260 and (rest.diff() > 0).all() and (row[len(rest) :] == 0).all()
    single = torch.tensor([[7, 0, 0]] * 64)
    assert drop_tokens(single, single[:, 0], Draws(0, 0, torch.arange(64)), chance=0.9)[0].equal(single)


def test_swapped_tokens_are_neighbours():
    x = torch.arange(1, 102).repeat(8, 1)
    x[:, 90:] = 0
    swapped, _ = swap_tokens(x, x[:, 0], Draws(0, 0, torch.arange(8)), chance=0.5)
    assert torch.equal(swapped.sort(1).values, x.sort(1).values) and (swapped - x).abs().max() == 1
    assert 0.2 < (swapped != x).float()[:, :90].mean() < 0.7
    assert torch.equal(swap_tokens(x, x[:, 0], Draws(0, 0, torch.arange(8)), chance=0)[0], x)


@pytest.mark.parametrize("member", [drop_tokens, swap_tokens])
def test_a_text_is_changed_alike_whatever_the_others_are(member):
    x, places = torch.randint(1, 50, (6, 30), generator=torch.Generator().manual_seed(0)), torch.arange(6)
    whole, _ = member(x, places, Draws(1, 4, places), chance=0.4)
    part, _ = member(x[3:], places[3:], Draws(1, 4, places[3:]), chance=0.4)
    assert torch.equal(whole[3:], part)
    assert not torch.equal(whole, member(x, places, Draws(1, 5, places), chance=0.4)[0])


@pytest.mark.parametrize("name", ["drop_tokens", "swap_tokens", "synonyms", "bag_of_words"])
def test_of_a_text_that_goes_on_nothing_may_be_left_out(name):
    assert "each token is to be predicted" in TRANSFORMS[name].refuse((64,), 103, 103)
    assert not TRANSFORMS[name].refuse((64,), 2, 103)


@pytest.fixture
def dictionary(monkeypatch, tmp_path):
    """A WordNet of three words that are one, in its own format."""
    monkeypatch.setattr(wordnet, "PLACES", ())
    monkeypatch.setenv("LEPTON_LAB_DATA", str(tmp_path))
    wordnet.synonyms.cache_clear()
    yield tmp_path / "wordnet"
    wordnet.synonyms.cache_clear()


def test_words_give_way_to_their_synonyms(dictionary):
    with pytest.raises(SpecError, match="apt-get install wordnet-base"):
        synonyms(labelled(), 0)
    dictionary.mkdir()
    for kind in wordnet.FILES:
        (dictionary / f"data.{kind}").write_text("")
        (dictionary / f"index.{kind}").write_text("")
    (dictionary / "data.noun").write_text(
        "  1 a licence\n00000042 06 n 03 film 0 movie 0 moving_picture 0 000 | a gloss\n"
    )
    (dictionary / "index.noun").write_text(
        "  1 a licence\nfilm n 2 2 @ ~ 2 1 00000042 00000099\nmovie n 1 0 1 1 00000042\n"
    )
    assert wordnet.synonyms() == {"film": ("movie",), "movie": ("film",)}
    data = labelled()
    made = synonyms(data, 0, chance=1.0, copies=2)
    said = texts.read(made, "x")
    assert len(made.train[0]) == len(made.train[1]) == 72 and torch.equal(made.val[0], data.val[0])
    assert said["train"][:24] == texts.read(data, "x")["train"] and said["train"][28] == "What a bad movie"
    assert torch.equal(made.train[1], data.train[1].repeat(3))


@pytest.mark.slow
def test_a_model_of_pieces_goes_on_with_a_text_and_its_file_takes_one(tmp_path):
    """From the name of a set to text that goes in and comes out."""
    fields = {"dataset": "pydocs", "model": "gpt", "epochs": 1, "batch_size": 64, "device": "cpu"}
    options = {"depth": 1, "width": 16, "heads": 2}
    run = lab.launch(lab.Spec(transforms=[{"bpe": {"size": 400}}], options=options, **fields))
    assert run.wait(90) == "done", run.failure
    assert 1 < run.rows("eval")[-1]["bits_per_byte"] < 6
    assert lab.generate(run, "The class", 5, temperature=0).startswith("The class")
    path = tmp_path / "model.lepton"
    lab.export(run, path)
    scores = lab.load(path)("The class")
    assert scores.shape == (64, 400)
    told = spelling.pieces_of(run.facts["tokenizer"])("The class")
    assert np.array_equal(scores, lab.load(path)(np.array(told + [0] * (64 - len(told)))))


def test_a_file_s_text_becomes_the_tokens_that_it_was_trained_on():
    made = bpe(labelled(), 0, size=320)
    text = {"names": made.pieces, "kind": made.tokens, "tokenizer": made.tokenizer}
    manifest = {"input": {"dtype": "int64", "shape": [LONG]}, "labels": made.classes, "tokens": made.tokens}
    manifest["answer"] = {"text": text}
    (batch,) = numbered((GOOD + BAD,), manifest)
    assert np.array_equal(batch, made.train[0][:8]) and np.array_equal(numbered((GOOD[0],), manifest)[0], batch[0])
    alike = stop_words(normalise(labelled(), 0, accents="remove"), 0)
    told = make(lab.Spec(), alike).reading(torch.nn.Identity())
    changed = {**manifest, "labels": alike.classes, "tokens": alike.tokens, "answer": told}
    assert np.array_equal(numbered((GOOD + BAD,), changed)[0], alike.train[0][:8])
    with pytest.raises(LabError, match="changes of a text that are not known"):
        numbered(("a",), changed | {"answer": {"reworded": [{"eval": {"text": "1"}}]}})
    numbers = (np.zeros((2, LONG), np.int64),)
    assert numbered(numbers, manifest) is numbers
    with pytest.raises(SpecError, match="takes no text"):
        numbered(("a",), manifest | {"input": {"dtype": "float32", "shape": [LONG]}})
    with pytest.raises(SpecError, match="does not say how"):
        numbered(("a",), manifest | {"answer": {}})
