"""Files of models of every task answer in its terms: in Python, and over HTTP."""

import json
import sys
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import call
from hypothesis import given
from hypothesis import strategies as some
from torch import nn

import lepton_lab as lab
from lepton_lab import artifacts
from lepton_lab.artifacts import answering
from lepton_lab.artifacts.manifest import build, check
from lepton_lab.artifacts.trial import trial
from lepton_lab.compressors import rehearse
from lepton_lab.datasets import from_user
from lepton_lab.metrics import METRICS
from lepton_lab.metrics.texts import edits
from lepton_lab.serving.describing import described, responses
from lepton_lab.spelling import pieces, spelled
from lepton_lab.tasks import make
from lepton_lab.tasks.ctc import CTC
from lepton_lab.tasks.sequences import SequenceToSequence

sys.path.append(str(Path(__file__).parents[1] / "tasks"))
sys.path.append(str(Path(__file__).parents[1] / "run"))
from test_exporting import answered
from test_tasks import CASES, PICTURES, TEXTS, Tokens, X, net

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # torch.export's own, while an artifact is written


class Found(nn.Module):
    """Looks for squares as torchvision's detectors do: of each picture as many as it is sure of."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.net = nn.Linear(128, 3 * 5)

    def forward(self, pictures, targets=None):
        found = []
        for picture in pictures:
            said = self.net(picture.flatten()).view(3, 5)
            scores = said[:, 0].sigmoid()
            sure = scores > 0.4
            found.append({"boxes": 8 * said[sure, 1:], "labels": torch.arange(3)[sure], "scores": scores[sure]})
        return found


class Heard(nn.Linear):
    """Scores of frames, of which the last one counts not."""

    def forward(self, x):
        return super().forward(x), torch.full((x.shape[0],), x.shape[1] - 1)


MODELS = {"detection": Found, "ctc": lambda: Heard(4, 4)}
MODELS |= dict.fromkeys(("multilabel", "contrastive"), lambda: net(3))
MODELS |= dict.fromkeys(("language_model", "masked_language_model"), lambda: Tokens(5))
_files = {}


@pytest.fixture
def filed(tmp_path_factory):
    """Function that gives a task's module and a file of it, written once."""

    def filed(name, runtime="torch"):
        key = name + runtime
        if key not in _files:
            makes, samples, options = CASES[name]
            torch.manual_seed(0)
            module = MODELS.get(name, makes)()
            spec = lab.Spec(task=name, options=options)
            task = make(spec, from_user(samples, 0))
            path = tmp_path_factory.mktemp("answers") / "model.lepton"
            artifacts.write(path, module, lab.About.of_task(task, spec, module), runtime=runtime)
            _files[key] = module.eval().requires_grad_(False), task, path
        module, task, path = _files[key]
        return module, task, lab.load(path)

    return filed


def told(artifact, *samples):
    batch = artifacts.checking.taken(artifact.signature, samples)[0]
    return answering.answered(artifact.forward(batch), artifact.manifest, batch)


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_several_outputs_are_in_one_file(filed, runtime):
    module, _, artifact = filed("multitask", runtime)
    expected = module(X[:5])
    scores = artifact(X[:5])
    assert artifact.manifest["format"] == 3 and [*scores] == ["side", "angle"]
    assert all(torch.allclose(scores[name], expected[name], atol=1e-5) for name in expected)
    assert artifact(X[0])["angle"].shape == (1,)
    names = [str(int(k)) for k in expected["side"].argmax(1)]
    assert artifact.predict(X[:5]) == {"side": names} and artifact.predict(X[1]) == {"side": names[1]}
    says = told(artifact, X[:5])
    assert says["labels"] == {"side": names} and np.allclose(says["values"]["angle"], expected["angle"].detach())
    assert np.allclose(says["probabilities"]["side"], expected["side"].softmax(1).detach(), atol=1e-5)


class Heads(nn.Module):
    """A number and a class of a picture, by convolutions."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.side, self.angle = nn.Linear(8, 2), nn.Linear(8, 1)

    def forward(self, x):
        x = self.body(x)
        return {"side": self.side(x), "angle": self.angle(x)}


def test_none_of_several_outputs_is_rounded_to_the_steps_of_int8(tmp_path):
    x = torch.randn(400, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    about = lab.About("heads", (8, 4, 4))
    found = artifacts.write(tmp_path / "heads.lepton", Heads(), about, "int8_static", calibration=x[:64])(x)
    assert all(len(scores.unique()) > 256 for scores in found.values())


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_a_detector_s_file_tells_boxes_of_as_many_objects_as_there_are(filed, runtime):
    module, _, artifact = filed("detection", runtime)
    pictures = torch.randn(6, 1, 8, 16, generator=torch.Generator().manual_seed(3))
    expected = module([*pictures])
    assert len({len(one["scores"]) for one in expected}) > 1
    found = artifact(pictures)
    for ours, theirs in zip(found, expected, strict=True):
        assert {*ours} == {"boxes", "labels", "scores"} and torch.equal(ours["labels"], theirs["labels"])
        assert torch.allclose(ours["boxes"], theirs["boxes"], atol=1e-4)
    objects = artifact.predict(pictures)
    surest = [float(one["scores"].max()) if len(one["scores"]) else None for one in expected]
    assert [one[0]["score"] if one else None for one in objects] == pytest.approx(surest, abs=1e-5)
    assert artifact.predict(pictures[0]) == objects[0] and {*objects[0][0]} == {"label", "score", "box"}


def test_a_chain_suits_a_detector_that_finds_another_number_of_objects_after_it():
    pictures = [*torch.randn(2, 1, 8, 16, generator=torch.Generator().manual_seed(3))]
    spec = lab.Spec(task="detection", parent="any", compress=[("low_rank", 0.1)])
    smaller = rehearse(Found(), spec, (), 0, 0, pictures)
    counts = [[len(one["scores"]) for one in model(pictures)] for model in (Found(), smaller)]
    assert counts[0] != counts[1]


def test_what_ctc_hears_is_a_text(filed):
    module, _, artifact = filed("ctc")
    signals = CASES["ctc"][1][0][:5]
    expected = CTC.decode(module(signals)[0][:, :-1])
    assert artifact.predict(signals) == [" ".join(map(str, one)) for one in expected]
    letters = {**artifact.manifest, "labels": ["-", "a", "b", " "]}
    names = artifact.predict(signals[:1])[0].split()
    heard = answering.predictions(artifact.forward(signals[:1].numpy()), letters)
    assert heard == ["".join("-ab "[int(name)] for name in names)]


def test_a_sequence_is_written_from_its_source_alone(filed):
    module, task, artifact = filed("sequence_to_sequence")
    source = torch.tensor([[3, 3, 0], [5, 5, 5], [4, 4, 4]])
    ends = SequenceToSequence.decode(module, source, artifact.manifest["answer"]["length"])
    expected = [" ".join(map(str, task.upto(row))) for row in ends.tolist()]
    assert artifact.predict(source) == expected and artifact.predict(source[1]) == expected[1]
    begun = torch.tensor([[1, 6]])
    assert artifact.predict(source[:1], begun)[0].split()[0] == "6"  # it goes on from what it is given
    assert torch.allclose(artifact(source, begun.expand(3, 2)), module(source, begun.expand(3, 2)), atol=1e-5)


def test_an_answer_in_a_text_is_its_words(filed):
    module, task, artifact = filed("question_answering")
    texts = torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]])
    first, last = task.span(module(texts))[0].tolist()
    assert artifact.predict(texts) == [" ".join(map(str, texts[0, first : last + 1].tolist()))]


def test_masks_are_filled_and_next_tokens_told(filed):
    _, _, masked = filed("masked_language_model")
    tokens = TEXTS[:2].clone()
    tokens[:, 4] = 0
    filled = told(masked, tokens)["filled"]
    best = masked(tokens).argmax(-1)
    expected = best.where(tokens == 0, tokens)
    assert filled == [" ".join(map(str, row)) for row in expected.tolist()]
    module, _, artifact = filed("language_model")
    following = told(artifact, TEXTS[:3, :-1])["next"]
    chances = module(TEXTS[:3, :-1])[:, -1].softmax(-1)
    assert [one[0]["token"] for one in following] == [str(int(k)) for k in chances.argmax(1)]
    assert [one[0]["probability"] for one in following] == pytest.approx(chances.max(1).values.tolist(), abs=1e-5)


def test_pixels_are_named_along_the_axis_that_the_task_says(filed):
    module, _, artifact = filed("segmentation")
    assert artifact.predict(PICTURES[:2]) == module(PICTURES[:2]).argmax(-1).numpy().astype(str).tolist()
    six = {**artifact.manifest, "labels": [*"abcdef"], "answer": {"class_axis": "first"}}
    scores = np.random.default_rng(0).random((2, 6, 6, 6)).astype(np.float32)
    first = answering.predictions(scores, six)
    last = answering.predictions(scores, {**six, "answer": {"class_axis": "last"}})
    assert first[0][1][2] == "abcdef"[scores[0, :, 1, 2].argmax()]
    assert last[0][1][2] == "abcdef"[scores[0, 1, 2].argmax()]


def test_what_needs_no_reading_has_the_task_s_name_for_it(filed):
    for name, word in (("denoising", "restored"), ("diffusion", "noise"), ("contrastive", "embeddings")):
        artifact = filed(name)[2]
        scores = artifact.forward(artifact.made_up(2))
        assert answering.answered(scores, artifact.manifest)[word] is scores
    pixels = {**filed("denoising")[2].manifest, "preprocessing": {"mean": [0.5], "std": [0.25]}}
    scores = np.zeros((1, 1, 6, 6), np.float32)
    assert (answering.answered(scores, pixels)["restored"] == 0.5).all()


def test_openapi_tells_whether_a_sample_has_one_label_or_any_number(filed):
    told = {}
    for name in ("multilabel", "segmentation"):
        artifact = filed(name)[2]
        example = answering.plain(artifact.answered(artifact.made_up(1)))
        schema = responses(artifact.manifest, example)[200]["content"]["application/json"]["schema"]["properties"]
        told[name] = described(artifact.manifest, example), schema["labels"]
    words, labels = told["multilabel"]
    assert "any of 3 labels" in words and "one of 2 labels" in told["segmentation"][0]
    several = {"type": "array", "items": {"type": "string", "enum": ["0", "1", "2"]}}
    assert labels == {"type": "array", "items": several}


def test_boxes_and_texts_are_served(filed):
    detector, translator = filed("detection")[2], filed("sequence_to_sequence")[2]
    pictures, source = torch.randn(3, 1, 8, 16, generator=torch.Generator().manual_seed(5)), [[3, 3, 0], [5, 5, 5]]
    with lab.serve(detector) as boxes, lab.serve(translator) as texts:
        client = boxes.wait().client()
        for ours, theirs in zip(client(pictures), detector(pictures), strict=True):
            assert {*ours} == {*theirs} and all(torch.allclose(ours[name], theirs[name]) for name in theirs)
        assert client.predict(pictures) == detector.predict(pictures)
        assert client.predict(pictures[1]) == detector.predict(pictures[1])
        status, says = answered(boxes, {"samples": pictures.tolist()})
        assert status == 200 and says["detections"] == detector.predict(pictures)
        writing = texts.wait().client()
        assert writing.predict(source) == translator.predict(source)
        assert writing.predict(source[0]) == translator.predict(source)[0]
        with urllib.request.urlopen(f"{boxes.url}/openapi.json", timeout=30) as answer:
            about = json.load(answer)
        assert "gives detections" in about["info"]["description"]
        schema = about["paths"]["/predict"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
        assert {*schema["properties"]} == {"scores", "detections"}
        status, says = answered(texts, {"inputs": {"source": source}})
        assert status == 200 and says["text"] == translator.predict(source)


def test_the_command_line_says_the_same(filed, tmp_path):
    detector, translator = filed("detection")[2], filed("sequence_to_sequence")[2]
    pictures = np.random.default_rng(2).random((2, 1, 8, 16)).astype(np.float32)
    np.save(tmp_path / "pictures.npy", pictures)
    lines = call("predict", detector.path, tmp_path / "pictures.npy")[0].splitlines()
    assert [json.loads(line) for line in lines] == detector.predict(pictures)
    (tmp_path / "text.json").write_text('{"inputs": {"source": [[3, 3, 0]]}}')
    assert call("predict", translator.path, tmp_path / "text.json")[0] == f"{translator.predict([[3, 3, 0]])[0]}\n"
    told = json.loads(call("predict", translator.path, tmp_path / "text.json", "--json")[0])
    assert [*told] == ["scores", "labels", "text"]
    (tmp_path / "text.json").write_text('{"inputs": {"sauce": [[3]]}}')
    assert "samples: unknown input" in call("predict", translator.path, tmp_path / "text.json", code=2)[1]
    assert trial(detector.path, 2, 2, 1)["same"] and trial(filed("multitask")[2].path, 2, 2, 1)["same"]


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("detection", "map50"),
        ("ctc", "word_error_rate"),
        ("sequence_to_sequence", "perplexity"),
        ("multitask", "loss"),
        ("multilabel", "roc_auc"),
        ("denoising", "r2"),
        ("segmentation", "accuracy"),
    ],
)
def test_a_file_is_measured_by_its_task_s_metric(filed, name, metric):
    module, _, artifact = filed(name)
    measured = lab.measure(artifact, CASES[name][1], repeats=1, warmup=0, batches=(32,))
    assert measured.metric == metric and measured.samples and metric in measured.figures
    (row,) = measured.rows()
    assert row[METRICS[metric].short if metric != "accuracy" else "accuracy"].split(" (")[0]
    assert METRICS[metric].word() in measured.how()
    if name == "ctc":
        signals, spoken = CASES["ctc"][1]
        heard = CTC.decode(module(signals)[0][:, :-1])
        wrong = sum(edits(*pair) for pair in zip(heard, spoken.tolist(), strict=True))
        assert measured.figures[metric] == pytest.approx(wrong / spoken.numel())
    if name == "segmentation":
        right = (module(PICTURES).argmax(-1) == CASES[name][1][1]).float().mean()
        assert measured.accuracy == pytest.approx(float(right)) and measured.interval[0] < right < measured.interval[1]


def test_data_that_a_file_s_task_can_make_nothing_of_are_refused(filed):
    with pytest.raises(lab.LabError, match="the file is of task 'detection': .*samples must be pairs"):
        lab.measure(filed("detection")[2], (X, X[:, 0]), repeats=1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"outputs": []}, "outputs that are none"),
        ({"outputs": [{"name": "a", "shape": [1], "dtype": "object"}]}, "outputs of 'object'"),
        ({"outputs": [{"name": "a", "shape": [1], "dtype": "int64"}] * 2}, "two outputs one name"),
        ({"answer": {"length": 10**9}}, "answers that no model gives"),
        ({"answer": {"blank": "0"}}, "answers that no model gives"),
        ({"answer": {"length": 9, "end": 2}}, "answers that no model gives"),  # of one input
        ({"task": "ctc"}, "a task that is none"),
        ({"task": {"name": "ctc", "options": "blank=0"}}, "a task that is none"),
    ],
)
def test_a_manifest_that_no_model_has_is_refused(filed, change, words):
    artifact = filed("ctc")[2]
    with pytest.raises(ValueError, match=words):
        artifacts.manifest.check({**artifact.manifest, **change})


@given(some.text(max_size=30))
def test_byte_level_pieces_spell_what_they_stand_for(text):
    from lepton_lab.spelling import _letters

    letters = {byte: letter for letter, byte in _letters().items()}
    names = [letters[byte] for byte in range(256)]
    assert spelled(text.encode("utf-8", "replace"), names, "byte_level") == text.encode("utf-8", "replace").decode()


def test_pieces_of_a_tokenizer_are_joined_as_it_joins_them():
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer
    from tokenizers.decoders import WordPiece as Decoder
    from tokenizers.models import WordPiece

    inner = Tokenizer(WordPiece({"[UNK]": 0, "play": 1, "##ing": 2, "chess": 3, "[SEP]": 4}, unk_token="[UNK]"))
    inner.decoder = Decoder()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]", sep_token="[SEP]")
    held = pieces(tokenizer)
    assert spelled([1, 2, 3, 4], held["names"], held["kind"]) == "playing chess"
    assert tokenizer.decode([1, 2, 3, 4], skip_special_tokens=True) == "playing chess"
    assert json.loads(json.dumps(held)) == held


class Head(nn.Module):
    """A head as Hugging Face's classes have them, which the name of a class tells apart."""

    def __init__(self, numbers, **config):
        super().__init__()
        self.scores, self.config = nn.Embedding(9, numbers), SimpleNamespace(is_encoder_decoder=False, **config)

    def forward(self, input_ids, attention_mask=None, labels=None):
        return {"loss": self.scores(input_ids).sum(), "logits": self.scores(input_ids)}


class HeadForTokenClassification(Head):
    pass


class HeadForSequenceClassification(Head):
    pass


class HeadForCTC(Head):
    pass


def says(module, labels, scores, mask=None, collate=None):
    """What is told of scores, by the manifest of a head's file."""
    samples = [{"input_ids": torch.arange(2 + i % 3), "labels": labels(2 + i % 3)} for i in range(6)]
    task = make(lab.Spec(), from_user(samples, 0, collate=collate))
    about = lab.About.of_task(task, lab.Spec(), module)
    content = json.loads(json.dumps(build(about, "fp32", "torch", (), {}, np.float32(scores), 0.0)))
    content["figures"] = {"parameters": 1, "multiply_adds": 1}
    check(content)
    batch = {"input_ids": np.zeros(1), **({} if mask is None else {"attention_mask": np.asarray(mask)})}
    return answering.answered(np.float32(scores), content, batch)


NAMES = {0: "O", 1: "PER", 2: "LOC"}


def test_a_head_of_tokens_tells_the_label_of_each_that_is_no_padding():
    module = HeadForTokenClassification(3, id2label=NAMES)
    scores = np.eye(3)[[[1, 0, 2], [2, 1, 1]]]
    assert says(module, lambda n: torch.zeros(n).long(), scores)["labels"] == [
        ["PER", "O", "LOC"],
        ["LOC", "PER", "PER"],
    ]
    trimmed = says(module, lambda n: torch.zeros(n).long(), scores, mask=[[1, 1, 1], [1, 0, 0]])
    assert trimmed["labels"] == [["PER", "O", "LOC"], ["LOC"]]


def test_a_head_of_several_labels_tells_those_above_one_half():
    module = HeadForSequenceClassification(3, id2label=NAMES, problem_type="multi_label_classification")
    told = says(module, lambda n: torch.tensor([1.0, 0.0, 1.0]), [[0.1, -3, 2], [-1, -1, -0.1]])
    assert told["labels"] == [["O", "LOC"], []] and told["probabilities"][0][2] == pytest.approx(0.8808, abs=1e-4)
    module.config.problem_type = None  # which Hugging Face's own tell by the labels, too
    assert says(module, lambda n: torch.ones(3), [[0.1, -3, 2]])["labels"] == [["O", "LOC"]]
    single = says(module, lambda n: torch.tensor(1), [[0.1, -3, 2]])
    assert single["labels"] == ["LOC"] and single["probabilities"].sum() == pytest.approx(1)


class Letters:
    """A tokenizer of letters, as Hugging Face's for CTC."""

    all_special_ids, word_delimiter_token_id = (0, 1), 1

    def __len__(self):
        return 4

    def convert_ids_to_tokens(self, number):
        return ["<pad>", "|", "a", "b"][number]


class Spoken(lab.Pad):
    tokenizer = Letters()


def test_a_head_of_ctc_tells_the_greedy_text_where_its_letters_are_known():
    module = HeadForCTC(4, pad_token_id=0)
    scores = np.eye(4)[[[2, 2, 0, 2, 1, 3], [3, 0, 3, 3, 2, 2]]]

    def labels(n):
        return torch.full((n,), 2)

    assert says(module, labels, scores, collate=Spoken())["text"] == ["aa b", "bba"]
    short = says(module, labels, scores, mask=[[1] * 10, [1] * 5 + [0] * 5], collate=Spoken())
    assert short["text"] == ["aa b", "bb"], "without the frames of padding"
    assert [*says(module, labels, scores)] == ["scores"]
