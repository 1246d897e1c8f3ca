"""Explanations before and after compression: the maps, how alike they are, and what can't be explained."""

import base64
import json
import sys

import pytest
import torch

import lepton_lab as lab
from lepton_lab.measures.candidates import run_data
from lepton_lab.store import trained
from lepton_lab.store.folder import RunFolder
from lepton_lab.studies.explanation import METHODS, MOST, STEPS, alike


def done(run):
    assert run.wait(120) == "done", run.failure
    return run


def taught(x, classes=3, shape=(3, 6, 6), **changes):
    """A run of a small network on data of one's own."""
    y = torch.arange(len(x)) % classes
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(x[0].numel(), classes))
    own = {"strategy": "local_sgd", "options": {"every": 2}}  # which are in nobody's way
    spec = lab.Spec(epochs=1, batch_size=16, optimizer="sgd", **own).replace(**changes)
    return done(lab.launch(spec, model=model, data=((x, y), (x[:9], y[:9]))))


def test_both_models_are_explained_on_the_same_pictures(tiny):
    parent = done(lab.launch(tiny.replace(model="cnn", lr=3e-3)))
    child = done(lab.compress(parent, [("prune", 0.5), ("quantize", "int8")], epochs=1))
    chart = lab.explain(child, samples=2)
    assert chart.heads == ("dense", "compressed") and len(chart.samples) == 2
    data = run_data(child)
    dense, _ = trained.peers(RunFolder(child.folder))
    for sample in chart.samples:
        raw, y = data.test[0][sample.number], int(data.test[1][sample.number])
        assert sample.label == data.classes[y]
        assert torch.equal(torch.from_numpy(sample.image), raw[0] / 255)
        assert -1 <= sample.alike <= 1
        for module, (said, sure), drawn in zip((dense, child.model()), sample.said, sample.maps, strict=True):
            x, black = (_scaled(data, value) for value in (raw[None], torch.zeros_like(raw[None])))
            with torch.no_grad():
                scores, base = module(x)[0], module(black)[0]
            assert said == data.classes[int(scores.argmax())] and sure == pytest.approx(float(scores.softmax(0).max()))
            k = data.classes.index(sample.said[0][0])  # what the dense model says, for both
            assert drawn.sum() == pytest.approx(float(scores[k] - base[k]), abs=0.05 * float(scores.std()) + 0.05)
    assert chart.alike == pytest.approx(sum(sample.alike for sample in chart.samples) / 2)
    assert "trained on for as long" in chart.note and "rounded for the file" in chart.note
    shown, metadata = chart._repr_mimebundle_()
    assert base64.b64decode(shown["image/png"]).startswith(b"\x89PNG")
    assert metadata["image/png"]["alt"] == shown["text/plain"] == chart.text
    assert all(f"sample {sample.number} is {sample.label}: dense says" in chart.text for sample in chart.samples)
    assert "http" not in json.dumps(shown["application/vnd.plotly.v1+json"])
    assert len(chart.figure().data) == 6  # two rows of picture, dense, compressed
    again = lab.explain(child.id, samples=2)
    assert [sample.number for sample in again.samples] == [sample.number for sample in chart.samples]
    salient = lab.explain(child, samples=2, method="saliency", seed=1)
    assert min(float(drawn.min()) for sample in salient.samples for drawn in sample.maps) >= 0
    assert salient.text.startswith("Saliency before and after") and STEPS


def _scaled(data, raw):
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (data.mean or (0.0,), data.std or (1.0,)))
    return (raw / 255 - mean) / std


def test_a_run_that_did_not_compress_is_shown_alone_in_its_colours():
    x = torch.randint(256, (48, 3, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    chart = lab.explain(taught(x), samples=1)
    (sample,) = chart.samples
    assert len(chart.heads) == 1 and sample.alike is chart.alike is None
    assert sample.image.shape == (6, 6, 3) and sample.maps[0].shape == (6, 6)
    assert "image" in [trace["type"] for trace in chart.plotly()["data"]]
    assert chart.png().startswith(b"\x89PNG")
    assert "before and after" not in chart.text


class Named:
    """Pictures by name, with a number beside each, and texts of which there is no picture."""

    def __init__(self, picture):
        self.picture = picture

    def __len__(self):
        return 20

    def __getitem__(self, place):
        draw = torch.Generator().manual_seed(place)
        shape = (3, 6, 6) if self.picture else (4,)
        return {"seen": torch.rand(shape, generator=draw), "beside": torch.tensor([place / 20.0]), "labels": place % 3}


class Both(torch.nn.Module):
    """Called by names, it looks at both, and gives its own loss."""

    def __init__(self, width):
        super().__init__()
        self.look, self.weigh = torch.nn.Linear(width, 3), torch.nn.Linear(1, 3)

    def forward(self, seen, beside, labels=None):
        logits = self.look(seen.flatten(1)) * self.weigh(beside)
        loss = None if labels is None else torch.nn.functional.cross_entropy(logits, labels)
        return {"logits": logits, "loss": loss}


def test_a_picture_among_what_a_model_is_called_with_is_explained():
    spec = lab.Spec(epochs=1, batch_size=16, optimizer="sgd")
    run = done(lab.launch(spec, model=Both(108), data=(Named(True), Named(True))))
    chart = lab.explain(run, samples=2)
    module = run.model()
    for sample in chart.samples:
        x = {
            name: torch.as_tensor(value)[None] for name, value in Named(True)[sample.number].items() if name != "labels"
        }
        with torch.no_grad():
            scores = module(**x)["logits"][0]
            gained = scores - module(torch.zeros_like(x["seen"]), x["beside"])["logits"][0]
        k = int(scores.argmax())
        assert sample.label == str(sample.number % 3) and sample.said[0][0] == str(k)
        assert sample.maps[0].sum() == pytest.approx(float(gained[k]), abs=1e-3)
    numbers = done(lab.launch(spec, model=Both(4), data=(Named(False), Named(False))))
    with pytest.raises(lab.LabError, match="is called with seen, beside: explain draws on one picture .* among these"):
        lab.explain(numbers)


def test_rank_correlation_shares_ties_and_leaves_out_what_counts_for_neither():
    a = torch.tensor([0.0, 0.0, 1.0, 2.0, 2.0, 5.0])
    assert alike(a, 3 * a) == pytest.approx(1.0) and alike(a, -a) == pytest.approx(-1.0)
    b = torch.tensor([0.0, 0.0, 4.0, 1.0, 3.0, 2.0])
    ranks = torch.tensor([[1.0, 2.5, 2.5, 4.0], [4.0, 1.0, 3.0, 2.0]])
    assert alike(a, b) == pytest.approx(float(torch.corrcoef(ranks)[0, 1]))
    assert alike(torch.zeros(4), torch.zeros(4)) is None
    assert alike(torch.ones(4), torch.arange(4.0)) is None


@pytest.mark.parametrize("samples", [0, -1, 2.5, True, "4", MOST + 1])
def test_counts_that_can_t_be_shown_are_refused(tiny, samples):
    with pytest.raises(lab.SpecError, match=f"must be a whole number from 1 to {MOST}"):
        lab.explain("any", samples=samples)


def test_what_can_t_be_explained_is_said_in_one_sentence(tiny, endless, monkeypatch):
    with pytest.raises(lab.SpecError, match="did you mean 'saliency'"):
        lab.explain("any", method="salience")
    assert set(METHODS) == {"integrated_gradients", "saliency"}
    run = lab.launch(endless)
    with pytest.raises(lab.LabError, match="has no checkpoint yet"):
        lab.explain(run)
    run.stop()
    run.wait(60)
    parent = done(lab.launch(tiny.replace(epochs=1)))
    child = lab.compress(parent, [("prune", {"ratio": 0.5, "epochs": 100_000})])
    with pytest.raises(lab.LabError, match=r"explain compares what its whole chain made; wait .* run.wait\(\) first"):
        lab.explain(child)
    child.stop()
    assert child.wait(60) == "stopped"
    with pytest.raises(lab.LabError, match="is stopped: .* resume it first"):
        lab.explain(child)
    with pytest.raises(lab.SpecError, match="has 9 test samples; take at most as many"):
        lab.explain(taught(torch.rand(48, 6, 6)), samples=10)
    flat = done(lab.launch(lab.Spec(dataset="blobs", model="mlp", epochs=1)))
    with pytest.raises(lab.LabError, match="explain draws on pictures"):
        lab.explain(flat)
    tokens = torch.arange(48 * 4).view(48, 4) % 7
    text = {"model": "gpt", "options": {"width": 8, "depth": 1}, "epochs": 1, "batch_size": 16, "optimizer": "sgd"}
    spoken = done(
        lab.launch(lab.Spec(**text), data=((tokens, tokens.roll(-1, 1)), (tokens[:9], tokens[:9].roll(-1, 1))))
    )
    with pytest.raises(lab.LabError, match="is on tokens"):
        lab.explain(spoken)
    monkeypatch.setitem(sys.modules, "captum", None)
    with pytest.raises(lab.LabError, match=r"pip install 'lepton-lab\[explain\]'"):
        lab.explain(parent)


@pytest.mark.slow
def test_captum_is_imported_by_explain_alone():
    import subprocess

    code = (
        "import sys, lepton_lab as lab; lab.explain; assert 'captum' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
