"""Whether data are ready: each fault that was planted is told, and clean data have none."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import Dataset

import lepton_lab as lab
from lepton_lab import datasets

SPEC = lab.Spec()


@pytest.fixture(scope="module")
def digits():
    return datasets.load(SPEC)


def looked(data, **options):
    """Verdict and sentence of each check."""
    found = lab.quality(SPEC, data=(data.train, data.val, data.test), **options)
    return found, {check.name: (check.verdict, check.text) for check in found.checks}


@pytest.mark.slow
def test_clean_digits_are_ready(digits):
    found, checks = looked(digits)
    assert found.ready and "is ready" in found.sentence
    assert {verdict for verdict, _ in checks.values()} <= {"good", "look", "not looked at"}
    assert checks["labels"][0] == "not looked at" and checks["leakage between splits"][0] == "good"
    assert found.sentence.startswith("this data set is ready") and lab.quality(SPEC).name == "digits"
    with pytest.raises(lab.SpecError, match="'distance': 5.*must be at least 0 and less than 1"):
        looked(digits, distance=5)
    with pytest.raises(lab.SpecError, match="errors=5: must be what lab.find_label_errors gave"):
        looked(digits, errors=5)
    assert lab.quality(SPEC).frame()["verdict"].tolist() == found.frame()["verdict"].tolist()


def test_every_fault_that_was_planted_is_told(digits, tmp_path):
    x, y = digits.train[0].clone(), digits.train[1].clone()
    x[:30] = x[30:60]
    x[100:120] = digits.test[0][:20]
    x[200] = 0
    keep = (y != 3) | (torch.rand(len(y), generator=torch.Generator().manual_seed(0)) < 0.05)
    brighter = (digits.test[0] // 2 + 120, digits.test[1])
    errors = SimpleNamespace(fraction=0.08, sentence="about 8.0% of 1,438 training labels are wrong (an estimate)")
    found, checks = looked(replace(digits, train=(x[keep], y[keep]), test=brighter), errors=errors)
    assert not found.ready and "is not ready" in found.sentence
    assert checks["duplicates"][0] == "bad" and "have another label" in checks["duplicates"][1]
    assert checks["blank samples"] == ("look", "1 sample of one value all over")
    assert checks["balance of classes"][0] == "look" and "and 3 " in checks["balance of classes"][1]
    assert checks["labels"] == ("bad", errors.sentence)
    leaky, checks = looked(replace(digits, train=(x, y)))
    assert (
        checks["leakage between splits"][0] == "bad" and "test and training set" in checks["leakage between splits"][1]
    )
    page = leaky.save(tmp_path / "quality.html").read_text()
    assert "is not ready" in page and "<img" in page and "http" not in page.replace("http://www.w3.org", "")
    with pytest.raises(lab.SpecError, match="must be a file that ends in .html"):
        leaky.save(tmp_path / "quality.txt")


@pytest.mark.slow
def test_a_split_that_is_another_kind_of_data_drifts(digits):
    turned = (digits.test[0].flip(-1).transpose(-1, -2), digits.test[1])
    _, checks = looked(replace(digits, test=turned))
    assert checks["drift to the test set"][0] == "bad" and checks["drift to the validation set"][0] == "good"
    rare = digits.test[1] < 5
    _, checks = looked(replace(digits, test=(digits.test[0][rare], digits.test[1][rare])))
    assert checks["drift to the test set"][0] == "bad"
    absent = digits.train[1] != 7
    _, checks = looked(replace(digits, train=(digits.train[0][absent], digits.train[1][absent])))
    assert checks["balance of classes"] == ("bad", "measured on, and never trained on: 7")


class Spoken(Dataset):
    """Numbers by ten speakers; it knows whose each sample is."""

    def __init__(self):
        self.x = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
        self.about = {"speaker": [f"s{i // 10}" for i in range(100)]}

    def __len__(self):
        return 100

    def __getitem__(self, index):
        return self.x[index], index % 2


def test_a_speaker_in_two_splits_is_told_and_kept_in_one():
    found = lab.quality(SPEC, data=Spoken())
    (check,) = [check for check in found.checks if check.name == "speaker in one split"]
    assert check.verdict == "look" and "'of': 'speaker'" in check.text
    apart = SPEC.replace(transforms=[{"split": {"by": "group", "of": "speaker", "val": 0.2, "test": 0.2}}])
    (check,) = [check for check in lab.quality(apart, data=Spoken()).checks if check.name == "speaker in one split"]
    assert check.verdict == "good"
    broken = Spoken()
    broken.about = {"speaker": ["s0"]}
    with pytest.raises(lab.SpecError, match="`about` that is no dict of lists"):
        lab.quality(SPEC, data=broken)
