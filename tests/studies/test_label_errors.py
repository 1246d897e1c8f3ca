"""Label errors that were planted on digits: real folds, real runs, and what was decided applied to a later one."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import lepton_lab as lab
from lepton_lab import datasets
from lepton_lab.studies.folding import folded, whole
from lepton_lab.transforms.decisions import Decisions

SPEC = lab.Spec(model="mlp", optimizer="adam", lr=3e-3, epochs=20, schedule="one_cycle", eval_every=0)


def planted(data, fraction, seed=0):
    """Data with some training labels changed to another at random, and their places."""
    x, y = data.train
    draw = np.random.default_rng(seed)
    wrong = draw.choice(len(y), round(fraction * len(y)), replace=False)
    labels = y.numpy().copy()
    labels[wrong] = (labels[wrong] + draw.integers(1, 10, len(wrong))) % 10
    return replace(data, train=(x, torch.from_numpy(labels))), wrong


@pytest.fixture(scope="module")
def dirty():
    return planted(datasets.load(SPEC), 0.04)


def found(dirty):
    data, _ = dirty
    return lab.find_label_errors(SPEC, data=(data.train, data.val, data.test))


def test_planted_errors_are_found_looked_at_and_mended(dirty, tmp_path):
    data, wrong = dirty
    errors = found(dirty)
    assert len(errors.runs) == 3
    assert errors.wait(120) == ["done"] * 3
    frame = errors.frame()
    hits = np.isin(frame["sample"], wrong).sum()
    assert hits / len(frame) > 0.7 and hits / len(wrong) > 0.7
    assert abs(errors.fraction / 0.04 - 1) < 0.5
    assert frame["own"].is_monotonic_increasing and (frame["given"] != frame["suggested"]).all()
    assert errors.noise()["wrong"].between(0, 0.3).all() and errors.noise()["samples"].sum() == len(data.train[1])
    assert "really" in errors.figure().text and f"{len(frame):,} are suspicious" in errors.sentence
    seen = {one["name"]: one for one in errors.card(0)["seen"]}
    assert [*seen] == ["sample", "given", "suggested"] and seen["sample"]["kind"] == "image"
    again = lab.LabelErrors(reversed(lab.runs()[:3]))  # from the folders, in any order
    assert again.runs == errors.runs and np.array_equal(again.samples, errors.samples)

    path = errors.decisions("relabel").decided(int(frame["sample"][0]), "drop").save(tmp_path / "decisions.json")
    assert Decisions.read(path).counts == {"keep": 0, "relabel": len(frame) - 1, "drop": 1}
    spec = SPEC.replace(epochs=1, transforms=[{"mend": {"file": str(path)}}])
    run = lab.launch(spec, data=(data.train, data.val, data.test))
    assert run.wait() == "done"
    (note,) = [row for row in run.rows("note") if row.get("transform") == "mend"]
    assert f"{len(frame) - 1:,} training samples relabelled and 1 dropped" in note["text"]
    page = lab.report(run, tmp_path / "report.html", quality=True).read_text()
    assert "training samples relabelled and 1 dropped" in page
    assert "duplicates" in page and "Quality of the data" in page
    path.unlink()  # the run has a copy
    assert run.facts["samples"] == len(data.train[1]) - 1
    assert lab.repeat(run).wait() == "done"


def test_what_can_t_be_asked_is_said():
    with pytest.raises(lab.SpecError, match="folds=1: must be a whole number from 2 to 100"):
        lab.find_label_errors(SPEC, 1)
    with pytest.raises(lab.SpecError, match="must be all folds of one data set"):
        lab.LabelErrors([])
    with pytest.raises(lab.SpecError, match="deals the folds itself; leave it out"):
        lab.find_label_errors(SPEC.replace(transforms=["fold"]))
    with pytest.raises(lab.SpecError, match="find_label_errors takes a Spec"):
        lab.find_label_errors("digits")
    with pytest.raises(lab.SpecError, match="dataset='diabetes': its samples have no labels"):
        lab.find_label_errors(lab.Spec(dataset="diabetes", model="mlp"))


def test_copies_of_a_sample_do_not_tell_its_label_to_another_fold():
    spec = SPEC.replace(transforms=["deduplicate", "standardise", "balance", "flip"])
    names = [next(iter(item)) for item in folded(spec, 0, 3).transforms]
    assert names == ["deduplicate", "fold", "standardise", "balance", "flip"]
    assert whole(folded(spec, 0, 3)).transforms == [{"deduplicate": {}}]


@pytest.mark.slow  # a minute; digits tell the same sooner, with fewer samples
def test_what_was_planted_on_mnist_is_found(data_root):
    from benchmarks.labels import once

    precision, recall, estimate = once(0)
    assert precision >= 0.93 and recall >= 0.95 and abs(estimate - 1) < 0.1
