"""The detector and what it is made of: boxes, cells, losses; ResNet beside the plain net of its depth."""

import numpy as np
import pytest
import torch
from lepton_widgets.fitting import Fitting
from torch import nn

import lepton_lab as lab
from lepton_lab.artifacts.inputs import Input, Signature
from lepton_lab.artifacts.outputs import distance
from lepton_lab.artifacts.quantizing import _Reader
from lepton_lab.boxes import closeness, overlap
from lepton_lab.errors import SpecError
from lepton_lab.models import MODELS, detector
from lepton_lab.models.resnet import Block
from lepton_lab.run.own import Own
from lepton_lab.tables import trait

SMALL = {"samples": 60, "width": 4}


def boxes(*corners):
    return torch.tensor(corners).float().reshape(-1, 4)


def scene(*corners, labels=None, size=(48, 64)):
    """A picture, and what is in it."""
    labels = range(1, 1 + len(corners)) if labels is None else labels
    return torch.rand(1, *size), {"boxes": boxes(*corners), "labels": torch.tensor([*labels]).long()}


def test_what_boxes_share_and_how_close_they_are():
    one, others = boxes([0, 0, 4, 4]), boxes([0, 0, 4, 4], [2, 0, 6, 4], [4, 4, 8, 8], [5, 5, 5, 5])
    assert overlap(one, others).tolist() == pytest.approx([1, 8 / 24, 0, 0])
    assert closeness(one, others).tolist() == pytest.approx([1, 8 / 24, -0.5, 16 / 25 - 1])
    assert overlap(others[:, None], others[None]).shape == (4, 4) and overlap(others[3], others[3]) == 0


def test_a_cell_stands_for_the_smallest_box_that_it_is_well_inside_of():
    centres = detector._centres(torch.zeros(1, 1, 32, 40))
    assert centres.tolist()[:2] == [[4, 4], [12, 4]] and centres[-1].tolist() == [36, 28]
    right = torch.stack([boxes([0, 0, 40, 32], [9, 9, 15, 15]), boxes([0, 0, 0, 0], [0, 0, 0, 0])])
    there = torch.tensor([[True, True], [False, False]])
    number, some = detector._assigned(centres, right, there)
    grid = number.where(some, -1)[0].view(4, 5)
    assert grid.tolist() == [[-1] * 5, [-1, 1, 0, 0, -1], [-1, 0, 0, 0, -1], [-1] * 5] and not some[1].any()


def test_pictures_of_unequal_size_and_without_objects_have_losses():
    model = MODELS["detector"]((1, 48, 64), 4, width=4)
    batch = [scene([4, 4, 30, 30]), scene(size=(33, 20)), scene([1, 1, 9, 9], [20, 2, 50, 40])]
    pictures, targets = zip(*batch, strict=True)
    losses = model(pictures, targets)
    assert {*losses} == {"score", "box"}
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    told = model.eval()(pictures, targets)
    assert {*told} == {"score", "box", "detections"} and len(told["detections"]) == 3
    for (picture, _), found in zip(batch, model(pictures), strict=True):
        assert len(found["boxes"]) == len(found["labels"]) == len(found["scores"])
        high, wide = picture.shape[1:]
        assert (found["boxes"] >= 0).all() and (found["boxes"] <= torch.tensor([wide, high, wide, high])).all()
    with pytest.raises(SpecError, match=r"a box has the label 4, but the data's `classes` are 4 names.*at most 3"):
        model.train()(*zip(scene([1, 1, 9, 9], labels=[4]), strict=True))


def test_each_loss_is_a_mean_over_pictures():
    model = MODELS["detector"]((1, 48, 64), 4, width=4)
    for module in model.modules():
        module.training = not isinstance(module, nn.BatchNorm2d)
    pictures, targets = zip(scene([4, 4, 30, 30]), scene([1, 1, 9, 9], [20, 2, 50, 40]), strict=True)
    with torch.no_grad():
        whole, parts = model(pictures, targets), [model([x], [y]) for x, y in zip(pictures, targets, strict=True)]
    for name, loss in whole.items():
        assert float(loss) == pytest.approx(sum(float(part[name]) for part in parts) / 2, rel=1e-5)


def test_of_boxes_of_a_class_that_overlap_the_surest_is_left():
    chances = torch.tensor([[[0.9, 0.0], [0.8, 0.0], [0.0, 0.7], [0.6, 0.0], [0.01, 0.0]]])
    where = boxes([0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 10], [20, 20, 30, 30], [50, 0, 60, 10])[None]
    (found,) = detector._found(chances, where, [(40, 60)])
    assert found["labels"].tolist() == [0, 1, 0] and found["scores"].tolist() == pytest.approx([0.9, 0.7, 0.6])
    assert found["boxes"][2].tolist() == [20, 20, 30, 30]


def test_a_detector_trains_by_name():
    spec = lab.Spec(dataset="scenes", task="detection", model="detector", options=SMALL, epochs=1, batch_size=16)
    run = lab.launch(lab.Spec.load(spec.to_yaml()))
    assert run.wait(60) == "done", run.failure
    told = run.rows("eval")[-1]
    assert told["split"] == "test" and told["map50"] >= 0
    assert {row["name"] for row in run.logged("number")} == {"loss_score", "loss_box"}
    assert run.facts["task"] == "detection" and run.model()([torch.rand(1, 40, 50)])[0]["boxes"].shape[1] == 4


def test_the_form_offers_the_detector_where_there_are_boxes():
    fitting = Fitting({}, Own(), None)
    assert "detector" not in fitting.models("auto", "scenes") and "cnn" in fitting.models("auto", "scenes")
    assert fitting.models("auto", "digits")["detector"] == "task classification" and "detection" not in fitting.tasks()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"dataset": "digits"}, "is for task='detection', and task='classification' needs others; take model='mlp'"),
        ({"dataset": "scenes", "model": "resnet"}, "task='detection' needs others; take model='detector'"),
        ({"dataset": "scenes", "strategy": "pipeline", "world": 2}, "model='detector' is none; take strategy='ddp'"),
    ],
)
def test_what_a_detector_can_t_do_is_said(fields, said):
    with pytest.raises(SpecError) as error:
        lab.launch(lab.Spec(**{"model": "detector", **fields}))
    assert said in str(error.value) and "\n" not in str(error.value)


class Nameless:
    """Samples with boxes, whose classes have no names."""

    def __len__(self):
        return 40

    def __getitem__(self, place):
        return scene([4, 4, 20 + place, 30])


def test_own_scenes_are_trained_on_where_their_classes_have_names():
    spec = lab.Spec(task="detection", model="detector", options={"width": 4}, epochs=1, batch_size=16)
    with pytest.raises(SpecError, match=r"names of their classes \(`classes` of the Dataset\).*, with 0 classes"):
        lab.launch(spec, data=Nameless())
    Named = type("Named", (Nameless,), {"classes": ["background", "thing"]})
    run = lab.launch(spec, data=Named())
    assert run.wait(60) == "done", run.failure


def test_int8_sees_one_picture_at_a_time_and_may_find_fewer_objects():
    signature = Signature((Input("pictures", (1, 8, 8), "float32"),), "list")
    reader = _Reader(np.zeros((2, 1, 8, 8), "float32"), signature)
    assert [reader.get_next()["pictures"].shape for _ in range(2)] == [(1, 1, 8, 8)] * 2 and not reader.get_next()
    found, right = ({"boxes": np.full((rows, 4), value, "float32")} for rows, value in ((3, 1), (5, 3)))
    assert distance([found], [right]) == distance([right], [found]) == 2


@pytest.mark.slow
def test_a_detector_finds_digits():
    """Of 9,600 scenes seen; 0.946 was reached, with one seed."""
    spec = lab.Spec(dataset="scenes", model="detector", options={"samples": 2000}, epochs=6, batch_size=32)
    run = lab.launch(spec.replace(optimizer="adamw", lr=4e-3, schedule="one_cycle", precision="auto"))
    assert run.wait(280) == "done", run.failure
    assert run.summary()["test_map50"] >= 0.88


@pytest.mark.slow
def test_a_detector_is_a_file_that_finds_the_same(tmp_path):
    run = lab.launch(lab.Spec(dataset="scenes", model="detector", options=SMALL, epochs=1, batch_size=16))
    assert run.wait(60) == "done", run.failure
    lab.export(run, tmp_path / "detector.lepton", runtime="onnxruntime")
    pictures = torch.rand(3, 1, 96, 96)
    found = lab.load(tmp_path / "detector.lepton")(pictures)
    for ours, theirs in zip(found, run.model()([*pictures]), strict=True):
        assert all(torch.allclose(ours[name].float(), theirs[name].float(), atol=1e-3) for name in theirs)


@pytest.mark.parametrize("depth", [1, 4, 9])
def test_a_plain_net_lacks_the_shortcuts_and_nothing_else(depth):
    residual, plain = (MODELS["resnet"]((1, 8, 8), 10, depth=depth, residual=way) for way in (True, False))
    kernels = [m for m in plain.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(kernels) == 2 * depth + 2 and sum(isinstance(m, Block) for m in plain.modules()) == depth
    assert {*plain.state_dict()} == {name for name in residual.state_dict() if "shortcut" not in name}


@pytest.mark.parametrize("pool", ["mean", "largest"])
def test_the_last_layer_is_given_the_mean_or_the_largest_value_of_each_channel(pool):
    model = MODELS["resnet"]((1, 8, 8), 10, pool=pool).eval()
    maps = model.blocks(model.stem(x := torch.randn(3, 1, 8, 8)))
    told = maps.mean((2, 3)) if pool == "mean" else maps.amax((2, 3))
    assert torch.allclose(model(x), model.out(told), atol=1e-6)


def test_depth_reaches_back_to_the_first_layer_by_the_shortcuts():
    def reached(way):
        torch.manual_seed(0)
        model = MODELS["resnet"]((1, 8, 8), 10, depth=24, residual=way).eval()
        nn.functional.cross_entropy(model(torch.randn(32, 1, 8, 8)), torch.arange(32) % 10).backward()
        return float(model.stem.conv.weight.grad.norm())

    assert reached(True) > 20 * reached(False)


def test_larger_pictures_are_seen_two_by_two_pixels():
    assert MODELS["resnet"]((3, 32, 32), 10).stem.conv.in_channels == 12
    assert MODELS["resnet"]((1, 8, 8), 10).stem.conv.in_channels == 1
    assert MODELS["resnet"]((2, 33, 32), 10)(torch.zeros(2, 2, 33, 32)).shape == (2, 10)
    assert trait("model", "detector", "tasks") == ("detection",)
