import numpy as np
import pytest
import torch

from lepton_lab.answers import class_axis, right_answers


@pytest.mark.parametrize(
    ("scores", "target", "expected"),
    [
        ((5, 3), (5,), 1),
        ((5, 3, 12, 10), (5, 12, 10), 1),  # torch's form of dense predictions
        ((5, 8, 8, 8), (5, 8, 8), 1),
        ((5, 20, 3), (5, 20), 2),  # a class for each token
        ((5, 3, 20), (5, 20), 1),
        ((5, 4), (5, 4), None),  # several whole numbers, or answers of yes and no
        ((5, 1), (5,), None),
        ((5, 1, 12, 10), (5, 12, 10), None),
        ((5,), (5,), None),
    ],
)
def test_targets_tell_where_the_classes_are(scores, target, expected):
    assert class_axis(scores, target) == expected


def test_where_both_axes_suit_texts_have_the_classes_last():
    assert class_axis((5, 8, 8), (5, 8)) == 1
    assert class_axis((5, 8, 8), (5, 8), tokens=True) == 2


def test_without_targets_the_number_of_classes_tells():
    assert class_axis((2, 3), classes=3) == 1
    assert class_axis((2, 5), classes=3) == 1  # a model may tell more apart
    assert class_axis((2, 3, 12, 12), classes=3) == 1
    assert class_axis((2, 12, 3), classes=3) == 2
    assert class_axis((2, 3, 3), classes=3, tokens=True) == 2
    assert class_axis((2, 4)) is None  # a regression of four numbers
    assert class_axis((2, 1), classes=2) is None


def test_right_answers_of_pictures_are_fractions_of_their_pixels():
    scores = torch.randn(5, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    target = scores.argmax(1)
    target[0] = (target[0] + 1) % 8
    target[1, :4] = (target[1, :4] + 1) % 8
    expected = sum(np.mean(scores.argmax(1)[i].numpy() == target[i].numpy()) for i in range(5))
    assert right_answers(scores, target) == expected == 3.5
