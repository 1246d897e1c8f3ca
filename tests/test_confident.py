"""Confident learning held to the paper's definition, to counts by hand, and to errors that were planted."""

import numpy as np
import pytest
from helpers import Late
from hypothesis import given
from hypothesis import strategies as st

from lepton_lab import confident

cleanlab_count, cleanlab_filter = Late("cleanlab.count"), Late("cleanlab.filter")


def planted(n=3000, kinds=5, fraction=0.05, seed=0):
    """Given labels, their truth, and probabilities of a model that is right in nine cases of ten."""
    draw = np.random.default_rng(seed)
    truth = draw.integers(0, kinds, n)
    wrong = draw.random(n) < fraction
    labels = np.where(wrong, (truth + draw.integers(1, kinds, n)) % kinds, truth)
    scores = draw.normal(size=(n, kinds)) + 4 * np.eye(kinds)[truth]
    return labels, wrong, np.exp(scores) / np.exp(scores).sum(1, keepdims=True)


def test_the_joint_counts_as_the_paper_does():
    labels = np.array([0, 0, 0, 1, 1, 1])
    chances = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.4, 0.6], [0.3, 0.7]])
    assert np.allclose(confident.thresholds(labels, chances), [0.6, 0.7])
    # Of those labelled 0 two are surely 0 and one surely 1; of those labelled 1 two are surely 1, and one is neither.
    assert np.allclose(confident.joint(labels, chances), [[2, 1], [0, 3]])
    assert confident.suspects(labels, chances).tolist() == [2]


def test_planted_errors_are_found_and_their_number_estimated():
    labels, wrong, chances = planted()
    found = confident.suspects(labels, chances)
    hits = wrong[found].sum()
    assert hits / len(found) > 0.85 and hits / wrong.sum() > 0.85
    joint = confident.joint(labels, chances)
    assert abs((joint.sum() - np.trace(joint)) / wrong.sum() - 1) < 0.15
    own = chances[np.arange(len(labels)), labels]
    assert (np.diff(own[found]) >= 0).all() and (chances[found].argmax(1) != labels[found]).all()


@pytest.mark.parametrize("seed", range(3))
def test_the_estimate_is_that_of_cleanlab(seed):
    labels, _, chances = planted(seed=seed)
    theirs = cleanlab_count.compute_confident_joint(labels, chances, calibrate=True)
    assert np.abs(confident.joint(labels, chances) - theirs).max() < 1, "theirs are whole numbers"
    surest = cleanlab_filter.find_label_issues(
        labels, chances, return_indices_ranked_by="self_confidence", filter_by="confident_learning", n_jobs=1
    )
    assert np.isin(surest, confident.suspects(labels, chances)).mean() > 0.95


def test_labels_that_are_right_are_not_suspicious():
    labels = np.arange(30) % 3
    assert len(confident.suspects(labels, np.eye(3)[labels])) == 0


@given(st.integers(2, 5), st.integers(1, 40), st.integers(0, 2**16))
def test_every_label_counts_once_whatever_classes_are_there(kinds, n, seed):
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, kinds, n)
    chances = draw.dirichlet(np.ones(kinds), n)
    joint = confident.joint(labels, chances)
    assert np.allclose(joint.sum(1), np.bincount(labels, minlength=kinds))
    found = confident.suspects(labels, chances)
    assert len({*found.tolist()}) == len(found) <= n
