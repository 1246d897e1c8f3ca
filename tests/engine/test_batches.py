"""Batches of any form through a whole run: dicts, unequal lengths, losses that tell their weight."""

import json
import re
import time
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from helpers import until
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset, Subset

import lepton_lab as lab
from lepton_lab.datasets import Data, Pad, bucketed, from_user, lengths, streams
from lepton_lab.engine.inputs import Inputs
from lepton_lab.models import MODELS
from lepton_lab.run.own import Own
from lepton_lab.studies.advice import LIMITS
from lepton_lab.tasks import TASKS

KINDS = 12


def tokens(count, seed):
    """Rows of unequal length; each token is the one before it plus its row's step."""
    draw = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(count):
        length, first, step = (
            int(torch.randint(low, high, (), generator=draw)) for low, high in ((3, 9), (0, 12), (1, 4))
        )
        rows.append((first + step * torch.arange(length + 1)) % KINDS)
    return rows


class Dicts:
    """Samples as Hugging Face's models take them."""

    def __init__(self, count, seed):
        self.rows = tokens(count, seed)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        row = self.rows[i]
        return {"input_ids": row, "attention_mask": torch.ones_like(row), "labels": int(row[1] - row[0]) % KINDS % 3}


class Pairs(Dicts):
    """The next tokens, as a list: a pair of unequal length."""

    def __getitem__(self, i):
        return self.rows[i][:-1].tolist(), self.rows[i][1:].tolist()


class Reader(nn.Module):
    """Scores (B, T, K) of the next token, from this one and the one before."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(KINDS, 16)
        self.head = nn.Linear(32, KINDS)

    def forward(self, x):
        here = self.embedding(x.clamp(min=0))
        return self.head(torch.cat([here, functional.pad(here, (0, 0, 1, 0))[:, :-1]], -1))


def trained(spec, **own):
    run = lab.launch(spec, **own)
    assert run.wait(90) == "done", run.failure
    return run


def over_tokens(output, target):
    """Sum and weight: what is padded counts nothing."""
    return functional.cross_entropy(output.flatten(0, 1), target.flatten(), reduction="sum"), (target != -100).sum()


def over_batches(output, target):
    """The well-known error: a mean over tokens, which a slice with few of them says as loudly as one with many."""
    total, weight = over_tokens(output, target)
    return total / weight


def curve(loss, **fields):
    spec = lab.Spec(epochs=2, batch_size=7, lr=0.02, **fields)
    run = trained(spec, model=Reader, data=(Pairs(40, 0), Pairs(8, 1)), loss=loss)
    return [(row["split"], row["loss"], row["accuracy"]) for row in run.rows("eval")]


def test_a_loss_as_sum_and_weight_is_the_same_however_it_is_cut(monkeypatch):
    monkeypatch.setenv("LEPTON_LAB_MAX_WORKERS", "3")
    whole = curve(over_tokens)
    for cut in ({"world": 2}, {"world": 3, "accumulate": 2}, {"accumulate": 4}):
        for (split, loss, accuracy), (_, right, fraction) in zip(curve(over_tokens, **cut), whole, strict=True):
            assert loss == pytest.approx(right, rel=2e-5), (cut, split)
            assert accuracy == pytest.approx(fraction), (cut, split)
    assert curve(None)[-1][1] == pytest.approx(
        whole[-1][1], rel=2e-5
    )  # what is padded is ignored by the usual loss too
    wrong = curve(over_batches, accumulate=4)[-1][1]
    assert abs(wrong - whole[-1][1]) > 1e-4


class Named(Reader):
    """The same of samples that are dicts, of which it takes one name."""

    def forward(self, input_ids):
        return super().forward(input_ids)


def of_names(outputs, batch):
    real = batch["attention_mask"][:, 1:] == 1
    return over_tokens(outputs[:, :-1], batch["input_ids"][:, 1:].where(real, -100))


def test_samples_by_name_may_have_a_loss_of_one_s_own():
    spec = lab.Spec(epochs=1, batch_size=8, lr=0.02, strategy="single")
    runs = [
        trained(spec.replace(accumulate=cut), model=Named, data=(Dicts(24, 0), Dicts(8, 1)), loss=of_names)
        for cut in (1, 4)
    ]
    assert losses(runs[1]) == pytest.approx(losses(runs[0]), rel=2e-5)


SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
SIZES |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def bert():
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(vocab_size=KINDS, num_labels=3, pad_token_id=0, **SIZES))


def losses(run):
    return [row["loss"] for row in run.rows("eval")]


def test_a_hugging_face_model_as_it_is_learns_as_in_a_loop_by_hand():
    data = Dicts(36, 0), Dicts(8, 1)
    model = bert()
    spec = lab.Spec(optimizer="sgd", lr=0.1, epochs=1, batch_size=36, strategy="single")
    run = trained(spec.replace(epochs=2), model=model, data=(*data, data[1]))
    pad = lab.Pad()
    batch, test = (pad([part[i] for i in range(len(part))]) for part in data)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    with torch.no_grad():
        assert losses(run)[-1] == pytest.approx(model.eval()(**test).loss.item(), rel=1e-5)
    assert run.predictions().losses.mean() == pytest.approx(losses(run)[-1], rel=1e-5)
    assert run.facts["batch"] == "a dict of input_ids, attention_mask, labels"
    assert run.model()(**test).logits.shape == (8, 3)
    (row,) = lab.advise(spec, [1], ["single"], model=bert(), data=data).rows
    tensors = {tensor.data_ptr(): tensor.nbytes for tensor in (*model.parameters(), *model.buffers())}
    assert row.cost.parameters == sum(tensors.values()) and row.cost.activations > 0


def test_places_of_an_answer_under_a_hugging_face_model_are_counted_kept_and_shown():
    from transformers import BertConfig, BertForQuestionAnswering

    def asked(count, seed):
        draws = torch.Generator().manual_seed(seed)
        tokens = torch.randint(1, KINDS, (count, 8), generator=draws)
        first = torch.randint(7, (count,), generator=draws)
        first[0] = 8  # past the tokens: there is no answer, and the model leaves it out
        ends = {"start_positions": first, "end_positions": (first + 1).clamp(max=8)}
        return [{"input_ids": row, **{name: ends[name][i] for name in ends}} for i, row in enumerate(tokens)]

    torch.manual_seed(0)
    model = BertForQuestionAnswering(BertConfig(vocab_size=KINDS, pad_token_id=0, **SIZES))
    splits = asked(24, 0), asked(8, 1), asked(9, 2)
    run = trained(lab.Spec(epochs=1, batch_size=8, strategy="single"), model=model, data=splits)
    row = run.rows("eval")[-1]
    with torch.no_grad():
        outputs = run.model().eval()(**lab.Pad()(splits[2]))
    scores = torch.stack([outputs.start_logits, outputs.end_logits], -1)
    found = run.predictions()
    assert row["loss"] == pytest.approx(outputs.loss.item(), rel=1e-5) and 0 <= row["exact_match"] <= 1
    assert torch.tensor(found.scores).allclose(scores, atol=1e-5)
    assert found.targets.tolist() == [[-100, -100]] + [
        [int(one[name]) for name in ("start_positions", "end_positions")] for one in splits[2][1:]
    ]
    assert found.losses[1:].mean() == pytest.approx(row["loss"], rel=1e-5)
    card = json.loads((run.folder / "predictions" / "test.json").read_text())["first"][1]
    seen = {view["name"]: view["pieces"][0][0] for view in card["seen"]}
    first, last = found.targets[1]
    assert [*seen] == ["input_ids", "truth", "predicted"]
    assert seen["truth"].split() == [str(int(token)) for token in splits[2][1]["input_ids"][first : last + 1]]


@pytest.mark.parametrize(
    "strategy",
    [
        "ddp",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("zero", "fsdp", "local_sgd", "parameter_server")),
    ],
)
def test_it_trains_under_strategies_that_split_no_layer(strategy):
    data = Dicts(30, 0), Dicts(8, 1)
    spec = lab.Spec(epochs=4, batch_size=8)  # a step's cost is known after 12 of them
    alone = trained(spec.replace(strategy="single"), model=bert(), data=data)
    split = trained(spec.replace(strategy=strategy, world=2), model=bert(), data=data)
    first, tensor = lab.advise(split, [2], ["tensor"]).rows
    assert abs(first.errors["memory"]) <= LIMITS["memory"], (first.predicted, first.measured)
    assert "passes one tensor from layer to layer, but batches are a dict" in tensor.why
    if strategy in ("ddp", "zero", "fsdp"):
        assert losses(split) == pytest.approx(losses(alone), rel=1e-4)


def test_what_cannot_be_is_refused_in_a_sentence():
    data = Dicts(30, 0), Dicts(8, 1)
    for strategy in ("tensor", "pipeline"):
        with pytest.raises(lab.SpecError, match=f"strategy='{strategy}' passes one tensor .* a dict of input_ids"):
            lab.launch(lab.Spec(strategy=strategy, world=2), model=bert(), data=data)
    with pytest.raises(lab.SpecError, match="model='cnn': takes one tensor, but batches are a dict of input_ids"):
        lab.launch(lab.Spec(), data=data)
    with pytest.raises(lab.SpecError, match="model=Reader takes x and does not get x: samples have input_ids"):
        lab.launch(lab.Spec(), model=Reader(), data=data)
    for collate, said in (
        (lambda samples: "batch", "collate gives a str"),
        (lambda samples: 1 / 0, "ZeroDivisionError"),
    ):
        with pytest.raises(lab.SpecError, match=said):
            lab.launch(lab.Spec(), model=Reader(), data=data, collate=collate)


class Optional(nn.Module):
    """Takes any name and needs none, as Hugging Face's models do."""

    def forward(self, input_ids=None, labels=None, **others):
        raise AssertionError("never called")


def test_texts_that_nobody_tokenized_are_refused_before_the_start():
    texts = [{"text": "a b c", "labels": i % 2} for i in range(20)]
    with pytest.raises(lab.SpecError, match=r"takes input_ids, and samples have text, labels; tokenize text, as token"):
        lab.launch(lab.Spec(epochs=1), model=Optional, data=(texts, texts))
    assert not lab.runs()


class Lines(torch.utils.data.IterableDataset):
    """Points on a line, with noise that is drawn as they are read."""

    def __init__(self, count, told=None):
        self.count, self.told = count, told or count

    def __len__(self):
        return self.told

    def __iter__(self):
        for i in range(self.count):
            x = torch.rand(2)
            yield x, (x.sum() + i % 2)[None]


class Dealt(Lines):
    """Lines in four files, which are read each by itself."""

    num_shards = 4

    def shard(self, num_shards, index):
        return Lines(self.count // num_shards)


class Slow(nn.Linear):
    """Slow enough to be stopped in the middle of an epoch."""

    def __init__(self):
        super().__init__(2, 1)

    def forward(self, x):
        time.sleep(0.02 * self.training)
        return super().forward(x)


def test_a_stream_is_dealt_to_ranks_and_goes_on_where_it_was():
    spec = lab.Spec(epochs=2, batch_size=8, strategy="single", optimizer="sgd", lr=0.1)
    data = Dealt(240), Lines(20), Lines(12)
    whole = trained(spec, model=Slow, data=data)
    split = trained(spec.replace(strategy="ddp", world=2), model=Slow, data=data)
    assert losses(split) == pytest.approx(losses(whole), rel=1e-5)
    assert [row["samples"] for row in whole.rows("eval")][:2] == [240, 20]
    parted = lab.launch(spec, model=Slow, data=data)
    until(lambda: len(parted.rows("train")) > 3)
    parted.stop()
    assert parted.wait(60) == "stopped" and 0 < parted.rows("train")[-1]["step"] < 30
    parted.resume()
    assert parted.wait(60) == "done" and losses(parted) == losses(whole)


class Unknown(torch.utils.data.IterableDataset):
    """The same lines without a length, or without an end."""

    def __init__(self, count, last=0):
        self.lines, self.last = Lines(count), last

    def __iter__(self):
        yield from self.lines
        while self.last:
            yield next(iter(self.lines))


@pytest.mark.slow
def test_a_stream_that_does_not_say_how_long_it_is_is_counted(monkeypatch):
    spec = lab.Spec(epochs=1, batch_size=8, strategy="single", schedule="cosine")
    said, counted = (
        trained(spec, model=lambda: nn.Linear(2, 1), data=(kind(30), kind(12))) for kind in (Lines, Unknown)
    )
    assert losses(counted) == losses(said) and counted.facts["samples"] == 30
    short = trained(spec.replace(batch_size=31), model=lambda: nn.Linear(2, 1), data=(Lines(30), Lines(8)))
    notes = [[row["text"] for row in run.rows("note") if "stream" in row.get("text", "")] for run in (said, short)]
    assert notes[0] == [] and notes[1][0].startswith("batch_size=31: an epoch of the stream is 30 samples, all in one")
    monkeypatch.setattr(streams, "PATIENCE", 0.1)
    with pytest.raises(lab.SpecError, match=r"train is an IterableDataset that doesn't say how long .* in 0.1 s: give"):
        lab.launch(spec, model=lambda: nn.Linear(2, 1), data=Unknown(5, last=1))
    run = lab.launch(lab.Spec(epochs=1), model=lambda: nn.Linear(2, 1), data=(Lines(30, 40), Lines(8)))
    assert run.wait(60) == "failed" and "ended after 30 samples, and its len() is 40" in run.failure.message


@given(st.lists(st.integers(0, 30), min_size=1, max_size=80), st.integers(1, 9), st.integers(0, 5))
def test_buckets_hold_every_sample_once_and_pad_no_more(sizes, batch, seed):
    sizes, draw = torch.tensor(sizes), torch.Generator().manual_seed(seed)
    order = torch.randperm(len(sizes), generator=draw)

    def room(order):
        return sum(int(sizes[part].max()) * len(part) for part in order.split(batch))

    buckets = bucketed(order, sizes, batch, draw)
    assert buckets.sort().values.tolist() == list(range(len(sizes)))
    if len(sizes) % batch == 0:  # else the short one may get the longest
        assert room(buckets) <= room(order)


def test_what_padding_costs_is_said():
    run = trained(lab.Spec(epochs=1, batch_size=5), model=Reader, data=(Pairs(200, 0), Pairs(8, 1)), loss=over_tokens)
    (said,) = (row["text"] for row in run.rows("note") if "padding" in row.get("text", ""))
    less, more = (float(part) for part in re.findall(r"([\d.]+)%", said))
    assert less < more / 2


def test_a_form_launches_what_code_does():
    from lepton_widgets import Workbench

    bench = Workbench(
        lab.Spec(epochs=1, batch_size=8, strategy="single"), model=bert(), data=(Dicts(30, 0), Dicts(8, 1))
    )
    run = bench.launch()
    assert run.wait(60) == "done" and run.facts["task"] == "keywords"
    bench.close()


class Rare(Dicts):
    """Every second sample has a label that counts."""

    def __getitem__(self, i):
        return {**super().__getitem__(i), "labels": int(i % 4 > 1) if i % 2 else -100}


@pytest.mark.slow
def test_a_part_of_a_batch_without_a_label_adds_nothing():
    spec = lab.Spec(epochs=1, batch_size=4)
    runs = [
        trained(spec.replace(**cut), model=bert(), data=(Rare(24, 0), Rare(8, 1))) for cut in ({}, {"accumulate": 4})
    ]
    assert losses(runs[0]) == pytest.approx(losses(runs[1]), rel=1e-4)


def test_a_loss_that_tells_its_weight_is_refused_where_it_would_count_wrongly():
    x = torch.randn(48, 1, 8, 8)
    data = ((x, torch.arange(48) % 4),) * 3

    def weighed(output, target):
        return 3 * functional.cross_entropy(output, target, reduction="sum"), 3 * len(target)

    spec = lab.Spec(model="mlp", epochs=1, batch_size=16)
    run = lab.launch(spec.replace(strategy="pipeline", world=2), data=data, loss=weighed)
    assert run.wait(60) == "failed" and "gives a sum and its weight, and strategy='pipeline'" in run.failure.message


class Masks:
    """A collate that masks at random."""

    def __call__(self, samples):
        x, y = (torch.stack(parts) for parts in zip(*samples, strict=True))
        return x + torch.randn_like(x), y


@pytest.mark.slow
def test_what_a_collate_draws_is_drawn_again_after_a_stop():
    x = torch.rand(240, 2)
    data = ((x, x.sum(1, keepdim=True)),) * 3
    data = tuple([*zip(*part, strict=True)] for part in data)
    spec = lab.Spec(epochs=1, batch_size=8, strategy="single", optimizer="sgd", lr=0.1)
    whole = trained(spec, model=Slow, data=data, collate=Masks())
    parted = lab.launch(spec, model=Slow, data=data, collate=Masks())
    until(lambda: len(parted.rows("train")) > 3)
    parted.stop()
    assert parted.wait(60) == "stopped"
    parted.resume()
    assert parted.wait(60) == "done" and losses(parted) == losses(whole)


def test_only_models_that_shift_their_labels_predict_the_next_token():
    from transformers import GPT2Config, GPT2LMHeadModel, XLNetConfig, XLNetLMHeadModel

    from lepton_lab.tasks.keywords import _next

    small = GPT2LMHeadModel(GPT2Config(vocab_size=KINDS, n_embd=8, n_layer=1, n_head=1))
    other = XLNetLMHeadModel(XLNetConfig(vocab_size=KINDS, d_model=8, n_layer=1, n_head=1, d_inner=8))
    assert _next(small, type(small).__name__) and not _next(other, type(other).__name__)
    assert not _next(bert(), "BertForSequenceClassification")


def test_causal_models_of_other_names_shift_too_and_have_a_perplexity():
    from transformers import LlavaForConditionalGeneration, T5Config, T5ForConditionalGeneration

    from lepton_lab.metrics import METRICS
    from lepton_lab.tasks.keywords import Keywords, _next

    small = T5ForConditionalGeneration(T5Config(vocab_size=KINDS, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=1))
    assert _next(
        LlavaForConditionalGeneration.__new__(LlavaForConditionalGeneration), LlavaForConditionalGeneration.__name__
    )
    samples = [{"input_ids": torch.tensor([1, 2, 3]), "labels": torch.tensor([2, 3])}] * 4
    task = Keywords(from_user(samples, 0))
    assert METRICS["perplexity"].of(task.data, task.criterion()) is None
    task.setup(small)
    assert METRICS["perplexity"].of(task.data, task.criterion()) is not None
    assert task.targets(samples[0]).equal(samples[0]["labels"])


class Configured(nn.Module):
    def __init__(self, **config):
        super().__init__()
        self.config, self.layer = SimpleNamespace(**config), nn.Linear(1, 1)

    def forward(self, input_values=None, labels=None):
        return None


class WavForCTC(Configured):
    """Named as Hugging Face names them."""


class TextForConditionalGeneration(Configured):
    def forward(self, input_values=None, labels=None):
        return self.loss_function(labels)


def keywords(model, **sample):
    task = TASKS["keywords"](Data(None, None, None, (), [], example=sample))
    task.setup(model)
    return task


def test_what_a_model_s_config_says_of_its_loss_is_taken():
    batch = {"input_values": torch.zeros(3, 5), "labels": torch.tensor([[1, 255], [2, -100], [255, 255]])}
    task = keywords(Configured(semantic_loss_ignore_index=255), **batch)
    assert float(task.weight(batch)) == 3 and float(task.criterion().answers(batch["labels"])) == 3
    for reduction, total in (("sum", 6.0), ("mean", 18.0)):
        task = keywords(WavForCTC(ctc_loss_reduction=reduction), **batch)
        assert [float(part) for part in task.loss({"loss": torch.tensor(6.0)}, batch)] == [total, 3]
    for both, first in ((True, 0), (False, 1)):  # a decoder beside an encoder is given targets that are shifted already
        task = keywords(TextForConditionalGeneration(is_encoder_decoder=both), **batch)
        assert task.targets(batch).equal(batch["labels"][:, first:])


def test_targets_are_padded_with_what_the_loss_leaves_out_and_inputs_are_not():
    def loss(outputs, batch):
        return outputs.mean()

    samples = [{"input_values": torch.ones(n), "tags": torch.ones(n).long(), "target": torch.ones(n)} for n in (1, 2)]

    def padded(model, loss=loss):
        batch = Own(model=model, data=samples, loss=loss).splits(lab.Spec()).collate(samples)
        return float(batch["tags"].min()), float(batch["target"].min())

    assert padded(Configured()) == (-100, 0)  # numbers are no labels
    assert padded(Configured(), partial(nn.functional.cross_entropy, ignore_index=7)) == (1, 0)
    assert padded(Configured(), None) == (0, 0)
    assert float(Pad(tags=9)(samples)["tags"].max()) == 9


class Unread:
    """Says how long its samples are, and is slow to read."""

    lengths = (4, 2, 9, 7)

    def __len__(self):
        return 4

    def __getitem__(self, i):
        raise AssertionError("read")


def test_lengths_that_a_dataset_says_are_those_of_its_parts():
    part = Subset(Unread(), [3, 1, 2])
    assert lengths(Unread()).tolist() == [4, 2, 9, 7]
    assert lengths(part).tolist() == [7, 2, 9]
    assert lengths(Subset(part, [2, 0])).tolist() == [9, 7]  # as what is held out of it for validation


class Cropped:
    """Of random lengths up to some; it counts how often it is read."""

    def __init__(self, longest):
        self.longest, self.reads = longest, 0

    def __len__(self):
        return 300

    def __getitem__(self, i):
        self.reads += 1
        return torch.zeros(int(torch.randint(self.longest, ())) + 1, i)


def test_lengths_that_are_drawn_are_alike_for_any_ranks_which_read_a_part_each():
    state = torch.get_rng_state()
    first = lengths(Cropped(9))
    assert torch.equal(torch.get_rng_state(), state) and len(first.unique()) == 9
    torch.rand(1)
    ranks, alike = [Cropped(9), Cropped(9)], Cropped(1)
    assert torch.equal(sum(lengths(one, part=i, parts=2) for i, one in enumerate(ranks)), first)
    assert max(one.reads for one in ranks) < 200
    assert lengths(alike).tolist() == [1] * 300 and alike.reads < 20


def test_masked_tokens_alone_count_under_a_loss_of_one_s_own():
    target = torch.tensor([[1, -100, 2], [-100, -100, 0]])
    scores = functional.one_hot(torch.tensor([[1, 1, 1], [1, 1, 0]]), 3).float()
    data = from_user((target.clamp(min=0), target.clamp(min=0)), 0)
    loss = TASKS["masked_language_model"](data, lambda output, target: output.mean()).criterion()
    assert float(loss.answers(target)) == 3 and float(loss.hits(scores, target)) == 2


class Unequal(Dataset):
    """Rows of tokens, or of pairs of numbers, of 2 to 6 steps."""

    def __init__(self, numbers):
        self.numbers = numbers

    def __len__(self):
        return 60

    def __getitem__(self, place):
        torch.manual_seed(place)
        length = 2 + place % 5
        return (torch.rand(length, 2) if self.numbers else torch.randint(1, 9, (length,))), place % 3


@pytest.mark.parametrize(("model", "numbers"), [("transformer", False), ("bert", False), ("rnn", False), ("rnn", True)])
def test_a_sample_is_read_alike_whatever_stands_beside_it_in_its_batch(model, numbers, tmp_path):
    samples = Unequal(numbers)
    data = from_user(samples, 0, collate=lab.Pad())
    spec = lab.Spec(model=model)
    strategy = lab.Single(spec)
    strategy.start(0, 1, tmp_path / "none", torch.device("cpu"))
    strategy.setup(MODELS[model](*data.sample).eval(), lambda parameters: torch.optim.SGD(parameters, 0.1))
    inputs = Inputs(data, spec, strategy)

    def scores(*places):
        x, y = data.collate([samples[place] for place in places])
        return strategy.module(inputs.pair(x, y, torch.tensor(places), None)[0])[0]

    alone = scores(0)
    assert torch.allclose(scores(0, 4), alone, atol=1e-6) and not torch.allclose(scores(4), alone, atol=1e-3)
