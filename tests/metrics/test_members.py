"""Each metric is held to the library that people know it from, or to its definition; and parts add up to the whole."""

import contextlib
import io
import math

import numpy as np
import pytest
import torch
from helpers import Late
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from lepton_lab.datasets.base import Data
from lepton_lab.errors import SpecError
from lepton_lab.losses import squared_error, token_loss
from lepton_lab.metrics import KINDS, METRICS, meaningless
from lepton_lab.objectives import Criterion
from lepton_lab.tables import keywords

jiwer, sacrebleu, sk = Late("jiwer"), Late("sacrebleu"), Late("sklearn.metrics")
seeds = st.integers(0, 2**31)
quick = settings(deadline=None, max_examples=15)


def data(classes=0, vocabulary=0, tokens=""):
    x = torch.zeros(1, 2, dtype=torch.long)
    names = [chr(97 + i) for i in range(classes)]
    return Data((x, x), None, None, (2,), names, vocabulary=vocabulary, tokens=tokens)


LOSSES = {
    "classes": (functional.cross_entropy, data(3)),
    "tokens": (token_loss, data(5, 5, "characters")),
    "labels": (nn.BCEWithLogitsLoss(), data()),
    "numbers": (squared_error, data()),
    "": (lambda output, target: output.sum(), data()),
}


def metric(name, kind="", **options):
    loss, of = LOSSES[kind]
    return METRICS[name].of(of, Criterion(loss, of), **options)


def figure(name, output, target, kind="", **options):
    """The figure of a batch; the same in uneven parts."""
    whole = metric(name, kind, **options).over([(output, target)])
    cut = len(output) // 3 + 1
    parts = [(output[:cut], target[:cut]), (output[cut:], target[cut:])]
    again = metric(name, kind, **options).over([part for part in parts if len(part[0])])
    assert whole == pytest.approx(again, rel=1e-6, abs=1e-7, nan_ok=True)
    return whole


def scored(seed, n=17, classes=3, places=()):
    """Logits, and labels of which all classes are there."""
    generator = torch.Generator().manual_seed(seed)
    scores = 2 * torch.randn(n, classes, *places, generator=generator)
    labels = torch.randint(classes, (n, *places), generator=generator)
    labels.flatten()[:classes] = torch.arange(classes)
    return scores, labels


@pytest.mark.parametrize("name", METRICS)
def test_a_member_says_what_views_ask(name):
    member = METRICS[name]
    assert member.title and member.short and member.axis and member.__doc__ and set(member.kinds) <= set(KINDS)
    assert (member.text(3) if not member.curve else member.text(0.25)) and member.word()[1:] in member.title
    assert all(rule.description for rule in keywords(member).values())
    fitting = {kind for kind in LOSSES if metric(name, kind) is not None}
    assert fitting - {""} <= set(member.kinds or LOSSES)


@quick
@given(seeds, st.integers(2, 5))
def test_classes_as_scikit_learn_counts_them(seed, classes):
    scores, y = scored(seed, classes=classes)
    said, chances = scores.argmax(1), scores.double().softmax(1)
    assert figure("balanced_accuracy", scores, y, "classes") == pytest.approx(sk.balanced_accuracy_score(y, said))
    for average in ("macro", "micro"):
        for name, reference in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score)):
            expected = reference(y, said, average=average, zero_division=0)
            assert figure(name, scores, y, "classes", average=average) == pytest.approx(expected)
    assert figure("log_loss", scores, y, "classes") == pytest.approx(sk.log_loss(y, chances))
    area = sk.roc_auc_score(y, scores[:, 1] - scores[:, 0] if classes == 2 else chances, multi_class="ovr")
    assert figure("roc_auc", scores, y, "classes") == pytest.approx(area)
    wanted = chances if classes > 2 else (scores[:, 1] - scores[:, 0])[:, None]
    right = functional.one_hot(y)[:, -wanted.shape[1] :]
    assert figure("average_precision", scores, y, "classes") == pytest.approx(sk.average_precision_score(right, wanted))
    if classes > 2:
        expected = sk.top_k_accuracy_score(y, scores, k=2, labels=range(classes))
        assert figure("top_k_accuracy", scores, y, "classes", k=2) == pytest.approx(expected)


@quick
@given(seeds)
def test_labels_as_scikit_learn_counts_them(seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(19, 4, generator=generator).round(decimals=1)  # of which some are tied
    y = (torch.rand(19, 4, generator=generator) > 0.6).float()
    y[0], y[1] = 0, 1
    for name, reference in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score)):
        expected = reference(y, scores > 0, average="macro", zero_division=0)
        assert figure(name, scores, y, "labels") == pytest.approx(expected)
    assert figure("roc_auc", scores, y, "labels") == pytest.approx(sk.roc_auc_score(y, scores))
    assert figure("average_precision", scores, y, "labels") == pytest.approx(sk.average_precision_score(y, scores))
    expected = functional.binary_cross_entropy_with_logits(scores.double(), y.double()).item()
    assert figure("log_loss", scores, y, "labels") == pytest.approx(expected)


def test_what_the_loss_ignores_does_not_count():
    scores, y = scored(0, 12, 3, (4,))
    hidden = y.clone()
    hidden[:, 1:3] = -100
    flat = scores.movedim(1, -1)[:, [0, 3]].reshape(-1, 3), y[:, [0, 3]].reshape(-1)
    for name in ("f1", "balanced_accuracy", "log_loss", "roc_auc", "average_precision", "top_k_accuracy"):
        assert figure(name, scores, hidden, "classes") == pytest.approx(figure(name, *flat, "classes"))


@quick
@given(seeds, st.integers(1, 20))
def test_calibration_is_that_of_its_definition(seed, bins):
    scores, y = scored(seed, 30)
    sure, said = scores.double().softmax(1).max(1)
    expected = 0.0
    for i in range(bins):
        within = (sure > i / bins) & (sure <= (i + 1) / bins)
        if within.any():
            expected += (
                within.sum().item() / 30 * abs((sure[within].mean() - (said == y)[within].double().mean()).item())
            )
    assert figure("calibration_error", scores, y, "classes", bins=bins) == pytest.approx(expected)


@quick
@given(seeds, st.sampled_from([(), (1,), (3,)]), st.sampled_from([0.0, 1e4]))
def test_numbers_as_scikit_learn_counts_them(seed, shape, shift):
    generator = torch.Generator().manual_seed(seed)
    y = torch.randn(14, *shape, generator=generator, dtype=torch.double) + shift
    output = y + torch.randn(14, *shape, generator=generator)
    references = {"mse": sk.mean_squared_error, "mae": sk.mean_absolute_error, "r2": sk.r2_score}
    references["rmse"] = lambda y, output: sk.mean_squared_error(y, output) ** 0.5
    for name, reference in references.items():
        assert figure(name, output, y, "numbers") == pytest.approx(reference(y, output), rel=1e-6, abs=1e-7)
        assert figure(name, output.reshape(14, -1), y, "numbers") == figure(name, output, y, "numbers")
    assert figure("r2", output, torch.full_like(y, 0.1), "numbers") == 0.0


words = st.lists(st.sampled_from(["a", "bb", "c", "the", "cat"]), min_size=1, max_size=9).map(" ".join)


@quick
@given(st.lists(st.tuples(words, words), min_size=1, max_size=5))
def test_texts_as_jiwer_and_sacrebleu_count_them(pairs):
    said, right = map(list, zip(*pairs, strict=True))
    assert figure("word_error_rate", said, right) == pytest.approx(jiwer.wer(right, said))
    assert figure("character_error_rate", said, right) == pytest.approx(jiwer.cer(right, said))
    bleu = sacrebleu.corpus_bleu(said, [right], smooth_method="none", tokenize="none", force=True)
    assert figure("bleu", said, right) == pytest.approx(bleu.score / 100, abs=1e-9)
    numbers = {word: i for i, word in enumerate(["a", "bb", "c", "the", "cat"])}
    tokens = [[[numbers[word] for word in text.split()] for text in texts] for texts in (said, right)]
    for name in ("word_error_rate", "bleu", "token_accuracy"):
        assert figure(name, *tokens) == figure(name, said, right)


def test_a_match_is_exact_from_beginning_to_end():
    assert figure("exact_match", ["a b", "a b c", "a"], ["a b", "a b", "b"]) == pytest.approx(1 / 3)
    scores, y = scored(0, 6, 5, (2,))  # scores of five places, for the two ends of an answer
    right = (scores.argmax(1) == y).all(1).double().mean().item()
    assert figure("exact_match", scores, y) == pytest.approx(right)
    y[2:] = -100  # answers past the tokens: neither right nor wrong
    assert figure("exact_match", scores, y) == (scores.argmax(1) == y)[:2].all(1).double().mean().item()


def test_tokens_of_scores_and_their_characters():
    scores, y = scored(0, 6, 5, (7,))
    scores, hidden = scores.movedim(1, -1), y.clone()
    hidden[:, 5:] = -100
    said = scores.argmax(-1)
    right = (said == y)[:, :5].double().mean().item()
    assert figure("token_accuracy", scores, hidden, "tokens") == pytest.approx(right)
    names = ["".join("abcde"[token] for token in row) for row in said[:, :5].tolist()]
    true = ["".join("abcde"[token] for token in row) for row in y[:, :5].tolist()]
    assert figure("character_error_rate", scores, hidden, "tokens") == pytest.approx(jiwer.cer(true, names))


def test_perplexity_follows_from_the_loss():
    assert metric("perplexity", "tokens").follow("val", {"loss": 2.0}) == pytest.approx(math.exp(2))
    assert metric("perplexity", "tokens").follow("val", {"loss": 1e4}) == math.inf and metric("perplexity") is None


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(label_smoothing=0.1), nn.CrossEntropyLoss(torch.ones(5))])
def test_a_loss_of_smoothed_or_weighed_labels_has_no_perplexity(loss):
    of = LOSSES["tokens"][1]
    assert METRICS["perplexity"].of(of, Criterion(loss, of, tokens=True)) is None
    assert "needs another loss" in meaningless("perplexity", of, Criterion(loss, of, tokens=True))
    assert METRICS["perplexity"].of(of, Criterion(nn.CrossEntropyLoss(), of, tokens=True)) is not None


def images(seed):
    """Boxes said and right of a few images; some near, some of equal scores, some images without either."""
    generator = torch.Generator().manual_seed(seed)
    said, right = [], []
    for _ in range(5):
        n, extra = torch.randint(4, (2,), generator=generator).tolist()
        corner = 80 * torch.rand(n, 2, generator=generator)
        truths = torch.cat([corner, corner + 5 + 40 * torch.rand(n, 2, generator=generator)], 1)
        labels = torch.randint(3, (n,), generator=generator)
        near = truths.repeat(2, 1) + 6 * torch.randn(2 * n, 4, generator=generator)
        near[:, 2:] = near[:, 2:].maximum(near[:, :2] + 1)
        far = torch.rand(extra, 4, generator=generator) * 20 + torch.tensor([0, 0, 30, 30])
        boxes = torch.cat([near, far])
        kinds = torch.cat([labels.repeat(2), torch.randint(3, (extra,), generator=generator)])
        scores = torch.rand(len(boxes), generator=generator).round(decimals=1)
        said.append({"boxes": boxes, "scores": scores, "labels": kinds})
        right.append({"boxes": truths, "labels": labels})
    return said, right


def coco(said, right):
    """(mAP, mAP at 0.5) as pycocotools finds them."""

    def flat(boxes):
        return [
            x1y1 + (np.array(x2y2) - x1y1).tolist() for x1y1, x2y2 in ((b[:2], b[2:]) for b in boxes.double().tolist())
        ]

    truths, found = [], []
    for i, (mine, true) in enumerate(zip(said, right, strict=True)):
        for box, label in zip(flat(true["boxes"]), true["labels"].tolist(), strict=True):
            truths.append({"id": len(truths) + 1, "image_id": i, "category_id": label, "bbox": box, "iscrowd": 0})
            truths[-1]["area"] = box[2] * box[3]
        for box, label, score in zip(
            flat(mine["boxes"]), mine["labels"].tolist(), mine["scores"].tolist(), strict=True
        ):
            found.append({"image_id": i, "category_id": label, "bbox": box, "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        gt = Late("pycocotools.coco").COCO()
        gt.dataset = {"images": [{"id": i} for i in range(len(said))], "annotations": truths}
        gt.dataset["categories"] = [{"id": i} for i in range(3)]
        gt.createIndex()
        evaluation = Late("pycocotools.cocoeval").COCOeval(gt, gt.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[:2].tolist()


@quick
@given(seeds)
def test_boxes_as_coco_counts_them(seed):
    said, right = images(seed)
    assume(any(len(one["labels"]) for one in right) and any(len(one["labels"]) for one in said))
    whole, half = coco(said, right)
    assert figure("map50_95", said, right) == pytest.approx(whole) and figure("map50", said, right) == pytest.approx(
        half
    )


def test_signals_by_the_definition_whatever_the_loudness():
    torch.manual_seed(0)
    right = torch.randn(5, 40, dtype=torch.double)
    said = right + 0.1 * torch.randn(5, 40)
    scale = (said * right).sum(1, keepdim=True) / right.square().sum(1, keepdim=True)
    power = (scale * right).square().sum(1) / (said - scale * right).square().sum(1)
    expected = (10 * power.log10()).mean().item()
    assert figure("si_sdr", said, right, "numbers") == pytest.approx(expected)
    assert figure("si_sdr", 7 * said, right, "numbers") == pytest.approx(expected)


@quick
@given(seeds, st.integers(1, 6))
def test_lists_as_scikit_learn_counts_them(seed, k):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(9, 5, generator=generator)
    relevance = torch.randint(3, (9, 5), generator=generator).float()
    expected = sk.ndcg_score(relevance, scores, k=k, ignore_ties=True)
    assert figure("ndcg", scores, relevance, k=k) == pytest.approx(expected)
    y = torch.randint(5, (9,), generator=generator)
    only = functional.one_hot(y, 5)
    assert figure("ndcg", scores, y, k=k) == pytest.approx(sk.ndcg_score(only, scores, k=k, ignore_ties=True))
    hits = sk.top_k_accuracy_score(y, scores, k=k, labels=range(5)) if k < 5 else 1.0
    assert figure("hit_rate", scores, y, k=k) == pytest.approx(hits)
    one = metric("hit_rate", k=k)
    one.update(scores, y)
    assert ("of 5 candidates, which are all" in one.doubt) == (k >= 5)
    assert figure("hit_rate", torch.zeros(9, 5), y, k=4) == 0  # who tells none apart finds none


@quick
@given(seeds)
def test_the_distance_of_normal_distributions(seed):
    torch.manual_seed(seed)
    said, right = (
        torch.randn(30, 2, 2, dtype=torch.double) @ torch.randn(2, 2).double() + 1,
        torch.randn(30, 2, 2).double(),
    )
    (a, b), (one, other) = (
        [f(x.flatten(1).numpy()) for x in (said, right)] for f in (lambda x: x.mean(0), lambda x: np.cov(x.T))
    )
    expected = ((a - b) ** 2).sum() + np.trace(one + other - 2 * Late("scipy.linalg").sqrtm(one @ other).real)
    assert figure("frechet_distance", said, right, "numbers") == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_scores_beside_chances_of_classes_are_no_numbers_to_compare():
    of = data()  # whose targets are no whole numbers
    counted = [name for name, member in METRICS.items() if member.of(of, Criterion(nn.CrossEntropyLoss(), of))]
    assert "loss" in counted and {*counted} <= {"loss", "confusion"}


def test_features_of_a_stated_model(tmp_path):
    torch.manual_seed(0)
    extractor, (said, right) = nn.Linear(4, 2).eval(), torch.randn(2, 20, 4)
    many = torch.export.Dim("many", min=2, max=64)
    torch.export.save(torch.export.export(extractor, (said,), dynamic_shapes=({0: many},)), tmp_path / "features.pt2")
    found = figure("frechet_distance", said, right, "numbers", extractor=str(tmp_path / "features.pt2"))
    with torch.no_grad():
        assert found == pytest.approx(
            figure("frechet_distance", extractor(said), extractor(right), "numbers"), rel=1e-4
        )
    with pytest.raises(SpecError, match="no such file"):
        metric("frechet_distance", "numbers", extractor="nowhere.pt2")
