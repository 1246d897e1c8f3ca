"""Augmentation of pictures: the same for any cut of the work, nothing at strength 0, pixels in their range."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_lab import SpecError
from lepton_lab.links import LISTS, canonical, links
from lepton_lab.losses import IGNORED
from lepton_lab.tables import keywords
from lepton_lab.transforms import TRANSFORMS, Draws
from lepton_lab.transforms.draws import GOLDEN, _mixed
from lepton_lab.transforms.mixing import _weights
from lepton_lab.transforms.moving import matrix, turned, warped
from lepton_lab.transforms.policy import OPERATIONS, _equalized, _moved, _valued

CLASSES = 5
AUGMENTING = {name: member for name, member in TRANSFORMS.items() if member.augments and "pictures" in member.kinds}
PICTURES = {name: member for name, member in AUGMENTING.items() if not member.refuse((3, 8, 10), CLASSES, 0)}
ALONE = [name for name, member in PICTURES.items() if not member.mixes]
MIXING = [name for name, member in PICTURES.items() if member.mixes]
NOTHING = {
    "flip": {"probability": 0},
    "crop": {"padding": 0},
    "rotate": {"degrees": 0},
    "scale": {"amount": 0},
    "translate": {"fraction": 0},
    "colour": {"brightness": 0, "contrast": 0, "saturation": 0},
    "noise": {"deviation": 0},
    "cutout": {"size": 0},
    "mixup": {"alpha": 0},
    "cutmix": {"alpha": 0},
    "rand_augment": {"operations": 0},
}
"""Options with which a member does nothing."""


def pictures(count=6, channels=3, high=8, wide=10):
    """Random pictures (B, C, H, W) and labels."""
    generator = torch.Generator().manual_seed(count)
    return torch.rand(count, channels, high, wide, generator=generator), torch.arange(count) % CLASSES


def changed(name, x, y, places=None, epoch=0, seed=0, **options):
    """What a member makes of a batch whose samples have some places in the training set."""
    places = torch.arange(len(x)) if places is None else places
    return TRANSFORMS[name](x, y, Draws(seed, epoch, places, 0, CLASSES), **options)


@pytest.mark.parametrize("name", ALONE)
@settings(deadline=None, max_examples=8)
@given(cuts=st.lists(st.integers(1, 11), max_size=3), epoch=st.integers(0, 5), seed=st.integers(0, 2**31 - 1))
def test_a_sample_becomes_the_same_in_any_batch(name, cuts, epoch, seed):
    x, y = pictures(12)
    whole = changed(name, x, y, epoch=epoch, seed=seed)[0]
    order = torch.randperm(12, generator=torch.Generator().manual_seed(seed))
    parts = torch.tensor_split(order, sorted(cuts))
    for part in (part for part in parts if len(part)):
        torch.testing.assert_close(changed(name, x[part], y[part], part, epoch, seed)[0], whole[part])


@pytest.mark.parametrize("name", PICTURES)
def test_seed_and_epoch_change_what_is_drawn_and_nothing_else_does(name):
    x, y = pictures(16)
    first, again = changed(name, x, y)[0], changed(name, x, y)[0]
    assert torch.equal(first, again) and not torch.equal(first, x)
    assert not torch.equal(first, changed(name, x, y, epoch=1)[0])
    assert not torch.equal(first, changed(name, x, y, seed=1)[0])


@pytest.mark.parametrize("name", PICTURES)
def test_at_strength_0_nothing_changes(name):
    x, y = pictures()
    after, targets = changed(name, x, y, **NOTHING[name])
    assert torch.equal(after, x) and torch.equal(targets, y)


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pixels_stay_in_their_range_and_shape_at_every_strength(name, channels):
    most = {}
    for option, rule in keywords(TRANSFORMS[name]).items():
        highest = [part.le for part in rule.metadata if hasattr(part, "le")]
        most |= {option: highest[0]} if highest and option != "padding" else {}
    x, y = pictures(8, channels)
    x[0], x[1] = 0, 1  # black and white
    for options in ({}, most):
        after = changed(name, x, y, **options)[0]
        assert after.shape == x.shape and after.dtype == x.dtype and after.isfinite().all()
        assert after.min() >= 0 and after.max() <= 1 + 1e-6


def test_a_flip_undoes_itself_and_alternates_between_epochs():
    x, y = pictures(32)
    for options in ({"probability": 1}, {"probability": 1, "axis": "vertical"}, {}):
        once = changed("flip", x, y, **options)[0]
        assert torch.equal(changed("flip", once, y, **options)[0], x)
    epochs = [changed("flip", x, y, epoch=epoch, alternate=True)[0] for epoch in range(3)]
    assert torch.equal(epochs[0], epochs[2]) and torch.equal(epochs[1], epochs[0].flip(-1))
    assert 4 < sum(torch.equal(a, b) for a, b in zip(epochs[0], x, strict=True)) < 28


def test_a_crop_is_a_shift_by_whole_pixels_and_every_shift_is_drawn():
    x, y = pictures(400, 1, 6, 6)
    padded = torch.nn.functional.pad(x, (1,) * 4)
    mirrored = torch.nn.functional.pad(x, (1,) * 4, "reflect")
    for fill, wide in (("zero", padded), ("reflect", mirrored)):
        after = changed("crop", x, y, padding=1, fill=fill)[0]
        shifts = Counter()
        for i in range(len(x)):
            found = [
                (r, c) for r in range(3) for c in range(3) if torch.equal(after[i], wide[i, :, r : r + 6, c : c + 6])
            ]
            assert len(found) == 1
            shifts[found[0]] += 1
        assert len(shifts) == 9 and min(shifts.values()) > 20  # 44 each


def test_a_turn_by_a_right_angle_is_that_of_a_matrix():
    x, y = pictures(3, 2, 8, 8)
    angle = x.new_full((3,), math.pi / 2)
    torch.testing.assert_close(warped(x, y, turned(angle, x))[0], x.rot90(1, (2, 3)), atol=1e-5, rtol=0)


def test_a_shift_by_a_pixel_and_a_scale_move_what_they_say():
    x, y = pictures(2, 1, 4, 4)
    shifted = warped(x, y, matrix(x, right=2 / 4))[0]
    torch.testing.assert_close(shifted[..., :-1], x[..., 1:], atol=1e-5, rtol=0)
    assert shifted[..., -1].abs().max() < 1e-5
    smaller = changed("scale", torch.ones(200, 1, 8, 8), y.new_zeros(200), amount=0.5)[0].mean((1, 2, 3))
    assert smaller.min() < 0.4 and smaller.max() > 0.99  # a quarter of the area, and all of it


@pytest.mark.parametrize("name", ["flip", "crop", "rotate", "scale", "translate"])
def test_labels_of_pixels_move_with_them_and_what_comes_in_is_left_out_of_the_loss(name):
    x = torch.zeros(20, 1, 9, 9)
    x[:, :, 2:5, 3:7] = 1
    y = x[:, 0].long() + 1  # 1 and 2
    after, labels = changed(name, x, y)
    assert labels.dtype == torch.int64 and labels.shape == y.shape
    assert set(labels.unique().tolist()) <= {IGNORED, 1, 2}
    assert ((after[:, 0] > 0.75) <= (labels == 2)).all() and ((labels == 2).float() - after[:, 0]).abs().mean() < 0.06


def test_colour_has_the_mean_and_the_strength_that_it_says():
    x = torch.full((4000, 3, 2, 2), 0.4)
    factors = changed("colour", x, torch.zeros(4000), brightness=0.5, contrast=0, saturation=0)[0][:, 0, 0, 0] / 0.4
    assert factors.min() > 0.5 and factors.max() < 1.5 and abs(factors.mean() - 1) < 0.02
    grey = x.clone()
    assert torch.allclose(changed("colour", grey, torch.zeros(4000), brightness=0, contrast=1, saturation=1)[0], grey)


def test_noise_is_normal_and_a_cutout_blots_a_square():
    x = torch.full((500, 1, 10, 10), 0.5)
    spread = changed("noise", x, torch.zeros(500), deviation=0.1)[0] - x
    assert abs(spread.mean()) < 0.003 and abs(spread.std() - 0.1) < 0.003
    assert abs((spread.abs() < 0.1).float().mean() - 0.683) < 0.01  # within one deviation
    board = torch.zeros(500, 1, 10, 10)
    board[..., 0, 0] = 1
    square = (changed("cutout", board, torch.zeros(500), size=4)[0] == 0.01).sum((1, 2, 3))
    assert square.max() == 16 and square.min() >= 4 and 9 < square.float().mean() < 14


@pytest.mark.parametrize("name", MIXING)
def test_mixed_labels_are_chances_of_which_the_sample_s_own_is_the_largest(name):
    x, y = pictures(64)
    after, chances = changed(name, x, y, alpha=1)
    assert chances.shape == (64, CLASSES)
    torch.testing.assert_close(chances.sum(1), torch.ones(64))
    own = chances[torch.arange(64), y]
    assert own.min() >= 0.5 - 1e-6 and own.max() > 0.9 and own.min() < 0.7
    again = changed(name, after, chances, alpha=1)[1]  # of what was mixed before
    torch.testing.assert_close(again.sum(1), torch.ones(64))


def test_mixup_weighs_pixels_as_labels_and_by_the_beta_distribution():
    x = torch.eye(CLASSES)[torch.arange(1000) % CLASSES][:, None, None, :]  # a sample's pixels are its label
    after, chances = changed("mixup", x, torch.arange(1000) % CLASSES, alpha=0.4)
    torch.testing.assert_close(after[:, 0, 0], chances)
    weights = _weights(Draws(0, 0, torch.arange(20000)), 0.4)
    beta = torch.distributions.Beta(torch.tensor(0.4), torch.tensor(0.4))
    other = torch.maximum(samples := beta.sample((20000,)), 1 - samples)
    assert abs(weights.mean() - other.mean()) < 0.01 and abs(weights.std() - other.std()) < 0.01


def test_equalize_is_pillow_s():
    from PIL import Image, ImageOps

    x = torch.randint(256, (6, 3, 24, 20), dtype=torch.uint8)
    x[1], x[2, 0], x[3, :, :20], x[4] = x[1] // 8 + 90, 7, 200, x[4] % 2 * 255
    after = (_equalized(x / 255) * 255).round().byte()
    for before, got in zip(x, after, strict=True):
        expected = ImageOps.equalize(Image.fromarray(before.permute(1, 2, 0).numpy()))
        assert got.permute(1, 2, 0).tolist() == np.asarray(expected).tolist()


def test_each_operation_of_rand_augment_is_drawn_and_leaves_those_alone_that_did_not_draw_it():
    x, y = pictures(len(OPERATIONS), high=24, wide=24)  # so many pixels that levels can be made even
    which, strength = torch.arange(len(OPERATIONS)), torch.full((len(OPERATIONS),), 0.6)
    after = _valued(_moved(x, y, which, strength)[0], which, strength)
    same = [name for i, name in enumerate(OPERATIONS) if torch.equal(after[i], x[i])]
    assert same == ["identity"]


def test_draws_are_those_of_splitmix64_and_even():
    state, mask = 12345, 2**64 - 1

    def following():
        nonlocal state
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return z ^ (z >> 31)

    numbers = _mixed(torch.tensor([12345]) + torch.arange(1, 5) * GOLDEN)
    assert [n & mask for n in numbers.tolist()] == [following() for _ in range(4)]
    draws = Draws(3, 1, torch.arange(4000))
    first, second = draws.uniform(5), draws.uniform(5)
    for values in (first, second):
        assert abs(values.mean() - 0.5) < 0.01 and abs(values.var() - 1 / 12) < 0.002
    table = torch.corrcoef(torch.cat([first, second], 1).T)
    assert (table - torch.eye(10)).abs().max() < 0.06  # neither calls nor numbers of one follow each other
    assert Counter(draws.integers(2, 5).tolist()).keys() == {2, 3, 4}
    assert torch.equal(draws.lasting().uniform(), Draws(3, 7, torch.arange(4000)).lasting().uniform())
    partners = draws.partners()
    assert partners.sort().values.tolist() == list(range(4000)) and (partners != torch.arange(4000)).all()


@pytest.mark.parametrize(
    ("given", "becomes"),
    [
        ("flip", [("flip", {})]),
        (["flip", ("crop", 2)], [("flip", {}), ("crop", {"padding": 2})]),
        ('[{"rotate": {"degrees": 5}}]', [("rotate", {"degrees": 5.0})]),
    ],
)
def test_a_list_is_taken_in_each_form(given, becomes):
    assert links(canonical(given, LISTS["transforms"])) == becomes


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["flop"], "did you mean 'flip'?"),
        ([("crop", -1)], "must be at least 0 and at most 64"),
        ([{"flip": {"chance": 1}}], "of flip"),
        ([3], "3 is no transform; a transform is"),
        ([("standardise", 2)], "standardise has no options; leave the value out"),
    ],
)
def test_what_is_no_transform_is_refused_in_a_sentence(given, why):
    with pytest.raises(SpecError, match="^transforms") as refusal:
        canonical(given, LISTS["transforms"])
    assert why in str(refusal.value)
