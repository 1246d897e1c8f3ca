"""What is taken out of data, dealt anew and mended: planted duplicates, leaks, blank samples, outliers, groups."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset

from lepton_lab import Spec, SpecError, datasets
from lepton_lab.preparation import keep_files, with_files
from lepton_lab.transforms import findings, nearness
from lepton_lab.transforms.cleaning import balance, deduplicate, drop_blank, drop_outliers
from lepton_lab.transforms.dealing import fold, fold_of, split
from lepton_lab.transforms.decisions import Decision, Decisions, mend, undecided
from lepton_lab.transforms.picking import Picked, digest, digests, labels_of


@pytest.fixture
def pictures():
    """Random pictures: 60 for training, 20 for validation, 20 for testing, in four classes."""
    x = torch.randint(0, 256, (100, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    y = torch.arange(100) % 4
    cuts = [(x[a:b].clone(), y[a:b].clone()) for a, b in ((0, 60), (60, 80), (80, 100))]
    return datasets.Data(*cuts, (1, 8, 8), ["a", "b", "c", "d"])


class Rows(Dataset):
    """The samples of a pair, one by one."""

    def __init__(self, pair):
        self.pair = pair

    def __len__(self):
        return len(self.pair[0])

    def __getitem__(self, index):
        return self.pair[0][index], int(self.pair[1][index])


def rows(data):
    return replace(data, **{name: Rows(getattr(data, name)) for name in ("train", "val", "test")})


@pytest.mark.parametrize("form", [lambda data: data, rows], ids=["tensors", "dataset"])
def test_what_is_also_measured_on_leaves_the_training_set(pictures, form):
    pictures.train[0][5] = pictures.train[0][4]  # in its own split, under another label
    pictures.train[0][7] = pictures.test[0][0]
    pictures.val[0][3] = pictures.test[0][1]
    before = pictures.train[0].clone()
    cleaned = deduplicate(form(pictures), 0)
    assert [datasets.length(part) for part in (cleaned.train, cleaned.val, cleaned.test)] == [58, 19, 20]
    assert torch.equal(pictures.train[0], before)
    (told,) = cleaned.history
    assert told["samples"] == [("train", 5), ("train", 7), ("val", 3)]
    assert "2 training samples and 1 validation samples" in told["text"] and "2 of them were in a split" in told["text"]
    assert labels_of(cleaned.train).tolist() == [y for i, y in enumerate(pictures.train[1].tolist()) if i not in (5, 7)]
    assert not findings.twins(cleaned)


def test_pictures_that_differ_a_little_are_near_and_others_are_not(pictures):
    noisy = (pictures.train[0][2].float() * 0.8 + 20).to(torch.uint8)  # darker, and with less contrast
    pictures.train[0][50] = noisy
    assert [twin.sample for twin in findings.twins(pictures, 0.01)] == [("train", 50)]
    assert not findings.twins(pictures)


def test_sounds_are_near_whatever_their_loudness_noise_and_numbers():
    time = torch.arange(4000) / 8000
    pitches = 200 * torch.arange(1, 9)[:, None] ** 0.5 * (1 + torch.rand(8, 1) * time)
    sounds = torch.sin(2 * torch.pi * pitches * time) * (time < torch.linspace(0.2, 0.5, 8)[:, None])
    noisy = sounds[1] + 0.1 * sounds[1].std() * torch.randn(4000)
    x = torch.cat([sounds, sounds[:1] * 0.3, noisy[None], (sounds[2:3] * 127).round() / 127, torch.zeros(2, 4000)])
    data = datasets.Data((x, torch.arange(len(x)) % 2), None, None, (4000,), ["a", "b"], sample_rate=8000)
    assert nearness.near(data, [data.train], 0.015) == [(0, 8), (1, 9), (2, 10)]
    cleaned = deduplicate(data, 0, distance=0.015)
    assert len(cleaned.train[0]) == len(x) - 4  # and one of the two of silence, which are equal


def test_samples_of_unequal_shapes_have_no_distance():
    samples = [(torch.randn(300 + place // 3), place % 2) for place in range(6)]
    data = datasets.Data(samples, None, None, (300,), ["a", "b"], sample_rate=8000)
    with pytest.raises(SpecError, match=r"sample 0 has x of shape \(300,\) and sample 3 of \(301,\)"):
        deduplicate(data, 0, distance=0.015)


def test_texts_are_near_by_their_words():
    words = re.findall(r"\w+", "the quick brown fox jumps over a lazy dog and sleeps until evening comes around again")
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.permutation(words)) for _ in range(30)]
    texts[20] = texts[3].upper() + "!!"
    length = max(map(len, texts))
    x = torch.tensor([list(text.encode().ljust(length, b"\0")) for text in texts])
    data = datasets.Data((x, torch.zeros(30, dtype=torch.long)), None, None, (length,), ["one"], vocabulary=256)
    data.tokens = "bytes"
    assert [(twin.sample, twin.first) for twin in findings.twins(data, 0.2)] == [(("train", 20), ("train", 3))]


def test_rows_of_numbers_are_near_by_standard_deviations():
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 10.0, 100.0, 0.0])
    x[9] = x[8] + torch.tensor([0.001, 0.01, 0.1, 0.0])
    assert nearness.near_numbers(x, 0.01) == [(8, 9)]


def test_blank_samples_and_outliers_go(pictures):
    smooth = torch.linspace(0, 200, 64).reshape(1, 8, 8)
    x = (smooth + torch.randint(0, 20, (60, 1, 8, 8), generator=torch.Generator().manual_seed(1))).to(torch.uint8)
    x[11] = 7
    x[30] = torch.randint(0, 256, (1, 8, 8), generator=torch.Generator().manual_seed(2)).to(torch.uint8)
    data = drop_blank(replace(pictures, train=(x, pictures.train[1])), 0)
    assert data.history[0]["samples"] == [("train", 11)] and datasets.length(data.train) == 59
    assert drop_outliers(data, 0).history[-1]["samples"] == [("train", 29)]  # where it is after the blank one went


@pytest.mark.parametrize(("by", "each"), [("over", 30), ("under", 5)])
def test_classes_become_as_frequent(pictures, by, each):
    y = torch.tensor([0] * 30 + [1] * 15 + [2] * 10 + [3] * 5)
    data = balance(replace(pictures, train=(pictures.train[0], y)), 3, by=by)
    assert torch.bincount(data.train[1]).tolist() == [each] * 4
    again = balance(replace(pictures, train=(pictures.train[0], y)), 3, by=by)
    assert torch.equal(again.train[0], data.train[0])
    assert "a 30, b 15, c 10, d 5" in data.history[0]["text"]
    with pytest.raises(SpecError, match="'balance': needs one label a sample"):
        balance(replace(pictures, classes=[]), 0)


def speakers(data):
    """The same pictures, ten by each of ten speakers, five a day."""
    names = [f"speaker {i // 10}" for i in range(100)]
    days = [f"2026-01-{i // 5 + 1:02}" for i in range(100)]
    about = {"speaker": names, "day": days}
    cut = {"train": slice(0, 60), "val": slice(60, 80), "test": slice(80, 100)}
    return replace(data, about={name: {k: v[part] for k, v in about.items()} for name, part in cut.items()})


def test_no_group_is_in_two_splits(pictures):
    data = split(speakers(pictures), 0, by="group", of="speaker", val=0.2, test=0.3)
    groups = {name: {*known["speaker"]} for name, known in data.about.items()}
    assert [len(groups[name]) for name in ("train", "val", "test")] == [5, 2, 3]
    assert not groups["train"] & groups["test"] and not groups["train"] & groups["val"]
    assert digest(data) == digest(pictures)  # nothing is lost
    other = split(speakers(pictures), 1, by="group", of="speaker", val=0.2, test=0.3)
    assert {*other.about["test"]["speaker"]} != groups["test"]


def test_the_last_days_are_for_testing(pictures):
    data = split(speakers(pictures), 0, by="time", of="day")
    days = {name: known["day"] for name, known in data.about.items()}
    assert max(days["train"]) < min(days["val"]) and max(days["val"]) < min(days["test"])
    assert [datasets.length(part) for part in (data.train, data.val, data.test)] == [80, 10, 10]
    plain = split(pictures, 0, by="time")  # in the order that they have
    assert torch.equal(plain.test[0], pictures.test[0][-10:])


@pytest.mark.parametrize("form", [lambda data: data, rows], ids=["tensors", "dataset"])
def test_each_split_has_as_much_of_each_class(pictures, form):
    data = split(form(pictures), 0, by="class", val=0.2, test=0.2)
    for part, count in ((data.train, 15), (data.val, 5), (data.test, 5)):
        assert np.bincount(labels_of(part)).tolist() == [count] * 4
    assert digest(data) == digest(form(pictures))


def test_what_can_t_be_dealt_is_said(pictures):
    data = speakers(pictures)
    with pytest.raises(SpecError, match="leaves the val set empty: of 2 groups each goes to one split"):
        about = {name: {"half": ["ab"[i % 2] for i in range(len(known["day"]))]} for name, known in data.about.items()}
        split(replace(data, about=about), 0, by="group")
    with pytest.raises(SpecError, match="needs to know it of each sample"):
        split(pictures, 0, by="group")
    with pytest.raises(SpecError, match=r"has of='speker': known are speaker, day.*speaker"):
        split(data, 0, by="group", of="speker")
    with pytest.raises(SpecError, match="leaves no training samples"):
        split(data, 0, val=0.5, test=0.5)


def test_what_is_known_of_some_splits_alone_is_left_out(pictures):
    known = speakers(pictures).about
    assert split(replace(pictures, about={"train": known["train"]}), 0).about == {}
    assert fold(replace(pictures, about={"test": known["test"]}), 0).about == {}
    with pytest.raises(SpecError, match="by time needs times that can be compared"):
        split(
            replace(pictures, about={k: {"day": [None, "1"] * (len(v["day"]) // 2)} for k, v in known.items()}),
            0,
            by="time",
        )


def test_labels_that_are_left_out_or_made_of_others_are_told_from_them(pictures, tmp_path):
    x, y = pictures.train
    missing = replace(pictures, train=(x, y.where(y > 0, -100)))
    with pytest.raises(SpecError, match="needs one label a sample, and these have none"):
        balance(missing, 0)
    file = undecided(pictures, "pictures", [1], [2], {}).decided(1, "relabel").save(tmp_path / "decisions.json")
    assert "1 training samples relabelled" in mend(missing, 0, file=str(file)).history[0]["text"]
    later = Rows((x, y + 1))
    later.targets, later.target_transform = y.tolist(), lambda label: label + 1
    assert labels_of(later).tolist() == (y + 1).tolist()


def test_samples_are_dealt_before_they_are_copied_or_learnt_from():
    with pytest.raises(SpecError, match="'balance' makes copies of samples, .*: put 'split' before it"):
        Spec(transforms=["balance", "split"])
    with pytest.raises(SpecError, match="'mel' makes other numbers of samples, .*: put 'standardise' after it"):
        Spec(dataset="vowels", transforms=["standardise", "mel"])
    with pytest.raises(SpecError, match="'standardise' learns from the training samples, .*: put 'fold' before it"):
        Spec(transforms=["standardise", "fold"])
    assert len(Spec(transforms=["split", "balance", "flip"]).transforms) == 3
    assert len(Spec(transforms=[("balance", "under"), "fold"]).transforms) == 2


class Counted(IterableDataset):
    def __len__(self):
        return 12

    def __iter__(self):
        return ((torch.tensor([float(i)]), i % 2) for i in range(12))


@pytest.mark.parametrize("clean", [deduplicate, drop_blank, balance, split, fold, mend])
def test_a_stream_is_refused(clean):
    with pytest.raises(SpecError, match=r"a stream is read forwards and can't be looked through"):
        clean(datasets.from_user(Counted(), 0), 0)


def test_folds_are_the_training_set_and_even_in_classes(pictures):
    parts = [fold(pictures, 4, number=number, folds=3) for number in range(3)]
    assert sorted(one for part in parts for one in digests(part.test)) == sorted(digests(pictures.train))
    for part in parts:
        assert np.bincount(labels_of(part.test)).tolist() == [5] * 4 and part.val is pictures.val
        assert not {*digests(part.train)} & {*digests(part.test)}
    assert (fold_of(pictures, 4, 3) == fold_of(pictures, 4, 3)).all()
    with pytest.raises(SpecError, match="number=3 of folds=3 is none"):
        fold(pictures, 0, number=3, folds=3)


@pytest.mark.parametrize("form", [lambda data: data, rows], ids=["tensors", "dataset"])
def test_decisions_are_applied_wherever_the_samples_are_dealt(pictures, form, tmp_path):
    data = form(pictures)
    decisions = undecided(data, "pictures", [3, 9, *range(20, 40)], [0, 0, *[1] * 20], {"runs": []})
    decisions = decisions.decided(3, "relabel").decided(9, "drop")
    path = decisions.save(tmp_path / "decisions.json")
    assert Decisions.read(path) == decisions and decisions.counts == {"keep": 20, "relabel": 1, "drop": 1}
    mended = mend(data, 0, file=str(path))
    labels = pictures.train[1].tolist()
    labels[3] = 0
    assert labels_of(mended.train).tolist() == labels[:9] + labels[10:]
    assert mended.history[0]["samples"] == [("train", 3), ("train", 9)]
    elsewhere = split(data, 7, by="chance", val=0.3, test=0.3)
    told = mend(elsewhere, 7, file=str(path)).history[-1]["text"]
    assert "of its 22 samples are not in this training set" in told


def test_a_run_reads_its_own_copy_of_a_file_that_is_not_named(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    undecided(pictures, "pictures", [3], [0], {}).save("decisions.json")
    spec = Spec(transforms=["flip"]).replace(transforms=["mend", "flip"])
    keep_files(spec, tmp_path / "run")
    copy = tmp_path / "run" / "transforms" / "0" / "decisions.json"
    assert with_files(spec, tmp_path / "run").transforms == [{"mend": {"file": str(copy)}}, {"flip": {}}]


def test_a_file_that_holds_no_decisions_is_refused(pictures, tmp_path):
    file = tmp_path / "decisions.json"
    with pytest.raises(SpecError, match="No such file"):
        mend(pictures, 0, file=str(file))
    file.write_text("[1, 2]")
    with pytest.raises(SpecError, match="holds no decisions that can be read"):
        mend(pictures, 0, file=str(file))
    other = Decisions("others", "", ("a",), {}, (Decision(0, "0" * 16, "a", "drop"),))
    other.save(file)
    with pytest.raises(SpecError, match=r"none of its 1 samples is in the training set; it was made of 'others'"):
        mend(pictures, 0, file=str(file))
    with pytest.raises(SpecError, match="relabel needs the label"):
        Decision(0, "", "a", "relabel")
    with pytest.raises(SpecError, match="is no class"):
        undecided(pictures, "pictures", [1], [0], {}).decided(1, "relabel", "e")


def test_samples_are_told_apart_by_their_contents_alone(pictures):
    assert digests(Picked(Rows(pictures.train), [2, 0, 1])) == [digests(pictures.train)[i] for i in (2, 0, 1)]
    assert len({*digests(pictures.train)}) == 60
    nest = [{"x": torch.ones(2), "text": "a"}, {"x": torch.ones(2), "text": "b"}, {"text": "a", "x": torch.ones(2)}]
    first, second, third = digests(nest)
    assert first == third != second
