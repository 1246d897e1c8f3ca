"""The data sets that need no file of their own: what they hold, that they are made of the seed, and that they teach."""

import hashlib
import itertools
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import lepton_lab as lab
from lepton_lab.datasets import DATASETS
from lepton_lab.datasets.dates import pairs, written
from lepton_lab.datasets.ratings import known_factors
from lepton_lab.datasets.sentences import WORDS
from lepton_lab.errors import SpecError
from lepton_lab.tables import meant
from lepton_lab.tasks import TASKS, make

MADE = [name for name, dataset in DATASETS.items() if dataset.made]
FEW = {"samples": 120}


def load(name, seed=0, **options):
    data = DATASETS[name](Path("unused"), seed, **options)
    data.task = next(iter(DATASETS[name].tasks), "")
    return data


def test_what_is_made_says_so_first():
    assert [name for name, dataset in DATASETS.items() if dataset.__doc__.strip().startswith("Made: ")] == MADE


@pytest.mark.parametrize("name", MADE)
def test_made_data_are_those_of_their_seed(name):
    def digest(seed):
        data = load(name, seed, **({"users": 20} if name == "ratings" else FEW))
        pairs = [part if isinstance(part, tuple) else [part[place] for place in range(12)] for part in _parts(data)]
        return hashlib.md5(repr([_plain(pair) for pair in pairs]).encode()).hexdigest()

    once, again, other = digest(3), digest(3), digest(4)
    assert once == again != other


def _parts(data):
    return data.train, data.val, data.test


def _plain(nest):
    if isinstance(nest, dict):
        return {key: _plain(value) for key, value in nest.items()}
    return [_plain(part) for part in nest] if isinstance(nest, (tuple, list)) else nest.numpy().tobytes()


@pytest.mark.parametrize("name", [name for name in MADE if DATASETS[name].tasks])
def test_a_set_is_what_each_of_its_tasks_takes(name):
    data = load(name, **({"users": 20} if name == "ratings" else FEW))
    assert meant("auto", name) == DATASETS[name].tasks[0] and meant("ctc", name) == "ctc"
    assert isinstance(TASKS["auto"](data), TASKS[DATASETS[name].tasks[0]])
    for task in DATASETS[name].tasks:
        if task == "ctc":  # of rows of its words
            with pytest.raises(SpecError, match=r"as transforms=\['strings'\] makes of words"):
                make(lab.Spec(task=task), data)
        else:
            make(lab.Spec(task=task), data)


def test_boxes_are_around_what_is_seen():
    data = load("scenes", samples=200)
    for picture, target in (data.train[place] for place in range(50)):
        assert picture.shape == (1, 96, 96) and 1 <= len(target["labels"]) == len(target["boxes"]) <= 4
        inside = torch.zeros(96, 96, dtype=torch.bool)
        for left, top, right, bottom in target["boxes"].int().tolist():
            part = picture[0, top:bottom, left:right]
            assert part.amax(0).min() > 0.3 < part.amax(1).min()  # ink at every side
            inside[top:bottom, left:right] = True
        assert picture[0][~inside].max() < 90 / 255
    assert {int(label) for place in range(50) for label in data.train[place][1]["labels"]} == {*range(1, 11)}


def test_scenes_are_one_in_three_forms():
    boxed, masks, labels = (load(name, samples=50) for name in ("scenes", "scene_masks", "scene_labels"))
    for place in range(40):
        there = {*boxed.train[place][1]["labels"].tolist()}
        assert {*masks.train[1][place].unique().tolist()} == there | {0}
        assert {*(labels.train[1][place].nonzero()[:, 0] + 1).tolist()} == there


def test_digits_of_test_scenes_are_in_no_other():
    scenes = sys.modules["lepton_lab.datasets.scenes"]  # whose name is that of the function, too

    def ink(digit):
        return digit.tobytes()

    made = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes, "_scenes", lambda digits, names, count, seed: made.append({ink(d) for d in digits}))
        scenes._parts(0, 100)
    assert not (made[0] & made[2] or made[0] & made[1] or made[1] & made[2]) and min(map(len, made)) > 100


def test_tones_have_the_spectra_of_their_kinds():
    data = load("tones", noise=0.0)
    (x, y), half = data.train, 4000 // 2
    assert data.sample_rate == 8000 and torch.allclose(x.square().mean(1), torch.tensor(0.01), atol=1e-5)

    def peak(part):
        return torch.fft.rfft(part).abs().argmax(1).float()

    rise = peak(x[:, half:]) / peak(x[:, :half])
    power = torch.fft.rfft(x).abs().square()
    purity = power.amax(1) / power.sum(1)
    of = {kind: y == number for number, kind in enumerate(data.classes)}
    assert rise[of["rising"]].median() > 1.2 > 1 / 1.2 > rise[of["falling"]].median()
    assert purity[of["sine"]].median() > purity[of["square"]].median() > purity[of["sawtooth"]].median()
    assert purity[of["noise"]].max() < 0.05


def test_vowels_have_the_formants_that_were_measured():
    data = load("vowels")
    x, y = data.train
    power = torch.fft.rfft(x).abs().square()
    hertz = torch.fft.rfftfreq(4000, 1 / 8000)
    low = hertz < 1200
    middle = (power[:, low] * hertz[low]).sum(1) / power[:, low].sum(1)  # of what the first formant makes loud
    assert middle[y == 0].median() < 0.7 * middle[y == 3].median()  # 270 Hz in "heed", 730 in "hod"
    high = power[:, hertz > 1500].sum(1) / power.sum(1)
    assert high[y == 0].median() > 2 * high[y == 4].median()  # the second: 2,290 Hz there, 870 in "who'd"
    assert [int((y == label).sum()) for label in range(6)] and len(data.test[1]) == 80


def test_ratings_are_of_factors_that_are_known():
    data = load("ratings", noise=0.0)
    users, items = known_factors(0)
    x, y = data.train
    liked = (users[x[:, 0]] * items[x[:, 1]]).sum(1)
    assert torch.equal(y, (3.5 + liked).round().clamp(1, 5))
    assert (users @ items.T).std() == pytest.approx(1, abs=0.2) and liked.mean() > 0.5  # he takes what he likes
    assert len({*map(tuple, torch.cat([part[0] for part in _parts(data)]).tolist())}) == 300 * 25  # each once


def test_spanish_agrees_with_its_nouns():
    data = load("sentences")
    pairs = {_said(x): _said(y) for split in _parts(data) for x, y in zip(*split, strict=True)}
    assert len(pairs) == 3000
    known = {"the cow": "la vaca", "the cows": "las vacas", "a boy": "un chico", "the old houses": "las casas viejas"}
    for english, spanish in known.items():
        found = [spanish in other for said, other in pairs.items() if f" {english} " in f" {said} "]
        assert found and all(found), english
    assert all(other.endswith("<end>") for other in pairs.values())


def _said(tokens):
    return " ".join(WORDS[token] for token in tokens.tolist() if token > 0)


def test_tables_of_scikit_learn_are_the_published_ones():
    (x, y), (_, y_val), (x_test, y_test) = _parts(load("breast_cancer"))
    assert np.bincount(torch.cat([y, y_val, y_test])).tolist() == [212, 357]  # scikit-learn's description
    assert x.mean(0).abs().max() < 1e-4 and x_test.shape == (56, 30)
    (x, y), val, test = _parts(load("diabetes"))
    assert len(x) + len(val[0]) + len(test[0]) == 442 and x.shape[1] == 10
    assert y.mean().abs() < 1e-5 and y.std() == pytest.approx(1, abs=1e-4)
    bmi = (x[:, 2] * y).mean()
    assert bmi == pytest.approx(0.586, abs=0.06)  # its correlation over all patients


@pytest.mark.parametrize(
    ("task", "dataset", "said"),
    [
        ("detection", "digits", "take dataset='scenes' or 'cutout_scenes' with model='detector', or give data"),
        ("classification", "scenes", "that data set is for task='detection'"),
        ("classification", "ratings", "that data set is for task='recommendation' or 'regression'"),
        ("classification", "diabetes", "take task='regression'"),
        ("keywords", "digits", "give data=..."),
    ],
)
def test_a_task_that_a_set_is_not_for_is_refused_with_those_that_are(task, dataset, said):
    with pytest.raises(SpecError) as error:
        lab.launch(lab.Spec(task=task, dataset=dataset))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_set_of_a_task_that_its_model_does_not_do_names_one_that_does():
    with pytest.raises(SpecError, match="task='detection' needs others; take model='detector', or give model"):
        lab.launch(lab.Spec(dataset="scenes"))


# --- each of them is learnt from --------------------------------------------------------------------------------------


class Grid(nn.Module):
    """A detector that says of each 8x8 pixels whether a digit has its middle there, which, and its box."""

    def __init__(self):
        super().__init__()
        layers = [(nn.Conv2d(a, b, 5, 2, 2), nn.BatchNorm2d(b), nn.ReLU()) for a, b in itertools.pairwise([4, 24, 48])]
        self.net = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(1, 4, 3, 1, 1), nn.ReLU(), *itertools.chain(*layers))
        self.net.extend([nn.Conv2d(48, 48, 3, 1, 1), nn.ReLU(), nn.Conv2d(48, 16, 1)])

    def forward(self, pictures, targets=None):
        found = self.net(torch.stack(pictures)).flatten(2).transpose(1, 2)  # (B, 144, 16)
        if not self.training:
            return [self.boxes(one) for one in found]
        there, box, label = [], [], []
        for scene, target in enumerate(targets):
            middle = target["boxes"].unflatten(1, (2, 2)).mean(1)
            cell = (middle[:, 1] // 8 * 12 + middle[:, 0] // 8).long()
            there.append(scene * 144 + cell)
            box.append(target["boxes"])
            label.append(target["labels"])
        place, flat = torch.cat(there), found.flatten(0, 1)
        wanted = torch.zeros(len(flat)).index_fill(0, place, 1.0)
        functional = nn.functional
        return {
            "there": 20 * functional.binary_cross_entropy_with_logits(flat[:, 0], wanted),
            "label": functional.cross_entropy(flat[place, 5:], torch.cat(label)),
            "box": functional.smooth_l1_loss(flat[place, 1:5] + self.middles(place % 144), torch.cat(box) / 8),
        }

    def middles(self, cell):
        across, down = cell % 12 + 0.5, cell // 12 + 0.5
        return torch.stack([across, down, across, down], 1)

    def boxes(self, found):
        sure, cell = found[:, 0].sigmoid().topk(8)
        boxes = 8 * (found[cell, 1:5] + self.middles(cell))
        return {"boxes": boxes, "scores": sure, "labels": found[cell, 5:].argmax(1)}


class Spectrum(nn.Module):
    """A linear model of how loud a sound is in 64 bands, on the whole and in each quarter."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.BatchNorm1d(320), nn.Linear(320, 6))

    def forward(self, x):
        power = torch.fft.rfft(x.unflatten(1, (4, 1000))).abs()[..., :-1].unflatten(2, (50, 10)).mean(3)
        power = nn.functional.pad(power, (0, 14)).clamp(1e-4).log()
        return self.net(torch.cat([power.mean(1, keepdim=True), power], 1).flatten(1))


class Factors(nn.Module):
    """Both tastes' product, and how good an item is; of pairs (B, 2), or of users and several items."""

    def __init__(self):
        super().__init__()
        self.users, self.items, self.good = nn.Embedding(300, 4), nn.Embedding(100, 4), nn.Embedding(100, 1)
        for table in (self.users, self.items, self.good):
            nn.init.normal_(table.weight, std=0.3)

    def forward(self, users, items=None):
        if items is None:
            users, items = users[:, 0], users[:, 1:]
        return (self.users(users)[:, None] * self.items(items)).sum(-1) + self.good(items)[..., 0] + 3.5


class Pixels(nn.Sequential):
    """Says of each 4x4 pixels what they belong to."""

    def __init__(self):
        super().__init__(nn.BatchNorm2d(1), nn.Conv2d(1, 16, 8, 4, 2), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1))
        self.extend([nn.ReLU(), nn.Conv2d(32, 11, 1), nn.Upsample(scale_factor=4)])


class Any(nn.Sequential):
    def __init__(self):
        super().__init__(nn.AvgPool2d(2), nn.Conv2d(1, 16, 5, 2, 2), nn.BatchNorm2d(16), nn.ReLU())
        self.extend([nn.Conv2d(16, 64, 5, 2, 2), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU()])
        self.extend([nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(64, 10)])


BALANCED = "balanced_accuracy"  # since most pixels are background

LEARNT = {
    "breast_cancer": (None, {"model": "mlp", "epochs": 4, "lr": 0.01}, "accuracy", 0.9),
    "diabetes": (None, {"model": "mlp", "epochs": 4, "lr": 0.01}, "r2", 0.3),
    "scenes": (Grid, {"epochs": 5, "lr": 0.01}, "map50", 0.05),
    "scene_masks": (Pixels, {"options": {"samples": 200}, "batch_size": 8, "epochs": 4, "lr": 0.01}, BALANCED, 0.14),
    "scene_labels": (Any, {"epochs": 4, "lr": 0.01}, "roc_auc", 0.65),
    "tones": (Spectrum, {"epochs": 5, "lr": 0.02}, "accuracy", 0.75),
    "vowels": (Spectrum, {"epochs": 2, "lr": 0.01}, "accuracy", 0.8),
    "ratings": (Factors, {"epochs": 4, "lr": 0.05}, "accuracy", 0.04),
    "sentences": (
        None,
        {"model": "encoder_decoder", "options": {"depth": 1}, "epochs": 2, "lr": 0.01},
        "accuracy",
        0.8,
    ),
    "dates": (
        None,
        {"model": "encoder_decoder", "options": {"samples": 4000}, "epochs": 2, "lr": 0.004},
        "accuracy",
        0.8,
    ),
}
"""By name: a model, fields, and the least that is reached in validation within a few seconds, well above chance."""


SOON = ("breast_cancer", "diabetes", "tones", "sentences")  # the others take longer


@pytest.mark.parametrize(
    "name", [name if name in SOON else pytest.param(name, marks=pytest.mark.slow) for name in LEARNT]
)
def test_a_task_learns_from_its_set_at_once(name):
    model, fields, metric, floor = LEARNT[name]
    fields = {"batch_size": 32, "optimizer": "adam", "schedule": "one_cycle", "device": "cpu", **fields}
    fields["metrics"] = [BALANCED] if metric == BALANCED else []
    loss = nn.CrossEntropyLoss(torch.tensor([0.05] + [1.0] * 10)) if metric == BALANCED else None
    run = lab.launch(lab.Spec(dataset=name, **fields), model=model, loss=loss)
    assert run.wait(90) == "done", run.failure
    reached = [row[metric] for row in run.rows("eval") if row["split"] == "val"]
    assert reached[-1] >= floor


def test_dates_are_of_both_languages_and_none_comes_twice():
    data = load("dates", **FEW)
    assert data.sample == DATASETS["dates"].sample and (data.train[1] == 3).sum() == 0  # no word is unknown
    texts = [[data.pieces[word] for word in row if word] for row in torch.cat([data.train[0], data.test[0]]).tolist()]
    assert all(text[-1].isdigit() and 1900 <= int(text[-1]) < 2100 for text in texts)
    assert len({*map(tuple, pairs(0, 5000))}) > 4600  # but for a "May 5" that is long and medium
    assert ("September 3, 1998", "3 de septiembre de 1998") in written([(date(1998, 9, 3), "long")])


def test_every_made_set_is_learnt_from():
    assert {*MADE} - {"blobs"} <= {*LEARNT}
