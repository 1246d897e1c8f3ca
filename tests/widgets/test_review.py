"""The gallery of suspicious labels without a browser: what its buttons decide, and the file that it saves."""

import json

import numpy as np
import pytest
import torch
from lepton_widgets import Review
from lepton_widgets.review import PAGE

import lepton_lab as lab
from lepton_lab.transforms.decisions import Decisions


@pytest.fixture
def errors(tmp_path):
    """Twenty wrong labels of 300 pictures, by two runs of a second."""
    draw = np.random.default_rng(0)
    y = np.arange(300) % 3
    x = draw.random((300, 1, 8, 8), np.float32) / 4
    x[np.arange(300), 0, 2 * y, 2 * y] = 1
    wrong = draw.choice(300, 20, replace=False)
    y[wrong] = (y[wrong] + 1) % 3
    data = (torch.from_numpy(x), torch.from_numpy(y))
    spec = lab.Spec(model="mlp", epochs=20, lr=0.01, eval_every=0)
    errors = lab.find_label_errors(spec, 2, data=(data, data, data))
    assert errors.wait(60) == ["done", "done"]
    assert {*errors.samples} <= {*wrong} and len(errors.samples) > PAGE
    return errors


def test_each_sample_is_kept_relabelled_or_dropped_and_the_file_tells(errors, tmp_path):
    file = tmp_path / "decisions.json"
    review = Review(errors, file)
    first, second, third, *others = review._cards.children
    count = len(errors.samples)
    assert len(others) == PAGE - 3 and review._where.value == f"1 to {PAGE} of {count}"
    suggested = errors.frame()["suggested"].tolist()
    first.action.value = "relabel"
    second.action.value = "drop"
    assert second.label.disabled and not first.label.disabled
    third.label.value = next(name for name in "012" if name != suggested[2])  # another label than is suggested
    assert third.action.value == "relabel"
    review._turn(PAGE)
    assert len(review._cards.children) == count - PAGE and review._next.disabled and not review._back.disabled
    review._page("drop")
    assert review.decisions.counts == {"keep": PAGE - 3, "relabel": 2, "drop": 1 + count - PAGE}
    assert review.save() == file and "mend" in review._use.value
    kept = Decisions.read(file)
    assert [one.action for one in kept.each[:3]] == ["relabel", "drop", "relabel"]
    assert kept.each[0].label == suggested[0] and kept.each[2].label == third.label.value
    assert json.loads(file.read_text())["made"]["runs"] == [run.id for run in errors.runs]

    again = Review(errors, file)  # on another day
    assert again.decisions == review.decisions and again._cards.children[1].action.value == "drop"
    still = again.still()
    assert "2 relabel" in still["text/html"] and "<img" in still["text/html"] and "suggested" in still["text/plain"]
    elsewhere = Review(errors, tmp_path / "nowhere" / "decisions.json")
    assert elsewhere.save() is None and "there is no folder" in elsewhere._error.value
