"""Models of tasks that are called with more than a tensor: as a file, measured, and served, they answer as they did."""

import json
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

import lepton_lab as lab
from lepton_lab import links
from lepton_lab.artifacts import answering, preparing
from lepton_lab.batches import leaves
from lepton_lab.compressors import COMPRESSORS
from lepton_lab.datasets import from_user
from lepton_lab.measures import TRAINED_ON
from lepton_lab.measures.candidates import some, source
from lepton_lab.metrics import METRICS
from lepton_lab.reports.compression import compressions
from lepton_lab.run.estimates import estimated, measured
from lepton_lab.studies import budgets
from lepton_lab.tasks import TASKS, make

sys.path.append(str(Path(__file__).parents[1] / "tasks"))
from test_tasks import CASES, NUMBERS, X, launched, net

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # torch.export's own, while an artifact is written
REFUSED = {
    "detection": "can't compute samples of pictures .*let its forward do with these inputs alone, without labels",
    "adversarial": "has a step of its own, which alone knows how its model is called",
    "keywords": "can't compute samples of inputs .*do with these inputs alone, without labels",  # wants labels
}
"""Tasks whose tiny models here no file can hold, with words of the sentence on it."""


class Ragged:
    """Texts as Hugging Face's models take them, of unequal length."""

    def __len__(self):
        return 40

    def __getitem__(self, place):
        return {"input_ids": torch.arange(3 + place % 5) % 20 + 1, "labels": place % 3}


def made(name):
    """A run of a task, or of a Hugging Face model as it is."""
    if name != "bert":
        run = launched(name, epochs=1)
    else:
        transformers = pytest.importorskip("transformers")
        sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
        config = transformers.BertConfig(vocab_size=50, num_labels=3, initializer_range=0.3, **sizes)
        torch.manual_seed(0)
        model = transformers.BertForSequenceClassification(config)
        run = lab.launch(lab.Spec(epochs=1), model=model, data=(Ragged(), Ragged()))
    assert run.wait(120) == "done", run.failure
    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("exported")


@pytest.fixture
def texts(once, folder):
    """The file of a model of keywords, which the first test writes."""
    path = folder / "texts.lepton"
    if not path.exists():
        lab.export(once(made, "bert"), path)
    return path


def batch(count, length):
    tokens = torch.arange(count * length).view(count, length) % 20 + 1
    mask = (torch.arange(length) < length - 1).long().expand(count, -1)
    return {"input_ids": tokens, "attention_mask": mask}


def answered(server, body):
    """Status and content of an answer to JSON."""
    headers = {"Authorization": f"Bearer {server.token}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{server.url}/predict", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.parametrize(("count", "length"), [(1, 4), (5, 11)])
def test_a_model_of_keywords_is_loaded_and_called_by_them(once, texts, count, length):
    artifact, x = lab.load(texts), batch(count, length)
    expected = once(made, "bert").model()(**x).logits.detach()
    assert torch.allclose(artifact(**x), expected, atol=1e-5)
    assert torch.allclose(artifact(x), expected, atol=1e-5)
    assert np.allclose(artifact({name: value.numpy() for name, value in x.items()}), expected, atol=1e-5)
    assert artifact.predict(**x) == [f"LABEL_{i}" for i in expected.argmax(1)]


def test_the_manifest_says_the_task_and_its_inputs(texts):
    manifest = lab.load(texts).manifest
    assert manifest["format"] == 2 and manifest["task"] == {"name": "keywords", "options": {}}
    told = [(item["name"], item["shape"], item["dtype"]) for item in manifest["inputs"]]
    assert told == [("input_ids", [None], "int64"), ("attention_mask", [None], "int64")]
    assert manifest["labels"] == ["LABEL_0", "LABEL_1", "LABEL_2"] and manifest["output"]["shape"] == [3]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"attention_mask": [[1, 2]]}, "no 'input_ids': the model takes input_ids, attention_mask"),
        ({"input_ids": [[1, 50]]}, "input_ids: samples from 1 to 50: must be whole numbers from 0 to 49"),
        ({"tokens": [[1, 2]]}, "unknown input|'tokens'"),
        ({"input_ids": [[1, 2]], "attention_mask": [[1, 1], [1, 1]]}, "as many samples each"),
        ({"input_ids": [[0.5]], "attention_mask": [[1]]}, "input_ids: samples of float64"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(texts, given, words):
    with pytest.raises(lab.SpecError, match=words):
        lab.load(texts)(**given)


def test_a_mask_that_is_left_out_is_all_ones(texts):
    artifact, x = lab.load(texts), batch(3, 5)
    expected = artifact(x["input_ids"], torch.ones_like(x["input_ids"]))
    assert torch.equal(artifact(input_ids=x["input_ids"]), expected)
    assert not torch.equal(artifact(x), expected)


def test_it_is_served_by_name_and_requests_of_unequal_length_keep_apart(once, texts):
    batches = [batch(1 + i % 2, 3 + i % 4) for i in range(12)]
    model = once(made, "bert").model()
    with lab.serve(texts) as server:
        client = server.wait().client()
        with ThreadPoolExecutor(12) as threads:
            answers = list(threads.map(lambda x: client(**x), batches))
        for x, answer in zip(batches, answers, strict=True):
            assert torch.allclose(answer, model(**x).logits, atol=1e-5)
        x = {name: value.tolist() for name, value in batches[0].items()}
        status, told = answered(server, {"inputs": x})
        assert status == 200 and told["labels"] == client.predict(**batches[0])
        assert sum(told["probabilities"][0]) == pytest.approx(1, abs=1e-5)
        status, told = answered(server, {"samples": [[1]]})
        assert status == 422 and '"input_ids": [...]' in told["error"]
        assert answered(server, {"inputs": {"input_ids": x["input_ids"]}})[0] == 200
        for tokens, words in (([[1, 50]], "from 0 to 49"), ([[1] * 600], "a length or a whole number is out of range")):
            status, told = answered(server, {"inputs": {"input_ids": tokens}})
            assert status == 422 and words in told["error"]


CHAIN = [
    ("prune", {"ratio": 0.5, "importance": "taylor"}),
    ("lora", {"rank": 2}),
    ("low_rank", {"rank": 0.4, "epochs": 0}),
    ("distill", {"alpha": 0.5}),
    ("quantize", {"scheme": "int8", "aware": True}),
]


@pytest.fixture
def smaller(once):
    """A Hugging Face model after a chain of what looks at samples, gradients and labels."""
    return once(compressed, "bert")


def own(places):
    """Texts of those that int8 was calibrated on."""
    return lab.Pad()([{"input_ids": Ragged()[place]["input_ids"]} for place in places])


CHAINS = {
    "bert": CHAIN,
    "recommendation": ["distill", "quantize"],
    "sequence_to_sequence": ["mask", ("quantize", "int8_dynamic")],
}


def compressed(name):
    pytest.importorskip("peft")
    run = lab.compress(made(name), CHAINS[name], epochs=1)
    assert run.wait(180) == "done", run.failure
    return run


@pytest.mark.slow
def test_a_model_of_keywords_goes_through_a_chain_of_all_that_trains_and_is_one_file(smaller):
    left = {row["link"]: row for row in smaller.rows("note") if row.get("text", "").endswith(": begins")}
    assert left["prune"]["kept"]["bert.encoder.layer.0.attention.self"] == [2, 1]  # heads
    assert left["prune"]["kept"]["bert.encoder.layer.1.intermediate.dense"] == [32, 16]
    assert left["low_rank"]["parameters"] < left["prune"]["parameters"] < left["prune"]["parameters_before"]
    assert [row["link"] for row in smaller.rows("note") if row.get("text", "").endswith(": done")] == [
        "prune",
        "lora",
        "low_rank",
        "distill",
        "quantize",
        "control",
    ]
    artifact = lab.load(smaller.folder / "artifact.lepton")
    assert artifact.scheme == "int8_static" and artifact.manifest["task"]["name"] == "keywords"
    for places in (range(1), range(5)):
        x = own(places)
        expected = smaller.model()(**x).logits.detach()
        assert (artifact(**x) - expected).abs().max() < 0.2 * expected.abs().max()  # int8 of thin layers


@pytest.mark.slow
def test_what_a_chain_made_of_a_model_of_keywords_is_exported_in_every_form(smaller, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = own(range(5))
    expected = smaller.model()(**x).logits.detach()
    lab.export(smaller, "m.onnx", "onnx", scheme="int8_static")
    lab.export(smaller, "m.pt2", "torch")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "m.pt2"]
    session = onnxruntime.InferenceSession("m.onnx")
    (scores,) = session.run(None, {name: value.numpy() for name, value in x.items()})
    assert np.abs(scores - expected.numpy()).max() < 0.2 * float(expected.abs().max())
    assert torch.allclose(torch.export.load("m.pt2").module()(*x.values()), expected, atol=1e-5)


def test_int8_is_calibrated_on_the_run_s_own_samples(once):
    origin = source(once(made, "bert"))
    samples = some(origin.task, origin.about, 30)
    trained_on = {tuple(Ragged()[place]["input_ids"].tolist()) for place in range(40)}
    texts = samples["input_ids"].tolist()
    assert len(texts) == 30 and {tuple(t for t in text if t) for text in texts} == trained_on
    assert samples["attention_mask"].sum(1).tolist() == [sum(t > 0 for t in text) for text in texts]


def test_users_and_items_are_compressed(once):
    run = once(compressed, "recommendation")
    artifact, (users, items) = lab.load(run.folder / "artifact.lepton"), (torch.tensor([1, 2]), torch.arange(10) % 5)
    expected = run.model()(users, items.view(2, 5)).detach()
    assert torch.allclose(artifact(users, items.view(2, 5)), expected, atol=0.02)
    assert {row["link"] for row in run.rows("note") if "ndcg" in row.get("test", ())} >= {"distill", "control"}
    lines = {line[: line.index("  ")]: line for line in compressions([run]).text.splitlines() if "  " in line}
    word = METRICS["ndcg"].word()
    assert lines[word].count("–") == 3 and f"{word} of the control" in lines  # of the dense model and of the file


def test_a_translator_keeps_its_zeros_and_takes_any_length(once):
    run = once(compressed, "sequence_to_sequence")
    artifact, model = lab.load(run.folder / "artifact.lepton"), run.model()
    assert model.out.weight.eq(0).float().mean() > 0.45
    source, before = torch.tensor([[3, 3, 3], [4, 4, 0]]), torch.tensor([[1, 3, 3, 3, 2], [1, 4, 2, 0, 0]])
    expected = model(source, before).detach()
    assert (artifact(source, before) - expected).abs().max() < 0.05 * expected.abs().max()
    assert {
        name for chain in CHAINS.values() for name, _ in links.links(links.canonical(chain, links.LISTS["compress"]))
    } == {*COMPRESSORS} - {"share"}  # of layers as any other's


def test_what_a_chain_can_t_do_is_refused_before_it_starts(once):
    parent = once(made, "bert")
    with pytest.raises(lab.SpecError, match="models of the table take one tensor.*leave student out"):
        lab.compress(parent, [("distill", "mlp")])
    with pytest.raises(lab.SpecError, match="'keep': .'bert'.*unknown layer"):
        lab.compress(parent, [("quantize", {"keep": ["bert"]})])
    with pytest.raises(lab.SpecError, match="Adversarial has a step of its own, which alone knows"):
        lab.compress(once(made, "adversarial"), ["low_rank"])
    with pytest.raises(lab.SpecError, match="'distill': compares .* as one tensor, and task=Multitask gives none such"):
        lab.compress(once(made, "multitask"), ["distill"])
    assert len(lab.runs()) == 3


def test_users_and_items_are_rated_however_many(once, tmp_path):
    lab.export(once(made, "recommendation"), tmp_path / "m.lepton", runtime="torch")
    artifact = lab.load(tmp_path / "m.lepton")
    users, items = torch.tensor([1, 2]), torch.tensor([[0, 1, 2, 3, 4, 0, 1], [3, 4, 0, 1, 2, 2, 2]])
    assert torch.allclose(artifact(users, items), once(made, "recommendation").model()(users, items), atol=1e-6)
    assert artifact.manifest["call"] == "arguments" and artifact.labels == []
    assert [item["name"] for item in artifact.manifest["inputs"]] == ["users", "items"]


def test_several_labels_are_told_by_their_probabilities(once, tmp_path):
    lab.export(once(made, "multilabel"), tmp_path / "m.lepton")
    artifact = lab.load(tmp_path / "m.lepton")
    x = CASES["multilabel"][1][0][:6].numpy()
    scores = artifact(x)
    assert artifact.predict(x) == [[str(i) for i in range(3) if row[i] > 0] for row in scores]


@pytest.mark.parametrize("name", ["bert", "recommendation"])
def test_what_takes_more_than_a_tensor_is_measured(once, name):
    run = once(made, name)
    found = lab.measure(run, repeats=2, warmup=1, batches=(1, 4))
    assert found.latency[4].median > 0 and found.bytes > 0
    if name == "bert":
        tested = run.rows("eval")[-1]
        assert tested["split"] == "test" and found.accuracy == pytest.approx(tested["accuracy"])
    else:
        assert found.metric == "ndcg" and 0 < found.figures["ndcg"] <= 1


@pytest.mark.slow
def test_a_model_of_keywords_is_estimated(once, texts, smaller):
    run = once(made, "bert")
    guess, told = lab.estimate(run), lab.load(texts).manifest["figures"]
    assert (guess.parameters, guess.multiply_adds) == (told["parameters"], told["multiply_adds"])
    assert guess.bytes == pytest.approx(texts.stat().st_size, rel=0.15) and guess.latency[64] > guess.latency[1] > 0
    less = lab.estimate(run, [("prune", 0.5), "quantize"])
    assert less.parameters < guess.parameters and less.bytes < guess.bytes and less.dense.bytes == guess.bytes
    with pytest.raises(lab.SpecError, match="'keep': .'bert'.*unknown layer"):
        lab.estimate(run, [("quantize", {"keep": ["bert"]})])
    made_of = lab.load(smaller.folder / "artifact.lepton").manifest["figures"]
    assert estimated(smaller).parameters == made_of["parameters"]


class Angle(lab.Task):
    """The first of several numbers, in a unit of its own."""

    metrics = ("r2",)
    answers = "numbers"

    def inputs(self, batch):
        return {"x": batch["inputs"]}

    def loss(self, outputs, batch):
        return 10 * (outputs[:, 0] - batch["angle"]).square().mean()

    def scores(self, outputs):
        return outputs[:, 0]

    def targets(self, batch):
        return batch["angle"]


class Angles(Dataset):
    def __init__(self, begin=0):
        self.begin = begin

    def __len__(self):
        return 30

    def __getitem__(self, place):
        return {"inputs": X[self.begin + place], "angle": NUMBERS[self.begin + place, 0]}


class Ahead(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net(3)

    def forward(self, x):
        return self.net(x)


@pytest.mark.slow
def test_a_task_of_ones_own_judges_the_file_too_and_other_samples():
    parts = Angles(), Angles(10), Angles(20)
    parent = lab.launch(lab.Spec(epochs=1), model=Ahead(), data=parts, task=Angle)
    assert parent.wait(60) == "done", parent.failure
    run = lab.compress(parent, [("quantize", "bf16")], epochs=1)
    assert run.wait(60) == "done", run.failure
    told = measured(run)
    assert told["artifact"]["metric"] == told["dense"]["metric"] == "r2"
    control = next(peer for peer in told["artifact"]["peers"] if peer["name"] == TRAINED_ON)
    assert control["figures"]["loss"] == pytest.approx(told["control"]["test"]["loss"], rel=1e-4)
    assert budgets.values(told)["quality_drop"] == control["figures"]["r2"] - told["artifact"]["figures"]["r2"]
    same, others = (lab.measure(run, data, repeats=1, warmup=0).figures for data in (Angles(20), Angles()))
    assert same == pytest.approx(told["artifact"]["figures"], rel=1e-4) and {*others} == {*same} and others != same
    (tested,) = [row for row in parent.rows("eval") if row["split"] == "test"]
    asked = lab.measure(parent, Angles(20), repeats=1, warmup=0)
    assert asked.figures["r2"] == pytest.approx(tested["r2"], rel=1e-4)


@pytest.mark.slow
def test_a_search_of_a_model_of_keywords_goes_by_its_task_s_metric(once, smaller):
    values = budgets.values(measured(smaller))
    assert values["quality_drop"] == values["accuracy_drop"] and values["bytes"] > 0
    users = budgets.values(measured(once(compressed, "recommendation")))
    told = measured(once(compressed, "recommendation"))["artifact"]
    (control,) = (peer["figures"]["ndcg"] for peer in told["peers"] if peer["name"] == TRAINED_ON)
    assert users["quality_drop"] == control - told["figures"]["ndcg"]  # of the same negatives
    same = lab.measure(once(compressed, "recommendation"), CASES["recommendation"][1], repeats=1, warmup=0)
    assert same.figures == pytest.approx(told["figures"], rel=1e-4)
    assert budgets.judged_by(measured(once(compressed, "recommendation"))["artifact"])[0] == "ndcg"
    found = lab.search(once(made, "bert"), {"bytes": 100}, trials=1, links=("quantize",)).wait(120)
    assert found.failure is None and found.skipped and found.verdict.startswith("Nothing found meets the budget")
    with pytest.raises(lab.SpecError, match="is of task 'detection', whose answers are not right or wrong"):
        budgets.suits({"accuracy_drop": 0.1}, once(made, "detection"))


@pytest.mark.slow
def test_sensitivity_goes_by_the_task_s_metric_on_the_run_s_own_batches(once):
    found = lab.sensitivity(once(made, "bert"), (0.5,), samples=9)
    assert found.metric == "accuracy" and found.samples == 4 and 0 <= found.whole <= 1
    assert "bert.encoder.layer.0.attention.self" in found.pruned and "classifier" in found.rounded
    texts = lab.sensitivity(once(made, "sequence_to_sequence"), (0.5,), samples=7)
    assert texts.metric == "perplexity" and texts.samples == 7 and {*texts.rounded} == {"out"}
    assert texts.rows()[-1]["perplexity"] == texts.rounded["out"] and "perplexity" in texts.figure().text
    assert texts.worst(drop=1e9) == [] and texts.worst(0) == ["out"] * (texts.rounded["out"] > texts.whole)
    with pytest.raises(lab.SpecError, match="drop=-1: must be 0 or more, of perplexity"):
        texts.worst(drop=-1)
    assert texts.figure().png().startswith(b"\x89PNG") and texts.figure().figure().data
    with pytest.raises(lab.SpecError, match="its task has a step of its own"):
        lab.sensitivity(once(made, "adversarial"))


def test_what_no_file_can_hold_is_refused_in_a_sentence(once, tmp_path):
    for act in (
        lambda run: lab.export(run, tmp_path / "m.lepton"),
        lab.measure,
        lambda run: lab.compress(run, ["low_rank"]),
    ):
        with pytest.raises(lab.LabError, match=REFUSED["detection"]) as caught:
            act(once(made, "detection"))
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "m.lepton").exists()


class Turned(Ragged):
    def __getitem__(self, place):
        tokens = super().__getitem__(place)["input_ids"]
        return {"input_ids": tokens, "labels": tokens.flip(0)[: 2 + place % 2]}


def test_a_model_that_decodes_is_asked_without_labels_for_what_it_was_trained_to_say():
    transformers = pytest.importorskip("transformers")
    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2, "dropout_rate": 0.0}
    torch.manual_seed(0)
    model = transformers.T5ForConditionalGeneration(
        transformers.T5Config(vocab_size=30, decoder_start_token_id=3, **sizes)
    ).eval()
    data, spec = from_user(Turned(), 0), lab.Spec()
    task = make(spec, data)
    about = lab.About.of_task(task, spec, model)
    assert [item.name for item in about.inputs] == ["input_ids", "attention_mask", "decoder_input_ids"]
    assert preparing.scores(preparing.Prepared(model, about), about).shape[2] == 30, "it can be computed"
    question = task.question(data.example)
    assert question["decoder_input_ids"][:, 0].tolist() == [3, 3] and "labels" not in question
    assert torch.equal(model(**question).logits, model(**data.example).logits)
    again = make(spec, data)
    again.recall(task.reading(model), [item.name for item in about.inputs])
    assert all(torch.equal(again.question(data.example)[name], leaf) for name, leaf in question.items())


class OwnStep(lab.Task):
    """A loop's body on samples that are dicts."""

    def step(self, model, batch):
        return torch.nn.functional.cross_entropy(model(batch["inputs"]), batch["labels"])


@pytest.mark.parametrize(
    ("name", "own", "words"),
    [
        ("adversarial", None, "task Adversarial has a step of its own.*about=lab.About"),
        ("keywords", OwnStep, "task OwnStep has a step of its own.*about=lab.About"),
    ],
)
def test_models_that_no_file_can_hold_are_refused(name, own, words, tmp_path):
    model, data, options = CASES[name]
    data = from_user(data, 0)
    spec = lab.Spec(task="auto" if own else name, options={} if own else options)
    task = make(spec, data, own=own)
    module = model()
    with pytest.raises(lab.LabError, match=words) as caught:
        lab.export(module, tmp_path / "m.lepton", about=lab.About.of_task(task, spec, module))
    assert "\n" not in str(caught.value) and not (tmp_path / "m.lepton").exists()


def test_numbers_are_told_as_values_and_ratings_as_scores(tmp_path):
    about = lab.About("mlp", (8,), task={"name": "regression", "options": {}})
    lab.export(CASES["regression"][0](1), tmp_path / "m.lepton", about=about, runtime="torch")
    artifact = lab.load(tmp_path / "m.lepton")
    scores = artifact(artifact.made_up(2))
    told = answering.answered(scores, artifact.manifest)
    assert [*told] == ["scores", "values"] and told["values"] is scores
    rated = answering.answered(scores, artifact.manifest | {"task": {"name": "recommendation"}})
    assert [*rated] == ["scores"]


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_every_task_s_model_is_exported_or_refused(name, tmp_path):
    run = launched(name, epochs=1)
    assert run.wait(90) == "done", run.failure
    if name in REFUSED:
        with pytest.raises(lab.LabError, match=REFUSED[name]):
            lab.export(run, tmp_path / "m.lepton")
        return
    assert lab.export(run, tmp_path / "m.lepton")["difference"] < 1e-4
    artifact = lab.load(tmp_path / "m.lepton")
    assert artifact.manifest["task"]["name"] == ("classification" if name == "auto" else name)
    assert {len(scores) for scores in leaves(artifact(artifact.made_up(4)))} == {4}
