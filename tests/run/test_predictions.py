"""What a model said of each sample: kept in the end, the same for any world, as the model says it again."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import Late
from lepton_widgets.answers import html
from torch import nn

import lepton_lab as lab
from lepton_lab import charts, pictures, reports
from lepton_lab.batches import Batch
from lepton_lab.charts import cards, samples
from lepton_lab.datasets import from_user, load
from lepton_lab.engine import answers
from lepton_lab.engine.feed import by_itself
from lepton_lab.engine.gallery import Gallery, Judged, due
from lepton_lab.tasks.seeing import numbers, spelled


def trained(spec, **own):
    run = lab.launch(spec, **own)
    assert run.wait(90) == "done", run.failure
    return run


@pytest.mark.parametrize("world", [1, 2])
def test_they_are_what_the_model_says_again(world, monkeypatch):
    run = trained(lab.Spec(model="mlp", epochs=1, world=world))
    kept = run.predictions()
    data = load(run.spec)
    batches = [(batch.x, batch.y) for batch in by_itself(data.test, data, run.spec).whole()]
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    with torch.no_grad():
        scores = run.model()(x)
    assert np.allclose(kept.scores, scores.numpy(), atol=1e-4) and np.array_equal(kept.targets, y.numpy())
    assert np.array_equal(kept.samples, np.arange(len(y)))
    losses = nn.functional.cross_entropy(scores, y, reduction="none").numpy()
    assert np.allclose(kept.losses, losses, atol=1e-4)
    last = run.rows("eval")[-1]
    assert (kept.labels == kept.targets).mean() == pytest.approx(last["accuracy"])
    worst = kept.worst(3)
    assert worst["loss"].tolist() == pytest.approx(sorted(losses, reverse=True)[:3], abs=1e-4)
    assert worst["target"].tolist() == [str(y[i].item()) for i in worst["sample"]]
    shown = samples.kept(run)
    assert [card["sample"] for card in shown.first] == list(range(10))
    assert [card["loss"] for card in shown.worst] == pytest.approx(kept.worst(10)["loss"].tolist(), abs=1e-3)
    place = shown.worst[0]["sample"]
    assert shown.worst[0]["seen"][1]["pieces"][0][0] == str(y[place].item())
    page = reports.predictions([run]).html
    assert page.count("<img") == 20 and f"Sample {place}, loss" in page and "can't be drawn" not in page
    assert repr(kept) == f"<Predictions of {len(y)} samples of the test set, run {run.id}>"
    below = html(kept)
    assert f"<p>{len(y)} samples of the test set; the highest losses:</p>" in below and below.count("<img") == 5
    assert re.findall(r'<th scope="col"[^>]*>(\w+)', below) == ["sample", "loss", "given", "truth", "predicted"]
    assert f">{place}</td>" in below
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    kept._ipython_display_()
    assert shown == [{"text/html": below, "text/plain": repr(kept)}]


def test_of_numbers_they_are_the_numbers():
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    run = trained(
        lab.Spec(epochs=1, strategy="single"), model=lambda: nn.Linear(3, 1), data=((x, x.sum(1)), (x, x.sum(1)))
    )
    kept = run.predictions()
    assert kept.labels.shape == (60, 1) and np.allclose(
        kept.losses, (kept.scores[:, 0] - x.sum(1).numpy()) ** 2, atol=1e-5
    )
    with pytest.raises(lab.LabError, match="no predictions of 'val': there are those of test"):
        run.predictions("val")


def test_without_a_test_set_samples_are_those_of_the_validation_set_and_a_damaged_file_is_a_sentence():
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    run = trained(lab.Spec(epochs=1, strategy="single"), model=lambda: nn.Linear(3, 1), data=(x, x.sum(1)))
    page = reports.predictions([run]).html
    assert "validation set, the highest losses" in page and "test set" not in page and page.count("<figure") == 12
    path = run.folder / "predictions" / "val.json"
    found = json.loads(path.read_text())
    for card in found["first"][:2]:
        card["seen"] = [{"name": "given", "kind": "image", "shape": [9**9], "data": ""}]
    path.write_text(json.dumps(found))
    page = reports.predictions([run]).html
    assert page.count("<figure") == 10 and page.count("can't be drawn") == 1
    assert "2 of 6 samples can't be drawn: their file is damaged." in page
    path.write_text(json.dumps(found)[:40])
    page = reports.predictions([run]).html
    assert f"be drawn: the file {path} is damaged." in page and "<figure" not in page


def test_the_more_evaluations_there_are_the_fewer_of_them_are_shown():
    shown = [number for number in range(10_000) if due(number)]
    gaps = np.diff(shown)
    assert shown[:60] == list(range(60)) and len(shown) < 320
    assert (np.diff(gaps) >= 0).all() and gaps.max() < 10_000 / 32


def test_of_too_many_every_second_is_kept(monkeypatch):
    class One(lab.Single):
        pass

    strategy = One(lab.Spec())
    strategy.device = torch.device("cpu")
    monkeypatch.setattr(answers, "MOST", 40)
    kept = answers.Gathering(strategy, 20, answers.MOST)
    for part in torch.arange(20).split(7):
        kept.add(part, part[:, None].float().expand(-1, 3))
    assert kept.whole()[:, 0].tolist() == list(range(0, 20, 2))


def test_curves_over_thresholds_are_those_of_scikit_learn(tmp_path):
    run = trained(lab.Spec(model="mlp", epochs=1, metrics=["roc_auc"]))
    kept = run.predictions()
    chances, yes = torch.tensor(kept.scores).softmax(1).numpy(), np.eye(10)[kept.targets]
    sklearn = Late("sklearn.metrics")
    for name, figure in (("roc", sklearn.roc_auc_score), ("precision_recall", sklearn.average_precision_score)):
        chart = charts.CHARTS[name]([run])
        assert f"{figure(yes, chances, average='micro'):.4f}" in chart.text
        chart.save(tmp_path / f"{name}.png")
    x, y = charts.CHARTS["calibration"]([run]).lines[0].curve
    right, sure = Late("sklearn.calibration").calibration_curve(kept.labels == kept.targets, chances.max(1), n_bins=10)
    assert y == pytest.approx(right) and x == pytest.approx(sure)


def test_a_run_without_scores_of_classes_says_so():
    x = torch.randn(30, 3)
    run = trained(lab.Spec(epochs=1), model=lambda: nn.Linear(3, 1), data=((x, x.sum(1)), (x, x.sum(1))))
    assert "its outputs are no scores of classes" in charts.CHARTS["roc"]([run]).text


class Halves(lab.Task):
    """Two outputs for each sample."""

    def loss(self, outputs, batch):
        return (outputs.reshape(-1, 2).sum(1) - batch[1]).square().mean()

    def scores(self, outputs):
        return outputs.reshape(-1, 1)


def test_outputs_that_are_more_than_samples_are_not_kept():
    x = torch.randn(30, 3)
    data = (x, x.sum(1)), (x, x.sum(1))
    run = trained(lab.Spec(epochs=1), model=lambda: nn.Linear(3, 2), data=data, task=Halves)
    with pytest.raises(lab.LabError, match="its outputs are tensors of one shape a sample"):
        run.predictions()


class Focal(nn.CrossEntropyLoss):
    """Takes its own mean."""

    def forward(self, output, target):
        losses = nn.functional.cross_entropy(output, target, reduction="none")
        return ((1 - torch.exp(-losses)) ** 2 * losses).mean()


def test_a_loss_that_takes_its_own_mean_tells_no_sample_s():
    x = torch.randn(32, 3)
    data = ((x, torch.arange(32) % 4),) * 3
    kept = trained(lab.Spec(epochs=1), model=lambda: nn.Linear(3, 4), data=data, loss=Focal()).predictions()
    assert np.isnan(kept.losses).all()
    with pytest.raises(lab.LabError, match="the loss of each sample is not known"):
        kept.worst()


class Logged(nn.CrossEntropyLoss):
    """Waits for the other ranks, and logs each call."""

    def forward(self, output, target):
        lab.log("calls", 1.0, reduce="sum")
        torch.distributed.all_reduce(torch.ones(1))
        return super().forward(output, target)


def test_showing_samples_neither_calls_a_loss_on_one_rank_nor_counts_what_it_logs():
    x = torch.randn(32, 3)
    data = ((x, torch.arange(32) % 4),) * 3
    spec = lab.Spec(epochs=2, world=2, batch_size=16)
    run = trained(spec, model=lambda: nn.Linear(3, 4), data=data, loss=Logged())
    calls = [(row["split"], row["value"]) for row in run.logged("number") if row["name"] == "calls"]
    assert [call for call in calls if call[0] != "train"] == [("val", 2.0), ("val", 2.0), ("test", 2.0)]
    assert len(samples.kept(run).worst) == 10 and len(run.predictions().losses) == 32


def test_kept_of_samples_are_cards_and_one_that_can_t_be_seen_hides_no_other():
    class Shown(lab.Task):
        def picture(self, x, y, output):
            return {"given": pictures.words(1 // (3 - int(x)))}

    gallery = Gallery(Shown(None), first=2, worst=3)
    for places in torch.arange(8).split(4):
        gallery.add(places, places.float(), Batch(places, places, 1.0, 4), Judged((places % 5.0).tolist()))
    assert [one.place for one in gallery.first] == [0, 1] and [one.place for one in gallery.worst] == [4, 3, 2]
    assert gallery.cards(gallery.worst)[1] == {
        "sample": 2,
        "loss": 2.0,
        "seen": [{"name": "given", "kind": "text", "pieces": [["1", None]]}],
    }
    assert not any(isinstance(part, torch.Tensor) for one in [*gallery.first, *gallery.worst] for part in one)
    assert gallery.missing == "1 of 5" and "ZeroDivisionError" in gallery.trouble
    judged = Gallery(Shown(None), first=0, worst=2)
    for places in torch.tensor([5, 4, 6, 7]).split(2):
        judged.add(places, places, Batch(places, places, 1.0, 2), Judged(places.tolist(), "map50", higher=True))
    assert [card["sample"] for card in judged.cards(judged.worst)] == [4, 5]
    assert judged.worst[0].card["loss"] is None and judged.worst[0].card["figure"] == {"map50": 4.0}


def test_names_are_cut_an_empty_sound_is_drawn_and_letters_stand_together_beside_a_blank():
    long, cut = "n" * 99, "n" * 59 + "…"
    views = {
        long: pictures.Bars([(long, 0.5, True)]),
        "boxes": pictures.Image(torch.zeros(2, 2), boxes=[((0, 0, 1, 1), long)]),
        "mask": pictures.Mask(torch.zeros(2, 2).long(), [long]),
        "curves": pictures.Curves({long: torch.zeros(2)}),
        "sound": pictures.Sound(torch.zeros(0), 8000),
    }
    seen = pictures.plain(views)
    assert seen[0]["name"] == seen[0]["bars"][0][0] == seen[1]["boxes"][0][1] == seen[2]["names"]["0"] == cut
    assert list(seen[3]["lines"]) == [cut] and "nn" * 30 not in json.dumps(seen)
    assert "<audio" in cards.drawn([{"sample": 0, "loss": None, "seen": seen}])
    letters = replace(from_user((torch.zeros(9, 2), torch.arange(9) % 3), 0), classes=["", "a", "b"])
    assert (
        spelled([1, 2, 0, 1], letters) == "aba" and spelled([1, 2], replace(letters, classes=["", "an", "b"])) == "an b"
    )
    assert isinstance(numbers(torch.ones(5, 2, 2).long()), pictures.Image)
