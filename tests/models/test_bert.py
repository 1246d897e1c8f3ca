"""BERT: padding that changes nothing, weights of others, what strategies make of it, and what it is worth on SST-2."""

import json
import random

import numpy as np
import pytest
import torch
from helpers import Late
from safetensors.torch import save_file
from torch import nn

import lepton_lab as lab
from lepton_lab.compressors import COMPRESSORS, Work
from lepton_lab.compressors.rehearsal import example
from lepton_lab.datasets import Data, dialogues
from lepton_lab.engine.feed import Feed, by_itself
from lepton_lab.errors import SpecError
from lepton_lab.files import data_root
from lepton_lab.models import MODELS
from lepton_lab.spec import Spec
from lepton_lab.spelling import TOKENIZERS, pieces_of
from lepton_lab.strategies import STRATEGIES
from lepton_lab.transforms import TRANSFORMS

transformers = Late("transformers")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "fine", "film", "##s", "bad"]
NAMES = {  # of what torch calls the parts of a layer
    "self_attn.in_proj": [f"attention.self.{part}" for part in ("query", "key", "value")],
    "self_attn.out_proj": ["attention.output.dense"],
    "linear1": ["intermediate.dense"],
    "linear2": ["output.dense"],
    "norm1": ["attention.output.LayerNorm"],
    "norm2": ["output.LayerNorm"],
}
SMALL = {"width": 16, "heads": 2, "depth": 2}
PIECES = [{"wordpiece": {"pretrained": "minilm", "length": 6}}]
slow = pytest.mark.slow


def bert(length=8, classes=2, vocabulary=30, **options):
    torch.manual_seed(0)
    return MODELS["bert"]((length,), classes, vocabulary, **{**SMALL, **options}).eval()


def texts(n=64, length=8, vocabulary=30):
    """Texts of unequal length, told apart by whether token 2 is in them."""
    draw = torch.Generator().manual_seed(1)
    x = torch.randint(3, vocabulary, (n, length), generator=draw)
    y = torch.randint(2, (n,), generator=draw)
    x[:, 0] = torch.where(y == 1, 2, x[:, 0])
    long = torch.randint(1, length + 1, (n, 1), generator=draw)
    return x.where(torch.arange(length) < long, 0), y


@pytest.fixture
def others(tmp_path, monkeypatch):
    """Weights of a small BERT by chance in Hugging Face's names, where MiniLM's are looked for; and them by torch's."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    monkeypatch.setenv("LEPTON_LAB_DATA", str(tmp_path))
    folder = tmp_path / "weights" / "minilm"
    folder.mkdir(parents=True)
    torch.manual_seed(1)
    sizes = {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 4, "intermediate_size": 96}
    sizes |= {"vocab_size": TOKENIZERS["minilm"], "max_position_embeddings": 12, "layer_norm_eps": 1e-12}
    layers = [nn.TransformerEncoderLayer(24, 3, 96, 0.0, "gelu", 1e-12, batch_first=True) for _ in range(4)]
    embedding = nn.ModuleDict(
        {
            "word_embeddings": nn.Embedding(TOKENIZERS["minilm"], 24),
            "position_embeddings": nn.Embedding(12, 24),
            "token_type_embeddings": nn.Embedding(2, 24),
            "LayerNorm": nn.LayerNorm(24, 1e-12),
        }
    )
    state = {f"bert.embeddings.{name}": value for name, value in embedding.state_dict().items()}
    for i, layer in enumerate(layers):
        for name, value in layer.state_dict().items():
            part, _, kind = name.replace("in_proj_", "in_proj.").rpartition(".")
            thirds = value.chunk(3) if part == "self_attn.in_proj" else [value]
            for own, third in zip(NAMES[part], thirds, strict=True):
                state[f"bert.encoder.layer.{i}.{own}.{kind}"] = third.clone()
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(sizes))
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_padding(length=128)
    tokenizer.save(str(folder / "tokenizer.json"))
    for file in ("tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        (folder / file).write_text("{}")
    return embedding, layers


def test_what_fills_a_text_up_changes_nothing_and_an_empty_one_has_an_answer():
    model, x = bert(), texts(4, 5)[0]
    filled = nn.functional.pad(x, (0, 3))
    assert torch.allclose(model(filled), model(x), atol=1e-6)
    assert not torch.allclose(model(x), model(x.flip(1)), atol=1e-3)  # its places count
    assert model(torch.zeros(2, 8, dtype=torch.long)).isfinite().all()
    assert bert(classes=30)(x).shape == (4, 5, 30)  # masked tokens


def test_weights_of_others_are_where_they_belong(others):
    embedding, layers = others
    x = texts(3, 9, 1000)[0]
    model = MODELS["bert"]((9,), 2, TOKENIZERS["minilm"], pretrained="minilm", depth=4).eval()
    with torch.no_grad():
        words, places, kinds, norm = embedding.values()
        theirs = norm(words(x) + places.weight[:9] + kinds.weight[0])
        for layer in layers:
            theirs = layer(theirs, src_key_padding_mask=x == 0)
        assert torch.allclose(model.read(x)[x != 0], theirs[x != 0], atol=1e-5)
    half = MODELS["bert"]((9,), 2, 500, pretrained="minilm", depth=2)
    assert len(half.blocks) == 2
    assert torch.equal(half.blocks[1].mlp.down.weight, layers[3].linear2.weight)  # the first and the last


def test_text_in_the_pieces_of_others_has_their_marks_also_where_it_is_cut(others):
    said = ["A fine film", "bad films, a bad bad film"]
    rows = torch.tensor([[*text.encode().ljust(30, b"\0")] for text in said])
    data = Data((rows, torch.tensor([1, 0])), None, None, (30,), ["no", "yes"], vocabulary=256, tokens="bytes")
    made = TRANSFORMS["wordpiece"](data, 0, pretrained="minilm", length=6)
    assert made.train[0].tolist() == [[2, 5, 6, 7, 3, 0], [2, 9, 7, 8, 1, 3]]
    assert made.sample == ((6,), 2, TOKENIZERS["minilm"])
    assert TRANSFORMS["wordpiece"].sees(*data.sample, pretrained="minilm", length=6) == made.sample
    assert pieces_of(made.tokenizer)(said[1]) == [2, 9, 7, 8, 1, 3]  # as a file of the model has it
    assert [made.pieces[token] for token in (0, 2, 3, 8)] == ["", "", "", "##s"]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"depth": 5}, "'depth': 5.*has 4"),
        ({"width": 32}, "'width': 32.*has width=24; leave the option out"),
        ({"heads": 2}, "'heads': 2.*has heads=3"),
        ({"initialisation": "xavier"}, "'initialisation': 'xavier'.*leave one of them out"),
    ],
)
def test_what_the_weights_can_t_be_is_refused(others, options, why):
    with pytest.raises(SpecError, match=why):
        MODELS["bert"]((9,), 2, 100, pretrained="minilm", **{"depth": 4, **options})


def test_samples_that_the_weights_can_t_read_are_refused(others):
    with pytest.raises(SpecError, match="13 tokens.*has 12"):
        MODELS["bert"]((13,), 2, 100, pretrained="minilm", depth=4)
    with pytest.raises(SpecError, match="40,000 kinds of tokens.*has 30,522"):
        MODELS["bert"]((9,), 2, 40_000, pretrained="minilm", depth=4)


def test_tokens_of_another_tokenizer_are_refused_before_anything_is_read():
    fields = {"dataset": "sst2", "model": "bert", "options": {"pretrained": "minilm"}}
    for transforms in ([], [{"wordpiece": {"size": 30522}}]):
        with pytest.raises(SpecError, match="take transforms=.*'pretrained': 'minilm'"):
            lab.launch(Spec(transforms=transforms, **fields))


def test_next_tokens_are_nothing_for_who_reads_both_ways():
    with pytest.raises(
        SpecError, match="is for task=.*'masked_language_model', and task='language_model' needs others"
    ):
        lab.launch(Spec(dataset="pydocs", model="bert"))


@slow
def test_masked_tokens_are_found_better_than_by_how_often_they_occur():
    spec = Spec(dataset="pydocs", model="bert", task="masked_language_model", epochs=1, lr=3e-3, options=SMALL)
    run = lab.launch(spec)
    assert run.wait(200) == "done", run.failure
    assert run.rows("eval")[-1]["loss"] < 3.0  # 3.2 nats by how often each character occurs


def test_batches_are_as_long_as_their_longest_text_and_hold_alike_ones(one_thread):
    x, y = texts(200, 40)
    data = Data((x, y), None, None, (40,), ["no", "yes"], vocabulary=30)
    spec = Spec(model="bert", batch_size=20, options=SMALL)
    single = STRATEGIES["single"](spec)
    single.start(0, 1, data_root(), torch.device("cpu"))
    single.module = bert(40)
    batches = [batch.x for micros, _ in Feed(data.train, data, spec, single).epoch(0) for batch in micros]
    widths = [batch.shape[1] for batch in batches]
    assert all((batch != 0).any(0).all() for batch in batches) and min(widths) < 10 and max(widths) > 30
    whole = torch.cat([nn.functional.pad(batch, (0, 40 - batch.shape[1])) for batch in batches])
    assert sorted(whole.tolist()) == sorted(x.tolist())
    assert {batch.x.shape[1] for micros, _ in by_itself(data.train, data, spec).epoch(0) for batch in micros} == {40}


def test_a_student_begins_with_some_blocks_of_its_teacher():
    x = texts()[0]
    for module in (bert(depth=6), nn.Sequential(*(nn.Linear(3, 3) for _ in range(6)))):
        rows = [*(module.blocks if hasattr(module, "blocks") else module)]
        work = Work(Spec(), (8,), 2, 30, example(bert(), (8,), 30))
        student = COMPRESSORS["distill"](depth=3).apply(module, work)
        assert [*(student.blocks if hasattr(student, "blocks") else student)] == [rows[0], rows[2], rows[5]]
    assert bert()(x).shape == (64, 2)
    with pytest.raises(SpecError, match="'depth': 2.*has 2 in a row; take less"):
        COMPRESSORS["distill"](depth=2).apply(bert(), work)
    with pytest.raises(SpecError, match="no row of them"):
        COMPRESSORS["distill"](depth=2).apply(nn.Linear(2, 2), work)
    link = {"distill": {"depth": 2, "student": "mlp"}}
    with pytest.raises(SpecError, match="depth=2 takes blocks of the parent's"):
        Spec(parent="20261122-000000-0000", compress=[link])


@slow
@pytest.mark.parametrize("strategy", ["single", "ddp", "zero", "fsdp", "tensor"])
def test_ranks_give_what_one_process_gives(strategy):
    data = (texts(96), texts(32), texts(32))
    spec = Spec(model="bert", epochs=2, batch_size=16, lr=3e-3, optimizer="momentum", clip=1.0, options=SMALL)
    alone = lab.launch(spec.replace(strategy="single"), data=data)
    run = lab.launch(spec.replace(strategy=strategy, world=1 if strategy == "single" else 2), data=data)
    assert [one.wait(120) for one in (alone, run)] == ["done"] * 2, run.failure
    losses = [[row["loss"] for row in one.rows("eval")] for one in (alone, run)]
    assert np.allclose(*losses, rtol=1e-4)


def reviews(folder, count, seed):
    """SST-2's phrases of five words and more, and its sentences to test on, as files of lines."""
    train, val, test, classes = lab.texts("sst2", seed=0)
    draw = random.Random(seed)
    for name, (said, labels), most in (("train", train, count), ("val", val, 200), ("test", test, 872)):
        rows = [row for row in zip(said, labels, strict=True) if name == "test" or len(row[0].split()) >= 5]
        rows = draw.sample(rows, min(most, len(rows)))
        (folder / f"{name}.tsv").write_text("".join(f"{text}\t{classes[label]}\n" for text, label in rows))
    return f"lines:{folder}"


def floors(name):
    return pytest.mark.skipif(
        not (data_root() / "weights" / "minilm" / "model.safetensors").exists() or not (data_root() / name).is_dir(),
        reason=f"needs weights/minilm and {name} under LEPTON_LAB_DATA",
    )


def trained(folder, count, seed=0, epochs=1, **options):
    folder.mkdir()
    options = options or {"pretrained": "minilm", "frozen": "embeddings"}
    fields = {"optimizer": "adamw", "schedule": "cosine", "warmup": count // 320, "precision": "auto", "batch_size": 32}
    return lab.launch(
        Spec(
            dataset=reviews(folder, count, seed),
            transforms=[{"wordpiece": {"pretrained": "minilm", "length": 64}}],
            model="bert",
            options={"tokens": "characters", "length": 300, **options},
            strategy="single",
            epochs=epochs,
            lr=1e-4 if "pretrained" in options else 1e-3,
            eval_every=0,
            **fields,
        )
    )


@slow
@floors("sst2")
@pytest.mark.timeout(1200)
def test_floors_of_a_teacher_and_of_a_student_of_half_its_layers(tmp_path):
    """5,000 phrases reach 85.1 %, and the student 97 % of that; here it is 1,500."""
    teacher = trained(tmp_path / "some", 1500)
    assert teacher.wait(600) == "done", teacher.failure
    assert teacher.summary()["test_accuracy"] > 0.77
    student = lab.compress(teacher, [("distill", {"depth": 3, "temperature": 2.0, "alpha": 0.7})], epochs=1, lr=2e-4)
    assert student.wait(900) == "done", student.failure
    assert student.summary()["test_accuracy"] > 0.9 * teacher.summary()["test_accuracy"]
    sizes = [sum(p.numel() for p in run.model().parameters()) for run in (teacher, student)]
    assert 0.2 < 1 - sizes[1] / sizes[0] < 0.3  # half of the layers are no half of the weights
    scores = lab.load(student.folder / "artifact.lepton")(
        ["a gripping , funny and warm film", "dull , empty and awful"]
    )
    assert scores[0].argmax() == 1 and scores[1].argmax() == 0


@slow
@floors("sst2")
@pytest.mark.timeout(600)
def test_floor_of_what_500_labels_buy(tmp_path):
    begun = trained(tmp_path / "begun", 500, epochs=3)
    scratch = trained(tmp_path / "scratch", 500, epochs=8, width=128, depth=3, dropout=0.1)
    assert [run.wait(400) for run in (begun, scratch)] == ["done"] * 2, begun.failure or scratch.failure
    first, second = (run.summary()["test_accuracy"] for run in (begun, scratch))
    assert first > 0.75 and first > second + 0.1


@slow
@floors("chatterbot")
def test_floor_of_answers_by_retrieval():
    kept = {}
    for one in dialogues.exchanges(data_root()):
        kept.setdefault(dialogues.alike(one.question), one)
    answers = sorted({one.answer for one in kept.values()})
    tokenizer = transformers.AutoTokenizer.from_pretrained(lab.weights("minilm"))
    model = MODELS["bert"]((64,), 0, len(tokenizer), pretrained="minilm").eval()

    def vectors(said):
        x = tokenizer(said, padding=True, truncation=True, max_length=64, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            return torch.cat([nn.functional.normalize(model.encode(part), dim=1) for part in x.split(64)])

    scores = vectors([one.question for one in kept.values()]) @ vectors(answers).T
    right = torch.tensor([answers.index(one.answer) for one in kept.values()])
    place = (scores >= scores.gather(1, right[:, None])).sum(1)
    assert (place <= 1).float().mean() > 0.35 and (place <= 5).float().mean() > 0.57
