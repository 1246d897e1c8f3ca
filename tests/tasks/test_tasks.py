"""Every task of the table trains on a tiny data set of its kind: over two ranks as in one process, to a lower loss."""

import copy
import itertools
from types import SimpleNamespace

import pytest
import torch
from helpers import until
from torch import nn

import lepton_lab as lab
from lepton_lab.batches import Batch, rows
from lepton_lab.charts import cards, samples
from lepton_lab.compressors.layers import Rounded
from lepton_lab.datasets import Pad, from_user
from lepton_lab.engine.evaluation import _written
from lepton_lab.errors import SpecError
from lepton_lab.launchers import devices
from lepton_lab.metrics import METRICS
from lepton_lab.metrics.base import kind
from lepton_lab.metrics.texts import edits
from lepton_lab.models import MODELS
from lepton_lab.models.flow import LatentFlow
from lepton_lab.objectives import Criterion
from lepton_lab.strategies import STRATEGIES
from lepton_lab.tasks import TASKS, called, make
from lepton_lab.tasks.base import Task

DRAW = torch.Generator().manual_seed(0)
X = torch.randn(70, 8, generator=DRAW)
NUMBERS = X @ torch.randn(8, 3, generator=DRAW)
PICTURES = torch.randn(70, 1, 6, 6, generator=DRAW)
TAKEN = torch.stack([torch.arange(70) % 7, torch.arange(70) % 7 % 5], 1)
SPOKEN = torch.randint(1, 4, (70, 3), generator=DRAW)
SIGNALS = nn.functional.one_hot(SPOKEN.repeat_interleave(4, 1), 4) + 0.1 * torch.randn(70, 12, 4, generator=DRAW)
SOUNDS = torch.sin(torch.arange(256) * (0.1 + torch.rand(70, 1, generator=DRAW)))
TEXTS = (torch.arange(17)[None] + torch.arange(70)[:, None]) % 5
PLACES = (3 - torch.arange(70)) % 5  # of the first 3 in each text


def net(classes):
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, classes or 3))


def pixels():
    return nn.Conv2d(1, 2, 3, padding=1)


class PixelsLast(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = pixels()

    def forward(self, x):
        return self.conv(x).movedim(1, -1)


class Tokens(nn.Sequential):
    """Scores of the next token, of the one before it alone."""

    def __init__(self, vocabulary):
        super().__init__(nn.Embedding(vocabulary, 8), nn.Linear(8, vocabulary))


class Marker(nn.Sequential):
    """Scores of each token as an answer's first and last, by itself."""

    def __init__(self):
        super().__init__(nn.Embedding(5, 8), nn.Linear(8, 2))


class Named(nn.Module):
    """Called by names, it gives its own loss, as Hugging Face's models do."""

    def __init__(self):
        super().__init__()
        self.net = net(3)

    def forward(self, inputs, labels=None):
        logits = self.net(inputs)
        return {"logits": logits, "loss": nn.functional.cross_entropy(logits, labels)}


class Rows:
    """A Dataset of dicts."""

    def __len__(self):
        return len(X)

    def __getitem__(self, place):
        return {"inputs": X[place], "labels": NUMBERS[place].argmax()}


class Timed(nn.Module):
    """The noise in three numbers after a number of steps."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))

    def forward(self, x, step):
        return self.net(torch.cat([x, step[:, None] / 20], 1))


class Taste(nn.Module):
    def __init__(self):
        super().__init__()
        self.users, self.items = nn.Embedding(7, 4), nn.Embedding(5, 4)

    def forward(self, users, items):
        return (self.users(users)[:, None] * self.items(items)).sum(-1)


class Sentences:
    """Sources of unequal length; the target is the source's first token, once and twice as often as another one."""

    def __len__(self):
        return 70

    def __getitem__(self, place):
        first = 3 + place % 4
        return torch.full((2 + place % 3,), first), torch.tensor([first] * (1 + place % 4) + [2])


class Translator(nn.Module):
    """Sees a source's first token, and the target's token before."""

    def __init__(self):
        super().__init__()
        self.source, self.before, self.out = nn.Embedding(7, 8), nn.Embedding(7, 8), nn.Linear(8, 7)

    def forward(self, source, before):
        return self.out((self.source(source[:, :1]) + self.before(before)).relu())


class Both:
    """A class and a number for each sample."""

    def __len__(self):
        return 70

    def __getitem__(self, place):
        return X[place], {"side": (NUMBERS[place, 0] > 0).long(), "angle": NUMBERS[place, 1]}


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.side, self.angle = net(2), net(1)

    def forward(self, x):
        return {"side": self.side(x), "angle": self.angle(x)}


class Squares:
    """A bright square in the left half, or one in each half."""

    def __len__(self):
        return 70

    def __getitem__(self, place):
        picture, boxes = torch.zeros(1, 8, 16), []
        for half in range(1 + place % 2):
            left, top = 8 * half + place % 5, place % 4
            picture[0, top : top + 3, left : left + 3] = 1
            boxes.append([left, top, left + 3, top + 3])
        return picture, {"boxes": torch.tensor(boxes).float(), "labels": torch.ones(len(boxes)).long()}


class Detector(nn.Module):
    """Looks for one square in each half of a picture; called as torchvision's detectors are."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 5))

    def forward(self, pictures, targets=None):
        halves = torch.stack(pictures).unflatten(3, (2, 8)).transpose(1, 3).transpose(2, 3)  # (B, 2, 1, H, 8)
        found = self.net(halves.flatten(0, 1)).unflatten(0, (-1, 2))  # (B, 2, 5)
        there, boxes = found.new_zeros(found.shape[:2]), found.new_zeros(*found.shape[:2], 4)
        for i, target in enumerate(targets):
            for box in target["boxes"]:
                half = int(box[0] >= 8)
                there[i, half], boxes[i, half] = 1, box
        far = ((found[..., 1:] - boxes / 8).square().mean(-1) * there).sum(1)
        losses = {"box": far.mean(), "there": nn.functional.binary_cross_entropy_with_logits(found[..., 0], there)}
        if self.training:
            return losses
        return [{"boxes": 8 * one[:, 1:], "scores": one[:, 0], "labels": torch.ones(2)} for one in found]


class Sampling(Detector):
    """Its loss is of some of what it looked at, chosen by chance, as of torchvision's."""

    def __init__(self):
        super().__init__()
        self.net.insert(2, nn.BatchNorm1d(32))
        self.net.insert(3, nn.Dropout())

    def forward(self, pictures, targets=None):
        told = super().forward(pictures, targets)
        return {"box": told["box"] * torch.rand(()), "there": told["there"]} if self.training else told


def shaped():
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1))


def cleaner():
    return nn.Linear(256, 256)


def near():
    return MODELS["word_vectors"]((TEXTS.shape[1],), 0, int(TEXTS.max()) + 1, width=8)


class Again(nn.Module):
    """Eight numbers again, of their class and eight others that these tell with noise."""

    def __init__(self):
        super().__init__()
        self.kind, self.seen, self.out = nn.Embedding(3, 8), nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x, kind, noise):
        mean, spread = self.seen(x).chunk(2, 1)
        return self.out(torch.cat([self.kind(kind), mean + noise * (spread / 2).exp()], 1)), mean, spread


def players():
    return nn.ModuleDict({"generator": nn.Linear(4, 8), "discriminator": nn.Linear(8, 1)})


CASES = {
    "auto": (net, (X, NUMBERS.argmax(1)), {}),
    "classification": (net, (X, NUMBERS.argmax(1)), {}),
    "segmentation": (PixelsLast, (PICTURES, (PICTURES[:, 0] > 0).long()), {"class_axis": "last"}),
    "multilabel": (net, (X, (NUMBERS > 0).long()), {}),
    "regression": (net, (X, (10 * NUMBERS).long().abs()), {}),
    "language_model": (Tokens, (TEXTS[:, :-1], TEXTS[:, 1:]), {}),
    "masked_language_model": (Tokens, (TEXTS, TEXTS[:, 0]), {"chosen": 0.3}),
    "skip_gram": (near, (TEXTS, TEXTS[:, 0]), {"negatives": 3, "contexts": 2}),
    "sequence_to_sequence": (Translator, Sentences(), {}),
    "question_answering": (Marker, (TEXTS, torch.stack([PLACES, PLACES + 1], 1)), {}),
    "ctc": (lambda: nn.Linear(4, 4), (SIGNALS, SPOKEN), {}),
    "denoising": (shaped, (PICTURES, torch.zeros(70)), {}),
    "flow_matching": (lambda: LatentFlow((1, *PICTURES.shape[2:]), 3, 16), (PICTURES, torch.zeros(70)), {"latent": 3}),
    "diffusion": (Timed, (NUMBERS, torch.zeros(70)), {"timesteps": 20}),
    "enhancement": (cleaner, (SOUNDS, torch.zeros(70)), {}),
    "variational": (Again, (X, NUMBERS.argmax(1)), {}),
    "contrastive": (net, (X, torch.zeros(70)), {}),
    "recommendation": (Taste, (TAKEN, torch.ones(70)), {"negatives": 3}),
    "detection": (Detector, Squares(), {}),
    "multitask": (TwoHeads, Both(), {"weights": "side=2"}),
    "keywords": (Named, Rows(), {}),
    "adversarial": (players, (X, NUMBERS), {"noise": 4}),
}
"""Of each task: a model, data and options."""


def curves(*runs):
    """Losses of each run's epochs and evaluations, once all are done."""
    for run in runs:
        assert run.wait(90) == "done", run.failure
    return [[row["loss"] for row in run.rows("eval")] for run in runs]


def launched(name, world=1, hooks=None, **changes):
    model, data, options = CASES[name]
    fields = {"epochs": 3, "batch_size": 32, "lr": 0.03, "task": name, "options": options, "world": world}
    fields["device"] = "cpu"
    return lab.launch(lab.Spec(**{**fields, **changes}), model=model, data=(data, data, data), hooks=hooks)


# One of each kind: labels, pairs of lists, nests of lists, several parts of a model, what is drawn for each batch.
ALIKE = ("classification", "ctc", "detection", "multitask", "masked_language_model", "recommendation")


@pytest.mark.parametrize("name", [n if n in ALIKE else pytest.param(n, marks=pytest.mark.slow) for n in TASKS])
def test_a_task_trains_alike_over_two_ranks(name):
    runs = [launched(name, world) for world in (1, 2)]
    one, two = curves(*runs)
    assert two == pytest.approx(one, rel=2e-4) or not TASKS[name].exact
    validated = [row["loss"] for row in runs[0].rows("eval") if row["split"] == "val"]
    assert validated[-1] < validated[0]
    assert runs[0].facts["task"] == ("classification" if name == "auto" else name)
    told = runs[0].rows("eval")[-1]
    assert {metric: told[metric] for metric in getattr(TASKS[name], "metrics", ())} == pytest.approx(
        {metric: runs[1].rows("eval")[-1][metric] for metric in getattr(TASKS[name], "metrics", ())}, rel=1e-3
    )
    for run in runs:
        kept = samples.kept(run)
        assert [card["sample"] for card in kept.first] == list(range(10)) and all(card["seen"] for card in kept.first)
        assert "can't be drawn" not in cards.drawn(kept.first)
        if name == "detection":  # whose loss is of a whole batch
            found = [card["figure"]["map50"] for card in kept.worst]
            assert len(found) == 10 and found == sorted(found) and 0 <= found[0] <= told["map50"]
            assert kept.groups()[1][0] == "test set, the lowest mAP at 0.5" and "mAP50 0" in cards.drawn(kept.worst)


@pytest.mark.gpu
@pytest.mark.skipif(not devices.gpus(), reason="no CUDA device")
@pytest.mark.parametrize("name", TASKS)
def test_a_task_trains_on_a_gpu_as_on_the_cpu(name):
    runs = [launched(name, device=device) for device in ("cpu", "cuda")]
    cpu, gpu = curves(*runs)
    assert runs[1].facts["device_name"].startswith("cuda")
    validated = [row["loss"] for row in runs[1].rows("eval") if row["split"] == "val"]
    assert validated[-1] < validated[0]
    drawn = getattr(TASKS[name], "prepare", Task.prepare) is not Task.prepare  # on the device, whose numbers are others
    assert gpu == pytest.approx(cpu, rel=2e-3) or drawn
    assert "can't be drawn" not in cards.drawn(samples.kept(runs[1]).first)


@pytest.mark.parametrize("name", [name for name in TASKS if name != "auto"])
def test_what_a_task_says_of_itself_is_what_it_makes_of_data(name):
    """What the form goes by, without data and torch."""
    _, samples, options = CASES[name]
    data = from_user(samples, 0)
    task = make(lab.Spec(task=name, options=options), data)
    answers = kind(task.data, task.criterion())
    assert answers in ("", TASKS[name].answers)
    if TASKS[name].table_models and TASKS[name].table_data:
        assert TASKS[name].sees(*data.sample) == task.data.sample


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["zero", "fsdp"])
@pytest.mark.parametrize("name", TASKS)
def test_a_task_trains_alike_under_other_strategies(name, strategy):
    if name == "adversarial" and not STRATEGIES[strategy].own_steps:
        pytest.skip("it calls no task's own step")
    one, two = curves(launched(name), launched(name, 2, strategy=strategy))
    assert two == pytest.approx(one, rel=1e-3) or not TASKS[name].exact


def stopper(moment):
    if moment.event == "step" and moment.step == 4:
        moment.stop()


@pytest.mark.slow  # what is drawn is in the test below
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("strategy", ["single", "ddp", "zero", "fsdp"])
@pytest.mark.parametrize("name", TASKS)
def test_a_task_goes_on_bit_for_bit_after_a_stop(name, strategy):
    world = 1 if strategy == "single" else 2
    whole = launched(name, world, strategy=strategy)
    (one,) = curves(
        whole
    )  # alone, as the other is: two at a time have fewer threads, which may sum up in another order
    parted = launched(name, world, strategy=strategy, hooks=[stopper])
    assert parted.wait(90) == "stopped", parted.failure
    parted.resume()
    (two,) = curves(parted)
    assert two == one


def test_classes_may_be_scored_first_or_last():
    targets = (PICTURES[:, 0] > 0).long()
    data = from_user((PICTURES, targets), 0)
    scores = pixels()(PICTURES)
    first = make(lab.Spec(task="segmentation"), data).criterion()
    last = make(lab.Spec(task="segmentation", options={"class_axis": "last"}), data).criterion()
    assert torch.allclose(first(scores, targets), last(scores.movedim(1, -1), targets))
    assert first.hits(scores, targets) == last.hits(scores.movedim(1, -1), targets)


@pytest.mark.parametrize("axis", ["first", "last"])
def test_metrics_go_by_the_class_axis_where_any_would_suit(axis):
    targets = torch.randint(6, (4, 6, 6), generator=DRAW)
    data = from_user((PICTURES[:4], targets), 0)
    spec = lab.Spec(task="segmentation", options={"class_axis": axis})
    criterion = make(spec, data, lambda output, target: output.mean()).criterion()  # which itself tells no axis
    right = nn.functional.one_hot(targets, 6).float()  # (B, H, W, K), all of them 6
    scores = right if axis == "last" else right.movedim(-1, 1)
    assert criterion.hits(scores, targets) == criterion.answers(targets)
    f1 = METRICS["f1"].of(data, criterion)
    assert f1.finish(f1.update(scores, targets)) == 1


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ((X, NUMBERS.argmax(1)), "classification"),
        ((X, NUMBERS), "regression"),
        ((TEXTS[:, :-1], TEXTS[:, 1:]), "language_model"),
        ((TEXTS, TEXTS[:, 0] % 2), "classification"),
        (Rows(), "keywords"),
    ],
)
def test_data_tell_their_task(data, name):
    assert called(make(lab.Spec(), from_user(data, 0))) == name


@pytest.mark.parametrize(
    ("task", "data", "words"),
    [
        ("classification", (X, NUMBERS), ["whole numbers", "task='regression'"]),
        ("language_model", (X, NUMBERS.argmax(1)), ["needs tokens"]),
        ("multilabel", (X, NUMBERS.argmax(1)), ["rows of 0 and 1", "(2,)", "task='classification'"]),
        ("multilabel", (X, NUMBERS), ["rows of 0 and 1", "(2, 3)"]),
        ("multilabel", Rows(), ["must be pairs", "a dict of inputs, labels"]),
        ("regression", Rows(), ["must be pairs", "a dict of inputs, labels"]),
        ("keywords", (X, NUMBERS), ["task='keywords'", "dicts"]),
    ],
)
def test_data_that_a_task_can_make_nothing_of_are_refused(task, data, words):
    with pytest.raises(SpecError) as caught:
        lab.launch(lab.Spec(task=task), model=net, data=data)
    assert str(caught.value).startswith("task") and "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_data_set_s_name_tells_as_much():
    with pytest.raises(SpecError, match=r"task='language_model': needs tokens"):
        lab.launch(lab.Spec(dataset="digits", model="mlp", task="language_model"))


class Doubled(lab.Task):
    """The squared error of twice the output."""

    def loss(self, outputs, batch):
        return (2 * outputs - batch[1]).square().mean()


def test_a_task_of_one_s_own_is_named_and_travels():
    run = lab.launch(lab.Spec(epochs=3, lr=0.03), model=net, data=(X, NUMBERS), task=Doubled)
    assert run.wait(90) == "done", run.failure
    assert run.spec.task == "cell:Doubled" and run.facts["task"] == "Doubled"
    again = lab.repeat(run)
    assert curves(again) == curves(run)
    with pytest.raises(SpecError, match=r"task='cell:Doubled' was defined in a notebook"):
        lab.launch(run.spec, model=net, data=(X, NUMBERS))
    with pytest.raises(SpecError, match=r"task=3 is no subclass of lab\.Task"):
        lab.launch(lab.Spec(), model=net, data=(X, NUMBERS), task=3)


@pytest.mark.slow
def test_a_chain_goes_on_with_its_parent_s_task():
    parent = launched("multilabel", epochs=1)
    assert parent.wait(90) == "done", parent.failure
    child = lab.compress(parent, [("prune", 0.3)], epochs=1)
    assert child.wait(90) == "done", child.failure
    assert child.spec.task == child.facts["task"] == "multilabel"
    assert child.rows("eval")[-1]["loss"] < 2


def test_what_is_drawn_goes_on_bit_for_bit_after_a_stop():
    fields = {"epochs": 40, "eval_every": 0, "checkpoint_every": 0, "accumulate": 3}
    whole, parted = (launched("masked_language_model", 2, **fields) for _ in range(2))
    until(lambda: len(parted.rows("train")) > 10)
    parted.stop()
    assert (whole.wait(90), parted.wait(90)) == ("done", "stopped"), whole.failure
    assert 0 < parted.facts["checkpoint"] < 120
    parted.resume()
    assert parted.wait(90) == "done", parted.failure
    assert parted.rows("eval")[-1]["loss"] == whole.rows("eval")[-1]["loss"]
    mended, straight = parted.model().state_dict(), whole.model().state_dict()
    assert all(mended[name].equal(straight[name]) for name in straight)


def drawing(name, **options):
    """A task and a batch as it draws from all samples of its case."""
    _, data, usual = CASES[name]
    task = make(lab.Spec(task=name, options={**usual, **options}), from_user((data, data), 0))
    return task, task.prepare(data, torch.Generator().manual_seed(1))


def test_masks_lie_where_they_should():
    texts = torch.randint(1, 9, (500, 40), generator=DRAW)
    padded = texts.clone()
    padded[:, 30:] = -100
    data = from_user((texts, padded), 0)
    task = make(lab.Spec(task="masked_language_model"), data)
    masked, labels = task.prepare((texts, padded), torch.Generator().manual_seed(0))
    chosen = labels != -100
    assert not chosen[:, 30:].any() and labels[chosen].equal(texts[chosen])
    assert chosen[:, :30].float().mean() == pytest.approx(0.15, abs=0.01)
    assert masked[~chosen].equal(texts[~chosen])
    assert (masked[chosen] == 0).float().mean() == pytest.approx(0.8 + 0.1 / 9, abs=0.03)
    assert (masked[chosen] == texts[chosen]).float().mean() == pytest.approx(0.1 + 0.1 / 9, abs=0.03)


def test_noise_is_as_strong_as_said():
    _, (noisy, clean) = drawing("denoising", noise=2.0)
    assert clean.equal(PICTURES)
    strength = (noisy - clean).flatten(1).std(1)
    assert 0 < strength.min() < 0.6 and 1.4 < strength.max() < 2.6


def test_nt_xent_is_the_formula():
    task, (views, _) = drawing("contrastive", temperature=0.2)
    assert views.shape == (70, 2, 8) and not views[:, 0].equal(views[:, 1])
    z = nn.functional.normalize(torch.randn(6, 4, generator=DRAW), dim=1)
    total = 0.0
    for i in range(6):
        others = sum(torch.exp(z[i] @ z[k] / 0.2) for k in range(6) if k != i)
        total -= torch.log(torch.exp(z[i] @ z[i ^ 1] / 0.2) / others)
    assert task.nt_xent(3 * z, views[:3]) == pytest.approx(float(total / 6), rel=1e-5)


def test_views_of_pictures_are_shifted_and_mirrored():
    picture = torch.arange(64.0).view(1, 1, 8, 8).expand(40, 1, 8, 8)
    task = make(lab.Spec(task="contrastive", options={"noise": 0.0}), from_user((picture, torch.zeros(40)), 0))
    seen = task.view(picture, torch.Generator().manual_seed(0))
    assert seen.flatten(1).sort(1).values.equal(picture.flatten(1))
    assert len(seen.unique(dim=0)) > 8


def test_items_are_drawn_beside_the_one_that_was_taken():
    _, ((users, items), places) = drawing("recommendation")
    assert users.equal(TAKEN[:, 0]) and items[:, 0].equal(TAKEN[:, 1]) and not places.any()
    assert items.shape == (70, 4) and {*items[:, 1:].flatten().tolist()} == set(range(5))
    assert not (items[:, 1:] == items[:, :1]).any()


def test_noise_is_compared_by_errors_and_samples_that_are_made_as_sets():
    model, data, options = CASES["diffusion"]
    spec = lab.Spec(task="diffusion", options=options, metrics=["mae", "frechet_distance"], epochs=1, strategy="single")
    run = lab.launch(spec, model=model(), data=data)
    assert run.wait(60) == "done", run.failure
    assert all(row["frechet_distance"] > 0 < row["mae"] for row in run.rows("eval") if row["split"] != "train")


def best_answer(x, step, mean=1.5, deviation=0.5):
    """The best that there is to samples of a normal distribution, whose mean and deviation come out again."""
    from lepton_lab.tasks.denoising import kept

    part = kept(200)[step][:, None]
    return (1 - part).sqrt() * (x - part.sqrt() * mean) / (part * deviation**2 + 1 - part)


def test_samples_that_diffusion_makes_are_those_it_learned():
    made = TASKS["diffusion"].sample(best_answer, (4000, 1), timesteps=200)
    assert float(made.mean()) == pytest.approx(1.5, abs=0.04)
    assert float(made.std()) == pytest.approx(0.5, abs=0.04)


def test_few_steps_make_about_the_same_beside_real_samples():
    x = 1.5 + 0.5 * torch.randn(4000, 1)
    task = TASKS["diffusion"](from_user((x, torch.zeros(4000)), 0), timesteps=200)
    asked, noise = task.prepare((x, None), torch.Generator().manual_seed(0))
    made, real = task.sampled(best_answer, asked, noise)
    assert torch.allclose(real, x, atol=1e-3)
    assert float(made.mean()) == pytest.approx(1.5, abs=0.04)
    assert float(made.std()) == pytest.approx(0.5, abs=0.06)


class Memory(nn.Module):
    """Chances of the next token that depend on the two before it."""

    def __init__(self):
        super().__init__()
        self.chances = torch.randn(4, 4, 4, generator=DRAW)

    def forward(self, source, before):
        earlier = torch.cat([before[:, :1], before[:, :-1]], 1)
        return self.chances[earlier, before] + source[:, :1, None]


def test_beams_find_what_looking_at_all_targets_finds():
    model, decode = Memory(), TASKS["sequence_to_sequence"].decode
    source = torch.zeros(2, 3, dtype=torch.long)
    best, found = -torch.inf, None
    for target in itertools.product(range(4), repeat=4):
        end = target.index(2) if 2 in target else 3
        if any(token != 2 for token in target[end + 1 :]):
            continue
        chances = model(source[:1], torch.tensor([[1, *target[:-1]]])).log_softmax(-1)[0]
        chance = float(sum(chances[place, target[place]] for place in range(end + 1)))
        best, found = max((best, found or ()), (chance, target))
    wide = decode(model, source, 4, beams=64)
    assert [*wide[0].tolist(), 2, 2, 2][:4] == [*found] and wide[0].equal(wide[1])
    greedy, before = decode(model, source, 4), [1]
    for token in greedy[0].tolist():
        assert token == int(model(source[:1], torch.tensor([before]))[0, -1].argmax())
        before.append(token)


def test_a_trained_translator_writes_what_it_finds_likeliest(once):
    """Several beams find targets at least as likely as one, which takes the likeliest token each time."""
    run = once(launched, "sequence_to_sequence")
    model, decode = run.model(), TASKS["sequence_to_sequence"].decode
    source = torch.tensor([[3, 3, 0], [5, 5, 5], [4, 4, 4], [6, 6, 0]])

    def likely(targets):
        before = torch.cat([torch.ones_like(targets[:, :1]), targets[:, :-1]], 1)
        over = (before == 2).cumsum(1) > 0
        chance = model(source, before).log_softmax(-1).gather(2, targets[..., None])[..., 0]
        return chance.masked_fill(over, 0).sum(1)

    greedy, wide = (likely(decode(model, source, 6, beams=beams)) for beams in (1, 4))
    assert (wide >= greedy - 1e-6).all()


def test_an_answer_never_ends_before_it_starts():
    scores = torch.zeros(2, 4, 2)
    scores[0, 3, 0], scores[0, 1, 1], scores[0, 3, 1] = 5.0, 6.0, 4.0  # the likeliest end is before the likeliest start
    scores[1, 1, 0], scores[1, 2, 1] = 3.0, 3.0
    assert TASKS["question_answering"].span(scores).tolist() == [[3, 3], [1, 2]]


def test_answers_in_a_text_are_pairs_of_places():
    y = torch.zeros(70, dtype=torch.long)
    with pytest.raises(
        lab.SpecError, match="places .N, 2. of the answer's first and last, within it; targets are others"
    ):
        make(lab.Spec(task="question_answering"), from_user((TEXTS, y), 0))


@pytest.mark.parametrize(
    ("place", "said"),
    [([4, 3], "from place 4 to 3: give"), ([-1, 2], "the label -1"), ([0, TEXTS.shape[1]], "last, within it")],
)
def test_an_answer_that_is_no_part_of_its_text_is_refused_before_it_trains(place, said):
    y = torch.tensor([[0, 1]] * 69 + [place])
    with pytest.raises(lab.SpecError, match=said):
        lab.launch(lab.Spec(task="question_answering", model="reader"), data=(TEXTS, y))
    y[-1] = torch.tensor([1, -100])  # which does not count
    make(lab.Spec(task="question_answering"), from_user((TEXTS, y), 0))


def test_a_target_is_shown_what_stands_before_each_place():
    task = make(lab.Spec(task="sequence_to_sequence"), from_user(Sentences(), 0))
    y = torch.tensor([[5, 2, -100], [6, 6, 2]])
    (_, before), targets = task.split((y, y))
    assert before.tolist() == [[1, 5, 2], [1, 6, 6]] and targets is y


def test_what_a_model_writes_by_itself_is_compared_over_any_ranks():
    names = ["word_error_rate", "bleu", "token_accuracy"]
    runs = [launched("sequence_to_sequence", world, epochs=6, metrics=names) for world in (1, 2)]
    one, two = (next(row for row in run.rows("eval") if row["split"] == "test") for run in runs if run.wait(90))
    assert all(two[name] == pytest.approx(one[name], abs=1e-9) for name in names)
    model, sentences = runs[0].model(), Sentences()
    edited = words = 0
    for place in range(len(sentences)):
        source, target = sentences[place]
        said = TASKS["sequence_to_sequence"].decode(model, source[None], 5)[0].tolist()
        said = said[: said.index(2)] if 2 in said else said
        edited, words = edited + edits(said, target[:-1].tolist()), words + len(target) - 1
    assert one["word_error_rate"] == pytest.approx(edited / words)


class Beside(lab.Single):
    """Another rank's longest target has seven tokens."""

    def total(self, values):
        values[7] += 1
        return values


def test_all_ranks_write_as_many_tokens_as_the_longest_target_of_any():
    """Where layers are gathered to be called, as under fsdp, one that writes on alone would wait for ever."""
    strategy, lengths = Beside(lab.Spec()), []
    strategy.device = torch.device("cpu")
    task = SimpleNamespace(written=lambda model, x, length: lengths.append(length))
    _written(strategy, SimpleNamespace(task=task), None, Batch(None, torch.zeros(2, 5).long(), 1.0, 2))
    assert lengths == [7]


def test_what_is_heard_is_compared_as_texts():
    class Spoken:
        classes = ("", " ", "a", "b")

        def __len__(self):
            return 70

        def __getitem__(self, place):
            return SIGNALS[place], SPOKEN[place]

    data = from_user(Spoken(), 0)
    criterion = make(lab.Spec(task="ctc"), data).criterion()
    path = nn.functional.one_hot(torch.tensor([[2, 2, 0, 1, 3, 0], [2, 1, 1, 3, 0, 3]]), 4)
    batch = Batch(None, torch.tensor([[2, 1, 3, -100], [2, 1, 2, -100]]), 1.0, 2)
    rates = {}
    for name in ("word_error_rate", "character_error_rate"):
        one = METRICS[name].of(data, criterion)
        rates[name] = one.finish(one.add((path, torch.tensor([6, 4])), batch))
    assert rates == {"word_error_rate": 1 / 4, "character_error_rate": pytest.approx(1 / 6)}


def test_ctc_of_one_label_each_is_refused():
    data = from_user((SIGNALS, torch.arange(len(SIGNALS)) % 3), 0)
    with pytest.raises(lab.SpecError, match=r"task='ctc': needs several labels of each.*take task='classification'"):
        make(lab.Spec(task="ctc"), data)


def test_ctc_is_torch_s_loss_and_its_best_path_is_read():
    task = make(lab.Spec(task="ctc"), from_user((SIGNALS, SPOKEN), 0))
    scores, target = torch.randn(2, 12, 4, generator=DRAW), torch.tensor([[1, 2, 3], [3, -100, -100]])
    frames = torch.tensor([12, 9])
    chances = scores.log_softmax(-1).transpose(0, 1)
    reference = nn.CTCLoss()(chances, torch.tensor([1, 2, 3, 3]), frames, torch.tensor([3, 1]))
    assert task.ctc((scores, frames), target) == pytest.approx(float(reference))
    path = nn.functional.one_hot(torch.tensor([[1, 1, 0, 1, 2, 2], [0, 3, 3, 3, 0, 0]]), 4)
    assert task.decode(path) == [[1, 1, 2], [3]]


def test_each_loss_of_a_dict_has_a_curve():
    run = launched("multitask", 2)
    assert run.wait(90) == "done", run.failure
    numbers = {(row["name"], row["split"], row["step"]): row["value"] for row in run.logged("number")}
    assert {name for name, *_ in numbers} == {"loss_side", "loss_angle"}
    for row in (row for row in run.rows("eval") if row["split"] in ("val", "test")):
        side, angle = (numbers[name, row["split"], row["step"]] for name in ("loss_side", "loss_angle"))
        assert row["loss"] == pytest.approx(2 * side + angle, rel=1e-4)
    assert numbers["loss_side", "train", 1] > numbers["loss_side", "train", 9]


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda output, target: output - target, ["the loss is a tensor of shape (32, 3)", "take its mean()"]),
        (lambda output, target: {"far": output - target}, ["'far' of the loss is a tensor of", "take its mean()"]),
        (lambda output, target: None, ["the loss is a NoneType", "return what is to be minimised"]),
        (lambda output, target: output.mean().item(), ["the loss is a float", "without item()"]),
        (
            lambda output, target: (output.mean(), output),
            ["of shape () and a Tensor of shape (32, 3): return one number"],
        ),
        (lambda output, target: (output.mean(), 1, 2), ["a int and a int: return one number, or a sum and its weight"]),
    ],
)
def test_a_loss_that_is_not_one_number_is_refused_with_the_remedy(loss, words):
    with pytest.raises(SpecError) as refused:
        Criterion(loss)(torch.ones(32, 3, requires_grad=True), torch.zeros(32, 3))
    assert all(word in str(refused.value) for word in words) and "\n" not in str(refused.value)


def test_a_sum_of_one_number_keeps_its_weight_whatever_its_shape():
    output, target = torch.randn(32, 3, generator=DRAW, requires_grad=True), torch.zeros(32, 3)
    losses = []
    for loss in (lambda o, y: (o.square().sum(), 8), lambda o, y: (o.square().sum().reshape(1), torch.tensor([8.0]))):
        criterion = Criterion(loss)
        (batch,) = criterion.over([Batch(None, target, 1.0, 32)])
        losses.append(criterion(output, batch.y) * criterion.settle())
    assert losses[0] == losses[1] == output.square().sum() / 8


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ("sides=2", "did you mean 'side'"),
        ("side", "name=number"),
        ("side=much", "name=number"),
        ("side=-1", "must be 0 or more"),
    ],
)
def test_weights_that_name_nothing_are_refused(weights, words):
    with pytest.raises(SpecError, match=words):
        lab.launch(lab.Spec(task="multitask", options={"weights": weights}), model=TwoHeads, data=Both())


def test_boxes_reach_a_detector_without_their_padding():
    task = make(lab.Spec(task="detection"), from_user(Squares(), 0))
    (pictures, targets), _ = task.split(Pad()([Squares()[place] for place in range(4)]))
    assert len(pictures) == 4 and [len(target["boxes"]) for target in targets] == [1, 2, 1, 2]
    assert all(target["boxes"].equal(Squares()[place][1]["boxes"]) for place, target in enumerate(targets))
    told = [(picture, {**target, "image_id": 7}) for picture, target in (Squares()[place] for place in range(4))]
    for batch in (Pad()(told), tuple(zip(*told, strict=True))):  # as torchvision's own collate makes it
        (pictures, targets), _ = task.split(batch)
        assert isinstance(targets, list) and [int(target["image_id"]) for target in targets] == [7] * 4
        assert targets[0]["boxes"].equal(told[0][1]["boxes"])
    with pytest.raises(SpecError, match="needs a dict of losses in training"):
        task.loss([{"boxes": torch.zeros(0, 4)}], None)
    with pytest.raises(SpecError, match=r"task='detection': samples must be pairs .* pairs of tensors"):
        lab.launch(lab.Spec(task="detection"), model=Detector, data=(X, NUMBERS))


def test_an_evaluation_has_a_detector_s_losses_and_leaves_it_as_it_was():
    task = make(lab.Spec(task="detection"), from_user(Squares(), 0))
    x, _ = task.split(Pad()([Squares()[place] for place in range(4)]))
    model = Sampling().eval()
    model.net[1] = Rounded(model.net[1]).eval()  # which follows the range of its inputs while it learns
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        one = task.evaluated(model, x)
        torch.rand(3)  # as training draws between evaluations
        drawn = torch.get_rng_state()
        two = task.evaluated(model, x)
    assert {*one} == {"box", "there", "detections"} and one["box"] == two["box"] and task.scores(one)
    assert torch.get_rng_state().equal(drawn) and not any(module.training for module in model.modules())
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    own = nn.Module()
    own.forward = lambda pictures, targets: {"box": torch.ones(()), "detections": []}
    assert {*task.evaluated(own, x)} == {"box", "detections"}


class Twice(TASKS["classification"]):
    """Each sample twice."""

    def prepare(self, batch, generator):
        return tuple(part.repeat_interleave(2, 0) for part in batch)


class Once(TASKS["classification"]):
    """As it is."""


class Counting(nn.Linear):
    """Tells of how many rows it computes."""

    def forward(self, x):
        lab.log("rows", len(x), reduce="max")
        return super().forward(x)


def test_rows_that_are_drawn_of_a_sample_stay_with_it():
    data, seen = (X, TAKEN[:, 1]), []
    for task, world in ((Twice, 2), (Once, 1)):
        spec = lab.Spec(epochs=2, batch_size=16, strategy="ddp" if world > 1 else "single", world=world)
        run = lab.launch(spec, model=lambda: Counting(8, 5), data=data, task=task)
        assert run.wait(90) == "done", run.failure
        drawn = [row["value"] for row in run.logged("number") if row["name"] == "rows" and row["split"] == "train"]
        assert max(drawn) == 16  # a rank computes those of its own samples alone
        seen.append([(row["loss"], row["accuracy"]) for row in run.rows("eval") if row["split"] == "train"])
    assert seen[0] == [pytest.approx(figures, rel=1e-4) for figures in seen[1]]
    x, y, w = torch.arange(12).view(6, 2), torch.arange(3), torch.arange(4)
    assert [part.tolist() for part in rows((x, y, w), torch.tensor([2, 0]), 3)] == [
        [[8, 9], [10, 11], [0, 1], [2, 3]],
        [2, 0],
        [0, 1, 2, 3],
    ]


@pytest.mark.parametrize("whole", [True, False])
def test_a_run_ends_where_no_target_of_an_epoch_weighs_anything_and_not_for_a_step(whole):
    """Of a step alone that holds all that weighs, too."""

    def loss(output, target):
        weight = ((target[:, 0] > 1).sum() * (not whole)).double()
        return output.square().mean() * weight, weight

    targets = NUMBERS.clone()
    targets[:, 0] = 0
    targets[0, 0] = 2
    run = lab.launch(
        lab.Spec(epochs=2, batch_size=8), model=lambda: net(3), data=((X, targets), (X, targets)), loss=loss
    )
    if whole:
        assert run.wait(90) == "failed"
        assert run.failure.message.startswith("the loss of epoch 0 is NaN, since what it weighs is zero over all ranks")
    else:
        assert run.wait(90) == "done", run.failure


@pytest.mark.slow
def test_losses_of_a_dict_have_curves_while_a_student_is_taught():
    def loss(output, target):
        return {"near": (output - target).abs().mean(), "far": (output - target).square().mean()}

    parent = lab.launch(lab.Spec(epochs=1, batch_size=32), model=nn.Linear(8, 3), data=(X, NUMBERS), loss=loss)
    assert parent.wait(90) == "done", parent.failure
    run = lab.compress(parent, [("distill", {"epochs": 1, "alpha": 0.5})])
    assert run.wait(90) == "done", run.failure
    assert {row["name"] for row in run.logged("number") if row["split"] == "train"} == {"loss_near", "loss_far"}
