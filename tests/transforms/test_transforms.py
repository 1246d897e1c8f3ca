"""Transforms of a run: refused before the start, the same for any cut of the work, and none outside of training."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import call
from torch.nn.functional import cross_entropy, one_hot
from torch.utils.data import Dataset

import lepton_lab as lab
from lepton_lab import SpecError, datasets, tasks
from lepton_lab.cli.options import items
from lepton_lab.datasets import from_user
from lepton_lab.engine.feed import Feed, by_itself
from lepton_lab.files import write_json
from lepton_lab.losses import IGNORED
from lepton_lab.measures.candidates import run_data
from lepton_lab.run.checks import checks, glance
from lepton_lab.run.own import Own
from lepton_lab.spec import Spec
from lepton_lab.store import trained
from lepton_lab.strategies.base import Single
from lepton_lab.strategies.group import Group
from lepton_lab.tables import keywords
from lepton_lab.transforms import TRANSFORMS

CHAIN = ["flip", ("crop", 1), "colour", "rand_augment"]
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randint(0, 256, (24, 3, 8, 8), generator=GENERATOR, dtype=torch.uint8)


class Read(Dataset):
    """Pictures that are read one by one, and their numbers."""

    def __len__(self):
        return len(X)

    def __getitem__(self, index):
        return X[index], torch.tensor([float(index)])


class Stereo(Dataset):
    """Sounds of two channels."""

    sample_rate = 8000

    def __len__(self):
        return 20

    def __getitem__(self, index):
        return torch.rand(2, 100), index % 2


class Part(Single):
    """A rank of several, whose batches are cut as those of any group are."""

    shard = Group.shard


def fed(spec, data, part=0, parts=1):
    """What one of several ranks is fed with."""
    strategy = Part(spec)
    strategy.start(0, 1, Path(), torch.device("cpu"))
    strategy.part, strategy.parts = part, parts
    return Feed(data.train, data, spec, strategy)


def pictures_by_number(spec, data, epoch, parts=1, skip=0):
    """Each sample of an epoch as a model gets it, by its number."""
    seen = {}
    for part in range(parts):
        for batches, _ in fed(spec, data, part, parts).epoch(epoch, skip):
            for batch in batches:
                seen |= {int(y): x for x, y in zip(batch.x, batch.y, strict=True)} if batch.share else {}
    return seen


@pytest.fixture(scope="module", params=["tensors", "dataset"])
def numbered(request):
    """Pictures whose targets are their numbers, in memory and as a Dataset."""
    train = (X, torch.arange(24.0)[:, None]) if request.param == "tensors" else Read()
    return from_user((train, train, train), 0)


@pytest.mark.parametrize(("parts", "accumulate"), [(2, 1), (3, 1), (1, 2), (2, 3)])
def test_any_world_and_any_cut_of_a_batch_sees_the_same_pictures(numbered, parts, accumulate):
    spec = Spec(batch_size=7, transforms=CHAIN, seed=3, workers=0)
    whole = pictures_by_number(spec, numbered, 1)
    cut = pictures_by_number(spec.replace(accumulate=accumulate), numbered, 1, parts)
    assert [*range(24)] == sorted(whole) == sorted(cut)
    for number, picture in whole.items():
        torch.testing.assert_close(cut[number], picture)


def test_epochs_differ_and_one_that_goes_on_does_not(numbered):
    spec = Spec(batch_size=7, transforms=CHAIN, workers=0)
    first, second = (pictures_by_number(spec, numbered, epoch) for epoch in (0, 1))
    assert sum(torch.equal(first[n], second[n]) for n in first) < 4
    resumed = pictures_by_number(spec, numbered, 0, skip=2)
    assert len(resumed) == 24 - 2 * 7 and all(torch.equal(picture, first[n]) for n, picture in resumed.items())


def test_an_evaluation_sees_pictures_as_they_are_scaled_as_in_training(numbered):
    spec = Spec(batch_size=7, transforms=["standardise", ("flip", 0)], workers=0)
    data = datasets.load(spec, numbered)
    for batch in by_itself(data.train, data, spec).whole():
        torch.testing.assert_close(batch.x, pictures_in_order(spec, data)[batch.y[:, 0].long()])
    seen = pictures_in_order(spec, data)
    assert seen.mean((0, 2, 3)).abs().max() < 1e-5 and (seen.std((0, 2, 3)) - 1).abs().max() < 1e-3


def pictures_in_order(spec, data):
    seen = pictures_by_number(spec, data, 0)
    return torch.stack([seen[number] for number in range(24)])


def test_a_transform_draws_alike_whatever_stands_beside_it_in_memory_or_read(numbered):
    spec = Spec(batch_size=24, transforms=["flip"], workers=0)
    plain = from_user((X, torch.arange(24.0)[:, None]), 0)
    plain.train = (X, torch.arange(24.0)[:, None])
    assert torch.equal(pictures_in_order(spec, numbered), pictures_in_order(spec, plain))


@pytest.mark.parametrize("floats", [True, False])
def test_standardise_brings_columns_to_mean_0_and_variance_1_and_keeps_what_never_changes(floats):
    table = torch.randn(200, 3, generator=GENERATOR) * torch.tensor([1.0, 50.0, 0.0]) + torch.tensor([0.0, 7.0, 2.0])
    data = from_user((table if floats else table.double().numpy(), torch.arange(200) % 2), 0)
    made = TRANSFORMS["standardise"](data, 0)
    x = made.train[0].double()
    assert made.unit == 1 and made.mean == pytest.approx(x.mean(0).tolist(), rel=1e-5, abs=1e-6)
    assert made.std == pytest.approx([*x.std(0, unbiased=False).tolist()[:2], 1.0], rel=1e-5)
    (batch, *_) = by_itself(made.train, made, Spec()).whole()
    assert batch.x.mean(0).abs().max() < 1e-5 and (batch.x[:, :2].std(0) - 1).abs().max() < 0.01
    assert torch.equal(data.train[0], made.train[0])


WRONG = [
    ({"dataset": "blobs", "model": "mlp", "transforms": ["flip"]}, "is for pictures, and dataset='blobs' has rows of"),
    ({"dataset": "pydocs", "model": "gpt", "transforms": ["standardise"]}, "has tokens; leave it out"),
    ({"transforms": [{"crop": {"padding": 8, "fill": "reflect"}}]}, "needs a padding below the 8 pixels"),
]


@pytest.mark.parametrize(("fields", "why"), WRONG)
def test_what_does_not_fit_the_data_is_refused_before_the_start_and_by_the_form(fields, why):
    for check in (checks, glance, datasets.load):
        with pytest.raises(SpecError, match="^transforms=") as refusal:
            check(Spec(**fields))
        assert why in str(refusal.value)


def test_what_does_not_fit_a_user_s_own_data_is_refused_before_the_start():
    numbers = (torch.randn(20, 4), torch.randn(20))
    own = Own(data=(torch.rand(20, 1, 8, 8), torch.randn(20)))
    for fields, mine, why in (
        ({"transforms": ["flip"]}, Own(data=numbers), "is for pictures"),
        ({"transforms": ["mixup"]}, own, "mixes labels of classes"),
        ({"transforms": ["standardise"]}, Own(data=(torch.randint(0, 9, (20, 5)), torch.arange(20) % 2)), "tokens"),
        ({"transforms": ["flip"]}, Own(data=[{"x": torch.rand(3)}] * 20), "samples with names"),
        ({"transforms": ["white_noise"]}, Own(data=Stereo()), "takes sounds (N, T)"),
        ({"transforms": ["speed"]}, Own(data=Stereo()), "takes sounds (N, T)"),
    ):
        with pytest.raises(SpecError, match="^transforms=") as refusal:
            checks(Spec(model="mlp", **fields), mine)
        assert why in str(refusal.value)


def test_what_mixes_labels_is_refused_where_the_loss_or_the_task_takes_no_chances():
    data = (torch.rand(20, 1, 8, 8), torch.arange(20) % 3)
    places = (torch.rand(20, 1, 8, 8), torch.zeros(20, 8, 8, dtype=torch.long))
    for fields, mine, why in (
        ({}, Own(data=data, loss=torch.nn.MultiMarginLoss()), "of losses torch's cross entropy takes"),
        ({"task": "multilabel"}, Own(), "task='multilabel' has others"),
        ({}, Own(data=places), "these have several"),
        ({}, Own(data=[*zip(*places, strict=True)]), "these have several"),
    ):
        with pytest.raises(SpecError, match="^transforms='mixup'") as refusal:
            checks(Spec(model="mlp", transforms=["mixup"], **fields), mine)
        assert why in str(refusal.value)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_pixels_from_outside_of_a_picture_count_nowhere_however_a_batch_is_cut(accumulate):
    masks = torch.randint(0, 3, (24, 8, 8), generator=torch.Generator().manual_seed(1))
    spec = Spec(task="segmentation", batch_size=24, accumulate=accumulate, transforms=[("rotate", 45)])
    data = datasets.load(spec, from_user(((X, masks),) * 3, 0))
    criterion = tasks.make(spec, data).criterion()
    (batches,) = ([*batches] for batches, _ in fed(spec, data).epoch(0))
    batches = [*criterion.over(batches)]
    x, y = torch.cat([batch.x for batch in batches]), torch.cat([batch.y for batch in batches])
    total = right = 0
    for criterion.batch in batches:
        y_ = criterion.batch.y
        total += criterion(criterion.batch.x, y_) * criterion.batch.share
        right += criterion.right(one_hot(y_.clamp(min=0), 3).movedim(-1, 1), y_)
    assert (y == IGNORED).any() and float(right) == pytest.approx(24)
    torch.testing.assert_close(total, cross_entropy(x, y))


@pytest.mark.parametrize(
    "scale", [{"mean": [0.25], "std": [0.5], "unit": 255}, {"mean": [1.5], "std": [2.0], "unit": 1}]
)
def test_a_child_scales_as_its_parent_did_whatever_its_own_data_say(tmp_path, scale):
    folder = SimpleNamespace(
        spec=Spec(dataset="digits", parent="20261122-000000-0000", compress=["prune"]), path=tmp_path
    )
    trained.parent(tmp_path).parent.mkdir()
    write_json(trained.parent(tmp_path).with_suffix(".json"), scale)
    data = trained.data(folder)
    assert {"mean": [*data.mean], "std": [*data.std], "unit": data.unit} == scale


def test_standardised_numbers_come_in_the_type_of_the_weights():
    made = datasets.load(Spec(transforms=["standardise"]), from_user((torch.rand(20, 3) * 9, torch.arange(20) % 2), 0))
    strategy = Single(Spec())
    strategy.start(0, 1, Path(), torch.device("cpu"))
    strategy.module = torch.nn.Linear(3, 2).bfloat16()
    (batch, *_) = Feed(made.train, made, Spec(), strategy).whole()
    assert batch.x.dtype == torch.bfloat16


def test_data_are_made_before_batches_are_changed():
    with pytest.raises(SpecError, match="'standardise' makes data once, and 'flip' changes them in training: put it"):
        Spec(transforms=["flip", "standardise"])


def test_the_command_line_takes_a_list_in_one_word(home):
    assert items("flip,crop:padding=2,fill=reflect, rotate:5") == [
        "flip",
        ("crop", {"padding": 2, "fill": "reflect"}),
        ("rotate", 5),
    ]
    words = (
        "--model",
        "mlp",
        "--epochs",
        "1",
        "--transforms",
        "standardise,crop:1,cutout:size=2,probability=0.5",
        "--detach",
    )
    run = lab.attach(call("run", *words)[0].strip())
    assert run.spec.transforms == [
        {"standardise": {}},
        {"crop": {"padding": 1}},
        {"cutout": {"size": 2, "probability": 0.5}},
    ]
    assert run.wait() == "done"
    assert "--transforms" in run.command


@pytest.mark.parametrize("name", TRANSFORMS)
def test_each_says_what_it_is_for_and_its_options_have_a_range_and_a_meaning(name):
    member = TRANSFORMS[name]
    assert member.__doc__ and member.__name__ == name
    for option, rule in keywords(member).items():
        assert rule.description, option
        bounded = rule.annotation in (int, float)
        assert (
            not bounded
            or len([part for part in rule.metadata if any(hasattr(part, at) for at in ("ge", "gt", "le", "lt"))]) == 2
        )


def test_a_run_is_the_same_for_two_ranks_and_mixes_what_one_process_mixes(home):
    fields = {"model": "mlp", "epochs": 1, "batch_size": 256, "device": "cpu", "transforms": ["flip", "mixup"]}
    runs = lab.launch([Spec(**fields), Spec(**fields, world=2)])
    assert [run.wait() for run in runs] == ["done", "done"]
    one, two = ({row["split"]: row for row in run.rows("eval")} for run in runs)
    for split, row in one.items():
        assert two[split]["loss"] == pytest.approx(row["loss"], rel=1e-5)
        assert two[split]["accuracy"] == pytest.approx(row["accuracy"])
    assert 0.1 < one["train"]["accuracy"] < 1  # of the label that weighs more


def test_a_file_of_a_model_standardises_by_itself(tmp_path):
    x = torch.randn(60, 4) * 100 + 50
    data = (x, (x[:, 0] > 50).long())
    run = lab.launch(Spec(model="mlp", epochs=2, transforms=["standardise"], device="cpu"), data=data)
    assert run.wait() == "done"
    lab.export(run, tmp_path / "mlp.lepton")
    artifact = lab.load(tmp_path / "mlp.lepton")
    made = datasets.load(run.spec, from_user(data, 0))
    model = run.model()
    with torch.no_grad():
        expected = model((x - torch.tensor(made.mean)) / torch.tensor(made.std))
    torch.testing.assert_close(torch.as_tensor(artifact(x.numpy())), expected, atol=1e-4, rtol=1e-4)
    assert artifact.manifest["preprocessing"]["done"] == "(x - mean) / std"
    child = lab.launch(Spec(parent=run.id, compress=["quantize"], device="cpu"), data=data)  # without its transforms
    assert child.wait() == "done"
    found = run_data(child)
    assert (found.unit, found.mean, found.std) == (1, made.mean, made.std)


def test_a_preview_shows_what_training_sees_and_reads_its_data_once(monkeypatch):
    spec = Spec(transforms=["flip"], seed=4)
    shown = lab.preview(spec, samples=6, epoch=2)
    data = datasets.load(spec)
    feed = by_itself(data.train, data, spec)
    order = torch.randperm(len(data.train[0]), generator=torch.Generator().manual_seed(4))
    first = int(order[:6].min())
    (x,) = (row for row, _ in [_of(feed, data, 2, first)])
    torch.testing.assert_close(shown.after[0] - torch.tensor(data.mean[0]), x * data.std[0])
    assert shown.before.min() >= 0 and shown.before.max() <= 1 and shown.before.shape == (6, 1, 8, 8)
    other = spec.replace(transforms=[("rotate", 90), ("mixup", 1)])
    monkeypatch.setattr(datasets, "DATASETS", {})
    shown.show(other)
    assert shown.targets.shape == (6, 10) and shown._repr_html_().count("<tr>") == 7
    assert "rotate 90.0, mixup 1.0" in repr(shown) or "rotate 90, mixup 1" in repr(shown)


def _of(feed, data, epoch, place):
    """What a feed gives of the sample at a place, in an epoch."""
    batches, _ = feed._fetch(iter([torch.tensor([place])]), 0, epoch)
    x, y = next(batches)
    return x[0], y


def test_a_preview_of_data_that_are_dealt_anew_shows_the_same_samples_twice():
    cuts = [(X[a:b], torch.arange(a, b) % 2) for a, b in ((0, 14), (14, 19), (19, 24))]
    shown = lab.preview(cuts, [{"split": {"by": "chance", "val": 0.2, "test": 0.2}}], samples=6)
    assert len(shown.before) == 6 and torch.equal(shown.before, shown.after)


def test_a_preview_takes_data_and_says_what_it_can_t_show():
    rows = torch.randn(30, 4) * 9 + 3
    shown = lab.preview((rows, torch.arange(30) % 3), ["standardise"], samples=4)
    assert shown.before.abs().max() > 8 and shown.after.abs().max() < 4 and "Preview of 4 samples" in repr(shown)
    for given, chosen, why in (
        ([{"x": torch.rand(3)}] * 20, [], "samples are no pairs"),
        (Spec(dataset="blobs", model="mlp"), ["flip"], "is for pictures"),
    ):
        with pytest.raises(SpecError) as refusal:
            lab.preview(given, chosen)
        assert why in str(refusal.value)
    with pytest.raises(SpecError, match="samples=0: must be a whole number from 1 to 64"):
        lab.preview(Spec(), samples=0)
